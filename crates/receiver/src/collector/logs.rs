//! From a log record to its facts: the report of a session, its conversation and its evaluations are log records.

use record::Moment;
use serde_json::{Map, Value as Json};

use super::{
    facts::{Evaluation, Facts, Item, Line, Outcome, Report, Tag},
    spans::cut,
};

/// Scopes with the words of a call, or words about it.
const CHAT: &str = "chat_history";
const EVALUATIONS: &str = "evaluations";
/// From here on a log record is a warning.
const WARNING: i64 = 13;
const ERROR: i64 = 17;
/// Values of a list that are read.
const MOST: usize = 1_000;

/// A log record, whichever way it came.
pub(super) struct Record {
    pub(super) scope: String,
    pub(super) at: i64,
    pub(super) severity: i64,
    pub(super) body: String,
    pub(super) attributes: Map<String, Json>,
}

/// Whether a scope holds words of the call.
pub(super) fn has_words(scope: &str) -> bool {
    matches!(scope, CHAT | EVALUATIONS)
}

pub(super) fn add(to: &mut Facts, record: &Record) {
    let value = |key: &str| record.attributes.get(key).unwrap_or(&Json::Null);
    match (record.scope.as_str(), record.body.as_str()) {
        (CHAT, "session report") => {
            let report = report_of(value);
            match &mut to.report {
                None => to.report = Some(report),
                Some(_) => to.add(Facts { report: Some(report), ..Facts::default() }),
            }
        }
        (CHAT, "chat item") => {
            let item = value("chat.item").as_object().and_then(|all| all.iter().next());
            if let Some((kind, item)) = item {
                to.items.push(item_of(kind, item, record.at));
            }
        }
        (EVALUATIONS, "evaluation") => {
            let evaluation = value("evaluation");
            to.evaluations.push(Evaluation {
                name: string(&evaluation["name"]).unwrap_or_default(),
                verdict: string(&evaluation["verdict"]).unwrap_or_default(),
                reasoning: string(&evaluation["reasoning"]),
            });
        }
        (EVALUATIONS, "tag") => to.tags.push(Tag {
            name: string(&value("tag")["name"]).unwrap_or_default(),
            metadata: value("tag")["metadata"].clone(),
        }),
        (EVALUATIONS, "outcome") => {
            let outcome = value("outcome");
            to.outcome = Some(Outcome {
                outcome: string(&outcome["outcome"]),
                reason: string(&outcome["reason"]),
            });
        }
        (scope, body) if record.severity >= WARNING => to.lines.push(Line {
            at: record.at,
            level: if record.severity >= ERROR { "error" } else { "warning" }.into(),
            logger: cut(scope),
            text: cut(body),
        }),
        _ => {}
    }
}

fn report_of<'a>(value: impl Fn(&str) -> &'a Json) -> Report {
    Report {
        agent_name: string(value("agent_name")),
        sdk_version: string(value("sdk_version")),
        made_at: instant(value("session.report_timestamp")),
        tags: strings(value("session.tags")),
        usage: list(value("usage")),
        ..Report::default()
    }
}

/// The summary of a session in the header of a recording.
pub(super) fn summary(summary: &Json) -> Report {
    let errors = summary["errors"].as_object().into_iter().flatten().take(MOST);
    let errors = errors.filter_map(|(name, n)| Some((cut(name), n.as_u64().filter(|n| *n > 0)?)));
    Report {
        agent_name: string(&summary["agent_name"]),
        sdk_version: string(&summary["sdk_version"]),
        close_reason: string(&summary["close_reason"]),
        made_at: instant(&summary["timestamp"]),
        tags: strings(&summary["tags"]),
        usage: list(&summary["usage"]),
        errors: errors.collect(),
    }
}

/// The conversation in the part `chat_history` of a recording: its items have their kind inside.
pub(super) fn history(history: &Json) -> Vec<Item> {
    let all = history["items"].as_array().into_iter().flatten().take(MOST * 5);
    let one = |item: &Json| item_of(item["type"].as_str().unwrap_or_default(), item, 0);
    all.map(one).collect()
}

fn item_of(kind: &str, item: &Json, at: i64) -> Item {
    let text = match kind {
        "message" => {
            let parts = item["content"].as_array().into_iter().flatten();
            let parts = parts.filter_map(|part| part.as_str().or(part["text"].as_str()));
            Some(parts.collect::<Vec<_>>().join(" "))
        }
        "function_call" | "function_call_output" => string(&item["name"]),
        "agent_handoff" => string(&item["new_agent_id"]),
        // Instructions of the agent: nothing of the call.
        _ => None,
    };
    Item {
        id: string(&item["id"]).unwrap_or_default(),
        kind: cut(kind),
        at: instant(&item["created_at"]).unwrap_or(at),
        role: string(&item["role"]).map(|role| role.to_lowercase()),
        text: text.as_deref().map(cut),
        from: instant(&item["metrics"]["started_speaking_at"]),
        to: instant(&item["metrics"]["stopped_speaking_at"]),
        interrupted: item["interrupted"].as_bool().unwrap_or_default(),
    }
}

/// Milliseconds since 1970, from a text, seconds or milliseconds.
fn instant(value: &Json) -> Option<i64> {
    if let Some(text) = value.as_str() {
        return Moment::parse_rfc3339(text).map(Moment::millis);
    }
    let n = value.as_f64().filter(|n| *n > 0.0)?;
    // As seconds, this would be after the year 5000.
    let millis = if n < 1e11 { n * 1_000.0 } else { n };
    #[allow(clippy::cast_possible_truncation)]
    Some(millis.round() as i64)
}

fn string(value: &Json) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(cut)
}

fn strings(value: &Json) -> Vec<String> {
    value.as_array().into_iter().flatten().take(MOST).filter_map(string).collect()
}

fn list(value: &Json) -> Vec<Json> {
    value.as_array().into_iter().flatten().take(MOST).cloned().collect()
}
