//! Who spoke when. There are several signals for each side; only the best signal that a call has is
//! used for that side (docs/contract.md §4.1). All times here are by our clock.
//!
//! Every signal is late. The delay comes from the network and the jitter buffer on the way to the
//! agent, the voice detector, the speech recognition, or the server's level meter. The known delays
//! ([`SignalDelay`]) are subtracted here, in one place, so that later code works with the times of
//! the speech itself. `docs/accuracy.md` shows the remaining error.

use record::{Tier, people::ParticipantRole};

use super::{
    event::{AgentState, By, Moment, UserState},
    feed::{AgentView, FeedItem},
    interval::{Interval, Latest},
    parties::Parties,
    party::Party,
    roles::Side,
    rtvi::Turn,
    speech::{A_WORD_MS, Segment},
};

/// The shortest interval of speech that a signal shows.
const SHORTEST_MS: i64 = 200;

/// How late a signal reports the beginning and the end of speech, in milliseconds: medians over
/// recorded calls of Python and Node agents with phone and browser callers (docs/contract.md §4.2,
/// docs/signals.md §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SignalDelay {
    pub start: i64,
    pub end: i64,
}

impl SignalDelay {
    const fn new(start: i64, end: i64) -> Self {
        Self { start, end }
    }

    /// For the caller's speech.
    pub(crate) const fn user(tier: Tier) -> Self {
        match tier {
            // The agent hears its caller through network and jitter buffer. Its voice detector
            // backdates to the sound as the agent heard it.
            Tier::Feed | Tier::Items => Self::new(75, 110),
            // The server's meter: windows of 400 ms, smoothed.
            Tier::Speakers => Self::new(440, 890),
            // The first interim and the final text of the speech recognition.
            Tier::Transcripts => Self::new(520, 475),
            // The delays of RTVI are subtracted when its messages are taken.
            Tier::State | Tier::Rtvi | Tier::None => Self::new(0, 0),
        }
    }

    /// For the agent's speech, compared with the time at which the agent hands sound to its track.
    pub(crate) const fn agent(tier: Tier) -> Self {
        match tier {
            Tier::Feed | Tier::Items | Tier::Rtvi | Tier::None => Self::new(0, 0),
            // The attribute's way through the server.
            Tier::State => Self::new(10, 10),
            Tier::Speakers => Self::new(410, 830),
            // Text is released with the sound, the first word shortly after the sound began.
            Tier::Transcripts => Self::new(270, 0),
        }
    }
}

/// One side's speech.
#[derive(Clone, Debug, Default)]
pub struct VoiceActivity {
    pub tier: Tier,
    /// In order, not overlapping.
    pub intervals: Vec<Interval>,
}

impl VoiceActivity {
    fn new(tier: Tier, late: SignalDelay, mut intervals: Vec<Interval>) -> Self {
        for i in &mut intervals {
            let (start, end) = (i.start, i.end);
            i.start = start.plus(-late.start);
            // Keep at least SHORTEST_MS, and never move an end past the observed end.
            i.end = end.plus(-late.end).max(i.start.plus(SHORTEST_MS)).min(end).max(i.start);
        }
        intervals.sort_by_key(|i| (i.start, i.end));
        let mut merged: Vec<Interval> = vec![];
        for i in intervals {
            match merged.last_mut() {
                Some(last) if i.start <= last.end => last.end = last.end.max(i.end),
                _ => merged.push(i),
            }
        }
        let tier = if merged.is_empty() { Tier::None } else { tier };
        Self { tier, intervals: merged }
    }

    /// The intervals that begin at `from` or later.
    pub fn from(&self, from: Moment) -> &[Interval] {
        &self.intervals[self.intervals.partition_point(|i| i.start < from)..]
    }

    /// The intervals that begin before `until`, in order.
    pub fn before(&self, until: Moment) -> &[Interval] {
        &self.intervals[..self.intervals.partition_point(|i| i.start < until)]
    }

    /// Whether there is speech between the two.
    pub fn any_between(&self, from: Moment, to: Moment) -> bool {
        // The intervals do not overlap, so only the last one that begins before `to` can reach past
        // `from`.
        self.before(to).last().is_some_and(|i| i.end > from)
    }

