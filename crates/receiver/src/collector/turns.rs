//! What each answer of the agent waited for, made from its spans.
//!
//! Seconds count from the moment at which the agent heard the caller stop. Parts may overlap: a reply may be prepared
//! before the turn is decided.

use std::collections::BTreeMap;

use serde::Serialize;

use super::facts::Span;

/// Levels between a span and its turn.
const DEEPEST: usize = 12;
/// Milliseconds after which speech of the agent is no answer.
const LATEST: i64 = 60_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Until the words of the caller were final.
    Transcript,
    /// Until the agent decided that the caller has finished.
    EndOfTurn,
    /// From a request to the language model to its first token.
    Model,
    /// A tool ran.
    Tool,
    /// From a request to the voice to its first sound.
    Voice,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Part {
    pub(crate) kind: Kind,
    /// Seconds from the caller's end.
    pub(crate) from: f64,
    pub(crate) to: f64,
}

/// An answer, or something that the agent said by itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Turn {
    /// Milliseconds since 1970 by the agent's clock: when it began to speak.
    #[serde(skip)]
    pub(crate) spoke_at: i64,
    #[serde(skip)]
    pub(crate) spoke_until: i64,
    /// Seconds from the caller's end to the first sound; null if it answers nobody.
    pub(crate) wait: Option<f64>,
    pub(crate) parts: Vec<Part>,
    pub(crate) interrupted: bool,
    pub(crate) interrupted_by: Option<String>,
}

/// `spans` are in the order of time.
pub(crate) fn of(spans: &[Span]) -> Vec<Turn> {
    let by_id: BTreeMap<&str, &Span> = spans.iter().map(|span| (span.id.as_str(), span)).collect();
    let mut groups: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
    for span in spans {
        if let Some(turn) = turn_of(span, &by_id) {
            let key = turn.speech.as_deref().unwrap_or(&turn.id);
            groups.entry(key).or_default().push(span);
        } else if span.name == "agent_speaking" {
            // Its turn was never sent: Node does not flush, and a crash ends everything.
            groups.entry(&span.id).or_default().push(span);
        }
    }
    let speaking = |group: &Vec<&Span>| {
        let mut all = group.iter().filter(|span| span.name == "agent_speaking");
        let first = *all.next()?;
        Some((first.from, all.map(|span| span.to).fold(first.to, i64::max)))
    };
    let mut answers: Vec<(i64, i64, Vec<&Span>)> = groups
        .into_values()
        .filter_map(|group| speaking(&group).map(|(from, to)| (from, to, group)))
        .collect();
    answers.sort_by_key(|(from, ..)| *from);

    let mut callers: Vec<(i64, &Span)> = callers(spans, &by_id);
    let mut turns = vec![];
    for (from, to, group) in answers {
        // Each turn of the caller is answered once; those before the last one were not answered.
        let before = callers.iter().rposition(|(stop, _)| *stop <= from && from - stop < LATEST);
        let caller = before.and_then(|at| callers.drain(..=at).next_back());
        let reported = group.iter().find_map(|span| span.e2e_latency);
        let measured = caller.map(|(stop, _)| seconds(from - stop));
        let turn = |span: &&&Span| span.name == "agent_turn" && span.interrupted == Some(true);
        let cut = group.iter().find(turn);
        turns.push(Turn {
            spoke_at: from,
            spoke_until: to,
            wait: reported.or(measured),
            parts: caller.map_or(vec![], |(stop, caller)| parts(stop, caller, from, &group)),
            interrupted: cut.is_some(),
            interrupted_by: cut.and_then(|span| span.interruption_source.clone()),
        });
    }
    turns
}

/// The agent's turn that a span is in, or is.
fn turn_of<'a>(span: &'a Span, by_id: &BTreeMap<&str, &'a Span>) -> Option<&'a Span> {
    let mut at = span;
    for _ in 0..DEEPEST {
        if at.name == "agent_turn" {
            return Some(at);
        }
        at = by_id.get(at.parent.as_str()).copied()?;
    }
    None
}

