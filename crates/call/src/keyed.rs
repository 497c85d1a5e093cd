//! What callers typed and dialled. Both break a silence; a typed text is a turn.

use super::event::Moment;

/// Typed texts kept per call, and as many digits.
const MAX_SIGNS: usize = 10_000;
/// Characters kept of one text.
const MAX_TYPED: usize = 4_096;
/// Bytes of all texts of a call, as they are written: beyond them only words are counted.
const MAX_TEXTS: usize = 1_000_000;

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
    /// Bytes of the texts in `typed`, as they are written.
    written: usize,
}

/// The length of a text in a journal: a control character has six bytes there.
fn written(text: &str) -> usize {
    serde_json::to_string(text).map_or(usize::MAX, |json| json.len())
}

impl Keyed {
    /// What is kept of a text, for the transcript.
    pub(crate) fn kept(&self, text: &str) -> String {
        let text: String = text.chars().take(MAX_TYPED).collect();
        let fits = self.written.saturating_add(written(&text)) <= MAX_TEXTS;
        if fits { text } else { String::new() }
    }

    /// Whether there is room for one more text.
    pub(crate) fn takes_text(&self) -> bool {
        self.typed.len() < MAX_SIGNS
    }

    /// False if there are too many. The same holds for `dials`.
    pub(crate) fn types(&mut self, typed: Typed) -> bool {
        let room = self.takes_text();
        if room {
            self.written += typed.text.as_deref().map_or(0, written);
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
