//! Pages and assets are sent compressed to those who take it. Streams are not: they would wait for more.
//!
//! Sizes of compressed answers show something of their content to those who can make a browser ask for pages with a
//! text of theirs. The cookie is `SameSite=Strict`, so other sites cannot.

use std::io::Write;

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, HeaderValue, header},
    middleware::Next,
    response::Response,
};
use flate2::{Compression, write::GzEncoder};

/// Bytes that are not worth it.
const SMALL: usize = 1_000;
const KINDS: [&str; 4] = ["text/html", "text/css", "text/javascript", "image/svg+xml"];

pub(super) async fn gzip(request: Request, next: Next) -> Response {
    let taken = takes_gzip(request.headers());
    let response = next.run(request).await;
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if !kind.is_some_and(|kind| KINDS.iter().any(|known| kind.starts_with(known))) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // Pages are in memory already.
    let Ok(bytes) = to_bytes(body, usize::MAX).await else {
        return Response::from_parts(parts, Body::empty());
    };
    parts.headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    let small = bytes.len() < SMALL || !taken;
    let compressed = if small { None } else { compressed(&bytes) };
    let Some(compressed) = compressed else { return Response::from_parts(parts, bytes.into()) };
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, compressed.into())
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let taken = headers.get(header::ACCEPT_ENCODING).and_then(|taken| taken.to_str().ok());
    taken.is_some_and(|taken| taken.split(',').any(|one| one.trim() == "gzip"))
}

fn compressed(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(vec![], Compression::new(4));
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok()
}
