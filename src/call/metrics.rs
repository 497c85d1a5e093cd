//! The numbers of the record, from utterances and speech (definitions: CS §6.4).

use super::{
    event::{AgentState, Moment},
    evidence::{Heard, Interval, Tier},
    feed::AgentView,
    history::Metrics,
    parties::{Part, Parties},
    speech::Segment,
    turns::Utterance,
};

/// Transcripts arrive late, so a gap between them is longer than the silence was.
const TRANSCRIPT_DELAY_MS: i64 = 1_000;
/// The caller's first interim may come this long after the agent fell silent, and be the reason.
const INTERIM_WITHIN_MS: i64 = 1_000;
/// The end of text and sound of an undisturbed utterance are at most this far apart; where the
/// caller cut in, the text stays open until his words are final (live-lab §1.4).
const TEXT_ENDS_WITH_SOUND_MS: i64 = 250;
/// How much later than its sound the agent may report the end of what it said.
const REPORTED_WITHIN_MS: i64 = 1_000;

/// All that the numbers are made of; times on our line.
pub(crate) struct Conversation<'a> {
    pub(crate) parties: &'a Parties,
    pub(crate) view: &'a AgentView,
    pub(crate) agent_segments: &'a [Segment],
    pub(crate) user: &'a Heard,
    pub(crate) agent: &'a Heard,
    pub(crate) user_utterances: &'a [Utterance],
    pub(crate) agent_utterances: &'a [Utterance],
    /// Signs of life that are not speech: DTMF, typed text.
    pub(crate) other_signs: &'a [Moment],
    /// Stretches that the observer did not see.
    pub(crate) unseen: &'a [(Moment, Moment)],
    pub(crate) start: Moment,
    pub(crate) end: Moment,
    pub(crate) silence_threshold_ms: i64,
}

impl Conversation<'_> {
    /// The observer was there all the time between.
    fn saw(&self, from: Moment, to: Moment) -> bool {
        !self.unseen.iter().any(|(start, end)| *start < to && *end > from)
    }
}

pub(crate) fn metrics(c: &Conversation) -> Metrics {
    let count = |u: &[Utterance]| u32::try_from(u.len()).unwrap_or(u32::MAX);
    let longest = |u: &[Utterance]| u.iter().map(|u| u.words).max().unwrap_or(0);
    Metrics {
        total_user_utterances: count(c.user_utterances),
        total_agent_utterances: count(c.agent_utterances),
        longest_user_utterance: longest(c.user_utterances),
        longest_agent_utterance: longest(c.agent_utterances),
        average_user_response_time: mean(&user_response_times(c)),
        average_agent_response_time: mean(&agent_response_times(c)),
        silence_count: u32::try_from(silences(c).len()).unwrap_or(u32::MAX),
        interruption_count: interruptions(c),
    }
}

/// Seconds; 0 when there is nothing to average.
fn mean(seconds: &[f64]) -> f64 {
    if seconds.is_empty() { 0.0 } else { seconds.iter().sum::<f64>() / seconds.len() as f64 }
}

/// From the end of a caller's utterance to the first sound of the agent's answer, in seconds.
fn agent_response_times(c: &Conversation) -> Vec<f64> {
    let reported: Vec<f64> = c.agent_utterances.iter().filter_map(|u| u.e2e_latency).collect();
    if !reported.is_empty() {
        return reported;
    }
    let users = spoken(c.user_utterances);
    let mut out = vec![];
    for (n, u) in users.iter().enumerate() {
        let until = users.get(n + 1).map_or(Moment::from_millis(i64::MAX), |next| next.start);
        // Already talking when the caller ended: no answer to it.
        if c.agent.intervals.iter().any(|a| a.start < u.end && a.end > u.end) {
            continue;
        }
        let answer = c.agent.intervals.iter().find(|a| a.start >= u.end && a.start < until);
        let answer = answer.filter(|a| c.saw(u.end, a.start));
        out.extend(answer.map(|a| a.start.since(u.end) as f64 / 1000.0));
    }
    out
}

