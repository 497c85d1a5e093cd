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
