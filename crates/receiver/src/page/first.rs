//! `/first-run`: whoever has the link of the log sets the first password.

use askama::Template;
use axum::{
    Extension,
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::Deserialize;

use super::{
    attempts,
    form::{self, OwnForm},
    frame::{Frame, html},
    login::with_cookie,
    problem::Problem,
    session::Session,
};
use crate::{
    answer::Refused,
    app::App,
    password::{self, SetError},
    port::Peer,
};

#[derive(Template)]
#[template(path = "first.html", whitespace = "minimize")]
struct First {
    frame: Frame,
    key: String,
    failed: Option<String>,
    shortest: usize,
}

impl First {
    fn new(key: &str, failed: Option<String>) -> Self {
        let (frame, key) = (Frame::bare(), key.to_owned());
        Self { frame, key, failed, shortest: password::SHORTEST }
    }
}

#[derive(Deserialize)]
pub(super) struct Link {
    #[serde(default)]
    key: String,
}

/// `GET /first-run`
pub(super) async fn page(
    State(app): State<App>,
    Query(link): Query<Link>,
) -> Result<Response, Problem> {
    check(&app, &link.key)?;
    Ok(html(StatusCode::OK, &First::new(&link.key, None)))
}

#[derive(Deserialize)]
pub(super) struct Given {
    key: String,
    password: String,
    again: String,
}

/// `POST /first-run`
pub(super) async fn set(
    State(app): State<App>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    OwnForm(given): OwnForm<Given>,
) -> Result<Response, Problem> {
    check(&app, &given.key)?;
    let password = given.password.as_str();
    let again =
        |problem: String| Ok(html(StatusCode::BAD_REQUEST, &First::new(&given.key, Some(problem))));
    if password != given.again {
        return again("The two are not the same.".into());
    }
    match password::set_first(app.store(), password, app.now()).await {
        Ok(true) => {}
        Ok(false) => {
            app.first_run().close();
            return Err(void().into());
        }
        Err(SetError::Weak(weak)) => return again(format!("That does not work: {weak}.")),
        Err(SetError::Store(e)) => return Err(e.into()),
    }
    app.first_run().close();
    tracing::info!("the first password of the page was set");
    app.pages().attempts.forgive(attempts::address(&headers, peer.map(|Extension(peer)| peer)));
    let session = Session::begin(app.store(), password).await?.ok_or_else(void)?;
    Ok(with_cookie(&session.cookie(form::is_secure(&headers)), "/calls"))
}

fn check(app: &App, key: &str) -> Result<(), Refused> {
    if app.first_run().holds(key, app.now()) { Ok(()) } else { Err(void()) }
}

fn void() -> Refused {
    let problem = "This link was used, is older than an hour, or is not of this receiver. A restart writes a new one into \
                   the log if nobody can log in; call-history receive password sets a password too.";
    Refused::new(StatusCode::FORBIDDEN, problem)
}
