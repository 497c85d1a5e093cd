//! Finding out that a room went deaf.
//!
//! A task of the `livekit` crate that panics takes its room's event loop with it: no event ever
//! comes again, while the connection says that all is well (known for 0.10.0: a legacy
//! transcription with a malformed track id). Nothing tells which room it was. So a panic hook
//! counts the panics, and after each one every observer sends itself one packet by the server's
//! API; a room that does not deliver it is left and joined again.

use std::{
    panic,
    sync::{LazyLock, Once},
    time::Duration,
};

use livekit_api::services::room::{RoomClient, SendDataOptions};
use livekit_protocol::data_packet;
use tokio::sync::watch;

/// Topic of the packet to ourselves.
pub(super) const PROBE_TOPIC: &str = "call-history.probe";
/// A room that lives delivers it in milliseconds.
pub(super) const PROBE_WITHIN: Duration = Duration::from_secs(3);

static PANICS: LazyLock<watch::Sender<u64>> = LazyLock::new(|| watch::Sender::new(0));

/// Counts panics from now on, and logs where they were: not what they said, which may be a text
/// out of a room.
pub(super) fn install_hook() -> watch::Receiver<u64> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        panic::set_hook(Box::new(|info| {
            let place = info.location().map(|l| format!("{}:{}", short(l.file()), l.line()));
            let place = place.unwrap_or_else(|| "unknown".into());
            tracing::error!(place, "panic caught; rooms are checked");
            PANICS.send_modify(|n| *n += 1);
        }));
    });
    PANICS.subscribe()
}

/// The path from the crate's name on.
fn short(file: &str) -> &str {
    let start = file.rfind("/src/").and_then(|at| file[..at].rfind('/')).map_or(0, |at| at + 1);
    &file[start..]
}

/// Asks the server to deliver one packet to ourselves; nobody else sees it.
///
/// # Errors
/// If the server does not answer or refuses: then nothing is known of the room.
pub(super) async fn probe(api: &RoomClient, room: &str, identity: &str) -> Result<(), String> {
    let options = SendDataOptions {
        kind: data_packet::Kind::Reliable,
        destination_identities: vec![identity.to_owned()],
        topic: Some(PROBE_TOPIC.to_owned()),
        ..Default::default()
    };
    api.send_data(room, vec![], options).await.map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn places_do_not_show_the_machine() {
        assert_eq!(
            short("/home/x/registry/livekit-0.10.0/src/room/mod.rs"),
            "livekit-0.10.0/src/room/mod.rs"
        );
        assert_eq!(short("src/main.rs"), "src/main.rs");
    }
}