/// From the end of the agent's utterance to the beginning of the caller's answer, in seconds.
fn user_response_times(c: &Conversation) -> Vec<f64> {
    let users = spoken(c.user_utterances);
    let cut = |a: &Interval| {
        c.agent_utterances.iter().any(|u| u.interrupted && u.spoken.as_ref() == Some(a))
    };
    let mut out = vec![];
    for (n, a) in c.agent.intervals.iter().enumerate() {
        let until =
            c.agent.intervals.get(n + 1).map_or(Moment::from_millis(i64::MAX), |next| next.start);
        // The caller spoke into it.
        if cut(a) || users.iter().any(|u| u.start < a.end && u.end > a.end) {
            continue;
        }
        let answer = users.iter().find(|u| u.start >= a.end && u.start < until);
        let answer = answer.filter(|u| c.saw(a.end, u.start));
        out.extend(answer.map(|u| u.start.since(a.end) as f64 / 1000.0));
    }
    out
}

fn spoken(utterances: &[Utterance]) -> Vec<Interval> {
    let mut all: Vec<Interval> = utterances.iter().filter_map(|u| u.spoken).collect();
    all.sort_by_key(|i| (i.start, i.end));
    all.dedup();
    all
}

/// The gaps in which neither side speaks, from the first speech to the end of the call.
fn silences(c: &Conversation) -> Vec<Interval> {
    let late = c.user.tier == Tier::Transcripts || c.agent.tier == Tier::Transcripts;
    let threshold = c.silence_threshold_ms + if late { TRANSCRIPT_DELAY_MS } else { 0 };
    let mut all: Vec<Interval> = (c.user.intervals.iter().chain(&c.agent.intervals))
        .copied()
        .chain(c.other_signs.iter().map(|t| Interval { start: *t, end: *t }))
        .filter(|i| i.start < c.end && i.end >= c.start)
        .collect();
    // What was not seen is no silence.
    let mut out = vec![];
    let Some(first) = all.iter().min_by_key(|i| i.start).copied() else { return out };
    let unseen = c.unseen.iter().filter(|(_, end)| *end > first.start);
    all.extend(unseen.map(|(start, end)| Interval { start: *start, end: *end }));
    all.sort_by_key(|i| i.start);
    let mut quiet_since = first.end;
    let last = Interval { start: c.end, end: c.end };
    for i in all.iter().chain([&last]) {
        if i.start.since(quiet_since) >= threshold {
            out.push(Interval { start: quiet_since, end: i.start });
        }
        quiet_since = quiet_since.max(i.end);
    }
    out
}

/// Agent utterances that the caller cut off. Pauses that turned out to be noise and words of
/// assent do not count, nor what was cut because the caller left.
fn interruptions(c: &Conversation) -> u32 {
    // Agents older than 1.7 send no times, and those before 1.5.13 never set the flag.
    let told = c.view.items.iter().any(|i| i.started_at.is_some());
    let n = if told {
        c.agent_utterances.iter().filter(|u| u.interrupted && by_caller(c, u)).count()
    } else {
        by_states(c)
    };
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn by_caller(c: &Conversation, u: &Utterance) -> bool {
    let Some(spoken) = u.spoken else { return u.known_at <= c.end };
    let spoke_into = |i: &Interval| i.overlaps(spoken.start, spoken.end.plus(REPORTED_WITHIN_MS));
    // The session closing on the caller's leave forces the flag on whatever is being said.
    let forced = u.known_at > c.end && spoken.end.plus(REPORTED_WITHIN_MS) > c.end;
    !forced && c.user.intervals.iter().any(spoke_into)
}

/// Without the agent's own word: it stopped while the caller spoke, and the segment it was in was
/// closed, later than undisturbed text would, before it spoke or thought again.
fn by_states(c: &Conversation) -> usize {
    let mut n = 0;
    for agent in c.parties.iter().filter(|p| c.parties.part(p) == Part::Agent) {
        for (k, (stopped, _)) in agent.states.iter().enumerate().skip(1) {
            if agent.states[k - 1].1 != AgentState::Speaking || *stopped >= c.end {
                continue;
            }
            let next = agent.states[k..]
                .iter()
                .find(|(_, s)| matches!(s, AgentState::Speaking | AgentState::Thinking))
                .map_or(c.end, |(t, _)| *t);
            let caller_spoke = (c.user.intervals.iter())
                .any(|i| i.overlaps(agent.states[k - 1].0, stopped.plus(INTERIM_WITHIN_MS)));
            let cut = c.agent_segments.iter().any(|s| {
                s.first_at <= *stopped
                    && s.closed_at
                        .is_some_and(|t| t.since(*stopped) > TEXT_ENDS_WITH_SOUND_MS && t <= next)
            });
            n += usize::from(caller_spoke && cut);
        }
    }
    n
}
