//! A peer made of str0m alone, like a LiveKit server: many connections on one UDP port, or a connection
//! over ICE-TCP. Echoes the messages of all channels.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use libwebrtc::prelude::*;
use str0m::{
    Candidate, Event, Input, Output, Rtc, RtcConfig,
    change::SdpOffer,
    net::{Protocol, Receive, TcpType, Transmit},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket, tcp::OwnedWriteHalf},
    sync::{mpsc, oneshot},
};

type Job = Box<dyn FnOnce(&mut State) + Send>;
type Packet = (Protocol, SocketAddr, Vec<u8>);

/// The state of the server's task; `Server::run` runs closures on it.
pub struct State {
    pub rtcs: Vec<Rtc>,
    pub udp: SocketAddr,
    pub tcp: SocketAddr,
    /// The address to which each connection last sent.
    pub peers: HashMap<usize, SocketAddr>,
    /// Number of channels that opened, on all connections.
    pub opened: usize,
    /// While true, reads and sends nothing, as behind a broken network. TCP connections of this time
    /// stay silent for ever.
    pub frozen: bool,
    /// Packets that are sent as they are, to test garbage.
    pub raw: Vec<(SocketAddr, Vec<u8>)>,
    links: HashMap<SocketAddr, mpsc::UnboundedSender<Vec<u8>>>,
    /// Links of a frozen time: kept open, but never used again.
    deaf: Vec<mpsc::UnboundedSender<Vec<u8>>>,
}

pub struct Server {
    jobs: mpsc::UnboundedSender<Job>,
}

impl Server {
    pub async fn start() -> Server {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (jobs, rx) = mpsc::unbounded_channel();
        let state = State {
            rtcs: vec![],
            udp: udp.local_addr().unwrap(),
            tcp: tcp.local_addr().unwrap(),
            peers: HashMap::new(),
            opened: 0,
            frozen: false,
            raw: vec![],
            links: HashMap::new(),
            deaf: vec![],
        };
        tokio::spawn(serve(state, udp, tcp, rx));
        Server { jobs }
    }

    pub async fn run<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> T {
        let (tx, rx) = oneshot::channel();
        assert!(
            self.jobs
                .send(Box::new(move |s| {
                    let _ = tx.send(f(s));
                }))
                .is_ok(),
            "server died"
        );
        rx.await.unwrap()
    }

    /// Answers the offer of a connection. Returns the connection's number, which its next offer (an ICE
    /// restart) must pass.
    pub async fn answer(
        &self,
        pc: &PeerConnection,
        options: OfferOptions,
        proto: Protocol,
        number: Option<usize>,
    ) -> usize {
        let offer = pc.create_offer(options).await.unwrap();
        pc.set_local_description(offer.clone()).await.unwrap();
        let text = offer.to_string();
        let (answer, candidate, number) = self
            .run(move |s| {
                let number = number.unwrap_or_else(|| s.add(Rtc::builder()));
                let line = s.candidate(number, proto);
                let offer = SdpOffer::from_sdp_string(&text).unwrap();
                let answer = s.rtcs[number].sdp_api().accept_offer(offer).unwrap();
                (answer.to_sdp_string(), line, number)
            })
            .await;
        let answer = SessionDescription::parse(&without_candidates(&answer), SdpType::Answer);
        pc.set_remote_description(answer.unwrap()).await.unwrap();
        let candidate = IceCandidate::parse("0", 0, &candidate).unwrap();
        pc.add_ice_candidate(candidate).await.unwrap();
        number
    }
}

pub fn without_candidates(sdp: &str) -> String {
    let kept = sdp.lines().filter(|l| !l.starts_with("a=candidate:"));
    kept.flat_map(|l| [l, "\r\n"]).collect()
}

impl State {
    pub fn add(&mut self, config: RtcConfig) -> usize {
        self.rtcs.push(config.build(Instant::now()));
        self.rtcs.len() - 1
    }

    /// Adds a candidate for one protocol. Returns its line for the peer.
    pub fn candidate(&mut self, number: usize, proto: Protocol) -> String {
        let c = match proto {
            Protocol::Udp => Candidate::host(self.udp, Protocol::Udp).unwrap(),
            _ => {
                Candidate::builder().tcp().host(self.tcp).tcptype(TcpType::Passive).build().unwrap()
            }
        };
        self.rtcs[number].add_local_candidate(c.clone());
        c.to_sdp_string()
    }

