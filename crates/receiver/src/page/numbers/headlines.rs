//! The few numbers on top, each leading to the calls behind it; of two filters beside each other.

use super::{
    super::{
        links::{self, Pairs},
        text::{self, NOTHING},
    },
    figures::{Figures, part, whole},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Count,
    /// From 0 to 1.
    Part,
    Seconds,
    Rate,
}

pub(super) struct Headline {
    pub(super) value: String,
    pub(super) name: &'static str,
    pub(super) href: String,
    number: Option<f64>,
    kind: Kind,
}

/// A number of two filters.
pub(super) struct Compared {
    pub(super) name: &'static str,
    pub(super) first: Headline,
    pub(super) second: Headline,
    pub(super) difference: String,
}

pub(super) fn of(pairs: &Pairs, figures: &Figures) -> Vec<Headline> {
    let all = &figures.all;
    let total = all.count();
    let headline = |name, kind, number: Option<f64>, more: &[(&str, &str)]| Headline {
        value: match kind {
            Kind::Count => number.map_or(NOTHING.into(), whole),
            Kind::Part => part(number),
            Kind::Seconds => number.map_or(NOTHING.into(), |n| format!("{} s", text::seconds(n))),
            Kind::Rate => number.map_or(NOTHING.into(), text::seconds),
        },
        name,
        href: links::calls(pairs, more),
        number,
        kind,
    };
    let completed = (total > 0.0).then(|| figures.of_status("completed") / total);
    let (p50, p95) = (all.figure("agent_response.p50"), all.figure("agent_response.p95"));
    let over = p95.map_or("0".to_owned(), |p95| format!("{p95}"));
    vec![
        headline("calls", Kind::Count, Some(total), &[]),
        headline("completed", Kind::Part, completed, &[("status", "completed")]),
        headline(
            "successful, where reported",
            Kind::Part,
            all.figure("successful.avg"),
            &[("successful", "true")],
        ),
        headline("answer, median", Kind::Seconds, p50, &[("agent_response.count.gt", "0")]),
        headline("answer, p95", Kind::Seconds, p95, &[("agent_response.max.ge", &over)]),
        headline(
            "interruptions a minute",
            Kind::Rate,
            all.a_minute("interruption_count.sum"),
            &[("interruption_count.gt", "0")],
        ),
        headline(
            "silences a minute",
            Kind::Rate,
            all.a_minute("silence_count.sum"),
            &[("silence_count.gt", "0")],
        ),
    ]
}

pub(super) fn compared(first: Vec<Headline>, second: Vec<Headline>) -> Vec<Compared> {
    let pair = |(first, second): (Headline, Headline)| Compared {
        name: first.name,
        difference: difference(first.kind, first.number, second.number),
        first,
        second,
    };
    first.into_iter().zip(second).map(pair).collect()
}

/// How much the second is more than the first.
fn difference(kind: Kind, first: Option<f64>, second: Option<f64>) -> String {
    let (Some(first), Some(second)) = (first, second) else { return NOTHING.into() };
    let more = second - first;
    let written = match kind {
        Kind::Count => whole(more.abs()),
        Kind::Part => format!("{:.1} points", more.abs() * 100.0),
        Kind::Seconds => format!("{} s", text::seconds(more.abs())),
        Kind::Rate => text::seconds(more.abs()),
    };
    let is_nothing = !written.contains(|c: char| ('1'..='9').contains(&c));
    let sign = if is_nothing {
        "±"
    } else if more > 0.0 {
        "+"
    } else {
        "−"
    };
    format!("{sign}{written}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_has_a_sign_and_a_unit() {
        for (kind, first, second, written) in [
            (Kind::Count, Some(1_200.0), Some(200.0), "−1,000"),
            (Kind::Part, Some(0.5), Some(0.625), "+12.5 points"),
            (Kind::Seconds, Some(1.0), Some(1.251), "+0.25 s"),
            (Kind::Rate, Some(0.5), Some(0.501), "±0.00"),
            (Kind::Rate, None, Some(0.5), NOTHING),
        ] {
            assert_eq!(difference(kind, first, second), written);
        }
    }
}
