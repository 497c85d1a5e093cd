//! States and timers: turns str0m's events into the states that a `livekit` client sees.
//!
//! In: str0m's events and the clock. Out: state changes in the queue. str0m has no state "failed"; this
//! module reports it for a path that stays down, and for a silent peer. Must never report a state twice
//! in a row, and no timer may outlive its purpose.

use std::time::{Duration, Instant};

use str0m::{Event, IceConnectionState as StrIce};

use super::{Core, Life};
use crate::{
    callbacks::Ev,
    peer_connection::{IceConnectionState, IceGatheringState, PeerConnectionState, SignalingState},
};

/// str0m has no "failed" ICE state; a path that stays down this long counts as failed.
const FAILED_AFTER: Duration = Duration::from_secs(10);
/// A connected peer sends at least every 3 s (consent checks of either side). str0m takes 22 s to
/// notice a silent peer, but a LiveKit server removes a participant after 16 s, and messages sent
/// meanwhile are then lost. An ICE restart before that loses nothing.
const SILENT_AFTER: Duration = Duration::from_secs(8);
/// How long a connection that the peer has closed is not yet reported as failed. A LiveKit server that
/// removes a participant closes its media and sends the reason over the signal connection, in either
/// order. `livekit` takes a failed connection for a fault and joins the room again by name, which would
/// open a deleted room again. Google's libwebrtc reports nothing until the path goes silent.
const GOODBYE_FOR: Duration = Duration::from_secs(5);
/// When TCP is tried as well. Servers offer ICE-TCP to every client, so an offer is no reason to connect
/// while UDP may still work.
const TCP_AFTER: Duration = Duration::from_secs(2);
const TCP_AFTER_RESTART: Duration = Duration::from_secs(1);
/// How long our first check waits after our answer, which goes over the signal connection. A server
/// that gets the check first takes us for a peer-reflexive candidate, and pion waits a whole second
/// before it nominates such candidates.
const ANSWER_AHEAD: Duration = Duration::from_millis(40);

pub(crate) struct Timers {
    /// When the last packet of the peer arrived.
    pub(super) heard: Instant,
    /// When a path that is down counts as failed.
    fail_at: Option<Instant>,
    /// When a connection that the peer has closed counts as lost.
    goodbye_at: Option<Instant>,
    /// When TCP is tried as well.
    tcp_at: Option<Instant>,
    /// When candidates that are held back are used (see [`ANSWER_AHEAD`]).
    release_at: Option<Instant>,
}

impl Timers {
    pub(super) fn new(now: Instant) -> Timers {
        Timers { heard: now, fail_at: None, goodbye_at: None, tcp_at: None, release_at: None }
    }

    pub(super) fn earliest(&self, deadline: Instant) -> Instant {
        [self.fail_at, self.goodbye_at, self.tcp_at, self.release_at]
            .into_iter()
            .flatten()
            .fold(deadline, Instant::min)
    }

    /// The peer has closed the connection, but this is not yet reported.
    pub(super) fn saying_goodbye(&self) -> bool {
        self.goodbye_at.is_some()
    }

    pub(super) fn clear(&mut self) {
        *self = Timers::new(self.heard);
    }
}

fn due(timer: &mut Option<Instant>, now: Instant) -> bool {
    timer.take_if(|t| *t <= now).is_some()
}

impl Core {
    pub(super) fn event(&mut self, e: Event) {
        match e {
            Event::IceConnectionStateChange(s) => {
                let s = match s {
                    StrIce::New => IceConnectionState::New,
                    StrIce::Checking => IceConnectionState::Checking,
                    StrIce::Connected => IceConnectionState::Connected,
                    StrIce::Completed => IceConnectionState::Completed,
                    StrIce::Disconnected => IceConnectionState::Disconnected,
                };
                self.timers.fail_at =
                    (s == IceConnectionState::Disconnected).then(|| Instant::now() + FAILED_AFTER);
                self.set_ice(s);
            }
            Event::Connected => self.dtls_up = true,
            Event::Closed => {
                // The peer ended DTLS or SCTP; str0m cannot be revived.
                self.timers.goodbye_at.get_or_insert_with(|| Instant::now() + GOODBYE_FOR);
                self.close_channels();
            }
            Event::ChannelOpen(cid, label) => self.channel_open(cid, label),
            Event::ChannelData(d) => self.channel_data(d),
            Event::ChannelClose(cid) => self.channel_close(cid),
            _ => {} // media is dropped
        }
    }

    pub(super) fn run_timers(&mut self, now: Instant) {
        if due(&mut self.timers.fail_at, now) {
            self.set_ice(IceConnectionState::Failed);
        }
        if due(&mut self.timers.goodbye_at, now) {
            self.lost(&"closed by the peer");
            self.update_connection();
        }
        if due(&mut self.timers.release_at, now) {
            self.release_candidates();
        }
        if due(&mut self.timers.tcp_at, now) && self.connection == PeerConnectionState::Connecting {
            self.try_tcp();
        }
    }

    /// Reports a silent peer as failed. Only the driver calls this, after it has read all packets.
    pub(crate) fn notice_silence(&mut self) {
        if self.connection != PeerConnectionState::Connected {
            return;
        }
        let end = self.timers.heard + SILENT_AFTER;
        if end <= Instant::now() {
            log::debug!("nothing heard for {SILENT_AFTER:?}");
            self.set_ice(IceConnectionState::Failed);
        } else {
            self.deadline = self.deadline.min(end);
        }
    }

    pub(crate) fn expect_connection(&mut self, restarted: bool) {
        let wait = if restarted { TCP_AFTER_RESTART } else { TCP_AFTER };
        self.timers.tcp_at = Some(Instant::now() + wait);
    }

    /// Our answer is being sent; the checks follow after [`ANSWER_AHEAD`].
    pub(crate) fn release_candidates_soon(&mut self) {
        self.timers.release_at = Some(Instant::now() + ANSWER_AHEAD);
    }

    pub(super) fn set_ice(&mut self, s: IceConnectionState) {
        if self.ice != s {
            self.ice = s;
            self.queue.push_back(Ev::Ice(s));
        }
        self.update_connection();
    }

    pub(super) fn update_connection(&mut self) {
        use PeerConnectionState as P;
        let s = match (self.life, self.ice) {
            (Life::Closed, _) => P::Closed,
            (Life::Dead, _) | (_, IceConnectionState::Failed) => P::Failed,
            (_, IceConnectionState::Connected | IceConnectionState::Completed) if self.dtls_up => {
                P::Connected
            }
            (_, IceConnectionState::New) => P::New,
            (_, IceConnectionState::Disconnected) if self.dtls_up => P::Disconnected,
            _ => P::Connecting,
        };
        if self.connection != s {
            self.connection = s;
            self.queue.push_back(Ev::Connection(s));
        }
    }

    pub(super) fn set_gathering(&mut self, s: IceGatheringState) {
        if self.gathering != s {
            self.gathering = s;
            self.queue.push_back(Ev::Gathering(s));
        }
    }

    pub(super) fn end_signaling(&mut self) {
        if self.jsep.set_signaling(SignalingState::Closed) {
            self.queue.push_back(Ev::Signaling(SignalingState::Closed));
        }
    }
}
