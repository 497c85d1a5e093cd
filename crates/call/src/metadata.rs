//! What metadata says: of the room, of our jobs, of the caller (docs/contract.md §6.3).
//!
//! Metadata belongs to the operator's application: other content, or text that is not JSON, is no
//! problem. JSON inside a JSON string is unpacked once. An opt-out fails closed: what can be taken for
//! one, is one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::published::{ConfigPatch, OutcomesPatch, Reader, given};

const OPT_OUT: &str = "opt_out_sensitive_data";
/// Bytes of metadata that are read. The server allows half of that, and prompts in metadata are
/// common.
const MAX_METADATA: usize = 1024 * 1024;
/// Bytes of one value that is passed on.
const MAX_PASSED: usize = 4096;

/// What metadata (of the room, of our job, of the caller) may contain for us. Metadata belongs to
/// the operator's application, so other content, or text that is not JSON, is not a problem.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FromMetadata {
    pub config: Option<ConfigPatch>,
    pub outcomes: Option<OutcomesPatch>,
    pub outbound: Option<bool>,
    pub phone_number: Option<String>,
    /// The caller does not want to be recorded: nothing is stored and nothing is posted.
    pub opt_out: bool,
}

impl FromMetadata {
    pub fn read(text: &str) -> Self {
        let mut problems = vec![];
        let mut r = Reader { problems: &mut problems };
        if text.len() > MAX_METADATA {
            // Metadata that is not read may contain an opt-out.
            return Self { opt_out: true, ..Self::default() };
        }
        let Some(o) = object(text) else {
            return Self { opt_out: unreadable_opts_out(text), ..Self::default() };
        };
        let mut config = nested(&o, "agent_config").map(|c| r.config(&c));
        let flat = r.config(&o);
        if flat != ConfigPatch::default() {
            config.get_or_insert_default().fill_from(&flat);
        }
        if let Some(b) = nested(&o, "business_config") {
            let nested = ConfigPatch {
                business_type: r.name(&b, "business_type"),
                language: r.name(&b, "language"),
                ..Default::default()
            };
            if nested != ConfigPatch::default() {
                config.get_or_insert_default().fill_from(&nested);
            }
        }
        let direction = ["direction", "call_type"].iter().find_map(|k| o.get(*k)?.as_str());
        Self {
            config,
            outcomes: nested(&o, "outcomes").map(|c| r.outcomes(&c)),
            outbound: match direction.map(str::to_lowercase).as_deref() {
                Some("outbound") => Some(true),
                Some("inbound") => Some(false),
                _ => None,
            },
            phone_number: r.name(&o, "phone_number"),
            opt_out: opts_out(&Value::Object(o)),
        }
    }

    /// Metadata with these values and nothing else, for the journal; [`FromMetadata::read`] reads
    /// the same values from it. The original may contain prompts, and anything that a caller likes.
    pub fn as_metadata(&self) -> String {
        let Self { config, outcomes, outbound, phone_number, opt_out } = self;
        if *self == Self::default() {
            return String::new();
        }
        let direction = |outbound: bool| if outbound { "outbound" } else { "inbound" };
        given([
            ("agent_config", config.as_ref().map(ConfigPatch::as_json)),
            ("outcomes", outcomes.as_ref().map(OutcomesPatch::as_json)),
            ("call_type", outbound.map(direction).map(Value::from)),
            ("phone_number", phone_number.clone().map(Value::from)),
            (OPT_OUT, opt_out.then_some(Value::Bool(true))),
        ])
        .to_string()
    }
}

/// Whose metadata opted out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptOut {
    Room,
    Job,
    Caller,
}

impl OptOut {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Room => "the room's metadata",
            Self::Job => "the metadata of the job or dispatch",
            Self::Caller => "the caller's metadata",
        }
    }
}

/// Values that the operator wants passed on, by key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Passed {
    pub room: Map<String, Value>,
    pub job: Map<String, Value>,
    /// By the identity of the participant.
    pub participants: BTreeMap<String, Map<String, Value>>,
}

impl Passed {
    pub fn is_empty(&self) -> bool {
        self.room.is_empty() && self.job.is_empty() && self.participants.is_empty()
    }

    /// All values for a call of that caller. What the room says goes before what the job says, and
    /// that before what the caller says.
    pub(crate) fn of(&self, caller: &str) -> Map<String, Value> {
        let mut all = self.participants.get(caller).cloned().unwrap_or_default();
        all.extend(self.job.clone());
        all.extend(self.room.clone());
        all
    }
}

