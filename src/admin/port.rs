//! Serves the port's connections. Their number is limited, and each must make progress with its request.
//!
//! The port may be open to strangers, and its connections take file descriptors that calls need. So a
//! connection without a request is closed after seconds, and a connection beyond the limits at once.

use std::{
    collections::HashMap,
    io::ErrorKind,
    net::{IpAddr, Ipv6Addr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use axum::Router;
use hyper::{
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use parking_lot::{Mutex, MutexGuard};
use store::health::Health;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::watch,
    time::{sleep, timeout},
};

use crate::{descriptors, telemetry::LogThrottle};

/// Timeout for a request's head. hyper's timer starts when it begins to wait for one, so this is also how
/// long a kept connection may be idle. A client whose connection is closed during a request (as may happen
/// to LiveKit's webhooks) sends it again.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// Time from one request to the next or to the end: for body, answer, and the wait between them.
const REQUEST_WITHIN: Duration = Duration::from_secs(15);
/// Limit for a request's head in bytes; LiveKit's token in it has some hundred.
const HEAD_BYTES: usize = 16 * 1024;
/// Pause after a connection could not be accepted: an immediate attempt would fail again.
const PAUSE: Duration = Duration::from_millis(500);

/// Share of all places that strangers may take, in quarters. The rest is for probes and LiveKit, which mostly
/// come from this host or its network.
const STRANGERS: usize = 3;

/// Limits for the number of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    all: usize,
    /// From one address.
    each: usize,
}

impl Bounds {
    /// A quarter of the process's descriptors, from 8 to 256: calls need the rest.
    fn of(descriptors: Option<u64>) -> Self {
        let quarter = descriptors.and_then(|n| usize::try_from(n / 4).ok()).unwrap_or(usize::MAX);
        let all = quarter.clamp(8, 256);
        Self { all, each: (all / 4).max(4) }
    }
}

/// Serves as long as it is polled.
pub(super) async fn serve(listener: TcpListener, app: Router, health: Health) {
    let places = Places::new(Bounds::of(descriptors::limit()));
    let mut failed = LogThrottle::default();
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                if let Some(place) = places.take(from.ip()) {
                    tokio::spawn(connection(stream, app.clone(), place));
                }
            }
            // The client closed it before it was accepted.
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
                ) => {}
            Err(e) => {
                if !descriptors::report_shortage(&e, &health)
                    && let Some(times) = failed.due()
                {
                    tracing::warn!(error = %e, times, "the port cannot take connections");
                }
                sleep(PAUSE).await;
            }
        }
    }
}

