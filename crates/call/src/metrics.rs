//! The numbers of the record, computed from utterances and speech (definitions: docs/contract.md
//! §4), and the moments that they are computed from.

use record::{Metrics, Tier, WordSource, people::ParticipantRole};

use super::{
    ending::LAST_WORDS_MS,
    event::{AgentState, Moment},
    evidence::{SignalDelay, VoiceActivity},
    feed::AgentView,
    interval::Interval,
    parties::Parties,
    party::Party,
    speech::{CUT_AFTER_MS, Segment},
    turns::Utterance,
};

/// The caller's speech may seem to begin this long after the agent stopped because of it: signals
/// have different delays.
const SEEN_WITHIN_MS: i64 = 500;
/// The text and the sound of an undisturbed utterance end at most this far apart. After an
/// interruption the text stays open until the caller's words are final (docs/signals.md §8).
const TEXT_ENDS_WITH_SOUND_MS: i64 = 250;
/// The agent may report the end of its speech this long after the end of the sound.
const REPORTED_WITHIN_MS: i64 = 1_000;
/// Speech that stopped this close to the caller's leave was stopped by the leave.
const FORCED_WITHIN_MS: i64 = 250;
/// An agent that cannot pause stops 0.1 to 0.9 s after its caller began, as our signals show it, and the
/// caller goes on for 0.35 s or longer.
const SPOKE_BEFORE_MS: i64 = 100;
const WENT_ON_MS: i64 = 350;
/// A caller who was heard for longer than this before the agent stopped did not stop it.
const AT_MOST_BEFORE_MS: i64 = 1_500;
/// A response time that the agent reports was not measured from the caller's words if it differs
/// this much from the observed time.
const CONTRADICTS_MS: i64 = 1_500;
/// The agent talks over its caller if both go on for this long.
const TALKS_INTO_MS: i64 = 300;

/// The input of all metrics; times by our clock.
pub(crate) struct Conversation<'a> {
    pub parties: &'a Parties,
    pub view: &'a AgentView,
    pub user_segments: &'a [Segment],
    pub agent_segments: &'a [Segment],
    pub user: &'a VoiceActivity,
    pub agent: &'a VoiceActivity,
    pub user_utterances: &'a [Utterance],
    pub agent_utterances: &'a [Utterance],
    /// Signs of life that are not speech: DTMF, typed text.
    pub other_signs: &'a [Moment],
    /// Speech of callers and third parties that is used only to end a silence.
    pub other_speech: &'a [Interval],
    /// Intervals in which nothing shows whether somebody spoke.
    pub unheard: &'a [(Moment, Moment)],
    /// Intervals in which the observer did not see the room.
    pub unseen: &'a [(Moment, Moment)],
    pub start: Moment,
    pub end: Moment,
    pub silence_threshold_ms: i64,
}

impl Conversation<'_> {
    /// Whether the observer saw the room all the time from `from` to `to`.
    fn saw(&self, from: Moment, to: Moment) -> bool {
        !self.unseen.iter().any(|(start, end)| *start < to && *end > from)
    }
}

/// One response, and how long it took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Response {
    /// The end of one side's speech and the beginning of the other's; `None` if only the delay was
    /// reported.
    pub between: Option<(Moment, Moment)>,
    pub seconds: f64,
    /// The agent measured and reported `seconds`.
    pub reported: bool,
}

/// What the numbers are counts and means of.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    pub agent_responses: Vec<Response>,
    pub user_responses: Vec<Response>,
    pub silences: Vec<Interval>,
    /// When an agent's utterance was cut off by the caller.
    pub interruptions: Vec<Moment>,
    /// When the agent began to talk over its caller.
    pub talked_into: Vec<Moment>,
    pub user_utterances: Vec<Utterance>,
    pub agent_utterances: Vec<Utterance>,
    pub user_words: WordSource,
    pub agent_words: WordSource,
    pub user: VoiceActivity,
    pub agent: VoiceActivity,
    /// Milliseconds in which both sides spoke.
    pub overlap_ms: i64,
    /// When each third party spoke. It only ends silences.
    pub third_parties: Vec<(String, VoiceActivity)>,
    /// Intervals in which nothing shows whether somebody spoke.
    pub unheard: Vec<(Moment, Moment)>,
}

