//! The timeline of the details: a call in moments and spans, without a word of it.

use record::{
    By, Moment,
    timeline::{CutOff, Gap, KeyedAt, LineKind, ResponseGap, Span, Timeline},
};

use super::{
    evidence::VoiceActivity,
    interval::Interval,
    keyed::Keyed,
    metrics::{Measured, Response},
    turns::Utterance,
};

pub(crate) struct TimelineInput<'a> {
    pub measured: &'a Measured,
    pub keyed: &'a Keyed,
    /// The caller, if it was the only one.
    pub only_caller: Option<&'a str>,
    pub unseen: &'a [(Moment, Moment)],
}

pub(crate) fn build(s: &TimelineInput) -> Timeline {
    let m = s.measured;
    let mut speech: Vec<(Moment, Span)> = vec![];
    let sides = [
        (By::User, &m.user, &m.user_utterances, s.only_caller),
        (By::Agent, &m.agent, &m.agent_utterances, None),
    ];
    for (by, activity, utterances, only) in sides {
        let known = known(utterances);
        for i in &activity.intervals {
            let who = speaker(i, &known).or(only).map(str::to_owned);
            speech.push((i.start, span(Some(by), who, i, activity)));
        }
    }
    for (identity, activity) in &m.third_parties {
        let of = |i: &Interval| (i.start, span(None, Some(identity.clone()), i, activity));
        speech.extend(activity.intervals.iter().map(of));
    }
    speech.sort_by_key(|(at, _)| *at);
    let mut responses: Vec<(Moment, ResponseGap)> = vec![];
    for (by, all, utterances) in [
        (By::User, &m.user_responses, &m.user_utterances),
        (By::Agent, &m.agent_responses, &m.agent_utterances),
    ] {
        responses.extend(all.iter().map(|r| response(by, r, utterances)));
    }
    responses.sort_by_key(|(at, _)| *at);
    let cut = |by| move |at: &Moment| (*at, CutOff { at: at.to_rfc3339(), by });
    let mut cut_offs: Vec<(Moment, CutOff)> = m.interruptions.iter().map(cut(By::User)).collect();
    cut_offs.extend(m.talked_into.iter().map(cut(By::Agent)));
    cut_offs.sort_by_key(|(at, _)| *at);
    let mut keyed: Vec<(Moment, KeyedAt)> = vec![];
    let at = |at: Moment, identity: &String, kind| {
        (at, KeyedAt { at: at.to_rfc3339(), identity: identity.clone(), kind })
    };
    keyed.extend(s.keyed.typed.iter().map(|t| at(t.at, &t.by, LineKind::Typed)));
    keyed.extend(s.keyed.dialled.iter().map(|d| at(d.at, &d.by, LineKind::Dialled)));
    keyed.sort_by_key(|(at, _)| *at);
    Timeline {
        speech: speech.into_iter().map(|(_, span)| span).collect(),
        responses: responses.into_iter().map(|(_, r)| r).collect(),
        cut_offs: cut_offs.into_iter().map(|(_, c)| c).collect(),
        silences: m.silences.iter().map(|i| gap(&(i.start, i.end))).collect(),
        keyed: keyed.into_iter().map(|(_, k)| k).collect(),
        unheard: m.unheard.iter().map(gap).collect(),
        gaps: s.unseen.iter().map(gap).collect(),
    }
}

pub(crate) fn gap((from, to): &(Moment, Moment)) -> Gap {
    Gap { from: from.to_rfc3339(), to: to.to_rfc3339() }
}

fn span(by: Option<By>, identity: Option<String>, i: &Interval, activity: &VoiceActivity) -> Span {
    let (from, to) = (i.start.to_rfc3339(), i.end.to_rfc3339());
    Span { by, identity, from, to, basis: activity.tier }
}

/// Utterances that were spoken by a known participant, in the order of their beginning.
fn known(utterances: &[Utterance]) -> Vec<(Interval, &str)> {
    let mut all: Vec<(Interval, &str)> =
        utterances.iter().filter_map(|u| Some((u.spoken?, u.who.as_deref()?))).collect();
    all.sort_by_key(|(i, _)| i.start);
    all
}

/// The participant whose utterance overlaps the interval most. Only the latest before its end are looked at:
/// utterances of one side hardly overlap, and there may be many thousands.
fn speaker<'a>(i: &Interval, known: &[(Interval, &'a str)]) -> Option<&'a str> {
    const LOOKED_AT: usize = 32;
    let n = known.partition_point(|(spoken, _)| spoken.start < i.end);
    let shared = |s: &Interval| s.end.min(i.end).since(s.start.max(i.start));
    let near = known[..n].iter().rev().take(LOOKED_AT).filter(|(s, _)| shared(s) > 0);
    near.max_by_key(|(s, _)| shared(s)).map(|(_, who)| *who)
}

fn response(by: By, r: &Response, utterances: &[Utterance]) -> (Moment, ResponseGap) {
    let starts = |at: Moment| {
        let n = utterances.iter().position(|u| u.spoken.is_some_and(|s| s.start == at));
        n.and_then(|n| u32::try_from(n).ok())
    };
    let gap = ResponseGap {
        by,
        from: r.between.map(|(from, _)| from.to_rfc3339()),
        to: r.between.map(|(_, to)| to.to_rfc3339()),
        seconds: r.seconds,
        reported: r.reported,
        turn: r.between.and_then(|(_, to)| starts(to)),
    };
    (r.between.map_or(Moment::MAX, |(from, _)| from), gap)
}
