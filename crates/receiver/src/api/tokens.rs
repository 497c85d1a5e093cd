//! Making, listing and deleting tokens of the API.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
};
use serde::Deserialize;
use serde_json::{Value as Json_, json};

use crate::{
    access::{self, Scope},
    answer::Refused,
    app::App,
    permission::allowed,
    schema::Mistake,
};

#[derive(Deserialize)]
struct New {
    name: String,
    scopes: Vec<Scope>,
}

/// `GET /api/tokens`
pub async fn list(State(app): State<App>, headers: HeaderMap) -> Result<Json<Json_>, Refused> {
    allowed(&app, &headers, Scope::Admin).await?;
    Ok(Json(json!({"tokens": access::list(app.store()).await?})))
}

/// `POST /api/tokens`: answers the token, this once.
pub async fn create(
    State(app): State<App>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Json_>), Refused> {
    allowed(&app, &headers, Scope::Admin).await?;
    let new: Option<New> = serde_json::from_slice(&body).ok();
    let Some(new) = new.filter(|new| !new.scopes.is_empty()) else {
        let problem = r#"must be like {"name": "page", "scopes": ["read"]}; scopes are ingest, read, admin, numbers"#;
        return Err(Refused::bad_request(vec![Mistake::new("", problem)]));
    };
    let (listed, token) = access::create(app.store(), &new.name, &new.scopes, app.now()).await?;
    let mut answer = json!(listed);
    answer["token"] = token.into();
    Ok((StatusCode::CREATED, Json(answer)))
}

/// `DELETE /api/tokens/{id}`
pub async fn delete(
    State(app): State<App>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<StatusCode, Refused> {
    allowed(&app, &headers, Scope::Admin).await?;
    match access::delete(app.store(), &id).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Refused::not_found("no such token")),
    }
}
