//! One peer connection of a client.
//!
//! A plain value without task or lock: a str0m `Rtc` driven by its direct API, our own list of media
//! sections ([`sections`]), and the data channels ([`channels`]). The room's task owns and drives it. In:
//! packets, descriptions, messages and audio to send. Out: packets (straight to [`Net`]) and [`PcEvent`]s.
//!
//! We are ICE-lite on one UDP socket: the client makes all checks, and we need none of its candidates. We are
//! always DTLS server and so SCTP server, no matter which side offers. Must never pass the client's values to
//! the direct API unchecked: the API may panic on inconsistent use; the checks of `sections` prevent that.

mod audio;
mod channels;
mod describe;
mod sections;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use sdp::Transport;
use str0m::{
    Event, IceCreds, Input, Output, Rtc,
    format::{Codec, FormatParams},
    media::{Frequency, Pt},
    net::{Protocol, Receive},
    rtp::{Extension, RtpPacket},
};

use channels::Channels;
pub(crate) use channels::{LOSSY, RELIABLE};
pub(crate) use sections::Incoming;
use sections::Section;

use crate::{clock::now, net::Net};

/// An event on a connection.
pub(crate) enum PcEvent {
    /// ICE and DTLS are up.
    Connected,
    /// The peer said goodbye, or DTLS failed.
    Closed,
    /// A channel of ours is open for writing.
    ChannelOpen(String),
    /// A message, with the label of its channel.
    Data(String, Vec<u8>),
    Rtp(Box<RtpPacket>),
}

/// What is wrong with a client's description.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PcError {
    #[error("{}: {:?}", .0.1, .0.0)]
    Description((String, String)),
    #[error("{0}")]
    Transport(&'static str),
    #[error("fingerprint: {0}")]
    Fingerprint(String),
    #[error(
        "section id {0:?} is missing, used twice, changed its kind, or is not 1-16 letters and digits"
    )]
    SectionId(String),
    #[error("more than {0} sections")]
    TooManySections(usize),
    #[error(transparent)]
    Rtc(#[from] str0m::RtcError),
}

/// The state of our offers; only one is out at a time.
#[derive(Default)]
pub(crate) struct Offering {
    /// An offer waits for its answer.
    pub(crate) out: bool,
    /// Something has changed since the offer: offer again when the answer arrives.
    pub(crate) again: bool,
    /// Number of the latest offer; answers to older ones are ignored.
    pub(crate) id: u32,
}

/// Payload type and header extension ids. They are fixed once the `Rtc` is built.
struct Format {
    payload_type: u8,
    level: Option<u8>,
    mid: Option<u8>,
}

pub(crate) struct Pc {
    /// Built late: if the client offers first, its offer decides the [`Format`].
    rtc: Option<Box<Rtc>>,
    creds: IceCreds,
    remote_ufrag: Option<String>,
    format: Format,
    sections: Vec<Section>,
    /// For each ssrc we send: the first incoming sequence number, and the number that replaces it.
    renumber: HashMap<u32, (u64, u64)>,
    session_id: u64,
    version: u64,
    /// Whether we open data channels on this connection and send on them.
    sends_data: bool,
    sctp: bool,
    channels: Channels,
    events: Vec<PcEvent>,
    pub(crate) offering: Offering,
    /// DTLS is up.
    pub(crate) connected: bool,
    /// The connection has failed or ended, and will not recover.
    pub(crate) dead: bool,
    /// When the last packet arrived.
    pub(crate) heard: Instant,
    /// When `advance` is due even without a packet.
    pub(crate) deadline: Instant,
    /// `advance` is due now.
    pub(crate) dirty: bool,
}

/// The deadline of a connection that has nothing to do.
const FAR: Duration = Duration::from_secs(3600);

impl Pc {
    pub(crate) fn new(sends_data: bool) -> Pc {
        let now = now();
        Pc {
            rtc: None,
            creds: IceCreds::new(),
            remote_ufrag: None,
            format: Format { payload_type: 111, level: Some(1), mid: Some(4) },
            sections: vec![],
            renumber: HashMap::new(),
            session_id: u64::from(rand::random::<u32>()) + 1,
            version: 0,
            sends_data,
            sctp: false,
            channels: Channels::default(),
            events: vec![],
            offering: Offering::default(),
            connected: false,
            dead: false,
            heard: now,
            deadline: now + FAR,
            dirty: false,
        }
    }

    /// The client's STUN requests name this connection by its ufrag.
    pub(crate) fn ufrag(&self) -> &str {
        &self.creds.ufrag
    }

    pub(crate) fn started(&self) -> bool {
        self.rtc.is_some()
    }

    fn rtc(&mut self, net: &Net) -> &mut Rtc {
        let (creds, format) = (&self.creds, &self.format);
        self.rtc.get_or_insert_with(|| Box::new(build(creds, format, net)))
    }

    fn set_transport(
        &mut self,
        theirs: &Transport,
        client_offers: bool,
        net: &Net,
    ) -> Result<(), PcError> {
        let first = self.remote_ufrag.is_none();
        let restart = self.remote_ufrag.as_ref().is_some_and(|u| *u != theirs.ufrag);
        if restart && client_offers {
            self.creds = IceCreds::new();
        }
        if first || restart {
            let fingerprint = theirs.fingerprint.parse().map_err(PcError::Fingerprint)?;
            let creds = self.creds.clone();
            let mut direct = self.rtc(net).direct_api();
            // An ICE restart needs only new credentials: new ports of the client become new peer-reflexive
            // pairs.
            direct.set_local_ice_credentials(creds);
            direct.set_remote_ice_credentials(IceCreds {
                ufrag: theirs.ufrag.clone(),
                pass: theirs.pwd.clone(),
            });
            if first {
                direct.set_remote_fingerprint(fingerprint);
                direct.start_dtls(false)?;
            }
        }
        self.remote_ufrag = Some(theirs.ufrag.clone());
        self.dirty = true;
        Ok(())
    }

