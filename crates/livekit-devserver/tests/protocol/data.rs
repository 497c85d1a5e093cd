//! Data between clients: packets, streams, and the identity of the sender.

use std::time::Duration;

use livekit::{RoomEvent, StreamByteOptions, StreamReader, StreamTextOptions, StreamWriter};

use crate::support::{Client, agent, attributes, caller, server};

#[tokio::test]
async fn clients_in_single_and_dual_mode_exchange_data() {
    let server = server().await;
    for (a, b) in [(true, false), (false, true), (true, true), (false, false)] {
        let mut alice = Client::join_with(&server, caller(&server, "alice"), a).await;
        let mut bob = Client::join_with(&server, caller(&server, "bob"), b).await;
        alice.sees_join("bob").await;
        alice.send("t", "hello", &[]).await;
        assert_eq!(bob.data("t").await, ("hello".into(), Some("alice".into())));
        bob.send("t", "hi", &[]).await;
        assert_eq!(alice.data("t").await, ("hi".into(), Some("bob".into())));
        alice.leave().await;
        bob.leave().await;
    }
}

#[tokio::test]
async fn a_packet_with_destinations_reaches_only_them() {
    let server = server().await;
    let alice = Client::join(&server, caller(&server, "alice")).await;
    let mut bob = Client::join(&server, caller(&server, "bob")).await;
    let mut carol = Client::join(&server, caller(&server, "carol")).await;
    alice.send("t", "for bob", &["bob"]).await;
    alice.send("t", "for all", &[]).await;
    assert_eq!(bob.data("t").await.0, "for bob");
    assert_eq!(bob.data("t").await.0, "for all");
    assert_eq!(carol.data("t").await.0, "for all");
}

