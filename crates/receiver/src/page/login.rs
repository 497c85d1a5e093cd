//! Logging in, by the password or a token of the API, and out.

use askama::Template;
use axum::{
    Extension,
    extract::{Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{
    attempts,
    form::{self, FromHere, OwnForm},
    frame::{Frame, html},
    problem::Problem,
    session::{self, Session},
};
use crate::{app::App, password, port::Peer};

#[derive(Template)]
#[template(path = "login.html", whitespace = "minimize")]
struct Login {
    frame: Frame,
    to: String,
    failed: Option<&'static str>,
    /// Nobody can log in yet.
    nobody: bool,
}

#[derive(Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    to: String,
}

/// `GET /login`
pub(super) async fn page(
    State(app): State<App>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    // Nobody logs in to a demo.
    if app.is_demo() {
        return Ok(Redirect::to("/calls").into_response());
    }
    let page = shown(&app, &wanted.to, None).await?;
    Ok(html(StatusCode::OK, &page))
}

async fn shown(app: &App, to: &str, failed: Option<&'static str>) -> Result<Login, Problem> {
    let nobody = !password::someone_can_log_in(app.store()).await?;
    Ok(Login { frame: Frame::bare(), to: form::own_path(to).to_owned(), failed, nobody })
}

#[derive(Deserialize)]
pub(super) struct Given {
    secret: String,
    #[serde(default)]
    to: String,
}

/// `POST /login`
pub(super) async fn enter(
    State(app): State<App>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    OwnForm(given): OwnForm<Given>,
) -> Result<Response, Problem> {
    let attempts = &app.pages().attempts;
    let from = attempts::address(&headers, peer.map(|Extension(peer)| peer));
    if let Err(seconds) = attempts.begin(from, app.now()) {
        tracing::warn!("too many logins were wrong: an address waits for a quarter of an hour");
        let problem = "Too many logins were wrong. Wait for a quarter of an hour.";
        let page = shown(&app, &given.to, Some(problem)).await?;
        let mut response = html(StatusCode::TOO_MANY_REQUESTS, &page);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        return Ok(response);
    }
    let Some(session) = Session::begin(app.store(), &given.secret).await? else {
        tracing::warn!("a login was refused");
        let problem = "This is not the password, nor a token that may read.";
        let page = shown(&app, &given.to, Some(problem)).await?;
        return Ok(html(StatusCode::UNAUTHORIZED, &page));
    };
    attempts.forgive(from);
    Ok(with_cookie(&session.cookie(form::is_secure(&headers)), form::own_path(&given.to)))
}

/// `POST /logout`
pub(super) async fn leave(_: FromHere) -> Response {
    with_cookie(&session::end(), "/login")
}

pub(super) fn with_cookie(cookie: &str, to: &str) -> Response {
    let mut response = Redirect::to(to).into_response();
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}
