//! Which calls: one filter, or one and another. The other's parameters have `versus.` before their names.

use record::Moment;

use super::{
    super::{
        filter::VERSUS,
        links::{self, Pairs},
        text,
        zone::{self, Zone},
    },
    period::{self, Period, is_of_time},
};
use crate::query::Op;

/// Before the names of the other filter's parameters: [`VERSUS`] and a dot.
const PREFIX: &str = "versus.";

pub(super) struct Filters {
    /// With the zone, for links.
    first: Pairs,
    /// The same; without a time of its own it has that of the first.
    second: Option<Pairs>,
}

impl Filters {
    pub(super) fn of(pairs: Pairs, now: Moment, zone: Zone) -> Self {
        let is_second = |name: &str| name == VERSUS || name.starts_with(PREFIX);
        let (second, first): (Pairs, Pairs) =
            pairs.into_iter().partition(|(name, _)| is_second(name));
        let first = zone.in_query(period::with_default(first, now, zone));
        let compared = !second.is_empty();
        let mut second: Pairs = second
            .into_iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?.to_owned(), value)))
            .collect();
        if !second.iter().any(|(name, _)| is_of_time(name)) {
            second.extend(first.iter().filter(|(name, _)| is_of_time(name)).cloned());
        }
        let second = compared.then(|| zone.in_query(second));
        Self { first, second }
    }

    /// What stands before the names of each in the address, and its pairs.
    pub(super) fn with_prefixes(&self) -> Vec<(&'static str, &Pairs)> {
        let second = self.second.as_ref().map(|pairs| (PREFIX, pairs));
        std::iter::once(("", &self.first)).chain(second).collect()
    }

    /// As in the address of the page.
    pub(super) fn pairs(&self) -> Pairs {
        let mut all = self.first.clone();
        all.extend(self.second.as_deref().map(prefixed).unwrap_or_default());
        all
    }

    /// Each filter in words; nothing if there is only one.
    pub(super) fn titles(&self) -> Vec<String> {
        match &self.second {
            None => vec![String::new()],
            Some(second) => vec![in_words(&self.first, second), in_words(second, &self.first)],
        }
    }

    /// Links that compare, or end it.
    pub(super) fn ways(&self, period: Option<Period>) -> Vec<(&'static str, String)> {
        let page = |first: &Pairs, second: Pairs| {
            let mut all = first.clone();
            all.extend(second);
            links::with_query("/numbers", &all)
        };
        let first = &self.first;
        if let Some(second) = &self.second {
            let swapped = page(second, prefixed(first));
            return vec![("Swap them", swapped), ("Show the first alone", page(first, vec![]))];
        }
        let mut ways = vec![];
        if let Some(period) = period {
            let mut before: Pairs =
                first.iter().filter(|(name, _)| !is_of_time(name)).cloned().collect();
            before.extend(period.before().pairs());
            ways.push(("Compare with the time before", page(first, prefixed(&before))));
        }
        if first.iter().any(|(name, _)| !is_of_time(name) && name != zone::NAME) {
            let all = vec![(VERSUS.to_owned(), "all".to_owned())];
            ways.push(("Compare with all calls", page(first, all)));
        }
        ways
    }
}

/// With `versus.` before each name. It is never empty, and so never taken for one filter.
fn prefixed(pairs: &[(String, String)]) -> Pairs {
    let mut all = vec![(VERSUS.to_owned(), "on".to_owned())];
    let own = pairs.iter().filter(|(name, _)| name != zone::NAME);
    all.extend(own.map(|(name, value)| (format!("{PREFIX}{name}"), value.clone())));
    all
}

/// The conditions of a filter that another one does not have.
fn in_words(pairs: &Pairs, other: &Pairs) -> String {
    let own = pairs.iter().filter(|pair| !other.contains(pair));
    let word = |(name, value): &(String, String)| {
        let (field, op) = match name.rsplit_once('.') {
            Some((field, op)) if Op::ALL.iter().any(|(known, _)| *known == op) => (field, op),
            _ => (name.as_str(), ""),
        };
        let sign = match op {
            "" | "eq" => "",
            "ge" => "from ",
            "gt" => "over ",
            "lt" => "before ",
            "le" => "up to ",
            "ne" => "not ",
            other => &format!("{other} "),
        };
        let value = text::words(&value.replace(',', " or ").replace("T00:00:00.000Z", ""));
        match (field, op) {
            ("q", _) => format!("“{value}”"),
            ("start_time", _) => format!("{sign}{value}"),
            (field, _) => format!("{} {sign}{value}", text::words(field).replace('.', " ")),
        }
    };
    let words: Vec<String> = own.map(word).collect();
    if words.is_empty() { "all calls".into() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(all: &[(&str, &str)]) -> Pairs {
        all.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    fn of(all: &[(&str, &str)]) -> Filters {
        let now = Moment::parse_rfc3339("2026-11-27T18:30:00Z").unwrap();
        Filters::of(pairs(all), now, Zone::UTC)
    }

    #[test]
    fn the_other_filter_has_the_time_of_the_first_unless_it_says_one() {
        let one = of(&[("status", "failed")]);
        assert!(one.second.is_none());
        assert_eq!(one.first, pairs(&[("status", "failed"), ("start_time.ge", "2026-10-29")]));
        let two = of(&[("start_time.ge", "2026-11-01"), ("versus.status", "failed")]);
        let second = two.second.as_ref().unwrap();
        assert_eq!(*second, pairs(&[("status", "failed"), ("start_time.ge", "2026-11-01")]));
        let two = of(&[("versus.start_time.ge", "2026-11-20")]);
        assert_eq!(two.second.unwrap(), pairs(&[("start_time.ge", "2026-11-20")]));
        let all = of(&[("status", "failed"), ("versus", "all")]);
        assert_eq!(all.titles(), ["status failed", "all calls"]);
    }

    #[test]
    fn the_address_gives_the_same_filters_again() {
        let two = of(&[
            ("status", "failed,dropped"),
            ("versus.q", "a b"),
            ("versus.status", "completed"),
        ]);
        let address = two.pairs();
        let again = of(&address.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect::<Vec<_>>());
        assert_eq!((again.first, again.second), (two.first, two.second));
    }

    #[test]
    fn filters_are_named_by_what_sets_them_apart() {
        let two = of(&[
            ("business_type", "clinic"),
            ("status", "failed,dropped"),
            ("versus.business_type", "clinic"),
            ("versus.agent_response.p95.gt", "1.5"),
            ("versus.q", "gluten"),
        ]);
        assert_eq!(
            two.titles(),
            ["status failed or dropped", "agent response p95 over 1.5, “gluten”"]
        );
    }
}
