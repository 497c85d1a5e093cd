//! Logging in with a token of the API, and out.

use askama::Template;
use axum::{
    Form,
    extract::{Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{
    frame::{Frame, Problem, html},
    session,
};
use crate::{answer::Refused, server::App};

#[derive(Template)]
#[template(path = "login.html", whitespace = "minimize")]
struct Login {
    frame: Frame,
    to: String,
    failed: bool,
}

#[derive(Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    to: String,
}

/// `GET /login`
pub(super) async fn form(Query(wanted): Query<Wanted>) -> Response {
    let to = own_path(&wanted.to).to_owned();
    html(StatusCode::OK, &Login { frame: Frame::bare(), to, failed: false })
}

#[derive(Deserialize)]
pub(super) struct Given {
    token: String,
    #[serde(default)]
    to: String,
}

/// `POST /login`
pub(super) async fn enter(
    State(app): State<App>,
    headers: HeaderMap,
    Form(given): Form<Given>,
) -> Result<Response, Problem> {
    from_here(&headers)?;
    let to = own_path(&given.to).to_owned();
    // Behind a proxy that speaks TLS the cookie never travels without it.
    let secure = headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https");
    let Some(cookie) = session::begin(app.store(), given.token.trim(), secure).await? else {
        tracing::warn!("a login was refused");
        let page = Login { frame: Frame::bare(), to, failed: true };
        return Ok(html(StatusCode::UNAUTHORIZED, &page));
    };
    Ok(with_cookie(&cookie, &to))
}

/// `POST /logout`
pub(super) async fn leave(headers: HeaderMap) -> Result<Response, Problem> {
    from_here(&headers)?;
    Ok(with_cookie(&session::end(), "/login"))
}

fn with_cookie(cookie: &str, to: &str) -> Response {
    let mut response = Redirect::to(to).into_response();
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

/// A form on another site may not log anybody in or out.
fn from_here(headers: &HeaderMap) -> Result<(), Refused> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let origin = text(header::ORIGIN);
    let host = origin.map(|origin| origin.split_once("://").map_or("", |(_, host)| host));
    if host.is_none_or(|host| Some(host) == text(header::HOST)) {
        return Ok(());
    }
    Err(Refused::new(StatusCode::FORBIDDEN, "the form must be one of this page"))
}

/// A path of this page: never another host.
fn own_path(to: &str) -> &str {
    let plain = to.starts_with('/') && !to.starts_with("//") && !to.contains(['\\', '\r', '\n']);
    if plain { to } else { "/calls" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_login_nobody_is_sent_elsewhere() {
        assert_eq!(own_path("/calls?status=failed"), "/calls?status=failed");
        for elsewhere in
            ["", "https://evil.example", "//evil.example", "/\\evil.example", "javascript:1"]
        {
            assert_eq!(own_path(elsewhere), "/calls", "{elsewhere}");
        }
    }
}