    pub fn total_ms(&self) -> i64 {
        self.intervals.iter().fold(0i64, |sum, i| sum.saturating_add(i.ms()))
    }
}

/// What the observer has of one side.
#[derive(Clone, Copy)]
pub(crate) struct Signals<'a> {
    pub parties: &'a Parties,
    pub view: &'a AgentView,
    pub segments: &'a [Segment],
    pub rtvi: &'a [&'a Turn],
    pub unseen: &'a [(Moment, Moment)],
    /// The end of the call.
    pub until: Moment,
}

pub(crate) fn agent(signals: Signals) -> VoiceActivity {
    let Signals { parties, view, segments, rtvi, unseen, until } = signals;
    let activity = |tier, all| VoiceActivity::new(tier, SignalDelay::agent(tier), all);
    let speaking = |s: &AgentState| *s == AgentState::Speaking;
    let agents = || parties.iter().filter(|p| parties.role(p) == ParticipantRole::Agent);
    // A feed may be a fragment: Node agents broadcast it only while no caller is linked.
    let in_feed = beginnings(view.sessions.iter().flat_map(|s| &s.agent_states), speaking);
    let in_attributes =
        beginnings(agents().flat_map(|p| &p.states).filter(|(t, _)| *t <= until), speaking);
    if in_feed > 0 && COVERS * in_feed >= in_attributes {
        let mut all = vec![];
        for s in &view.sessions {
            let gone = s.gone_at.map_or(until, |t| t.min(until));
            all.extend(spans(s.agent_states.iter().map(|(t, s)| (*t, speaking(s))), gone));
        }
        let since = view.sessions.iter().filter_map(|s| s.agent_states.first()).map(|(t, _)| *t);
        all.extend(unwatched(view, By::Agent, since.min(), unseen));
        all.extend(pauses(view, &all, segments));
        return activity(Tier::Feed, all);
    }
    let mut states: Vec<Interval> = vec![];
    for agent in agents() {
        let gone = agent.gone_at().map_or(until, |t| t.min(until));
        states.extend(spans(agent.states.iter().map(|(t, s)| (*t, speaking(s))), gone));
    }
    if !states.is_empty() {
        let since = agents().filter_map(|p| p.states.first()).map(|(t, _)| *t).min();
        // The times of items do not have the delay of states: add it, because it is subtracted from
        // all.
        let late = SignalDelay::agent(Tier::State);
        states.extend(
            unwatched(view, By::Agent, since, unseen)
                .into_iter()
                .map(|i| Interval { start: i.start.plus(late.start), end: i.end.plus(late.end) }),
        );
        states.extend(pauses(view, &states, segments));
        return activity(Tier::State, states);
    }
    if !segments.is_empty() {
        let all = segments.iter().map(|s| Interval { start: s.first_at, end: s.sound_end() });
        return activity(Tier::Transcripts, all.collect());
    }
    let of = |p: &&Party| parties.side(&p.identity) == Some(Side::Agent);
    let metered = activity(Tier::Speakers, by_speakers(parties.iter().filter(of), until));
    if rtvi.is_empty() {
        return metered;
    }
    activity(Tier::Rtvi, rtvi_bot(rtvi, &metered, until))
}

/// When a Pipecat bot spoke. Its starts and cut-offs are exact. A natural end is reported too early, so
/// there the meter decides, if it has shown that speech.
fn rtvi_bot(turns: &[&Turn], metered: &VoiceActivity, until: Moment) -> Vec<Interval> {
    /// The bot's queue and the meter's error.
    const METERED_WITHIN_MS: i64 = 1_500;
    let mut out = vec![];
    for (n, turn) in turns.iter().enumerate() {
        let mut spoken = turn.of_bot(until);
        let next = turns.get(n + 1).map_or(until, |next| next.start);
        if turn.ended_by_itself() {
            let latest = spoken.end.plus(METERED_WITHIN_MS).min(next);
            let heard = metered.before(latest).last().filter(|i| i.end > spoken.start);
            spoken.end = heard.map_or(spoken.end, |i| i.end);
        }
        spoken.end = spoken.end.min(next).max(spoken.start);
        out.push(spoken);
    }
    out
}

