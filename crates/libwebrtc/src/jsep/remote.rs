//! The peer's descriptions and candidates. All of them are untrusted.

use str0m::{Candidate, change::SdpOffer};

use super::{LOCAL, MLine, Noted, REMOTE, parse};
use crate::{
    RtcError,
    RtcErrorType::{InvalidSdp, InvalidState},
    callbacks::Ev,
    core::Core,
    err,
    ice_candidate::{IceCandidate, Read},
    limits::CANDIDATES,
    peer_connection::SignalingState,
    rtp_transceiver::{RtpTransceiver, RtpTransceiverDirection},
    sdp::{Sdp, Section},
    session_description::{SdpType, SessionDescription},
};

impl Core {
    pub(crate) fn set_remote(&mut self, desc: SessionDescription) -> Result<(), RtcError> {
        use SignalingState::{HaveLocalOffer, HaveRemoteOffer, Stable};
        self.alive()?;
        match (desc.sdp_type(), self.jsep.signaling) {
            (SdpType::Rollback, _) => self.rollback(),
            (SdpType::Answer, HaveLocalOffer) => {
                // livekit cancels an unanswered offer by setting the last answer again.
                let last = self.jsep.current[REMOTE].as_ref();
                if last.is_some_and(|d| d.text() == desc.text()) {
                    self.rollback();
                    return Ok(());
                }
                let sdp = parse(&desc)?;
                if sdp.media.len() != self.jsep.mlines.len() {
                    return err(InvalidSdp, "the answer's sections do not match the offer's");
                }
                self.apply_transport(&sdp, true)?;
                self.jsep.current = [self.jsep.pending[LOCAL].take(), Some(desc)];
                self.jsep.settled = self.jsep.mlines.len();
                self.jsep.restart = None;
                self.jsep.restart_wanted = false;
                self.update_receivers(&sdp);
                self.signal(Stable);
            }
            (SdpType::Offer, Stable | HaveRemoteOffer) => {
                let sdp = parse(&desc)?;
                if sdp.media.len() < self.jsep.mlines.len() {
                    return err(InvalidSdp, "the offer lacks sections of the last one");
                }
                self.apply_transport(&sdp, false)?;
                for m in &sdp.media[self.jsep.mlines.len()..] {
                    let line = self.remote_section(m);
                    self.jsep.mlines.push(line);
                }
                self.jsep.pending[REMOTE] = Some(desc);
                self.update_receivers(&sdp);
                self.signal(HaveRemoteOffer);
            }
            (ty, state) => return err(InvalidState, format!("remote {ty} in {state:?}")),
        }
        Ok(())
    }

    fn remote_section(&mut self, m: &Section) -> MLine {
        match m.kind.as_str() {
            "application" if self.jsep.app_mid().is_none() => MLine::App(m.mid().into()),
            "audio" | "video" => {
                let t = RtpTransceiver::receiving(m.kind == "audio", m.msid());
                t.set_mid(Some(m.mid().into()));
                self.jsep.transceivers.push(t.clone());
                MLine::Media(t)
            }
            _ => MLine::Refused,
        }
    }

