//! What statistics say about the calls of one filter: all that the page shows of it is made from this.

use axum::http::StatusCode;
use serde_json::Value as Json;

use super::{
    super::{links::Pairs, problem::Problem, text, zone::Zone},
    period::{Period, Unit},
};
use crate::{
    answer::Refused,
    app::App,
    stats::{self, TooMany, Wanted},
};

const FIGURES: &str = "count,successful.avg,completion_rate.avg,agent_response.p50,agent_response.p95,\
                       interruption_count.sum,silence_count.sum,duration_seconds.sum";

/// A group of statistics: names and values.
#[derive(Clone, Debug, Default)]
pub(super) struct Group(Json);

impl Group {
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0[name].as_str()
    }

    pub(super) fn figure(&self, name: &str) -> Option<f64> {
        self.0[name].as_f64()
    }

    pub(super) fn count(&self) -> f64 {
        self.figure("count").unwrap_or_default()
    }

    /// A sum for each minute of the calls.
    pub(super) fn a_minute(&self, name: &str) -> Option<f64> {
        let minutes = self.figure("duration_seconds.sum").unwrap_or_default() / 60.0;
        (minutes > 0.0).then(|| self.figure(name).unwrap_or_default() / minutes)
    }
}

pub(super) struct Figures {
    pub(super) period: Period,
    pub(super) unit: Unit,
    pub(super) all: Group,
    pub(super) by_time: Vec<Group>,
    pub(super) by_time_and_status: Vec<Group>,
    pub(super) by_end: Vec<Group>,
    pub(super) by_business: Vec<Group>,
    pub(super) by_business_and_status: Vec<Group>,
    pub(super) by_hour: Vec<Group>,
}

impl Figures {
    pub(super) async fn of(
        app: &App,
        asked: &Pairs,
        zone: Zone,
        period: Period,
        unit: Unit,
    ) -> Result<Self, Problem> {
        let time_and_status = format!("{},status", unit.name());
        let ask = |by, of| ask(app, asked, zone, by, of);
        let (
            all,
            by_time,
            by_time_and_status,
            by_end,
            by_business,
            by_business_and_status,
            by_hour,
        ) = tokio::try_join!(
            ask("", FIGURES),
            ask(unit.name(), FIGURES),
            ask(&time_and_status, "count"),
            ask("status,termination_reason", "count"),
            ask("business_type", FIGURES),
            ask("business_type,status", "count"),
            ask("weekday,hour", "count"),
        )?;
        let all = all.into_iter().next().unwrap_or_default();
        Ok(Self {
            period,
            unit,
            all,
            by_time,
            by_time_and_status,
            by_end,
            by_business,
            by_business_and_status,
            by_hour,
        })
    }

    pub(super) fn of_status(&self, status: &str) -> f64 {
        let groups = self.by_end.iter().filter(|group| group.text("status") == Some(status));
        groups.map(Group::count).sum()
    }
}

async fn ask(
    app: &App,
    asked: &Pairs,
    zone: Zone,
    by: &str,
    of: &str,
) -> Result<Vec<Group>, Problem> {
    let mut pairs = asked.clone();
    pairs.push(("of".into(), of.into()));
    pairs.push(("tz".into(), zone.name().into()));
    if !by.is_empty() {
        pairs.push(("by".into(), by.into()));
    }
    let wanted = Wanted::parse(&pairs).map_err(Refused::bad_request)?;
    match stats::of(app.store(), &wanted).await? {
        Ok(mut answer) => Ok(match answer["groups"].take() {
            Json::Array(groups) => groups.into_iter().map(Group).collect(),
            _ => vec![],
        }),
        Err(TooMany) => {
            let problem = "too many groups: ask for a shorter time";
            Err(Refused::new(StatusCode::BAD_REQUEST, problem).into())
        }
    }
}

#[allow(clippy::cast_possible_truncation)]
pub(super) fn whole(n: f64) -> String {
    text::count(n as i64)
}

pub(super) fn part(value: Option<f64>) -> String {
    value.map_or(text::NOTHING.into(), text::percent)
}

pub(super) fn seconds(value: Option<f64>) -> String {
    value.map_or(text::NOTHING.into(), text::seconds)
}
