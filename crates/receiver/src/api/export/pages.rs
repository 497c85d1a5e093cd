//! What all exports share: the calls of a query, page by page, and the answer that streams them.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use futures_util::Stream;

use crate::{
    access::Scope,
    answer::Refused,
    app::App,
    calls::{self, Listed},
    permission::allowed,
    query::{Cursor, Query},
    store::{Store, StoreError},
};

/// Calls that are read at once.
const PAGE: u32 = 500;

pub(super) struct Pages {
    pub(super) store: Arc<dyn Store>,
    query: Query,
    cursor: Option<Cursor>,
}

pub(super) async fn pages(
    app: &App,
    headers: &HeaderMap,
    pairs: &[(String, String)],
) -> Result<Pages, Refused> {
    allowed(app, headers, Scope::Read).await?;
    let query = Query::parse(pairs, &[]).map_err(Refused::bad_request)?;
    Ok(Pages { store: app.shared_store(), query, cursor: None })
}

impl Pages {
    /// Empty after the last one.
    pub(super) async fn next(&mut self) -> Result<Vec<Listed>, StoreError> {
        let page = calls::list(&*self.store, &self.query, self.cursor.as_ref(), PAGE).await?;
        if let Some(last) = page.last() {
            self.cursor = Some(last.cursor());
        }
        Ok(page)
    }
}

pub(super) fn failed(e: StoreError) -> StoreError {
    tracing::error!(error = %e, "an export was cut off");
    e
}

pub(super) fn answer(
    kind: &'static str,
    disposition: &'static str,
    parts: impl Stream<Item = Result<Bytes, StoreError>> + Send + 'static,
) -> Response {
    let headers = [(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, disposition)];
    (headers, Body::from_stream(parts)).into_response()
}