/// Serves one connection until it ends or makes no progress.
async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    app: Router,
    _place: Place,
) {
    let (asked, mut asks) = watch::channel(());
    let app = TowerToHyperService::new(app);
    let service = service_fn(move |request| {
        asked.send_replace(());
        app.call(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = pin!(served);
    loop {
        tokio::select! {
            // An error is the client's fault: it left, was too slow, or does not speak HTTP.
            _ = &mut served => return,
            next = timeout(REQUEST_WITHIN, asks.changed()) => if next.is_err() { return },
        }
    }
}

/// Counts the open connections, and decides whether another is allowed.
struct Places {
    bounds: Bounds,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by: HashMap<IpAddr, usize>,
    refused: LogThrottle,
}

/// Held as long as its connection is open.
struct Place {
    taken: Arc<Mutex<Taken>>,
    by: IpAddr,
}

impl Places {
    fn new(bounds: Bounds) -> Self {
        Self { bounds, taken: Arc::default() }
    }

    /// `None` if there are too many.
    fn take(&self, from: IpAddr) -> Option<Place> {
        let by = owner(from);
        let mut taken = lock(&self.taken);
        let of_this = taken.by.get(&by).copied().unwrap_or(0);
        let all = self.bounds.all;
        let all = if is_near(from) { all } else { (all * STRANGERS / 4).max(1) };
        if taken.all >= all || of_this >= self.bounds.each {
            if let Some(closed) = taken.refused.due() {
                tracing::warn!(
                    %from,
                    closed,
                    open = taken.all,
                    "connections to the port are closed at once: too many are open"
                );
            }
            return None;
        }
        taken.all += 1;
        taken.by.insert(by, of_this + 1);
        Some(Place { taken: self.taken.clone(), by })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.all -= 1;
        match taken.by.get_mut(&self.by) {
            Some(n) if *n > 1 => *n -= 1,
            _ => {
                taken.by.remove(&self.by);
            }
        }
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock()
}

/// Whether the address is of this host or of a private network.
fn is_near(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// The address to count by. For IPv6 it is the network of 64 bits: its owner has all of its addresses.
fn owner(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::post;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        time::Instant,
    };

    use super::*;

    /// A client's end of a connection that is being served.
    fn client() -> DuplexStream {
        let (client, server) = duplex(1024);
        let place = Places::new(Bounds { all: 1, each: 1 }).take(ip("192.0.2.1")).unwrap();
        let app = Router::new().route("/", post(|body: String| async { body }));
        tokio::spawn(connection(server, app, place));
        client
    }

    /// When the server closes the connection, and what it answered until then.
    async fn closed(client: &mut DuplexStream) -> (Duration, String) {
        let (began, mut answer) = (Instant::now(), vec![]);
        // A connection may also end with an error.
        let _ = timeout(Duration::from_secs(600), client.read_to_end(&mut answer)).await;
        (began.elapsed(), String::from_utf8(answer).unwrap())
    }

    /// tokio's timers are as exact as a millisecond.
    fn about(measured: Duration, expected: Duration) {
        assert!(measured.abs_diff(expected) <= Duration::from_millis(5), "{measured:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_whole_request_is_closed_after_five_seconds() {
        for head in ["", "GET / HTTP/1.1\r\nx-a: "] {
            let mut client = client();
            client.write_all(head.as_bytes()).await.unwrap();
            about(closed(&mut client).await.0, Duration::from_secs(5));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_kept_connection_is_closed_five_seconds_after_its_answer() {
        let mut client = client();
        client.write_all(b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\nhi").await.unwrap();
        let (after, answer) = closed(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hi"), "{answer}");
        about(after, Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_end_is_waited_for_fifteen_seconds() {
        let mut client = client();
        client.write_all(b"POST / HTTP/1.1\r\ncontent-length: 99\r\n\r\nhi").await.unwrap();
        about(closed(&mut client).await.0, Duration::from_secs(15));
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn connections_are_limited_for_each_address_and_in_all() {
        let places = Places::new(Bounds { all: 4, each: 2 });
        let a = [places.take(ip("192.0.2.1")), places.take(ip("::ffff:192.0.2.1"))];
        assert!(a.iter().all(Option::is_some));
        assert!(places.take(ip("192.0.2.1")).is_none(), "its share is used up");
        let b = places.take(ip("192.0.2.2"));
        assert!(b.is_some());
        assert!(places.take(ip("192.0.2.3")).is_none(), "there is no place for strangers");
        let probe = places.take(ip("10.0.0.1"));
        assert!(probe.is_some() && places.take(ip("127.0.0.1")).is_none(), "nor for anybody");
        drop(probe);
        drop(a);
        let c: Vec<_> = (1..=3).map(|n| places.take(ip(&format!("2001:db8::{n}")))).collect();
        assert_eq!(c.iter().flatten().count(), 2, "one network is one address");
        drop((b, c));
        assert!(lock(&places.taken).by.is_empty() && lock(&places.taken).all == 0);
    }

    #[test]
    fn few_descriptors_are_mostly_kept_for_calls() {
        for (descriptors, all, each) in [
            (None, 256, 64),
            (Some(u64::MAX), 256, 64),
            (Some(1024), 256, 64),
            (Some(256), 64, 16),
            (Some(20), 8, 4),
        ] {
            assert_eq!(Bounds::of(descriptors), Bounds { all, each });
        }
    }
}
