//! All calls of a query, streamed: as a table, or the records one a line.
//!
//! Read page by page, so that a reader that is slow holds no transaction open; calls that arrive meanwhile do not
//! move the others. If the database fails in the middle, the connection is cut: a part never looks like the whole.

mod pages;
#[cfg(feature = "parquet")]
mod parquet;

use std::collections::VecDeque;

use axum::{
    body::Bytes,
    extract::{Query as Pairs, State},
    http::HeaderMap,
    response::Response,
};
use futures_util::stream;

use self::pages::{answer, failed, pages};
#[cfg(feature = "parquet")]
pub use self::parquet::parquet;
use super::shared::Parameters;
use crate::{
    answer::Refused,
    app::App,
    calls::Listed,
    fields::FIELDS,
    shown,
    store::{Sql, Store, StoreError},
};

/// Bytes of records that are read at once, if there is more than one.
const BYTES: u64 = 4_000_000;
/// Records that are read at once.
const RECORDS: usize = 100;

/// `GET /api/calls.csv`
pub async fn csv(
    State(app): State<App>,
    headers: HeaderMap,
    Pairs(pairs): Parameters,
) -> Result<Response, Refused> {
    let pages = pages(&app, &headers, &pairs).await?;
    let names = row(FIELDS.iter().map(|f| f.name.to_owned()).collect());
    let rows = stream::unfold((pages, Some(names)), |(mut pages, head)| async move {
        if let Some(head) = head {
            return Some((Ok(head), (pages, None)));
        }
        let page = match pages.next().await {
            Ok(page) if page.is_empty() => return None,
            Ok(page) => page,
            Err(e) => return Some((Err(failed(e)), (pages, None))),
        };
        let rows: Vec<Bytes> = page.iter().map(|c| row(shown::cells(c.values()))).collect();
        Some((Ok(rows.concat().into()), (pages, None)))
    });
    Ok(answer("text/csv; charset=utf-8", "attachment; filename=\"calls.csv\"", rows))
}

/// `GET /api/calls.jsonl`: the records as they were received, but each on one line.
pub async fn jsonl(
    State(app): State<App>,
    headers: HeaderMap,
    Pairs(pairs): Parameters,
) -> Result<Response, Refused> {
    let pages = pages(&app, &headers, &pairs).await?;
    let waiting = VecDeque::<Listed>::new();
    let lines = stream::unfold((pages, waiting), |(mut pages, mut waiting)| async move {
        loop {
            if waiting.is_empty() {
                match pages.next().await {
                    Ok(page) if page.is_empty() => return None,
                    Ok(page) => waiting.extend(page),
                    Err(e) => return Some((Err(failed(e)), (pages, waiting))),
                }
            }
            let some = some_of(&mut waiting);
            match records(&*pages.store, &some).await {
                // All of them were deleted meanwhile.
                Ok(lines) if lines.is_empty() => {}
                Ok(lines) => return Some((Ok(lines), (pages, waiting))),
                Err(e) => return Some((Err(failed(e)), (pages, waiting))),
            }
        }
    });
    Ok(answer("application/jsonl", "attachment; filename=\"calls.jsonl\"", lines))
}

/// The next calls whose records fit into memory together.
fn some_of(waiting: &mut VecDeque<Listed>) -> Vec<Listed> {
    let (mut some, mut bytes) = (vec![], 0_u64);
    while let Some(next) = waiting.pop_front() {
        bytes = bytes.saturating_add(next.bytes());
        some.push(next);
        if bytes >= BYTES || some.len() >= RECORDS {
            break;
        }
    }
    some
}

/// A line for each call, in their order.
async fn records(store: &dyn Store, some: &[Listed]) -> Result<Bytes, StoreError> {
    let mut sql = Sql::new(store.dialect(), "SELECT n, body FROM bodies WHERE n IN (");
    sql.values(some.iter().map(Listed::n)).push(")");
    let rows = store.read(sql).await?;
    let mut lines = vec![];
    for call in some {
        let row = rows.iter().find(|row| row.int(0) == Some(call.n()));
        if let Some(body) = row.and_then(|row| row.bytes(1)) {
            // Line breaks in JSON are white space between its parts.
            lines.extend(body.iter().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { *b }));
            lines.push(b'\n');
        }
    }
    Ok(lines.into())
}

fn row(cells: Vec<String>) -> Bytes {
    let mut writer = csv::Writer::from_writer(vec![]);
    // Writing to memory does not fail.
    let _ = writer.write_record(cells);
    writer.into_inner().unwrap_or_default().into()
}
