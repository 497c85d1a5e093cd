//! Outgoing connections: one TLS configuration for everything, websockets with small buffers, and
//! the plain HTTP client.
//!
//! Certificates are verified against the system's roots (`SSL_CERT_FILE` works), so that an
//! operator's private CA is trusted where the system trusts it.

use std::{
    collections::HashSet,
    fmt, io,
    sync::{Arc, LazyLock},
    time::Duration,
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use rustls_native_certs::CertificateResult;
use sha2::{Digest, Sha256};
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

/// The system's trusted certificates; `SSL_CERT_FILE` names others.
static SYSTEM: LazyLock<CertificateResult> = LazyLock::new(rustls_native_certs::load_native_certs);

/// Warns of what is wrong with them. They are read before there is a log.
pub(crate) fn report_certificates() {
    if SYSTEM.certs.is_empty() {
        tracing::warn!("no trusted root certificates found: no TLS connection will succeed");
    }
    for error in &SYSTEM.errors {
        tracing::warn!(%error, "trusted root certificates cannot be read; see SSL_CERT_FILE");
    }
}

static TLS: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let trust = Arc::new(Trust::of(SYSTEM.certs.iter()));
    let builder = ClientConfig::builder().dangerous();
    Arc::new(builder.with_custom_certificate_verifier(trust).with_no_client_auth())
});

/// What TLS to the endpoint needs besides the system's certificates.
#[derive(Clone, Default)]
pub(crate) struct EndpointTls {
    /// Authorities, or the server's own certificate.
    pub(crate) trusted: Vec<CertificateDer<'static>>,
    /// Our certificate, with those of its issuers; empty if there is none.
    pub(crate) own: Vec<CertificateDer<'static>>,
    pub(crate) key: Option<Arc<PrivateKeyDer<'static>>>,
}

impl fmt::Debug for EndpointTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trusted, own) = (self.trusted.len(), self.own.len());
        write!(f, "EndpointTls({trusted} trusted, {own} own)")
    }
}

impl EndpointTls {
    /// # Errors
    /// What is wrong with the text.
    pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        match all {
            Ok(all) if all.is_empty() => Err("holds no certificate in PEM form".into()),
            Ok(all) => match all.iter().find_map(|c| ParsedCertificate::try_from(c).err()) {
                Some(e) => Err(format!("is no certificate: {e}")),
                None => Ok(all),
            },
            Err(e) => Err(format!("is no certificate in PEM form: {e}")),
        }
    }

    /// # Errors
    /// As [`Self::certificates`].
    pub(crate) fn key(pem: &str) -> Result<PrivateKeyDer<'static>, String> {
        PrivateKeyDer::from_pem_slice(pem.as_bytes())
            .map_err(|e| format!("is no private key in PEM form: {e}"))
    }

    /// # Errors
    /// If the key does not belong to the certificate, or a certificate cannot be used.
    pub(crate) fn check(&self) -> Result<(), String> {
        init();
        self.client_config().map(drop)
    }

    /// # Errors
    /// As [`Self::check`].
    pub(crate) fn client_config(&self) -> Result<ClientConfig, String> {
        let trust = Trust::of(SYSTEM.certs.iter().chain(&self.trusted));
        let builder =
            ClientConfig::builder().dangerous().with_custom_certificate_verifier(Arc::new(trust));
        match &self.key {
            None => Ok(builder.with_no_client_auth()),
            Some(key) => builder
                .with_client_auth_cert(self.own.clone(), key.clone_key())
                .map_err(|e| format!("does not fit its certificate: {e}")),
        }
    }
}

/// Verifies servers as usual. Besides, a trusted certificate is taken as the server's own, self-signed or
/// not, if the server shows exactly that one: it is pinned.
struct Trust {
    usual: Option<Arc<WebPkiServerVerifier>>,
    /// SHA-256 of each trusted certificate.
    exact: HashSet<[u8; 32]>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trust({})", self.exact.len())
    }
}

impl Trust {
    fn of<'a>(trusted: impl Iterator<Item = &'a CertificateDer<'static>>) -> Self {
        let mut roots = RootCertStore::empty();
        let mut exact = HashSet::new();
        for certificate in trusted {
            exact.insert(Sha256::digest(certificate).into());
            // An error means that it cannot be an authority.
            let _ = roots.add(certificate.clone());
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        // An error means that there are no roots.
        let usual =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
        Self { usual: usual.ok(), exact, provider }
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        server: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let digest: [u8; 32] = Sha256::digest(server).into();
        if self.exact.contains(&digest) {
            return Ok(ServerCertVerified::assertion());
        }
        match &self.usual {
            Some(usual) => usual.verify_server_cert(server, issuers, name, ocsp, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Adds to a library's error what an operator can do about it.
pub(crate) fn explained(error: String) -> String {
    let advice = [
        (
            "UnknownIssuer",
            "the certificate is signed by an authority that is not trusted here; set \
             CALL_HISTORY_ENDPOINT_CA to the authority's certificate, or to the server's own",
        ),
        (
            "BadSignature",
            "the certificate is signed by an authority of the same name as a trusted one, but with another \
             key; set CALL_HISTORY_ENDPOINT_CA to the authority's certificate, or to the server's own",
        ),
        (
            "CaUsedAsEndEntity",
            "the server's certificate is self-signed; set CALL_HISTORY_ENDPOINT_CA to exactly this \
             certificate",
        ),
        (
            "certificate expired",
            "the server's certificate has expired; renew it, or check this machine's clock",
        ),
        ("not valid yet", "the server's certificate is not valid yet; check this machine's clock"),
        (
            "not valid for name",
            "the server's certificate is for another name; check the host in CALL_HISTORY_ENDPOINT",
        ),
        (
            "CertificateRequired",
            "the server asks for a client certificate; set CALL_HISTORY_ENDPOINT_CERT and _KEY",
        ),
        (
            "InvalidContentType",
            "the server does not speak TLS; should CALL_HISTORY_ENDPOINT begin with http://?",
        ),
    ];
    match advice.iter().find(|(mark, _)| error.contains(mark)) {
        Some((_, advice)) => format!("{error} ({advice})"),
        None => error,
    }
}

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
    http_client_with(timeout, TLS.as_ref().clone())
}

/// As [`http_client`], with a TLS configuration of its own.
///
/// # Errors
/// As [`http_client`].
pub(crate) fn http_client_with(
    timeout: Duration,
    tls: ClientConfig,
) -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("call-history/", env!("CARGO_PKG_VERSION")))
        .timeout(timeout)
        .build()
}
