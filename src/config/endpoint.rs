//! How records are posted: timeout, headers, TLS, limits of size.

use std::{sync::Arc, time::Duration};

use reqwest::{
    Url,
    header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue},
};

use super::{
    SettingsReader,
    settings::{
        ENDPOINT, ENDPOINT_CA, ENDPOINT_CERT, ENDPOINT_GZIP, ENDPOINT_HEADERS, ENDPOINT_KEY,
        ENDPOINT_TIMEOUT, JWT_SECRET, MAX_BODY_KB,
    },
};
use crate::net::EndpointTls;

/// Headers that the worker itself sets, or that belong to the connection.
const OUR_HEADERS: [&str; 6] = [
    "content-type",
    "content-length",
    "content-encoding",
    "idempotency-key",
    "transfer-encoding",
    "connection",
];

/// How the endpoint wants its requests.
#[derive(Clone, Debug)]
pub(crate) struct DeliverySettings {
    pub(crate) timeout: Duration,
    pub(crate) headers: HeaderMap,
    pub(crate) tls: EndpointTls,
    pub(crate) gzip: bool,
    /// Bytes.
    pub(crate) max_body: Option<usize>,
}

impl SettingsReader {
    /// `signed`: requests carry a token, which is in the header `Authorization`.
    pub(super) fn delivery(&mut self, endpoint: Option<&Url>, signed: bool) -> DeliverySettings {
        let named = endpoint.is_some_and(|u| !u.username().is_empty() || u.password().is_some());
        if named && signed {
            self.wrong(
                ENDPOINT,
                "has a user and password, and JWT_SECRET is set: both want the header Authorization",
            );
        }
        DeliverySettings {
            timeout: Duration::from_secs_f64(self.number(
                ENDPOINT_TIMEOUT,
                |s| (1.0..=600.0).contains(s),
                "a number of seconds from 1 to 600",
            )),
            headers: self.headers(match (signed, named) {
                (true, _) => Some(JWT_SECRET),
                (false, true) => Some("a user and password in CALL_HISTORY_ENDPOINT"),
                (false, false) => None,
            }),
            tls: self.endpoint_tls(),
            gzip: self.switch(ENDPOINT_GZIP),
            max_body: Some(self.number(
                MAX_BODY_KB,
                |kb| (1..=1_000_000).contains(kb),
                "a whole number from 1 to 1000000",
            ))
            .filter(|kb| *kb > 0)
            .map(|kb: usize| kb * 1_000),
        }
    }

    /// `taken`: what else wants the header `Authorization`.
    fn headers(&mut self, taken: Option<&str>) -> HeaderMap {
        let text = self.optional(ENDPOINT_HEADERS).unwrap_or_default();
        let mut headers = HeaderMap::new();
        let lines = text.lines().map(str::trim).enumerate().filter(|(_, l)| !l.is_empty());
        for (n, line) in lines {
            // Any part of a wrong line may be a secret: an error shows its number only.
            let header = line.split_once(':').and_then(|(name, value)| {
                let value = HeaderValue::try_from(value.trim()).ok()?;
                Some((HeaderName::try_from(name.trim()).ok()?, value))
            });
            match (header, taken) {
                (None, _) => self.wrong(
                    ENDPOINT_HEADERS,
                    format!(
                        "must have lines like \"Name: value\"; line {} is not like that",
                        n + 1
                    ),
                ),
                (Some((name, _)), _) if OUR_HEADERS.contains(&name.as_str()) => {
                    self.wrong(
                        ENDPOINT_HEADERS,
                        format!("must not set {name}: the worker sets it"),
                    );
                }
                (Some((name, _)), Some(taken)) if name == AUTHORIZATION => self.wrong(
                    ENDPOINT_HEADERS,
                    format!(
                        "must not set Authorization together with {taken}: both want that header"
                    ),
                ),
                (Some((name, mut value)), _) => {
                    value.set_sensitive(true);
                    headers.append(name, value);
                }
            }
        }
        headers
    }

    fn endpoint_tls(&mut self) -> EndpointTls {
        let (ca, cert, key) =
            (self.optional(ENDPOINT_CA), self.optional(ENDPOINT_CERT), self.optional(ENDPOINT_KEY));
        let mut tls = EndpointTls::default();
        let before = self.errors.len();
        if let Some(pem) = ca {
            match EndpointTls::certificates(&pem) {
                Ok(certificates) => tls.trusted = certificates,
                Err(e) => self.wrong(ENDPOINT_CA, e),
            }
        }
        match (cert, key) {
            (None, None) => {}
            (Some(_), None) => self.wrong(ENDPOINT_CERT, format!("needs {ENDPOINT_KEY} too")),
            (None, Some(_)) => self.wrong(ENDPOINT_KEY, format!("needs {ENDPOINT_CERT} too")),
            (Some(cert), Some(key)) => {
                match EndpointTls::certificates(&cert) {
                    Ok(certificates) => tls.own = certificates,
                    Err(e) => self.wrong(ENDPOINT_CERT, e),
                }
                match EndpointTls::key(&key) {
                    Ok(key) => tls.key = Some(Arc::new(key)),
                    Err(e) => self.wrong(ENDPOINT_KEY, e),
                }
            }
        }
        if self.errors.len() == before
            && let Err(e) = tls.check()
        {
            self.wrong(ENDPOINT_KEY, e);
        }
        tls
    }
}
