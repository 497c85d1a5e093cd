//! The last arrivals, within bounds of number and memory.

use std::{collections::VecDeque, sync::Arc};

/// Bytes of all arrivals that are remembered.
const BYTES: usize = 4_000_000;

#[derive(Clone, Debug)]
pub(super) struct Arrival {
    /// Of this process, from 1 on.
    pub(super) number: u64,
    /// `call` or `event`.
    pub(super) kind: &'static str,
    pub(super) json: Arc<str>,
}

pub(super) struct Ring {
    /// Tells arrivals of this process from those of an earlier one.
    process: u64,
    all: VecDeque<Arrival>,
    most: usize,
    bytes: usize,
    /// The number of the last arrival.
    last: u64,
}

/// What came after an arrival.
#[derive(Debug)]
pub(super) enum Since {
    Here(Vec<Arrival>),
    /// Some of them are forgotten: how many, if that is known.
    Missed(Option<u64>),
}

impl Ring {
    pub(super) fn new(most: usize) -> Self {
        // 48 bits: other languages read an id's number as a float.
        let process = rand::random::<u64>() >> 16;
        Self { process, all: VecDeque::new(), most, bytes: 0, last: 0 }
    }

    pub(super) fn process(&self) -> u64 {
        self.process
    }

    /// The number of the next arrival.
    pub(super) fn next(&self) -> u64 {
        self.last + 1
    }

    pub(super) fn push(&mut self, arrival: Arrival) {
        self.last = arrival.number;
        self.bytes += arrival.json.len();
        self.all.push_back(arrival);
        while self.all.len() > self.most || self.bytes > BYTES {
            let Some(forgotten) = self.all.pop_front() else { return };
            self.bytes -= forgotten.json.len();
        }
    }

    /// What is forgotten counts as missed.
    pub(super) fn clear(&mut self) {
        self.all.clear();
        self.bytes = 0;
    }

    /// `id`: of the last arrival that was seen.
    pub(super) fn since(&self, id: &str) -> Since {
        let Some(seen) = number(self.process, id).filter(|seen| *seen <= self.last) else {
            return Since::Missed(None);
        };
        let first = self.all.front().map_or(self.next(), |arrival| arrival.number);
        if seen + 1 < first {
            return Since::Missed(Some(self.last - seen));
        }
        Since::Here(self.all.iter().filter(|arrival| arrival.number > seen).cloned().collect())
    }
}

/// The id of an arrival, as screens keep it.
pub(super) fn id(process: u64, number: u64) -> String {
    format!("{process:x}-{number}")
}

fn number(process: u64, id: &str) -> Option<u64> {
    let (of, number) = id.split_once('-')?;
    let of = u64::from_str_radix(of, 16).ok()?;
    number.parse().ok().filter(|_| of == process)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(most: usize, arrivals: u64, bytes: usize) -> Ring {
        let mut ring = Ring::new(most);
        for _ in 0..arrivals {
            let json = "x".repeat(bytes).into();
            ring.push(Arrival { number: ring.next(), kind: "call", json });
        }
        ring
    }

    fn since(ring: &Ring, seen: u64) -> String {
        match ring.since(&id(ring.process, seen)) {
            Since::Here(all) => {
                all.iter().map(|a| a.number.to_string()).collect::<Vec<_>>().join(" ")
            }
            Since::Missed(number) => format!("missed {number:?}"),
        }
    }

    #[test]
    fn what_came_since_is_given_or_counted() {
        let ring = ring(3, 5, 1);
        assert_eq!(since(&ring, 5), "");
        assert_eq!(since(&ring, 3), "4 5");
        assert_eq!(since(&ring, 2), "3 4 5");
        assert_eq!(since(&ring, 1), "missed Some(4)");
        assert_eq!(since(&ring, 6), "missed None", "it was not given by this process");
        for other in ["", "x", "1-2-3", &id(ring.process + 1, 4), "-4"] {
            assert!(matches!(ring.since(other), Since::Missed(None)), "{other}");
        }
    }

    #[test]
    fn what_is_forgotten_is_missed() {
        let mut ring = ring(3, 2, 1);
        ring.clear();
        assert_eq!(since(&ring, 1), "missed Some(1)");
        assert_eq!(since(&ring, 2), "");
        ring.push(Arrival { number: ring.next(), kind: "call", json: "x".into() });
        assert_eq!(since(&ring, 2), "3");
    }

    #[test]
    fn memory_is_bounded() {
        let many = ring(1_000, 10, BYTES / 3);
        assert_eq!(many.all.len(), 3);
        assert!(many.bytes <= BYTES);
        assert_eq!(since(&many, 7), "8 9 10");
        assert_eq!(since(&ring(10, 1, BYTES + 1), 0), "missed Some(1)", "larger than all");
    }
}
