//! What all requests of the API share.

use axum::{extract::Query as Pairs, http::HeaderMap};

use crate::{access::Scope, answer::Refused, app::App, permission};

/// Parameters of a request, in their order.
pub(super) type Parameters = Pairs<Vec<(String, String)>>;

pub(super) async fn allowed(app: &App, headers: &HeaderMap, scope: Scope) -> Result<(), Refused> {
    permission::check(app.store(), headers, app.is_open(), scope).await
}
