//! `GET /numbers`: figures over the calls of a filter, or of two beside each other. Bars and points lead to the calls
//! behind them.
//!
//! | file | its one idea |
//! |---|---|
//! | [`filters`] | which filters: one, or one and another |
//! | [`period`] | the period, and its days, weeks or months |
//! | [`figures`] | what statistics say |
//! | [`headlines`] | the few numbers on top |
//! | [`plots`] | the charts over time |
//! | [`tables`] | how calls ended; business types |
//! | [`hours`] | the map of hours |

mod figures;
mod filters;
mod headlines;
mod hours;
mod period;
mod plots;
mod tables;

use askama::Template;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};

use self::{
    figures::Figures,
    filters::Filters,
    headlines::{Compared, Headline},
    hours::Hours,
    period::{DAY, Period, Unit},
    plots::{Drawn, Most, Plots},
    tables::{Business, Ending},
};
use super::{
    filter::Filter,
    frame::{Frame, html},
    links::{self, Pairs},
    problem::Problem,
    reader::Reader,
};
use crate::{app::App, query::Query as Calls};

/// All that is shown of one filter.
struct Side {
    /// For ids in the page.
    id: &'static str,
    /// The filter in words; empty if there is only one.
    title: String,
    period: String,
    /// The list of its calls.
    calls: String,
    drawn: Drawn,
    endings: Vec<Ending>,
    businesses: Vec<Business>,
    hours: Hours,
    empty: bool,
}

#[derive(Template)]
#[template(path = "numbers.html", whitespace = "minimize")]
struct Page {
    frame: Frame,
    filter: Filter,
    unit: &'static str,
    /// One or two; none if the filter cannot be read.
    sides: Vec<Side>,
    /// If there is one filter.
    headlines: Vec<Headline>,
    /// If there are two.
    compared: Vec<Compared>,
    /// Other ways to compare, with their names.
    ways: Vec<(&'static str, String)>,
    wrong: bool,
}

pub(super) async fn page(
    State(app): State<App>,
    reader: Reader,
    Query(pairs): Query<Pairs>,
) -> Result<Response, Problem> {
    if let Some(address) = links::without_empty("/numbers", &pairs) {
        return Ok(Redirect::to(&address).into_response());
    }
    let filters = Filters::of(pairs, app.now(), reader.zone);
    let mut mistakes = vec![];
    for (prefix, pairs) in filters.with_prefixes() {
        let asked = reader.zone.for_api(pairs);
        let mut more = Calls::parse(&asked, &[]).err().unwrap_or_default();
        more.extend(reader.forbidden(&asked));
        for mistake in &mut more {
            mistake.path.insert_str(0, prefix);
        }
        mistakes.extend(more);
    }
    let filter = Filter::new(app.store(), "/numbers", &filters.pairs(), &mistakes, &reader).await?;
    let mut page = Page {
        frame: reader.frame("numbers"),
        filter,
        unit: "day",
        sides: vec![],
        headlines: vec![],
        compared: vec![],
        ways: vec![],
        wrong: !mistakes.is_empty(),
    };
    if page.wrong {
        return Ok(html(StatusCode::BAD_REQUEST, &page));
    }
    page.fill(&app, reader, &filters).await?;
    Ok(html(StatusCode::OK, &page))
}

impl Page {
    async fn fill(&mut self, app: &App, reader: Reader, filters: &Filters) -> Result<(), Problem> {
        let zone = reader.zone;
        let mut periods = vec![];
        for (_, pairs) in filters.with_prefixes() {
            periods.push(Period::of(app.store(), &zone.for_api(pairs), app.now()).await?);
        }
        // Both are drawn by the same unit and to the same scale.
        let longest = periods.iter().map(|period| period.length()).max().unwrap_or(DAY);
        let unit = Unit::for_days(longest / DAY);
        self.unit = unit.name();
        let (mut all, mut most, mut headlines) = (vec![], Most::default(), vec![]);
        for ((_, pairs), period) in filters.with_prefixes().into_iter().zip(&periods) {
            let figures = Figures::of(app, &zone.for_api(pairs), zone, *period, unit).await?;
            let plots = Plots::of(pairs, &figures, zone);
            most = most.or(plots.most());
            headlines.push(headlines::of(pairs, &figures));
            all.push((pairs, figures, plots));
        }
        let titles = filters.titles();
        for (((pairs, figures, plots), title), id) in all.into_iter().zip(titles).zip(["a", "b"]) {
            let Period { from, to } = figures.period;
            self.sides.push(Side {
                id,
                title,
                period: format!("{} to {}", zone.day(from), zone.day(to - 1)),
                calls: links::with_query("/calls", pairs),
                drawn: plots.drawn(most),
                endings: tables::endings(pairs, &figures),
                businesses: tables::businesses(pairs, &figures),
                hours: hours::of(pairs, &figures, zone),
                empty: figures.all.count() == 0.0,
            });
        }
        match (headlines.pop(), headlines.pop()) {
            (Some(second), Some(first)) => self.compared = headlines::compared(first, second),
            (Some(only), None) => self.headlines = only,
            _ => {}
        }
        self.ways = filters.ways(periods.first().copied());
        Ok(())
    }
}
