//! The writer: our transport in, the text of an offer or an answer out.
//!
//! Must never promise to send media. Sections are receive-only or inactive. An answer repeats the
//! peer's own codecs, since we decode nothing.

use std::fmt::Write;

use super::Section;

/// Our side of the transport, repeated in every section we write.
pub(crate) struct Local<'a> {
    pub(crate) session_id: u64,
    pub(crate) version: u64,
    pub(crate) ufrag: &'a str,
    pub(crate) pwd: &'a str,
    pub(crate) fingerprint: &'a str,
    pub(crate) setup: &'a str,
    /// Written once, in the first section.
    pub(crate) candidates: &'a [String],
    pub(crate) max_message_size: u32,
}

/// The codecs of the receive-only sections that we offer: payload type, name, parameters. We decode
/// none of them; they only let the peer answer.
const AUDIO: &[(&str, &str, &str)] = &[("111", "opus/48000/2", "minptime=10;useinbandfec=1")];
const VIDEO: &[(&str, &str, &str)] = &[
    ("96", "VP8/90000", ""),
    ("98", "VP9/90000", "profile-id=0"),
    ("102", "H264/90000", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
    ("45", "AV1/90000", ""),
];

/// A description under construction: sections first, then `finish` puts the session before them.
#[derive(Default)]
pub(crate) struct Out {
    text: String,
    bundle: Vec<String>,
    transport_written: bool,
    /// Set only in the session that str0m sees, for an ICE-lite peer; we are no ICE-lite agent.
    lite: bool,
}

impl Out {
    pub(super) fn of(lite: bool) -> Out {
        Out { lite, ..Out::default() }
    }

    fn line(&mut self, l: impl AsRef<str>) {
        self.text.push_str(l.as_ref());
        self.text.push_str("\r\n");
    }

    fn mid(&mut self, mid: &str) {
        if !mid.is_empty() {
            self.line(format!("a=mid:{mid}"));
        }
    }

    fn common(&mut self, l: &Local, mid: &str) {
        // Candidates belong to the first section of the bundle.
        if !std::mem::replace(&mut self.transport_written, true) {
            for c in l.candidates {
                self.line(format!("a={c}"));
            }
        }
        self.line(format!("a=ice-ufrag:{}", l.ufrag));
        self.line(format!("a=ice-pwd:{}", l.pwd));
        self.line("a=ice-options:trickle");
        self.line(format!("a=fingerprint:{}", l.fingerprint));
        self.line(format!("a=setup:{}", l.setup));
        self.mid(mid);
        if !mid.is_empty() {
            self.bundle.push(mid.into());
        }
    }

    pub(crate) fn app(&mut self, l: &Local, mid: &str, extra: Option<&str>) {
        self.line("m=application 9 UDP/DTLS/SCTP webrtc-datachannel");
        self.line("c=IN IP4 0.0.0.0");
        self.common(l, mid);
        self.line("a=sctp-port:5000");
        self.line(format!("a=max-message-size:{}", l.max_message_size));
        if let Some(e) = extra {
            self.line(format!("a={e}"));
        }
    }

    pub(crate) fn offer_media(&mut self, l: &Local, mid: &str, audio: bool, direction: &str) {
        let codecs = if audio { AUDIO } else { VIDEO };
        let pts = codecs.iter().map(|c| c.0).collect::<Vec<_>>().join(" ");
        let kind = if audio { "audio" } else { "video" };
        self.line(format!("m={kind} 9 UDP/TLS/RTP/SAVPF {pts}"));
        self.line("c=IN IP4 0.0.0.0");
        self.common(l, mid);
        self.line(format!("a={direction}"));
        self.line("a=rtcp-mux");
        for (pt, map, fmtp) in codecs {
            self.line(format!("a=rtpmap:{pt} {map}"));
            if !fmtp.is_empty() {
                self.line(format!("a=fmtp:{pt} {fmtp}"));
            }
        }
    }

    /// Accepts a section as receive-only by repeating its codecs, without feedback or header extensions:
    /// the media is dropped.
    pub(crate) fn answer_media(&mut self, l: &Local, m: &Section) {
        self.line(format!("m={} 9 {} {}", m.kind, m.proto, m.fmts.join(" ")));
        self.line("c=IN IP4 0.0.0.0");
        self.common(l, m.mid());
        self.line(if m.sends() { "a=recvonly" } else { "a=inactive" });
        self.line("a=rtcp-mux");
        for a in m.attrs.iter().filter(|a| a.starts_with("rtpmap:") || a.starts_with("fmtp:")) {
            self.line(format!("a={a}"));
        }
    }

    pub(crate) fn reject(&mut self, m: &Section) {
        self.line(format!("m={} 0 {} {}", m.kind, m.proto, m.fmts.join(" ")));
        self.line("c=IN IP4 0.0.0.0");
        self.mid(m.mid());
        if !m.is_app() {
            self.line("a=inactive");
        }
    }

    pub(crate) fn finish(self, session_id: u64, version: u64) -> String {
        let lite = if self.lite { "a=ice-lite\r\n" } else { "" };
        let bundle = self.bundle.join(" ");
        let mut head = String::new();
        let _ = write!(
            head,
            "v=0\r\no=- {session_id} {version} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
             {lite}a=group:BUNDLE {bundle}\r\na=msid-semantic: WMS *\r\n"
        );
        head + &self.text
    }
}
