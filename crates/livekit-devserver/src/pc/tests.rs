//! A connection fed with descriptions.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use sdp::Sdp;

use super::{
    Incoming, Pc, PcError,
    audio::{
        LEVEL, extension,
        tests::{OFFER, damaged},
        track_id,
    },
};
use crate::net::Net;

#[tokio::test]
async fn an_offer_is_answered_section_by_section() {
    let net = Net::for_tests().await;
    let mut pc = Pc::new(true);
    let answer = pc.answer(OFFER, &net).unwrap();
    let ours = Sdp::parse(&answer).unwrap();
    assert_eq!(
        ours.media.iter().map(|m| m.kind.as_str()).collect::<Vec<_>>(),
        ["application", "audio"]
    );
    assert!(answer.contains("a=ice-lite") && answer.contains("a=setup:passive"));
    assert!(ours.media[1].receives() && !ours.media[1].sends());
    assert_eq!(extension(&ours.media[1], LEVEL), Some(1));
    assert_eq!(pc.incoming(), [Incoming { mid: "1".into(), cid: "0c9c4f3e-track".into() }]);
    assert_ne!(ours.transport().unwrap().ufrag, "Oyef");
}

#[tokio::test]
async fn video_is_kept_in_its_place_and_switched_off() {
    let net = Net::for_tests().await;
    let video =
        "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:2\r\na=sendonly\r\na=rtpmap:96 VP8/90000\r\n";
    let answer = Pc::new(true).answer(&format!("{OFFER}{video}"), &net).unwrap();
    let ours = Sdp::parse(&answer).unwrap();
    assert_eq!((ours.media[2].kind.as_str(), ours.media[2].attr("inactive")), ("video", Some("")));
}

#[tokio::test]
async fn a_freed_section_is_used_again_and_no_section_is_lost() {
    let net = Net::for_tests().await;
    let mut pc = Pc::new(true);
    assert!(pc.add_track("s", "TR_a", true, &net));
    let first = Sdp::parse(&pc.offer(&net)).unwrap();
    assert!(first.media[1].sends());
    assert!(pc.remove_track("TR_a") && !pc.remove_track("TR_a"));
    let idle = Sdp::parse(&pc.offer(&net)).unwrap();
    assert_eq!((idle.media.len(), idle.media[1].attr("inactive")), (2, Some("")));
    assert!(pc.add_track("s", "TR_b", true, &net));
    let again = Sdp::parse(&pc.offer(&net)).unwrap();
    assert_eq!((again.media.len(), track_id(&again.media[1])), (2, Some("TR_b")));
    assert_eq!(pc.mid_to_track(), HashMap::from([("1".to_owned(), "TR_b".to_owned())]));
}

#[tokio::test]
async fn a_client_that_offers_must_offer_room_for_a_track() {
    let net = Net::for_tests().await;
    let mut pc = Pc::new(true);
    pc.answer(OFFER, &net).unwrap();
    assert!(!pc.add_track("s", "TR_a", false, &net));
    let room =
        "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:2\r\na=recvonly\r\na=rtpmap:111 opus/48000/2\r\n";
    pc.answer(&format!("{OFFER}{room}"), &net).unwrap();
    assert!(pc.add_track("s", "TR_a", false, &net));
    let ours = Sdp::parse(&pc.answer_again(&net)).unwrap();
    assert!(ours.media[2].sends() && ours.media[2].attr("msid") == Some("s TR_a"));
    // The client takes the section for itself.
    pc.answer(&format!("{OFFER}{}", room.replace("recvonly", "sendonly")), &net).unwrap();
    assert!(!pc.sends("TR_a"));
}

#[tokio::test]
async fn an_ice_restart_changes_our_credentials() {
    let net = Net::for_tests().await;
    let mut pc = Pc::new(true);
    pc.answer(OFFER, &net).unwrap();
    let before = pc.ufrag().to_owned();
    pc.answer(OFFER, &net).unwrap();
    assert_eq!(pc.ufrag(), before);
    pc.answer(&OFFER.replace("Oyef", "Neww"), &net).unwrap();
    assert_ne!(pc.ufrag(), before);
}

#[tokio::test]
async fn ambiguous_section_ids_are_refused() {
    let net = Net::for_tests().await;
    let with = |mid: &str| OFFER.replace("a=mid:1\r\n", &format!("{mid}\r\n"));
    for mid in ["a=mid:", "a=mid:a-b", "a=mid:12345678901234567", "a=mid:\u{e9}"] {
        let answer = Pc::new(true).answer(&with(mid), &net);
        assert!(matches!(answer, Err(PcError::SectionId(_))), "{mid}");
    }
    let twice = Pc::new(true).answer(&with("a=mid:0"), &net);
    assert!(matches!(twice, Err(PcError::Description(_))));
    let mut pc = Pc::new(true);
    pc.answer(OFFER, &net).unwrap();
    let changed = OFFER.replace("m=audio", "m=video");
    assert!(matches!(pc.answer(&changed, &net), Err(PcError::SectionId(_))));
}

#[tokio::test]
async fn no_sequence_of_descriptions_makes_a_connection_panic() {
    let net = Net::for_tests().await;
    for seed in 0..400u64 {
        let mut pc = Pc::new(seed % 2 == 0);
        for step in 0..4 {
            let text =
                if (seed + step) % 3 == 0 { OFFER.to_owned() } else { damaged(seed * 7 + step) };
            let _ = pc.answer(&text, &net);
            pc.add_track("s", &format!("TR_{step}"), seed % 5 == 0, &net);
            let _ = pc.accept(&damaged(seed + step), &net);
            if step == 2 {
                pc.remove_track("TR_0");
            }
            pc.advance(&net);
        }
        pc.offer(&net);
        pc.close(&net);
    }
}
