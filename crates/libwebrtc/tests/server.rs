//! Against a peer that behaves as a LiveKit server does, made of str0m alone: media sections,
//! RTP, one UDP port for many, ICE-TCP, SNAP, silence.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::{Duration, Instant};

use common::{
    server::{self, Server},
    *,
};
use libwebrtc::{prelude::*, stats::RtcStats};
use str0m::{
    Rtc,
    change::SdpAnswer,
    media::{Direction, MediaKind, Mid},
    net::Protocol,
    rtp::{RtpWrite, SeqNo},
};

/// The server offers, as LiveKit does on the subscriber connection; the connection answers.
async fn offered(server: &Server, p: &Peer, proto: Protocol, snap: bool) -> (usize, Mid, String) {
    let (number, mid, pending, offer, candidate) = server
        .run(move |s| {
            let config = Rtc::builder().set_rtp_mode(true).set_snap_enabled(snap);
            let number = s.add(config);
            let candidate = s.candidate(number, proto);
            let mut api = s.rtcs[number].sdp_api();
            let mid = api.add_media(MediaKind::Audio, Direction::SendOnly, None, None, None);
            api.add_media(MediaKind::Video, Direction::SendOnly, None, None, None);
            api.add_channel("down".into());
            let (offer, pending) = api.apply().unwrap();
            (number, mid, pending, offer.to_sdp_string(), candidate)
        })
        .await;
    let text = server::without_candidates(&offer);
    let offer = SessionDescription::parse(&text, SdpType::Offer).unwrap();
    p.pc.set_remote_description(offer).await.unwrap();
    let answer = p.pc.create_answer(AnswerOptions::default()).await.unwrap();
    p.pc.set_local_description(answer.clone()).await.unwrap();
    let text = answer.to_string();
    let given = SdpAnswer::from_sdp_string(&text).unwrap();
    server.run(move |s| s.rtcs[number].sdp_api().accept_answer(pending, given).unwrap()).await;
    let candidate = IceCandidate::parse("0", 0, &candidate).unwrap();
    p.pc.add_ice_candidate(candidate).await.unwrap();
    (number, mid, text)
}

