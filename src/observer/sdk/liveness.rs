//! Finding out that a room went deaf.
//!
//! A task of the `livekit` crate that panics takes its room's event loop with it: no event ever
//! comes again, while the connection says that all is well (known for 0.10.0: a legacy
//! transcription with a malformed track id). Nothing tells which room it was. So a panic hook
//! counts the panics, and after each one every observer sends itself one packet by the server's
//! API; a room that does not deliver it is left and joined again.

use std::{
    panic,
    sync::{Arc, LazyLock, Once},
    time::Duration,
};

use livekit_api::services::room::{RoomClient, SendDataOptions};
use livekit_protocol::data_packet;
use tokio::{sync::watch, time::sleep};

use crate::telemetry::masked;

/// Topic of the packet to ourselves.
pub(in crate::observer) const PROBE_TOPIC: &str = "call-history.probe";
/// A room that lives delivers one of them in milliseconds.
pub(in crate::observer) const ECHO_WITHIN: Duration = Duration::from_secs(6);
/// All observers ask at the same time after a panic: they spread over this.
const SPREAD: Duration = Duration::from_secs(1);
/// A probe is repeated, as the server may be busy.
const REPEATS: u32 = 3;
const REPEAT_EVERY: Duration = Duration::from_millis(1_500);

static PANICS: LazyLock<watch::Sender<u64>> = LazyLock::new(|| watch::Sender::new(0));

/// Counts panics from now on, and logs where they were: not what they said, which may be a text
/// out of a room.
pub(in crate::observer) fn install_hook() -> watch::Receiver<u64> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        panic::set_hook(Box::new(|info| {
            let place = info.location().map(|l| format!("{}:{}", short(l.file()), l.line()));
            let place = place.unwrap_or_else(|| "unknown".into());
            if PANICS.receiver_count() == 0 {
                // The runtime cuts tasks off when the process ends, and LiveKit's take it ill.
                return tracing::warn!(place, "panic caught while stopping");
            }
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

/// Asks the server to deliver a packet to ourselves; nobody else sees it. Whether it came shows in
/// the room's events, or not.
pub(in crate::observer) async fn probe(api: Arc<RoomClient>, room: String, identity: String) {
    sleep(SPREAD.mul_f64(rand::random())).await;
    for _ in 0..REPEATS {
        let options = SendDataOptions {
            kind: data_packet::Kind::Reliable,
            destination_identities: vec![identity.clone()],
            topic: Some(PROBE_TOPIC.to_owned()),
            ..Default::default()
        };
        match api.send_data(&room, vec![], options).await {
            Ok(()) => break,
            Err(e) => tracing::warn!(room = masked(&room), error = %e, "room not probed"),
        }
        sleep(REPEAT_EVERY).await;
    }
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
