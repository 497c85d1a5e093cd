//! What stands between a worker and its endpoint: TLS with certificates of its own, HTTP/2, and connections
//! that misbehave.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::endpoint::Endpoint;

/// A pause after which a client has sent all, and a connection is not about to be made.
const PAUSE: Duration = Duration::from_millis(300);
/// Time between the pieces of an answer without an end.
const DRIP: Duration = Duration::from_millis(20);

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

/// Speaks only HTTP/2, with TLS.
pub struct Http2Front {
    pub addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Http2Front {
    /// # Errors
    /// If the identity cannot be used, or no port is free.
    pub async fn start(identity: &Identity, endpoint: &Endpoint) -> Result<Self> {
        let cert = CertificateDer::from_pem_slice(identity.cert.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?;
        let mut config =
            ServerConfig::builder().with_no_client_auth().with_single_cert(vec![cert], key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let app = endpoint.app.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, app) = (acceptor.clone(), app.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = TowerToHyperService::new(app);
                    // An error ends the connection, which is all that its client sees.
                    let _ = http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Ok(Self { addr, task })
    }
}

impl Drop for Http2Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a front does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Reads some of the request and resets the connection.
    Resets,
    /// Answers 200, and closes the connection soon after, although it promised to keep it.
    ClosesSoon,
    /// Answers 200, with a body that never ends.
    EndlessBody,
    /// Answers with a head that never ends.
    EndlessHead,
    /// Reads the request and never answers.
    Silent,
}

/// Passes bytes on to an endpoint, but for the connections that a test spoils.
pub struct FaultyFront {
    pub addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl FaultyFront {
    /// `faults`: of the first connections, in their order.
    ///
    /// # Errors
    /// If the address is taken.
    pub async fn start(listen: &str, to: SocketAddr, faults: &[Fault]) -> Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let addr = listener.local_addr()?;
        let connections = Arc::<AtomicUsize>::default();
        let (count, faults) = (connections.clone(), faults.to_vec());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let n = count.fetch_add(1, Ordering::SeqCst);
                let fault = faults.get(n).copied().unwrap_or(Fault::None);
                // An error ends the connection, which is all that its client sees.
                tokio::spawn(spoiled(stream, to, fault));
            }
        });
        Ok(Self { addr, connections, task })
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for FaultyFront {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn spoiled(mut client: TcpStream, to: SocketAddr, fault: Fault) -> Result<()> {
    if fault == Fault::None {
        let mut server = TcpStream::connect(to).await?;
        copy_bidirectional(&mut client, &mut server).await?;
        return Ok(());
    }
    // A part of the request is enough for all of them but one.
    client.read_u8().await?;
    match fault {
        Fault::None => {}
        Fault::Resets => client.set_zero_linger()?,
        Fault::Silent => {
            let mut rest = vec![];
            client.read_to_end(&mut rest).await?;
        }
        Fault::ClosesSoon => {
            let mut rest = [0; 64 * 1024];
            // The head says how long the body is, but a pause of the client ends it as well.
            while let Ok(Ok(1..)) = timeout(PAUSE, client.read(&mut rest)).await {}
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n";
            client.write_all(answer).await?;
            sleep(PAUSE).await;
        }
        Fault::EndlessBody => {
            client.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            loop {
                client.write_all(b"4\r\nmore\r\n").await?;
                sleep(DRIP).await;
            }
        }
        Fault::EndlessHead => {
            client.write_all(b"HTTP/1.1 200 OK\r\nx-more: ").await?;
            loop {
                client.write_all(b"more ").await?;
                sleep(DRIP).await;
            }
        }
    }
    Ok(())
}

/// An address of the loopback that takes no connection and refuses none: connects to it hang.
pub struct DeadAddress {
    pub addr: SocketAddr,
    _listener: TcpListener,
    _held: Vec<TcpStream>,
}

impl DeadAddress {
    /// # Errors
    /// If the address is taken, or its queue does not fill up.
    pub async fn at(ip: &str, port: u16) -> Result<Self> {
        let addr: SocketAddr = (ip.parse::<IpAddr>()?, port).into();
        let socket = if addr.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
        socket.bind(addr)?;
        let listener = socket.listen(1)?;
        let addr = listener.local_addr()?;
        let mut held = vec![];
        // Nobody accepts, so the queue is full after a few.
        while let Ok(connected) = timeout(PAUSE, TcpStream::connect(addr)).await {
            held.push(connected?);
            ensure!(held.len() < 64, "the queue of connections has no end");
        }
        Ok(Self { addr, _listener: listener, _held: held })
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.task.abort();
    }
}
