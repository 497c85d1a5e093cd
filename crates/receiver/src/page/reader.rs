//! Who looks at a page. A handler that takes a [`Reader`] cannot forget to ask; one that changes something takes an
//! [`Admin`].

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
};

use super::{frame::Frame, problem::Problem, session::Session, zone::Zone};
use crate::{access::Scope, answer::Refused, app::App, permission::allowed, schema::Mistake};

/// Fields that hold phone numbers.
const PRIVATE: [&str; 2] = ["phone_number", "room_name"];

/// Someone who may read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader {
    /// It may see phone numbers whole.
    pub(super) numbers: bool,
    /// It may delete.
    pub(super) admin: bool,
    /// It is known by its cookie, and can log out.
    pub(super) by_cookie: bool,
    /// It is anybody: everybody may look.
    pub(super) demo: bool,
    /// Times are shown in it, and days of filters are meant in it.
    pub(super) zone: Zone,
}

impl Reader {
    /// Around a page that is for this reader. `on`: its entry in the menu.
    pub(super) fn frame(&self, on: &'static str) -> Frame {
        Frame {
            on,
            leave: self.by_cookie,
            menu: true,
            masked: !self.numbers,
            demo: self.demo,
            zone: self.zone,
            ..Frame::bare()
        }
    }

    /// What this reader may not ask: whoever sees numbers masked could guess them digit by digit.
    pub(super) fn forbidden(&self, pairs: &[(String, String)]) -> Vec<Mistake> {
        if self.numbers {
            return vec![];
        }
        let is_private = |name: &str| {
            let rest = |field| name.strip_prefix(field);
            PRIVATE.iter().filter_map(rest).any(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let problem = |name: &str, value: &str| {
            let problem = if is_private(name) {
                "numbers are masked for you, so they are no condition"
            } else if name == "q" && value.chars().any(char::is_numeric) {
                "numbers are masked for you: search for words without digits"
            } else {
                return None;
            };
            Some(Mistake::new(name, problem))
        };
        pairs.iter().filter_map(|(name, value)| problem(name, value)).collect()
    }
}

impl FromRequestParts<App> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let headers = &parts.headers;
        let zone = Zone::of(&parts.uri, headers);
        let reader =
            |numbers, admin, by_cookie| Self { numbers, admin, by_cookie, demo: false, zone };
        // Nobody sees more in a demo, whatever it knows: so nothing can be shown by mistake.
        if app.is_demo() {
            return Ok(Self { demo: true, ..reader(false, false, false) });
        }
        if let Some(session) = Session::of(app.store(), headers).await?
            && session.may(Scope::Read)
        {
            return Ok(reader(session.shows_numbers(), session.may(Scope::Admin), true));
        }
        // A token in the header, or the open door of a loopback address.
        match allowed(app, headers, Scope::Read).await {
            Ok(()) => {
                let admin = allowed(app, headers, Scope::Admin).await.is_ok();
                let numbers = admin || allowed(app, headers, Scope::Numbers).await.is_ok();
                Ok(reader(numbers, admin, false))
            }
            Err(refused) if refused.status == 401 => {
                let to = parts.uri.path_and_query().map_or("/calls", |to| to.as_str());
                Err(Problem::Unknown { to: to.to_owned() })
            }
            Err(refused) => Err(refused.into()),
        }
    }
}

/// Someone who may delete, and the token that its forms hold.
pub(super) struct Admin {
    pub(super) reader: Reader,
    session: Option<Session>,
    /// Of this process: for those who need no session.
    open_form: String,
}

impl Admin {
    /// For a hidden field of a form.
    pub(super) fn form_token(&self) -> String {
        self.session.as_ref().map_or_else(|| self.open_form.clone(), Session::form_token)
    }

    /// # Errors
    /// If a form was not sent by a page of this reader.
    pub(super) fn check(&self, form_token: &str) -> Result<(), Refused> {
        let right = match &self.session {
            Some(session) => session.has_sent(form_token),
            None => form_token == self.open_form,
        };
        let problem = "the form is too old: go back, load the page anew, and send it again";
        if right { Ok(()) } else { Err(Refused::new(StatusCode::FORBIDDEN, problem)) }
    }
}

impl FromRequestParts<App> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let reader = Reader::from_request_parts(parts, app).await?;
        if !reader.admin {
            let problem = "only who has logged in by the password, or a token with the scope admin, may delete";
            return Err(Refused::new(StatusCode::FORBIDDEN, problem).into());
        }
        let session = match reader.by_cookie {
            true => Session::of(app.store(), &parts.headers).await?,
            false => None,
        };
        Ok(Self { reader, session, open_form: app.pages().form_token.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sees_numbers_masked_cannot_ask_for_them() {
        let reader = |numbers| Reader {
            numbers,
            admin: false,
            by_cookie: true,
            demo: false,
            zone: Zone::UTC,
        };
        for (name, value, forbidden) in [
            ("phone_number", "+15551234567", true),
            ("phone_number.sw", "+1", true),
            ("phone_number.present", "true", true),
            ("room_name.co", "call", true),
            ("q", "table for 4", true),
            ("q", "٤", true),
            ("q", "table for four", false),
            ("status", "failed", false),
            ("phone_numbers", "1", false),
        ] {
            let pairs = [(name.to_owned(), value.to_owned())];
            assert_eq!(
                reader(false).forbidden(&pairs).len(),
                usize::from(forbidden),
                "{name}={value}"
            );
            assert!(reader(true).forbidden(&pairs).is_empty());
        }
    }
}
