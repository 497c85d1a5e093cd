//! Writes and sets our own descriptions.

use str0m::IceCreds;

use super::{Jsep, LOCAL, MLine, REMOTE, parse};
use crate::{
    RtcError,
    RtcErrorType::{InvalidSdp, InvalidState},
    callbacks::Ev,
    core::Core,
    err,
    limits::MESSAGE_BYTES,
    peer_connection::{OfferOptions, SignalingState},
    rtp_transceiver::RtpTransceiver,
    sdp::{Local, Out, Sdp, Section},
    session_description::{SdpType, SessionDescription},
};

impl Core {
    pub(super) fn signal(&mut self, s: SignalingState) {
        if self.jsep.set_signaling(s) {
            self.queue.push_back(Ev::Signaling(s));
        }
    }

    fn write_sdp(
        &mut self,
        creds: &IceCreds,
        setup: &str,
        body: impl FnOnce(&mut Out, &Local, &Jsep),
    ) -> Result<String, RtcError> {
        let fingerprint = self.rtc()?.direct_api().local_dtls_fingerprint().to_string();
        self.open_sockets(false)?;
        self.jsep.version += 1;
        let local = Local {
            session_id: self.jsep.session_id,
            version: self.jsep.version,
            ufrag: &creds.ufrag,
            pwd: &creds.pass,
            fingerprint: &fingerprint,
            setup,
            candidates: &self.local_candidates,
            max_message_size: MESSAGE_BYTES,
        };
        let mut out = Out::default();
        body(&mut out, &local, &self.jsep);
        Ok(out.finish(local.session_id, local.version))
    }

    pub(crate) fn create_offer(
        &mut self,
        options: &OfferOptions,
    ) -> Result<SessionDescription, RtcError> {
        let mut creds = self.rtc()?.direct_api().local_ice_credentials();
        if options.ice_restart || self.jsep.restart_wanted {
            creds = IceCreds::new();
            self.jsep.restart = Some(creds.clone());
            self.reopen()?;
        }
        let channels = !self.chans.is_empty();
        let text = self.write_sdp(&creds, "actpass", |out, local, jsep| {
            let media = |out: &mut Out, t: &RtpTransceiver, mid: &str| {
                out.offer_media(local, mid, t.is_audio(), t.sdp_direction());
            };
            for (i, m) in jsep.mlines.iter().enumerate() {
                match m {
                    MLine::App(mid) => out.app(local, mid, None),
                    MLine::Media(t) => media(out, t, &t.mid().unwrap_or_default()),
                    MLine::Refused => out.reject(&placeholder(i)),
                }
            }
            let mut next = jsep.mlines.len();
            for t in jsep.transceivers.iter().filter(|t| t.mid().is_none()) {
                media(out, t, &next.to_string());
                next += 1;
            }
            if channels && jsep.app_mid().is_none() {
                out.app(local, &next.to_string(), None);
            }
        })?;
        Ok(SessionDescription::ours(SdpType::Offer, text))
    }

    pub(crate) fn create_answer(&mut self) -> Result<SessionDescription, RtcError> {
        self.alive()?;
        let (SignalingState::HaveRemoteOffer, Some(offer)) =
            (self.jsep.signaling, &self.jsep.pending[REMOTE])
        else {
            return err(InvalidState, "there is no offer to answer");
        };
        let offer = parse(offer)?;
        let creds = self.rtc()?.direct_api().local_ice_credentials();
        let setup = if self.jsep.dtls_active == Some(true) { "active" } else { "passive" };
        let text = self.write_sdp(&creds, setup, |out, local, jsep| {
            for (m, line) in offer.media.iter().zip(&jsep.mlines) {
                match line {
                    _ if m.rejected() => out.reject(m),
                    MLine::App(mid) => out.app(local, mid, jsep.snap.as_deref()),
                    MLine::Media(_) => out.answer_media(local, m),
                    MLine::Refused => out.reject(m),
                }
            }
        })?;
        Ok(SessionDescription::ours(SdpType::Answer, text))
    }

    pub(crate) fn set_local(&mut self, desc: SessionDescription) -> Result<(), RtcError> {
        use SignalingState::{HaveLocalOffer, HaveRemoteOffer, Stable};
        self.alive()?;
        if desc.sdp_type() == SdpType::Rollback {
            self.rollback();
            return Ok(());
        }
        let sdp = parse(&desc)?;
        let t = sdp.transport().or_else(|why| err(InvalidSdp, why))?;
        match (desc.sdp_type(), self.jsep.signaling) {
            (SdpType::Offer, Stable | HaveLocalOffer) => {
                self.bind_offer(&sdp)?;
                self.jsep.pending[LOCAL] = Some(desc);
                self.signal(HaveLocalOffer);
            }
            (SdpType::Answer, HaveRemoteOffer) => {
                self.jsep.current = [Some(desc), self.jsep.pending[REMOTE].take()];
                self.jsep.settled = self.jsep.mlines.len();
                if self.jsep.holding {
                    self.release_candidates_soon();
                }
                self.signal(Stable);
            }
            (ty, state) => return err(InvalidState, format!("local {ty} in {state:?}")),
        }
        let mid = sdp.media.iter().find(|m| !m.rejected()).map(|m| m.mid().to_owned());
        if self.jsep.gathered_ufrag != t.ufrag {
            self.gather(&mid.unwrap_or_default(), &t.ufrag)?;
            self.jsep.gathered_ufrag = t.ufrag;
        }
        Ok(())
    }

    /// Assigns the sections of our own offer, which is now sent, to transceivers and channels.
    fn bind_offer(&mut self, sdp: &Sdp) -> Result<(), RtcError> {
        let jsep = &mut self.jsep;
        if sdp.media.len() < jsep.mlines.len() {
            return err(InvalidSdp, "the offer lacks sections of the last one");
        }
        for m in &sdp.media[jsep.mlines.len()..] {
            let line = if m.is_app() {
                MLine::App(m.mid().into())
            } else {
                let audio = m.kind == "audio";
                let free = |t: &&RtpTransceiver| t.mid().is_none() && t.is_audio() == audio;
                let Some(t) = jsep.transceivers.iter().find(free) else {
                    return err(InvalidSdp, "a section without a transceiver");
                };
                t.set_mid(Some(m.mid().into()));
                MLine::Media(t.clone())
            };
            jsep.mlines.push(line);
        }
        Ok(())
    }

    /// Goes back to the last answer; nothing of the open offer remains.
    pub(super) fn rollback(&mut self) {
        let jsep = &mut self.jsep;
        for m in jsep.mlines.drain(jsep.settled..) {
            if let MLine::Media(t) = m {
                t.set_mid(None);
            }
        }
        jsep.pending = [None, None];
        jsep.restart = None;
        self.signal(SignalingState::Stable);
    }

    /// Opens new sockets for a restarted ICE session if addresses have changed, and closes failed links.
    pub(super) fn reopen(&mut self) -> Result<(), RtcError> {
        self.forget_failed_links();
        self.open_sockets(true)
    }
}

/// A rejected section, which only keeps the place.
fn placeholder(index: usize) -> Section {
    Section {
        kind: "audio".into(),
        proto: "UDP/TLS/RTP/SAVPF".into(),
        fmts: vec!["0".into()],
        attrs: vec![format!("mid:{index}")],
        port: 0,
    }
}