pub(crate) fn measure(c: &Conversation) -> Measured {
    let interruptions = interruptions(c);
    Measured {
        agent_responses: agent_responses(c),
        user_responses: user_responses(c, &interruptions),
        silences: silences(c),
        interruptions,
        talked_into: talked_into(c),
        overlap_ms: overlap_ms(c),
        ..Measured::default()
    }
}

impl Measured {
    pub fn metrics(&self) -> Metrics {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let longest = |u: &[Utterance]| u.iter().map(|u| u.words).max().unwrap_or(0);
        Metrics {
            total_user_utterances: count(self.user_utterances.len()),
            total_agent_utterances: count(self.agent_utterances.len()),
            longest_user_utterance: longest(&self.user_utterances),
            longest_agent_utterance: longest(&self.agent_utterances),
            average_user_response_time: mean(&self.user_responses),
            average_agent_response_time: mean(&self.agent_responses),
            silence_count: count(self.silences.len()),
            interruption_count: count(self.interruptions.len()),
        }
    }
}

/// Seconds; 0 if there are no responses.
fn mean(responses: &[Response]) -> f64 {
    if responses.is_empty() {
        return 0.0;
    }
    responses.iter().map(|r| r.seconds).sum::<f64>() / responses.len() as f64
}

fn observed(from: Moment, to: Moment) -> Response {
    Response { between: Some((from, to)), seconds: to.since(from) as f64 / 1000.0, reported: false }
}

/// From the end of a caller's utterance to the first sound of the agent's response. A time that the
/// agent measured is better than ours, because both its ends are on one clock. It begins when the
/// agent *heard* the caller end, so the delay of this signal is added.
fn agent_responses(c: &Conversation) -> Vec<Response> {
    let late_ms = SignalDelay::user(Tier::Feed).end;
    let users = spoken(c.user_utterances.iter());
    let observed: Vec<Response> = (users.iter().enumerate())
        .filter_map(|(n, u)| {
            let until = users.get(n + 1).map_or(Moment::MAX, |next| next.start);
            // The agent was still talking when the caller ended: its speech is not a response.
            if c.agent.before(u.end).last().is_some_and(|a| a.end > u.end) {
                return None;
            }
            let response = c.agent.from(u.end).first().filter(|a| a.start < until)?;
            c.saw(u.end, response.start).then(|| observed(u.end, response.start))
        })
        .collect();
    let observed_for = |u: &Utterance| {
        let start = u.spoken?.start;
        let n = observed.partition_point(|a| a.between.is_some_and(|(_, to)| to < start));
        observed.get(n).copied().filter(|a| a.between.is_some_and(|(_, to)| to == start))
    };
    let reported: Vec<Response> = (c.agent_utterances.iter())
        .filter_map(|u| {
            let seconds = u.e2e_latency? + late_ms as f64 / 1000.0;
            let ours = observed_for(u);
            let contradicted = ours.is_some_and(|o| {
                c.user.tier == Tier::Feed
                    && (o.seconds - seconds).abs() * 1000.0 > CONTRADICTS_MS as f64
            });
            match ours {
                Some(o) if contradicted => Some(o),
                _ => Some(Response {
                    between: ours.and_then(|o| o.between),
                    seconds,
                    reported: true,
                }),
            }
        })
        .collect();
    if reported.is_empty() { observed } else { reported }
}

/// From the end of the agent's utterance to the beginning of the caller's response.
fn user_responses(c: &Conversation, interruptions: &[Moment]) -> Vec<Response> {
    // When the caller began to type is not known.
    let users = spoken(c.user_utterances.iter().filter(|u| !u.typed));
    let mut cuts: Vec<Moment> = (c.agent_utterances.iter())
        .filter(|u| u.interrupted)
        .filter_map(|u| Some(u.spoken?.end))
        .chain(interruptions.iter().copied())
        .collect();
    cuts.sort();
    let cut = |a: &Interval| {
        let n = cuts.partition_point(|t| *t < a.end.plus(-TEXT_ENDS_WITH_SOUND_MS));
        cuts.get(n).is_some_and(|t| *t <= a.end.plus(TEXT_ENDS_WITH_SOUND_MS))
    };
    let mut out = vec![];
    for (n, a) in c.agent.intervals.iter().enumerate() {
        let until = c.agent.intervals.get(n + 1).map_or(Moment::MAX, |next| next.start);
        let next = users.partition_point(|u| u.start < a.end);
        // The caller spoke before the agent ended, or cut the agent off: that is not a response.
        if users[..next].last().is_some_and(|u| u.end > a.end) || cut(a) {
            continue;
        }
        let response = users[next..].first().filter(|u| u.start < until && c.saw(a.end, u.start));
        out.extend(response.map(|u| observed(a.end, u.start)));
    }
    out
}

