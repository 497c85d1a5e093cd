//! What a voice agent publishes for the record (docs/contract.md §6): messages on `call-history`
//! and `call.*` attributes. [`super::metadata`] reads metadata. This module only reads them; [`super::outcome`] and
//! [`super::stages`] decide what they mean for the record.
//!
//! All of it is untrusted JSON. A value that does not fit is left out and counted as a [`Problem`];
//! it never affects more than the message that it came in.

use record::{Moment, Status};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub const ATTRIBUTE_STAGE: &str = "call.stage";
pub const ATTRIBUTE_CONFIG: &str = "call.agent_config";
pub const ATTRIBUTE_OUTCOMES: &str = "call.outcomes";
pub const ATTRIBUTE_REASON: &str = "call.termination_reason";

/// Bytes of a stage's name, a field's name, a configuration key, a reason.
const MAX_NAME: usize = 128;
/// Bytes of `notes`.
const MAX_NOTES: usize = 4096;
const MAX_FIELDS: usize = 64;
/// Bytes of one message or attribute value that are read at all.
pub(super) const MAX_MESSAGE: usize = 64 * 1024;

#[derive(Clone, Debug, PartialEq)]
pub enum Published {
    Stage { stage: String, at: Option<Moment> },
    Config(ConfigPatch),
    Outcomes(OutcomesPatch),
    End { status: Option<Status>, reason: Option<String> },
}

/// Parts of `agent_config`; later messages overwrite key by key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigPatch {
    pub stt: Option<String>,
    pub llm: Option<String>,
    pub tts: Option<String>,
    pub business_type: Option<String>,
    pub language: Option<String>,
}

/// Parts of `outcomes`; later messages overwrite key by key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OutcomesPatch {
    pub completion_rate: Option<f64>,
    pub fields_collected: Option<Vec<String>>,
    pub final_stage: Option<String>,
    pub successful: Option<bool>,
    pub notes: Option<String>,
}

/// Why something published was refused or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    TooLarge,
    NotJson,
    NotAnObject,
    UnknownType,
    /// A key has a value of the wrong type or range.
    WrongValue,
    /// A text or list was longer than allowed, and cut.
    Truncated,
    /// A session-feed message that could not be decoded.
    Undecodable,
    /// The sender is not of kind agent.
    NotAnAgent,
    /// A packet without a sender, or a message whose sender did not join in time.
    UnknownSender,
    TooMany,
}

impl Problem {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too large",
            Self::NotJson => "not JSON",
            Self::NotAnObject => "not a JSON object",
            Self::UnknownType => "unknown or missing \"type\"",
            Self::WrongValue => "a value of the wrong type or range",
            Self::Truncated => "longer than allowed, cut",
            Self::Undecodable => "not a message of the session feed",
            Self::NotAnAgent => "the sender is not an agent",
            Self::UnknownSender => "the sender is unknown",
            Self::TooMany => "too many",
        }
    }
}

