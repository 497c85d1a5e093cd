//! Packets: one UDP socket and one TCP listener for all rooms.
//!
//! In: datagrams and RFC 4571 frames from clients; packets to send from connections. Out: [`Cmd::Packet`]
//! to the room they belong to. A STUN request names its connection (`ourufrag:theirs`), and we remember the
//! sender's address; other packets are routed by that address. Packets from unknown addresses are dropped.
//! Must never wait: a room that is behind loses packets, as on a network.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use parking_lot::{Mutex, MutexGuard};
use str0m::{Candidate, config::DtlsCert, net::Protocol};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::mpsc,
};

use crate::room::{Cmd, RoomSender};

/// A connection of a participant of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PcId {
    /// The participant's key in its room.
    pub(crate) key: u64,
    /// True for the subscriber connection of dual mode.
    pub(crate) subscriber: bool,
}

type Route = (RoomSender, PcId);

#[derive(Default)]
struct Routes {
    by_ufrag: HashMap<String, Route>,
    by_address: HashMap<SocketAddr, Route>,
}

/// Faults of the network that tests ask for.
#[derive(Default)]
pub(crate) struct Loss {
    /// The share of UDP packets to lose, in millionths.
    pub(crate) to_clients: AtomicU32,
    pub(crate) from_clients: AtomicU32,
    /// New TCP connections are closed.
    pub(crate) tcp_closed: AtomicBool,
}

fn lost(share: &AtomicU32) -> bool {
    let share = share.load(Ordering::Relaxed);
    share > 0 && rand::random_range(0..1_000_000) < share
}

/// The transport that all connections share.
pub(crate) struct Net {
    udp: UdpSocket,
    udp_local: SocketAddr,
    tcp_local: SocketAddr,
    pub(crate) candidates: Vec<Candidate>,
    /// One DTLS certificate for all connections.
    pub(crate) cert: DtlsCert,
    routes: Mutex<Routes>,
    /// Open ICE-TCP connections by the client's address.
    links: Mutex<HashMap<SocketAddr, mpsc::Sender<Vec<u8>>>>,
    pub(crate) loss: Loss,
}

/// Frames that may wait for one TCP client.
const LINK_QUEUE: usize = 512;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that runs under these locks leaves a map half changed.
    mutex.lock()
}

impl Net {
    /// `udp_local` and `tcp_local` are the addresses that clients get.
    pub(crate) fn new(
        udp: UdpSocket,
        udp_local: SocketAddr,
        tcp_local: SocketAddr,
        candidates: Vec<Candidate>,
        cert: DtlsCert,
    ) -> Net {
        Net {
            udp,
            udp_local,
            tcp_local,
            candidates,
            cert,
            routes: Mutex::default(),
            links: Mutex::default(),
            loss: Loss::default(),
        }
    }

    pub(crate) fn local(&self, proto: Protocol) -> SocketAddr {
        if proto == Protocol::Udp { self.udp_local } else { self.tcp_local }
    }

    pub(crate) fn send(&self, proto: Protocol, data: &[u8], to: SocketAddr) {
        if proto == Protocol::Udp {
            if !lost(&self.loss.to_clients) {
                let _ = self.udp.try_send_to(data, to);
            }
        } else if let (Some(link), Ok(len)) =
            (locked(&self.links).get(&to), u16::try_from(data.len()))
        {
            let mut frame = len.to_be_bytes().to_vec();
            frame.extend(data);
            let _ = link.try_send(frame);
        }
    }

    /// Routes STUN requests with this ufrag to this connection. Its older ufrags stay valid.
    pub(crate) fn listen(&self, ufrag: &str, room: &RoomSender, pc: PcId) {
        locked(&self.routes).by_ufrag.insert(ufrag.into(), (room.clone(), pc));
    }

    /// Removes all routes to a participant.
    pub(crate) fn forget(&self, room: &RoomSender, key: u64) {
        let keep = |route: &mut Route| !(route.0.same_channel(room) && route.1.key == key);
        let mut routes = locked(&self.routes);
        routes.by_ufrag.retain(|_, route| keep(route));
        routes.by_address.retain(|_, route| keep(route));
    }

    fn route(&self, data: &[u8], from: SocketAddr) -> Option<Route> {
        let mut routes = locked(&self.routes);
        match stun_ufrag(data) {
            Some(ufrag) => {
                let route = routes.by_ufrag.get(ufrag).cloned()?;
                routes.by_address.insert(from, route.clone());
                Some(route)
            }
            None => routes.by_address.get(&from).cloned(),
        }
    }

