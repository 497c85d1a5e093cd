//! Whether a request may do what it asks for.
//!
//! On a loopback address without any token or password everything is open, so that a first look needs no setting. Even
//! then a page of another site, open in a browser on the same machine, may not reach it: the `Host` must be a name of this
//! machine, and an `Origin` the same.

use std::net::IpAddr;

use axum::http::{HeaderMap, StatusCode, header};

use crate::{
    access::{self, Scope},
    answer::Refused,
    app::App,
    page::session,
    password,
    store::{Store, StoreError},
};

/// Headers of a request that a proxy passes on.
const FORWARDED: [&str; 5] =
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];

/// Checks that a request may do what needs a scope.
///
/// # Errors
/// 401 without a token that is known, 403 with one that has not the scope.
pub(crate) async fn allowed(app: &App, headers: &HeaderMap, scope: Scope) -> Result<(), Refused> {
    let store = app.store();
    if let Some(token) = access::bearer(headers).filter(|token| token.starts_with(access::PREFIX)) {
        let Some(known) = access::by_token(store, token).await? else {
            return Err(Refused::unauthorized("the token is not known"));
        };
        if known.scopes.contains(&scope) {
            return Ok(());
        }
        let problem = format!("the token has not the scope {scope}");
        return Err(Refused::new(StatusCode::FORBIDDEN, problem));
    }
    if scope == Scope::Read && session::opens_api(store, headers).await? {
        return Ok(());
    }
    if !app.is_open() || is_closed(store, scope).await? {
        return Err(Refused::unauthorized("a token is needed: Authorization: Bearer …"));
    }
    if is_of_this_machine(headers) {
        return Ok(());
    }
    let problem = "without a token only this machine may ask, by the name localhost or an address of loopback";
    Err(Refused::new(StatusCode::FORBIDDEN, problem))
}

/// Whether there are tokens, or a password. Intake stays open until there is a token for intake: what is for readers does
/// not stop the worker.
async fn is_closed(store: &dyn Store, scope: Scope) -> Result<bool, StoreError> {
    let tokens = access::all_scopes(store).await?;
    if tokens.iter().any(|scopes| scope != Scope::Ingest || scopes.contains(&scope)) {
        return Ok(true);
    }
    Ok(scope != Scope::Ingest && password::session_key(store).await?.is_some())
}

fn is_of_this_machine(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(header::HOST).is_some_and(is_local);
    // Set by proxies: the request is somebody else's.
    let passed_on = FORWARDED.iter().any(|name| headers.contains_key(*name));
    let origin =
        text(header::ORIGIN).map(|origin| origin.split_once("://").map_or("", |(_, at)| at));
    // A browser names where a page that posts is from; others do not.
    host && !passed_on && origin.is_none_or(|origin| Some(origin) == text(header::HOST))
}

/// `host` may have a port.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        for host in
            ["localhost", "localhost:8082", "127.0.0.1:1", "127.1.2.3", "[::1]:8082", "LOCALHOST"]
        {
            assert!(is_local(host), "{host}");
        }
        for host in
            ["example.com", "localhost.example.com", "10.0.0.1", "", "[::2]", "127.0.0.1.nip.io"]
        {
            assert!(!is_local(host), "{host}");
        }
    }

    #[test]
    fn pages_of_other_sites_are_strangers() {
        let of = |origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "localhost:8082".parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            let before = is_of_this_machine(&headers);
            headers.insert("x-forwarded-for", "192.0.2.1".parse().unwrap());
            assert!(!is_of_this_machine(&headers), "a proxy passes on what others ask");
            before
        };
        assert!(of(None) && of(Some("http://localhost:8082")));
        assert!(
            !of(Some("https://evil.example"))
                && !of(Some("null"))
                && !of(Some("http://localhost:3000"))
        );
    }
}
