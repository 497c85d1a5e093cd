//! The journal of a call: every event that its record is made of. It is handed to the journals' thread
//! in the moment in which it is taken, and on the disk at once (joins, leaves, ends) or within half a
//! second.
//!
//! ```text
//! DATA_DIR/live/<call_id>.jsonl
//!
//! {"crc":"7f3a09c1","journal":1,"call_id":"…","room":{"sid":"RM_…","name":"…"},"ordinal":0,"settings":{…}}
//! {"crc":"e52b1d04","at":1795403704725,"what":"watching","server_behind_ms":0}
//! {"crc":"02b98a77","at":1795403704836,"what":"joined","identity":"…","kind":"sip",…}
//! ```
//!
//! * One JSON object a line, so `jq`, `grep` and a text editor are enough to read one.
//! * The first line is the [`Header`]: the format's version, whose call it is, and the settings that
//!   decide the record. The others are [`Event`]s in the order in which they were taken; `at` is
//!   milliseconds since the epoch, by the observer's clock; `what` names the fact, and the rest are
//!   its fields ([`call::Fact`] says what each means).
//! * `crc` is the CRC-32 of what follows its comma, to the line's end. A line that does not fit it,
//!   or that a crash left half, ends the journal: it and all after it are cut off. A journal whose
//!   header has no `crc` needs none: for journals written by hand.
//! * A reader knows older versions; a newer one it refuses. A fact's new field has a default, so
//!   that does not make a new version.
//!
//! The same journal gives the same record, byte for byte: `call-history replay FILE` prints it, a
//! recovery is a replay, and so is a test. A journal holds what was said in the call: its file is
//! for the worker's own user only, and it is gone once the record is sealed.

mod read;
mod recover;
mod replay;
mod write;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use read::{Journal, read};
pub use recover::{LeftBehind, left_behind};
pub use replay::told;
pub use write::{CallJournal, Journals};

use call::{Call, Event, RoomFacts, Settings};

/// The version that is written.
const VERSION: u32 = 1;

/// The first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the format.
    pub journal: u32,
    pub call_id: String,
    pub room: RoomFacts,
    /// The call's position in its room.
    pub ordinal: u32,
    #[serde(default)]
    pub settings: Settings,
}

impl Header {
    pub fn of(call: &Call) -> Self {
        Self {
            journal: VERSION,
            call_id: call.id(),
            room: call.room().clone(),
            ordinal: call.ordinal(),
            settings: call.settings().clone(),
        }
    }
}

/// One line, with its checksum and its end.
fn line(of: &impl Serialize) -> Vec<u8> {
    // Plain texts, numbers and lists: nothing in it can fail to become JSON.
    let json = serde_json::to_string(of).unwrap_or_default();
    let rest = json.strip_prefix('{').unwrap_or("}");
    format!("{CRC}{:08x}\",{rest}\n", crc32fast::hash(rest.as_bytes())).into_bytes()
}

/// How a line with a checksum begins.
const CRC: &str = "{\"crc\":\"";

/// A line's object without its checksum.
///
/// # Errors
/// What is wrong with it.
fn checked(line: &str) -> Result<String, String> {
    let Some(rest) = line.strip_prefix(CRC) else { return Ok(line.to_owned()) };
    let (crc, rest) = rest.split_once("\",").ok_or("a checksum without a line")?;
    let due = u32::from_str_radix(crc, 16).map_err(|_| "the checksum is no number")?;
    if crc32fast::hash(rest.as_bytes()) != due {
        return Err("the checksum does not fit".into());
    }
    Ok(format!("{{{rest}"))
}

/// Joins, leaves and ends are on the disk at once; the rest within half a second.
fn is_important(e: &Event) -> bool {
    use call::Fact as F;
    matches!(e.fact, F::Joined(_) | F::Left { .. } | F::RoomEnded { .. } | F::Carried(_))
}