/// Turns of the caller, with the moment at which the agent heard the caller stop.
fn callers<'a>(spans: &'a [Span], by_id: &BTreeMap<&str, &'a Span>) -> Vec<(i64, &'a Span)> {
    let mut stops: BTreeMap<&str, i64> = BTreeMap::new();
    for span in spans.iter().filter(|span| span.name == "user_speaking") {
        if by_id.get(span.parent.as_str()).is_some_and(|turn| turn.name == "user_turn") {
            let stop = stops.entry(span.parent.as_str()).or_insert(span.to);
            *stop = span.to.max(*stop);
        }
    }
    let turns = spans.iter().filter(|span| span.name == "user_turn");
    let mut all: Vec<(i64, &Span)> = turns
        .map(|turn| {
            let stop = stops.get(turn.id.as_str()).copied();
            (stop.unwrap_or(turn.to - millis(turn.end_of_turn_delay.unwrap_or_default())), turn)
        })
        .collect();
    all.sort_by_key(|(stop, _)| *stop);
    all
}

fn parts(stop: i64, caller: &Span, spoke_at: i64, group: &[&Span]) -> Vec<Part> {
    let mut parts = vec![];
    let mut add = |kind, from: f64, to: f64| {
        if from <= seconds(spoke_at - stop) && to >= from {
            parts.push(Part { kind, from, to });
        }
    };
    if let Some(delay) = caller.transcription_delay {
        add(Kind::Transcript, 0.0, delay);
    }
    if let Some(delay) = caller.end_of_turn_delay {
        add(Kind::EndOfTurn, 0.0, delay);
    }
    for span in group {
        let from = seconds(span.from - stop);
        let to = span.first.map_or_else(|| seconds(span.to - stop), |first| from + first);
        match span.name.as_str() {
            "llm_node" => add(Kind::Model, from, to),
            "function_tool" => add(Kind::Tool, from, seconds(span.to - stop)),
            "tts_node" => add(Kind::Voice, from, to),
            _ => {}
        }
    }
    parts
}

#[allow(clippy::cast_precision_loss)]
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1_000.0
}

#[allow(clippy::cast_possible_truncation)]
fn millis(seconds: f64) -> i64 {
    (seconds * 1_000.0).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(id: &str, parent: &str, name: &str, from: i64, to: i64) -> Span {
        let text = str::to_owned;
        Span { id: text(id), parent: text(parent), name: text(name), from, to, ..Span::default() }
    }

    #[test]
    fn an_answer_has_the_parts_of_all_its_turns() {
        let mut user = span("u", "s", "user_turn", 1_000, 3_800);
        (user.transcription_delay, user.end_of_turn_delay) = (Some(0.3), Some(0.8));
        // Node: a turn with a tool is two turns of one speech.
        let mut first = span("t1", "s", "agent_turn", 3_310, 4_100);
        let mut second = span("t2", "s", "agent_turn", 4_100, 6_000);
        (first.speech, second.speech) = (Some("x".into()), Some("x".into()));
        second.e2e_latency = Some(1.523);
        second.interrupted = Some(true);
        let mut model = span("m", "t1", "llm_node", 3_310, 3_700);
        model.first = Some(0.303);
        let spans = [
            span("w", "u", "user_speaking", 1_000, 3_000),
            user,
            first,
            model,
            span("f", "t1", "function_tool", 3_850, 4_100),
            second,
            span("v", "t2", "tts_node", 4_400, 4_550),
            span("a", "t2", "agent_speaking", 4_523, 6_000),
            // Prepared, and thrown away.
            span("t3", "s", "agent_turn", 6_000, 6_100),
        ];
        let turns = of(&spans);
        assert_eq!(turns.len(), 1);
        assert_eq!((turns[0].wait, turns[0].interrupted), (Some(1.523), true));
        let kinds: Vec<(Kind, f64, f64)> =
            turns[0].parts.iter().map(|part| (part.kind, part.from, part.to)).collect();
        assert_eq!(
            kinds,
            [
                (Kind::Transcript, 0.0, 0.3),
                (Kind::EndOfTurn, 0.0, 0.8),
                (Kind::Model, 0.31, 0.613),
                (Kind::Tool, 0.85, 1.1),
                (Kind::Voice, 1.4, 1.55),
            ]
        );
    }

    #[test]
    fn a_greeting_answers_nobody() {
        let spans = [span("a", "lost", "agent_speaking", 100, 200)];
        let turns = of(&spans);
        assert_eq!((turns.len(), turns[0].wait), (1, None));
    }
}
