//! Reduces an event to the part that a journal has to hold, so that a replay gives the same record.
//! An event that the call ignores is not journaled; of other events only what the call reads is.
//!
//! Any participant can send without end. Data without effect on the record must not fill the disk,
//! and text that the call does not use must not be stored.

use super::{
    event::{Fact, Joined},
    parties::{self, CALL_STATUS},
    published::FromMetadata,
    state::Call,
    words,
};

impl Call {
    /// The fact without the parts that the call does not read; `None` if the call reads all of it.
    /// The call reads the reduced fact in the same way, now and from a journal.
    pub(super) fn reduced(&self, fact: &Fact) -> Option<Fact> {
        let reduced = match fact {
            Fact::RoomMetadata { metadata } => {
                Fact::RoomMetadata { metadata: used_metadata(metadata) }
            }
            Fact::JobMetadata { metadata } => {
                Fact::JobMetadata { metadata: used_metadata(metadata) }
            }
            Fact::Joined(j) => {
                let of_caller = parties::may_be_caller(j.kind);
                let used = |k: &String| parties::uses_attribute(j.kind, &j.identity, k);
                Fact::Joined(Joined {
                    identity: j.identity.clone(),
                    sid: j.sid.clone(),
                    kind: j.kind,
                    name: String::new(),
                    metadata: if of_caller { used_metadata(&j.metadata) } else { String::new() },
                    attributes: parties::filtered(&j.attributes, used),
                    joined_at: j.joined_at,
                })
            }
            Fact::Metadata { identity, metadata } => {
                self.parties.get(identity)?;
                Fact::Metadata { identity: identity.clone(), metadata: used_metadata(metadata) }
            }
            Fact::Attributes { identity, changed } => {
                let p = self.parties.get(identity)?;
                let changed =
                    parties::filtered(changed, |k| parties::uses_attribute(p.kind, identity, k));
                Fact::Attributes { identity: identity.clone(), changed }
            }
            Fact::Left { identity, reason, attributes, since } => Fact::Left {
                identity: identity.clone(),
                reason: *reason,
                attributes: parties::filtered(attributes, |k| k == CALL_STATUS),
                since: *since,
            },
            Fact::Chat { identity, text, words: None } if !text.trim().is_empty() => {
                let words = Some(words::count(text));
                Fact::Chat { identity: identity.clone(), text: String::new(), words }
            }
            Fact::StreamChunk { stream, text } => {
                let text = self.speech.shortened_chunk(stream, text)?;
                Fact::StreamChunk { stream: stream.clone(), text }
            }
            _ => return None,
        };
        (reduced != *fact).then_some(reduced)
    }
}

fn used_metadata(metadata: &str) -> String {
    FromMetadata::read(metadata).as_metadata()
}
