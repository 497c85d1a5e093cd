//! What all pages have around them.

use askama::Template;
use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{assets, zone::Zone};

/// Around each page; the base template reads it.
pub(super) struct Frame {
    /// The entry of the menu that this page belongs to.
    pub(super) on: &'static str,
    pub(super) style: String,
    pub(super) script: String,
    pub(super) icon: String,
    /// There is a session that can be ended.
    pub(super) leave: bool,
    /// Without it the page shows no menu: nobody is known yet.
    pub(super) menu: bool,
    pub(super) masked: bool,
    /// Anybody may look, and nobody can change anything.
    pub(super) demo: bool,
    pub(super) zone: Zone,
}

impl Frame {
    pub(super) fn bare() -> Self {
        Self {
            on: "",
            style: assets::style(),
            script: assets::script(),
            icon: assets::icon(),
            leave: false,
            menu: false,
            masked: false,
            demo: false,
            zone: Zone::UTC,
        }
    }
}

/// A page from its template.
pub(super) fn html(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => {
            (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response()
        }
        Err(e) => {
            tracing::error!(error = %e, "a page could not be made");
            (StatusCode::INTERNAL_SERVER_ERROR, "an error of the receiver").into_response()
        }
    }
}
