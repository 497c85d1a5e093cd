//! What stands between a worker and its endpoint or server: TLS and a proxy. Both pass bytes on to a plain
//! address of the loopback.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// A certificate and its key, as PEM text.
#[derive(Clone)]
pub struct Identity {
    pub cert: String,
    pub key: String,
}

/// An authority that exists for one test.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// # Errors
    /// If no certificate can be made.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::new(vec![])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let name = format!("authority {}", uuid::Uuid::new_v4());
        params.distinguished_name.push(DnType::CommonName, name);
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)? })
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for a server's name or address, or for a client.
    ///
    /// # Errors
    /// If no certificate can be made.
    pub fn issues(&self, name: &str) -> Result<Identity> {
        self.signs(CertificateParams::new(vec![name.to_owned()])?)
    }

    /// The same, expired long ago.
    ///
    /// # Errors
    /// If no certificate can be made.
    pub fn issues_expired(&self, name: &str) -> Result<Identity> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
        self.signs(params)
    }

    fn signs(&self, params: CertificateParams) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Identity { cert, key: key.serialize_pem() })
    }
}

/// A self-signed certificate as `openssl req -x509` makes it: it is an authority too.
///
/// # Errors
/// If no certificate can be made.
pub fn self_signed(name: &str) -> Result<Identity> {
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate()?;
    Ok(Identity { cert: params.self_signed(&key)?.pem(), key: key.serialize_pem() })
}

/// Speaks TLS on a port of its own and passes the plain bytes on.
pub struct TlsFront {
    pub addr: SocketAddr,
    task: JoinHandle<()>,
}

impl TlsFront {
    /// `clients`: the authority whose certificates it asks clients for.
    ///
    /// # Errors
    /// If the identity cannot be used, or no port is free.
    pub async fn start(
        identity: &Identity,
        clients: Option<&Authority>,
        to: SocketAddr,
    ) -> Result<Self> {
        let cert = CertificateDer::from_pem_slice(identity.cert.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?;
        let builder = ServerConfig::builder();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes())?)?;
                let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build()?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(vec![cert], key)?));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A client that does not trust us ends the handshake.
                    let mut inside = acceptor.accept(stream).await?;
                    let mut outside = TcpStream::connect(to).await?;
                    copy_bidirectional(&mut inside, &mut outside).await
                });
            }
        });
        Ok(Self { addr, task })
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A small HTTP proxy: CONNECT, and plain requests with a whole URL. Whatever the destination's name, it
/// connects to one address, so that tests may use names that no resolver knows.
pub struct Proxy {
    pub addr: SocketAddr,
    passed: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// `login`: `user:password` that it asks for.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start(login: Option<&str>, to: SocketAddr) -> Result<Self> {
        let wanted = login.map(|l| format!("Basic {}", BASE64.encode(l)));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let (passed, refused) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let counts = (passed.clone(), refused.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (wanted, (passed, refused)) = (wanted.clone(), counts.clone());
                tokio::spawn(async move {
                    match serve(stream, wanted.as_deref(), to, &passed).await {
                        Ok(true) => {}
                        _ => _ = refused.fetch_add(1, Relaxed),
                    }
                });
            }
        });
        Ok(Self { addr, passed, refused, task })
    }

    /// Connections that it passed on.
    pub fn passed(&self) -> usize {
        self.passed.load(Relaxed)
    }

    /// Connections that it refused or that failed.
    pub fn refused(&self) -> usize {
        self.refused.load(Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether the request was passed on.
async fn serve(
    stream: TcpStream,
    wanted: Option<&str>,
    to: SocketAddr,
    passed: &AtomicUsize,
) -> Result<bool> {
    let mut client = BufReader::new(stream);
    let mut head = vec![];
    loop {
        let mut line = String::new();
        if client.read_line(&mut line).await? == 0 {
            return Ok(true);
        }
        if line.trim().is_empty() {
            break;
        }
        head.push(line);
    }
    let login = head.iter().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("proxy-authorization").then(|| value.trim().to_owned())
    });
    if wanted.is_some() && login.as_deref() != wanted {
        let answer = "HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\n\
            content-length: 0\r\nconnection: close\r\n\r\n";
        client.write_all(answer.as_bytes()).await?;
        return Ok(false);
    }
    passed.fetch_add(1, Relaxed);
    let mut server = TcpStream::connect(to).await?;
    let request = head.first().context("no request")?.clone();
    if request.starts_with("CONNECT ") {
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    } else {
        // One request a connection: the next one may be for another host.
        let (method, rest) = request.split_once(' ').context("no method")?;
        let path = rest.split_once("://").and_then(|(_, r)| r.find('/').map(|at| &r[at..]));
        let mut plain = format!("{method} {}", path.context("no URL")?);
        for line in &head[1..] {
            let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
            if name != "connection" && !name.starts_with("proxy-") {
                plain.push_str(line);
            }
        }
        plain.push_str("connection: close\r\n\r\n");
        server.write_all(plain.as_bytes()).await?;
    }
    both_ways(&mut client, &mut server).await;
    Ok(true)
}

async fn both_ways(
    a: &mut (impl AsyncRead + AsyncWrite + Unpin),
    b: &mut (impl AsyncRead + AsyncWrite + Unpin),
) {
    // Either side may break off.
    let _ = copy_bidirectional(a, b).await;
}
