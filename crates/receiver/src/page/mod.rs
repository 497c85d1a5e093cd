//! The page: what an operator sees of calls in a browser.
//!
//! Server-rendered HTML and SVG. Everything can be read without JavaScript; one script keeps the list of running calls
//! fresh. All data is escaped by the templates; nothing is loaded from another host.
//!
//! | file | its one idea |
//! |---|---|
//! | [`reader`] | who looks, and what it may see and do |
//! | [`session`], [`login`] | a password or token once, a cookie afterwards |
//! | [`first`] | setting the first password |
//! | [`attempts`] | guesses at the login are limited |
//! | [`form`] | forms that change something are sent by our own pages |
//! | [`zone`], [`zones`] | the reader's time zone, and choosing it |
//! | [`delete`] | a call, or everything of a number |
//! | [`headers`] | what browsers may do with each answer |
//! | [`compress`] | fewer bytes on the way |
//! | [`assets`] | style and script, under names that change with them |
//! | [`frame`] | what all pages have around them |
//! | [`problem`] | the pages that say no |
//! | [`shared`] | what all pages share |
//! | [`text`] | how numbers, durations and phone numbers are written |
//! | [`links`] | queries as links |
//! | [`filter`] | the query as a form |
//! | [`calls`], [`row`], [`shape`], [`now`] | the list of calls |
//! | [`call`] | one call |
//! | [`numbers`], [`chart`] | figures over many calls |
//! | [`integration`] | whether records arrive |

mod assets;
mod attempts;
mod call;
mod calls;
mod chart;
mod compress;
mod delete;
mod filter;
mod first;
mod form;
mod frame;
mod headers;
mod integration;
pub(crate) mod links;
mod login;
mod now;
mod numbers;
mod problem;
mod reader;
mod row;
pub(crate) mod session;
mod shape;
pub(crate) mod shared;
mod text;
mod zone;
mod zones;

use axum::{
    Router, middleware,
    response::Redirect,
    routing::{get, post},
};

use crate::app::App;

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
        .route("/zone", get(zones::page))
        .route("/delete", get(delete::page).post(delete::delete))
        .route("/deleted", get(delete::done))
        .route("/first-run", get(first::page).post(first::set))
        .route("/login", get(login::page).post(login::enter))
        .route("/logout", post(login::leave))
        .route("/assets/{name}", get(assets::get))
        .layer(middleware::from_fn(compress::gzip))
        .layer(middleware::from_fn(zone::keep))
        .layer(middleware::from_fn(headers::strict))
}
