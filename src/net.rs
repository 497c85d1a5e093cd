//! Outgoing connections: one TLS configuration for everything, websockets with small buffers, and
//! the plain HTTP client.
//!
//! Certificates are verified against the system's roots (`SSL_CERT_FILE` works), so that an
//! operator's private CA is trusted where the system trusts it.

use std::{
    io,
    sync::{Arc, LazyLock},
    time::Duration,
};

use rustls::{ClientConfig, RootCertStore, crypto::CryptoProvider};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream,
    tungstenite::{
        Error as WsError, client::IntoClientRequest, http::HeaderMap, protocol::WebSocketConfig,
    },
};

/// Buffer that a websocket keeps for its whole life; the default is 128 KiB each way. Each call has a
/// websocket, so these buffers would be most of the memory of an idle call.
const WEBSOCKET_BUFFER: usize = 4 * 1024;
/// The largest message a LiveKit server may send us: room, participants and their metadata.
const WEBSOCKET_MESSAGE: usize = 16 * 1024 * 1024;

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

static TLS: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        tracing::warn!("no trusted root certificates found: no TLS connection will succeed");
    }
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
});

/// Chooses the cryptography of the whole process. Must be called before the first connection.
pub(crate) fn init() {
    // An error means that one was chosen already, which is fine.
    let _ = CryptoProvider::install_default(rustls::crypto::aws_lc_rs::default_provider());
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
    let connect = tokio_tungstenite::connect_async_tls_with_config(
        request,
        Some(config),
        true,
        Some(Connector::Rustls(TLS.clone())),
    );
    match tokio::time::timeout(within, connect).await {
        Ok(done) => Ok(done?.0),
        Err(_) => Err(WsError::Io(io::ErrorKind::TimedOut.into())),
    }
}

/// The HTTP client for all requests. It never follows redirects: they could send a signed record to a
/// third party.
///
/// # Errors
/// If the TLS configuration is refused.
pub(crate) fn http_client(timeout: Duration) -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(TLS.as_ref().clone())
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("call-history/", env!("CARGO_PKG_VERSION")))
        .timeout(timeout)
        .build()
}
