//! The media sections of a connection, and the descriptions made of them.
//!
//! In: offers and answers of the client, requests to send a track. Out: answers and offers of ours. A
//! section keeps its place and its id for ever; a section without a track is used again. Must never ask the
//! direct API for a stream in a section that was not declared, and never declare a section twice.

use std::{collections::HashMap, time::Instant};

use sdp::{Sdp, Section as TheirSection};
use str0m::{
    media::{MediaKind, Mid, Pt},
    rtp::{ExtensionValues, RtpPacket, RtpWrite, SeqNo, Ssrc},
};

use super::{
    Pc, PcError,
    audio::{self, LEVEL, MID, extension, opus, track_id},
    describe::{Audio, Local, Writer},
};
use crate::net::Net;

/// A client with more sections than this is refused.
const MAX: usize = 128;
/// The sequence number of our first packet of a track. It is small, since a receiver starts at rollover 0.
const FIRST_SEQUENCE: u64 = 1000;

/// The use of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Use {
    Application,
    /// The client sends a track; its `cid` in the offer.
    Receive {
        cid: String,
        ssrc: Option<u32>,
    },
    /// We send this track.
    Send {
        stream: String,
        track: String,
        ssrc: u32,
    },
    Idle,
}

pub(super) struct Section {
    mid: String,
    kind: String,
    used: Use,
    /// The section in the client's latest offer; `None` if only we offer.
    theirs: Option<TheirSection>,
    /// The section is declared to str0m, which allows this only once.
    declared: bool,
}

impl Section {
    fn new(mid: &str, kind: &str, used: Use) -> Section {
        Section { mid: mid.into(), kind: kind.into(), used, theirs: None, declared: false }
    }

    /// Whether a track of ours may use this section.
    fn free(&self, we_offer: bool) -> bool {
        self.kind == "audio"
            && self.used == Use::Idle
            && (we_offer || self.theirs.as_ref().is_some_and(TheirSection::receives))
    }
}

/// A track that the client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Incoming {
    pub(crate) mid: String,
    pub(crate) cid: String,
}

/// Checks section ids. str0m keeps only 16 letters and digits of an id, so other ids could collide there.
fn check(sdp: &Sdp, ours: &[Section]) -> Result<(), PcError> {
    for (i, media) in sdp.media.iter().enumerate() {
        let mid = media.mid();
        let well_formed =
            (1..=16).contains(&mid.len()) && mid.bytes().all(|b| b.is_ascii_alphanumeric());
        let twice = sdp.media[..i].iter().any(|m| m.mid() == mid);
        let changed = ours.iter().any(|s| s.mid == mid && s.kind != media.kind);
        if !well_formed || twice || changed {
            return Err(PcError::SectionId(mid.chars().take(40).collect()));
        }
    }
    if sdp.media.len() > MAX || ours.len() > MAX {
        Err(PcError::TooManySections(MAX))
    } else {
        Ok(())
    }
}

impl Pc {
    /// Takes the client's offer and answers it.
    pub(crate) fn answer(&mut self, offer: &str, net: &Net) -> Result<String, PcError> {
        let sdp = Sdp::parse(offer).map_err(PcError::Description)?;
        check(&sdp, &self.sections)?;
        let transport = sdp.transport().map_err(PcError::Transport)?;
        if self.rtc.is_none()
            && let Some(audio) = sdp.media.iter().find(|m| m.kind == "audio")
        {
            self.format.payload_type = opus(audio).unwrap_or(111);
            self.format.level = extension(audio, LEVEL);
            self.format.mid = extension(audio, MID).filter(|id| Some(*id) != self.format.level);
        }
        self.set_transport(&transport, true, net)?;
        for media in &sdp.media {
            let i = self.sections.iter().position(|s| s.mid == media.mid()).unwrap_or_else(|| {
                self.sections.push(Section::new(media.mid(), &media.kind, Use::Idle));
                self.sections.len() - 1
            });
            self.sections[i].theirs = Some(media.clone());
            match media.kind.as_str() {
                "application" => {
                    self.sections[i].used = Use::Application;
                    self.start_sctp();
                }
                "audio" => self.read_audio(i, media, net),
                _ => {}
            }
        }
        Ok(self.describe("passive", net))
    }