    /// Runs for ever.
    pub(crate) async fn receive_udp(self: Arc<Self>) {
        let mut buf = vec![0u8; 2048];
        loop {
            let Ok((n, from)) = self.udp.recv_from(&mut buf).await else { continue };
            if lost(&self.loss.from_clients) {
                continue;
            }
            if let Some((room, pc)) = self.route(&buf[..n], from) {
                let data = buf[..n].to_vec();
                let _ = room.try_send(Cmd::Packet { pc, proto: Protocol::Udp, from, data });
            }
        }
    }

    /// ICE-TCP, the passive side. Runs for ever.
    pub(crate) async fn accept_tcp(self: Arc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok(_) if self.loss.tcp_closed.load(Ordering::Relaxed) => {}
                Ok((stream, from)) => drop(tokio::spawn(self.clone().serve_tcp(stream, from))),
                Err(error) => {
                    tracing::warn!(%error, "accepting a TCP client");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// Serves one ICE-TCP connection. Its first frame must be a STUN request, which names the peer
    /// connection.
    async fn serve_tcp(self: Arc<Self>, stream: TcpStream, from: SocketAddr) {
        let _ = stream.set_nodelay(true);
        let (mut reader, mut writer) = stream.into_split();
        let (tx, mut rx) = mpsc::channel::<Vec<u8>>(LINK_QUEUE);
        let link = tx.clone();
        locked(&self.links).insert(from, tx);
        let write = async {
            while let Some(frame) = rx.recv().await {
                if writer.write_all(&frame).await.is_err() {
                    break;
                }
            }
        };
        let read = async {
            let mut route: Option<Route> = None;
            while let Ok(n) = reader.read_u16().await {
                let mut data = vec![0; usize::from(n)];
                if reader.read_exact(&mut data).await.is_err() {
                    break;
                }
                if let Some(ufrag) = stun_ufrag(&data) {
                    route = locked(&self.routes).by_ufrag.get(ufrag).cloned().or(route);
                }
                let Some((room, pc)) = &route else { break };
                let _ = room.try_send(Cmd::Packet { pc: *pc, proto: Protocol::Tcp, from, data });
            }
        };
        tokio::select! {
            () = write => {}
            () = read => {}
        }
        locked(&self.links).retain(|_, l| !l.same_channel(&link));
    }
}

/// The part of a binding request's USERNAME before the colon: our ufrag, which names the addressee.
fn stun_ufrag(data: &[u8]) -> Option<&str> {
    const BINDING_REQUEST: [u8; 2] = [0, 1];
    const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
    const USERNAME: u16 = 6;
    if data.len() < 20 || data[..2] != BINDING_REQUEST || data[4..8] != COOKIE {
        return None;
    }
    let mut at = 20;
    while let Some(head) = data.get(at..at + 4) {
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let value = data.get(at + 4..at + 4 + len)?;
        if u16::from_be_bytes([head[0], head[1]]) == USERNAME {
            return std::str::from_utf8(value).ok()?.split(':').next();
        }
        at += 4 + len.div_ceil(4) * 4;
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
impl Net {
    /// On a port of its own, without a task that receives.
    pub(crate) async fn for_tests() -> Net {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = udp.local_addr().unwrap();
        let provider = str0m::crypto::from_feature_flags();
        let cert = provider.dtls_provider.generate_certificate().unwrap();
        Net::new(udp, address, address, vec![Candidate::host(address, "udp").unwrap()], cert)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_request_names_its_addressee() {
        let mut packet = vec![0, 1, 0, 16, 0x21, 0x12, 0xa4, 0x42];
        packet.extend([0; 12]);
        packet.extend([0x80, 0x22, 0, 3, b'x', b'y', b'z', 0]); // SOFTWARE, padded
        packet.extend([0, 6, 0, 9]);
        packet.extend(b"ours:them");
        assert_eq!(stun_ufrag(&packet), Some("ours"));
        packet[1] = 0x11;
        assert_eq!(stun_ufrag(&packet), None, "an indication");
    }

    #[test]
    fn truncated_packets_name_nobody() {
        let packet =
            [&[0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42][..], &[0; 12], &[0, 6, 0xff, 0xff, 1]].concat();
        for n in 0..packet.len() {
            assert_eq!(stun_ufrag(&packet[..n]), None);
        }
    }
}
