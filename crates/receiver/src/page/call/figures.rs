//! The numbers of a record, each with the moments that made it.

use serde_json::Value as Json;

use super::{
    super::text,
    moments::{Moments, Wait},
};
use crate::side::Side;

pub(super) struct Link {
    pub(super) href: String,
    pub(super) text: String,
}

pub(super) struct Figure {
    /// Names the place of the page; the style sheet knows some of them.
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) moments: Vec<Link>,
    /// In place of moments: why there are none. Or what the number is.
    pub(super) note: String,
}

const NO_DETAILS: &str = "the record has no details";

struct Table<'a> {
    record: &'a Json,
    moments: &'a Moments,
    rows: Vec<Figure>,
}

pub(super) fn of(record: &Json, moments: &Moments) -> Vec<Figure> {
    let mut table = Table { record, moments, rows: vec![] };
    table.add_counts();
    table.add_responses();
    table.add_talk();
    table.rows
}

impl Table<'_> {
    fn count(&self, path: &str) -> Option<i64> {
        self.record.pointer(path).and_then(Json::as_f64).map(|n| {
            #[allow(clippy::cast_possible_truncation)]
            let n = n as i64;
            n
        })
    }

    fn seconds(&self, path: &str) -> Option<f64> {
        self.record.pointer(path).and_then(Json::as_f64)
    }

    /// `moments`: in their order. `differs`: said if there are not as many as the number says.
    fn add(
        &mut self,
        id: &'static str,
        name: &'static str,
        value: String,
        moments: Vec<Link>,
        note: String,
    ) {
        self.rows.push(Figure { id, name, value, moments, note });
    }

    fn add_counts(&mut self) {
        let sides = [
            (
                "m-user-utterances",
                "Caller's utterances",
                "/metrics/total_user_utterances",
                Side::User,
            ),
            (
                "m-agent-utterances",
                "Agent's utterances",
                "/metrics/total_agent_utterances",
                Side::Agent,
            ),
        ];
        for (id, name, path, side) in sides {
            let speech = self.moments.speech.iter().enumerate();
            let links: Vec<Link> = speech
                .filter(|(_, speech)| speech.by == side)
                .map(|(at, speech)| link("speech", at, text::moment(speech.from)))
                .collect();
            let count = self.count(path);
            let note = self.differs(count, links.len(), "span");
            self.add(id, name, shown(count), links, note);
        }
        let longest = [
            (
                "m-user-longest",
                "Caller's longest, words",
                "/metrics/longest_user_utterance",
                Side::User,
            ),
            (
                "m-agent-longest",
                "Agent's longest, words",
                "/metrics/longest_agent_utterance",
                Side::Agent,
            ),
        ];
        for (id, name, path, side) in longest {
            let count = self.count(path);
            let (links, note) = self.longest(count, side);
            self.add(id, name, shown(count), links, note);
        }
        let cuts = self.moments.cuts.iter().enumerate();
        let links: Vec<Link> = cuts
            .filter(|(_, cut)| cut.by != Side::Agent)
            .map(|(at, cut)| link("cut", at, text::moment(cut.at)))
            .collect();
        let count = self.count("/metrics/interruption_count");
        let note = self.differs(count, links.len(), "moment");
        self.add("m-interruptions", "Interruptions by the caller", shown(count), links, note);
        if let Some(count) = self.count("/details/interruptions/by_agent") {
            let cuts = self.moments.cuts.iter().enumerate();
            let links: Vec<Link> = cuts
                .filter(|(_, cut)| cut.by == Side::Agent)
                .map(|(at, cut)| link("cut", at, text::moment(cut.at)))
                .collect();
            let note = self.differs(Some(count), links.len(), "moment");
            self.add("m-by-agent", "Interruptions by the agent", shown(Some(count)), links, note);
        }
        if let Some(count) = self.count("/details/interruptions/false_alarms") {
            let note = "pauses of the agent for a noise or a word of assent; their moments are not recorded";
            let note = if count > 0 { note } else { "" };
            self.add("m-false-alarms", "False alarms", shown(Some(count)), vec![], note.into());
        }
        let links = spans("silence", &self.moments.silences);
        let count = self.count("/metrics/silence_count");
        let note = self.differs(count, links.len(), "moment");
        self.add("m-silences", "Silences", shown(count), links, note);
    }

    fn longest(&self, count: Option<i64>, side: Side) -> (Vec<Link>, String) {
        let Some(lines) = &self.moments.lines else {
            let no_words = "the record has no transcript";
            return (
                vec![],
                if count.unwrap_or_default() > 0 { no_words.into() } else { String::new() },
            );
        };
        let words = |text: &str| text.split_whitespace().count();
        let of_side = lines.iter().enumerate().filter(|(_, line)| line.by == side);
        let best = of_side.max_by_key(|(_, line)| words(&line.text));
        let links =
            best.and_then(|(_, line)| Some(link("speech", line.speech?, text::moment(line.from?))));
        (links.into_iter().collect(), String::new())
    }

    fn add_responses(&mut self) {
        let sides = [
            (
                "m-agent-answers",
                "Agent's answers, average s",
                "average_agent_response_time",
                "agent_response",
                Side::Agent,
            ),
            (
                "m-user-answers",
                "Caller's answers, average s",
                "average_user_response_time",
                "user_response",
                Side::User,
            ),
        ];
        for (id, name, metric, key, side) in sides {
            // A record has 0 where nobody was waited for.
            let average = self.seconds(&format!("/metrics/{metric}")).filter(|s| *s > 0.0);
            let links = self.waits(|wait| wait.by == side);
            let distribution = format!("/details/latency/{key}");
            let values = self.count(&format!("{distribution}/count"));
            let note = match values {
                Some(values) => self.differs(Some(values), links.len(), "moment"),
                None if self.moments.known => String::new(),
                None => NO_DETAILS.into(),
            };
            self.add(id, name, seconds(average), links, note);
            let percentiles: &[(&'static str, &'static str, &str)] = match side {
                Side::Agent => &[
                    ("m-agent-p50", "Agent's answers, median s", "p50"),
                    ("m-agent-p95", "Agent's answers, p95 s", "p95"),
                    ("m-agent-max", "Agent's slowest answer, s", "max"),
                ],
                _ => &[("m-user-p50", "Caller's answers, median s", "p50")],
            };
            for (id, name, part) in percentiles {
                let Some(value) = self.seconds(&format!("{distribution}/{part}")) else { continue };
                // A percentile is a measured value: this answer is it.
                let same = |wait: &Wait| wait.by == side && (wait.seconds - value).abs() < 0.000_5;
                let links = self.waits(same);
                self.add(id, name, seconds(Some(value)), links, String::new());
            }
        }
    }

    fn add_talk(&mut self) {
        for (id, name, key) in [
            ("m-user-talk", "Caller spoke, s", "user_seconds"),
            ("m-agent-talk", "Agent spoke, s", "agent_seconds"),
        ] {
            if let Some(value) = self.seconds(&format!("/details/talk/{key}")) {
                let note = "the sum of its spans of speech".into();
                self.add(id, name, seconds(Some(value)), vec![], note);
            }
        }
        if let Some(value) = self.seconds("/details/talk/overlap_seconds") {
            let links = spans("overlap", &self.moments.overlaps);
            self.add("m-overlap", "Both spoke, s", seconds(Some(value)), links, String::new());
        }
        if let Some(value) = self.seconds("/details/talk/longest_silence_seconds") {
            let all = self.moments.silences.iter().enumerate();
            let longest = all.max_by(|(_, a), (_, b)| (a.1 - a.0).total_cmp(&(b.1 - b.0)));
            let links = longest.map(|(at, (from, _))| link("silence", at, text::moment(*from)));
            let links = links.into_iter().collect();
            self.add(
                "m-longest-silence",
                "Longest silence, s",
                seconds(Some(value)),
                links,
                String::new(),
            );
        }
    }

    fn waits(&self, which: impl Fn(&Wait) -> bool) -> Vec<Link> {
        let waits = self.moments.waits.iter().enumerate().filter(|(_, wait)| which(wait));
        waits
            .map(|(at, wait)| match wait.span {
                Some((from, _)) => link(
                    "wait",
                    at,
                    format!("{} s at {}", text::seconds(wait.seconds), text::moment(from)),
                ),
                None => Link {
                    href: String::new(),
                    text: format!("{} s, as the agent measured it", text::seconds(wait.seconds)),
                },
            })
            .collect()
    }

    /// `what`: one moment, in a word that takes an s.
    fn differs(&self, count: Option<i64>, moments: usize, what: &str) -> String {
        let wanted = count.unwrap_or_default();
        if !self.moments.known {
            return if wanted == 0 { String::new() } else { NO_DETAILS.into() };
        }
        if i64::try_from(moments).is_ok_and(|moments| moments == wanted) {
            return String::new();
        }
        format!("the timeline has {}", text::counted(moments, what))
    }
}

fn shown(count: Option<i64>) -> String {
    count.map_or(text::NOTHING.into(), text::count)
}

fn seconds(value: Option<f64>) -> String {
    value.map_or(text::NOTHING.into(), text::seconds)
}

fn link(kind: &str, at: usize, text: String) -> Link {
    Link { href: format!("#{kind}-{at}"), text }
}

fn spans(kind: &str, all: &[(f64, f64)]) -> Vec<Link> {
    let one = |(at, (from, to)): (usize, &(f64, f64))| {
        link(kind, at, format!("{} s at {}", text::seconds(to - from), text::moment(*from)))
    };
    all.iter().enumerate().map(one).collect()
}