    /// The answer again, after tracks were added.
    pub(crate) fn answer_again(&mut self, net: &Net) -> String {
        self.describe("passive", net)
    }

    fn declare(&mut self, i: usize, net: &Net) -> Mid {
        let mid = Mid::from(self.sections[i].mid.as_str());
        if !self.sections[i].declared {
            self.rtc(net).direct_api().declare_media(mid, MediaKind::Audio);
            self.sections[i].declared = true;
        }
        mid
    }

    fn read_audio(&mut self, i: usize, theirs: &TheirSection, net: &Net) {
        let mid = self.declare(i, net);
        match self.sections[i].used.clone() {
            Use::Send { track, .. } if theirs.receives() && !theirs.sends() => {
                tracing::trace!(track, "goes on being sent");
            }
            Use::Send { track, .. } => drop(self.remove_track(&track)),
            Use::Receive { ssrc, .. } if !theirs.sends() || ssrc != audio::ssrc(theirs) => {
                if let (Some(ssrc), Some(rtc)) = (ssrc, &mut self.rtc) {
                    rtc.direct_api().remove_stream_rx(Ssrc::from(ssrc));
                }
                self.sections[i].used = Use::Idle;
            }
            _ => {}
        }
        if theirs.sends() && self.sections[i].used == Use::Idle {
            let ssrc = audio::ssrc(theirs);
            if let Some(ssrc) = ssrc {
                let mut direct = self.rtc(net).direct_api();
                direct.expect_stream_rx(Ssrc::from(ssrc), None, mid, None).suppress_nack(true);
            }
            let cid = track_id(theirs).unwrap_or("").to_owned();
            self.sections[i].used = Use::Receive { cid, ssrc };
        }
    }

    /// Our offer, with a new number.
    pub(crate) fn offer(&mut self, net: &Net) -> String {
        if self.sections.is_empty() {
            self.sections.push(Section::new("0", "application", Use::Application));
        }
        self.offering.out = true;
        self.offering.again = false;
        self.offering.id += 1;
        self.describe("actpass", net)
    }

    /// Takes the client's answer to our offer.
    pub(crate) fn accept(&mut self, answer: &str, net: &Net) -> Result<(), PcError> {
        let sdp = Sdp::parse(answer).map_err(PcError::Description)?;
        self.offering.out = false;
        self.set_transport(&sdp.transport().map_err(PcError::Transport)?, false, net)?;
        if sdp.media.iter().any(|m| m.is_app() && !m.rejected()) {
            self.start_sctp();
        }
        Ok(())
    }

    // ---- tracks we send --------------------------------------------------------------------------------

    pub(crate) fn sends(&self, track: &str) -> bool {
        self.sending(track).is_some()
    }

    fn sending(&self, track: &str) -> Option<(usize, u32)> {
        self.sections.iter().enumerate().find_map(|(i, s)| match &s.used {
            Use::Send { track: t, ssrc, .. } if t == track => Some((i, *ssrc)),
            _ => None,
        })
    }

    /// Puts a track into a free section, or (when we offer) into a new one. False: the client must first
    /// offer more sections.
    pub(crate) fn add_track(
        &mut self,
        stream: &str,
        track: &str,
        we_offer: bool,
        net: &Net,
    ) -> bool {
        let i = match self.sections.iter().position(|s| s.free(we_offer)) {
            Some(i) => i,
            None if we_offer => {
                if self.sections.is_empty() {
                    self.sections.push(Section::new("0", "application", Use::Application));
                }
                let mid = self.sections.len().to_string();
                self.sections.push(Section::new(&mid, "audio", Use::Idle));
                self.sections.len() - 1
            }
            None => return false,
        };
        let mid = self.declare(i, net);
        let mut direct = self.rtc(net).direct_api();
        let ssrc = direct.new_ssrc();
        direct.declare_stream_tx(ssrc, None, mid, None);
        self.sections[i].used =
            Use::Send { stream: stream.into(), track: track.into(), ssrc: *ssrc };
        self.dirty = true;
        true
    }

