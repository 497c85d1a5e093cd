//! Reduces an event to the part that a journal has to hold, so that a replay gives the same record.
//! An event that the call ignores is not journaled; of other events only what the call reads is.
//!
//! Any participant can send without end. Data without effect on the record must not fill the disk,
//! and text that the call does not use must not be stored.

use super::{
    event::{Fact, Joined},
    metadata::{self, FromMetadata},
    party::{self, CALL_STATUS},
    roles::Grants,
    state::Call,
    words,
};

impl Call {
    /// The fact without the parts that the call does not read; `None` if the call reads all of it.
    /// The call reads the reduced fact in the same way, now and from a journal.
    pub(super) fn reduced(&self, fact: &Fact) -> Option<Fact> {
        let reduced = match fact {
            Fact::RoomMetadata { metadata } => {
                Fact::RoomMetadata { metadata: self.used_metadata(metadata) }
            }
            Fact::JobMetadata { metadata } => {
                Fact::JobMetadata { metadata: self.used_metadata(metadata) }
            }
            Fact::Joined(j) => {
                let grants = Grants::of(j, self.parties.names());
                let used = |k: &str, v: &str| grants.uses_attribute(k, v);
                Fact::Joined(Joined {
                    identity: j.identity.clone(),
                    sid: j.sid.clone(),
                    kind: j.kind,
                    name: String::new(),
                    metadata: if grants.may_be_caller() {
                        self.used_metadata(&j.metadata)
                    } else {
                        String::new()
                    },
                    attributes: party::filtered(&j.attributes, used),
                    joined_at: j.joined_at,
                    permissions: j.permissions,
                })
            }
            Fact::Metadata { identity, metadata } => {
                self.parties.get(identity)?;
                Fact::Metadata {
                    identity: identity.clone(),
                    metadata: self.used_metadata(metadata),
                }
            }
            Fact::Attributes { identity, changed } => {
                let p = self.parties.get(identity)?;
                let changed = party::filtered(changed, |k, v| p.grants().uses_attribute(k, v));
                Fact::Attributes { identity: identity.clone(), changed }
            }
            Fact::Left { identity, reason, attributes, since } => Fact::Left {
                identity: identity.clone(),
                reason: *reason,
                attributes: party::filtered(attributes, |k, _| k == CALL_STATUS),
                since: *since,
            },
            Fact::Chat { identity, text, words: None } if !text.trim().is_empty() => {
                let words = Some(words::count(text));
                let text =
                    if self.settings.transcript { self.keyed.kept(text) } else { String::new() };
                Fact::Chat { identity: identity.clone(), text, words }
            }
            Fact::Dtmf { identity, digit: Some(_) } if !self.settings.transcript => {
                Fact::Dtmf { identity: identity.clone(), digit: None }
            }
            Fact::StreamChunk { stream, text } => {
                let text = self.speech.shortened_chunk(stream, text)?;
                Fact::StreamChunk { stream: stream.clone(), text }
            }
            _ => return None,
        };
        (reduced != *fact).then_some(reduced)
    }

    fn used_metadata(&self, metadata: &str) -> String {
        let used = FromMetadata::read(metadata).as_metadata();
        metadata::with_passed(used, metadata, &self.settings.metadata_keys)
    }
}
