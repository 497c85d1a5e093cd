//! What is read from an upload when it arrives: small, in one unit, the same for all versions of agents.
//!
//! Instants are milliseconds since 1970 by the clock of the agent's host, lengths are seconds. Pages and the API are made
//! from facts; the uploads themselves stay as they came.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// Spans of a job that are shown at most; a turn has about fifteen.
const MOST_SPANS: usize = 50_000;
/// Items of a conversation, and lines of a log.
const MOST: usize = 5_000;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Facts {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) spans: Vec<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) report: Option<Report>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) items: Vec<Item>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) evaluations: Vec<Evaluation>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<Tag>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) outcome: Option<Outcome>,
    /// Warnings and errors of the agent's log.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) lines: Vec<Line>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Span {
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) name: String,
    pub(crate) from: i64,
    pub(crate) to: i64,
    /// Turns of one answer have the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) speech: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) e2e_latency: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) transcription_delay: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) end_of_turn_delay: Option<f64>,
    /// From a request to its first token or its first sound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) interrupted: Option<bool>,
    /// `audio_activity`, `user_turn`, `programmatic`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) interruption_source: Option<String>,
    /// Seconds of an answer that were played.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) played: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tool: Option<ToolCall>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) close_reason: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ToolCall {
    pub(crate) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) arguments: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<String>,
    pub(crate) failed: bool,
}

/// The report of a session. The recording's header and a log record have parts of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agent_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sdk_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) close_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) made_at: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<String>,
    /// As the agent reports it: one entry for each model.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) usage: Vec<Json>,
    /// Errors by component.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) errors: BTreeMap<String, u64>,
}

/// An item of the conversation: something said, a tool that was called, an agent that took over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Item {
    pub(crate) id: String,
    /// `message`, `function_call`, `function_call_output`, `agent_handoff`, `agent_config_update`
    pub(crate) kind: String,
    pub(crate) at: i64,
    /// `user`, `assistant`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<String>,
    /// What was said, the tool, or the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<i64>,
    pub(crate) interrupted: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Evaluation {
    pub(crate) name: String,
    /// `pass`, `fail`, `maybe`
    pub(crate) verdict: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Tag {
    pub(crate) name: String,
    #[serde(skip_serializing_if = "Json::is_null")]
    pub(crate) metadata: Json,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Outcome {
    /// `success`, `fail`; versions before 1.5.2 do not say which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) outcome: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Line {
    pub(crate) at: i64,
    /// `warning`, `error`
    pub(crate) level: String,
    pub(crate) logger: String,
    pub(crate) text: String,
}

impl Facts {
    /// Adds the facts of another upload of the same job. What was sent twice is there once.
    pub(crate) fn add(&mut self, other: Self) {
        self.spans.extend(other.spans);
        self.items.extend(other.items);
        self.evaluations.extend(other.evaluations);
        self.tags.extend(other.tags);
        self.lines.extend(other.lines);
        if other.outcome.is_some() {
            self.outcome = other.outcome;
        }
        match (&mut self.report, other.report) {
            (Some(report), Some(other)) => report.add(other),
            (report, other) => *report = other.or(report.take()),
        }
    }

    /// In the order of time, each once.
    pub(crate) fn settle(&mut self) {
        let mut seen = BTreeSet::new();
        self.spans.retain(|span| span.id.is_empty() || seen.insert(span.id.clone()));
        self.spans.sort_by_key(|span| (span.from, span.to));
        self.spans.truncate(MOST_SPANS);
        let mut seen = BTreeSet::new();
        self.items.retain(|item| item.id.is_empty() || seen.insert(item.id.clone()));
        self.items.sort_by_key(|item| item.from.unwrap_or(item.at));
        self.items.truncate(MOST);
        once(&mut self.evaluations);
        once(&mut self.tags);
        self.lines.sort_by_key(|line| line.at);
        self.lines.dedup();
        self.lines.truncate(MOST);
    }

    /// Takes away all words of the call.
    pub(crate) fn redact(&mut self) {
        self.items.clear();
        self.lines.clear();
        for span in &mut self.spans {
            if let Some(tool) = &mut span.tool {
                (tool.arguments, tool.output) = (None, None);
            }
        }
        self.evaluations.iter_mut().for_each(|evaluation| evaluation.reasoning = None);
        self.tags.iter_mut().for_each(|tag| tag.metadata = Json::Null);
        if let Some(outcome) = &mut self.outcome {
            outcome.reason = None;
        }
    }
}

fn once<T: PartialEq>(all: &mut Vec<T>) {
    let mut kept: Vec<T> = vec![];
    for one in all.drain(..) {
        if kept.len() < MOST && !kept.contains(&one) {
            kept.push(one);
        }
    }
    *all = kept;
}

impl Report {
    fn add(&mut self, other: Self) {
        let take = |mine: &mut Option<String>, other: Option<String>| {
            if mine.is_none() {
                *mine = other;
            }
        };
        take(&mut self.agent_name, other.agent_name);
        take(&mut self.sdk_version, other.sdk_version);
        take(&mut self.close_reason, other.close_reason);
        self.made_at = self.made_at.max(other.made_at);
        // Later reports are about more of the call; the log record and the header have the same.
        if !other.usage.is_empty() {
            self.usage = other.usage;
        }
        if !other.tags.is_empty() {
            self.tags = other.tags;
        }
        if !other.errors.is_empty() {
            self.errors = other.errors;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_twice_is_there_once() {
        let facts = Facts {
            spans: vec![Span { id: "b".into(), from: 2, ..Span::default() }],
            items: vec![Item { id: "i".into(), at: 5, ..Item::default() }],
            evaluations: vec![Evaluation::default()],
            report: Some(Report { tags: vec!["a".into()], ..Report::default() }),
            ..Facts::default()
        };
        let mut all = facts.clone();
        all.add(facts.clone());
        let first = Span { id: "a".into(), from: 1, ..Span::default() };
        all.add(Facts { spans: vec![first], ..Facts::default() });
        all.settle();
        assert_eq!(all.spans.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((all.items, all.evaluations), (facts.items, facts.evaluations));
        assert_eq!(all.report, facts.report);
    }
}
