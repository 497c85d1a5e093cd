use std::{
    net::{Ipv4Addr, TcpListener},
    time::{Duration, Instant},
};

use super::*;

/// Sockets of this machine that are connecting to a port, from the kernel's own table.
fn connecting_to(port: u16) -> usize {
    const SYN_SENT: &str = "02";
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let remote = format!(":{port:04X}");
    let is = |l: &&str| {
        let mut f = l.split_whitespace().skip(2);
        f.next().is_some_and(|a| a.ends_with(&remote)) && f.next() == Some(SYN_SENT)
    };
    table.lines().filter(is).count()
}

fn soon(what: &str, mut f: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !f() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

/// A port where the kernel drops connection requests: its accept queue is full.
fn hole() -> (socket2::Socket, Vec<std::net::TcpStream>, SocketAddr) {
    let s = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    s.bind(&SocketAddr::new(HERE.ip(), 0).into()).unwrap();
    s.listen(0).unwrap();
    let to = s.local_addr().unwrap().as_socket().unwrap();
    let quick = Duration::from_millis(200);
    let mut filled = vec![];
    while let Ok(c) = std::net::TcpStream::connect_timeout(&to, quick) {
        filled.push(c);
        assert!(filled.len() < 10);
    }
    (s, filled, to)
}

#[test]
fn a_connect_that_gets_no_answer_ends_with_its_connection() {
    let (_listener, _filled, to) = hole();
    let mut links = TcpLinks::new(Weak::new());
    for _ in 0..1000 {
        links.send(HERE, to, b"check");
    }
    soon("is connecting", || connecting_to(to.port()) == 1);
    drop(links);
    soon("has given up", || connecting_to(to.port()) == 0);
}

#[test]
fn packets_are_framed_and_the_first_ones_are_not_lost() {
    use std::io::Read;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let mut links = TcpLinks::new(Weak::new());
    links.send(HERE, to, b"one");
    links.send(HERE, to, b"");
    links.send(HERE, to, &[7; 70_000]); // too long for a frame: dropped
    links.send(HERE, to, b"two!");
    let mut peer = listener.accept().unwrap().0;
    let mut got = vec![0; 5];
    peer.read_exact(&mut got).unwrap(); // the link is up
    links.close();
    peer.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"\x00\x03one\x00\x00\x00\x04two!");
}

#[test]
fn a_peer_cannot_make_us_open_links_without_limit() {
    let (_listener, _filled, to) = hole();
    let mut links = TcpLinks::new(Weak::new());
    for port in 0..100 {
        links.send(SocketAddr::new(HERE.ip(), port), to, b"check");
    }
    assert_eq!(links.links.len(), TCP_LINKS);
}

#[tokio::test]
async fn any_frame_a_peer_sends_can_be_read() {
    use tokio::net::{TcpListener, TcpStream};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut read, _write) = listener.accept().await.unwrap().0.into_split();
    let mut buf = vec![0; usize::from(u16::MAX)];
    for n in [0u16, 1, 1500, u16::MAX] {
        peer.write_u16(n).await.unwrap();
        peer.write_all(&vec![9; n.into()]).await.unwrap();
        assert_eq!(frame(&mut read, &mut buf).await.unwrap(), usize::from(n));
    }
    peer.write_all(&[0xff, 0xff, 1, 2]).await.unwrap();
    drop(peer); // in the middle of a frame
    assert!(frame(&mut read, &mut buf).await.is_err());
}
