//! Access for the tests and the fuzz target of this crate; not part of the interface.
//!
//! In: bytes. Out: nothing, or a panic that names the broken promise.

use str0m::{Rtc, change::SdpOffer};

use crate::{
    ice_candidate::IceCandidate,
    sdp::{Local, Out, Projection, Sdp, Section},
};

/// Number of tasks of all connections of this process.
pub fn alive_tasks() -> usize {
    crate::driver::alive_tasks()
}

/// Runs the whole reader on any text: reads it, passes it to str0m, answers it, and reads the answer.
///
/// # Panics
/// When an answer of ours cannot be read.
pub fn sdp(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    candidate(&text);
    let Ok(sdp) = Sdp::parse(&text) else { return };
    sdp.candidates().for_each(candidate);
    let transport = sdp.transport();
    let (ufrag, pwd, fingerprint) = match &transport {
        Ok(t) => (t.ufrag.as_str(), t.pwd.as_str(), t.fingerprint.as_str()),
        Err(_) => ("u", "p", "sha-256 00"),
    };
    let local = Local {
        session_id: 1,
        version: 1,
        ufrag,
        pwd,
        fingerprint,
        setup: "active",
        candidates: &[],
        max_message_size: 1,
    };
    check_answer(&answer(&sdp, &local), &sdp);
    if let Ok(t) = &transport {
        let mut projection = Projection::default();
        for setup in ["active", "passive"] {
            if let Some(shown) = projection.offer(&sdp, t, setup) {
                assert!(Sdp::parse(&shown).is_ok(), "we show str0m what we cannot read: {shown}");
                accept(&shown);
            }
        }
    }
}

fn candidate(text: &str) {
    if let Ok(c) = IceCandidate::parse("0", 0, text) {
        let _ = IceCandidate::read(c.text());
    }
}

fn answer(sdp: &Sdp, local: &Local) -> String {
    let mut out = Out::default();
    for m in &sdp.media {
        let _ = (m.msid(), m.receives());
        match m {
            _ if m.rejected() => out.reject(m),
            _ if m.is_app() => out.app(local, m.mid(), m.attr("sctp-init")),
            _ => out.answer_media(local, m),
        }
    }
    out.finish(1, 1)
}

fn check_answer(text: &str, offer: &Sdp) {
    let read = match Sdp::parse(text) {
        Ok(read) => read,
        Err(e) => panic!("our answer cannot be read: {e:?}\n{text}"),
    };
    let same = |(a, b): (&Section, &Section)| {
        (&a.kind, a.rejected(), a.mid()) == (&b.kind, b.rejected(), b.mid())
    };
    assert_eq!(read.media.len(), offer.media.len(), "{text}");
    assert!(read.media.iter().zip(&offer.media).all(same), "{text}");
}

/// The session that str0m sees must not make str0m panic.
fn accept(shown: &str) {
    if let Ok(offer) = SdpOffer::from_sdp_string(shown) {
        let mut rtc = Rtc::builder()
            .clear_codecs()
            .enable_opus(true, false)
            .set_snap_enabled(true)
            .build(std::time::Instant::now());
        let _ = rtc.sdp_api().accept_offer(offer);
    }
}
