//! Seconds in the payload have three decimals.

use serde::{Serialize, Serializer};

/// Rounds to milliseconds. NaN and infinity become 0: JSON cannot hold them.
pub(crate) fn three_decimals<S: Serializer>(seconds: &f64, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_f64(rounded(*seconds))
}

pub(crate) fn option_three_decimals<S: Serializer>(
    seconds: &Option<f64>,
    s: S,
) -> Result<S::Ok, S::Error> {
    seconds.map(rounded).serialize(s)
}

pub(crate) fn three_decimals_each<S: Serializer>(all: &[f64], s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(all.iter().map(|x| rounded(*x)))
}

fn rounded(seconds: f64) -> f64 {
    let rounded = (seconds * 1000.0).round() / 1000.0;
    if rounded.is_finite() { rounded } else { 0.0 }
}
