//! A room without a network: guests whose websocket is a queue, on paused time.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod membership;
mod updates;

use std::{sync::Arc, time::Duration};

use livekit_protocol::{
    self as lk, ConnectionQuality, DisconnectReason as Why, participant_info::State,
    signal_response::Message as Out,
};
use tokio::time::Instant;

use super::{Room, RoomSender, membership::Entered, track::Track};
use crate::{
    clock::wall_ms,
    config::{Config, DEV_KEY},
    hub::{Hub, ask},
    net::Net,
    outbox::{self, Inbox},
    participant::Join,
    signal::Change,
    token::{Claims, Video},
};

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) async fn hub(change: impl FnOnce(&mut Config)) -> Arc<Hub> {
    let mut config = Config::default();
    change(&mut config);
    Hub::new(config, Arc::new(Net::for_tests().await))
}

pub(super) struct Guest {
    pub(super) room: RoomSender,
    pub(super) inbox: Inbox<Out>,
    pub(super) key: u64,
    pub(super) sid: String,
}

pub(super) fn claims(identity: &str) -> Claims {
    let video = Video { room_join: true, room: "r".into(), ..Default::default() };
    let exp = wall_ms() as u64 / 1000 + 600;
    Claims { iss: DEV_KEY.into(), sub: identity.into(), exp, video, ..Default::default() }
}

pub(super) fn agent(identity: &str) -> Claims {
    Claims { kind: "agent".into(), ..claims(identity) }
}

pub(super) fn hidden(identity: &str) -> Claims {
    Claims { video: Video { hidden: true, ..claims(identity).video }, ..agent(identity) }
}

pub(super) async fn try_join(
    room: &RoomSender,
    claims: Claims,
) -> (Result<Entered, Why>, Inbox<Out>) {
    let (out, inbox) = outbox::channel(outbox::QUEUE);
    let join = Join {
        claims,
        out,
        single: true,
        auto_subscribe: true,
        client: lk::ClientInfo::default(),
        offer: None,
        add_tracks: vec![],
        attributes: Default::default(),
        metadata: String::new(),
    };
    (ask(room, move |r| r.join(join)).await.unwrap(), inbox)
}

impl Guest {
    /// Joins, with its connection up.
    pub(super) async fn join(room: &RoomSender, claims: Claims) -> Guest {
        let (entered, inbox) = try_join(room, claims).await;
        let (key, _) = entered.unwrap();
        let mut guest = Guest { room: room.clone(), inbox, key, sid: String::new() };
        guest.sid = guest
            .wait(|m| match m {
                Out::Join(j) => j.participant.map(|p| p.sid),
                _ => None,
            })
            .await;
        guest
            .act(|r, key| {
                r.participants.get_mut(&key).unwrap().publisher.connected = true;
                r.connected(key, false);
            })
            .await;
        guest
    }

    pub(super) async fn act<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Room, u64) -> T + Send + 'static,
    ) -> T {
        let key = self.key;
        ask(&self.room, move |r| f(r, key)).await.unwrap()
    }

    /// As if packets of a microphone had arrived.
    pub(super) async fn publish(&self, sid: &'static str) {
        self.act(move |r, key| {
            let info = lk::TrackInfo { sid: sid.into(), ..Default::default() };
            let p = r.participants.get_mut(&key).unwrap();
            p.info.is_publisher = true;
            p.tracks.push(Track::new(info));
            r.count();
        })
        .await;
    }

    /// As if packets had arrived all the time until now.
    pub(super) async fn heard(&self) {
        self.act(|r, key| {
            r.participants.get_mut(&key).unwrap().publisher.heard = crate::clock::now()
        })
        .await;
    }

    pub(super) async fn wait<T>(&mut self, mut pick: impl FnMut(Out) -> Option<T>) -> T {
        let wait = async {
            loop {
                let message = self.inbox.rx.recv().await.expect("the connection has ended");
                if let Some(t) = pick(message) {
                    return t;
                }
            }
        };
        tokio::time::timeout(600 * SECOND, wait).await.expect("the message never came")
    }

    /// State and reason in the next update about a participant.
    pub(super) async fn update_about(&mut self, identity: &str) -> (State, Why) {
        self.wait(|m| match m {
            Out::Update(u) => u.participants.into_iter().find(|p| p.identity == identity),
            _ => None,
        })
        .await
        .pipe(|p| (State::try_from(p.state).unwrap(), Why::try_from(p.disconnect_reason).unwrap()))
    }

    pub(super) async fn goodbye(&mut self) -> Why {
        self.wait(|m| match m {
            Out::Leave(l) => Why::try_from(l.reason).ok(),
            _ => None,
        })
        .await
    }

    /// Picks from the messages that have arrived until now.
    pub(super) fn seen<T>(&mut self, mut pick: impl FnMut(Out) -> Option<T>) -> Vec<T> {
        let mut all = vec![];
        while let Ok(message) = self.inbox.rx.try_recv() {
            all.extend(pick(message));
        }
        all
    }
}

trait Pipe: Sized {
    fn pipe<T>(self, f: impl FnOnce(Self) -> T) -> T {
        f(self)
    }
}
impl<T> Pipe for T {}

pub(super) fn identities(message: Out) -> Option<Vec<String>> {
    match message {
        Out::Update(u) => Some(u.participants.into_iter().map(|p| p.identity).collect()),
        _ => None,
    }
}

pub(super) fn within(since: Instant, from: f64, to: f64) {
    let passed = since.elapsed().as_secs_f64();
    assert!((from..=to).contains(&passed), "{passed} s, not {from}..{to} s");
}
