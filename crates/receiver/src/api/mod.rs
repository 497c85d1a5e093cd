//! The API: lists, single calls, statistics, deletion. Each handler asks for its scope first.
//!
//! | file | its one idea |
//! |---|---|
//! | [`export`] | all calls of a query, streamed |
//! | [`tokens`] | making and deleting tokens |
//! | `shared` | what all its requests share |
//! | [`openapi`] | the description of all of it |

pub mod export;
pub mod openapi;
mod shared;
pub mod tokens;

use axum::{
    Json, Router,
    extract::{Path, Query as Pairs, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{delete, get},
};
use serde_json::{Value as Json_, json};

use self::shared::Parameters;
use crate::{
    access::Scope,
    answer::Refused,
    app::App,
    body,
    call::text,
    calls,
    collector::serve,
    deletion::{self, Which},
    permission::allowed,
    query::Query,
    schema::Mistake,
    shown,
    stats::{self, TooMany, Wanted},
};

/// All routes of the API.
pub(crate) fn routes() -> Router<App> {
    let all = Router::new();
    #[cfg(feature = "parquet")]
    let all = all.route("/api/calls.parquet", get(export::parquet));
    all.route("/api/calls", get(list))
        .route("/api/calls/{id}", get(body).delete(delete_call))
        .route("/api/calls/{id}/events", get(events))
        .route("/api/calls/{id}/explained", get(explained))
        .route("/api/calls/{id}/recordings/{n}", get(serve::sound))
        .route("/api/calls/{id}/uploads", get(serve::uploads))
        .route("/api/calls.csv", get(export::csv))
        .route("/api/calls.jsonl", get(export::jsonl))
        .route("/api/numbers/{number}", delete(delete_number))
        .route("/api/stats", get(stats))
        .route("/api/live", get(live))
        .route("/api/tokens", get(tokens::list).post(tokens::create))
        .route("/api/tokens/{id}", delete(tokens::delete))
}

/// `GET /api/calls`
pub async fn list(
    State(app): State<App>,
    headers: HeaderMap,
    Pairs(pairs): Parameters,
) -> Result<Json<Json_>, Refused> {
    allowed(&app, &headers, Scope::Read).await?;
    let (query, page) = Query::with_page(&pairs).map_err(Refused::bad_request)?;
    // One more than is shown says whether there are more.
    let found = calls::list(app.store(), &query, page.cursor.as_ref(), page.limit + 1).await?;
    let shown = &found[..found.len().min(page.limit as usize)];
    let next = (found.len() > shown.len()).then(|| shown.last().map(|c| c.cursor().to_text()));
    let mut answer = json!({
        "calls": shown.iter().map(|c| Json_::Object(shown::json(c.values()))).collect::<Vec<_>>(),
        "next_cursor": next.flatten(),
    });
    if page.include_total {
        answer["total"] = calls::count(app.store(), &query).await?.into();
    }
    Ok(Json(answer))
}

/// `GET /api/calls/{id}`: the bytes as they were received.
pub async fn body(
    State(app): State<App>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Refused> {
    allowed(&app, &headers, Scope::Read).await?;
    let body = calls::body(app.store(), &text(&id)).await?;
    let body = body.ok_or_else(|| Refused::not_found("no such call"))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// `GET /api/calls/{id}/explained`: each number of the record with the moments that made it.
pub async fn explained(
    State(app): State<App>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Json_>, Refused> {
    allowed(&app, &headers, Scope::Read).await?;
    let body = calls::body(app.store(), &text(&id)).await?;
    let body = body.ok_or_else(|| Refused::not_found("no such call"))?;
    body::work_on(body.into(), |record| crate::explained::of(&record)).await.map(Json)
}

/// `GET /api/calls/{id}/events`
pub async fn events(
    State(app): State<App>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Refused> {
    allowed(&app, &headers, Scope::Read).await?;
    let events = crate::events::of_call(app.store(), &text(&id)).await?;
    // They are JSON already, and stay as they came.
    let mut all = br#"{"events":["#.to_vec();
    all.extend_from_slice(&events.join(&b','));
    all.extend_from_slice(b"]}");
    Ok(([(header::CONTENT_TYPE, "application/json")], all).into_response())
}

/// `DELETE /api/calls/{id}`
pub async fn delete_call(
    State(app): State<App>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Json_>, Refused> {
    allowed(&app, &headers, Scope::Admin).await?;
    let deleted = deletion::on_request(&app, Which::Call(&id)).await?;
    if deleted == 0 {
        return Err(Refused::not_found("no such call"));
    }
    Ok(Json(json!({"deleted": deleted})))
}

/// `DELETE /api/numbers/{number}`: everything of a phone number.
pub async fn delete_number(
    State(app): State<App>,
    headers: HeaderMap,
    Path(number): Path<String>,
) -> Result<Json<Json_>, Refused> {
    allowed(&app, &headers, Scope::Admin).await?;
    let deleted = deletion::on_request(&app, Which::Number(&number)).await?;
    Ok(Json(json!({"deleted": deleted})))
}

/// `GET /api/stats`
pub async fn stats(
    State(app): State<App>,
    headers: HeaderMap,
    Pairs(pairs): Parameters,
) -> Result<Json<Json_>, Refused> {
    allowed(&app, &headers, Scope::Read).await?;
    let wanted = Wanted::parse(&pairs).map_err(Refused::bad_request)?;
    stats::of(app.store(), &wanted).await?.map(Json).map_err(|TooMany| Refused {
        status: StatusCode::BAD_REQUEST,
        mistakes: vec![Mistake::new("by", "more than 10000 groups: ask for fewer calls")],
    })
}

/// `GET /api/live`
pub async fn live(State(app): State<App>, headers: HeaderMap) -> Result<Response, Refused> {
    allowed(&app, &headers, Scope::Read).await?;
    app.live().watch(&headers)
}
