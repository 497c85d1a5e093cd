//! `livekit.AgentDispatchService`.

use std::sync::Arc;

use livekit_protocol as lk;

use super::{Call, CallResult, TwirpError, no_response, no_room, no_route};
use crate::{
    hub::{Hub, ask},
    signal::check_limits,
};

pub(super) async fn call(hub: Arc<Hub>, method: &str, call: Call) -> CallResult {
    match method {
        "CreateDispatch" => create(hub, call).await,
        "ListDispatch" => list(hub, call).await,
        "DeleteDispatch" => delete(hub, call).await,
        _ => Err(no_route("livekit.AgentDispatchService", method)),
    }
}

/// Creates the room as well if need be, with the implicit unnamed dispatch (docs/worker-protocol.md §3.2).
/// Not idempotent.
async fn create(hub: Arc<Hub>, call: Call) -> CallResult {
    let request: lk::CreateAgentDispatchRequest = call.read()?;
    call.admin(&request.room)?;
    check_limits(&request.metadata, &request.attributes)
        .map_err(|e| TwirpError("invalid_argument", e))?;
    let room = match hub.room(&request.room) {
        Some(room) => room,
        None if hub.config.auto_create => {
            hub.open_room(&request.room, lk::RoomConfiguration::default())
        }
        None => return Err(no_room()),
    };
    let agent = lk::RoomAgentDispatch {
        agent_name: request.agent_name,
        metadata: request.metadata,
        deployment: request.deployment,
        attributes: request.attributes,
        ..Default::default()
    };
    let dispatch = ask(&room, move |r| r.dispatch(agent)).await.ok_or_else(no_room)?;
    call.write("AgentDispatch", &dispatch)
}

async fn list(hub: Arc<Hub>, call: Call) -> CallResult {
    let request: lk::ListAgentDispatchRequest = call.read()?;
    call.admin(&request.room)?;
    let only = request.dispatch_id;
    let all = hub.ask(&request.room, |r| r.dispatches.clone()).await.ok_or_else(no_response)?;
    let agent_dispatches = all.into_iter().filter(|d| only.is_empty() || d.id == only).collect();
    call.write("ListAgentDispatchResponse", &lk::ListAgentDispatchResponse { agent_dispatches })
}

async fn delete(hub: Arc<Hub>, call: Call) -> CallResult {
    let request: lk::DeleteAgentDispatchRequest = call.read()?;
    call.admin(&request.room)?;
    let id = request.dispatch_id;
    let deleted =
        hub.ask(&request.room, move |r| r.delete_dispatch(&id)).await.ok_or_else(no_response)?;
    let dispatch = deleted.ok_or_else(|| TwirpError("not_found", "dispatch not found".into()))?;
    call.write("AgentDispatch", &dispatch)
}
