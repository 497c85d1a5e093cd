//! Tries the way that a call's data takes: two hidden participants in a room of their own.

use std::time::{Duration, Instant};

use livekit::{DataPacket, Room, RoomEvent, RoomOptions};
use tokio::sync::mpsc::UnboundedReceiver;

use super::{admission, room::redacted, sdk};
use crate::{config::LiveKit, fleet};

const PAYLOAD: &[u8] = b"call-history doctor";

/// Joins twice, sends a packet from one to the other, and leaves. Returns the packet's time.
///
/// # Errors
/// What failed, without tokens.
pub(crate) async fn exchange(livekit: &LiveKit, room: &str) -> Result<Duration, String> {
    sdk::websocket::install();
    let (sender, _events) = join(livekit, room, "sender").await?;
    let (receiver, mut events) = join(livekit, room, "receiver").await?;
    let sent = Instant::now();
    let packet = DataPacket { payload: PAYLOAD.into(), reliable: true, ..Default::default() };
    sender.local_participant().publish_data(packet).await.map_err(|e| e.to_string())?;
    let arrived = loop {
        match events.recv().await {
            Some(RoomEvent::DataReceived { payload, .. }) if **payload == *PAYLOAD => {
                break Ok(sent.elapsed());
            }
            Some(RoomEvent::Disconnected { reason }) => {
                break Err(format!("the room was lost: {reason:?}"));
            }
            Some(_) => {}
            None => break Err("the room was lost".into()),
        }
    };
    // Nothing depends on an orderly leave.
    let _ = tokio::join!(sender.close(), receiver.close());
    arrived
}

async fn join(
    livekit: &LiveKit,
    room: &str,
    who: &str,
) -> Result<(Room, UnboundedReceiver<RoomEvent>), String> {
    let identity = fleet::identity(&format!("doctor-{who}"));
    let token = admission::token(livekit, room, &identity, Default::default())?;
    let _joining = sdk::gate::open(&identity);
    let mut options = RoomOptions::default();
    options.auto_subscribe = false;
    options.join_retries = 0;
    Room::connect(&livekit.url, &token, options).await.map_err(|e| redacted(&e.to_string(), &token))
}
