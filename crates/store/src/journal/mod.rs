//! The journal of a call: every event that its record is made of. Each event is handed to the journals'
//! thread as soon as it is taken. The thread syncs joins, leaves and ends at once, and all other events
//! within half a second.
//!
//! ```text
//! DATA_DIR/live/<call_id>.jsonl
//!
//! {"crc":"7f3a09c1","journal":1,"call_id":"…","room":{"sid":"RM_…","name":"…"},"ordinal":0,"settings":{…}}
//! {"crc":"e52b1d04","at":1795403704725,"what":"watching","server_behind_ms":0}
//! {"crc":"02b98a77","at":1795403704836,"what":"joined","identity":"…","kind":"sip",…}
//! ```
//!
//! * One JSON object per line, so `jq`, `grep` and a text editor are enough to read a journal.
//! * The first line is the [`Header`]: the version of the format, the call, and the settings that the
//!   record depends on. The other lines are [`Event`]s in the order in which they were taken; `at` is
//!   milliseconds since the epoch, by the observer's clock; `what` names the fact, and the rest are
//!   its fields ([`call::Fact`] says what each means).
//! * `crc` is the CRC-32 of the rest of the line after its comma. The journal ends before the first
//!   line whose `crc` is wrong or that a crash left incomplete: this line and all after it are cut off.
//!   If the header has no `crc`, the other lines need none; that is for journals written by hand.
//! * A reader accepts older versions and refuses newer ones. A new field of a fact has a default, so
//!   it does not need a new version.
//!
//! The same journal gives the same record, byte for byte: `call-history replay FILE` prints it, and
//! recovery and tests replay journals too. A journal holds what was said in the call: only the worker's
//! own user may read its file, and the file is removed once the record is sealed, or moved to `journals/` if it is to be kept.

mod read;
mod recover;
mod replay;
mod write;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use read::{Journal, read};
pub use recover::{LeftBehind, left_behind};
pub use replay::replay_to_end;
pub use write::{CallJournal, Journals};

use call::{Call, Event, RoomFacts, Settings};

/// The version of the format that this program writes.
const VERSION: u32 = 1;

/// The first line of a journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the format.
    pub journal: u32,
    pub call_id: String,
    pub room: RoomFacts,
    /// The call's ordinal in its room.
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

/// One line, with its checksum and its line feed.
fn line(of: &impl Serialize) -> Vec<u8> {
    // Plain texts, numbers and lists: they always serialize.
    let json = serde_json::to_string(of).unwrap_or_default();
    let rest = json.strip_prefix('{').unwrap_or("}");
    format!("{CRC}{:08x}\",{rest}\n", crc32fast::hash(rest.as_bytes())).into_bytes()
}

/// How a line with a checksum begins.
const CRC: &str = "{\"crc\":\"";

/// A line's object without its checksum.
///
/// # Errors
/// A text that says what is wrong with the line.
fn checked(line: &str) -> Result<String, String> {
    let Some(rest) = line.strip_prefix(CRC) else { return Ok(line.to_owned()) };
    let (crc, rest) = rest.split_once("\",").ok_or("a checksum without a line")?;
    let due = u32::from_str_radix(crc, 16).map_err(|_| "the checksum is no number")?;
    if crc32fast::hash(rest.as_bytes()) != due {
        return Err("the checksum does not fit".into());
    }
    Ok(format!("{{{rest}"))
}

/// Important events are synced at once, the others within half a second.
fn is_important(e: &Event) -> bool {
    use call::Fact as F;
    matches!(e.fact, F::Joined(_) | F::Left { .. } | F::RoomEnded { .. } | F::Carried(_))
}
