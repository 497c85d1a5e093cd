//! Sample calls: some days of them, to look at. The same seed gives the same calls.
//!
//! Each is made from a journal of `tests/journals`: moved in time, slowed down or sped up, given another number, and
//! replayed through the core, so that all its numbers follow from its moments. What a business would add (its type,
//! stages, outcome) is invented. The notes of each record say that it is a sample.
//!
//! | file | its one idea |
//! |---|---|
//! | [`journal`] | a journal, moved to another time and number |
//! | [`mod@dress`] | what a business adds |
//! | [`mod@post`] | signed posts to an endpoint |

mod dress;
mod journal;
mod post;

use anyhow::Result;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::Value;

pub use self::post::post;

const SEED: u64 = 2_026;
const DAY: i64 = 24 * 60 * 60 * 1_000;
const HOUR: i64 = DAY / 24;
/// Days that the calls are spread over.
const DAYS: u32 = 7;
/// Numbers that call; some of them often.
const CALLERS: u32 = 60;

/// Journals, with how many of a hundred calls are made from one of them.
const KINDS: &[(u32, &[&str])] = &[
    (
        76,
        &[
            "recorded-python-agent-phone-call-of-three-turns",
            "recorded-python-agent-phone-call-of-three-turns",
            "recorded-node-agent-phone-call-of-three-turns",
            "recorded-python-agent-web-call-of-three-turns",
            "recorded-node-agent-web-call-of-three-turns",
            "recorded-real-interruption-false-one-and-silences",
            "recorded-node-agent-real-and-two-false-interruptions",
            "recorded-speech-to-speech-web-call",
            "recorded-speech-to-speech-without-the-callers-words",
            "recorded-observer-restarts-its-connection",
            "recorded-observer-resumes-its-connection",
            "recorded-browser-cut-off-for-30-s-comes-back",
            "late-observer-is-told-the-history",
        ],
    ),
    (5, &["recorded-caller-hangs-up-at-the-last-word", "recorded-browser-call-of-two-turns"]),
    (4, &["warm-transfer-to-a-colleague", "agent-publishes-all-that-it-knows"]),
    (3, &["answering-machine-takes-an-outbound-call", "outbound-call-starts-with-the-answer"]),
    (4, &["outbound-nobody-answers", "outbound-callee-is-busy"]),
    (
        4,
        &[
            "inbound-caller-gives-up-while-it-rings",
            "agent-reports-an-error-and-leaves",
            "caller-waits-and-no-agent-comes",
        ],
    ),
    (
        4,
        &[
            "recorded-phone-leg-killed-without-a-goodbye",
            "recorded-agent-killed-while-speaking",
            "caller-vanishes-and-quality-tells-when",
            "observer-loses-the-room",
        ],
    ),
];

/// What sets a sample apart from its journal.
struct Plan {
    /// The number of the sample: names of rooms and ids follow from it.
    n: u32,
    journal: &'static str,
    /// Milliseconds since 1970.
    start: i64,
    /// How many times as slow as in the journal.
    pace: f64,
    number: String,
    transcript: bool,
}

/// Calls of the week before `now` (milliseconds since 1970), in the order of their start.
///
/// # Errors
/// If a journal is not there, or gives no record.
pub fn week(now: i64, count: u32) -> Result<Vec<Value>> {
    let mut chance = StdRng::seed_from_u64(SEED);
    let mut all = vec![];
    for n in 0..count {
        let plan = plan(n, now, &mut chance)?;
        let mut record = journal::record(&plan)?;
        dress::dress(&mut record, &plan, &mut chance);
        all.push((plan.start, record));
    }
    all.sort_by_key(|(start, _)| *start);
    Ok(all.into_iter().map(|(_, record)| record).collect())
}

fn plan(n: u32, now: i64, chance: &mut StdRng) -> Result<Plan> {
    let (_, journals) = KINDS.choose_weighted(chance, |(weight, _)| *weight)?;
    let journal = journals.choose(chance).copied().unwrap_or_default();
    let days_ago = i64::from(chance.random_range(0..DAYS));
    // Most calls come around noon.
    let hour = 7.5 + 7.0 * (chance.random::<f64>() + chance.random::<f64>());
    #[allow(clippy::cast_possible_truncation)]
    let start = now - now.rem_euclid(DAY) - days_ago * DAY + (hour * HOUR as f64) as i64;
    let start = if start > now - HOUR / 12 { start - i64::from(DAYS) * DAY } else { start };
    // On one day the agent was slow.
    let pace = if days_ago == 3 { 1.5 } else { 1.0 } * chance.random_range(0.85..1.35);
    let caller = chance.random_range(0..CALLERS).min(chance.random_range(0..CALLERS));
    Ok(Plan {
        n,
        journal,
        start,
        pace,
        number: format!("+1555010{:04}", 1_000 + caller * 137 % 9_000),
        // Those speak words of chance.
        transcript: chance.random_bool(0.85) && !journal.contains("speech-to-speech"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_804_200_000; // 27 November 2026, 18:30 UTC

    #[test]
    fn samples_are_the_same_each_time_varied_and_of_one_week() {
        let all = week(NOW, 200).unwrap();
        assert_eq!(all, week(NOW, 200).unwrap());
        let values = |path: &str| -> std::collections::BTreeSet<String> {
            all.iter().map(|record| record.pointer(path).unwrap().to_string()).collect()
        };
        assert_eq!(values("/call_id").len(), all.len());
        assert_eq!(values("/status").len(), 3);
        assert_eq!(values("/agent_config/business_type").len(), 4);
        assert!(values("/phone_number").len() > 20 && values("/termination_reason").len() > 6);
        assert!(
            values("/outcomes/notes")
                .iter()
                .all(|notes| notes.starts_with("\"A sample, made from"))
        );
        for record in &all {
            let at = |key: &str| record[key].as_str().unwrap().to_owned();
            assert!(
                at("start_time").as_str() > "2026-11-20T"
                    && at("end_time").as_str() < "2026-11-27T18:30"
            );
            assert!(record["details"]["timeline"].is_object());
        }
    }
}
