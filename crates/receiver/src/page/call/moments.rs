//! A record as moments and spans in seconds from its start.
//!
//! Read leniently: a record of another sender, or of another version, may lack any part.

use record::Moment;
use serde_json::Value as Json;

use crate::side::Side;

/// Of each kind; more cannot be read on a page.
const MOST: usize = 2_000;

pub(super) struct Speech {
    pub(super) by: Side,
    pub(super) from: f64,
    pub(super) to: f64,
}

pub(super) struct Wait {
    pub(super) by: Side,
    /// Where it is; only the delay may be known.
    pub(super) span: Option<(f64, f64)>,
    pub(super) seconds: f64,
    pub(super) reported: bool,
}

pub(super) struct Cut {
    pub(super) at: f64,
    /// Who began to speak.
    pub(super) by: Side,
}

pub(super) struct Keyed {
    pub(super) at: f64,
    /// `typed`, `dialled`
    pub(super) kind: String,
}

pub(super) struct Stage {
    pub(super) at: f64,
    pub(super) name: String,
}

pub(super) struct Line {
    pub(super) by: Side,
    pub(super) kind: String,
    pub(super) from: Option<f64>,
    pub(super) to: Option<f64>,
    pub(super) text: String,
    pub(super) interrupted: bool,
    /// The span of speech in which it was said.
    pub(super) speech: Option<usize>,
}

/// A call in time.
#[derive(Default)]
pub(super) struct Moments {
    /// Seconds.
    pub(super) length: f64,
    /// The record has a timeline, be it an empty one.
    pub(super) known: bool,
    pub(super) speech: Vec<Speech>,
    pub(super) waits: Vec<Wait>,
    pub(super) cuts: Vec<Cut>,
    pub(super) silences: Vec<(f64, f64)>,
    pub(super) keyed: Vec<Keyed>,
    pub(super) unheard: Vec<(f64, f64)>,
    pub(super) gaps: Vec<(f64, f64)>,
    pub(super) overlaps: Vec<(f64, f64)>,
    pub(super) stages: Vec<Stage>,
    /// `None`: the record has no transcript.
    pub(super) lines: Option<Vec<Line>>,
}

impl Moments {
    pub(super) fn of(record: &Json) -> Self {
        let start = instant(&record["start_time"]).unwrap_or_default();
        let length = record["duration_seconds"].as_f64().unwrap_or_default().max(0.0);
        let at = |json: &Json| {
            let since = instant(json)?.saturating_sub(start) as f64 / 1_000.0;
            Some(since.clamp(0.0, length))
        };
        let span = |json: &Json| {
            let (from, to) = (at(&json["from"])?, at(&json["to"])?);
            (to >= from).then_some((from, to))
        };
        let timeline = &record["details"]["timeline"];
        let spans = |json: &Json| each(json).filter_map(span).collect::<Vec<_>>();
        let mut all = Self {
            length,
            known: timeline.is_object(),
            silences: spans(&timeline["silences"]),
            unheard: spans(&timeline["unheard"]),
            gaps: spans(&timeline["gaps"]),
            ..Self::default()
        };
        if all.gaps.is_empty() {
            all.gaps = spans(&record["details"]["observation"]["gaps"]);
        }
        for json in each(&timeline["speech"]) {
            if let Some((from, to)) = span(json) {
                all.speech.push(Speech { by: Side::of(&json["by"]), from, to });
            }
        }
        all.speech.sort_by(|a, b| a.from.total_cmp(&b.from));
        for json in each(&timeline["responses"]) {
            all.waits.push(Wait {
                by: Side::of(&json["by"]),
                span: span(json),
                seconds: json["seconds"].as_f64().unwrap_or_default(),
                reported: json["reported"].as_bool().unwrap_or_default(),
            });
        }
        let cut = |json: &Json| Some(Cut { at: at(&json["at"])?, by: Side::of(&json["by"]) });
        all.cuts = each(&timeline["cut_offs"]).filter_map(cut).collect();
        let keyed = |json: &Json| {
            let kind = json["kind"].as_str().unwrap_or("typed").into();
            Some(Keyed { at: at(&json["at"])?, kind })
        };
        all.keyed = each(&timeline["keyed"]).filter_map(keyed).collect();
        let stage = |json: &Json| {
            let name = json["stage"].as_str()?.into();
            Some(Stage { at: at(&json["timestamp"])?, name })
        };
        all.stages = each(&record["stage_timeline"]).filter_map(stage).collect();
        all.overlaps = overlaps(&all.speech);
        let lines = &record["details"]["transcript"];
        all.lines = lines.is_array().then(|| {
            let line = |json: &Json| {
                let mut line = Line {
                    by: Side::of(&json["by"]),
                    kind: json["kind"].as_str().unwrap_or("spoken").into(),
                    from: at(&json["from"]),
                    to: at(&json["to"]),
                    text: json["text"].as_str().unwrap_or_default().into(),
                    interrupted: json["interrupted"].as_bool().unwrap_or_default(),
                    speech: None,
                };
                line.speech = said_in(&all.speech, &line);
                line
            };
            each(lines).map(line).collect()
        });
        all
    }

