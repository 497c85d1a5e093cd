//! A client with sound, on str0m: the SDK is built here without audio and cannot publish.

use std::time::{Duration, Instant};

use livekit_api::access_token::AccessToken;
use livekit_devserver::{
    Server,
    proto::{self as lk, signal_request::Message as In, signal_response::Message as Out},
};
use str0m::{
    Candidate, Event, Input, Output, Rtc,
    change::{SdpAnswer, SdpOffer},
    media::{Direction, Frequency, MediaKind, MediaTime, Mid},
    net::{Protocol, Receive},
};
use tokio::{
    net::UdpSocket,
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::raw::Signal;

/// A frame of opus.
const FRAME: Duration = Duration::from_millis(20);

/// What a microphone sends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Sound {
    /// Frames at this level, dBov.
    Level(i8),
    /// No frames.
    Nothing,
}

fn config() -> Rtc {
    Rtc::builder().clear_codecs().enable_opus(true, false).build(Instant::now())
}

async fn connection(mut rtc: Rtc) -> (Rtc, UdpSocket) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    rtc.add_local_candidate(Candidate::host(socket.local_addr().unwrap(), "udp").unwrap());
    (rtc, socket)
}

/// A client that publishes a microphone.
pub(crate) struct Microphone {
    pub(crate) signal: Signal,
    pub(crate) sid: String,
    pub(crate) track: String,
    sound: watch::Sender<Sound>,
    driver: JoinHandle<()>,
}

impl Microphone {
    /// Joins with one connection and publishes; sends `sound` from the beginning.
    pub(crate) async fn publish(server: &Server, token: &AccessToken, sound: Sound) -> Microphone {
        let mut signal = Signal::single(server, token).await;
        let sid = signal.joined().await.participant.unwrap().sid;
        let request = lk::AddTrackRequest {
            cid: "microphone".into(),
            name: "mic".into(),
            source: lk::TrackSource::Microphone as i32,
            ..Default::default()
        };
        signal.send(In::AddTrack(request)).await;
        let track = signal.wait("the track", |m| match m {
            Out::TrackPublished(t) => t.track.clone().map(|t| t.sid),
            _ => None,
        });
        let track = track.await;
        let (mut rtc, socket) = connection(config()).await;
        let mut changes = rtc.sdp_api();
        let track_id = Some("microphone".to_owned());
        let mid = changes.add_media(MediaKind::Audio, Direction::SendOnly, None, track_id, None);
        let (offer, pending) = changes.apply().unwrap();
        let offer = lk::SessionDescription {
            r#type: "offer".into(),
            sdp: offer.to_sdp_string(),
            ..Default::default()
        };
        signal.send(In::Offer(offer)).await;
        let answer = signal.wait("the answer", |m| match m {
            Out::Answer(answer) => Some(answer.sdp.clone()),
            _ => None,
        });
        let answer = SdpAnswer::from_sdp_string(&answer.await).expect("an answer that can be read");
        rtc.sdp_api().accept_answer(pending, answer).expect("an answer that fits");
        let (tx, sound) = watch::channel(sound);
        let driver = tokio::spawn(async move {
            drive(rtc, socket, Some((mid, sound)), mpsc::unbounded_channel().1, |_| {}).await;
        });
        Microphone { signal, sid, track, sound: tx, driver }
    }

    pub(crate) fn set(&self, sound: Sound) {
        self.sound.send_replace(sound);
    }

    /// Ends all packets of this client, as if it had died.
    pub(crate) fn die(&self) {
        self.driver.abort();
    }
}

impl Drop for Microphone {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A client that listens: two connections, subscribed to everything.
pub(crate) struct Listener {
    pub(crate) signal: Signal,
    socket: Option<UdpSocket>,
    rtc: Option<Rtc>,
    answers: mpsc::UnboundedReceiver<SdpAnswer>,
    offers: Option<mpsc::UnboundedSender<SdpOffer>>,
    packets: watch::Receiver<u32>,
    count: Option<watch::Sender<u32>>,
    reply: mpsc::UnboundedSender<SdpAnswer>,
}

impl Listener {
    pub(crate) async fn join(server: &Server, token: &AccessToken) -> Listener {
        let mut signal = Signal::dual(server, token).await;
        signal.joined().await;
        let (rtc, socket) = connection(config()).await;
        let (reply, answers) = mpsc::unbounded_channel();
        let (count, packets) = watch::channel(0);
        Listener {
            signal,
            socket: Some(socket),
            rtc: Some(rtc),
            answers,
            offers: None,
            packets,
            count: Some(count),
            reply,
        }
    }

