//! A running server: its sockets, its thread, its handle.
//!
//! In: a [`Config`]. Out: a [`Server`]. Each server has a thread with a runtime of its own: dropping that
//! runtime is what a crash looks like to clients, and blocking that thread is what a frozen process looks
//! like, so tests can have both, whatever runtime they use. The handle keeps its ports until it is dropped,
//! across restarts.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::Duration,
};

use livekit_protocol::{DisconnectReason as Why, ParticipantInfo};
use parking_lot::Mutex;
use str0m::{Candidate, net::TcpType};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::{mpsc, oneshot},
};

use crate::{
    agents::WorkerState,
    config::{Config, ConfigError},
    http,
    hub::Hub,
    net::Net,
};

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A port is in use, or the system does not allow it.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The system gave no thread or runtime.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// The cryptography did not give a DTLS certificate.
    #[error("cannot make a DTLS certificate")]
    Certificate,
}

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// How long a shutdown waits for goodbyes and webhooks to be sent.
const GOODBYES: Duration = Duration::from_secs(1);

/// An order from the handle to the server's thread.
pub(crate) enum Order {
    Stop,
    /// Die without a goodbye and start again after `down`; `back` is answered once the server listens.
    Restart {
        down: Duration,
        back: oneshot::Sender<()>,
    },
}

/// The ports, which stay bound for the life of the handle.
struct Ports {
    http: TcpSocket,
    tcp: TcpSocket,
    udp: UdpSocket,
}

fn bound(address: SocketAddr) -> Result<TcpSocket, StartError> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let bind = |socket: TcpSocket| {
        // Each life binds a second socket to listen on. The first one keeps the port ours between two lives.
        socket.set_reuseaddr(true)?;
        socket.bind(address).map(|()| socket)
    };
    socket.and_then(bind).map_err(|source| StartError::Listen { address, source })
}

fn listening(socket: &TcpSocket) -> Result<(TcpListener, SocketAddr), StartError> {
    let address = socket.local_addr()?;
    let listener =
        bound(address)?.listen(BACKLOG).map_err(|source| StartError::Listen { address, source })?;
    Ok((listener, address))
}

impl Ports {
    fn bind(config: &Config) -> Result<Ports, StartError> {
        let http = bound(SocketAddr::new(config.bind, config.port))?;
        let tcp = bound(SocketAddr::new(config.bind, config.tcp_port))?;
        let address = SocketAddr::new(config.bind, config.udp_port);
        let udp =
            UdpSocket::bind(address).map_err(|source| StartError::Listen { address, source })?;
        udp.set_nonblocking(true)?;
        Ok(Ports { http, tcp, udp })
    }
}

/// A running server. Dropping it stops everything without goodbyes.
#[derive(Debug)]
pub struct Server {
    http: SocketAddr,
    api_key: String,
    api_secret: String,
    pub(crate) slot: Slot,
    pub(crate) orders: mpsc::UnboundedSender<Order>,
    thread: Option<JoinHandle<()>>,
}

/// The hub and the runtime of the present life; empty between two lives. Faults reach the server through it.
#[derive(Clone, Default)]
pub(crate) struct Slot(Arc<Mutex<Option<Life>>>);

#[derive(Clone)]
pub(crate) struct Life {
    pub(crate) hub: Arc<Hub>,
    pub(crate) runtime: tokio::runtime::Handle,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.get().is_some() { "running" } else { "down" })
    }
}

impl Slot {
    pub(crate) fn get(&self) -> Option<Life> {
        self.0.lock().clone()
    }

    fn set(&self, life: Option<Life>) {
        *self.0.lock() = life;
    }
}

/// Starts a server. It accepts clients when this returns.
///
/// # Errors
/// The configuration cannot work, or a port cannot be bound.
pub async fn start(config: Config) -> Result<Server, StartError> {
    config.check()?;
    let ports = Ports::bind(&config)?;
    let http = ports.http.local_addr()?;
    let (api_key, api_secret) =
        config.keys.first_key_value().map(|(k, s)| (k.clone(), s.clone())).unwrap_or_default();
    let (orders, received) = mpsc::unbounded_channel();
    let (started, start) = oneshot::channel();
    let slot = Slot::default();
    let thread = std::thread::Builder::new().name("livekit-devserver".into()).spawn({
        let slot = slot.clone();
        move || live(&config, &ports, &slot, received, started)
    })?;
    match start.await {
        Ok(Ok(())) => Ok(Server { http, api_key, api_secret, slot, orders, thread: Some(thread) }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(StartError::System(io::Error::other("the server's thread ended"))),
    }
}

/// Runs on the server's thread: one life after the other, each with its own runtime.
fn live(
    config: &Config,
    ports: &Ports,
    slot: &Slot,
    mut orders: mpsc::UnboundedReceiver<Order>,
    started: oneshot::Sender<Result<(), StartError>>,
) {
    let mut started = Some(started);
    let mut back: Option<oneshot::Sender<()>> = None;
    let mut down = Duration::ZERO;
    loop {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "no runtime");
                started.take().map(|s| s.send(Err(error.into())));
                return;
            }
        };
        let order = runtime.block_on(async {
            if !down.is_zero() {
                let wait = tokio::time::timeout(down, orders.recv());
                if let Ok(None | Some(Order::Stop)) = wait.await {
                    return Order::Stop;
                }
            }
            let hub = match open(config, ports) {
                Ok(hub) => hub,
                Err(error) => {
                    tracing::error!(%error, "the server did not start");
                    started.take().map(|s| s.send(Err(error)));
                    return Order::Stop;
                }
            };
            slot.set(Some(Life { hub, runtime: tokio::runtime::Handle::current() }));
            started.take().map(|s| s.send(Ok(())));
            back.take().map(|b| b.send(()));
            orders.recv().await.unwrap_or(Order::Stop)
        });
        slot.set(None);
        // All tasks and their sockets end here, wherever the tasks are.
        runtime.shutdown_background();
        match order {
            Order::Stop => return,
            Order::Restart { down: time, back: reply } => (down, back) = (time, Some(reply)),
        }
    }
}

