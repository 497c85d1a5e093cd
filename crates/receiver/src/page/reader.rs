//! Who looks at a page. A handler that takes a [`Reader`] cannot forget to ask.

use axum::{extract::FromRequestParts, http::request::Parts};

use super::{frame::Problem, session};
use crate::{
    access::{self, Scope},
    server::App,
};

/// Someone who may read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader {
    /// It may see phone numbers whole.
    pub(super) numbers: bool,
    /// It is known by its cookie, and can log out.
    pub(super) by_cookie: bool,
}

impl FromRequestParts<App> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let headers = &parts.headers;
        if let Some(scopes) = session::scopes(app.store(), headers).await?
            && scopes.contains(&Scope::Read)
        {
            return Ok(Self { numbers: session::shows_numbers(&scopes), by_cookie: true });
        }
        // A token in the header, or the open door of a loopback address.
        let asked =
            async |scope| access::check(app.store(), headers, app.is_loopback(), scope).await;
        match asked(Scope::Read).await {
            Ok(()) => {
                let numbers =
                    asked(Scope::Admin).await.is_ok() || asked(Scope::Numbers).await.is_ok();
                Ok(Self { numbers, by_cookie: false })
            }
            Err(refused) if refused.status == 401 => {
                let to = parts.uri.path_and_query().map_or("/calls", |to| to.as_str());
                Err(Problem::Unknown { to: to.to_owned() })
            }
            Err(refused) => Err(refused.into()),
        }
    }
}
