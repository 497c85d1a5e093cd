//! Faults of real networks, caused by a library call.
//!
//! In: the participant that a fault hits, and for how long. The fault is in effect when the call returns;
//! [`Server::freeze`] and [`Server::restart`] return when it is over. For tests only: no fault can be
//! caused over the network.

use std::{sync::atomic::Ordering, time::Duration};

use livekit_protocol::DisconnectReason;
use tokio::sync::oneshot;

use crate::{
    clock::now,
    hub::Refusal,
    room::Room,
    server::{Life, Order, Server},
};

/// What happens to a client's next attempts to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refuse {
    /// They succeed.
    Nothing,
    /// This many are refused.
    Next(u32),
    /// All are refused for this long.
    For(Duration),
}

/// Why a fault could not be caused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FaultError {
    /// No such participant in that room.
    #[error("{identity:?} is not in room {room:?}")]
    NoParticipant {
        /// The room that was named.
        room: String,
        /// The participant that was named.
        identity: String,
    },
    /// The server is down: restarting, or stopped.
    #[error("the server is down")]
    Down,
}

impl Server {
    fn life(&self) -> Result<Life, FaultError> {
        self.slot.get().ok_or(FaultError::Down)
    }

    async fn with(
        &self,
        room: &str,
        identity: &str,
        f: impl FnOnce(&mut Room, u64) + Send + 'static,
    ) -> Result<(), FaultError> {
        let who = identity.to_owned();
        let done =
            self.life()?.hub.ask(room, move |r| r.by_identity(&who).map(|key| f(r, key))).await;
        done.flatten().ok_or_else(|| FaultError::NoParticipant {
            room: room.into(),
            identity: identity.into(),
        })
    }

    /// Ends a client's signal connection without a close frame, and refuses the client's next signal
    /// connections. Its media connections stay.
    ///
    /// # Errors
    /// There is no such participant, or the server is down.
    pub async fn cut_signal(
        &self,
        room: &str,
        identity: &str,
        refuse: Refuse,
    ) -> Result<(), FaultError> {
        self.refuse(room, identity, refuse)?;
        self.with(room, identity, |r, key| {
            if let Some(p) = r.participants.get_mut(&key) {
                p.cut();
            }
        })
        .await
    }

    /// Refuses the next signal connections of a client with status 503, whether or not it is in the room.
    ///
    /// # Errors
    /// The server is down.
    pub fn refuse(&self, room: &str, identity: &str, refuse: Refuse) -> Result<(), FaultError> {
        let refusal = match refuse {
            Refuse::Nothing | Refuse::Next(0) => return Ok(()),
            Refuse::Next(n) => Refusal::Next(n),
            Refuse::For(time) => Refusal::Until(now() + time),
        };
        self.life()?.hub.refuse(room, identity, refusal);
        Ok(())
    }

    /// For each of the next `n` jobs that a worker accepts, cuts the worker's connection without a close
    /// frame and sends no assignment. The job is lost; the worker may register again.
    ///
    /// # Errors
    /// The server is down.
    pub fn lose_assignments(&self, n: u32) -> Result<(), FaultError> {
        self.life()?.hub.lose_assignments(n);
        Ok(())
    }

    /// Hides the room's sid from the next `n` clients that join, for as long as they stay.
    ///
    /// # Errors
    /// The server is down.
    pub fn hide_sids(&self, n: u32) -> Result<(), FaultError> {
        self.life()?.hub.hide_sids(n);
        Ok(())
    }

    /// Forgets a participant as a failing node would. Its connections die without a goodbye; the others see
    /// that it left for `reason`.
    ///
    /// # Errors
    /// There is no such participant, or the server is down.
    pub async fn drop_participant(
        &self,
        room: &str,
        identity: &str,
        reason: DisconnectReason,
    ) -> Result<(), FaultError> {
        self.with(room, identity, move |r, key| r.forget(key, reason)).await
    }

    /// The server neither reads nor sends for this long. Returns when it goes on.
    ///
    /// # Errors
    /// The server is down.
    pub async fn freeze(&self, time: Duration) -> Result<(), FaultError> {
        let (done, thawed) = oneshot::channel();
        self.life()?.runtime.spawn(async move {
            // The whole server runs on this thread.
            std::thread::sleep(time);
            let _ = done.send(());
        });
        thawed.await.map_err(|_| FaultError::Down)
    }

    /// Dies without a goodbye, forgets rooms and workers, and listens on the same ports again after `down`.
    /// Returns when it listens.
    ///
    /// # Errors
    /// The server did not start again.
    pub async fn restart(&self, down: Duration) -> Result<(), FaultError> {
        let (back, is_back) = oneshot::channel();
        self.orders.send(Order::Restart { down, back }).map_err(|_| FaultError::Down)?;
        is_back.await.map_err(|_| FaultError::Down)
    }

    /// Loses this share of UDP packets, 0 to 1, in each direction, until the next call or restart.
    ///
    /// # Errors
    /// The server is down.
    pub fn lose_packets(&self, to_clients: f64, from_clients: f64) -> Result<(), FaultError> {
        let millionths = |share: f64| (share.clamp(0.0, 1.0) * 1e6) as u32;
        let life = self.life()?;
        life.hub.net.loss.to_clients.store(millionths(to_clients), Ordering::Relaxed);
        life.hub.net.loss.from_clients.store(millionths(from_clients), Ordering::Relaxed);
        Ok(())
    }

    /// No client reaches the media ports any more, by UDP or by a new TCP connection, until the next call or restart.
    ///
    /// # Errors
    /// The server is down.
    pub fn close_media_ports(&self, closed: bool) -> Result<(), FaultError> {
        let share = if closed { 1.0 } else { 0.0 };
        self.lose_packets(share, share)?;
        self.life()?.hub.net.loss.tcp_closed.store(closed, Ordering::Relaxed);
        Ok(())
    }
}
