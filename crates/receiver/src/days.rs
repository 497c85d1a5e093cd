//! The sums of whole days, so that figures over years do not read every call.
//!
//! Made in the background of days that are over; a database without them answers the same, only slower. A call that
//! comes or goes makes the sums of its day void: triggers of the tables delete them in the same transaction. So sums
//! that are there are true. The next look makes them anew.

use std::{sync::Arc, time::Duration};

use record::Moment;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    aggregate::{Aggregate, Columns, Parts},
    app::Now,
    deletion::{KEPT, numbers},
    histogram::Histogram,
    store::{Dialect, Row, Sql, Store, StoreError, Transaction, Value},
};

/// Milliseconds of a day of UTC.
pub(crate) const DAY: i64 = 24 * 60 * 60 * 1_000;
/// Calls of a day that is just over still arrive: it is summed up so long after its end.
const AFTER: i64 = 60 * 60 * 1_000;
/// Between two looks for days without sums.
const EVERY: Duration = Duration::from_secs(60);
/// Between two days: posts go first.
const PAUSE: Duration = Duration::from_millis(20);
/// Days of one look.
const SOME: i64 = 1_000;

/// Beginnings of days whose sums are kept, in their order.
pub(crate) type Summed = Vec<i64>;

/// Sums up days until the receiver stops.
pub(crate) async fn keep_summed(store: Arc<dyn Store>, now: Now, stopping: CancellationToken) {
    loop {
        let look = sum_up(&*store, now(), PAUSE);
        match stopping.run_until_cancelled(look).await {
            None => return,
            Some(Ok(0)) => {}
            Some(Ok(days)) => tracing::debug!(days, "days summed up"),
            Some(Err(e)) => tracing::warn!(error = %e, "days could not be summed up"),
        }
        if stopping.run_until_cancelled(sleep(EVERY)).await.is_none() {
            return;
        }
    }
}

/// Sums up all days that are over and have no sums. Returns their number.
///
/// # Errors
/// If the database did not do it.
pub async fn sum_up(store: &dyn Store, now: Moment, pause: Duration) -> Result<u64, StoreError> {
    let before = now.millis() - AFTER;
    let before = before - before.rem_euclid(DAY);
    let mut done = 0;
    loop {
        let days = without_sums(store, before).await?;
        for day in &days {
            sum_up_day(store, *day).await?;
            sleep(pause).await;
        }
        done += days.len() as u64;
        if days.len() < usize::try_from(SOME).unwrap_or_default() {
            return Ok(done);
        }
    }
}

/// Days that have calls and no sums. From each day one step of the index leads to the next one that has calls.
async fn without_sums(store: &dyn Store, before: i64) -> Result<Vec<i64>, StoreError> {
    let mut sql = Sql::new(
        store.dialect(),
        "WITH RECURSIVE days (day) AS (\
           SELECT min(start_time) - (min(start_time) % 86400000 + 86400000) % 86400000 FROM calls \
           UNION ALL \
           SELECT (SELECT min(start_time) - (min(start_time) % 86400000 + 86400000) % 86400000 \
                   FROM calls WHERE start_time >= days.day + 86400000) \
           FROM days WHERE days.day < ",
    );
    sql.bind(before).push(") SELECT day FROM days WHERE day < ").bind(before);
    sql.push(" AND NOT EXISTS (SELECT 1 FROM summed_days WHERE summed_days.day = days.day) LIMIT ");
    sql.bind(SOME);
    let rows = store.read(sql).await?;
    Ok(rows.iter().filter_map(|row| row.int(0)).collect())
}

