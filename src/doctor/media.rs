//! A room of its own: two hidden participants send each other data over UDP, then over TCP. And whether the
//! webhook about that room arrives.

use std::{future::IntoFuture, net::SocketAddr, time::Duration};

use delivery::events::Events;
use livekit::webrtc::transport::{self, Transport};
use livekit_protocol::{CreateRoomRequest, RoomAgentDispatch};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle, time::timeout};

use super::Check;
use crate::{
    admin::Webhook, clock::WallClock, config::Config, net::Api, observer::trial, telemetry::masked,
    worker::ReconcileRequest,
};

/// For a join and a packet, over one transport.
const MEDIA_WITHIN: Duration = Duration::from_secs(8);
/// LiveKit sends a webhook at once.
const WEBHOOK_WITHIN: Duration = Duration::from_secs(3);

pub(super) async fn checks(config: &Config, api: &Api, wall: &WallClock) -> Vec<Check> {
    const NAME: &str = "room";
    let room = format!("call-history-doctor-{}", uuid::Uuid::new_v4().simple());
    let hook = match config.http_addr.filter(|_| config.layers.webhook) {
        Some(addr) => Hook::listen(addr, config, wall).await,
        None => Hook::Off,
    };
    // No agent is dispatched to it: else one that has no name would come.
    let nobody =
        RoomAgentDispatch { agent_name: "call-history-nobody".into(), ..Default::default() };
    let request = CreateRoomRequest {
        name: room.clone(),
        empty_timeout: 30,
        departure_timeout: 1,
        agents: vec![nobody],
        ..Default::default()
    };
    if let Err(e) = api.create_room(request).await {
        return vec![Check::failed(
            NAME,
            format!("no room can be created: {e}"),
            "the API key must be allowed to create rooms",
        )];
    }
    let webhook = hook.check().await;
    let udp = exchange(config, &room, Transport::Udp).await;
    let tcp = exchange(config, &room, Transport::Tcp).await;
    transport::allow(Transport::Any);
    let mut checks = vec![media(&udp, &tcp)];
    if let Err(e) = api.delete_room(&room).await {
        checks.push(Check::warning(
            NAME,
            format!("the room of this check could not be deleted: {e}"),
            "it ends by itself within half a minute",
        ));
    }
    checks.extend(webhook);
    checks
}

async fn exchange(config: &Config, room: &str, by: Transport) -> Result<Duration, String> {
    transport::allow(by);
    match timeout(MEDIA_WITHIN, trial::exchange(&config.livekit, room)).await {
        Ok(done) => done.map_err(|e| masked(&e)),
        Err(_) => Err(format!("nothing within {} s", MEDIA_WITHIN.as_secs())),
    }
}

fn media(udp: &Result<Duration, String>, tcp: &Result<Duration, String>) -> Check {
    const NAME: &str = "media";
    let both = "open the server's media ports for this machine: UDP (rtc.udp_port, or rtc.port_range_start to \
                _end) and TCP (rtc.tcp_port); rtc.node_ip or rtc.use_external_ip must give an address that \
                this machine reaches";
    let udp_port = "calls are recorded all the same, but each join takes some seconds longer; to change that, open UDP \
                    for this machine: rtc.udp_port, or rtc.port_range_start to _end";
    let tcp_port =
        "calls are recorded all the same; for a second way open TCP for this machine: rtc.tcp_port";
    match (udp, tcp) {
        (Ok(udp), Ok(tcp)) => Check::ok(
            NAME,
            format!(
                "data arrives through a room: over UDP in {} ms, over TCP in {} ms",
                udp.as_millis(),
                tcp.as_millis()
            ),
        ),
        (Err(e), Ok(_)) => {
            Check::warning(NAME, format!("data arrives over TCP only; over UDP: {e}"), udp_port)
        }
        (Ok(_), Err(e)) => Check::warning(
            NAME,
            format!("data arrives over UDP only, there is no second way; over TCP: {e}"),
            tcp_port,
        ),
        (Err(udp), Err(tcp)) => Check::failed(
            NAME,
            format!("no data arrives through a room; over UDP: {udp}; over TCP: {tcp}"),
            both,
        ),
    }
}

/// Listens for the webhook about the room.
enum Hook {
    /// Webhooks are not wanted.
    Off,
    /// The address cannot be used. Mostly a worker has it.
    Taken(SocketAddr),
    Listening {
        addr: SocketAddr,
        task: JoinHandle<()>,
        came: mpsc::Receiver<ReconcileRequest>,
    },
}

impl Hook {
    async fn listen(addr: SocketAddr, config: &Config, wall: &WallClock) -> Self {
        let Ok(listener) = TcpListener::bind(addr).await else { return Self::Taken(addr) };
        let (requests, came) = mpsc::channel(1);
        // As the worker takes them: what is not signed by LiveKit does not count.
        let webhook = Webhook::new(&config.livekit, requests, wall.clone(), Events::default());
        let served = axum::serve(listener, webhook.route()).into_future();
        let task = tokio::spawn(async move { drop(served.await) });
        Self::Listening { addr, task, came }
    }

    async fn check(self) -> Option<Check> {
        const NAME: &str = "webhooks";
        match self {
            Self::Off => Some(Check::skipped(NAME, "the worker takes none, by its settings")),
            Self::Taken(addr) => Some(Check::skipped(
                NAME,
                format!(
                    "no webhook can be received at {addr} (see http_port); if the worker has this address, its log shows webhooks at the level debug"
                ),
            )),
            Self::Listening { addr, task, mut came } => {
                let found = timeout(WEBHOOK_WITHIN, came.recv()).await;
                // A worker may want to start.
                task.abort();
                let _ = task.await;
                Some(match found {
                    Ok(Some(_)) => Check::ok(NAME, format!("a webhook arrived at {addr}")),
                    _ => Check::warning(
                        NAME,
                        format!(
                            "no webhook that LiveKit has signed with our key arrived at {addr}"
                        ),
                        "calls are found without webhooks too, but very short ones are missed; to get them, \
                         add http://THIS-HOST:PORT/webhook to webhook.urls in LiveKit's configuration, with our \
                         LIVEKIT_API_KEY as webhook.api_key",
                    ),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn one_way_is_enough_but_worth_a_warning() {
        let (works, fails) = (|| Ok(Duration::from_millis(20)), || Err("nothing".to_owned()));
        for (udp, tcp, due) in [
            (works(), works(), State::Ok),
            (fails(), works(), State::Warning),
            (works(), fails(), State::Warning),
            (fails(), fails(), State::Failed),
        ] {
            assert_eq!(media(&udp, &tcp).state, due);
        }
    }
}
