//! Writes our session descriptions.
//!
//! In: our transport and, one after the other, the sections. Out: the text. ICE-lite, all candidates in the
//! first section, everything bundled. Must never leave out an earlier section: libwebrtc counts the
//! sections.

use sdp::Section;

use super::audio::{LEVEL, MID};

/// Our transport, repeated in each section.
pub(crate) struct Local<'a> {
    pub(crate) ufrag: &'a str,
    pub(crate) pwd: &'a str,
    pub(crate) fingerprint: &'a str,
    pub(crate) setup: &'a str,
    pub(crate) candidates: &'a [String],
    pub(crate) session_id: u64,
    pub(crate) version: u64,
}

/// The content of an audio section of ours.
pub(crate) struct Audio<'a> {
    pub(crate) payload_type: u8,
    pub(crate) level: Option<u8>,
    pub(crate) mid: Option<u8>,
    pub(crate) direction: &'a str,
    /// (stream id, track id, ssrc) of the track that we send in this section.
    pub(crate) sends: Option<(&'a str, &'a str, u32)>,
}

pub(crate) struct Writer<'a> {
    local: &'a Local<'a>,
    body: String,
    bundle: Vec<String>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(local: &'a Local<'a>) -> Self {
        Writer { local, body: String::new(), bundle: vec![] }
    }

    fn line(&mut self, text: impl AsRef<str>) {
        self.body.push_str(text.as_ref());
        self.body.push_str("\r\n");
    }

    fn common(&mut self, mid: &str) {
        let local = self.local;
        self.line("c=IN IP4 0.0.0.0");
        if self.bundle.is_empty() {
            for candidate in local.candidates {
                self.line(format!("a={candidate}"));
            }
            self.line("a=end-of-candidates");
        }
        self.line(format!("a=ice-ufrag:{}", local.ufrag));
        self.line(format!("a=ice-pwd:{}", local.pwd));
        self.line(format!("a=fingerprint:{}", local.fingerprint));
        self.line(format!("a=setup:{}", local.setup));
        self.line(format!("a=mid:{mid}"));
        self.bundle.push(mid.into());
    }

    /// The section of the data channels.
    pub(crate) fn application(&mut self, mid: &str) {
        self.line("m=application 9 UDP/DTLS/SCTP webrtc-datachannel");
        self.common(mid);
        self.line("a=sctp-port:5000");
        self.line("a=max-message-size:262144");
    }

    /// Opus with level and mid extension, nothing else: clients then send plain opus with levels.
    pub(crate) fn audio(&mut self, mid: &str, audio: &Audio<'_>) {
        let pt = audio.payload_type;
        self.line(format!("m=audio 9 UDP/TLS/RTP/SAVPF {pt}"));
        self.common(mid);
        self.line(format!("a={}", audio.direction));
        self.line("a=rtcp-mux");
        self.line("a=rtcp-rsize");
        self.line(format!("a=rtpmap:{pt} opus/48000/2"));
        // The real server answers a publisher so. The client then sends nothing in silence, which is why
        // the meter notices the end of speech late (meter.rs).
        let dtx = if audio.sends.is_none() { ";usedtx=1" } else { "" };
        self.line(format!("a=fmtp:{pt} minptime=10;useinbandfec=1{dtx}"));
        if let Some(id) = audio.level {
            self.line(format!("a=extmap:{id} {LEVEL}"));
        }
        if let Some(id) = audio.mid {
            self.line(format!("a=extmap:{id} {MID}"));
        }
        if let Some((stream, track, ssrc)) = audio.sends {
            self.line(format!("a=msid:{stream} {track}"));
            self.line(format!("a=ssrc:{ssrc} cname:{stream}"));
            self.line(format!("a=ssrc:{ssrc} msid:{stream} {track}"));
        }
    }

    /// A section we cannot use (video), kept in its place: inactive, with the peer's own codecs.
    pub(crate) fn inactive(&mut self, media: &Section) {
        self.line(format!("m={} 9 {} {}", media.kind, media.proto, media.fmts.join(" ")));
        self.common(media.mid());
        self.line("a=inactive");
        self.line("a=rtcp-mux");
        for attr in
            media.attrs.iter().filter(|a| a.starts_with("rtpmap:") || a.starts_with("fmtp:"))
        {
            self.line(format!("a={attr}"));
        }
    }

    pub(crate) fn finish(self) -> String {
        format!(
            "v=0\r\no=- {} {} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-lite\r\na=group:BUNDLE {}\r\n\
             a=msid-semantic: WMS *\r\n{}",
            self.local.session_id,
            self.local.version,
            self.bundle.join(" "),
            self.body
        )
    }
}
