//! What all pages have around them, and the pages that say no.

use askama::Template;
use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};

use super::{assets, reader::Reader, zone::Zone};
use crate::{answer::Refused, store::StoreError};

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
    pub(super) fn new(on: &'static str, reader: &Reader) -> Self {
        let mut frame = Self::bare();
        (frame.on, frame.leave, frame.menu) = (on, reader.by_cookie, true);
        (frame.masked, frame.demo, frame.zone) = (!reader.numbers, reader.demo, reader.zone);
        frame
    }

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

#[derive(Template)]
#[template(path = "problem.html", whitespace = "minimize")]
struct Said<'a> {
    frame: Frame,
    title: &'a str,
    what: &'a str,
    next: &'a str,
    href: &'a str,
}

/// Why there is no page.
pub(super) enum Problem {
    /// Someone has to log in first, and then goes where it wanted to.
    Unknown {
        to: String,
    },
    Refused(Refused),
    NoCall,
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<StoreError> for Problem {
    fn from(e: StoreError) -> Self {
        Self::Refused(e.into())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, title, what) = match &self {
            Self::Unknown { to } => {
                let to = super::links::query_string(&[("to".into(), to.clone())]);
                return Redirect::to(&format!("/login?{to}")).into_response();
            }
            Self::NoCall => (
                StatusCode::NOT_FOUND,
                "No such call",
                "No call with this id is kept here. It may have been deleted, or its record has not arrived yet.",
            ),
            Self::Refused(refused) => {
                let what = refused.mistakes.first().map_or("", |mistake| &mistake.problem);
                let title = match refused.status {
                    StatusCode::SERVICE_UNAVAILABLE => "The database does not answer",
                    StatusCode::FORBIDDEN => "Not for you",
                    _ => "That did not work",
                };
                (refused.status, title, what)
            }
        };
        let frame = Frame::bare();
        html(status, &Said { frame, title, what, next: "All calls", href: "/calls" })
    }
}