/// Opens the listeners and starts the tasks that serve them.
fn open(config: &Config, ports: &Ports) -> Result<Arc<Hub>, StartError> {
    let (http, address) = listening(&ports.http)?;
    let (tcp, tcp_address) = listening(&ports.tcp)?;
    let udp = ports.udp.try_clone()?;
    // Packets that arrived between two lives are lost, as with a real crash.
    while udp.recv(&mut [0; 2048]).is_ok() {}
    let ip: IpAddr = config.candidate_ip();
    let udp_local = SocketAddr::new(ip, udp.local_addr()?.port());
    let tcp_local = SocketAddr::new(ip, tcp_address.port());
    let bad = |e| StartError::System(io::Error::other(e));
    let mut candidates = vec![];
    if config.udp {
        candidates.push(Candidate::host(udp_local, "udp").map_err(bad)?);
    }
    let passive = Candidate::builder().tcp().host(tcp_local).tcptype(TcpType::Passive).build();
    candidates.push(passive.map_err(bad)?);
    let provider = str0m::crypto::from_feature_flags();
    let cert = provider.dtls_provider.generate_certificate().ok_or(StartError::Certificate)?;
    let udp = tokio::net::UdpSocket::from_std(udp)?;
    let net = Arc::new(Net::new(udp, udp_local, tcp_local, candidates, cert));
    let hub = Hub::new(config.clone(), net.clone());
    tokio::spawn(net.clone().receive_udp());
    tokio::spawn(net.accept_tcp(tcp));
    let router = http::router(hub.clone());
    tokio::spawn(async move {
        if let Err(error) = axum::serve(http, router).await {
            tracing::error!(%error, "http");
        }
    });
    tracing::info!(http = %address, udp = %udp_local, tcp = %tcp_local, "listening");
    Ok(hub)
}

impl Server {
    /// The address for clients: `ws://address:port`.
    pub fn url(&self) -> String {
        format!("ws://{}", self.reachable())
    }

    /// The address for API clients: `http://address:port`.
    pub fn http_url(&self) -> String {
        format!("http://{}", self.reachable())
    }

    /// The address to connect to: loopback if the server listens on all addresses.
    fn reachable(&self) -> SocketAddr {
        match self.http.ip() {
            ip if !ip.is_unspecified() => self.http,
            IpAddr::V4(_) => {
                SocketAddr::new(std::net::Ipv4Addr::LOCALHOST.into(), self.http.port())
            }
            IpAddr::V6(_) => {
                SocketAddr::new(std::net::Ipv6Addr::LOCALHOST.into(), self.http.port())
            }
        }
    }

    /// The first configured key.
    pub fn api_key(&self) -> &str {
        &self.api_key
    }

    /// The secret of [`Server::api_key`].
    pub fn api_secret(&self) -> &str {
        &self.api_secret
    }

    /// Names of all rooms.
    pub fn rooms(&self) -> Vec<String> {
        self.slot.get().map(|life| life.hub.room_names()).unwrap_or_default()
    }

    /// All participants of a room, hidden ones included, as the server knows them.
    pub async fn participants(&self, room: &str) -> Vec<ParticipantInfo> {
        let Some(life) = self.slot.get() else { return vec![] };
        let all =
            |r: &mut crate::room::Room| r.participants.values().map(|p| p.info.clone()).collect();
        life.hub.ask(room, all).await.unwrap_or_default()
    }

    /// All registered agent workers.
    pub fn workers(&self) -> Vec<WorkerState> {
        self.slot.get().map(|life| life.hub.workers.list()).unwrap_or_default()
    }

    /// Closes all rooms (`SERVER_SHUTDOWN`), waits up to 1 s until clients and webhook receivers are
    /// notified, and stops.
    pub async fn shutdown(mut self) {
        if let Some(life) = self.slot.get() {
            for name in life.hub.room_names() {
                life.hub.ask(&name, |r| r.close(Why::ServerShutdown)).await;
            }
            let deadline = tokio::time::Instant::now() + GOODBYES;
            let busy =
                || life.hub.sessions.load(Ordering::Relaxed) > 0 || !life.hub.webhooks.idle();
            while busy() && tokio::time::Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let _ = self.orders.send(Order::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::Stop);
    }
}