    /// Answers the server's next offer.
    pub(crate) async fn negotiate(&mut self) {
        let offer = self.signal.wait("an offer", |m| match m {
            Out::Offer(offer) => Some(offer.clone()),
            _ => None,
        });
        let offer = offer.await;
        // With `actpass` str0m would wait for the other side to start DTLS. libwebrtc, as answerer, starts
        // it.
        let text = offer.sdp.replace("a=setup:actpass", "a=setup:passive");
        let sdp = SdpOffer::from_sdp_string(&text).expect("an offer that can be read");
        if let (Some(rtc), Some(socket), Some(count)) =
            (self.rtc.take(), self.socket.take(), self.count.take())
        {
            let (offers, received) = mpsc::unbounded_channel();
            self.offers = Some(offers);
            let reply = self.reply.clone();
            tokio::spawn(async move {
                let on = |event| match event {
                    Happened::Answer(answer) => drop(reply.send(answer)),
                    Happened::Packet => count.send_modify(|n| *n += 1),
                };
                drive(rtc, socket, None, received, on).await;
            });
        }
        self.offers.as_ref().unwrap().send(sdp).unwrap();
        let answer = self.answers.recv().await.unwrap();
        let answer = lk::SessionDescription {
            r#type: "answer".into(),
            sdp: answer.to_sdp_string(),
            id: offer.id,
            ..Default::default()
        };
        self.signal.send(In::Answer(answer)).await;
    }

    /// Waits until this many packets of sound have arrived in total.
    pub(crate) async fn hears(&mut self, packets: u32) {
        let wait = self.packets.wait_for(|n| *n >= packets);
        tokio::time::timeout(crate::support::PATIENCE, wait)
            .await
            .expect("no sound comes")
            .unwrap();
    }

    pub(crate) fn heard(&self) -> u32 {
        *self.packets.borrow()
    }
}

enum Happened {
    Answer(SdpAnswer),
    Packet,
}

/// Runs a connection until its task is aborted.
async fn drive(
    mut rtc: Rtc,
    socket: UdpSocket,
    microphone: Option<(Mid, watch::Receiver<Sound>)>,
    mut offers: mpsc::UnboundedReceiver<SdpOffer>,
    on: impl Fn(Happened),
) {
    let local = socket.local_addr().unwrap();
    let mut frames = tokio::time::interval(FRAME);
    let mut sent = 0u64;
    let mut buf = vec![0; 2000];
    let mut offers_open = true;
    loop {
        let deadline = loop {
            match rtc.poll_output() {
                Ok(Output::Transmit(t)) => drop(socket.send_to(&t.contents, t.destination).await),
                Ok(Output::Event(Event::MediaData(_))) => on(Happened::Packet),
                Ok(Output::Event(_)) => {}
                Ok(Output::Timeout(at)) => break at,
                Err(_) => return,
            }
        };
        tokio::select! {
            received = socket.recv_from(&mut buf) => {
                let Ok((n, from)) = received else { continue };
                if let Ok(packet) = Receive::new(Protocol::Udp, from, local, &buf[..n]) {
                    let _ = rtc.handle_input(Input::Receive(Instant::now(), packet));
                }
            }
            offer = offers.recv(), if offers_open => match offer {
                Some(offer) => on(Happened::Answer(rtc.sdp_api().accept_offer(offer).expect("a good offer"))),
                None => offers_open = false,
            },
            _ = frames.tick(), if microphone.is_some() => {
                let Some((mid, sound)) = &microphone else { continue };
                let Sound::Level(level) = *sound.borrow() else { continue };
                sent += 1;
                let Some(writer) = rtc.writer(*mid) else { continue };
                let Some(pt) = writer.payload_params().next().map(|p| p.pt()) else { continue };
                let time = MediaTime::new(sent * 960, Frequency::FORTY_EIGHT_KHZ);
                let _ = writer.audio_level(level, level > -35).write(pt, Instant::now(), time, vec![0u8; 60]);
            }
            () = tokio::time::sleep_until(deadline.into()) => {}
        }
        let _ = rtc.handle_input(Input::Timeout(Instant::now()));
    }
}