/// The values of `keys`, as they stand in the metadata. Larger values are left out.
pub fn passed(text: &str, keys: &[String]) -> Map<String, Value> {
    if keys.is_empty() || text.len() > MAX_METADATA {
        return Map::new();
    }
    let o = object(text).unwrap_or_default();
    let small = |v: &&Value| !v.is_null() && v.to_string().len() <= MAX_PASSED;
    keys.iter().filter_map(|k| Some((k.clone(), o.get(k).filter(small)?.clone()))).collect()
}

/// `metadata` with the values of `keys` in `original` besides its own.
pub fn with_passed(metadata: String, original: &str, keys: &[String]) -> String {
    let passed = passed(original, keys);
    if passed.is_empty() {
        return metadata;
    }
    let mut all = object(&metadata).unwrap_or_default();
    for (key, value) in passed {
        all.entry(key).or_insert(value);
    }
    Value::Object(all).to_string()
}

/// The JSON object that the text is, or that a JSON string in it is.
fn object(text: &str) -> Option<Map<String, Value>> {
    match serde_json::from_str(text).ok()? {
        Value::Object(o) => Some(o),
        Value::String(inner) => match serde_json::from_str(&inner).ok()? {
            Value::Object(o) => Some(o),
            _ => None,
        },
        _ => None,
    }
}

fn nested(o: &Map<String, Value>, key: &str) -> Option<Map<String, Value>> {
    match o.get(key)? {
        Value::Object(o) => Some(o.clone()),
        Value::String(inner) => object(inner),
        _ => None,
    }
}

/// Whether the key stands anywhere with a value that is not a clear no. JSON is nested 128 deep at
/// most.
fn opts_out(value: &Value) -> bool {
    match value {
        Value::Object(o) => o
            .iter()
            .any(|(key, value)| if key == OPT_OUT { !is_no(value) } else { opts_out(value) }),
        Value::Array(all) => all.iter().any(opts_out),
        Value::String(text) if text.contains(OPT_OUT) => match object(text) {
            Some(o) => opts_out(&Value::Object(o)),
            None => unreadable_opts_out(text),
        },
        _ => false,
    }
}

fn is_no(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => is_no_word(s),
        _ => false,
    }
}

fn is_no_word(word: &str) -> bool {
    ["", "0", "false", "no", "off", "null"].iter().any(|no| word.trim().eq_ignore_ascii_case(no))
}

