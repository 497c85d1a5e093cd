//! Outgoing connections: HTTP clients and websockets, all with the same rules for TLS and proxies.
//!
//! | file | its one idea |
//! |---|---|
//! | [`tls`] | which servers are trusted, and our own certificate |
//! | [`proxy`] | which connections go through a proxy |
//! | [`explain`] | errors in words that an operator knows |
//! | [`api`] | requests to LiveKit's server API |

mod api;
pub(crate) mod explain;
pub(crate) mod proxy;
mod tls;

use std::{error::Error, io, net::IpAddr, sync::Arc, time::Duration};

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{HttpConnector, proxy::Tunnel},
    rt::TokioIo,
};
use reqwest::Url;
use rustls::{ClientConfig, crypto::CryptoProvider, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream,
    tungstenite::{
        Error as WsError,
        client::IntoClientRequest,
        http::{HeaderMap, Uri, uri::Scheme},
        protocol::WebSocketConfig,
    },
};
use tower_service::Service;

pub(crate) use api::{Api, ApiError};
use tls::TLS;
pub(crate) use tls::{Certificate, EndpointTls, report_certificates};

/// Buffer that a websocket keeps for its whole life; the default is 128 KiB each way. Each call has a
/// websocket, so these buffers would be most of the memory of an idle call.
const WEBSOCKET_BUFFER: usize = 4 * 1024;
/// The largest message a LiveKit server may send us: room, participants and their metadata.
const WEBSOCKET_MESSAGE: usize = 16 * 1024 * 1024;
/// A connection of HTTP/2 is shared by all requests, so a dead one must be noticed soon.
const PING_EVERY: Duration = Duration::from_secs(5);
/// Connections that stay open after a burst of requests.
const IDLE_CONNECTIONS: usize = 4;

/// A connection before TLS to its server; TLS only if that is to a proxy.
type Plain = TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>;
pub(crate) type Socket = WebSocketStream<MaybeTlsStream<Plain>>;

/// Chooses the cryptography of the whole process. Must be called before the first connection.
pub(crate) fn init() {
    // An error means that one was chosen already, which is fine.
    let _ = CryptoProvider::install_default(rustls::crypto::aws_lc_rs::default_provider());
}

/// Connects to a URL's host, through its proxy if it has one, without TLS to the host itself.
async fn connect(url: &Uri, within: Duration) -> io::Result<Plain> {
    let port = url.port_u16().unwrap_or(match url.scheme_str() {
        Some("ws" | "http") => 80,
        _ => 443,
    });
    let host = url.host().ok_or(io::ErrorKind::InvalidInput)?;
    let to = Uri::builder().scheme(Scheme::HTTP).authority(format!("{host}:{port}"));
    let to = to.path_and_query("/").build().map_err(io::Error::other)?;
    let mut connector = connector(within);
    let connected = match proxy::of(url) {
        None => connector.call(to).await.map_err(|e| io::Error::other(explain::causes(&*e))),
        Some(proxy) => {
            let mut tunnel = Tunnel::new(proxy.uri().clone(), connector);
            if let Some(auth) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(auth.clone());
            }
            tunnel.call(to).await.map_err(|e| io::Error::other(explain::causes(&e)))
        }
    };
    connected.map(TokioIo::new)
}

/// With TLS only where the scheme asks for it. `within`: for the whole request; the addresses of a host share
/// half of it, so that a dead one among them leaves time for another.
fn connector(within: Duration) -> HttpsConnector<HttpConnector> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(within / 2));
    let tls = HttpsConnectorBuilder::new().with_tls_config(TLS.as_ref().clone());
    tls.https_or_http().enable_http1().wrap_connector(tcp)
}

