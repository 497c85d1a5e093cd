//! Statistics: figures over calls, by day, by field.
//!
//! The database adds up calls by hours, or by quarters of an hour where the time zone has such; days, weeks and hours of
//! the zone are formed from them here. Percentiles are those of all single responses, from the calls' histograms. Days
//! whose sums are kept ([`crate::days`]) are not read call by call.
//!
//! | file | its one idea |
//! |---|---|
//! | [`wanted`] | what is asked for |
//! | [`groups`] | to which group a row belongs |
//! | [`ranges`] | which days come as sums, and which times are read call by call |
//! | [`answer`] | the figures of a group, as JSON |

mod answer;
mod groups;
mod ranges;
mod wanted;

use serde_json::Value as Json;

pub use self::wanted::Wanted;
pub(crate) use self::wanted::{MOST_BY, MOST_OF, figures, groups as names_of_groups};
use self::{
    groups::Groups,
    ranges::{Plan, Range},
};
use crate::{
    aggregate::Columns,
    days, deletion,
    store::{Sql, Store, StoreError},
};

/// Half a day: the sums of a day count for the day of its noon.
const NOON: i64 = days::DAY / 2;

/// The result did not fit: too many groups.
#[derive(Debug)]
pub struct TooMany;

/// # Errors
/// If the database did not do it. `Ok(Err(…))`: there are too many groups.
pub async fn of(store: &dyn Store, wanted: &Wanted) -> Result<Result<Json, TooMany>, StoreError> {
    let mut groups = Groups::new(wanted);
    let bounds = ranges::of_query(wanted);
    let plan = match bounds {
        Some(bounds) => Plan::new(wanted, bounds, &days::summed(store, bounds).await?),
        None => Plan::by_calls(),
    };
    if !plan.days.is_empty() {
        add_days(store, wanted, &plan, &mut groups).await?;
    }
    for range in &plan.ranges {
        add_calls(store, wanted, *range, &mut groups).await?;
    }
    let whole_days = bounds.filter(|bounds| ranges::are_days(*bounds, wanted.tz));
    if let Some(bounds) = whole_days {
        add_deleted(store, wanted, bounds, &mut groups).await?;
    }
    if groups.are_too_many() {
        return Ok(Err(TooMany));
    }
    Ok(Ok(answer::json(wanted, whole_days.is_some(), groups.iter())))
}

/// Adds the sums of whole days.
async fn add_days(
    store: &dyn Store,
    wanted: &Wanted,
    plan: &Plan,
    groups: &mut Groups<'_>,
) -> Result<(), StoreError> {
    let (Some(first), Some(last)) = (plan.days.first(), plan.days.last()) else { return Ok(()) };
    let mut sql = Sql::new(store.dialect(), "SELECT start_time");
    for column in wanted.columns() {
        sql.push(", ").push(column);
    }
    let parts = wanted.parts();
    days::push_columns(parts, &mut sql);
    sql.push(" FROM day_sums WHERE ");
    // Its start_time is the beginning of the day. The plan says which days are whole.
    wanted.query.push_where_but("start_time", &mut sql);
    sql.push(" AND start_time >= ").bind(*first).push(" AND start_time <= ").bind(*last);
    let at = 1 + wanted.columns().count();
    let mut rows = store.stream(sql);
    while let Some(row) = rows.recv().await {
        let row = row?;
        let day = row.int(0).unwrap_or_default();
        if plan.days.contains(&day) {
            groups.add(&row, day.saturating_add(NOON), &days::read(&row, at, parts)?);
        }
        if groups.are_too_many() {
            break;
        }
    }
    Ok(())
}

/// Adds the calls of a time, one by one.
async fn add_calls(
    store: &dyn Store,
    wanted: &Wanted,
    range: Range,
    groups: &mut Groups<'_>,
) -> Result<(), StoreError> {
    let columns = Columns { fields: wanted.summed(), parts: wanted.parts() };
    let mut sql = wanted.select_parts_of_time(store.dialect());
    columns.push(&mut sql);
    sql.push(" FROM calls WHERE ");
    wanted.query.push_where(&mut sql);
    range.push(&mut sql);
    wanted.push_group_by(&mut sql);
    let at = 1 + wanted.columns().count();
    let mut rows = store.stream(sql);
    while let Some(row) = rows.recv().await {
        let row = row?;
        let instant = row.int(0).unwrap_or_default().saturating_mul(wanted.step);
        groups.add(&row, instant, &columns.read(&row, at));
        if groups.are_too_many() {
            break;
        }
    }
    Ok(())
}

/// Adds what stays of deleted calls: sums of days, of which nobody knows more.
async fn add_deleted(
    store: &dyn Store,
    wanted: &Wanted,
    (from, to): (i64, i64),
    groups: &mut Groups<'_>,
) -> Result<(), StoreError> {
    let mut sql = Sql::new(store.dialect(), "SELECT start_time");
    for column in wanted.columns() {
        sql.push(", ").push(column);
    }
    sql.push(", aggregate FROM deleted_days WHERE ");
    wanted.query.push_where_but("start_time", &mut sql);
    sql.push(" AND start_time >= ").bind(from.saturating_sub(NOON));
    sql.push(" AND start_time < ").bind(to.saturating_sub(NOON));
    let at = 1 + wanted.columns().count();
    let mut rows = store.stream(sql);
    while let Some(row) = rows.recv().await {
        let row = row?;
        let noon = row.int(0).unwrap_or_default().saturating_add(NOON);
        groups.add(&row, noon, &deletion::read(row.text(at))?);
    }
    Ok(())
}
