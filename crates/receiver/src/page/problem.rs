//! The pages that say no.

use askama::Template;
use axum::{
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};

use super::{
    frame::{Frame, html},
    links,
};
use crate::{answer::Refused, store::StoreError};

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
                let to = links::query_string(&[("to".into(), to.clone())]);
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
