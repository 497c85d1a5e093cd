//! How far the clock of the agent's host is from ours.
//!
//! Both sides saw the agent begin to speak: the observer by its signals, in the record; the agent itself, in its spans.
//! The offset at which most of these moments fall together is that of the clocks.

use record::Moment;
use serde_json::Value as Json;

/// Milliseconds by which two views of one moment may differ.
const NEAR: i64 = 250;
/// Fewer moments prove nothing, as two sequences always fall together somewhere.
const FEWEST: usize = 3;
/// Moments that are compared at most.
const MOST: usize = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offset {
    /// What is to be added to the agent's clock.
    pub(crate) millis: i64,
    /// So many moments say it.
    pub(crate) of: usize,
}

/// When the agent began to speak, as a record says it by signals that show it well.
fn seen(record: &Json) -> Vec<i64> {
    let speech = record.pointer("/details/timeline/speech").and_then(Json::as_array);
    let by_agent = speech.into_iter().flatten().filter(|span| {
        span["by"] == "agent" && matches!(span["basis"].as_str(), Some("state" | "feed"))
    });
    let from = |span: &Json| Moment::parse_rfc3339(span["from"].as_str()?).map(Moment::millis);
    by_agent.filter_map(from).take(MOST).collect()
}

/// `spoke` is when the agent began to speak by its own clock, in order. `None`: too little to compare, or it does not
/// fall together.
pub(crate) fn offset(record: &Json, spoke: &[i64]) -> Option<Offset> {
    compare(&seen(record), spoke)
}

fn compare(seen: &[i64], spoke: &[i64]) -> Option<Offset> {
    let spoke = &spoke[..spoke.len().min(MOST)];
    let matches = |offset: i64| -> Vec<i64> {
        let nearest = |at: &i64| {
            let differences = seen.iter().map(|seen| seen - at);
            differences.min_by_key(|difference| (difference - offset).abs())
        };
        let near = |difference: &i64| (difference - offset).abs() <= NEAR;
        spoke.iter().filter_map(nearest).filter(near).collect()
    };
    let candidates = seen.iter().flat_map(|seen| spoke.iter().map(move |at| seen - at));
    // Of those that fit as well, the smallest: clocks are mostly right.
    let best = candidates.max_by_key(|offset| (matches(*offset).len(), -offset.abs()))?;
    let mut found = matches(best);
    let enough = found.len() >= FEWEST && found.len() * 2 > seen.len().min(spoke.len());
    found.sort_unstable();
    enough.then(|| Offset { millis: found[found.len() / 2], of: found.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_compared_by_when_the_agent_spoke() {
        let spoke = [1_000, 5_200, 9_900, 17_300, 20_100];
        for clock in [0, 40, -3_000, 7_200_000] {
            let mut seen: Vec<i64> = spoke.iter().map(|at| at + clock).collect();
            seen[1] += 60;
            seen[2] -= 30;
            // The observer came late, and saw something that the agent did not report.
            seen.remove(0);
            seen.push(clock + 30_000);
            let offset = compare(&seen, &spoke).unwrap();
            assert!((offset.millis - clock).abs() <= 60, "{clock}: {offset:?}");
            assert_eq!(offset.of, 4);
        }
    }

    #[test]
    fn too_little_proves_nothing() {
        assert_eq!(compare(&[1_000, 5_000], &[1_000, 5_000]), None);
        assert_eq!(compare(&[], &[1]), None);
        assert_eq!(compare(&[0, 10_000, 30_000, 60_000], &[0, 3_000, 41_000, 77_000]), None);
    }
}