    fn start_sctp(&mut self) {
        let Some(rtc) = self.rtc.as_mut().filter(|_| !self.sctp) else { return };
        self.sctp = true;
        rtc.direct_api().start_sctp(false);
        if self.sends_data {
            self.channels.create(rtc);
        }
    }

    /// Makes new credentials for an ICE restart. The caller registers the new ufrag with [`Net::listen`].
    pub(crate) fn renew_credentials(&mut self) {
        self.creds = IceCreds::new();
    }

    // ---- data ------------------------------------------------------------------------------------------

    pub(crate) fn can_send(&self, label: &str) -> bool {
        self.channels.can_send(label)
    }

    /// Queues a message on a channel; false when the channel is not open.
    pub(crate) fn send(&mut self, label: &str, data: &[u8]) -> bool {
        self.dirty = true;
        self.channels.send(label, data)
    }

    // ---- driving ---------------------------------------------------------------------------------------

    pub(crate) fn input(&mut self, proto: Protocol, from: SocketAddr, data: &[u8], net: &Net) {
        let now = now();
        let Some(rtc) = &mut self.rtc else { return };
        self.heard = now;
        let Ok(packet) = Receive::new(proto, from, net.local(proto), data) else { return };
        if let Err(error) = rtc.handle_input(Input::Receive(now, packet)) {
            tracing::debug!(%error, "packet");
        }
        // After every packet: DTLS keeps at most 30 packets that were not polled, and drops the rest.
        self.drain(net, now);
        self.dirty = true;
    }

    /// Moves the clock on and sends pending packets. Returns the events since the last call.
    pub(crate) fn advance(&mut self, net: &Net) -> Vec<PcEvent> {
        self.dirty = false;
        let now = now();
        if let Some(rtc) = &mut self.rtc
            && let Err(error) = rtc.handle_input(Input::Timeout(now))
        {
            tracing::debug!(%error, "connection");
            self.dead = true;
        }
        self.drain(net, now);
        std::mem::take(&mut self.events)
    }

    /// Closes with a DTLS close_notify, so that the client need not wait for a timeout.
    pub(crate) fn close(&mut self, net: &Net) {
        if let Some(rtc) = &mut self.rtc {
            let _ = rtc.close();
            self.drain(net, now());
        }
        self.rtc = None;
        self.dead = true;
    }

    fn drain(&mut self, net: &Net, now: Instant) {
        loop {
            let Some(rtc) = self.rtc.as_mut() else { return };
            match rtc.poll_output() {
                Ok(Output::Transmit(t)) => net.send(t.proto, &t.contents, t.destination),
                Ok(Output::Event(event)) => self.event(event),
                Ok(Output::Timeout(at)) => {
                    self.deadline = at;
                    if !self.channels.flush(rtc) {
                        return;
                    }
                    let _ = rtc.handle_input(Input::Timeout(now));
                }
                Err(error) => {
                    tracing::debug!(%error, "connection");
                    self.dead = true;
                    self.deadline = now + FAR;
                    return;
                }
            }
        }
    }

    fn event(&mut self, event: Event) {
        let happened = match event {
            Event::Connected => {
                self.connected = true;
                Some(PcEvent::Connected)
            }
            Event::Closed => {
                self.dead = true;
                Some(PcEvent::Closed)
            }
            Event::ChannelOpen(id, label) => {
                self.channels.opened(id, label).map(PcEvent::ChannelOpen)
            }
            Event::ChannelData(d) => {
                self.channels.label(d.id).map(|l| PcEvent::Data(l.to_owned(), d.data))
            }
            Event::ChannelClose(id) => {
                self.channels.closed(id);
                None
            }
            Event::RtpPacket(packet) => Some(PcEvent::Rtp(Box::new(packet))),
            _ => None,
        };
        self.events.extend(happened);
    }
}

fn build(creds: &IceCreds, format: &Format, net: &Net) -> Rtc {
    let mut config = Rtc::builder()
        .set_ice_lite(true)
        .set_local_ice_credentials(creds.clone())
        .set_dtls_cert(net.cert.clone())
        .clear_codecs()
        .clear_extension_map()
        .set_rtp_mode(true)
        .set_sctp_max_buffered_amount(512 * 1024)
        .set_sctp_max_message_size(256 * 1024);
    config.codec_config().add_config(
        Pt::from(format.payload_type),
        None,
        Codec::Opus,
        Frequency::FORTY_EIGHT_KHZ,
        Some(2),
        FormatParams { min_p_time: Some(10), use_inband_fec: Some(true), ..Default::default() },
    );
    if let Some(id) = format.level {
        config = config.set_extension(id, Extension::AudioLevel);
    }
    if let Some(id) = format.mid {
        config = config.set_extension(id, Extension::RtpMid);
    }
    let mut rtc = config.build(now());
    for candidate in &net.candidates {
        rtc.add_local_candidate(candidate.clone());
    }
    rtc
}
