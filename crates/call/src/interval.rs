//! A span of time in which somebody spoke, or nobody.

use super::event::Moment;

/// An interval of speech.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    pub start: Moment,
    pub end: Moment,
}

impl Interval {
    pub fn ms(&self) -> i64 {
        self.end.since(self.start)
    }
}

/// The latest moment so far at each place of a list, so that the first place with a moment that is late enough is
/// found without a look at all places before it.
pub(crate) struct Latest(Vec<Moment>);

impl Latest {
    pub(crate) fn of(moments: impl Iterator<Item = Moment>) -> Self {
        let mut latest = Moment::MIN;
        let so_far = |moment: Moment| {
            latest = latest.max(moment);
            latest
        };
        Self(moments.map(so_far).collect())
    }

    /// The first place whose own moment is this one or later.
    pub(crate) fn first_from(&self, moment: Moment) -> Option<usize> {
        let place = self.0.partition_point(|latest| *latest < moment);
        (place < self.0.len()).then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_place_is_found_as_by_looking_at_each(
            moments in prop::collection::vec(0i64..50, 0..30),
            wanted in 0i64..50,
        ) {
            let all: Vec<Moment> = moments.into_iter().map(Moment::from_millis).collect();
            let wanted = Moment::from_millis(wanted);
            let place = all.iter().position(|moment| *moment >= wanted);
            prop_assert_eq!(Latest::of(all.into_iter()).first_from(wanted), place);
        }
    }
}
