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
//! | [`frame`] | what all pages have around them; pages that say no |
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
mod reader;
mod row;
pub(crate) mod session;
mod shape;
mod text;
mod zone;
mod zones;

use axum::{
    Router, middleware,
    response::Redirect,
    routing::{get, post},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use rand::RngCore;

use self::attempts::Attempts;
use crate::server::App;

/// What the pages share.
pub(crate) struct Pages {
    attempts: Attempts,
    /// In the forms of readers that need no login, so that no other page can send them.
    form_token: String,
}

impl Default for Pages {
    fn default() -> Self {
        let mut random = [0; 32];
        rand::rng().fill_bytes(&mut random);
        Self { attempts: Attempts::default(), form_token: BASE64.encode(random) }
    }
}

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
