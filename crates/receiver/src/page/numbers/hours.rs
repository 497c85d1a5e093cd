//! The map of hours of the week.

use std::collections::BTreeMap;

use record::Moment;

use super::{
    super::{
        links::{self, Pairs},
        text,
        zone::Zone,
    },
    figures::Figures,
    period::{DAY, Period},
};

const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const HOUR: i64 = DAY / 24;
/// Zones differ from UTC by whole quarters of an hour.
const QUARTER: i64 = HOUR / 4;

pub(super) struct Cell {
    pub(super) x: String,
    pub(super) y: String,
    pub(super) opacity: String,
    pub(super) title: String,
    /// Its calls; only if the hour is one hour and not one of each week.
    pub(super) href: Option<String>,
}

pub(super) struct Hours {
    pub(super) cells: Vec<Cell>,
    /// For those who do not see it.
    pub(super) busiest: String,
}

pub(super) fn of(pairs: &Pairs, figures: &Figures, zone: Zone) -> Hours {
    let mut counts: BTreeMap<(usize, usize), f64> = BTreeMap::new();
    for group in &figures.by_hour {
        let of = |name: &str| group.text(name).and_then(|text| text.parse::<usize>().ok());
        if let (Some(day), Some(hour)) = (of("weekday"), of("hour")) {
            *counts.entry((day.saturating_sub(1), hour)).or_default() += group.count();
        }
    }
    let most = counts.values().copied().fold(1.0, f64::max);
    let count = |day, hour| counts.get(&(day, hour)).copied().unwrap_or_default();
    let title = |day: usize, hour: usize| {
        let name = WEEKDAYS.get(day).copied().unwrap_or_default();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let calls = text::counted(count(day, hour) as usize, "call");
        format!("{name} {hour}:00 to {}:00, {calls}", hour + 1)
    };
    let instants = instants(figures.period, zone);
    let cell = |(day, hour): (usize, usize)| {
        let count = count(day, hour);
        let part = if count > 0.0 { 0.18 + 0.82 * count / most } else { 0.0 };
        let period = instants.get(&(day, hour)).filter(|_| count > 0.0);
        Cell {
            x: format!("{}", 44 + hour * 46),
            y: format!("{}", day * 20 + 2),
            opacity: format!("{part:.2}"),
            title: title(day, hour),
            href: period.map(|(from, to)| {
                let written = |at: i64| Moment::from_millis(at).to_rfc3339();
                let (from, to) = (written(*from), written(*to));
                links::calls(pairs, &[("start_time.ge", &from), ("start_time.lt", &to)])
            }),
        }
    };
    let all = (0..7).flat_map(|day| (0..24).map(move |hour| (day, hour)));
    let busiest = counts.iter().max_by(|a, b| a.1.total_cmp(b.1));
    Hours {
        cells: all.map(cell).collect(),
        busiest: busiest.map_or(String::new(), |((day, hour), _)| title(*day, *hour)),
    }
}

/// Where each hour of the week is in a period that has each of them once at most.
fn instants(period: Period, zone: Zone) -> BTreeMap<(usize, usize), (i64, i64)> {
    let mut all = BTreeMap::new();
    if period.length() > 7 * DAY {
        return all;
    }
    let mut at = period.from.div_euclid(QUARTER) * QUARTER;
    while at < period.to {
        let (from, to) = (at.max(period.from), (at + QUARTER).min(period.to));
        all.entry(zone.hour_of_week(at)).or_insert((from, to)).1 = to;
        at += QUARTER;
    }
    // An hour that the period has at both of its ends is not one hour.
    all.retain(|_, (from, to)| *to - *from <= 2 * HOUR);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_of_a_week_are_found_in_their_zone() {
        let at = |text: &str| Moment::parse_rfc3339(text).unwrap().millis();
        let of = |from, to, zone: &str, hour| {
            let found = instants(Period { from: at(from), to: at(to) }, Zone::parse(zone).unwrap());
            let written = |at| Moment::from_millis(at).to_rfc3339();
            found.get(&hour).map(|(from, to)| (written(*from), written(*to)))
        };
        let (from, to) = ("2026-11-23T10:20:00Z", "2026-11-27T00:00:00Z");
        let hour = |from: &str, to: &str| Some((from.to_owned(), to.to_owned()));
        let cut = hour("2026-11-23T10:20:00.000Z", "2026-11-23T11:00:00.000Z");
        assert_eq!(of(from, to, "UTC", (0, 10)), cut);
        let india = hour("2026-11-23T12:30:00.000Z", "2026-11-23T13:30:00.000Z");
        assert_eq!(of(from, to, "Asia/Kolkata", (0, 18)), india);
        assert_eq!(of(from, to, "UTC", (4, 0)), None, "it is not in the period");
        assert_eq!(of(from, "2026-12-27T00:00:00Z", "UTC", (0, 10)), None, "there are several");
        // Both ends of a period of seven days have the same hour.
        let week = "2026-11-30T10:20:00Z";
        assert_eq!(of(from, week, "UTC", (0, 10)), None);
        assert_eq!(
            of(from, week, "UTC", (0, 11)),
            hour("2026-11-23T11:00:00.000Z", "2026-11-23T12:00:00.000Z")
        );
    }
}