/// Reads values out of JSON and collects the problems.
pub struct Reader<'a> {
    pub problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn object(&mut self, text: &str) -> Option<Map<String, Value>> {
        if text.len() > MAX_MESSAGE {
            self.problems.push(Problem::TooLarge);
            return None;
        }
        match serde_json::from_str(text) {
            Ok(Value::Object(o)) => Some(o),
            Ok(_) => {
                self.problems.push(Problem::NotAnObject);
                None
            }
            Err(_) => {
                self.problems.push(Problem::NotJson);
                None
            }
        }
    }

    /// One message on the topic `call-history`.
    pub fn message(&mut self, text: &str) -> Option<Published> {
        let o = self.object(text)?;
        match o.get("type").and_then(Value::as_str) {
            Some("stage") => {
                let Some(stage) = self.name(&o, "stage") else {
                    self.problems.push(Problem::WrongValue);
                    return None;
                };
                let at = match o.get("timestamp") {
                    None | Some(Value::Null) => None,
                    Some(t) => {
                        let at = t.as_str().and_then(Moment::parse_rfc3339);
                        if at.is_none() {
                            self.problems.push(Problem::WrongValue);
                        }
                        at
                    }
                };
                Some(Published::Stage { stage, at })
            }
            Some("agent_config") => Some(self.published_config(&o)),
            Some("outcomes") => Some(self.published_outcomes(&o)),
            Some("end") => {
                let nested = self.nested(&o, "end").map(|n| self.end(n)).unwrap_or_default();
                let flat = self.end(&o);
                Some(Published::End { status: nested.0.or(flat.0), reason: nested.1.or(flat.1) })
            }
            _ => {
                self.problems.push(Problem::UnknownType);
                None
            }
        }
    }

    /// One attribute of the voice agent; `None` also for attributes that are not ours.
    pub fn attribute(&mut self, key: &str, value: &str) -> Option<Published> {
        match key {
            ATTRIBUTE_STAGE => {
                let stage = self.cut(value, MAX_NAME);
                (!stage.is_empty()).then_some(Published::Stage { stage, at: None })
            }
            ATTRIBUTE_CONFIG => {
                let o = self.object(value)?;
                Some(self.published_config(&o))
            }
            ATTRIBUTE_OUTCOMES => {
                let o = self.object(value)?;
                Some(self.published_outcomes(&o))
            }
            ATTRIBUTE_REASON => {
                let reason = self.cut(value, MAX_NAME);
                (!reason.is_empty())
                    .then_some(Published::End { status: None, reason: Some(reason) })
            }
            _ => None,
        }
    }

    /// The object under `key`, a key with the name of the payload's field. The values in the object
    /// take precedence over those beside it, as in metadata.
    fn nested<'o>(
        &mut self,
        o: &'o Map<String, Value>,
        key: &str,
    ) -> Option<&'o Map<String, Value>> {
        match o.get(key) {
            None | Some(Value::Null) => None,
            Some(Value::Object(nested)) => Some(nested),
            Some(_) => {
                self.problems.push(Problem::WrongValue);
                None
            }
        }
    }

    fn published_config(&mut self, o: &Map<String, Value>) -> Published {
        let nested = self.nested(o, "agent_config").map(|n| self.config(n));
        let mut config = nested.unwrap_or_default();
        config.fill_from(&self.config(o));
        Published::Config(config)
    }

    fn published_outcomes(&mut self, o: &Map<String, Value>) -> Published {
        let nested = self.nested(o, "outcomes").map(|n| self.outcomes(n));
        let mut outcomes = nested.unwrap_or_default();
        outcomes.fill_from(&self.outcomes(o));
        Published::Outcomes(outcomes)
    }

    fn end(&mut self, o: &Map<String, Value>) -> (Option<Status>, Option<String>) {
        let status = match o.get("status") {
            None | Some(Value::Null) => None,
            Some(s) => {
                let status = s.as_str().and_then(Status::parse);
                if status.is_none() {
                    self.problems.push(Problem::WrongValue);
                }
                status
            }
        };
        (status, self.name(o, "termination_reason"))
    }

    pub fn config(&mut self, o: &Map<String, Value>) -> ConfigPatch {
        ConfigPatch {
            stt: self.name(o, "stt_config_key"),
            llm: self.name(o, "llm_config_key"),
            tts: self.name(o, "tts_config_key"),
            business_type: self.name(o, "business_type"),
            language: self.name(o, "language"),
        }
    }

    pub fn outcomes(&mut self, o: &Map<String, Value>) -> OutcomesPatch {
        let completion_rate = match o.get("completion_rate") {
            None | Some(Value::Null) => None,
            Some(v) => match v.as_f64() {
                Some(rate) if (0.0..=1.0).contains(&rate) => Some(rate),
                _ => {
                    self.problems.push(Problem::WrongValue);
                    None
                }
            },
        };
        let successful = match o.get("successful") {
            None | Some(Value::Null) => None,
            Some(Value::Bool(b)) => Some(*b),
            Some(_) => {
                self.problems.push(Problem::WrongValue);
                None
            }
        };
        OutcomesPatch {
            completion_rate,
            fields_collected: o.get("fields_collected").and_then(|v| self.fields(v)),
            final_stage: self.name(o, "final_stage"),
            successful,
            notes: self.text(o, "notes", MAX_NOTES),
        }
    }

    fn fields(&mut self, v: &Value) -> Option<Vec<String>> {
        let Value::Array(list) = v else {
            if !v.is_null() {
                self.problems.push(Problem::WrongValue);
            }
            return None;
        };
        let mut fields: Vec<String> = vec![];
        for f in list {
            let Some(f) = f.as_str() else {
                self.problems.push(Problem::WrongValue);
                continue;
            };
            if fields.len() >= MAX_FIELDS {
                self.problems.push(Problem::Truncated);
                break;
            }
            let f = self.cut(f, MAX_NAME);
            if !f.is_empty() && !fields.contains(&f) {
                fields.push(f);
            }
        }
        Some(fields)
    }

    pub(super) fn name(&mut self, o: &Map<String, Value>, key: &str) -> Option<String> {
        self.text(o, key, MAX_NAME)
    }

    fn text(&mut self, o: &Map<String, Value>, key: &str, max: usize) -> Option<String> {
        match o.get(key) {
            None | Some(Value::Null) => None,
            Some(Value::String(s)) if s.is_empty() => None,
            Some(Value::String(s)) => Some(self.cut(s, max)),
            Some(_) => {
                self.problems.push(Problem::WrongValue);
                None
            }
        }
    }

    fn cut(&mut self, s: &str, max: usize) -> String {
        if s.len() <= max {
            return s.to_owned();
        }
        self.problems.push(Problem::Truncated);
        let mut end = max;
        while !s.is_char_boundary(end) {
            end -= 1;
        }
        s[..end].to_owned()
    }
}

