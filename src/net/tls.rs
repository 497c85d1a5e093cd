//! Which servers are trusted, and our own certificate for the endpoint.
//!
//! Certificates are verified against the system's roots (`SSL_CERT_FILE` works), so that an
//! operator's private CA is trusted where the system trusts it.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, LazyLock},
    time::SystemTime,
};

use chrono::{DateTime, Utc};

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
use x509_cert::der::Decode;

/// The system's trusted certificates; `SSL_CERT_FILE` names others.
static SYSTEM: LazyLock<CertificateResult> = LazyLock::new(rustls_native_certs::load_native_certs);

/// Warns of what is wrong with them. They are read before there is a log.
pub(crate) fn report_certificates() {
    if SYSTEM.certs.is_empty() {
        tracing::warn!(
            "no trusted root certificates found: TLS works only with CALL_HISTORY_ENDPOINT_CA"
        );
    }
    for error in &SYSTEM.errors {
        tracing::warn!(%error, "trusted root certificates cannot be read; see SSL_CERT_FILE");
    }
}

/// For every connection but those to an endpoint with certificates of its own.
pub(super) static TLS: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
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
        super::init();
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

/// What a server's certificate says about itself.
#[derive(Debug)]
pub(crate) struct Certificate {
    issuer: String,
    pub(crate) ends: SystemTime,
}

impl Certificate {
    /// `None` if it cannot be read, which TLS has noticed before.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let certificate = x509_cert::Certificate::from_der(der).ok()?;
        let about = certificate.tbs_certificate();
        let ends = about.validity().not_after.to_system_time();
        Some(Self { issuer: about.issuer().to_string(), ends })
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ends = DateTime::<Utc>::from(self.ends).format("%Y-%m-%d");
        write!(f, "its certificate is valid until {ends}, issued by {}", self.issuer)
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
