//! Each number of a record with the moments that made it: `GET /api/calls/{id}/explained`.
//!
//! The evidence is what the record itself carries: its timeline, stages and transcript. `call-history replay --explain`
//! knows more, from a journal, which the receiver does not have. Moments are shown as the record has them. Pure; read
//! leniently, as a record of another sender may lack any part.

mod evidence;

use serde_json::{Map, Value as Json, json};

use self::evidence::Evidence;
use crate::side::Side;

/// Seconds by which a number may differ from the sum or the mean of its moments: each is rounded to three decimals.
const ROUNDED: f64 = 0.002;
const PERCENTILES: [&str; 6] = ["min", "p50", "p90", "p95", "p99", "max"];

/// The whole answer.
pub fn of(record: &Json) -> Json {
    let evidence = Evidence::of(record);
    let mut table = Table { record, evidence: &evidence, numbers: Map::new() };
    table.add_times();
    table.add_utterances();
    table.add_responses();
    table.add_interruptions();
    table.add_silences();
    table.add_talk();
    table.add_stages();
    json!({
        "call_id": record["call_id"],
        "evidence": record["details"]["evidence"],
        "observation": record["details"]["observation"],
        "numbers": table.numbers,
    })
}

struct Table<'a> {
    record: &'a Json,
    evidence: &'a Evidence<'a>,
    numbers: Map<String, Json>,
}

/// Whether the moments make the number.
enum Agrees {
    /// There are as many as it says.
    Count,
    /// They add up to it: so many seconds.
    Seconds(f64),
    /// They do not show it by themselves.
    Unknown,
}

