//! One str0m instance and its state, without a task of its own.
//!
//! In: packets, the clock, and calls of the API. Out: packets, and events for listeners in
//! `queue`. The parts: this file moves data in and out of str0m; `state` turns str0m's events
//! into states and keeps the timers; `channels` has the data channels; `sockets` the addresses,
//! sockets and local candidates; `jsep` (its own folder) the offers and answers.
//! Must never wait or call a listener: the connection is locked here.

mod channels;
mod sockets;
mod state;

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::{Arc, LazyLock, Weak},
    time::{Duration, Instant},
};

use socket2::SockRef;
use str0m::{
    Input, Output, Rtc,
    config::DtlsCert,
    net::{Protocol, Receive, Transmit},
};
use tokio::net::UdpSocket;

pub(crate) use self::channels::Chan;
use self::state::Timers;
use crate::{
    RtcError,
    RtcErrorType::InvalidState,
    callbacks::Ev,
    driver::Shared,
    err,
    jsep::Jsep,
    limits::{MESSAGE_BYTES, PACKETS_AT_ONCE, SEND_BYTES},
    peer_connection::{IceConnectionState, IceGatheringState, PeerConnectionState},
    tcp::TcpLinks,
};

/// One certificate for the process. A certificate for each connection would cost time for keys and
/// signatures, without a benefit while one process serves one tenant. (`None`: str0m makes one for each
/// connection.)
static CERT: LazyLock<Option<DtlsCert>> =
    LazyLock::new(|| str0m::crypto::from_feature_flags().dtls_provider.generate_certificate());

/// Stands for "no timer": the driver then wakes once in an hour.
const IDLE: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Alive,
    /// str0m cannot go on. Reported as `Failed`; `livekit` connects again.
    Dead,
    /// The owner has closed the connection.
    Closed,
}

#[derive(Default, Clone)]
pub(crate) struct Counters {
    pub(crate) packets_in: u64,
    pub(crate) packets_out: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) channels_opened: u32,
    pub(crate) channels_closed: u32,
    /// Source, destination and protocol of the last packet sent.
    pub(crate) pair: Option<(SocketAddr, SocketAddr, Protocol)>,
}

pub(crate) struct Core {
    /// `None` once closed or given up, so that a remaining handle keeps no transport.
    pub(crate) rtc: Option<Box<Rtc>>,
    pub(crate) life: Life,
    /// One socket for each address of this machine. Shared with the driver, which waits on them.
    pub(crate) socks: Arc<Vec<(SocketAddr, UdpSocket)>>,
    pub(crate) tcp: TcpLinks,
    /// In the form of a description's attribute, without the ufrag.
    pub(crate) local_candidates: Vec<String>,
    /// Gives the addresses on which to open sockets; tests replace it to simulate a change.
    pub(crate) addresses: fn() -> Vec<IpAddr>,
    /// Events that the driver will dispatch to listeners.
    pub(crate) queue: VecDeque<Ev>,
    pub(crate) chans: Vec<Chan>,
    /// A data section is negotiated, so str0m can take channels.
    pub(crate) sctp_started: bool,
    pub(crate) jsep: Jsep,
    pub(crate) ice: IceConnectionState,
    pub(crate) gathering: IceGatheringState,
    pub(crate) connection: PeerConnectionState,
    pub(crate) counters: Counters,
    /// When the driver must run again.
    pub(crate) deadline: Instant,
    pub(crate) timers: Timers,
    dtls_up: bool,
}

impl Core {
    pub(crate) fn new(owner: Weak<Shared>, snap: bool) -> Core {
        let now = Instant::now();
        let mut config = Rtc::builder();
        if let Some(cert) = CERT.clone() {
            config = config.set_dtls_cert(cert);
        }
        // While there is no data section, str0m sees an audio section, which needs a codec.
        let rtc = config
            .clear_codecs()
            .enable_opus(true, false)
            .set_rtp_mode(true)
            .set_sctp_max_buffered_amount(SEND_BYTES)
            .set_sctp_max_message_size(MESSAGE_BYTES)
            .set_snap_enabled(snap)
            .build(now);
        Core {
            rtc: Some(Box::new(rtc)),
            life: Life::Alive,
            socks: Arc::default(),
            tcp: TcpLinks::new(owner),
            local_candidates: vec![],
            addresses: sockets::local_addresses,
            queue: VecDeque::new(),
            chans: vec![],
            sctp_started: false,
            jsep: Jsep::new(),
            ice: IceConnectionState::New,
            gathering: IceGatheringState::New,
            connection: PeerConnectionState::New,
            counters: Counters::default(),
            deadline: now,
            timers: Timers::new(now),
            dtls_up: false,
        }
    }

    pub(crate) fn rtc(&mut self) -> Result<&mut Rtc, RtcError> {
        match &mut self.rtc {
            Some(rtc) => Ok(rtc),
            None => err(InvalidState, "the connection has ended"),
        }
    }

    pub(crate) fn alive(&self) -> Result<(), RtcError> {
        match self.rtc {
            Some(_) => Ok(()),
            None => err(InvalidState, "the connection has ended"),
        }
    }

