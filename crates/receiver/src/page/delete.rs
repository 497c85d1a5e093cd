//! `/delete`: a call, or everything of a phone number. A page asks first, a form does it; both for admins only.

use askama::Template;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use super::{
    form::OwnForm,
    frame::{Frame, html},
    links,
    problem::Problem,
    reader::{Admin, Reader},
    text,
};
use crate::{
    answer::Refused,
    app::App,
    deletion::{self, Which},
    store::{Sql, StoreError},
};

/// The page that asks before a call is deleted.
pub(super) fn of_call(id: &str) -> String {
    links::with_query("/delete", &[("call_id".into(), id.into())])
}

/// The same for everything of a number.
pub(super) fn of_number(number: &str) -> String {
    links::with_query("/delete", &[("phone_number".into(), number.into())])
}

#[derive(Deserialize)]
pub(super) struct What {
    call_id: Option<String>,
    phone_number: Option<String>,
}

impl What {
    fn which(&self) -> Result<Which<'_>, Problem> {
        match (&self.call_id, &self.phone_number) {
            (Some(id), None) => Ok(Which::Call(id)),
            (None, Some(number)) => Ok(Which::Number(number)),
            _ => Err(Refused::new(StatusCode::BAD_REQUEST, "either a call or a number").into()),
        }
    }
}

/// What would go.
struct Found {
    calls: i64,
    events: i64,
    /// Of the first and the last call.
    from: Option<i64>,
    to: Option<i64>,
    /// Of a call: its number.
    number: Option<String>,
}

impl Found {
    fn of_number(&self, when: &dyn Fn(Option<i64>) -> String) -> String {
        let counted = |n: i64, what| text::counted(usize::try_from(n).unwrap_or_default(), what);
        let events = match self.events {
            0 => String::new(),
            n => format!(", and {} of calls without a record", counted(n, "live event")),
        };
        let calls = match self.calls {
            0 => "No call".to_owned(),
            1 => format!("1 call, at {}", when(self.from)),
            n => format!("{}, from {} to {}", counted(n, "call"), when(self.from), when(self.to)),
        };
        format!("{calls}{events}.")
    }
}

#[derive(Template)]
#[template(path = "delete.html", whitespace = "minimize")]
struct Ask {
    frame: Frame,
    form_token: String,
    call_id: Option<String>,
    phone_number: Option<String>,
    title: String,
    /// What goes, in a sentence.
    goes: String,
    nothing: bool,
    back: String,
    /// All of the call's number can be deleted there.
    of_number: Option<String>,
}

/// `GET /delete`
pub(super) async fn page(
    State(app): State<App>,
    admin: Admin,
    Query(what): Query<What>,
) -> Result<Response, Problem> {
    let which = what.which()?;
    let found = found(&app, which).await?;
    let zone = admin.reader.zone;
    let when = |at: Option<i64>| at.map_or(text::NOTHING.into(), |at| zone.day_and_time(at));
    let nothing = found.calls == 0 && found.events == 0;
    let (title, goes, back) = match which {
        Which::Number(number) => (
            format!("Delete everything of {number}?"),
            found.of_number(&when),
            links::calls(&[], &[("phone_number", number)]),
        ),
        Which::Call(id) => (
            "Delete this call?".to_owned(),
            format!(
                "The call of {} at {}.",
                found.number.as_deref().unwrap_or("an unknown number"),
                when(found.from)
            ),
            links::of_call(id),
        ),
        Which::Before(_) => return Err(Problem::NoCall),
    };
    let page = Ask {
        frame: admin.reader.frame("calls"),
        form_token: admin.form_token(),
        title,
        goes,
        nothing,
        back,
        of_number: match which {
            Which::Call(_) => {
                let number = found.number.as_deref().filter(|number| *number != "unknown");
                number.map(of_number)
            }
            _ => None,
        },
        call_id: what.call_id.clone(),
        phone_number: what.phone_number.clone(),
    };
    Ok(html(if nothing { StatusCode::NOT_FOUND } else { StatusCode::OK }, &page))
}

async fn found(app: &App, which: Which<'_>) -> Result<Found, StoreError> {
    let store = app.store();
    let bind = |sql: &mut Sql| {
        match which {
            Which::Call(id) => sql.push("call_id = ").bind(crate::call::text(id)),
            Which::Number(number) => sql.push("phone_number = ").bind(crate::call::text(number)),
            Which::Before(at) => sql.push("start_time < ").bind(at),
        };
    };
    let mut calls = Sql::new(
        store.dialect(),
        "SELECT count(*), min(start_time), max(start_time), min(phone_number) FROM calls WHERE ",
    );
    bind(&mut calls);
    let mut events = Sql::new(
        store.dialect(),
        "SELECT count(*) FROM events WHERE NOT EXISTS \
        (SELECT 1 FROM calls WHERE calls.call_id = events.call_id) AND events.",
    );
    bind(&mut events);
    let (calls, events) = (store.read(calls).await?, store.read(events).await?);
    let of = |at: usize| calls.first().and_then(|row| row.int(at));
    Ok(Found {
        calls: of(0).unwrap_or_default(),
        from: of(1),
        to: of(2),
        number: calls.first().and_then(|row| row.text(3)).map(str::to_owned),
        events: events.first().and_then(|row| row.int(0)).unwrap_or_default(),
    })
}

#[derive(Deserialize)]
pub(super) struct Sent {
    call_id: Option<String>,
    phone_number: Option<String>,
    form_token: String,
}

/// `POST /delete`
pub(super) async fn delete(
    State(app): State<App>,
    admin: Admin,
    OwnForm(sent): OwnForm<Sent>,
) -> Result<Response, Problem> {
    admin.check(&sent.form_token)?;
    let what = What { call_id: sent.call_id, phone_number: sent.phone_number };
    let deleted = deletion::on_request(&app, what.which()?).await?;
    Ok(Redirect::to(&format!("/deleted?calls={deleted}")).into_response())
}

#[derive(Deserialize)]
pub(super) struct Done {
    calls: Option<u32>,
}

#[derive(Template)]
#[template(path = "deleted.html", whitespace = "minimize")]
struct Deleted {
    frame: Frame,
    calls: String,
}

/// `GET /deleted`: what the form did. A page of its own, so that loading it again deletes nothing.
pub(super) async fn done(reader: Reader, Query(done): Query<Done>) -> Response {
    let calls = text::counted(done.calls.unwrap_or_default() as usize, "call");
    html(StatusCode::OK, &Deleted { frame: reader.frame("calls"), calls })
}