    fn receive(&mut self, (proto, from, data): Packet) {
        let to = if proto == Protocol::Udp { self.udp } else { self.tcp };
        let Ok(packet) = Receive::new(proto, from, to, &data) else { return };
        let input = Input::Receive(Instant::now(), packet);
        if let Some(rtc) = self.rtcs.iter_mut().find(|r| r.accepts(&input)) {
            let _ = rtc.handle_input(input);
        }
    }

    fn drain(&mut self, udp: &UdpSocket) -> Instant {
        for (to, data) in std::mem::take(&mut self.raw) {
            let _ = udp.try_send_to(&data, to);
        }
        let mut next = Instant::now() + Duration::from_secs(1);
        for i in 0..self.rtcs.len() {
            loop {
                if !self.rtcs[i].is_alive() {
                    break;
                }
                match self.rtcs[i].poll_output().unwrap() {
                    Output::Transmit(t) => self.transmit(i, t, udp),
                    Output::Event(Event::ChannelOpen(..)) => self.opened += 1,
                    Output::Event(Event::ChannelData(d)) => {
                        let mut ch = self.rtcs[i].channel(d.id).unwrap();
                        assert!(ch.write(d.binary, &d.data).unwrap());
                    }
                    Output::Event(_) => {}
                    Output::Timeout(t) => {
                        next = next.min(t);
                        break;
                    }
                }
            }
        }
        next
    }

    fn transmit(&mut self, number: usize, t: Transmit, udp: &UdpSocket) {
        if self.frozen {
            return;
        }
        self.peers.insert(number, t.destination);
        if t.proto == Protocol::Udp {
            let _ = udp.try_send_to(&t.contents, t.destination);
        } else if let Some(link) = self.links.get(&t.destination) {
            let _ = link.send(t.contents.to_vec());
        }
    }

    /// Serves a new TCP connection; its packets go to `packets`.
    fn accept(&mut self, s: TcpStream, from: SocketAddr, packets: &mpsc::UnboundedSender<Packet>) {
        let (mut read, write) = s.into_split();
        let (tx, rx) = mpsc::unbounded_channel();
        self.links.insert(from, tx);
        tokio::spawn(write_frames(write, rx));
        let packets = packets.clone();
        tokio::spawn(async move {
            while let Ok(n) = read.read_u16().await {
                let mut b = vec![0; n.into()];
                let whole = read.read_exact(&mut b).await.is_ok();
                if !whole || packets.send((Protocol::Tcp, from, b)).is_err() {
                    break;
                }
            }
        });
    }
}

async fn write_frames(mut write: OwnedWriteHalf, mut rx: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(data) = rx.recv().await {
        let mut frame = u16::try_from(data.len()).unwrap().to_be_bytes().to_vec();
        frame.extend(data);
        if write.write_all(&frame).await.is_err() {
            break;
        }
    }
}

async fn serve(
    mut state: State,
    udp: UdpSocket,
    tcp: TcpListener,
    mut jobs: mpsc::UnboundedReceiver<Job>,
) {
    let (tx, mut tcp_packets) = mpsc::unbounded_channel::<Packet>();
    let mut buf = [0; 2048];
    loop {
        let deadline = state.drain(&udp);
        tokio::select! {
            r = udp.recv_from(&mut buf) => {
                if let (Ok((n, from)), false) = (r, state.frozen) {
                    state.receive((Protocol::Udp, from, buf[..n].to_vec()));
                }
            }
            Some(p) = tcp_packets.recv() => {
                if !state.frozen && state.links.contains_key(&p.1) {
                    state.receive(p);
                }
            }
            Ok((s, from)) = tcp.accept() => state.accept(s, from, &tx),
            job = jobs.recv() => match job {
                Some(job) => job(&mut state),
                None => return,
            },
            _ = tokio::time::sleep_until(deadline.into()) => {}
        }
        if state.frozen {
            state.deaf.extend(state.links.drain().map(|(_, link)| link));
        }
        let now = Instant::now();
        state.rtcs.iter_mut().filter(|r| r.is_alive()).for_each(|r| {
            let _ = r.handle_input(Input::Timeout(now));
        });
    }
}
