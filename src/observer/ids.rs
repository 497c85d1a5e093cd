//! Limits the length of ids that participants choose.

/// Characters of an id. LiveKit's own ids are shorter.
const MAX_ID: usize = 128;

pub(super) fn short(id: &str) -> String {
    id.chars().take(MAX_ID).collect()
}
