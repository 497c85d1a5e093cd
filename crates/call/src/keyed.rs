//! What callers typed and dialled. Both break a silence; a typed text is a turn.

use super::event::Moment;

/// Typed texts kept per call, and as many digits.
const MAX_SIGNS: usize = 10_000;

#[derive(Clone, Debug)]
pub(crate) struct Typed {
    /// When it was sent, by our clock.
    pub at: Moment,
    pub by: String,
    pub words: u32,
    /// Only where a transcript is asked for.
    pub text: Option<Box<str>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Dialled {
    pub at: Moment,
    pub by: String,
    /// Only where a transcript is asked for: digits can be the number of a card.
    pub digit: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Keyed {
    pub typed: Vec<Typed>,
    pub dialled: Vec<Dialled>,
}

impl Keyed {
    /// Whether there is room for one more text.
    pub(crate) fn takes_text(&self) -> bool {
        self.typed.len() < MAX_SIGNS
    }

    /// False if there are too many. The same holds for `dials`.
    pub(crate) fn types(&mut self, typed: Typed) -> bool {
        let room = self.takes_text();
        if room {
            self.typed.push(typed);
        }
        room
    }

    pub(crate) fn dials(&mut self, dialled: Dialled) -> bool {
        let room = self.dialled.len() < MAX_SIGNS;
        if room {
            self.dialled.push(dialled);
        }
        room
    }

    /// All moments.
    pub(crate) fn moments(&self) -> Vec<Moment> {
        let typed = self.typed.iter().map(|t| t.at);
        typed.chain(self.dialled.iter().map(|d| d.at)).collect()
    }
}
