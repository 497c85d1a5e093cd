//! What a record carries as evidence: spans and moments, as it has them.

use record::Moment;
use serde_json::{Value as Json, json};

use crate::side::Side;

/// Moments of each kind; the schema has no bound.
const MOST: usize = 10_000;

pub(super) struct Evidence<'a> {
    timeline: &'a Json,
    transcript: &'a Json,
    pub(super) has_timeline: bool,
}

/// Milliseconds since 1970.
type Span = (i64, i64);

impl<'a> Evidence<'a> {
    pub(super) fn of(record: &'a Json) -> Self {
        let details = &record["details"];
        let timeline = &details["timeline"];
        Self { timeline, transcript: &details["transcript"], has_timeline: timeline.is_object() }
    }

    fn each(&self, kind: &str) -> impl Iterator<Item = &'a Json> {
        self.timeline[kind].as_array().into_iter().flatten().take(MOST)
    }

    fn of_side(&self, kind: &str, side: Side) -> Vec<Json> {
        self.each(kind).filter(|json| Side::of(&json["by"]) == side).cloned().collect()
    }

    pub(super) fn speech(&self, side: Side) -> Vec<Json> {
        self.of_side("speech", side)
    }

    pub(super) fn responses(&self, side: Side) -> Vec<Json> {
        self.of_side("responses", side)
    }

    pub(super) fn cut_offs(&self, by: impl Fn(Side) -> bool) -> Vec<Json> {
        self.each("cut_offs").filter(|json| by(Side::of(&json["by"]))).cloned().collect()
    }

    pub(super) fn silences(&self) -> Vec<Json> {
        self.each("silences").cloned().collect()
    }

    /// The longest silence, and its seconds.
    pub(super) fn longest_silence(&self) -> Option<(Json, f64)> {
        let longest = self.each("silences").filter_map(|json| Some((json, span(json)?)));
        let (json, (from, to)) = longest.max_by_key(|(_, (from, to))| to - from)?;
        Some((json.clone(), seconds(to - from)))
    }

    /// The line of a side with the most words.
    pub(super) fn longest_line(&self, side: Side) -> Option<Json> {
        let lines = self.transcript.as_array().into_iter().flatten().take(MOST);
        let of_side = lines.filter(|line| Side::of(&line["by"]) == side);
        let words =
            |line: &&Json| line["text"].as_str().unwrap_or_default().split_whitespace().count();
        of_side.max_by_key(words).cloned()
    }

    /// The time in which a side speaks; what overlaps counts once.
    pub(super) fn spoken_seconds(&self, side: Side) -> f64 {
        seconds(self.spans(side).iter().map(|(from, to)| to - from).sum())
    }

    /// Where caller and agent spoke at the same time, and how long in all.
    pub(super) fn overlaps(&self) -> (Vec<Json>, f64) {
        let (users, agents) = (self.spans(Side::User), self.spans(Side::Agent));
        let (mut found, mut sum, mut first) = (vec![], 0, 0);
        for (from, to) in users {
            // Both are in order and without overlaps of their own.
            while agents.get(first).is_some_and(|agent| agent.1 <= from) {
                first += 1;
            }
            for agent in agents.iter().skip(first).take_while(|agent| agent.0 < to) {
                let (from, to) = (from.max(agent.0), to.min(agent.1));
                found.push(json!({
                    "from": Moment::from_millis(from).to_rfc3339(),
                    "to": Moment::from_millis(to).to_rfc3339(),
                }));
                sum += to - from;
            }
        }
        (found, seconds(sum))
    }

    /// A side's speech in order, spans that touch joined.
    fn spans(&self, side: Side) -> Vec<Span> {
        let of_side = self.each("speech").filter(|json| Side::of(&json["by"]) == side);
        let mut all: Vec<Span> = of_side.filter_map(span).collect();
        all.sort_unstable();
        let mut joined: Vec<Span> = vec![];
        for (from, to) in all {
            match joined.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => joined.push((from, to)),
            }
        }
        joined
    }
}

fn span(json: &Json) -> Option<Span> {
    let (from, to) = (instant(&json["from"])?, instant(&json["to"])?);
    (to >= from).then_some((from, to))
}

/// Milliseconds since 1970.
pub(super) fn instant(json: &Json) -> Option<i64> {
    Moment::parse_rfc3339(json.as_str()?).map(Moment::millis)
}

/// Of milliseconds.
pub(super) fn seconds(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}