/// Text that is no JSON opts out if it has the key and no clear no beside it.
fn unreadable_opts_out(text: &str) -> bool {
    text.match_indices(OPT_OUT).any(|(at, _)| {
        let rest = text[at + OPT_OUT.len()..].trim_start_matches(['\\', '"', '\'', ' ', '\t']);
        let Some(value) = rest.strip_prefix([':', '=']) else { return true };
        let value = value.trim_start_matches(['\\', '"', '\'', ' ', '\t']);
        let word: String = value.chars().take_while(char::is_ascii_alphanumeric).collect();
        word.is_empty() || !is_no_word(&word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_written_for_the_journal_reads_back_to_the_same_values() {
        let all = r#"{"agent_config":{"stt_config_key":"a","llm_config_key":"b",
            "tts_config_key":"c","business_type":"d","language":"e"},"outcomes":{
            "completion_rate":0.1,"fields_collected":["f","g"],"final_stage":"h",
            "successful":false,"notes":"\u0001"},"direction":"inbound","phone_number":"+15550100",
            "opt_out_sensitive_data":true,"prompt":"long"}"#;
        for text in [
            all,
            "",
            "x",
            "[]",
            "{}",
            r#"{"agent_config":{}}"#,
            r#"{"outcomes":{}}"#,
            r#"{"outcomes":{"fields_collected":[]}}"#,
            r#"{"language":"flat","business_config":{"business_type":"b"},"call_type":"outbound"}"#,
            &"x".repeat(MAX_METADATA + 1),
        ] {
            let read = FromMetadata::read(text);
            let written = read.as_metadata();
            assert_eq!(FromMetadata::read(&written), read, "{written}");
            assert!(!written.contains("prompt"), "{written}");
        }
        assert_eq!(FromMetadata::read(r#"{"prompt":"long"}"#).as_metadata(), "");
    }

    #[test]
    fn metadata_is_read_flat_and_nested() {
        let m = FromMetadata::read(
            r#"{"agent_config":{"stt_config_key":"a"},"llm_config_key":"b",
               "business_config":{"business_type":"restaurant","language":"german"},
               "call_type":"outbound","opt_out_sensitive_data":true}"#,
        );
        let c = m.config.unwrap();
        assert_eq!((c.stt.as_deref(), c.llm.as_deref()), (Some("a"), Some("b")));
        assert_eq!(c.language.as_deref(), Some("german"));
        assert_eq!(m.outbound, Some(true));
        assert!(m.opt_out);
        assert_eq!(FromMetadata::read("hello"), FromMetadata::default());
        assert_eq!(FromMetadata::read(""), FromMetadata::default());
    }

    #[test]
    fn an_opt_out_fails_closed() {
        for (text, out) in [
            (r#"{"opt_out_sensitive_data":true}"#, true),
            (r#"{"opt_out_sensitive_data":"true"}"#, true),
            (r#"{"opt_out_sensitive_data":"yes please"}"#, true),
            (r#"{"opt_out_sensitive_data":1}"#, true),
            (r#"{"opt_out_sensitive_data":{}}"#, true),
            (r#"{"opt_out_sensitive_data":[]}"#, true),
            (r#"{"caller":{"opt_out_sensitive_data":true}}"#, true),
            (r#""{\"opt_out_sensitive_data\":true}""#, true),
            (r#"{"extra":"{\"opt_out_sensitive_data\":\"1\"}"}"#, true),
            (r#"{"extra":"opt_out_sensitive_data"}"#, true),
            ("opt_out_sensitive_data=true", true),
            ("opt_out_sensitive_data", true),
            (r#"{"opt_out_sensitive_data": tru"#, true),
            (r#"{'opt_out_sensitive_data': True}"#, true),
            (r#"[{"opt_out_sensitive_data":true}]"#, true),
            (r#"{"opt_out_sensitive_data":false}"#, false),
            (r#"{"opt_out_sensitive_data":null}"#, false),
            (r#"{"opt_out_sensitive_data":0}"#, false),
            (r#"{"opt_out_sensitive_data":""}"#, false),
            (r#"{"opt_out_sensitive_data":"False"}"#, false),
            (r#"{"opt_out_sensitive_data":"NO"}"#, false),
            (r#"{"opt_out_sensitive_data":"0"}"#, false),
            (r#"{"opt_out_sensitive_data":"off"}"#, false),
            (r#""{\"opt_out_sensitive_data\":\"off\"}""#, false),
            (r#"{'opt_out_sensitive_data': False}"#, false),
            ("opt_out_sensitive_data=0", false),
            ("opt out of sensitive data", false),
            (r#"{"opt_out":true}"#, false),
            ("", false),
        ] {
            assert_eq!(FromMetadata::read(text).opt_out, out, "{text}");
        }
    }

    #[test]
    fn json_in_a_string_is_unpacked_once() {
        let flat = FromMetadata::read(r#"{"call_type":"Outbound","phone_number":"+15550100"}"#);
        let inside = r#""{\"call_type\":\"OUTBOUND\",\"phone_number\":\"+15550100\"}""#;
        assert_eq!(FromMetadata::read(inside), flat);
        assert_eq!(flat.outbound, Some(true));
        let twice = serde_json::to_string(inside).unwrap();
        assert_eq!(FromMetadata::read(&twice), FromMetadata::default());
        let nested = FromMetadata::read(r#"{"agent_config":"{\"language\":\"german\"}"}"#);
        assert_eq!(nested.config.unwrap().language.as_deref(), Some("german"));
    }

    #[test]
    fn keys_that_are_passed_on_survive_the_journal_untouched() {
        let keys = ["customer_id".to_owned(), "campaign".to_owned(), "absent".to_owned()];
        let text = r#"{"prompt":"long","customer_id":7,"campaign":{"a":[1]},"language":"german"}"#;
        let journaled = with_passed(FromMetadata::read(text).as_metadata(), text, &keys);
        assert!(!journaled.contains("prompt"), "{journaled}");
        assert_eq!(passed(&journaled, &keys), passed(text, &keys));
        assert_eq!(passed(text, &keys).len(), 2);
        assert_eq!(FromMetadata::read(&journaled), FromMetadata::read(text));
        assert_eq!(with_passed(String::new(), text, &[]), "");
        let large = format!(r#"{{"customer_id":"{}"}}"#, "x".repeat(5_000));
        assert!(passed(&large, &keys).is_empty());
    }
}