async fn sum_up_day(store: &dyn Store, day: i64) -> Result<(), StoreError> {
    let dialect = store.dialect();
    let mut transaction = store.begin().await?;
    if dialect == Dialect::Postgres {
        // Waits for posts that are being kept, and lets others wait: no call of the day comes while it is read.
        transaction.execute(Sql::new(dialect, "LOCK TABLE calls IN SHARE MODE")).await?;
    }
    let mut mark = Sql::new(dialect, "INSERT INTO summed_days (day) VALUES (");
    mark.bind(day).push(") ON CONFLICT (day) DO NOTHING");
    if transaction.execute(mark).await? == 0 {
        // Another receiver was first.
        return Ok(());
    }
    let columns = Columns { fields: numbers().collect(), parts: Parts::ALL };
    let mut sql = Sql::new(dialect, "SELECT ");
    sql.list(KEPT);
    columns.push(&mut sql);
    sql.push(" FROM calls WHERE start_time >= ").bind(day);
    sql.push(" AND start_time < ").bind(day.saturating_add(DAY));
    sql.push(" GROUP BY ").list(KEPT);
    for row in transaction.read(sql).await? {
        keep(&mut *transaction, dialect, day, &row, &columns.read(&row, KEPT.len())).await?;
    }
    transaction.commit().await
}

/// `group`: begins with the values of [`KEPT`].
async fn keep(
    transaction: &mut dyn Transaction,
    dialect: Dialect,
    day: i64,
    group: &Row,
    all: &Aggregate,
) -> Result<(), StoreError> {
    let sums = serde_json::to_string(&all.sums)
        .map_err(|_| StoreError::Unexpected("a sum that is no number"))?;
    let mut sql = Sql::new(dialect, "INSERT INTO day_sums (start_time, ");
    sql.list(KEPT).push(", calls, sums, agent_responses, user_responses) VALUES (");
    let kept = (0..KEPT.len()).map(|at| Value::Text(group.text(at).map(str::to_owned)));
    let last = [
        i64::try_from(all.calls).unwrap_or(i64::MAX).into(),
        sums.into(),
        all.agent_responses.to_bytes().into(),
        all.user_responses.to_bytes().into(),
    ];
    sql.values([day.into()].into_iter().chain(kept).chain(last)).push(")");
    transaction.execute(sql).await?;
    Ok(())
}

/// The days of a time whose sums are kept.
pub(crate) async fn summed(
    store: &dyn Store,
    (from, to): (i64, i64),
) -> Result<Summed, StoreError> {
    let mut sql = Sql::new(store.dialect(), "SELECT day FROM summed_days WHERE day >= ");
    sql.bind(from).push(" AND day < ").bind(to).push(" ORDER BY day");
    let rows = store.read(sql).await?;
    Ok(rows.iter().filter_map(|row| row.int(0)).collect())
}

/// Appends the columns of `day_sums` that [`read`] reads, each with a comma before it.
pub(crate) fn push_columns(parts: Parts, sql: &mut Sql) {
    sql.push(", calls");
    for (wanted, column) in [
        (parts.sums, ", sums"),
        (parts.agent_responses, ", agent_responses"),
        (parts.user_responses, ", user_responses"),
    ] {
        sql.push(if wanted { column } else { "" });
    }
}

/// The aggregate of a row whose columns of [`push_columns`] begin at a place.
///
/// # Errors
/// If another program has written it.
pub(crate) fn read(row: &Row, mut at: usize, parts: Parts) -> Result<Aggregate, StoreError> {
    let unexpected = || StoreError::Unexpected("sums of a day");
    let calls = row.int(at).and_then(|n| u64::try_from(n).ok()).ok_or_else(unexpected)?;
    let mut all = Aggregate { calls, ..Aggregate::default() };
    if parts.sums {
        at += 1;
        let sums = row.text(at).and_then(|text| serde_json::from_str(text).ok());
        all.sums = sums.ok_or_else(unexpected)?;
    }
    for (wanted, histogram) in [
        (parts.agent_responses, &mut all.agent_responses),
        (parts.user_responses, &mut all.user_responses),
    ] {
        if wanted {
            at += 1;
            let bytes = row.bytes(at).and_then(Histogram::from_bytes);
            *histogram = bytes.ok_or_else(unexpected)?;
        }
    }
    Ok(all)
}