/// When the utterances were spoken, in the order of their beginning.
fn spoken<'a>(utterances: impl Iterator<Item = &'a Utterance>) -> Vec<Interval> {
    let mut all: Vec<Interval> = utterances.filter_map(|u| u.spoken).collect();
    all.sort_by_key(|i| (i.start, i.end));
    all.dedup();
    all
}

/// The gaps in which nobody speaks, types or dials, from the start to the end of the call.
fn silences(c: &Conversation) -> Vec<Interval> {
    let mut all: Vec<Interval> = (c.user.intervals.iter().chain(&c.agent.intervals))
        .chain(c.other_speech)
        .copied()
        .chain(c.other_signs.iter().map(|t| Interval { start: *t, end: *t }))
        .filter(|i| i.start < c.end && i.end >= c.start)
        .collect();
    // Time in which we did not see the room, or could not hear it, does not count as silence.
    let mut out = vec![];
    let unknown = c.unseen.iter().chain(c.unheard);
    all.extend(unknown.map(|(start, end)| Interval { start: *start, end: *end }));
    all.sort_by_key(|i| i.start);
    let mut quiet_since = c.start;
    let last = Interval { start: c.end, end: c.end };
    for i in all.iter().chain([&last]) {
        if i.start.since(quiet_since) >= c.silence_threshold_ms {
            out.push(Interval { start: quiet_since, end: i.start });
        }
        quiet_since = quiet_since.max(i.end);
    }
    out
}

/// When the caller cut off an utterance of the agent. Pauses because of noise or words of assent do
/// not count, and neither does speech that the caller's leave cut off.
fn interruptions(c: &Conversation) -> Vec<Moment> {
    if c.agent.tier == Tier::Rtvi {
        let forced = |s: &Interval| s.end.plus(FORCED_WITHIN_MS) > c.end;
        let cut = c.agent_utterances.iter().filter(|u| u.interrupted).filter_map(|u| u.spoken);
        return cut.filter(|s| !forced(s)).map(|s| s.end).collect();
    }
    // Agents older than 1.7 send no times, and those before 1.5.13 never set the flag.
    let items_have_times = c.view.items.iter().any(|i| i.started_at.is_some());
    if items_have_times {
        let cut = c.agent_utterances.iter().filter(|u| u.interrupted && by_caller(c, u));
        return cut.map(|u| u.spoken.map_or(u.known_at, |s| s.end)).collect();
    }
    let mut agents = c.parties.iter().filter(|p| c.parties.role(p) == ParticipantRole::Agent);
    if agents.any(Party::spoke) { by_states(c) } else { by_streams(c) }
}

fn by_caller(c: &Conversation, u: &Utterance) -> bool {
    let Some(spoken) = u.spoken else { return u.known_at <= c.end };
    // When the caller leaves, the session closes and sets the flag on any utterance that is not
    // over.
    let forced = u.known_at > c.end && spoken.end.plus(FORCED_WITHIN_MS) > c.end;
    !forced && c.user.any_between(spoken.start, spoken.end.plus(REPORTED_WITHIN_MS))
}

