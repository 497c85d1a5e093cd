//! The session that str0m sees.
//!
//! It has one application section, or one inactive audio section while there is no data section, with
//! the peer's transport and ids of our own. The order of sections is fixed once str0m has seen them.

use super::{Local, Out, Sdp, Transport};
use crate::limits::MESSAGE_BYTES;

/// The message size of a peer that names none (RFC 8841 §6.1).
const DEFAULT_MESSAGE_BYTES: u32 = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Data,
    /// A placeholder, since a session needs a section.
    Idle,
}

#[derive(Debug, Default)]
pub(crate) struct Projection(Vec<Kind>);

impl Projection {
    /// Writes the remote's transport as an offer, even if the remote has answered. `setup` is the DTLS
    /// role of the remote: "active" or "passive". `None` if the description has no section in use.
    pub(crate) fn offer(&mut self, remote: &Sdp, t: &Transport, setup: &str) -> Option<String> {
        let app = remote.app();
        if app.is_some() {
            if !self.0.contains(&Kind::Data) {
                self.0.push(Kind::Data);
            }
        } else if self.0.is_empty() {
            remote.media.iter().find(|m| !m.rejected())?;
            self.0.push(Kind::Idle);
        }
        let l = Local {
            session_id: 1,
            version: 1,
            ufrag: &t.ufrag,
            pwd: &t.pwd,
            fingerprint: &t.fingerprint,
            setup,
            candidates: &[],
            max_message_size: app
                .and_then(|a| a.attr("max-message-size"))
                .map_or(DEFAULT_MESSAGE_BYTES, message_size),
        };
        let snap = app.and_then(|a| a.attr("sctp-init")).map(|v| format!("sctp-init:{v}"));
        let mut out = Out::of(t.ice_lite);
        for (i, kind) in self.0.iter().enumerate() {
            let mid = i.to_string();
            match kind {
                Kind::Data => out.app(&l, &mid, snap.as_deref()),
                Kind::Idle => out.offer_media(&l, &mid, true, "inactive"),
            }
        }
        Some(out.finish(1, 1))
    }
}

/// 0 means "any" (RFC 8841 §6). Then our own largest message size is enough.
fn message_size(value: &str) -> u32 {
    match value.trim().parse::<u64>() {
        Ok(0) => MESSAGE_BYTES,
        Ok(n) => u32::try_from(n).unwrap_or(MESSAGE_BYTES),
        Err(_) => DEFAULT_MESSAGE_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use str0m::change::SdpOffer;

    use super::*;

    const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-ufrag:user\r\n\
        a=ice-pwd:passwordpasswordpassword\r\na=fingerprint:sha-256 \
        0F:74:31:25:CB:A2:13:EC:28:6F:6D:2C:61:FF:5D:C2:BC:B9:DB:3D:98:14:8D:1A:BB:EA:33:0C:A4:60:A8:8E\r\n";
    const APP: &str = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:odd/mid\r\n";
    const AUDIO: &str = "m=audio 9 UDP/TLS/RTP/SAVPF 99\r\na=mid:a\r\na=rtpmap:99 weird/1\r\n";

    fn shown(p: &mut Projection, sections: &str) -> Option<String> {
        let sdp = Sdp::parse(&format!("{HEAD}{sections}")).unwrap();
        let text = p.offer(&sdp, &sdp.transport().unwrap(), "active")?;
        SdpOffer::from_sdp_string(&text).unwrap();
        Some(text)
    }

    #[test]
    fn only_the_transport_is_shown_to_str0m() {
        let text = shown(&mut Projection::default(), &format!("{AUDIO}{APP}")).unwrap();
        assert!(text.contains("a=ice-ufrag:user\r\n") && text.contains("a=setup:active\r\n"));
        assert!(text.contains("m=application") && text.contains("a=mid:0\r\n"));
        assert!(!text.contains("m=audio") && !text.contains("weird") && !text.contains("odd/mid"));
    }

    #[test]
    fn a_data_section_may_come_later_and_keeps_its_place() {
        let mut p = Projection::default();
        assert!(shown(&mut p, AUDIO).unwrap().contains("a=inactive"));
        let both = shown(&mut p, &format!("{APP}{AUDIO}")).unwrap();
        assert!(both.find("m=audio") < both.find("m=application"));
        assert_eq!(shown(&mut p, AUDIO).unwrap().matches("m=").count(), 2);
    }

    #[test]
    fn a_description_without_a_section_in_use_gives_no_session() {
        assert!(shown(&mut Projection::default(), "").is_none());
        assert!(shown(&mut Projection::default(), "m=audio 0 X 0\r\n").is_none());
    }

    #[test]
    fn message_sizes_of_all_kinds_are_understood() {
        let table = [
            ("262144", 262144),
            ("0", MESSAGE_BYTES),
            ("18446744073709551615", MESSAGE_BYTES),
            ("-1", DEFAULT_MESSAGE_BYTES),
            ("", DEFAULT_MESSAGE_BYTES),
        ];
        for (text, size) in table {
            assert_eq!(message_size(text), size, "{text:?}");
        }
    }
}
