//! Makes the `details` of a record.

use std::collections::BTreeMap;

use record::{
    By, EndedBy, LeaveReason, ModelTask, Moment, Tier,
    details::{
        Agent, Component, Details, Distribution, Evidence, Interruptions, Latency, Line,
        Observation, Passed, SideEvidence, Talk, Tool, Usage,
    },
    people::{Participant, ParticipantRole, Phone, Transfer},
    timeline::{LineKind, Timeline},
};

use super::{
    event::{Handoff, Used},
    evidence::VoiceActivity,
    feed::{AgentView, ToolUse},
    interval::Interval,
    keyed::Dialled,
    metrics::{Measured, Response},
    turns::Utterance,
};

/// What the details are made of.
pub(crate) struct DetailsInput<'a> {
    pub ended_by: EndedBy,
    pub disconnect_reason: LeaveReason,
    pub sip: Option<BTreeMap<String, String>>,
    pub phone: Option<Phone>,
    pub participants: Vec<Participant>,
    pub transfers: Vec<Transfer>,
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
    pub timeline: Timeline,
    pub dialled: &'a [Dialled],
    pub observation: Observation,
    pub agents: Vec<Agent>,
    pub view: &'a AgentView,
    pub measured: &'a Measured,
    pub profile: Option<String>,
    pub transcript: bool,
}

pub(crate) fn build(s: &DetailsInput) -> Details {
    let (m, v) = (s.measured, s.view);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let timed = |h: &VoiceActivity| !matches!(h.tier, Tier::Transcripts | Tier::None);
    // A feed with hand-offs only does not show tool calls.
    let has_feed = v.sessions.iter().any(|s| !s.agent_states.is_empty()) || !v.items.is_empty();
    let talked = |h: &VoiceActivity| (h.tier != Tier::None).then(|| seconds(h.total_ms()));
    let both = m.user.tier != Tier::None && m.agent.tier != Tier::None;
    Details {
        ended_by: s.ended_by,
        disconnect_reason: Some(s.disconnect_reason),
        sip: s.sip.clone(),
        phone: s.phone.clone(),
        participants: s.participants.clone(),
        transfers: s.transfers.clone(),
        metadata: s.metadata.clone(),
        observation: s.observation.clone(),
        evidence: Evidence {
            user: SideEvidence { speech: m.user.tier, words: m.user_words },
            agent: SideEvidence { speech: m.agent.tier, words: m.agent_words },
        },
        latency: Latency {
            agent_response: distribution(&m.agent_responses),
            user_response: distribution(&m.user_responses),
            components: components(m),
        },
        interruptions: Interruptions {
            by_caller: count(m.interruptions.len()),
            by_agent: (timed(&m.user) && timed(&m.agent)).then(|| count(m.talked_into.len())),
            false_alarms: has_feed
                .then(|| count(v.false_interruptions.iter().filter(|(_, r)| *r).count())),
        },
        talk: Talk {
            user_seconds: talked(&m.user),
            agent_seconds: talked(&m.agent),
            overlap_seconds: both.then(|| seconds(m.overlap_ms)),
            longest_silence_seconds: m.silences.iter().map(Interval::ms).max().map(seconds),
        },
        usage: (!v.used.is_empty()).then(|| v.used.iter().map(usage).collect()),
        tools: has_feed.then(|| {
            let tool = |(name, t): (&String, &ToolUse)| Tool {
                name: name.clone(),
                calls: t.calls,
                failures: t.failures,
            };
            v.tools.iter().map(tool).collect()
        }),
        agents: s.agents.clone(),
        handoffs: (has_feed || !v.handoffs.is_empty()).then(|| {
            let passed = |h: &Handoff| Passed {
                from: h.from.clone(),
                to: h.to.clone(),
                timestamp: h.at.map(Moment::to_rfc3339),
            };
            v.handoffs.iter().map(passed).collect()
        }),
        answered_by: v.answered_by,
        errors: has_feed.then_some(v.errors),
        profile: s.profile.clone(),
        timeline: s.timeline.clone(),
        reduced: None,
        transcript: s.transcript.then(|| transcript(s)),
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

/// What the agent reports of single turns; `None` if it reports nothing of that kind.
fn components(m: &Measured) -> Option<Vec<Component>> {
    let of = |by: By, u: &Utterance| {
        let c = u.components;
        let component = Component {
            by,
            from: u.spoken.map(|i| i.start.to_rfc3339()),
            transcription_delay: c.transcription_delay,
            end_of_turn_delay: c.end_of_turn_delay,
            llm_first_token: c.llm_first_token,
            tts_first_byte: c.tts_first_byte,
        };
        (!c.is_empty()).then(|| (u.began(), component))
    };
    let user = m.user_utterances.iter().filter_map(|u| of(By::User, u));
    let agent = m.agent_utterances.iter().filter_map(|u| of(By::Agent, u));
    let mut all: Vec<_> = user.chain(agent).collect();
    all.sort_by_key(|(at, _)| *at);
    (!all.is_empty()).then(|| all.into_iter().map(|(_, c)| c).collect())
}

/// Both sides' utterances in the order in which they were spoken, with what was typed and dialled.
fn transcript(s: &DetailsInput) -> Vec<Line> {
    let m = s.measured;
    let role = |who: &Option<String>| {
        let known = s.participants.iter().find(|p| who.as_ref() == Some(&p.identity));
        known.map(|p| p.role)
    };
    let of = |by: By, u: &Utterance| {
        let line = Line {
            by,
            kind: if u.typed { LineKind::Typed } else { LineKind::Spoken },
            identity: u.who.clone(),
            role: role(&u.who),
            from: u.spoken.map(|i| i.start.to_rfc3339()),
            to: u.spoken.map(|i| i.end.to_rfc3339()),
            text: u.text.as_deref().unwrap_or_default().trim().to_owned(),
            interrupted: u.interrupted,
        };
        (u.began(), line)
    };
    let user = m.user_utterances.iter().map(|u| of(By::User, u));
    let mut all: Vec<_> = user.chain(m.agent_utterances.iter().map(|u| of(By::Agent, u))).collect();
    all.extend(dialled(s.dialled).into_iter().map(|(from, to, by, digits)| {
        let by = Some(by);
        let role = role(&by);
        let line = Line {
            by: if role == Some(ParticipantRole::Agent) { By::Agent } else { By::User },
            kind: LineKind::Dialled,
            role,
            identity: by,
            from: Some(from.to_rfc3339()),
            to: Some(to.to_rfc3339()),
            text: digits,
            interrupted: false,
        };
        (from, line)
    }));
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, line)| line).filter(|l| !l.text.is_empty()).collect()
}