/// A source of states is used if it reports at least one in this many of the states or items that
/// another source reports.
const COVERS: usize = 2;

/// How often a state was entered.
fn beginnings<'a, T: 'a>(
    states: impl Iterator<Item = &'a (Moment, T)>,
    is: impl Fn(&T) -> bool,
) -> usize {
    states.filter(|(_, s)| is(s)).count()
}

pub(crate) fn user(signals: Signals, agent: &VoiceActivity) -> VoiceActivity {
    let Signals { parties, view, segments, rtvi, unseen, until } = signals;
    let activity = |tier, all| VoiceActivity::new(tier, SignalDelay::user(tier), all);
    let speaking = |s: &UserState| *s == UserState::Speaking;
    let of_user = || view.items.iter().filter(|i| i.by == By::User);
    let in_feed = beginnings(view.sessions.iter().flat_map(|s| &s.user_states), speaking);
    if in_feed > 0 && COVERS * in_feed >= of_user().count() {
        let mut all = vec![];
        for s in &view.sessions {
            let gone = s.gone_at.map_or(until, |t| t.min(until));
            let spoken = spans(s.user_states.iter().map(|(t, s)| (*t, speaking(s))), gone);
            all.extend(spoken.into_iter().map(|i| until_last_word(i, segments)));
        }
        if view.hears_by_itself() && of_user().all(|i| i.stopped_at.is_none()) {
            until_metered_end(&mut all, parties, until);
        }
        let since = view.sessions.iter().filter_map(|s| s.user_states.first()).map(|(t, _)| *t);
        all.extend(unwatched(view, By::User, since.min(), unseen));
        return activity(Tier::Feed, all);
    }
    let timed = of_user().filter(|i| i.started_at.is_some() && i.stopped_at.is_some()).count();
    // The last turn often has no times, so one item without times is allowed.
    if timed > 0 && timed + 1 >= of_user().count() {
        let mut items = vec![];
        let mut since = Moment::MIN;
        let ends = Latest::of(segments.iter().map(Segment::end));
        for i in of_user() {
            let transcribed = || item_transcribed(i, since, segments, until);
            items.extend(item_spoken(i, segments, &ends).or_else(transcribed));
            // The transcript of a short turn comes after the turn's end, but before the agent
            // accepts the turn.
            since = i.created_at.unwrap_or(i.arrived);
        }
        return activity(Tier::Items, items);
    }
    if segments.is_empty() && !rtvi.is_empty() {
        return rtvi_user(parties, rtvi, until);
    }
    // Callers with a transcript speak with the agent. Other callers may be in the room too, such as
    // a colleague to whom the call was transferred.
    let transcribed: Vec<&Party> =
        (parties.callers()).filter(|p| segments.iter().any(|s| s.identity == p.identity)).collect();
    let speakers = if transcribed.is_empty() {
        by_speakers(parties.callers(), until)
    } else {
        by_speakers(transcribed.into_iter(), until)
    };
    let timely = segments.iter().filter(|s| !came_after_the_answer(s, agent));
    let transcripts = timely.map(|s| transcribed_speech(s, until));
    if speakers.is_empty() {
        return activity(Tier::Transcripts, transcripts.collect());
    }
    // Words too short for the meter are added from the transcript.
    let (of_text, of_meter) =
        (SignalDelay::user(Tier::Transcripts), SignalDelay::user(Tier::Speakers));
    let metered = VoiceActivity::new(Tier::Speakers, of_meter, speakers.clone());
    let unmetered = transcripts.filter(|i| {
        let (start, end) = (i.start.plus(-of_text.start), i.end.plus(-of_text.end));
        !metered.any_between(start.plus(-SHORTEST_MS), end.max(start).plus(SHORTEST_MS))
    });
    let all = speakers.iter().copied().chain(unmetered.map(|i| Interval {
        start: i.start.plus(of_meter.start - of_text.start),
        end: i.end.plus(of_meter.end - of_text.end),
    }));
    activity(Tier::Speakers, all.collect())
}

