//! `details`: what an operator can ask for beyond the record itself.
//!
//! Unmeasured is `null`, never 0. Times of day are RFC 3339 in UTC, durations are seconds.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    ending::Basis,
    event::{Answerer, By, Discovery, Handoff, LeaveReason, ModelTask, Moment, Used},
    evidence::{Heard, Interval, Tier},
    feed::{AgentView, ToolUse},
    history::{option_three_decimals, three_decimals, three_decimals_each},
    metrics::{Answer, Measured},
    turns::{Utterance, Words},
};

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Details {
    /// Who ended the call, apart from how it went.
    pub(crate) ended_by: EndedBy,
    /// LiveKit's reason of the leave that ended the call, or of the room's end.
    pub(crate) disconnect_reason: Option<LeaveReason>,
    /// The caller's `sip.*` attributes; null for a caller who is no phone leg.
    pub(crate) sip: Option<BTreeMap<String, String>>,
    /// What the observer saw of the call.
    pub(crate) observation: Observation,
    /// The signals that the numbers are made of.
    pub(crate) evidence: Evidence,
    pub(crate) latency: Latency,
    pub(crate) interruptions: Interruptions,
    pub(crate) talk: Talk,
    /// Models that the agent reports to have used, with all of its session so far; null where no
    /// session feed was seen.
    pub(crate) usage: Option<Vec<Usage>>,
    /// Tools that the agent called; null where no session feed was seen.
    pub(crate) tools: Option<Vec<Tool>>,
    /// Everybody of kind agent that was seen, in order of appearance.
    pub(crate) agents: Vec<Agent>,
    /// Passes from one agent to the next within a session; null where no session feed was seen.
    pub(crate) handoffs: Option<Vec<Passed>>,
    /// What the agent's answering machine detection says; null if it has none.
    pub(crate) answered_by: Option<Answerer>,
    /// Errors that the agent reported; null where no session feed was seen.
    pub(crate) errors: Option<u32>,
    /// The business profile that was applied.
    pub(crate) profile: Option<String>,
    /// Only with CALL_HISTORY_TRANSCRIPT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) transcript: Option<Vec<Line>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EndedBy {
    /// The caller hung up or left.
    Caller,
    /// The agent said that it ended the call.
    Agent,
    /// The room was closed or the caller removed: agents hang up so, and operators.
    Room,
    /// A connection broke.
    Network,
    /// The worker stopped, or lost the room.
    Worker,
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Observation {
    /// How the observer learned of the room.
    pub(crate) discovered_by: Option<Discovery>,
    /// When the observer was in the room.
    pub(crate) from: Option<String>,
    /// Until when the call was observed.
    pub(crate) to: Option<String>,
    /// Stretches of the call that were not seen.
    pub(crate) gaps: Vec<Gap>,
    /// Seconds by which the observer came after the caller; negative: it was there first.
    #[serde(serialize_with = "option_three_decimals")]
    pub(crate) late_seconds: Option<f64>,
    /// Turns of either side that were not heard of when they were said: the agent told them
    /// when it was asked for its history.
    pub(crate) turns_from_history: u32,
    /// How `end_time` is known.
    pub(crate) end_time_basis: Basis,
    /// Continued after a crash of the worker.
    pub(crate) recovered: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Gap {
    #[schemars(extend("format" = "date-time"))]
    pub(crate) from: String,
    #[schemars(extend("format" = "date-time"))]
    pub(crate) to: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Evidence {
    pub(crate) user: SideEvidence,
    pub(crate) agent: SideEvidence,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct SideEvidence {
    /// Which signal told when this side spoke.
    pub(crate) speech: Tier,
    /// Where its words are from.
    pub(crate) words: Words,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Latency {
    /// From the end of the caller's speech to the agent's answer; null without one.
    pub(crate) agent_response: Option<Distribution>,
    /// From the end of the agent's speech to the caller's answer; null without one.
    pub(crate) user_response: Option<Distribution>,
}

/// Seconds. Percentiles are values that were measured (nearest rank).
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Distribution {
    pub(crate) count: u32,
    #[schemars(range(min = 0))]
    #[serde(serialize_with = "three_decimals")]
    pub(crate) min: f64,
    #[schemars(range(min = 0))]
    #[serde(serialize_with = "three_decimals")]
    pub(crate) p50: f64,
    #[schemars(range(min = 0))]
    #[serde(serialize_with = "three_decimals")]
    pub(crate) p90: f64,
    #[schemars(range(min = 0))]
    #[serde(serialize_with = "three_decimals")]
    pub(crate) p95: f64,
    #[schemars(range(min = 0))]
    #[serde(serialize_with = "three_decimals")]
    pub(crate) p99: f64,
    #[schemars(range(min = 0))]
    #[serde(serialize_with = "three_decimals")]
    pub(crate) max: f64,
    /// All of them in the order of the call.
    #[serde(serialize_with = "three_decimals_each")]
    pub(crate) values: Vec<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Interruptions {
    /// Agent utterances that the caller cut off.
    pub(crate) by_caller: u32,
    /// Times the agent began to speak into its caller's words; null where nothing tells when the
    /// caller spoke but transcripts.
    pub(crate) by_agent: Option<u32>,
    /// Pauses for noise or words of assent, after which the agent went on; null without the feed.
    pub(crate) false_alarms: Option<u32>,
}

/// Seconds; null where no signal tells.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Talk {
    #[serde(serialize_with = "option_three_decimals")]
    pub(crate) user_seconds: Option<f64>,
    #[serde(serialize_with = "option_three_decimals")]
    pub(crate) agent_seconds: Option<f64>,
    #[serde(serialize_with = "option_three_decimals")]
    pub(crate) overlap_seconds: Option<f64>,
    /// The longest gap in which neither side spoke, if one reached the threshold.
    #[serde(serialize_with = "option_three_decimals")]
    pub(crate) longest_silence_seconds: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Usage {
    pub(crate) task: ModelTask,
    pub(crate) provider: String,
    pub(crate) model: String,
    pub(crate) input_tokens: u64,
    pub(crate) cached_input_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) characters: u64,
    #[schemars(range(min = 0))]
    #[serde(serialize_with = "three_decimals")]
    pub(crate) audio_seconds: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) calls: u32,
    pub(crate) failures: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Agent {
    pub(crate) identity: String,
    pub(crate) role: AgentRole,
    #[schemars(extend("format" = "date-time"))]
    pub(crate) joined_at: String,
    /// Null: it was there to the end.
    pub(crate) left_at: Option<String>,
    pub(crate) disconnect_reason: Option<LeaveReason>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AgentRole {
    /// Spoke with the caller.
    Voice,
    /// A face and a voice for another agent.
    Avatar,
    /// Anything else of kind agent: a transcriber, a recorder.
    Other,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Passed {
    pub(crate) from: Option<String>,
    pub(crate) to: String,
    /// When, by the agent.
    pub(crate) timestamp: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Line {
    pub(crate) by: By,
    /// When it was spoken; null where no signal tells.
    pub(crate) from: Option<String>,
    pub(crate) to: Option<String>,
    pub(crate) text: String,
    pub(crate) interrupted: bool,
}

/// What the details are made of.
pub(crate) struct Sources<'a> {
    pub(crate) ended_by: EndedBy,
    pub(crate) disconnect_reason: LeaveReason,
    pub(crate) sip: Option<BTreeMap<String, String>>,
    pub(crate) observation: Observation,
    pub(crate) agents: Vec<Agent>,
    pub(crate) view: &'a AgentView,
    pub(crate) measured: &'a Measured,
    pub(crate) profile: Option<String>,
    pub(crate) transcript: bool,
}

pub(crate) fn build(s: &Sources) -> Details {
    let (m, v) = (s.measured, s.view);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let timed = |h: &Heard| !matches!(h.tier, Tier::Transcripts | Tier::None);
    // A feed that tells only who passed to whom is none to count tools by.
    let fed = v.sessions.iter().any(|s| !s.agent_states.is_empty()) || !v.items.is_empty();
    let talked = |h: &Heard| (h.tier != Tier::None).then(|| seconds(h.total_ms()));
    let both = m.user.tier != Tier::None && m.agent.tier != Tier::None;
    Details {
        ended_by: s.ended_by,
        disconnect_reason: Some(s.disconnect_reason),
        sip: s.sip.clone(),
        observation: s.observation.clone(),
        evidence: Evidence {
            user: SideEvidence { speech: m.user.tier, words: m.user_words },
            agent: SideEvidence { speech: m.agent.tier, words: m.agent_words },
        },
        latency: Latency {
            agent_response: Distribution::of(&m.agent_answers),
            user_response: Distribution::of(&m.user_answers),
        },
        interruptions: Interruptions {
            by_caller: count(m.interruptions.len()),
            by_agent: (timed(&m.user) && timed(&m.agent)).then(|| count(m.talked_into.len())),
            false_alarms: fed
                .then(|| count(v.false_interruptions.iter().filter(|(_, r)| *r).count())),
        },
        talk: Talk {
            user_seconds: talked(&m.user),
            agent_seconds: talked(&m.agent),
            overlap_seconds: both.then(|| seconds(m.overlap_ms)),
            longest_silence_seconds: m.silences.iter().map(Interval::ms).max().map(seconds),
        },
        usage: (!v.used.is_empty()).then(|| v.used.iter().map(usage).collect()),
        tools: fed.then(|| {
            let tool = |(name, t): (&String, &ToolUse)| Tool {
                name: name.clone(),
                calls: t.calls,
                failures: t.failures,
            };
            v.tools.iter().map(tool).collect()
        }),
        agents: s.agents.clone(),
        handoffs: (fed || !v.handoffs.is_empty()).then(|| {
            let passed = |h: &Handoff| Passed {
                from: h.from.clone(),
                to: h.to.clone(),
                timestamp: h.at.map(Moment::to_rfc3339),
            };
            v.handoffs.iter().map(passed).collect()
        }),
        answered_by: v.answered_by,
        errors: fed.then_some(v.errors),
        profile: s.profile.clone(),
        transcript: s.transcript.then(|| transcript(m)),
    }
}

fn usage(((task, provider, model), used): (&(ModelTask, String, String), &Used)) -> Usage {
    Usage {
        task: *task,
        provider: provider.clone(),
        model: model.clone(),
        input_tokens: used.input_tokens,
        cached_input_tokens: used.cached_input_tokens,
        output_tokens: used.output_tokens,
        characters: used.characters,
        audio_seconds: used.audio_seconds,
    }
}

/// Both sides' utterances in the order in which they were spoken.
fn transcript(m: &Measured) -> Vec<Line> {
    let of = |by: By, u: &Utterance| {
        let line = Line {
            by,
            from: u.spoken.map(|i| i.start.to_rfc3339()),
            to: u.spoken.map(|i| i.end.to_rfc3339()),
            text: u.text.as_deref().unwrap_or_default().trim().to_owned(),
            interrupted: u.interrupted,
        };
        (u.spoken.map_or(u.known_at, |i| i.start), line)
    };
    let user = m.user_utterances.iter().map(|u| of(By::User, u));
    let mut all: Vec<_> = user.chain(m.agent_utterances.iter().map(|u| of(By::Agent, u))).collect();
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, line)| line).filter(|l| !l.text.is_empty()).collect()
}

impl Distribution {
    pub(crate) fn of(answers: &[Answer]) -> Option<Self> {
        let values: Vec<f64> = answers.iter().map(|a| a.seconds).collect();
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        // Nearest rank: the smallest value that at least so many percent are not above.
        let rank = |percent: usize| {
            let n = (sorted.len() * percent).div_ceil(100).max(1);
            sorted.get(n - 1).copied()
        };
        Some(Self {
            count: u32::try_from(values.len()).unwrap_or(u32::MAX),
            min: *sorted.first()?,
            p50: rank(50)?,
            p90: rank(90)?,
            p95: rank(95)?,
            p99: rank(99)?,
            max: *sorted.last()?,
            values,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(seconds: &[f64]) -> Vec<Answer> {
        let one = |s: &f64| Answer { between: None, seconds: *s, reported: true };
        seconds.iter().map(one).collect()
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let d = Distribution::of(&answers(&[0.4, 0.1, 0.3, 0.2])).unwrap();
        assert_eq!((d.count, d.min, d.max), (4, 0.1, 0.4));
        assert_eq!((d.p50, d.p90, d.p99), (0.2, 0.4, 0.4));
        assert_eq!(d.values, [0.4, 0.1, 0.3, 0.2]);
        let one = Distribution::of(&answers(&[0.7])).unwrap();
        assert_eq!((one.min, one.p50, one.p95, one.max), (0.7, 0.7, 0.7, 0.7));
        let many: Vec<f64> = (1..=200).map(f64::from).collect();
        let d = Distribution::of(&answers(&many)).unwrap();
        assert_eq!((d.p50, d.p90, d.p95, d.p99), (100.0, 180.0, 190.0, 198.0));
    }

    #[test]
    fn nothing_measured_is_null() {
        assert_eq!(Distribution::of(&[]), None);
    }
}