    /// False when the track was not being sent.
    pub(crate) fn remove_track(&mut self, track: &str) -> bool {
        let Some((i, ssrc)) = self.sending(track) else { return false };
        if let Some(rtc) = &mut self.rtc {
            rtc.direct_api().remove_stream_tx(Ssrc::from(ssrc));
        }
        self.renumber.remove(&ssrc);
        self.sections[i].used = Use::Idle;
        self.dirty = true;
        true
    }

    /// The track of ours in each section that has one.
    pub(crate) fn mid_to_track(&self) -> HashMap<String, String> {
        let sent = |s: &Section| match &s.used {
            Use::Send { track, .. } => Some((s.mid.clone(), track.clone())),
            _ => None,
        };
        self.sections.iter().filter_map(sent).collect()
    }

    /// All tracks that the client sends.
    pub(crate) fn incoming(&self) -> Vec<Incoming> {
        let received = |s: &Section| match &s.used {
            Use::Receive { cid, .. } => Some(Incoming { mid: s.mid.clone(), cid: cid.clone() }),
            _ => None,
        };
        self.sections.iter().filter_map(received).collect()
    }

    /// The section that a packet of the client belongs to.
    pub(crate) fn mid_of(&mut self, packet: &RtpPacket) -> Option<String> {
        let ssrc = packet.header.ssrc;
        self.rtc.as_mut()?.direct_api().stream_rx(&ssrc).map(|s| s.mid().to_string())
    }

    /// Sends a packet of another participant's track.
    pub(crate) fn forward(&mut self, track: &str, packet: &RtpPacket, now: Instant) {
        let Some((i, ssrc)) = self.sending(track).filter(|_| self.connected) else { return };
        let (first_in, first_out) =
            *self.renumber.entry(ssrc).or_insert((*packet.seq_no, FIRST_SEQUENCE));
        // Gaps stay as they are. A packet older than the first one is too late to send.
        let Some(seq) = (first_out + *packet.seq_no).checked_sub(first_in) else { return };
        let theirs = &packet.header.ext_vals;
        let ext = ExtensionValues {
            audio_level: theirs.audio_level,
            voice_activity: theirs.voice_activity,
            mid: Some(Mid::from(self.sections[i].mid.as_str())),
            ..Default::default()
        };
        let write = RtpWrite::new(
            Pt::from(self.format.payload_type),
            SeqNo::from(seq),
            packet.header.timestamp,
            now,
            packet.payload.clone(),
        );
        let Some(rtc) = &mut self.rtc else { return };
        if let Some(stream) = rtc.direct_api().stream_tx(&Ssrc::from(ssrc)) {
            stream.write_rtp(write.marker(packet.header.marker).ext_vals(ext));
            self.dirty = true;
        }
    }

    fn describe(&mut self, setup: &str, net: &Net) -> String {
        self.version += 1;
        let fingerprint = self.rtc(net).direct_api().local_dtls_fingerprint().to_string();
        let candidates: Vec<String> =
            net.candidates.iter().map(str0m::Candidate::to_sdp_string).collect();
        let local = Local {
            ufrag: &self.creds.ufrag,
            pwd: &self.creds.pass,
            fingerprint: &fingerprint,
            setup,
            candidates: &candidates,
            session_id: self.session_id,
            version: self.version,
        };
        let mut w = Writer::new(&local);
        for s in &self.sections {
            let format = &self.format;
            let audio = |direction, sends| Audio {
                payload_type: format.payload_type,
                level: format.level,
                mid: format.mid,
                direction,
                sends,
            };
            match (&s.used, &s.theirs) {
                (Use::Application, _) => w.application(&s.mid),
                (Use::Receive { .. }, _) => w.audio(&s.mid, &audio("recvonly", None)),
                (Use::Send { stream, track, ssrc }, _) => {
                    w.audio(&s.mid, &audio("sendonly", Some((stream, track, *ssrc))));
                }
                (Use::Idle, Some(theirs)) if s.kind != "audio" => w.inactive(theirs),
                (Use::Idle, _) => w.audio(&s.mid, &audio("inactive", None)),
            }
        }
        w.finish()
    }
}