/// Speech-to-speech models report the end of a turn after the silence by which they recognize it, and the session
/// passes that on as it comes. The meter shows when the caller really stopped.
///
/// Ends that are right stay as they are: they differ from the meter by less than it is wrong.
fn until_metered_end(states: &mut [Interval], parties: &Parties, until: Moment) {
    const METER_IS_WRONG_BY_MS: i64 = 300;
    /// A longer silence ends a turn in no model; the meter may have missed a quiet word.
    const LONGEST_SILENCE_MS: i64 = 1_500;
    let (feed, of_meter) = (SignalDelay::user(Tier::Feed), SignalDelay::user(Tier::Speakers));
    let speakers = by_speakers(parties.callers(), until);
    let metered = VoiceActivity::new(Tier::Speakers, of_meter, speakers);
    for state in states {
        let Some(heard) = metered.before(state.end).last() else { continue };
        // The delay of the feed is subtracted from all intervals later.
        let end = heard.end.plus(feed.end);
        let late = state.end.since(end);
        if heard.end > state.start && (METER_IS_WRONG_BY_MS..LONGEST_SILENCE_MS).contains(&late) {
            state.end = end;
        }
    }
}

/// Whether the words came only while the agent spoke. Speech-to-speech models transcribe their caller beside the
/// answer, up to two seconds late, so that nothing shows when the words were spoken.
fn came_after_the_answer(s: &Segment, agent: &VoiceActivity) -> bool {
    !s.had_interim && agent.before(s.last_at).last().is_some_and(|a| a.end > s.last_at)
}

/// About when such words were spoken. It only ends silences.
pub(crate) fn speech_of_late_words(
    segments: &[Segment],
    agent: &VoiceActivity,
    until: Moment,
) -> Vec<Interval> {
    let late = segments.iter().filter(|s| came_after_the_answer(s, agent));
    let spoken = late.map(|s| transcribed_speech(s, until)).collect();
    VoiceActivity::new(Tier::Transcripts, SignalDelay::user(Tier::Transcripts), spoken).intervals
}

/// When the users of a Pipecat bot spoke: by the server's meter, and by the bot's turns where the meter
/// shows nothing, as for phone legs.
fn rtvi_user(parties: &Parties, turns: &[&Turn], until: Moment) -> VoiceActivity {
    let of_meter = SignalDelay::user(Tier::Speakers);
    let named: Vec<&Party> = (parties.callers())
        .filter(|p| turns.iter().any(|t| t.by.as_deref() == Some(p.identity.as_str())))
        .collect();
    let speakers = if named.is_empty() {
        by_speakers(parties.callers(), until)
    } else {
        by_speakers(named.into_iter(), until)
    };
    let turns = turns.iter().map(|t| t.of_user(until));
    if speakers.is_empty() {
        return VoiceActivity::new(Tier::Rtvi, SignalDelay::user(Tier::Rtvi), turns.collect());
    }
    let metered = VoiceActivity::new(Tier::Speakers, of_meter, speakers.clone());
    let unmetered = turns
        .filter(|i| !metered.any_between(i.start.plus(-SHORTEST_MS), i.end.plus(SHORTEST_MS)))
        .map(|i| Interval { start: i.start.plus(of_meter.start), end: i.end.plus(of_meter.end) });
    let all = speakers.into_iter().chain(unmetered).collect();
    VoiceActivity::new(Tier::Speakers, of_meter, all)
}

/// Callers' speech that the server's meter shows after the last report of any session. When an
/// agent has closed its session, only the meter shows that a caller still speaks.
pub(crate) fn speech_after_feed(
    parties: &Parties,
    view: &AgentView,
    until: Moment,
) -> Vec<Interval> {
    let states = |s: &super::feed::Session| {
        let last = (s.agent_states.last().map(|(t, _)| *t), s.user_states.last().map(|(t, _)| *t));
        last.0.max(last.1)
    };
    let Some(last) = view.sessions.iter().filter_map(states).max() else { return vec![] };
    let after = by_speakers(parties.callers(), until).into_iter().filter(|i| i.start > last);
    VoiceActivity::new(Tier::Speakers, SignalDelay::user(Tier::Speakers), after.collect()).intervals
}

