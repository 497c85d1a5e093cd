//! Forms that change something. A handler that takes an [`OwnForm`] or [`FromHere`] cannot forget to ask where the form
//! is from.
//!
//! Browsers say where a form was sent from: in `Sec-Fetch-Site` over TLS and on this machine, in `Origin` everywhere.
//! Forms that delete also hold a token, see [`super::session`].

use axum::{
    Form,
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
};
use serde::de::DeserializeOwned;

use super::problem::Problem;
use crate::{answer::Refused, app::App};

/// A page of this receiver has sent it.
pub(super) struct FromHere;

/// The same, with fields.
pub(super) struct OwnForm<T>(pub(super) T);

impl FromRequestParts<App> for FromHere {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        if app.is_demo() {
            let problem = "this is a demo: nothing can be changed here";
            return Err(Refused::new(StatusCode::FORBIDDEN, problem).into());
        }
        if !is_from_here(&parts.headers) {
            let problem = "the form must be one of this page. If a proxy is before this receiver, it must pass on the \
                           header Host";
            return Err(Refused::new(StatusCode::FORBIDDEN, problem).into());
        }
        Ok(Self)
    }
}

impl<T: DeserializeOwned> FromRequest<App> for OwnForm<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        FromHere::from_request_parts(&mut parts, app).await?;
        let request = Request::from_parts(parts, body);
        let form = Form::from_request(request, app).await;
        let unreadable = |_| Refused::new(StatusCode::BAD_REQUEST, "the form cannot be read");
        form.map(|Form(form)| Self(form)).map_err(unreadable).map_err(Problem::from)
    }
}

fn is_from_here(headers: &HeaderMap) -> bool {
    let text = |name: &str| {
        headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default())
    };
    // Set by the browser itself; behind a proxy that changes Host only this one is to be believed.
    if let Some(site) = text("sec-fetch-site") {
        return site == "same-origin";
    }
    let Some(origin) = text(header::ORIGIN.as_str()) else {
        // No browser: it has no cookie that it was tricked into sending.
        return true;
    };
    let host = origin.split_once("://").map_or("", |(_, host)| host);
    Some(host) == text(header::HOST.as_str())
}

/// Whether the browser speaks TLS with a proxy: a cookie then never travels without it.
pub(super) fn is_secure(headers: &HeaderMap) -> bool {
    let proto = headers.get("x-forwarded-proto").and_then(|proto| proto.to_str().ok());
    // Several proxies write a list; the first is the one that the browser sees.
    proto.is_some_and(|proto| proto.split(',').next() == Some("https"))
}

/// A path of this receiver: never another host.
pub(super) fn own_path(to: &str) -> &str {
    let plain =
        to.starts_with('/') && !to.starts_with("//") && !to.contains(['\\', '\r', '\n', '\t']);
    if plain { to } else { "/calls" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_other_sites_are_known() {
        let of = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "calls.example".parse().unwrap());
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            is_from_here(&headers)
        };
        for ours in [
            &[][..],
            &[("origin", "https://calls.example")],
            &[("sec-fetch-site", "same-origin")],
            &[("sec-fetch-site", "same-origin"), ("origin", "https://outside.example")],
        ] {
            assert!(of(ours), "{ours:?}");
        }
        for foreign in [
            &[("origin", "https://evil.example")][..],
            &[("origin", "null")],
            &[("origin", "")],
            &[("origin", "https://calls.example.evil.example")],
            &[("sec-fetch-site", "cross-site"), ("origin", "https://calls.example")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "none")],
        ] {
            assert!(!of(foreign), "{foreign:?}");
        }
    }

    #[test]
    fn nobody_is_sent_elsewhere() {
        assert_eq!(own_path("/calls?status=failed"), "/calls?status=failed");
        for elsewhere in [
            "",
            "https://evil.example",
            "//evil.example",
            "/\\evil.example",
            "/\t/evil.example",
            "javascript:1",
        ] {
            assert_eq!(own_path(elsewhere), "/calls", "{elsewhere}");
        }
    }

    #[test]
    fn a_cookie_is_secure_where_the_browser_speaks_tls() {
        let of = |proto: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-proto", proto.parse().unwrap());
            is_secure(&headers)
        };
        assert!(of("https") && of("https,http"));
        assert!(!of("http") && !of("http,https") && !is_secure(&HeaderMap::new()));
    }
}
