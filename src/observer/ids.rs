//! Ids that participants choose, cut to a length.

/// Bytes of an id; what is longer was not made by an agent of LiveKit's.
const MAX_ID: usize = 128;

pub(super) fn short(id: &str) -> String {
    id.chars().take(MAX_ID).collect()
}