/// When each third party spoke, by the server's meter. It only ends silences.
pub(crate) fn each_third_party(parties: &Parties, until: Moment) -> Vec<(String, VoiceActivity)> {
    let late = SignalDelay::user(Tier::Speakers);
    let activity = |p: &Party| {
        let all = by_speakers(std::iter::once(p), until);
        (p.identity.clone(), VoiceActivity::new(Tier::Speakers, late, all))
    };
    parties.third_parties().map(activity).collect()
}

/// Parts of the call in which humans were connected with each other, no agent was there, and no level
/// shows who spoke: nothing shows whether they were silent.
pub(crate) fn unheard(parties: &Parties, start: Moment, end: Moment) -> Vec<(Moment, Moment)> {
    let mut edges = vec![start, end];
    let humans = || parties.callers().chain(parties.third_parties());
    let agents = || parties.voice_agents();
    edges.extend(humans().flat_map(Party::stays).filter_map(|s| s.connected));
    edges.extend(humans().chain(agents()).flat_map(Party::stays).filter_map(|s| s.gone));
    edges.extend(agents().flat_map(Party::stays).map(|s| s.from));
    edges.retain(|t| (start..=end).contains(t));
    edges.sort();
    edges.dedup();
    let mut out: Vec<(Moment, Moment)> = vec![];
    for pair in edges.windows(2) {
        let &[from, to] = pair else { continue };
        let there: Vec<&Party> = humans().filter(|p| p.was_connected(from.plus(1))).collect();
        let served = agents().flat_map(Party::stays).any(|s| s.overlaps(from, from));
        let levels = there.iter().all(|p| !p.speaking.is_empty());
        if there.len() < 2 || served || levels {
            continue;
        }
        match out.last_mut().filter(|last| last.1 == from) {
            Some(last) => last.1 = to,
            None => out.push((from, to)),
        }
    }
    out
}

/// Ends a span of the state "speaking" with its words: a button that is held, or a state that is never
/// reset, lasts longer.
fn until_last_word(span: Interval, segments: &[Segment]) -> Interval {
    /// The final text of speech comes earlier than this after its end.
    const HELD_MS: i64 = 1_500;
    let from = segments.partition_point(|s| s.first_at < span.start);
    let to = segments.partition_point(|s| s.first_at < span.end);
    let words = segments.get(from..to).unwrap_or_default();
    let Some(last) = words.iter().map(|s| s.last_at).max() else { return span };
    if span.end.since(last) < HELD_MS {
        return span;
    }
    let late = SignalDelay::user(Tier::Feed).end - SignalDelay::user(Tier::Transcripts).end;
    Interval { start: span.start, end: last.plus(late).max(span.start) }
}

/// When an item was spoken, by its own times. Its start may be that of an earlier noise
/// (docs/signals.md §7.3): then the first interim text counts. `ends`: those of the segments.
fn item_spoken(item: &FeedItem, segments: &[Segment], ends: &Latest) -> Option<Interval> {
    /// A start this long before the first text belongs to something else.
    const STALE_MS: i64 = 1_500;
    let (start, end) = (item.started_at?, item.stopped_at?);
    let first_text = (ends.first_from(start).and_then(|place| segments.get(place)))
        .map(|s| s.first_at)
        .filter(|first_at| *first_at <= end.plus(STALE_MS));
    let start = match first_text {
        Some(text) if text.since(start) > STALE_MS => text.plus(
            SignalDelay::user(Tier::Items).start - SignalDelay::user(Tier::Transcripts).start,
        ),
        _ => start,
    };
    Some(Interval { start, end: end.max(start) })
}

/// When an item without times was spoken, by the transcripts since the item before. The result has
/// the delay of items, which is shorter than that of transcripts, because [`VoiceActivity::new`]
/// subtracts it.
fn item_transcribed(
    item: &FeedItem,
    since: Moment,
    segments: &[Segment],
    until: Moment,
) -> Option<Interval> {
    let from = segments.partition_point(|s| s.first_at <= since);
    let to = segments.partition_point(|s| s.first_at <= item.arrived);
    let of = segments.get(from..to).unwrap_or_default();
    let (first, last) =
        (transcribed_speech(of.first()?, until), transcribed_speech(of.last()?, until));
    let (items, transcripts) =
        (SignalDelay::user(Tier::Items), SignalDelay::user(Tier::Transcripts));
    let start = first.start.plus(items.start - transcripts.start);
    Some(Interval { start, end: last.end.plus(items.end - transcripts.end).max(start) })
}

