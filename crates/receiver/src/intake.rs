//! `POST /call-history` and `POST /call-events`: checked, kept, answered.
//!
//! Who may post is checked before the body is read. With a secret the token of the post says it; without one a token of
//! the API does, or the request is from this machine.

use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use secrecy::SecretString;
use serde_json::{Value as Json_, json};

use crate::{
    access::{self, Scope},
    answer::Refused,
    app::App,
    body,
    call::{About, Call, loggable},
    calls::Kept,
    collector::join,
    events::{self, Event},
    permission::allowed,
    schema,
    seen::SEEN,
    shown,
    signature::{Subject, Token},
};

pub async fn call(
    State(app): State<App>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    noted(&app, take_call(&app, headers, body).await)
}

pub async fn event(
    State(app): State<App>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    noted(&app, take_event(&app, headers, body).await)
}

/// Logs who is turned away; mistakes of the body are logged where they are found.
fn noted(app: &App, taken: Result<Response, Refused>) -> Result<Response, Refused> {
    if let Err(refused) = &taken
        && matches!(refused.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
    {
        // One of our own texts.
        let why = refused.mistakes.first().map_or("", |mistake| mistake.problem.as_str());
        SEEN.refused(why);
        if let Some(times) = app.refused().due() {
            tracing::warn!(why, times, "a post was refused");
        }
    }
    taken
}

async fn take_call(app: &App, headers: HeaderMap, body: Body) -> Result<Response, Refused> {
    let received_at = app.now();
    let token = may_post(app, &headers).await?;
    let _place = app.place().await;
    let bytes = bound(app, &headers, body, token.as_ref()).await?;
    let size = bytes.len();
    let kept = bytes.clone();
    let call = body::work_on(bytes, move |record| {
        check(&record, token.as_ref(), About::record, schema::mistakes_of_record)?;
        Ok::<_, Refused>((Call::of(&record, &kept, received_at), join::jobs_of(&record)))
    });
    let (call, jobs) = call.await??;

    let id = call.call_id.clone();
    let values = call.values.clone();
    let kept = app.keeper().keep(call, received_at).await?;
    SEEN.record(&headers, received_at);
    tracing::info!(call_id = loggable(&id), bytes = size, kept = word(kept), "record received");
    if kept == Kept::Now {
        if app.collector().is_on() {
            // The record is kept, whatever comes of this; it is tried again once an hour.
            if let Err(e) = join::call(app.store(), &id, &jobs).await {
                tracing::warn!(error = %e, "uploads of agents could not be joined to a call");
            }
        }
        app.live().show("call", Json_::Object(shown::json(&values)).to_string());
    }
    answer(kept, json!({"call_id": id}))
}

async fn take_event(app: &App, headers: HeaderMap, body: Body) -> Result<Response, Refused> {
    let received_at = app.now();
    let token = may_post(app, &headers).await?;
    let _place = app.place().await;
    let bytes = bound(app, &headers, body, token.as_ref()).await?;
    let kept = bytes.clone();
    let event = body::work_on(bytes.clone(), move |event| {
        check(&event, token.as_ref(), About::event, schema::mistakes_of_event)?;
        Ok::<_, Refused>(Event::of(&event, &kept))
    });
    let event = event.await??;

    let (id, sequence) = (event.call_id.clone(), event.sequence);
    let kept = events::keep(app.store(), event, received_at).await?;
    SEEN.event(&headers, received_at);
    tracing::debug!(call_id = loggable(&id), sequence, kept = word(kept), "event received");
    if kept == Kept::Now {
        app.live().show("event", String::from_utf8_lossy(&bytes).into_owned());
    }
    answer(kept, json!({"call_id": id, "sequence": sequence}))
}

/// The token of the post, if a secret is set.
async fn may_post(app: &App, headers: &HeaderMap) -> Result<Option<Token>, Refused> {
    let Some(secret) = app.jwt_secret() else {
        allowed(app, headers, Scope::Ingest).await?;
        return Ok(None);
    };
    signed(headers, secret).map(Some).map_err(Refused::unauthorized)
}

fn signed(headers: &HeaderMap, secret: &SecretString) -> Result<Token, &'static str> {
    let token = access::bearer(headers).ok_or("a token is needed: Authorization: Bearer …")?;
    Token::verify(token, secret)
}

/// The body, decompressed, if it is the one that the token is for.
async fn bound(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    token: Option<&Token>,
) -> Result<Bytes, Refused> {
    let received = body::receive(headers, body, app.max_body()).await?;
    if let Some(token) = token {
        token.binds(&received.sent).map_err(Refused::unauthorized)?;
    }
    Ok(received.bytes)
}

fn check(
    posted: &Json_,
    token: Option<&Token>,
    about: impl FnOnce(&Json_) -> About,
    mistakes: impl FnOnce(&Json_) -> Vec<schema::Mistake>,
) -> Result<(), Refused> {
    if let Some(token) = token {
        let about = about(posted);
        let subject = Subject {
            phone_number: &about.phone_number,
            timestamp: &about.timestamp,
            id: &about.id,
        };
        token.is_for(subject).map_err(Refused::unauthorized)?;
    }
    let mistakes = mistakes(posted);
    if mistakes.is_empty() {
        return Ok(());
    }
    let paths: Vec<&str> = mistakes.iter().take(10).map(shown_path).collect();
    tracing::warn!(mistakes = mistakes.len(), ?paths, "a post breaks the schema");
    SEEN.breaks_schema(paths);
    Err(Refused { status: StatusCode::UNPROCESSABLE_ENTITY, mistakes })
}

/// A path as logs and metrics may have it.
fn shown_path(mistake: &schema::Mistake) -> &str {
    if mistake.named_by_sender { "(other)" } else { &mistake.path }
}

fn answer(kept: Kept, mut about: Json_) -> Result<Response, Refused> {
    if kept == Kept::Other {
        let problem = "something else is kept under this id, and stays";
        return Err(Refused::new(StatusCode::CONFLICT, problem));
    }
    about["stored"] = word(kept).into();
    Ok(Json(about).into_response())
}

const fn word(kept: Kept) -> &'static str {
    match kept {
        Kept::Now => "now",
        Kept::Before => "before",
        Kept::Other => "other",
        Kept::Deleted => "deleted",
    }
}
