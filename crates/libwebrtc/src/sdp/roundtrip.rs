//! The reader can read everything that the writer writes, for any sections and any words in them.

use proptest::prelude::*;

use super::{Local, Out, Sdp, Section};

fn word() -> impl Strategy<Value = String> {
    "[!-~]{1,20}"
}

fn section() -> impl Strategy<Value = Section> {
    let attr = prop_oneof![
        "(rtpmap|fmtp|extmap|ssrc|msid|rtcp-fb):[ -~]{0,40}",
        "sendonly|recvonly|inactive|sendrecv",
        "[ -~]{0,40}",
    ];
    (
        prop_oneof![
            Just("audio".to_owned()),
            Just("video".into()),
            Just("application".into()),
            word()
        ],
        any::<u16>(),
        word(),
        prop::collection::vec(word(), 0..6),
        prop::collection::vec(attr, 0..12),
    )
        .prop_map(|(kind, port, proto, fmts, attrs)| {
            let attrs = attrs.into_iter().filter(|a| !a.starts_with("mid")).collect();
            Section { kind, port, proto, fmts, attrs }
        })
}

fn local<'a>(words: &'a [String], candidates: &'a [String]) -> Local<'a> {
    Local {
        session_id: 7,
        version: 3,
        ufrag: &words[0],
        pwd: &words[1],
        fingerprint: "sha-256 0F:74:31:25:CB:A2:13:EC:28:6F:6D:2C:61:FF:5D:C2:BC:B9:DB:3D:98:14:8D:1A:BB:EA:33:0C:A4:60:A8:8E",
        setup: "active",
        candidates,
        max_message_size: 1000,
    }
}

proptest! {
    #[test]
    fn every_answer_we_write_can_be_read(
        mut sections in prop::collection::vec(section(), 1..12),
        words in prop::collection::vec(word(), 2),
        candidates in prop::collection::vec("candidate:[ -~]{0,60}", 0..4),
    ) {
        for (i, m) in sections.iter_mut().enumerate() {
            m.attrs.push(format!("mid:{i}"));
        }
        let l = local(&words, &candidates);
        let mut out = Out::default();
        for m in &sections {
            match m.rejected() {
                true => out.reject(m),
                false if m.is_app() => out.app(&l, m.mid(), Some("sctp-init:x")),
                false => out.answer_media(&l, m),
            }
        }
        let text = out.finish(7, 3);
        let read = Sdp::parse(&text).map_err(|e| TestCaseError::fail(format!("{e:?}\n{text}")))?;
        prop_assert_eq!(read.media.len(), sections.len());
        for (r, m) in read.media.iter().zip(&sections) {
            prop_assert_eq!(&r.kind, &m.kind);
            prop_assert_eq!(r.rejected(), m.rejected());
            prop_assert_eq!(r.mid(), m.mid());
            prop_assert!(!r.sends() || m.is_app(), "we never promise to send");
        }
        if sections.iter().any(|m| !m.rejected()) {
            let t = read.transport().unwrap();
            prop_assert_eq!((&t.ufrag, &t.pwd), (&words[0], &words[1]));
            prop_assert_eq!(t.fingerprint.as_str(), l.fingerprint);
            let found: Vec<_> = read.candidates().map(str::to_owned).collect();
            let sent: Vec<_> = candidates.iter().map(|c| c.trim_end().to_owned()).collect();
            prop_assert_eq!(found, sent);
        }
    }

    #[test]
    fn every_offer_we_write_can_be_read(
        kinds in prop::collection::vec(0..3usize, 1..12),
        words in prop::collection::vec(word(), 2),
    ) {
        let l = local(&words, &[]);
        let mut out = Out::default();
        for (i, kind) in kinds.iter().enumerate() {
            match kind {
                0 => out.app(&l, &i.to_string(), None),
                k => out.offer_media(&l, &i.to_string(), *k == 1, "recvonly"),
            }
        }
        let read = Sdp::parse(&out.finish(7, 3)).unwrap();
        prop_assert_eq!(read.media.len(), kinds.len());
        prop_assert!(read.media.iter().enumerate().all(|(i, m)| m.mid() == i.to_string()));
        prop_assert!(read.media.iter().all(|m| m.is_app() || !m.sends()));
    }

    #[test]
    fn the_reader_takes_any_text(text in any::<String>(), lines in "(([a-z]=|a=mid:|m=)[ -~]{0,20}\r?\n){0,20}") {
        let _ = Sdp::parse(&text);
        let _ = Sdp::parse(&format!("v=0\r\n{lines}"));
    }
}
