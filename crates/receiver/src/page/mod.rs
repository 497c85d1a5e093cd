//! The page: what an operator sees of calls in a browser.
//!
//! Server-rendered HTML and SVG. Everything can be read without JavaScript; one script keeps the list of running calls
//! fresh. All data is escaped by the templates; nothing is loaded from another host.
//!
//! | file | its one idea |
//! |---|---|
//! | [`reader`] | who looks, and whether it may see phone numbers |
//! | [`session`], [`login`] | a token once, a cookie afterwards |
//! | [`headers`] | what browsers may do with each answer |
//! | [`compress`] | fewer bytes on the way |
//! | [`assets`] | style and script, under names that change with them |
//! | [`frame`] | what all pages have around them; pages that say no |
//! | [`text`] | how numbers, times and phone numbers are written |
//! | [`links`] | queries as links |
//! | [`filter`] | the query as a form |
//! | [`calls`], [`row`], [`shape`], [`now`] | the list of calls |
//! | [`call`] | one call |
//! | [`numbers`], [`chart`] | figures over many calls |
//! | [`integration`] | whether records arrive |

mod assets;
mod call;
mod calls;
mod chart;
mod compress;
mod filter;
mod frame;
mod headers;
mod integration;
pub(crate) mod links;
mod login;
mod now;
mod numbers;
mod reader;
mod row;
pub(crate) mod session;
mod shape;
mod text;

use axum::{
    Router, middleware,
    response::Redirect,
    routing::{get, post},
};

use crate::server::App;

/// All routes of the page.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(async || Redirect::to("/calls")))
        .route("/calls", get(calls::page))
        .route("/calls/{id}", get(call::page))
        .route("/now", get(now::part))
        .route("/now/stream", get(now::stream))
        .route("/numbers", get(numbers::page))
        .route("/integration", get(integration::page))
        .route("/login", get(login::form).post(login::enter))
        .route("/logout", post(login::leave))
        .route("/assets/{name}", get(assets::get))
        .layer(middleware::from_fn(compress::gzip))
        .layer(middleware::from_fn(headers::strict))
}
