//! What came to the intake since the start, counted: for the page that says whether records arrive.

use std::{
    collections::BTreeMap,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::http::{HeaderMap, header};
use parking_lot::Mutex;
use record::Moment;

/// Names that are remembered at most: senders choose them.
const MOST_NAMES: usize = 50;
const LONGEST_NAME: usize = 80;

/// Of this process.
pub(crate) static SEEN: LazyLock<Seen> = LazyLock::new(Seen::default);

#[derive(Default)]
pub(crate) struct Seen {
    refused: Mutex<BTreeMap<String, u64>>,
    mistakes: Mutex<BTreeMap<String, u64>>,
    senders: Mutex<BTreeMap<String, Sender>>,
    broken: AtomicU64,
}

/// A kind of sender, by its `User-Agent`.
#[derive(Clone, Default)]
pub(crate) struct Sender {
    pub(crate) records: u64,
    pub(crate) events: u64,
    pub(crate) last: Moment,
}

impl Seen {
    /// A post that may not be made.
    pub(crate) fn refused(&self, why: &str) {
        count(&self.refused, why);
    }

    /// A post that breaks the schema at these places.
    pub(crate) fn breaks_schema<'a>(&self, paths: impl IntoIterator<Item = &'a str>) {
        self.broken.fetch_add(1, Ordering::Relaxed);
        paths.into_iter().for_each(|path| count(&self.mistakes, path));
    }

    pub(crate) fn record(&self, headers: &HeaderMap, at: Moment) {
        self.sender(headers, at, |sender| sender.records += 1);
    }

    pub(crate) fn event(&self, headers: &HeaderMap, at: Moment) {
        self.sender(headers, at, |sender| sender.events += 1);
    }

    fn sender(&self, headers: &HeaderMap, at: Moment, change: impl FnOnce(&mut Sender)) {
        let name = headers.get(header::USER_AGENT).and_then(|name| name.to_str().ok());
        let name: String = name.unwrap_or("(no name)").chars().take(LONGEST_NAME).collect();
        let mut senders = self.senders.lock();
        if senders.len() >= MOST_NAMES && !senders.contains_key(&name) {
            return;
        }
        let sender = senders.entry(name).or_default();
        sender.last = at;
        change(sender);
    }

    /// Posts that broke the schema.
    pub(crate) fn broken(&self) -> u64 {
        self.broken.load(Ordering::Relaxed)
    }

    /// Reasons and how often, the most frequent first.
    pub(crate) fn refusals(&self) -> Vec<(String, u64)> {
        sorted(&self.refused)
    }

    /// Places of the schema and how often, the most frequent first.
    pub(crate) fn mistakes(&self) -> Vec<(String, u64)> {
        sorted(&self.mistakes)
    }

    pub(crate) fn senders(&self) -> Vec<(String, Sender)> {
        self.senders.lock().iter().map(|(name, sender)| (name.clone(), sender.clone())).collect()
    }
}

fn count(all: &Mutex<BTreeMap<String, u64>>, name: &str) {
    let mut all = all.lock();
    if all.len() < MOST_NAMES || all.contains_key(name) {
        *all.entry(name.to_owned()).or_default() += 1;
    }
}

fn sorted(all: &Mutex<BTreeMap<String, u64>>) -> Vec<(String, u64)> {
    let mut all: Vec<_> = all.lock().iter().map(|(name, n)| (name.clone(), *n)).collect();
    all.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    all
}
