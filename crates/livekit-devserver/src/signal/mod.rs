//! `/rtc` and `/rtc/v1`: the websocket of a client.
//!
//! In: an HTTP upgrade with a token. Out: a participant in a room, its messages as [`Cmd::Signal`], the
//! room's messages as frames. The end of the socket does not end the participant; only the room decides that.

mod join;
mod requests;
mod update;

use std::sync::{Arc, atomic::Ordering};

use axum::{
    extract::{
        Query, State,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade},
    },
    http::{HeaderMap, HeaderValue, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use futures_util::{SinkExt, StreamExt};
use livekit_protocol::{
    self as lk, DisconnectReason as Why, leave_request::Action, signal_response::Message as Out,
};
use prost::Message as _;

use crate::{
    hub::{Hub, ask},
    outbox::{self, Inbox, Outbox},
    participant::Join,
    room::{Cmd, RoomSender},
};
pub(crate) use join::bearer;
use join::{Params, Request};
pub(crate) use update::{Change, MAX_METADATA, check_limits};

/// Longest message of a client, bytes.
const MAX_MESSAGE: usize = 2 << 20;
/// How long a goodbye may take to reach a client.
const GOODBYE: std::time::Duration = std::time::Duration::from_secs(2);

/// `/rtc/validate`: clients call it to learn why their websocket failed.
pub(crate) async fn validate(
    State(hub): State<Arc<Hub>>,
    Query(params): Query<Params>,
    headers: HeaderMap,
) -> Response {
    let mut response = match join::authorise(&hub, &params, &headers) {
        Ok(_) => "success".into_response(),
        Err(refusal) => refusal.into_response(),
    };
    // Browser clients call this from other origins.
    response.headers_mut().insert("access-control-allow-origin", HeaderValue::from_static("*"));
    response
}

pub(crate) async fn rtc(
    State(hub): State<Arc<Hub>>,
    uri: Uri,
    Query(params): Query<Params>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Response {
    let request = match Request::read(&hub, &params, &headers, uri.path().ends_with("/v1")) {
        Ok(request) => request,
        Err(refusal) => return refusal.into_response(),
    };
    if hub.refuses(&request.room, &request.claims.sub) {
        return (StatusCode::SERVICE_UNAVAILABLE, "refused by the test").into_response();
    }
    match upgrade {
        Ok(upgrade) => {
            upgrade.max_message_size(MAX_MESSAGE).on_upgrade(move |ws| session(hub, ws, request))
        }
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn session(hub: Arc<Hub>, ws: WebSocket, request: Request) {
    hub.sessions.fetch_add(1, Ordering::Relaxed);
    let (out, inbox) = outbox::channel(outbox::QUEUE);
    let entered = enter(&hub, request, out.clone()).await;
    match entered {
        Ok((room, key, conn)) => {
            drop(out);
            talk(ws, inbox, Some((room, key, conn))).await;
        }
        Err(leave) => {
            out.send(Out::Leave(leave));
            drop(out);
            talk(ws, inbox, None).await;
        }
    }
    hub.sessions.fetch_sub(1, Ordering::Relaxed);
}

/// The room, the participant's key there, and the number of its websocket.
type Place = (RoomSender, u64, u64);

/// Joins or resumes; the goodbye to send when that fails.
async fn enter(
    hub: &Arc<Hub>,
    request: Request,
    out: Outbox<Out>,
) -> Result<Place, lk::LeaveRequest> {
    let name = request.room.clone();
    if let Some(sid) = request.resumes.clone() {
        let unknown = lk::LeaveRequest {
            can_reconnect: true,
            reason: Why::StateMismatch as i32,
            action: Action::Reconnect as i32,
            ..Default::default()
        };
        let room = hub.room(&name).ok_or_else(|| unknown.clone())?;
        let entered = ask(&room, move |r| r.resume(&sid, out)).await.flatten();
        return entered.map(|(key, conn)| (room, key, conn)).ok_or(unknown);
    }
    let refused = |why: Why| lk::LeaveRequest { reason: why as i32, ..Default::default() };
    // A room may close between finding it and joining it; the next try then opens a new room.
    for _ in 0..3 {
        let room = hub.open_room(&name, request.claims.room_config.clone().unwrap_or_default());
        let join: Join = request.join(out.clone());
        match ask(&room, move |r| r.join(join)).await {
            Some(Ok((key, conn))) => return Ok((room, key, conn)),
            Some(Err(Why::RoomClosed)) | None => {}
            Some(Err(why)) => return Err(refused(why)),
        }
    }
    Err(refused(Why::JoinFailure))
}

/// Carries messages in both directions until either side ends the connection.
async fn talk(ws: WebSocket, inbox: Inbox<Out>, place: Option<Place>) {
    let (mut sink, mut source) = ws.split();
    let Inbox { mut rx, mut cut } = inbox;
    let write = async {
        while let Some(message) = rx.recv().await {
            let frame = lk::SignalResponse { message: Some(message) }.encode_to_vec();
            if sink.send(Message::Binary(frame.into())).await.is_err() {
                return;
            }
        }
        // Without this frame a client sees 1006.
        let goodbye = CloseFrame { code: 1000, reason: Default::default() };
        let _ = sink.send(Message::Close(Some(goodbye))).await;
    };
    let read = async {
        while let Some(Ok(frame)) = source.next().await {
            let message = match frame {
                Message::Binary(bytes) => lk::SignalRequest::decode(&bytes[..]).ok(),
                Message::Text(text) => serde_json::from_str::<lk::SignalRequest>(&text).ok(),
                Message::Close(_) => break,
                _ => continue,
            };
            if let (Some(message), Some((room, key, conn))) =
                (message.and_then(|m| m.message), &place)
            {
                let _ = room
                    .send(Cmd::Signal { key: *key, conn: *conn, message: Box::new(message) })
                    .await;
            }
        }
    };
    let mut said_goodbye = false;
    tokio::select! {
        biased;
        // First: a cut client's queue ends, too, and `write` would then send it a goodbye.
        () = cut.happened() => {}
        () = write => said_goodbye = true,
        () = read => {}
    }
    if said_goodbye {
        // Closing with unread input would reset the connection, and the goodbye would be lost.
        let drained = async { while let Some(Ok(_)) = source.next().await {} };
        let _ = tokio::time::timeout(GOODBYE, drained).await;
    }
    if let Some((room, key, conn)) = place {
        let _ = room.send(Cmd::SignalClosed { key, conn }).await;
    }
}