/// Interruptions without the agent's own flag. The agent stopped while the caller spoke, and
///
/// * its segment was closed later than undisturbed text is, but before the agent spoke again (it may be
///   thinking by then). So do agents that can pause: they wait whether the noise was a word.
/// * or, if no segment of the call was closed so: its segment was closed with the sound in the middle of a
///   sentence, and the caller went on. So do agents that cannot pause (docs/signals.md §8.2).
fn by_states(c: &Conversation) -> Vec<Moment> {
    let mut out = vec![];
    let mut without_pause = vec![];
    for agent in c.parties.iter().filter(|p| c.parties.role(p) == ParticipantRole::Agent) {
        let mut segment = 0;
        for (k, (stopped, _)) in agent.states.iter().enumerate().skip(1) {
            let (began, before) = agent.states[k - 1];
            if before != AgentState::Speaking || stopped.plus(FORCED_WITHIN_MS) > c.end {
                continue;
            }
            let next = agent.states[k..]
                .iter()
                .find(|(_, s)| *s == AgentState::Speaking)
                .map_or(c.end.plus(LAST_WORDS_MS), |(t, _)| *t);
            let caller_spoke = (c.user.before(stopped.plus(SEEN_WITHIN_MS)).last())
                .is_some_and(|i| i.start > began && i.end.plus(SEEN_WITHIN_MS) > *stopped);
            while segment + 1 < c.agent_segments.len()
                && c.agent_segments[segment + 1].first_at <= *stopped
            {
                segment += 1;
            }
            if c.agent_segments.get(segment).is_some_and(|s| stopped_at_once(c, s, began, *stopped))
            {
                without_pause.push(*stopped);
            }
            let cut = c.agent_segments.get(segment).is_some_and(|s| {
                s.first_at <= *stopped
                    && s.closed_at
                        .is_some_and(|t| t.since(*stopped) > TEXT_ENDS_WITH_SOUND_MS && t <= next)
            });
            if caller_spoke && cut {
                out.push(*stopped);
            }
        }
    }
    if out.is_empty() { without_pause } else { out }
}

/// The agent, which spoke since `began`, fell silent at `stopped` because the caller had begun, and its text ended with
/// its sound. A caller who is heard all the time, as by a television beside it, stops nobody.
fn stopped_at_once(c: &Conversation, text: &Segment, began: Moment, stopped: Moment) -> bool {
    let of_this_speech = text.first_at <= stopped
        && text.closed_at.unwrap_or(text.last_at).since(stopped).abs() <= TEXT_ENDS_WITH_SOUND_MS;
    let spoke_over = c.user.before(stopped.plus(-SPOKE_BEFORE_MS)).last().is_some_and(|i| {
        i.start > began
            && stopped.since(i.start) <= AT_MOST_BEFORE_MS
            && i.end.since(stopped) >= WENT_ON_MS
    });
    of_this_speech && !text.ends_sentence && spoke_over
}

/// Interruptions from transcripts alone: the caller's words began while the agent's text was open,
/// and no more of that text came until it was closed.
fn by_streams(c: &Conversation) -> Vec<Moment> {
    let cut = |s: &Segment| -> Option<Moment> {
        let closed = s.closed_at.filter(|t| *t < c.end.plus(LAST_WORDS_MS))?;
        let n = c.user_segments.partition_point(|u| u.first_at <= s.first_at);
        let into = c.user_segments[n..].first().filter(|u| u.first_at < closed)?;
        let last = s.last_word();
        let stopped = last <= into.first_at.plus(CUT_AFTER_MS);
        let forced = last.plus(FORCED_WITHIN_MS) > c.end;
        (stopped && !forced && closed.since(last) > CUT_AFTER_MS).then_some(last)
    };
    c.agent_segments.iter().filter_map(cut).collect()
}

/// When the agent began while its caller spoke, and both went on.
fn talked_into(c: &Conversation) -> Vec<Moment> {
    let into = |a: &&Interval| {
        c.user.before(a.start).last().is_some_and(|u| {
            a.start.since(u.start) >= TALKS_INTO_MS
                && u.end.min(a.end).since(a.start) >= TALKS_INTO_MS
        })
    };
    c.agent.intervals.iter().filter(into).map(|a| a.start).collect()
}

fn overlap_ms(c: &Conversation) -> i64 {
    let (mut u, mut a, mut sum) = (0, 0, 0i64);
    while let (Some(x), Some(y)) = (c.user.intervals.get(u), c.agent.intervals.get(a)) {
        sum = sum.saturating_add(x.end.min(y.end).since(x.start.max(y.start)).max(0));
        if x.end <= y.end { u += 1 } else { a += 1 }
    }
    sum
}