    /// Passes the peer's transport to str0m, always as an *offer*, even if the peer has answered our offer.
    /// Only this way into str0m's ICE restart lets us choose the local credentials beforehand and accepts
    /// an unchanged description.
    fn apply_transport(&mut self, sdp: &Sdp, answered: bool) -> Result<(), RtcError> {
        let t = sdp.transport().or_else(|why| err(InvalidSdp, why))?;
        let first = self.jsep.remote_ufrag.is_none();
        let restarted = self.jsep.remote_ufrag.as_ref().is_some_and(|u| *u != t.ufrag);
        if answered && restarted && self.jsep.restart.is_none() {
            return err(InvalidSdp, "the answer restarts ICE, the offer did not");
        }
        // If we may choose, we are the DTLS client, which saves half a round trip.
        let active = self.jsep.dtls_active.unwrap_or(t.setup != "active");
        let setup = if active { "passive" } else { "active" };
        let Some(text) = self.jsep.projection.offer(sdp, &t, setup) else {
            return err(InvalidSdp, "no usable section");
        };
        let offer = SdpOffer::from_sdp_string(&text).or_else(|e| err(InvalidSdp, e))?;
        let restart = self.jsep.restart.clone();
        if restarted && !answered {
            self.reopen()?;
        }
        let rtc = self.rtc()?;
        let answer = rtc.sdp_api().accept_offer(offer).or_else(|e| err(InvalidSdp, e))?;
        if answered {
            let mut direct = rtc.direct_api();
            if first {
                direct.set_ice_controlling(true);
            }
            if let Some(creds) = restart {
                direct.set_local_ice_credentials(creds);
            }
        }
        self.drain();
        if first || restarted {
            self.expect_connection(restarted);
        }
        self.jsep.snap = answer
            .to_sdp_string()
            .lines()
            .find_map(|l| l.strip_prefix("a=sctp-init:"))
            .map(|v| format!("sctp-init:{v}"));
        self.jsep.dtls_active = Some(active);
        if restarted {
            self.jsep.seen.clear();
        }
        self.note_candidates(sdp);
        // An ICE-lite peer makes no checks, so our answer need not arrive before ours (see ANSWER_AHEAD).
        self.jsep.holding |= !answered && (first || restarted) && !t.ice_lite;
        self.jsep.remote_ufrag = Some(t.ufrag);
        if !self.jsep.holding {
            self.release_candidates();
        }
        if sdp.app().is_some() {
            self.sctp_started = true;
            self.start_channels();
        }
        Ok(())
    }

    /// Keeps the candidates of a description. Unusable candidates are ignored.
    fn note_candidates(&mut self, sdp: &Sdp) {
        for text in sdp.candidates() {
            match IceCandidate::read(text) {
                Ok(Read::Candidate(c)) if self.jsep.note(text) == Noted::New => {
                    self.jsep.early.push(c);
                }
                Ok(_) => {}
                Err(why) => log::debug!("candidate in a description not used: {why}"),
            }
        }
    }

    pub(crate) fn release_candidates(&mut self) {
        self.jsep.holding = false;
        for c in std::mem::take(&mut self.jsep.early) {
            self.use_candidate(c);
        }
    }

    /// # Errors
    /// The text is not a candidate, or the peer has too many candidates. Candidates of kinds that we cannot
    /// use (names, active TCP) are ignored without an error.
    pub(crate) fn add_remote(&mut self, candidate: &IceCandidate) -> Result<(), RtcError> {
        self.alive()?;
        let c = match IceCandidate::read(candidate.text()) {
            Ok(Read::Candidate(c)) => c,
            Ok(Read::Unusable | Read::End) => return Ok(()),
            Err(why) => return err(InvalidSdp, why),
        };
        match self.jsep.note(candidate.text()) {
            Noted::New => {}
            Noted::Known => return Ok(()),
            Noted::TooMany => {
                return err(InvalidState, format!("more than {CANDIDATES} remote candidates"));
            }
        }
        if self.jsep.remote_ufrag.is_none() || self.jsep.holding {
            self.jsep.early.push(c);
        } else {
            self.use_candidate(c);
        }
        Ok(())
    }

    fn use_candidate(&mut self, c: Candidate) {
        if let Some(rtc) = &mut self.rtc {
            rtc.add_remote_candidate(c);
            self.advance();
        }
    }

    /// Applies the peer's directions and stream names to the tracks.
    fn update_receivers(&mut self, sdp: &Sdp) {
        for (m, line) in sdp.media.iter().zip(&self.jsep.mlines) {
            let MLine::Media(t) = line else { continue };
            let stream = m.msid().filter(|_| m.sends()).map(|(s, _)| s);
            t.set_current(if m.sends() {
                RtpTransceiverDirection::RecvOnly
            } else {
                RtpTransceiverDirection::Inactive
            });
            if let Some(event) = t.set_remote_stream(stream) {
                self.queue.push_back(Ev::Track(Box::new(event)));
            }
        }
    }
}
