//! What this server reads of a client's audio section, and of no other. The crate `sdp` reads the text.
//!
//! Must never panic on any text: every value is optional here, and `Pc` decides which ones it needs.

use sdp::Section;

/// RFC 6464: a packet's audio level, from which the meter finds out who speaks.
pub(crate) const LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
/// RFC 8843: the section that a packet belongs to.
pub(crate) const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";

/// Second token of `a=msid`: the sender's track id, which is the `cid` of its AddTrackRequest.
pub(crate) fn track_id(media: &Section) -> Option<&str> {
    media.attr("msid")?.split(' ').nth(1)
}

pub(crate) fn ssrc(media: &Section) -> Option<u32> {
    media.attr("ssrc")?.split(' ').next()?.parse().ok()
}

/// The payload type of opus, if RTP can carry the number.
pub(crate) fn opus(media: &Section) -> Option<u8> {
    media.attrs.iter().find_map(|a| {
        let (pt, codec) = a.strip_prefix("rtpmap:")?.split_once(' ')?;
        let pt = pt.parse().ok().filter(|pt| *pt < 128)?;
        codec.to_ascii_lowercase().starts_with("opus/").then_some(pt)
    })
}

/// The id of a header extension, if it fits into a one-byte header.
pub(crate) fn extension(media: &Section, uri: &str) -> Option<u8> {
    media.attrs.iter().find_map(|a| {
        let (id, rest) = a.strip_prefix("extmap:")?.split_once(' ')?;
        let id = id.split('/').next()?.parse().ok().filter(|id| (1..=14).contains(id))?;
        (rest.split(' ').next() == Some(uri)).then_some(id)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};
    use sdp::Sdp;

    use super::*;

    /// What a libwebrtc client offers for a data channel and one microphone.
    pub(crate) const OFFER: &str = "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
        a=group:BUNDLE 0 1\r\na=extmap-allow-mixed\r\na=msid-semantic: WMS stream\r\n\
        m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:Oyef\r\n\
        a=ice-pwd:7uB8vSqIPqZVvPxXzZzMSVfm\r\na=ice-options:trickle\r\n\
        a=fingerprint:sha-256 8E:5A:9A:16:07:5B:68:E6:C5:6A:3B:8B:5C:25:F1:04:5B:5E:02:A7:8F:0B:98:9D:6A:33:2C:1F:5B:0A:74:61\r\n\
        a=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\na=max-message-size:262144\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
        a=ice-ufrag:Oyef\r\na=ice-pwd:7uB8vSqIPqZVvPxXzZzMSVfm\r\na=setup:actpass\r\na=mid:1\r\n\
        a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n\
        a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=sendonly\r\n\
        a=msid:stream 0c9c4f3e-track\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n\
        a=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:63 red/48000/2\r\na=ssrc:2774318187 cname:QUO\r\n\
        a=ssrc:2774318187 msid:stream 0c9c4f3e-track\r\n";

    #[test]
    fn an_offer_of_a_browser_is_understood() {
        let sdp = Sdp::parse(OFFER).unwrap();
        let transport = sdp.transport().unwrap();
        assert_eq!(
            (transport.ufrag.as_str(), transport.pwd.as_str()),
            ("Oyef", "7uB8vSqIPqZVvPxXzZzMSVfm")
        );
        assert!(transport.fingerprint.starts_with("sha-256 8E:5A"));
        let [app, audio] = &sdp.media[..] else { panic!("two sections") };
        assert_eq!((app.kind.as_str(), app.mid()), ("application", "0"));
        assert_eq!((audio.kind.as_str(), audio.mid()), ("audio", "1"));
        assert!(audio.sends() && !audio.receives());
        assert_eq!(track_id(audio), Some("0c9c4f3e-track"));
        assert_eq!(ssrc(audio), Some(2_774_318_187));
        assert_eq!(opus(audio), Some(111));
        assert_eq!((extension(audio, LEVEL), extension(audio, MID)), (Some(1), Some(4)));
    }

    #[test]
    fn numbers_that_rtp_cannot_carry_are_ignored() {
        let bad = "v=0\r\nm=audio 9 X 1\r\na=rtpmap:200 opus/48000/2\r\na=extmap:0 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
            a=extmap:15 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n";
        let media = &Sdp::parse(bad).unwrap().media[0];
        assert_eq!(
            (opus(media), extension(media, MID), extension(media, LEVEL)),
            (None, None, None)
        );
    }

    /// An offer with random damage; the same seed gives the same offer.
    pub(crate) fn damaged(seed: u64) -> String {
        let mut random = StdRng::seed_from_u64(seed);
        let mut bytes = OFFER.as_bytes().to_vec();
        for _ in 0..random.random_range(1..40) {
            let at = random.random_range(0..bytes.len());
            match random.random_range(0..4) {
                0 => bytes[at] = random.random(),
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, *b"\r\n=: 0a".get(random.random_range(0..7)).unwrap()),
                _ => {
                    let end = (at + random.random_range(0..200)).min(bytes.len());
                    let piece = bytes[at..end].to_vec();
                    let to = random.random_range(0..=bytes.len());
                    bytes.splice(to..to, piece);
                }
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn no_text_makes_the_reader_panic() {
        let mut read = 0;
        for seed in 0..3000 {
            let Ok(sdp) = Sdp::parse(&damaged(seed)) else { continue };
            read += 1;
            let _ = sdp.transport();
            for media in &sdp.media {
                let _ = (media.sends(), media.receives(), track_id(media), ssrc(media));
                let _ = (opus(media), extension(media, LEVEL), extension(media, MID));
            }
        }
        assert!(read > 100, "hardly any damaged offer was read: {read}");
    }
}