impl ConfigPatch {
    /// Takes from `other` the values that are missing here.
    pub fn fill_from(&mut self, other: &Self) {
        fill(&mut self.stt, &other.stt);
        fill(&mut self.llm, &other.llm);
        fill(&mut self.tts, &other.tts);
        fill(&mut self.business_type, &other.business_type);
        fill(&mut self.language, &other.language);
    }

    /// With the payload's keys.
    pub(super) fn as_json(&self) -> Value {
        let Self { stt, llm, tts, business_type, language } = self;
        given([
            ("stt_config_key", stt.clone().map(Value::from)),
            ("llm_config_key", llm.clone().map(Value::from)),
            ("tts_config_key", tts.clone().map(Value::from)),
            ("business_type", business_type.clone().map(Value::from)),
            ("language", language.clone().map(Value::from)),
        ])
    }
}

impl OutcomesPatch {
    /// Takes from `other` the values that are missing here.
    pub fn fill_from(&mut self, other: &Self) {
        fill(&mut self.completion_rate, &other.completion_rate);
        fill(&mut self.fields_collected, &other.fields_collected);
        fill(&mut self.final_stage, &other.final_stage);
        fill(&mut self.successful, &other.successful);
        fill(&mut self.notes, &other.notes);
    }

    /// With the payload's keys.
    pub(super) fn as_json(&self) -> Value {
        let Self { completion_rate, fields_collected, final_stage, successful, notes } = self;
        given([
            ("completion_rate", completion_rate.map(Value::from)),
            ("fields_collected", fields_collected.clone().map(Value::from)),
            ("final_stage", final_stage.clone().map(Value::from)),
            ("successful", successful.map(Value::from)),
            ("notes", notes.clone().map(Value::from)),
        ])
    }
}

pub(super) fn given<const N: usize>(pairs: [(&str, Option<Value>); N]) -> Value {
    let given = pairs.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(given.collect())
}

fn fill<T: Clone>(to: &mut Option<T>, from: &Option<T>) {
    if to.is_none() {
        to.clone_from(from);
    }
}

#[cfg(test)]
mod tests;