impl Table<'_> {
    /// `path`: of the number in the record, with dots. Numbers that the record does not have are left out.
    fn add(&mut self, path: &str, moments: Vec<Json>, agrees: &Agrees, note: Option<&str>) {
        let value = path.split('.').fold(self.record, |at, key| &at[key]);
        if value.is_null() {
            return;
        }
        let number = value.as_f64();
        let near = |seconds: f64| number.is_some_and(|n| (n - seconds).abs() <= ROUNDED);
        let agrees = match agrees {
            // Without evidence nothing is shown, and nothing contradicted.
            _ if !self.evidence.has_timeline => None,
            Agrees::Count => Some(near(moments.len() as f64)),
            Agrees::Seconds(seconds) => Some(near(*seconds)),
            Agrees::Unknown => None,
        };
        let note =
            if self.evidence.has_timeline { note } else { Some("the record has no timeline") };
        let shown = json!({"value": value, "moments": moments, "agrees": agrees, "note": note});
        self.numbers.insert(path.into(), shown);
    }

    fn add_times(&mut self) {
        let observation = &self.record["details"]["observation"];
        let moment = |key: &str| {
            let basis = &observation[format!("{key}_basis")];
            json!({"at": self.record[key], "what": key, "basis": basis})
        };
        let moments = vec![moment("start_time"), moment("end_time")];
        let between = evidence::instant(&self.record["start_time"])
            .zip(evidence::instant(&self.record["end_time"]))
            .map(|(from, to)| evidence::seconds(to.saturating_sub(from)));
        let agrees = between.map_or(Agrees::Unknown, Agrees::Seconds);
        self.add("duration_seconds", moments, &agrees, None);
    }

    fn add_utterances(&mut self) {
        for (side, total, longest) in [
            (Side::User, "metrics.total_user_utterances", "metrics.longest_user_utterance"),
            (Side::Agent, "metrics.total_agent_utterances", "metrics.longest_agent_utterance"),
        ] {
            let speech = self.evidence.speech(side);
            let note = "spans of speech; typed lines and some utterances have none";
            self.add(total, speech, &Agrees::Count, Some(note));
            let (line, note) = match self.evidence.longest_line(side) {
                Some(line) => (vec![line], "counted in words"),
                None => (vec![], "counted in words, which only a transcript shows"),
            };
            self.add(longest, line, &Agrees::Unknown, Some(note));
        }
    }

    fn add_responses(&mut self) {
        for (side, average, distribution) in [
            (Side::User, "metrics.average_user_response_time", "details.latency.user_response"),
            (Side::Agent, "metrics.average_agent_response_time", "details.latency.agent_response"),
        ] {
            let responses = self.evidence.responses(side);
            let all: Vec<f64> = responses.iter().filter_map(|r| r["seconds"].as_f64()).collect();
            let mean =
                if all.is_empty() { 0.0 } else { all.iter().sum::<f64>() / all.len() as f64 };
            self.add(average, responses.clone(), &Agrees::Seconds(mean), None);
            self.add(&format!("{distribution}.count"), responses.clone(), &Agrees::Count, None);
            for percentile in PERCENTILES {
                let path = format!("{distribution}.{percentile}");
                let value = path.split('.').fold(self.record, |at, key| &at[key]).as_f64();
                // A percentile is a value that was measured.
                let is_it = |response: &&Json| {
                    let seconds = response["seconds"].as_f64();
                    seconds.zip(value).is_some_and(|(a, b)| (a - b).abs() < ROUNDED / 2.0)
                };
                let these: Vec<Json> = responses.iter().filter(is_it).cloned().collect();
                let agrees = match these.first().and_then(|r| r["seconds"].as_f64()) {
                    Some(seconds) => Agrees::Seconds(seconds),
                    None => Agrees::Seconds(f64::NAN),
                };
                self.add(&path, these, &agrees, None);
            }
        }
    }

    fn add_interruptions(&mut self) {
        let by_caller = self.evidence.cut_offs(|side| side != Side::Agent);
        let by_agent = self.evidence.cut_offs(|side| side == Side::Agent);
        self.add("metrics.interruption_count", by_caller.clone(), &Agrees::Count, None);
        self.add("details.interruptions.by_caller", by_caller, &Agrees::Count, None);
        self.add("details.interruptions.by_agent", by_agent, &Agrees::Count, None);
        let note = "their moments are not recorded";
        self.add("details.interruptions.false_alarms", vec![], &Agrees::Unknown, Some(note));
    }

    fn add_silences(&mut self) {
        let silences = self.evidence.silences();
        let longest = self.evidence.longest_silence();
        self.add("metrics.silence_count", silences, &Agrees::Count, None);
        let seconds = longest.as_ref().map_or(f64::NAN, |(_, seconds)| *seconds);
        let moment = longest.into_iter().map(|(moment, _)| moment).collect();
        let path = "details.talk.longest_silence_seconds";
        self.add(path, moment, &Agrees::Seconds(seconds), None);
    }

    fn add_talk(&mut self) {
        for (path, side) in
            [("details.talk.user_seconds", Side::User), ("details.talk.agent_seconds", Side::Agent)]
        {
            let seconds = Agrees::Seconds(self.evidence.spoken_seconds(side));
            self.add(path, self.evidence.speech(side), &seconds, None);
        }
        let (overlaps, seconds) = self.evidence.overlaps();
        let path = "details.talk.overlap_seconds";
        self.add(path, overlaps, &Agrees::Seconds(seconds), None);
    }

    fn add_stages(&mut self) {
        let stages = self.record["stage_timeline"].as_array().cloned().unwrap_or_default();
        let note =
            "what the agent published, or what follows from its profile, its stages and its fields";
        self.add("outcomes.completion_rate", stages, &Agrees::Unknown, Some(note));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: &str) -> String {
        format!("2026-11-24T06:00:{seconds}Z")
    }

    fn call() -> Json {
        let span = |by: &str, from: &str, to: &str| json!({"by": by, "identity": null, "from": at(from), "to": at(to), "basis": "feed"});
        let response = |by: &str, from: &str, to: &str, seconds: f64| json!({"by": by, "from": at(from), "to": at(to), "seconds": seconds, "reported": false, "turn": 0});
        json!({
            "call_id": "one", "start_time": at("00.000"), "end_time": at("30.000"), "duration_seconds": 30.0,
            "metrics": {
                "total_user_utterances": 2, "total_agent_utterances": 2,
                "longest_user_utterance": 3, "longest_agent_utterance": 4,
                "average_user_response_time": 0.5, "average_agent_response_time": 1.5,
                "silence_count": 1, "interruption_count": 1,
            },
            "details": {
                "interruptions": {"by_caller": 1, "by_agent": 0, "false_alarms": 2},
                "talk": {"user_seconds": 4.0, "agent_seconds": 7.0, "overlap_seconds": 0.5, "longest_silence_seconds": 6.0},
                "latency": {
                    "agent_response": {"count": 2, "min": 1.0, "p50": 1.0, "p95": 2.0, "max": 2.0, "values": [1.0, 2.0]},
                    "user_response": null, "components": null,
                },
                "observation": {"start_time_basis": "observed", "end_time_basis": "observed", "gaps": []},
                "timeline": {
                    "speech": [
                        span("agent", "01.000", "05.000"), span("user", "04.500", "06.000"),
                        span("agent", "07.000", "10.000"), span("user", "10.500", "13.000"),
                    ],
                    "responses": [
                        response("agent", "06.000", "07.000", 1.0), response("user", "10.000", "10.500", 0.5),
                        response("agent", "13.000", "15.000", 2.0),
                    ],
                    "cut_offs": [{"at": at("04.500"), "by": "user"}],
                    "silences": [{"from": at("15.000"), "to": at("21.000")}],
                    "keyed": [], "unheard": [], "gaps": [],
                },
                "transcript": [
                    {"by": "user", "text": "no thank you", "from": at("04.500")},
                    {"by": "user", "text": "yes", "from": null},
                ],
            },
        })
    }

    #[test]
    fn moments_make_their_numbers() {
        let shown = of(&call());
        for (path, moments, agrees) in [
            ("duration_seconds", 2, json!(true)),
            ("metrics.total_user_utterances", 2, json!(true)),
            ("metrics.longest_user_utterance", 1, json!(null)),
            ("metrics.longest_agent_utterance", 0, json!(null)),
            ("metrics.average_agent_response_time", 2, json!(true)),
            ("metrics.average_user_response_time", 1, json!(true)),
            ("details.latency.agent_response.count", 2, json!(true)),
            ("details.latency.agent_response.p95", 1, json!(true)),
            ("metrics.interruption_count", 1, json!(true)),
            ("details.interruptions.by_agent", 0, json!(true)),
            ("details.interruptions.false_alarms", 0, json!(null)),
            ("metrics.silence_count", 1, json!(true)),
            ("details.talk.longest_silence_seconds", 1, json!(true)),
            ("details.talk.user_seconds", 2, json!(true)),
            ("details.talk.overlap_seconds", 1, json!(true)),
        ] {
            let number = &shown["numbers"][path];
            assert_eq!(
                number["moments"].as_array().map(Vec::len),
                Some(moments),
                "{path}: {number}"
            );
            assert_eq!(number["agrees"], agrees, "{path}: {number}");
        }
        let numbers = &shown["numbers"];
        assert_eq!(numbers["metrics.silence_count"]["moments"][0]["from"], at("15.000"));
        assert_eq!(
            numbers["details.talk.overlap_seconds"]["moments"][0],
            json!({"from": at("04.500"), "to": at("05.000")})
        );
        assert_eq!(numbers["metrics.longest_user_utterance"]["moments"][0]["text"], "no thank you");
        assert!(numbers.get("details.latency.user_response.count").is_none());
    }

    /// Calls with turns of a session feed and with levels.
    #[test]
    fn the_moments_of_recorded_calls_make_their_numbers() {
        for text in [
            include_str!("../../../tests/journals/hand-off-within-a-session.expected.json"),
            include_str!(
                "../../../tests/journals/recorded-speech-to-speech-web-call.expected.json"
            ),
        ] {
            let shown = of(&serde_json::from_str(text).unwrap());
            let numbers = shown["numbers"].as_object().unwrap();
            let wrong: Vec<_> = numbers.iter().filter(|(_, n)| n["agrees"] == false).collect();
            assert!(wrong.is_empty(), "{wrong:#?}");
            assert!(numbers.values().filter(|n| n["agrees"] == true).count() > 8, "{numbers:#?}");
        }
    }

    #[test]
    fn a_number_that_its_moments_do_not_make_says_so() {
        let mut record = call();
        record["metrics"]["silence_count"] = 3.into();
        record["metrics"]["average_agent_response_time"] = 1.6.into();
        record["details"]["latency"]["agent_response"]["p95"] = 3.0.into();
        let shown = of(&record);
        for path in [
            "metrics.silence_count",
            "metrics.average_agent_response_time",
            "details.latency.agent_response.p95",
        ] {
            assert_eq!(shown["numbers"][path]["agrees"], false, "{path}");
        }
    }

    #[test]
    fn a_record_without_details_has_numbers_without_moments() {
        let text = include_str!("../../../docs/schema/example.json");
        let shown = of(&serde_json::from_str(text).unwrap());
        let silences = &shown["numbers"]["metrics.silence_count"];
        assert_eq!(
            silences,
            &json!({"value": 3, "moments": [], "agrees": null, "note": "the record has no timeline"})
        );
        assert_eq!(
            of(&json!({})),
            json!({"call_id": null, "evidence": null, "observation": null, "numbers": {}})
        );
    }
}
