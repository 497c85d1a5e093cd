//! How often a response took how long, in fixed buckets.
//!
//! Histograms of calls can be added up, percentiles cannot. All of it is done here, not in the database, so the
//! result does not depend on the engine. Buckets grow by 2 %, so a percentile is at most 1 % beside the measured value.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Seconds: the lower end of the first bucket. Below it everything is in that bucket.
const FIRST: f64 = 0.001;
const GROWTH: f64 = 1.02;
/// The last bucket begins at 4.4 hours.
const BUCKETS: u32 = 835;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram(BTreeMap<u32, u64>);

impl Histogram {
    pub fn of(seconds: impl IntoIterator<Item = f64>) -> Self {
        let mut all = Self::default();
        for value in seconds.into_iter().filter(|s| s.is_finite()) {
            *all.0.entry(bucket(value)).or_default() += 1;
        }
        all
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn add(&mut self, other: &Self) {
        for (bucket, count) in &other.0 {
            let sum = self.0.entry(*bucket).or_default();
            *sum = sum.saturating_add(*count);
        }
    }

    /// The value that `part` (0 to 1) of all values do not exceed, by nearest rank. `None` if there are none.
    pub fn percentile(&self, part: f64) -> Option<f64> {
        let all: u64 = self.0.values().fold(0, |sum, n| sum.saturating_add(*n));
        // Exact for any count of responses that there can be.
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss
        )]
        let rank = ((all as f64 * part).ceil() as u64).max(1);
        let mut seen = 0_u64;
        self.0.iter().find_map(|(bucket, count)| {
            seen = seen.saturating_add(*count);
            (seen >= rank).then(|| middle(*bucket))
        })
    }

    /// Pairs of numbers in base 128: the distance from the bucket before, and the count.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![];
        let mut before = 0;
        for (bucket, count) in &self.0 {
            write(&mut bytes, u64::from(bucket - before));
            write(&mut bytes, *count);
            before = *bucket;
        }
        bytes
    }

    /// The sum of histograms that a database has written as one text: their bytes in base 16, with commas between.
    pub(crate) fn sum_of_hex(text: &str) -> Self {
        let mut all = Self::default();
        let mut bytes = vec![];
        for one in text.split(',') {
            bytes.clear();
            bytes.extend(one.as_bytes().chunks_exact(2).filter_map(byte));
            all.add_bytes(&bytes);
        }
        all
    }

    /// Adds what [`Self::to_bytes`] has written; bytes that are not those of a histogram add nothing from there on.
    fn add_bytes(&mut self, mut bytes: &[u8]) {
        let mut bucket = 0_u32;
        while !bytes.is_empty() {
            let Some((distance, count)) = read(&mut bytes).zip(read(&mut bytes)) else { return };
            let next =
                u32::try_from(distance).ok().and_then(|distance| bucket.checked_add(distance));
            let Some(next) = next.filter(|bucket| *bucket < BUCKETS) else { return };
            bucket = next;
            let sum = self.0.entry(bucket).or_default();
            *sum = sum.saturating_add(count);
        }
    }

    /// `None` if the bytes are not those of a histogram.
    pub fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let mut all = Self::default();
        let mut before = 0_u32;
        while !bytes.is_empty() {
            let distance = u32::try_from(read(&mut bytes)?).ok()?;
            before = before.checked_add(distance).filter(|bucket| *bucket < BUCKETS)?;
            all.0.insert(before, read(&mut bytes)?);
        }
        Some(all)
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn bucket(seconds: f64) -> u32 {
    if seconds <= FIRST {
        return 0;
    }
    // Between 0 and BUCKETS.
    ((seconds / FIRST).ln() / GROWTH.ln()).clamp(0.0, f64::from(BUCKETS - 1)) as u32
}

/// The geometric middle of a bucket, in seconds with three decimals as everywhere.
fn middle(bucket: u32) -> f64 {
    let seconds = FIRST * ((f64::from(bucket) + 0.5) * GROWTH.ln()).exp();
    (seconds * 1_000.0).round() / 1_000.0
}

/// Of two digits in base 16.
fn byte(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*digits.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

fn write(bytes: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        bytes.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
}

fn read(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        n |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64.encode(self.to_bytes()))
    }
}

impl<'de> Deserialize<'de> for Histogram {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = BASE64.decode(text).ok();
        bytes
            .and_then(|bytes| Self::from_bytes(&bytes))
            .ok_or_else(|| serde::de::Error::custom("no histogram"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_has_no_percentile() {
        assert_eq!(Histogram::default().percentile(0.5), None);
        assert_eq!(Histogram::of([f64::NAN]).percentile(0.5), None);
    }

    #[test]
    fn wild_values_are_in_the_first_and_in_the_last_bucket() {
        let all = Histogram::of([-1.0, 0.0, 1e-9, 1e9, f64::MAX]);
        assert_eq!(all.percentile(0.01), Some(0.001));
        assert!(all.percentile(1.0).unwrap() > 14_000.0);
        assert_eq!(Histogram::from_bytes(&all.to_bytes()), Some(all));
        assert_eq!(Histogram::from_bytes(&[0xff]), None);
        assert_eq!(Histogram::from_bytes(&[0xff, 0x7f, 1]), None, "a bucket that does not exist");
    }

    #[test]
    fn histograms_that_a_database_has_joined_are_added_up() {
        let all = [&[0.5, 0.7][..], &[0.5, 4.0], &[]].map(|s| Histogram::of(s.iter().copied()));
        let hex =
            |h: &Histogram| h.to_bytes().iter().map(|b| format!("{b:02x}")).collect::<String>();
        let mut sum = Histogram::default();
        all.iter().for_each(|one| sum.add(one));
        let text = all.iter().map(hex).collect::<Vec<_>>().join(",");
        assert_eq!(Histogram::sum_of_hex(&text), sum);
        assert_eq!(Histogram::sum_of_hex(&text.to_uppercase()), sum);
        assert_eq!(Histogram::sum_of_hex(""), Histogram::default());
        for wrong in ["ff", "zz", "f", "ff7f01", ",,"] {
            assert_eq!(Histogram::sum_of_hex(wrong), Histogram::default(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn percentiles_are_within_one_percent_of_the_measured(
            mut seconds in prop::collection::vec(0.05_f64..600.0, 1..200),
            split in 0_usize..200,
            part in 0.01_f64..1.0,
        ) {
            let split = split.min(seconds.len());
            let mut all = Histogram::of(seconds[..split].iter().copied());
            let rest = Histogram::of(seconds[split..].iter().copied());
            all.add(&Histogram::from_bytes(&rest.to_bytes()).unwrap());
            seconds.sort_by(f64::total_cmp);
            let rank = ((seconds.len() as f64 * part).ceil() as usize).max(1);
            let exact = seconds[rank - 1];
            let found = all.percentile(part).unwrap();
            prop_assert!((found - exact).abs() <= exact * 0.0101 + 0.0006, "{found} for {exact}");
        }
    }
}
