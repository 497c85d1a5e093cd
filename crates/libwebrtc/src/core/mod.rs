//! One str0m instance and everything that belongs to it, without a task of its own.
//!
//! In: packets, the clock, and calls of the API. Out: packets, and events for listeners in
//! `queue`. The parts: this file moves data in and out of str0m; `state` turns str0m's events
//! into states and keeps the timers; `channels` has the data channels; `sockets` the addresses,
//! sockets and local candidates; `jsep` (its own folder) the offers and answers.
//! Never: a listener called, or anything waited for, while the connection is locked.

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

/// One identity for the process: making a key and signing a certificate for each connection is
/// work, and buys nothing while one process speaks for one tenant. (None: str0m makes one for
/// each connection.)
static CERT: LazyLock<Option<DtlsCert>> =
    LazyLock::new(|| str0m::crypto::from_feature_flags().dtls_provider.generate_certificate());

/// "No timer": the driver looks once in an hour.
const IDLE: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Alive,
    /// str0m cannot go on: reported as `Failed`; `livekit` connects anew.
    Dead,
    /// By the owner.
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
    /// Where the last packet left from, and went to.
    pub(crate) pair: Option<(SocketAddr, SocketAddr, Protocol)>,
}

pub(crate) struct Core {
    /// None once closed or given up, so that a handle kept around holds no transport.
    pub(crate) rtc: Option<Box<Rtc>>,
    pub(crate) life: Life,
    /// One socket for each address of this machine. Shared with the driver, which waits on them.
    pub(crate) socks: Arc<Vec<(SocketAddr, UdpSocket)>>,
    pub(crate) tcp: TcpLinks,
    /// As they stand in a description, without the ufrag.
    pub(crate) local_candidates: Vec<String>,
    /// Where sockets are to be opened; a test's machine can change its addresses.
    pub(crate) addresses: fn() -> Vec<IpAddr>,
    /// What the driver has to tell listeners.
    pub(crate) queue: VecDeque<Ev>,
    pub(crate) chans: Vec<Chan>,
    /// A data section was negotiated, so channels can be handed to str0m.
    pub(crate) sctp_started: bool,
    pub(crate) jsep: Jsep,
    pub(crate) ice: IceConnectionState,
    pub(crate) gathering: IceGatheringState,
    pub(crate) connection: PeerConnectionState,
    pub(crate) counters: Counters,
    /// When the driver must look again.
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
        // str0m wants a codec for the audio section it is shown while there is no data section.
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

    /// Takes what the sockets have. Driver only.
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

    /// One packet from anybody; str0m throws away what does not belong to this connection.
    pub(crate) fn input(&mut self, proto: Protocol, from: SocketAddr, to: SocketAddr, data: &[u8]) {
        let Some(rtc) = &mut self.rtc else { return };
        self.counters.packets_in += 1;
        self.counters.bytes_in += data.len() as u64;
        log::trace!(target: "webrtc_packets", "in  {proto:?} {from} -> {to} {}", kind(data));
        let Ok(packet) = Receive::new(proto, from, to, data) else { return };
        let now = Instant::now();
        let input = Input::Receive(now, packet);
        // Strangers' packets are no sign of life.
        if rtc.accepts(&input) {
            self.timers.heard = now;
        }
        if let Err(e) = rtc.handle_input(input) {
            log::debug!("dropped packet from {from}: {e}");
        }
        self.drain();
    }

    /// Moves str0m's clock on and takes all it has to say.
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

    /// Runs str0m until it only waits, then feeds it one queued message, and so on: str0m wants
    /// to be drained after every change.
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
        // Not tokio's try_send_to: it refuses until its reactor has seen the new socket. A full
        // socket buffer is a lost packet, as on any network.
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
            self.drain(); // says goodbye to the peer
        }
        self.life = Life::Closed;
        self.let_go();
        self.end_signaling();
        self.set_ice(IceConnectionState::Closed);
    }

    /// After a panic, when nothing in here can be trusted any more.
    pub(crate) fn give_up(&mut self, why: &str) {
        log::error!("connection given up after {why}");
        if self.life == Life::Alive {
            self.life = Life::Dead;
        }
        self.let_go();
        self.deadline = Instant::now() + IDLE;
        self.update_connection();
    }

    fn let_go(&mut self) {
        self.close_channels();
        self.rtc = None;
        self.socks = Arc::default();
        self.tcp.close();
        self.jsep.clear();
        self.timers.clear();
    }
}

/// For the trace of packets only.
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