#[tokio::test]
async fn lossy_packets_arrive_on_a_network_that_loses_none() {
    let server = server().await;
    let alice = Client::join(&server, caller(&server, "alice")).await;
    let mut bob = Client::join(&server, caller(&server, "bob")).await;
    bob.ready(&alice).await;
    let arrived = bob.wait("the packet", |e| match e {
        RoomEvent::DataReceived { kind, topic: Some(t), .. } if t == "t" => Some(kind),
        _ => None,
    });
    let talk = async {
        loop {
            // A lossy packet is lost if the channel is not open yet, so the test repeats it.
            let packet = livekit::DataPacket {
                payload: b"x".to_vec(),
                topic: Some("t".into()),
                ..Default::default()
            };
            alice.room.local_participant().publish_data(packet).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        kind = arrived => assert_eq!(kind, livekit::DataPacketKind::Lossy),
        () = talk => {}
    }
}

#[tokio::test]
async fn text_and_byte_streams_arrive_whole_with_their_attributes() {
    let server = server().await;
    let alice = Client::join(&server, caller(&server, "alice")).await;
    let mut bob = Client::join_with(&server, caller(&server, "bob"), false).await;
    let long: String = (0..60_000).map(|i| char::from(b'a' + (i % 26) as u8)).collect();
    let options =
        StreamTextOptions::new_with_topic("text").with_attributes(attributes(&[("key", "value")]));
    let writer = alice.room.local_participant().stream_text(options).await.unwrap();
    writer.write(&long).await.unwrap();
    writer.close().await.unwrap();
    let (reader, from) = bob
        .wait("a text stream", |e| match e {
            RoomEvent::TextStreamOpened { reader, topic, participant_identity }
                if topic == "text" =>
            {
                Some((reader.take().unwrap(), participant_identity))
            }
            _ => None,
        })
        .await;
    assert_eq!(from.as_str(), "alice");
    assert_eq!(reader.info().attributes()["key"], "value");
    assert_eq!(reader.read_all().await.unwrap(), long);

    let bytes: Vec<u8> = (0..200_000u32).map(|i| (i * 7) as u8).collect();
    let options = StreamByteOptions::new_with_topic("bytes");
    let writer = alice.room.local_participant().stream_bytes(options).await.unwrap();
    writer.write(&bytes).await.unwrap();
    writer.close().await.unwrap();
    let reader = bob
        .wait("a byte stream", |e| match e {
            RoomEvent::ByteStreamOpened { reader, topic, .. } if topic == "bytes" => reader.take(),
            _ => None,
        })
        .await;
    assert_eq!(reader.read_all().await.unwrap(), bytes);
}

/// Opens and closes a text stream that claims to be from `alice`. Returns the sender that the listener
/// sees, and whether the text counts as generated.
async fn claims_to_be_alice(speaker: &Client, listener: &mut Client) -> (String, bool) {
    let options = StreamTextOptions::new_with_topic("lk.transcription")
        .with_sender_identity("alice".to_owned());
    let writer = speaker.room.local_participant().stream_text(options).await.unwrap();
    writer.write("words").await.unwrap();
    writer.close().await.unwrap();
    listener
        .wait("the stream", |e| match e {
            RoomEvent::TextStreamOpened { reader, participant_identity, .. } => {
                let reader = reader.take().unwrap();
                Some((participant_identity.to_string(), reader.info().generated))
            }
            _ => None,
        })
        .await
}

#[tokio::test]
async fn only_an_agent_may_speak_for_another() {
    let server = server().await;
    let _alice = Client::join(&server, caller(&server, "alice")).await;
    let bob = Client::join(&server, caller(&server, "bob")).await;
    let agent = Client::join(&server, agent(&server, "agent", false)).await;
    let mut listener = Client::join(&server, caller(&server, "listener")).await;
    assert_eq!(claims_to_be_alice(&agent, &mut listener).await, ("alice".into(), true));
    assert_eq!(claims_to_be_alice(&bob, &mut listener).await, ("bob".into(), false));
}

#[tokio::test]
async fn legacy_transcriptions_pass_from_agents_only() {
    let server = server().await;
    let mut alice = Client::join(&server, caller(&server, "alice")).await;
    let bob = Client::join(&server, caller(&server, "bob")).await;
    let agent = Client::join(&server, agent(&server, "agent", false)).await;
    let transcription = |text: &str| livekit::Transcription {
        participant_identity: "alice".into(),
        track_id: "TR_x".into(),
        segments: vec![livekit::TranscriptionSegment {
            id: "SG_1".into(),
            text: text.into(),
            ..Default::default()
        }],
    };
    bob.room.local_participant().publish_transcription(transcription("forged")).await.unwrap();
    // The same channel: bob's transcription would arrive before this packet.
    bob.send("t", "done", &[]).await;
    agent.room.local_participant().publish_transcription(transcription("true")).await.unwrap();
    let mut heard = vec![];
    let mut done = false;
    alice
        .wait("the agent's transcription and bob's packet", |e| {
            match e {
                RoomEvent::TranscriptionReceived { segments, .. } => {
                    heard.push(segments[0].text.clone())
                }
                RoomEvent::DataReceived { .. } => done = true,
                _ => {}
            }
            (done && heard.contains(&"true".to_owned())).then_some(())
        })
        .await;
    assert_eq!(heard, ["true"]);
}

#[tokio::test]
async fn a_hidden_sender_has_no_name() {
    let server = server().await;
    let mut alice = Client::join(&server, caller(&server, "alice")).await;
    let ghost = Client::join(&server, agent(&server, "ghost", true)).await;
    ghost.send("t", "boo", &[]).await;
    assert_eq!(alice.data("t").await, ("boo".into(), None));
    let options = StreamByteOptions::new_with_topic("bytes");
    let writer = ghost.room.local_participant().stream_bytes(options).await.unwrap();
    writer.write(b"boo").await.unwrap();
    writer.close().await.unwrap();
    let from = alice
        .wait("the stream", |e| match e {
            RoomEvent::ByteStreamOpened { participant_identity, .. } => Some(participant_identity),
            _ => None,
        })
        .await;
    assert_eq!(from.as_str(), "");
}

#[tokio::test]
async fn data_of_a_client_without_the_right_to_publish_data_is_dropped() {
    let server = server().await;
    let mut alice = Client::join(&server, caller(&server, "alice")).await;
    let mut grants = crate::support::grants("r");
    grants.can_publish_data = Some(false);
    let mute = Client::join(&server, crate::support::token(&server, "mute", grants)).await;
    let packet =
        livekit::DataPacket { payload: b"x".to_vec(), reliable: true, ..Default::default() };
    // The SDK may refuse to send; the server must refuse in any case.
    let _ = mute.room.local_participant().publish_data(packet).await;
    let bob = Client::join(&server, caller(&server, "bob")).await;
    bob.send("t", "end", &[]).await;
    let mut packets = 0;
    alice
        .wait("bob's packet", |e| match e {
            RoomEvent::DataReceived { topic, .. } => {
                packets += 1;
                topic.filter(|t| t == "t")
            }
            _ => None,
        })
        .await;
    assert_eq!(packets, 1);
}

#[tokio::test]
async fn a_joiner_gets_what_was_said_while_it_joined() {
    let server = server().await;
    let alice = Client::join(&server, caller(&server, "alice")).await;
    let room = alice.room.clone();
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let talking = tokio::spawn(async move {
        let mut n = 0u32;
        while stopped.try_recv().is_err() {
            let packet = livekit::DataPacket {
                payload: n.to_string().into_bytes(),
                topic: Some("n".into()),
                reliable: true,
                ..Default::default()
            };
            room.local_participant().publish_data(packet).await.unwrap();
            n += 1;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    let mut bob = Client::join(&server, caller(&server, "bob")).await;
    let mut numbers = vec![];
    while numbers.len() < 20 {
        numbers.push(bob.data("n").await.0.parse::<u32>().unwrap());
    }
    let _ = stop.send(());
    talking.await.unwrap();
    let first = numbers[0];
    let expected: Vec<u32> = (first..first + 20).collect();
    assert_eq!(numbers, expected, "in order, without a gap and without a repetition");
}