/// When a caller's segment was spoken: from its first interim to its final text. If the text came
/// all at once, only the end is known, and the length is estimated from the number of words. When
/// the caller leaves, the agent closes the segment at once: that text is not late, and the speech
/// ended with the leave.
fn transcribed_speech(s: &Segment, until: Moment) -> Interval {
    let late = SignalDelay::user(Tier::Transcripts);
    let end = if s.last_at >= until { until.plus(late.end) } else { s.last_at };
    if s.had_interim {
        return Interval { start: s.first_at.min(end), end };
    }
    let spoke_for = i64::from(s.words).saturating_mul(A_WORD_MS).min(30_000);
    Interval { start: end.plus(late.start - late.end - spoke_for), end }
}

/// Speech before our first state (after a late join) or while we did not see the room, from the
/// items of the history, which have the same clock.
fn unwatched(
    view: &AgentView,
    by: By,
    states_since: Option<Moment>,
    unseen: &[(Moment, Moment)],
) -> Vec<Interval> {
    let Some(since) = states_since else { return vec![] };
    let missed = |i: &Interval| {
        i.end < since || unseen.iter().any(|(from, to)| i.start < *to && i.end > *from)
    };
    let of = view.items.iter().filter(|i| i.by == by);
    of.filter_map(|i| Some(Interval { start: i.started_at?, end: i.stopped_at? }))
        .filter(|i| i.start < i.end && missed(i))
        .collect()
}

/// Pauses within one utterance of the agent: it fell silent because of a noise, and went on in the
/// same segment (docs/signals.md §8). If the agent reports a pause as a false interruption, it
/// counts too.
fn pauses(view: &AgentView, spoken: &[Interval], segments: &[Segment]) -> Vec<Interval> {
    /// Text closes up to this long after the sound it belongs to.
    const TEXT_LATE_MS: i64 = 300;
    let mut sorted = spoken.to_vec();
    sorted.sort_by_key(|i| (i.start, i.end));
    let mut resumed: Vec<Moment> =
        view.false_interruptions.iter().filter(|(_, r)| *r).map(|(t, _)| *t).collect();
    resumed.sort();
    let mut out = vec![];
    // The beginning of the utterance that is paused, perhaps more than once.
    let Some(mut began) = sorted.first().map(|i| i.start) else { return out };
    for pair in sorted.windows(2) {
        let pause = Interval { start: pair[0].end, end: pair[1].start };
        let from = segments.partition_point(|s| s.first_at < began.plus(-TEXT_LATE_MS));
        let went_on = (segments[from..].iter())
            .take_while(|s| s.first_at < pause.start)
            .any(|s| s.end() > pause.end.plus(TEXT_LATE_MS));
        let n = resumed.partition_point(|t| *t <= pause.end.plus(-250));
        let reported = resumed.get(n).is_some_and(|t| *t < pause.end.plus(250));
        if pause.start < pause.end && (went_on || reported) {
            out.push(pause);
        } else {
            began = pair[1].start;
        }
    }
    out
}

fn by_speakers<'a>(of: impl Iterator<Item = &'a Party>, until: Moment) -> Vec<Interval> {
    of.flat_map(|p| spans(p.speaking.iter().copied(), until)).collect()
}

/// The intervals between "on" and "off" marks. An interval without "off" lasts until `until`.
fn spans(marks: impl Iterator<Item = (Moment, bool)>, until: Moment) -> Vec<Interval> {
    let mut out = vec![];
    let mut since: Option<Moment> = None;
    for (at, on) in marks {
        match (on, since) {
            (true, None) => since = Some(at),
            (false, Some(start)) => {
                out.push(Interval { start, end: at.max(start) });
                since = None;
            }
            _ => {}
        }
    }
    if let Some(start) = since.filter(|s| *s < until) {
        out.push(Interval { start, end: until });
    }
    out
}
