//! Style and script, embedded. Their names change with their content, so that browsers may keep them for ever.

use std::sync::LazyLock;

use axum::{
    extract::Path,
    http::header,
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};

use crate::answer::Refused;

const FOR_EVER: &str = "public, max-age=31536000, immutable";

struct Asset {
    /// With the beginning of its SHA-256.
    name: String,
    kind: &'static str,
    content: &'static str,
}

impl Asset {
    fn new(stem: &str, end: &str, kind: &'static str, content: &'static str) -> Self {
        let hash = Sha256::digest(content);
        let short: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Self { name: format!("{stem}-{short}.{end}"), kind, content }
    }
}

static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new(
        "page",
        "css",
        "text/css; charset=utf-8",
        concat!(include_str!("../../assets/page.css"), include_str!("../../assets/recording.css")),
    )
});
static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new(
        "page",
        "js",
        "text/javascript; charset=utf-8",
        concat!(include_str!("../../assets/page.js"), include_str!("../../assets/recording.js")),
    )
});
static ICON: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("icon", "svg", "image/svg+xml", include_str!("../../assets/icon.svg"))
});

pub(super) fn style() -> String {
    format!("/assets/{}", STYLE.name)
}

pub(super) fn script() -> String {
    format!("/assets/{}", SCRIPT.name)
}

pub(super) fn icon() -> String {
    format!("/assets/{}", ICON.name)
}

/// `GET /assets/{name}`: needs no login, as it is the same for all.
pub(super) async fn get(Path(name): Path<String>) -> Result<Response, Refused> {
    let all = [&STYLE, &SCRIPT, &ICON];
    let asset = all.into_iter().find(|asset| asset.name == name);
    let asset = asset.ok_or_else(|| Refused::not_found("no such path"))?;
    let headers = [(header::CONTENT_TYPE, asset.kind), (header::CACHE_CONTROL, FOR_EVER)];
    Ok((headers, asset.content).into_response())
}