    /// The line of a span of speech.
    pub(super) fn line_of(&self, speech: usize) -> Option<usize> {
        self.lines.as_ref()?.iter().position(|line| line.speech == Some(speech))
    }
}

fn each(json: &Json) -> impl Iterator<Item = &Json> {
    json.as_array().into_iter().flatten().take(MOST)
}

/// Milliseconds since 1970.
pub(super) fn instant(json: &Json) -> Option<i64> {
    Moment::parse_rfc3339(json.as_str()?).map(Moment::millis)
}

/// Where caller and agent spoke at the same time. `speech` is in the order of its beginning.
fn overlaps(speech: &[Speech]) -> Vec<(f64, f64)> {
    let of = |side| speech.iter().filter(move |s| s.by == side);
    let mut found: Vec<(f64, f64)> = vec![];
    for user in of(Side::User) {
        for agent in of(Side::Agent).take_while(|agent| agent.from < user.to) {
            let (from, to) = (user.from.max(agent.from), user.to.min(agent.to));
            if to > from && found.len() < MOST {
                found.push((from, to));
            }
        }
    }
    found
}

/// The span of its side that a line shares most time with.
fn said_in(speech: &[Speech], line: &Line) -> Option<usize> {
    let from = line.from?;
    let to = line.to.unwrap_or(from).max(from + 0.001);
    let shared = |(n, span): (usize, &Speech)| {
        let shared = span.to.min(to) - span.from.max(from);
        (span.by == line.by && shared > 0.0).then_some((n, shared))
    };
    let best = speech.iter().enumerate().filter_map(shared).max_by(|a, b| a.1.total_cmp(&b.1));
    best.map(|(n, _)| n)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_without_details_has_stages_and_no_timeline() {
        let text = include_str!("../../../../../docs/schema/example.json");
        let moments = Moments::of(&serde_json::from_str(text).unwrap());
        assert!(!moments.known && moments.lines.is_none() && moments.speech.is_empty());
        assert_eq!(moments.stages[0].at, 10.0);
    }

    #[test]
    fn overlap_is_where_both_speak() {
        let at = |s: &str| format!("2026-11-24T06:00:{s}Z");
        let span = |by: &str, from: &str, to: &str| json!({"by": by, "from": at(from), "to": at(to), "basis": "feed"});
        let record = json!({
            "start_time": at("00.000"), "duration_seconds": 20.0,
            "details": {
                "timeline": {"speech": [span("agent", "01.000", "05.000"), span("user", "04.500", "06.000"), span("agent", "05.500", "09.000")]},
                "transcript": [{"by": "user", "kind": "spoken", "from": at("04.500"), "to": at("06.000"), "text": "no", "interrupted": false}],
            },
        });
        let moments = Moments::of(&record);
        assert_eq!(moments.overlaps, [(4.5, 5.0), (5.5, 6.0)]);
        assert_eq!(moments.lines.as_ref().unwrap()[0].speech, Some(1));
        assert_eq!(moments.line_of(1), Some(0));
    }
}
