//! Serves connections. Their number is limited, and each must say what it wants.
//!
//! The port may be open to strangers: a connection without a request is closed after a while, and one that is too
//! many waits or is closed at once. How long a body may take is in [`crate::body`].

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{Router, http::HeaderMap};
use hyper::{
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use parking_lot::Mutex;
use tokio::{
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::throttle::Throttle;

/// Timeout for the head of a request, from its first moment or from the end of the one before: also how long a kept
/// connection may be idle.
const HEAD_WITHIN: Duration = Duration::from_secs(60);
/// Bytes of a head at most: a list of ids in a query may be long.
const HEAD_BYTES: usize = 64 * 1024;
/// Connections at the same time. More wait until one ends.
const CONNECTIONS: usize = 1_000;
/// From one address that is not of this machine. A proxy before the receiver has all of them: it runs here, or keeps
/// its connections.
const EACH: usize = 250;
/// Pause after a connection could not be accepted: an immediate attempt would fail again.
const PAUSE: Duration = Duration::from_millis(500);

/// Serves until `stopping`, then until the running requests have ended.
pub(crate) async fn serve(listener: TcpListener, app: Router, stopping: CancellationToken) {
    let places = Places::default();
    let graceful = GracefulShutdown::new();
    let failed = Throttle::new();
    while let Some(accepted) = stopping.run_until_cancelled(places.accept(&listener)).await {
        let (stream, place) = match accepted {
            Ok((stream, Some(place))) => (stream, place),
            // Too many from this address: dropped, and so closed.
            Ok((_, None)) => continue,
            Err(e) => {
                if let Some(times) = failed.due() {
                    tracing::warn!(error = %e, times, "the port cannot take connections");
                }
                sleep(PAUSE).await;
                continue;
            }
        };
        // Answers are small and complete: nothing is gained by waiting for more.
        let _ = stream.set_nodelay(true);
        let (app, peer) = (TowerToHyperService::new(app.clone()), Peer(place.address));
        let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(peer);
            app.call(request)
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let served = graceful.watch(served);
        tokio::spawn(async move {
            // An error is the client's fault: it left, was too slow, or does not speak HTTP.
            let _ = served.await;
            drop(place);
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

/// Where a connection is from; each request of it carries this as an extension.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

impl Peer {
    /// Who asks; `None`: this machine. A proxy on it says for whom it does: the last address is the one that it has seen
    /// itself. A network of IPv6 counts as one address, as it is given to one customer as a whole.
    pub(crate) fn address(self, headers: &HeaderMap) -> Option<IpAddr> {
        let address = if self.0.is_loopback() { passed_on(headers)? } else { self.0 };
        Some(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => {
                Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
            }
        })
    }
}

fn passed_on(headers: &HeaderMap) -> Option<IpAddr> {
    let all = headers.get_all("x-forwarded-for").iter().next_back()?;
    all.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
}

/// The number of connections, in all and from each address.
struct Places {
    all: Arc<Semaphore>,
    from: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Default for Places {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(CONNECTIONS)), from: Arc::default() }
    }
}

/// A connection that is counted.
struct Place {
    _of_all: Option<OwnedSemaphorePermit>,
    address: IpAddr,
    from: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Places {
    /// The next connection. Without a place if there are too many from its address.
    async fn accept(
        &self,
        listener: &TcpListener,
    ) -> std::io::Result<(tokio::net::TcpStream, Option<Place>)> {
        // Never closed.
        let of_all = self.all.clone().acquire_owned().await.ok();
        let (stream, address) = listener.accept().await?;
        Ok((stream, self.take(address, of_all)))
    }

    fn take(&self, address: SocketAddr, of_all: Option<OwnedSemaphorePermit>) -> Option<Place> {
        let address = address.ip().to_canonical();
        let mut from = self.from.lock();
        let count = from.entry(address).or_default();
        if *count >= EACH && !address.is_loopback() {
            return None;
        }
        *count += 1;
        Some(Place { _of_all: of_all, address, from: self.from.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut from = self.from.lock();
        if let Some(count) = from.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                from.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_a_part_of_all_places_and_gives_them_back() {
        let places = Places::default();
        let take = |address: &str| places.take(format!("{address}:1").parse().unwrap(), None);
        let mut taken: Vec<Place> = (0..EACH).map(|_| take("192.0.2.1").unwrap()).collect();
        assert!(take("192.0.2.1").is_none());
        // The same address, written for IPv6.
        assert!(take("[::ffff:192.0.2.1]").is_none());
        assert!(take("192.0.2.2").is_some());
        taken.pop();
        assert!(take("192.0.2.1").is_some());
        assert!((0..2 * EACH).map(|_| take("127.0.0.1")).all(|place| place.is_some()));
        drop(taken);
        assert!(places.from.lock().is_empty());
    }

    #[test]
    fn only_a_proxy_of_this_machine_is_believed() {
        let of = |peer: &str, passed_on: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(text) = passed_on {
                headers.insert("x-forwarded-for", text.parse().unwrap());
            }
            Peer(peer.parse().unwrap()).address(&headers).map(|address| address.to_string())
        };
        for (peer, passed_on, expected) in [
            ("127.0.0.1", None, None),
            ("127.0.0.1", Some("nonsense"), None),
            ("127.0.0.1", Some("203.0.113.9, 198.51.100.7"), Some("198.51.100.7")),
            ("192.0.2.1", Some("203.0.113.9"), Some("192.0.2.1")),
            ("2001:db8::1:2:3:4", None, Some("2001:db8::")),
            ("::ffff:192.0.2.1", None, Some("192.0.2.1")),
        ] {
            assert_eq!(of(peer, passed_on).as_deref(), expected, "{peer} {passed_on:?}");
        }
    }
}