/// Opens a websocket (`ws`, `wss`).
///
/// # Errors
/// Those of tungstenite. A refusal by the server is `WsError::Http` with its answer.
pub(crate) async fn websocket(
    url: &str,
    headers: HeaderMap,
    within: Duration,
) -> Result<Socket, WsError> {
    let mut request = url.into_client_request()?;
    request.headers_mut().extend(headers);
    let config = WebSocketConfig::default()
        .read_buffer_size(WEBSOCKET_BUFFER)
        .write_buffer_size(WEBSOCKET_BUFFER)
        .max_write_buffer_size(WEBSOCKET_MESSAGE)
        .max_message_size(Some(WEBSOCKET_MESSAGE))
        .max_frame_size(Some(WEBSOCKET_MESSAGE));
    let opened = async {
        let stream = connect(request.uri(), within).await?;
        let tls = Some(Connector::Rustls(TLS.clone()));
        tokio_tungstenite::client_async_tls_with_config(request, stream, Some(config), tls).await
    };
    match tokio::time::timeout(within, opened).await {
        Ok(done) => Ok(done?.0),
        Err(_) => Err(WsError::Io(io::ErrorKind::TimedOut.into())),
    }
}

/// What was found on the way to a host.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    /// The proxy, as it may be shown.
    pub(crate) proxy: Option<String>,
    /// The addresses of the host's name; none with a proxy, which resolves it.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) certificate: Option<Certificate>,
}

/// Connects to a URL's host, with TLS for `https`, and sends nothing. With plain HTTP through a proxy it connects
/// to the proxy only: a request would show whether the proxy lets it through.
///
/// # Errors
/// What failed; [`explain`] makes it readable.
pub(crate) async fn reach(
    url: &Url,
    tls: &EndpointTls,
    within: Duration,
) -> Result<Reached, String> {
    let text = |e: &dyn Error| explain::causes(e);
    let uri: Uri = url.as_str().parse().map_err(|e| text(&e))?;
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let reached = async {
        let proxy = proxy::of(&uri);
        let mut reached = Reached { proxy: proxy::shown(url.as_str()), ..Reached::default() };
        if url.scheme() == "http"
            && let Some(proxy) = proxy
        {
            connector(within).call(proxy.uri().clone()).await.map_err(|e| text(&*e))?;
            return Ok(reached);
        }
        if reached.proxy.is_none() {
            let port = url.port_or_known_default().unwrap_or_default();
            let found = tokio::net::lookup_host((host.as_str(), port)).await;
            reached.addresses = found.map_err(|e| text(&e))?.map(|a| a.ip()).collect();
            reached.addresses.dedup();
        }
        let stream = connect(&uri, within).await.map_err(|e| text(&e))?;
        if url.scheme() == "https" {
            let name = ServerName::try_from(host.clone()).map_err(|e| text(&e))?;
            let connector = TlsConnector::from(Arc::new(tls.client_config()?));
            let stream = connector.connect(name, stream).await.map_err(|e| text(&e))?;
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            reached.certificate = shown.and_then(|der| Certificate::read(der));
        }
        Ok(reached)
    };
    tokio::time::timeout(within, reached).await.unwrap_or_else(|_| Err("timed out".into()))
}

/// The HTTP client for all requests. It never follows redirects: they could send a signed record to a
/// third party.
///
/// # Errors
/// If the TLS configuration is refused.
pub(crate) fn http_client(timeout: Duration) -> reqwest::Result<reqwest::Client> {
    http_client_with(timeout, TLS.as_ref().clone(), true)
}

/// As [`http_client`], with a TLS configuration of its own. `http2`: whether HTTP/2 may be used.
///
/// # Errors
/// As [`http_client`].
pub(crate) fn http_client_with(
    timeout: Duration,
    mut tls: ClientConfig,
    http2: bool,
) -> reqwest::Result<reqwest::Client> {
    let offered: &[&[u8]] = if http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
    tls.alpn_protocols = offered.iter().map(|protocol| protocol.to_vec()).collect();
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .user_agent(concat!("call-history/", env!("CARGO_PKG_VERSION")))
        .http2_keep_alive_interval(PING_EVERY)
        .http2_keep_alive_timeout(PING_EVERY)
        .http2_keep_alive_while_idle(true)
        .connect_timeout(timeout / 2)
        .timeout(timeout);
    proxy::applied(builder)?.build()
}

/// The body of an answer, up to a limit of bytes.
///
/// # Errors
/// If it breaks off or is too long.
async fn body(mut answer: reqwest::Response, most: usize) -> Result<Vec<u8>, String> {
    let mut body = vec![];
    while let Some(chunk) = answer.chunk().await.map_err(|e| explain::causes(&e.without_url()))? {
        body.extend_from_slice(&chunk);
        if body.len() > most {
            return Err("the answer is too long".into());
        }
    }
    Ok(body)
}
