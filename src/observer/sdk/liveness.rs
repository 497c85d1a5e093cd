//! Detects a room that delivers no events any more.
//!
//! If a task of the `livekit` crate panics, its room's event loop ends. No further event comes, though the
//! connection seems to be up (known for 0.10.0: a legacy transcription with a malformed track id). The
//! panic does not show which room it was. So a panic hook counts panics. After each panic every observer
//! sends itself a packet through the server's API. If the packet does not come, the observer joins again.

use std::{
    panic,
    sync::{LazyLock, Once},
    time::Duration,
};

use tokio::{sync::watch, time::sleep};

use crate::{net::Api, telemetry::masked};

/// Topic of the packet that an observer sends to itself.
pub(in crate::observer) const PROBE_TOPIC: &str = "call-history.probe";
/// How long an observer waits for its packet. A working room delivers it within milliseconds.
pub(in crate::observer) const ECHO_WITHIN: Duration = Duration::from_secs(6);
/// After a panic all observers send a probe: they spread over this time.
const SPREAD: Duration = Duration::from_secs(1);
/// How often a probe is sent if the server does not take it, as it may be busy.
const REPEATS: u32 = 3;
const REPEAT_EVERY: Duration = Duration::from_millis(1_500);

static PANICS: LazyLock<watch::Sender<u64>> = LazyLock::new(|| watch::Sender::new(0));

/// Counts panics from now on and logs their places. Their messages are not logged: they may hold text
/// from a room.
pub(in crate::observer) fn install_hook() -> watch::Receiver<u64> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        panic::set_hook(Box::new(|info| {
            let place = info.location().map(|l| format!("{}:{}", short(l.file()), l.line()));
            let place = place.unwrap_or_else(|| "unknown".into());
            if PANICS.receiver_count() == 0 {
                // At shutdown the runtime drops tasks, and the SDK's tasks then panic: harmless.
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

/// Sends a packet to ourselves through the server; no other participant receives it. It comes back as an
/// event of the room.
pub(in crate::observer) async fn probe(api: Api, room: String, identity: String) {
    sleep(SPREAD.mul_f64(rand::random())).await;
    for _ in 0..REPEATS {
        match api.send_empty_packet(&room, &identity, PROBE_TOPIC).await {
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