    /// Reads packets from the sockets. Only the driver calls this.
    pub(crate) fn receive(&mut self) {
        let socks = self.socks.clone();
        let mut buf = [0u8; 2048];
        for (local, sock) in socks.iter() {
            for _ in 0..PACKETS_AT_ONCE {
                let Ok((n, from)) = sock.try_recv_from(&mut buf) else { break };
                self.input(Protocol::Udp, from, *local, &buf[..n]);
            }
        }
    }

    /// Handles one packet from any sender. str0m drops packets that do not belong to this connection.
    pub(crate) fn input(&mut self, proto: Protocol, from: SocketAddr, to: SocketAddr, data: &[u8]) {
        let Some(rtc) = &mut self.rtc else { return };
        self.counters.packets_in += 1;
        self.counters.bytes_in += data.len() as u64;
        log::trace!(target: "webrtc_packets", "in  {proto:?} {from} -> {to} {}", kind(data));
        let Ok(packet) = Receive::new(proto, from, to, data) else { return };
        let now = Instant::now();
        let input = Input::Receive(now, packet);
        // Only packets of this connection show that the peer is alive.
        if rtc.accepts(&input) {
            self.timers.heard = now;
        }
        if let Err(e) = rtc.handle_input(input) {
            log::debug!("dropped packet from {from}: {e}");
        }
        self.drain();
    }

    /// Moves str0m's clock on and takes all its output.
    pub(crate) fn advance(&mut self) {
        let now = Instant::now();
        if let Some(rtc) = &mut self.rtc
            && let Err(e) = rtc.handle_input(Input::Timeout(now))
        {
            self.lost(&e);
        }
        self.drain();
        self.run_timers(now);
    }

    /// Takes str0m's output until str0m waits, then passes one queued message to it, and so on: str0m must
    /// be drained after every change.
    pub(crate) fn drain(&mut self) {
        loop {
            let Some(rtc) = &mut self.rtc else {
                self.deadline = Instant::now() + IDLE;
                break;
            };
            match rtc.poll_output() {
                Ok(Output::Transmit(t)) => self.transmit(t),
                Ok(Output::Event(e)) => self.event(e),
                Ok(Output::Timeout(t)) => {
                    self.deadline = t;
                    if !self.write_one() {
                        break;
                    }
                }
                Err(e) => {
                    self.lost(&e);
                    self.deadline = Instant::now() + IDLE;
                    break;
                }
            }
        }
        self.report_sent();
        self.update_connection();
        self.deadline = self.timers.earliest(self.deadline);
    }

    fn lost(&mut self, why: &dyn std::fmt::Display) {
        if self.life == Life::Alive && !self.timers.saying_goodbye() {
            log::warn!("connection lost: {why}");
            self.life = Life::Dead;
        }
    }

    fn transmit(&mut self, t: Transmit) {
        self.counters.packets_out += 1;
        self.counters.bytes_out += t.contents.len() as u64;
        self.counters.pair = Some((t.source, t.destination, t.proto));
        log::trace!(
            target: "webrtc_packets",
            "out {:?} {} -> {} {}", t.proto, t.source, t.destination, kind(&t.contents)
        );
        if t.proto != Protocol::Udp {
            return self.tcp.send(t.source, t.destination, &t.contents);
        }
        let Some((_, sock)) = self.socks.iter().find(|(a, _)| *a == t.source) else { return };
        // Not tokio's try_send_to, which fails until its reactor has seen the new socket. If the socket
        // buffer is full, the packet is lost, as on any network.
        if let Err(e) = SockRef::from(sock).send_to(&t.contents, &t.destination.into()) {
            log::debug!("{} -> {}: {e}", t.source, t.destination);
        }
    }

    pub(crate) fn close(&mut self) {
        if self.life == Life::Closed {
            return;
        }
        if let Some(rtc) = &mut self.rtc {
            if let Err(e) = rtc.close() {
                log::debug!("closing: {e}");
            }
            self.drain(); // sends the DTLS close to the peer
        }
        self.life = Life::Closed;
        self.release();
        self.end_signaling();
        self.set_ice(IceConnectionState::Closed);
    }

    /// Ends the connection after a panic, when its state cannot be trusted any more.
    pub(crate) fn give_up(&mut self, why: &str) {
        log::error!("connection given up after {why}");
        if self.life == Life::Alive {
            self.life = Life::Dead;
        }
        self.release();
        self.deadline = Instant::now() + IDLE;
        self.update_connection();
    }

    fn release(&mut self) {
        self.close_channels();
        self.rtc = None;
        self.socks = Arc::default();
        self.tcp.close();
        self.jsep.clear();
        self.timers.clear();
    }
}

/// Describes a packet for the trace log.
fn kind(data: &[u8]) -> String {
    let n = data.len();
    match data {
        [0..=3, ..] => format!("STUN {:02x?} {n} B", &data[..n.min(2)]),
        [first @ 20..=63, ..] => format!("DTLS {first} {n} B"),
        [128..=191, ..] => format!("RTP {n} B"),
        _ => format!("? {n} B"),
    }
}

#[cfg(test)]
mod tests;
