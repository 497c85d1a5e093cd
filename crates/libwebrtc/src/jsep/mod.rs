//! Offer and answer (JSEP, RFC 9429) as far as `livekit` uses it.
//!
//! In: descriptions and candidates, from us and from the peer. Out: descriptions, and a private
//! session for str0m. `local` writes and sets our own descriptions, `remote` takes the peer's.
//!
//! str0m is always the answerer, even when the peer answered us: the answer is rewritten as an
//! offer. Its `SdpApi::apply()` offers nothing when nothing changed (`livekit` offers again
//! anyway), its pending offer cannot be cancelled the way `livekit` does, and its direct API has
//! no ICE restart. After `accept_offer` the direct API sets our own ICE role and the credentials
//! our offer had named. When str0m is upgraded, this is the first place to look.
//!
//! Never: media that is sent, and a peer's description trusted beyond what `sdp` has checked.

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

/// What stands behind one section of the descriptions.
enum MLine {
    /// The data section, with its id.
    App(String),
    Media(RtpTransceiver),
    /// A kind of section we know nothing of, or a second data section.
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
    /// How many of `mlines` an answer has confirmed; a rollback returns to it.
    settled: usize,
    pub(crate) transceivers: Vec<RtpTransceiver>,
    /// Local and remote.
    current: [Option<SessionDescription>; 2],
    pending: [Option<SessionDescription>; 2],
    /// Credentials of the last offer that restarts ICE; str0m learns them with the answer.
    restart: Option<IceCreds>,
    pub(crate) restart_wanted: bool,
    /// The peer's ICE session; another one is a restart.
    remote_ufrag: Option<String>,
    /// The ICE session whose local candidates were reported.
    gathered_ufrag: String,
    /// Our DTLS role, once it is settled.
    dtls_active: Option<bool>,
    projection: Projection,
    /// str0m's answer to a peer that offers SNAP (the SCTP handshake inside the SDP).
    snap: Option<String>,
    /// Candidates that came too early, or are held back (`holding`).
    early: Vec<str0m::Candidate>,
    /// Remote candidates of this ICE session so far; a description that is repeated names its
    /// candidates again.
    seen: Vec<String>,
    /// Until our answer had a start over our first check.
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

    /// True if that is news.
    pub(crate) fn set_signaling(&mut self, s: SignalingState) -> bool {
        std::mem::replace(&mut self.signaling, s) != s
    }

    /// Is this remote candidate news, and is there room for it?
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

    /// The data section's id, once there is one.
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
