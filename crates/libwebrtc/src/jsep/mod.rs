//! Offer and answer (JSEP, RFC 9429), as far as `livekit` uses them.
//!
//! In: descriptions and candidates, from us and from the peer. Out: descriptions, and a private
//! session for str0m. `local` writes and sets our own descriptions, `remote` sets the peer's.
//!
//! str0m is always the answerer: an answer of the peer is rewritten as an offer. There are three
//! reasons. str0m's `SdpApi::apply()` makes no offer when nothing has changed, but `livekit` offers again
//! even then. Its pending offer cannot be cancelled the way `livekit` does. Its direct API has no ICE
//! restart. After `accept_offer`, the direct API sets our ICE role and the credentials that our offer
//! has named. When str0m is upgraded, check this module first.
//!
//! Must never send media, and never trust a peer's description beyond the checks of `sdp`.

mod local;
mod remote;

use str0m::IceCreds;

use crate::{
    RtcError,
    RtcErrorType::InvalidSdp,
    err,
    limits::CANDIDATES,
    peer_connection::SignalingState,
    rtp_transceiver::RtpTransceiver,
    sdp::{Projection, Sdp},
    session_description::SessionDescription,
};

/// The use of one section of the descriptions.
enum MLine {
    /// The data section, with its id.
    App(String),
    Media(RtpTransceiver),
    /// An unknown kind of section, or a second data section.
    Refused,
}

#[derive(Debug, PartialEq, Eq)]
enum Noted {
    New,
    Known,
    TooMany,
}

const LOCAL: usize = 0;
const REMOTE: usize = 1;

pub(crate) struct Jsep {
    session_id: u64,
    version: u64,
    pub(crate) signaling: SignalingState,
    mlines: Vec<MLine>,
    /// How many of `mlines` an answer has confirmed; a rollback returns to this number.
    settled: usize,
    pub(crate) transceivers: Vec<RtpTransceiver>,
    /// The descriptions of the last completed negotiation, local and remote.
    current: [Option<SessionDescription>; 2],
    /// The open offer, in the place of its side.
    pending: [Option<SessionDescription>; 2],
    /// Credentials of our last offer that restarts ICE; str0m gets them with the answer.
    restart: Option<IceCreds>,
    pub(crate) restart_wanted: bool,
    /// The peer's ICE session. Another ufrag means a restart.
    remote_ufrag: Option<String>,
    /// The ICE session for which local candidates were last reported.
    gathered_ufrag: String,
    /// Our DTLS role, once it is negotiated: true for the client.
    dtls_active: Option<bool>,
    projection: Projection,
    /// str0m's answer to a peer that offers SNAP (the SCTP handshake inside the SDP).
    snap: Option<String>,
    /// Candidates that arrived too early, or that are held back (`holding`).
    early: Vec<str0m::Candidate>,
    /// Remote candidates of this ICE session so far. A repeated description repeats its candidates,
    /// which must not count twice.
    seen: Vec<String>,
    /// Candidates are held back, so that our answer arrives before our first check (see ANSWER_AHEAD).
    holding: bool,
}

impl Jsep {
    pub(crate) fn new() -> Self {
        Jsep {
            session_id: uuid::Uuid::new_v4().as_u64_pair().0 >> 2,
            version: 0,
            signaling: SignalingState::Stable,
            mlines: vec![],
            settled: 0,
            transceivers: vec![],
            current: [None, None],
            pending: [None, None],
            restart: None,
            restart_wanted: false,
            remote_ufrag: None,
            gathered_ufrag: String::new(),
            dtls_active: None,
            projection: Projection::default(),
            snap: None,
            early: vec![],
            seen: vec![],
            holding: false,
        }
    }

    pub(crate) fn clear(&mut self) {
        let signaling = self.signaling;
        *self = Jsep { signaling, ..Jsep::new() };
    }

    /// True if the state has changed.
    pub(crate) fn set_signaling(&mut self, s: SignalingState) -> bool {
        std::mem::replace(&mut self.signaling, s) != s
    }

    /// Remembers a remote candidate, if it is new and the number allows it.
    fn note(&mut self, candidate: &str) -> Noted {
        if self.seen.iter().any(|s| s == candidate) {
            return Noted::Known;
        }
        if self.seen.len() >= CANDIDATES || self.early.len() >= CANDIDATES {
            return Noted::TooMany;
        }
        self.seen.push(candidate.into());
        Noted::New
    }

    /// The data section's id, once there is a data section.
    pub(crate) fn app_mid(&self) -> Option<&str> {
        self.mlines.iter().find_map(|m| match m {
            MLine::App(mid) => Some(mid.as_str()),
            _ => None,
        })
    }

    pub(crate) fn current_local(&self) -> Option<SessionDescription> {
        self.current[LOCAL].clone()
    }

    pub(crate) fn current_remote(&self) -> Option<SessionDescription> {
        self.current[REMOTE].clone()
    }
}

fn parse(desc: &SessionDescription) -> Result<Sdp, RtcError> {
    Sdp::parse(desc.text()).or_else(|(line, why)| err(InvalidSdp, format!("{why}: '{line}'")))
}

#[cfg(test)]
mod tests;