/// Digits that one participant dialled soon after each other are one line: from, to, who, digits.
fn dialled(all: &[Dialled]) -> Vec<(Moment, Moment, String, String)> {
    const TOGETHER_MS: i64 = 3_000;
    let mut out: Vec<(Moment, Moment, String, String)> = vec![];
    for d in all {
        let digit = d.digit.as_deref().unwrap_or_default();
        match out.last_mut() {
            Some((_, to, by, digits)) if *by == d.by && d.at.since(*to) <= TOGETHER_MS => {
                *to = d.at;
                digits.push_str(digit);
            }
            _ => out.push((d.at, d.at, d.by.clone(), digit.to_owned())),
        }
    }
    out
}

/// The distribution of one side's response times; `None` if there are none.
fn distribution(responses: &[Response]) -> Option<Distribution> {
    let values: Vec<f64> = responses.iter().map(|a| a.seconds).collect();
    let mut sorted = values.clone();
    sorted.sort_by(f64::total_cmp);
    // Nearest rank: the smallest value with at least this percentage of the values at or below it.
    let rank = |percent: usize| {
        let n = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(n - 1).copied()
    };
    Some(Distribution {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn responses(seconds: &[f64]) -> Vec<Response> {
        let one = |s: &f64| Response { between: None, seconds: *s, reported: true };
        seconds.iter().map(one).collect()
    }

    #[test]
    fn percentiles_are_measured_values() {
        let d = distribution(&responses(&[0.4, 0.1, 0.3, 0.2])).unwrap();
        assert_eq!((d.count, d.min, d.max), (4, 0.1, 0.4));
        assert_eq!((d.p50, d.p90, d.p99), (0.2, 0.4, 0.4));
        assert_eq!(d.values, [0.4, 0.1, 0.3, 0.2]);
        let one = distribution(&responses(&[0.7])).unwrap();
        assert_eq!((one.min, one.p50, one.p95, one.max), (0.7, 0.7, 0.7, 0.7));
        let many: Vec<f64> = (1..=200).map(f64::from).collect();
        let d = distribution(&responses(&many)).unwrap();
        assert_eq!((d.p50, d.p90, d.p95, d.p99), (100.0, 180.0, 190.0, 198.0));
    }

    #[test]
    fn without_responses_there_is_no_distribution() {
        assert_eq!(distribution(&[]), None);
    }
}
