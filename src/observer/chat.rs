//! Typed texts come on several channels: as a stream on `lk.chat`, as an old chat message, and from Pipecat's
//! clients as RTVI `send-text`. Newer clients send the first two of each text. Such a text is one.

use std::collections::VecDeque;

use call::Moment;

/// The same text on another channel arrives at most this much later.
const TWICE_WITHIN_MS: i64 = 2_000;
/// Texts that are remembered.
const MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    Stream,
    Message,
    Rtvi,
}

#[derive(Debug)]
struct Seen {
    at: Moment,
    identity: String,
    text: String,
    channel: Channel,
}

#[derive(Debug, Default)]
pub(super) struct Chat(VecDeque<Seen>);

impl Chat {
    /// Whether the text has not come on another channel already.
    pub(super) fn is_new(
        &mut self,
        identity: &str,
        text: &str,
        channel: Channel,
        at: Moment,
    ) -> bool {
        self.0.retain(|s| at.since(s.at) <= TWICE_WITHIN_MS);
        let same = |s: &Seen| s.identity == identity && s.text == text && s.channel != channel;
        if let Some(n) = self.0.iter().position(same) {
            // It pairs with one text only.
            self.0.remove(n);
            return false;
        }
        if self.0.len() >= MAX {
            self.0.pop_front();
        }
        let (identity, text) = (identity.to_owned(), text.to_owned());
        self.0.push_back(Seen { at, identity, text, channel });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_on_two_channels_is_one_and_the_same_text_twice_is_two() {
        let t = Moment::from_millis;
        let mut chat = Chat::default();
        assert!(chat.is_new("alice", "yes", Channel::Stream, t(0)));
        assert!(!chat.is_new("alice", "yes", Channel::Message, t(40)));
        assert!(chat.is_new("alice", "yes", Channel::Message, t(900)));
        assert!(!chat.is_new("alice", "yes", Channel::Stream, t(950)));
        assert!(chat.is_new("alice", "yes", Channel::Stream, t(1_000)));
        assert!(chat.is_new("alice", "yes", Channel::Stream, t(1_100)), "typed twice");
        assert!(chat.is_new("bob", "yes", Channel::Message, t(1_200)), "another participant");
        assert!(chat.is_new("alice", "yes", Channel::Message, t(9_000)), "much later");
    }

    #[test]
    fn few_texts_are_remembered() {
        let mut chat = Chat::default();
        for n in 0..10_000 {
            chat.is_new("alice", &n.to_string(), Channel::Stream, Moment::default());
        }
        assert_eq!(chat.0.len(), MAX);
    }
}