async fn packets_received(pc: &PeerConnection) -> u64 {
    let stats = pc.get_stats().await.unwrap();
    let transport = stats.into_iter().find_map(|s| match s {
        RtcStats::Transport(t) => Some(t.transport.packets_received),
        _ => None,
    });
    transport.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn incoming_rtp_and_garbage_are_harmless() {
    let server = Server::start().await;
    let mut p = peer();
    let (number, mid, _) = offered(&server, &p, Protocol::Udp, false).await;
    connected(&mut p).await;
    let track = soon("track", p.tracks.recv()).await.unwrap();
    assert_eq!(track.transceiver.mid(), Some(mid.to_string()));
    let dc = soon("channel", p.channels.recv()).await.unwrap();
    echoes(&dc, b"before").await;

    let before = packets_received(&p.pc).await;
    let mut sent = 0;
    for round in 0..50u64 {
        sent += server
            .run(move |s| {
                let rtc = &mut s.rtcs[number];
                let pt = rtc.media(mid).unwrap().remote_pts()[0];
                let mut direct = rtc.direct_api();
                let stream = direct.stream_tx_by_mid(mid, None).unwrap();
                for i in 0..10 {
                    let seq: SeqNo = (round * 10 + i).into();
                    let payload = vec![round as u8; 100];
                    stream.write_rtp(RtpWrite::new(pt, seq, i as u32, Instant::now(), payload));
                }
                // And packets that look like STUN, DTLS, RTP or RTCP, but are garbage.
                let to = s.peers[&number];
                for first in 0..=255u8 {
                    let mut data = vec![first; 1 + (round as usize * 37) % 400];
                    data.iter_mut().enumerate().skip(1).for_each(|(i, b)| *b = (i * 31) as u8);
                    s.raw.push((to, data));
                }
                256
            })
            .await;
        echoes(&dc, &[round as u8; 10]).await;
    }
    let got = packets_received(&p.pc).await - before;
    assert!(got > sent / 2, "{got} of {sent} packets of garbage came in");
    assert_eq!(p.pc.connection_state(), PeerConnectionState::Connected);
    echoes(&dc, b"after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_port_serves_many_observers() {
    const MANY: usize = 40;
    let server = Server::start().await;
    let mut observers = vec![];
    for _ in 0..MANY {
        let p = peer();
        let dc = p.pc.create_data_channel("x", reliable()).unwrap();
        server.answer(&p.pc, OfferOptions::default(), Protocol::Udp, None).await;
        observers.push((p, dc));
    }
    for (i, (p, dc)) in observers.iter_mut().enumerate() {
        connected(p).await;
        open(&[dc]).await;
        echoes(dc, format!("observer {i}").as_bytes()).await;
    }
    let peers = server.run(|s| s.peers.values().copied().collect::<Vec<_>>()).await;
    let mut ports: Vec<_> = peers.iter().map(|a| a.port()).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), MANY, "each observer has a socket of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_reachable_by_tcp_only_is_reached() {
    let server = Server::start().await;
    let mut p = peer();
    let dc = p.pc.create_data_channel("x", reliable()).unwrap();
    server.answer(&p.pc, OfferOptions::default(), Protocol::Tcp, None).await;
    connected(&mut p).await;
    open(&[&dc]).await;
    for size in [1, 1000, 60_000] {
        echoes(&dc, &vec![size as u8; size]).await;
    }
    p.pc.close();
}

/// SNAP is the SCTP handshake inside the SDP.
#[tokio::test(flavor = "multi_thread")]
async fn snap_is_answered() {
    let server = Server::start().await;
    let mut p = peer();
    let (_, _, answer) = offered(&server, &p, Protocol::Tcp, true).await;
    assert!(answer.contains("a=sctp-init:"), "{answer}");
    let dc = soon("channel", p.channels.recv()).await.unwrap();
    assert_eq!(dc.label(), "down");
    echoes(&dc, b"hello").await;
}

/// str0m alone would take 22 s; a LiveKit server removes a participant after 16 s.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_peer_is_noticed_in_time_and_a_restart_loses_no_message() {
    let server = Server::start().await;
    let mut p = peer();
    let dc = p.pc.create_data_channel("x", reliable()).unwrap();
    let number = server.answer(&p.pc, OfferOptions::default(), Protocol::Udp, None).await;
    connected(&mut p).await;
    open(&[&dc]).await;
    server.run(|s| s.frozen = true).await;
    let started = Instant::now();
    reaches(&mut p, PeerConnectionState::Failed).await;
    let took = started.elapsed();
    assert!(took < Duration::from_secs(10) && took > Duration::from_secs(4), "{took:?}");
    let mut rx = inbox(&dc);
    dc.send(b"sent into silence", true).unwrap();
    server.run(|s| s.frozen = false).await;
    let restart = OfferOptions { ice_restart: true, ..Default::default() };
    server.answer(&p.pc, restart, Protocol::Udp, Some(number)).await;
    connected(&mut p).await;
    assert_eq!(soon("message", rx.recv()).await.unwrap().0, b"sent into silence");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_does_not_use_a_silent_tcp_connection() {
    let server = Server::start().await;
    let mut p = peer();
    let dc = p.pc.create_data_channel("x", reliable()).unwrap();
    let number = server.answer(&p.pc, OfferOptions::default(), Protocol::Tcp, None).await;
    connected(&mut p).await;
    open(&[&dc]).await;
    echoes(&dc, b"before").await;
    let first = server.run(move |s| s.peers[&number]).await;
    server.run(|s| s.frozen = true).await;
    reaches(&mut p, PeerConnectionState::Failed).await;
    server.run(|s| s.frozen = false).await;
    let restart = OfferOptions { ice_restart: true, ..Default::default() };
    server.answer(&p.pc, restart, Protocol::Tcp, Some(number)).await;
    connected(&mut p).await;
    echoes(&dc, b"after").await;
    assert_ne!(server.run(move |s| s.peers[&number]).await, first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_cannot_open_channels_without_limit() {
    let server = Server::start().await;
    let mut p = peer();
    let dc = p.pc.create_data_channel("x", reliable()).unwrap();
    let number = server.answer(&p.pc, OfferOptions::default(), Protocol::Udp, None).await;
    connected(&mut p).await;
    open(&[&dc]).await;
    for round in 0..30 {
        server
            .run(move |s| {
                for i in 0..10 {
                    let label = format!("{round}.{i} {}", "long ".repeat(50));
                    let config = str0m::channel::ChannelConfig { label, ..Default::default() };
                    s.rtcs[number].direct_api().create_data_channel(config);
                }
            })
            .await;
        echoes(&dc, b"still there").await;
    }
    let mut got = 0;
    while p.channels.try_recv().is_ok() {
        got += 1;
    }
    assert_eq!(got, 255, "256 channels with our own");
    assert_eq!(p.pc.connection_state(), PeerConnectionState::Connected);
}

/// The subscriber side of a server that sends media, in the form that pion writes.
#[tokio::test(flavor = "multi_thread")]
async fn media_sections_in_any_order_and_unknown_codecs_are_answered() {
    let mut p = peer();
    let head = "v=0\r\no=- 4596489990601351948 1700000000 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n\
        a=fingerprint:sha-256 0F:74:31:25:CB:A2:13:EC:28:6F:6D:2C:61:FF:5D:C2:BC:B9:DB:3D:98:14:\
        8D:1A:BB:EA:33:0C:A4:60:A8:8E\r\na=extmap-allow-mixed\r\n";
    let ice = "c=IN IP4 0.0.0.0\r\na=setup:actpass\r\na=ice-ufrag:srvUfrag\r\n\
        a=ice-pwd:srvPasswordsrvPasswordsrvPw\r\n";
    let audio = |mid: &str, direction: &str| {
        format!(
            "m=audio 9 UDP/TLS/RTP/SAVPF 111 63\r\n{ice}a=mid:{mid}\r\na=rtcp-mux\r\n\
             a=rtcp-rsize\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n\
             a=rtcp-fb:111 transport-cc \r\na=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n\
             a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=ssrc:1 cname:PA_x\r\n\
             a=ssrc:1 msid:PA_x|ST TR_AUDIO\r\na=msid:PA_x|ST TR_AUDIO\r\na={direction}\r\n"
        )
    };
    let video = format!(
        "m=video 9 UDP/TLS/RTP/SAVPF 96 97 35 36\r\n{ice}a=mid:2\r\na=rtcp-mux\r\n\
         a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack pli\r\na=rtpmap:97 rtx/90000\r\n\
         a=fmtp:97 apt=96\r\na=rtpmap:35 H265/90000\r\na=rtpmap:36 weird-codec/90000\r\n\
         a=fmtp:36 x y z==\r\na=msid:PA_x|ST TR_VIDEO\r\na=sendonly\r\n"
    );
    let app = format!(
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n{ice}a=mid:0\r\na=sendrecv\r\n\
         a=sctp-port:5000\r\n"
    );
    let odd =
        format!("m=text 9 TCP/MSRP *\r\n{ice}a=mid:chat\r\n{}", app.replace("mid:0", "mid:x"));
    let group = |mids: &str| format!("{head}a=group:BUNDLE {mids}\r\n");

    // Media without a data section; then with it; then one section stops; then unknown sections.
    let offers = [
        group("1") + &audio("1", "sendonly"),
        group("1 0") + &audio("1", "sendonly") + &app,
        group("1 0 2") + &audio("1", "inactive") + &app + &video,
        group("1 0 2 chat x") + &audio("1", "inactive") + &app + &video + &odd,
    ];
    let mut answers = vec![];
    for sdp in &offers {
        let offer = SessionDescription::parse(sdp, SdpType::Offer).unwrap();
        p.pc.set_remote_description(offer).await.unwrap();
        let answer = p.pc.create_answer(AnswerOptions::default()).await.unwrap();
        p.pc.set_local_description(answer.clone()).await.unwrap();
        assert_eq!(p.pc.signaling_state(), SignalingState::Stable);
        answers.push(answer.to_string());
    }
    assert!(answers[0].contains("a=recvonly\r\n"));
    assert!(answers[0].contains("a=rtpmap:63 red/48000/2"));
    assert!(answers[1].contains("m=application 9 "));
    assert!(answers[1].contains("a=group:BUNDLE 1 0\r\n"));
    assert!(answers[2].contains("a=inactive\r\n") && answers[2].contains("a=setup:active\r\n"));
    assert!(answers[3].contains("m=text 0 TCP/MSRP *\r\n"), "an unknown section is refused");
    assert!(answers[3].contains("m=application 0 "), "and so is a second data section");
    for mid in ["1", "2"] {
        let t = soon("track", p.tracks.recv()).await.unwrap();
        assert_eq!((t.transceiver.mid(), t.streams[0].id()), (Some(mid.into()), "PA_x|ST".into()));
    }
    let t = p.pc.transceivers();
    assert_eq!(t[1].receiver().track().unwrap().id(), "TR_VIDEO");
    assert!(t[0].receiver().streams().is_empty());
}
