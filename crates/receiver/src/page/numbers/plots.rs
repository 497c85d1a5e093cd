//! The charts over time: calls, answer times, interruptions and silences.

use super::{
    super::{
        chart::{self, Columns, Lines, Slot},
        links::{self, Pairs},
        row,
        zone::Zone,
    },
    figures::{Figures, Group, seconds, whole},
    period::{Part, date},
};

const STATUSES: [&str; 3] = ["completed", "failed", "dropped"];

/// A segment of a column: class, value, link and title.
type Segment = (&'static str, f64, String, String);
/// A line: class, and a value for each slot.
type Line = (&'static str, Vec<Option<f64>>);

/// The values of the charts of one filter, before they are drawn: two filters are drawn to the same scale.
pub(super) struct Plots {
    slots: Vec<Slot>,
    columns: Vec<Vec<Segment>>,
    answers: [Line; 2],
    troubles: [Line; 2],
}

/// The largest values of charts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Most {
    column: f64,
    answer: f64,
    trouble: f64,
}

impl Most {
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            column: self.column.max(other.column),
            answer: self.answer.max(other.answer),
            trouble: self.trouble.max(other.trouble),
        }
    }
}

pub(super) struct Drawn {
    pub(super) columns: Columns,
    pub(super) answers: Lines,
    pub(super) troubles: Lines,
}

impl Plots {
    pub(super) fn of(pairs: &Pairs, figures: &Figures, zone: Zone) -> Self {
        let unit = figures.unit;
        let parts = unit.parts(figures.period, zone);
        let group = |part: &Part| {
            figures.by_time.iter().find(|group| group.text(unit.name()) == Some(&part.key))
        };
        let line = |of: &dyn Fn(&Group) -> Option<f64>| -> Vec<Option<f64>> {
            parts.iter().map(|part| group(part).and_then(of)).collect()
        };
        Self {
            slots: parts.iter().map(|part| slot(pairs, figures, part, group(part))).collect(),
            columns: parts.iter().map(|part| column(pairs, figures, part)).collect(),
            answers: [
                ("p50", line(&|group| group.figure("agent_response.p50"))),
                ("p95", line(&|group| group.figure("agent_response.p95"))),
            ],
            troubles: [
                ("cut", line(&|group| group.a_minute("interruption_count.sum"))),
                ("silence", line(&|group| group.a_minute("silence_count.sum"))),
            ],
        }
    }

    pub(super) fn most(&self) -> Most {
        let sums = self.columns.iter().map(|parts| parts.iter().map(|part| part.1).sum());
        let of_lines = |lines: &[Line; 2]| {
            lines.iter().flat_map(|(_, values)| values).flatten().copied().fold(0.0, f64::max)
        };
        Most {
            column: sums.fold(1.0, f64::max),
            answer: of_lines(&self.answers),
            trouble: of_lines(&self.troubles),
        }
    }

    pub(super) fn drawn(self, most: Most) -> Drawn {
        Drawn {
            columns: chart::columns(&self.slots, self.columns, most.column),
            answers: chart::lines(&self.slots, &self.answers, most.answer),
            troubles: chart::lines(&self.slots, &self.troubles, most.trouble),
        }
    }
}

fn slot(pairs: &Pairs, figures: &Figures, part: &Part, group: Option<&Group>) -> Slot {
    let label = figures.unit.label(part.from);
    let value = |name: &str| seconds(group.and_then(|group| group.figure(name)));
    let minute = |name: &str| seconds(group.and_then(|group| group.a_minute(name)));
    let title = format!(
        "{label}: answers median {} s, p95 {} s; interruptions {} and silences {} a minute",
        value("agent_response.p50"),
        value("agent_response.p95"),
        minute("interruption_count.sum"),
        minute("silence_count.sum"),
    );
    let href = links::calls(
        pairs,
        &[("start_time.ge", &date(part.from)), ("start_time.lt", &date(part.to))],
    );
    Slot { label, href, title }
}

fn column(pairs: &Pairs, figures: &Figures, part: &Part) -> Vec<Segment> {
    let label = figures.unit.label(part.from);
    let segment = |status: &&'static str| {
        let of_status = |group: &&Group| {
            group.text(figures.unit.name()) == Some(&part.key)
                && group.text("status") == Some(status)
        };
        let count = figures.by_time_and_status.iter().find(of_status).map_or(0.0, Group::count);
        let (from, to) = (date(part.from), date(part.to));
        let more = [("start_time.ge", from.as_str()), ("start_time.lt", &to), ("status", status)];
        let title = format!("{label}: {} {status}", whole(count));
        (row::tone_of_end(status), count, links::calls(pairs, &more), title)
    };
    STATUSES.iter().map(segment).collect()
}
