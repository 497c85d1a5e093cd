//! What stands between a worker and its endpoint: TLS with certificates of its own. It passes bytes on to a
//! plain address of the loopback.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::copy_bidirectional,
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
