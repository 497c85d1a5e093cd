//! Utterances: what each side said in one go, with its times and words (CS §6.4).

use super::{
    event::{By, Moment},
    evidence::{Heard, Interval, Tier},
    feed::{AgentView, Said},
    speech::Segment,
};

/// Pieces of one side closer than this, with nothing of the other side between, are one
/// utterance: LiveKit's longest endpointing delay.
const JOIN_WITHIN_MS: i64 = 3_000;
/// Speech without any words counts from this length on, and only if nothing was transcribed.
const MIN_WORDLESS_MS: i64 = 500;

#[derive(Clone, Debug)]
pub(crate) struct Utterance {
    /// When it was spoken; `None` when no signal tells.
    pub(crate) spoken: Option<Interval>,
    pub(crate) words: u32,
    /// The agent's own word that it was cut off.
    pub(crate) interrupted: bool,
    /// The agent's own measure of its answer's delay, in seconds.
    pub(crate) e2e_latency: Option<f64>,
    /// By our clock, when we heard of it.
    pub(crate) known_at: Moment,
}

/// What the caller said.
pub(crate) fn user(
    view: &AgentView,
    segments: &[Segment],
    typed: &[(Moment, u32)],
    user: &Heard,
    agent: &Heard,
    transcribed: bool,
) -> Vec<Utterance> {
    let items: Vec<&Said> = view.items.iter().filter(|i| i.by == By::User).collect();
    let mut out: Vec<Utterance> = vec![];
    let mut before = Moment::from_millis(i64::MIN);
    for item in &items {
        let spoken = match user.tier {
            Tier::Items => match (item.started_at, item.stopped_at) {
                (Some(start), Some(end)) => Some(Interval { start, end: end.max(start) }),
                _ => None,
            },
            _ => last_chain(user, agent, before, item.created_at.unwrap_or(item.arrived)),
        };
        before = spoken.map_or(before, |s| s.end);
        out.push(Utterance {
            spoken,
            words: item.words,
            interrupted: false,
            e2e_latency: None,
            known_at: item.arrived,
        });
    }
    // What was transcribed after the last item has none of its own (yet): the room went first.
    let known = items.iter().map(|i| i.arrived).max();
    let rest: Vec<&Segment> =
        segments.iter().filter(|s| known.is_none_or(|k| s.first_at > k)).collect();
    out.extend(join(&rest, user, agent));
    // Typed words come as items too where there is a feed.
    if items.is_empty() {
        out.extend(typed.iter().map(|(at, words)| Utterance {
            spoken: None,
            words: *words,
            interrupted: false,
            e2e_latency: None,
            known_at: *at,
        }));
    }
    if out.is_empty() && !transcribed {
        let long = |i: &&Interval| i.end.since(i.start) >= MIN_WORDLESS_MS;
        out.extend(user.intervals.iter().filter(long).map(|i| Utterance {
            spoken: Some(*i),
            words: 0,
            interrupted: false,
            e2e_latency: None,
            known_at: i.end,
        }));
    }
    out
}

/// What the agent said.
pub(crate) fn agent(view: &AgentView, segments: &[Segment], agent: &Heard) -> Vec<Utterance> {
    let items: Vec<&Said> = view.items.iter().filter(|i| i.by == By::Agent).collect();
    let mut out: Vec<Utterance> = vec![];
    for item in &items {
        let start = item.started_at.or(item.created_at).unwrap_or(item.arrived);
        let streamed = matching(segments, item);
        out.push(Utterance {
            spoken: at_or_before(agent, start, item.arrived),
            // An interrupted item may hold the whole text where only its beginning was spoken.
            words: match streamed {
                Some(s) if item.interrupted && s.words > 0 => item.words.min(s.words),
                _ => item.words,
            },
            interrupted: item.interrupted,
            e2e_latency: item.e2e_latency,
            known_at: item.arrived,
        });
    }
    let known = items.iter().map(|i| i.arrived).max();
    let rest = segments.iter().filter(|s| known.is_none_or(|k| s.first_at > k));
    if agent.tier == Tier::Transcripts || agent.tier == Tier::None {
        out.extend(rest.map(|s| from_segment(s, agent)));
        return out;
    }
    // Segments of one stretch of speech are one delivery; a paused one goes on in its segment.
    let mut last: Option<(Interval, usize)> = None;
    for s in rest {
        let u = from_segment(s, agent);
        match (&last, u.spoken) {
            (Some((interval, i)), Some(spoken)) if *interval == spoken => {
                out[*i].words = out[*i].words.saturating_add(u.words);
            }
            (_, spoken) => {
                last = spoken.map(|i| (i, out.len()));
                out.push(u);
            }
        }
    }
    out
}

fn from_segment(s: &Segment, heard: &Heard) -> Utterance {
    let end = s.closed_at.unwrap_or(s.last_at);
    Utterance {
        spoken: at_or_before(heard, s.first_at, end.max(s.first_at)),
        words: s.words,
        interrupted: false,
        e2e_latency: None,
        known_at: end,
    }
}

/// The stretch of speech that `[from, to]` falls into, or the one that ended last before it.
fn at_or_before(heard: &Heard, from: Moment, to: Moment) -> Option<Interval> {
    let overlapping = heard.intervals.iter().find(|i| i.overlaps(from, to.plus(1)));
    overlapping.or_else(|| heard.intervals.iter().rev().find(|i| i.end <= from)).copied()
}

/// The streamed text of an item: the segment that was open while it was spoken.
fn matching<'a>(segments: &'a [Segment], item: &Said) -> Option<&'a Segment> {
    let start = item.started_at.or(item.created_at)?;
    let near = |s: &&Segment| s.first_at.since(start).unsigned_abs() <= 1_500;
    segments.iter().filter(near).min_by_key(|s| s.first_at.since(start).unsigned_abs())
}

/// The caller's last chain of speech that began before `until`: bursts with short pauses and no
/// agent speech between them. Noise before it is another chain.
fn last_chain(user: &Heard, agent: &Heard, after: Moment, until: Moment) -> Option<Interval> {
    let mut chain: Option<Interval> = None;
    for i in user.intervals.iter().rev().filter(|i| i.start < until && i.start >= after) {
        match &mut chain {
            None => chain = Some(*i),
            Some(c) if joins(agent, i.end, c.start) => c.start = i.start,
            Some(_) => break,
        }
    }
    chain
}

fn joins(agent: &Heard, end: Moment, start: Moment) -> bool {
    start.since(end) <= JOIN_WITHIN_MS && !agent.intervals.iter().any(|a| a.overlaps(end, start))
}

/// Consecutive segments of the caller that are one utterance.
fn join(segments: &[&Segment], user: &Heard, agent: &Heard) -> Vec<Utterance> {
    let mut out: Vec<Utterance> = vec![];
    let mut last_end: Option<Moment> = None;
    for s in segments {
        let end = s.closed_at.unwrap_or(s.last_at);
        if let (Some(e), Some(u)) = (last_end, out.last_mut())
            && joins(agent, e, s.first_at)
        {
            u.words = u.words.saturating_add(s.words);
            u.known_at = end;
            let of_segment = from_segment(s, user).spoken;
            if let (Some(i), Some(n)) = (&mut u.spoken, of_segment) {
                i.end = i.end.max(n.end);
            }
        } else {
            out.push(from_segment(s, user));
        }
        last_end = Some(end);
    }
    out
}
