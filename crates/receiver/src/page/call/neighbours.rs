//! The calls before and after a call, of the same number.

use serde_json::Value as Json;

use super::{
    super::{links, reader::Reader},
    moments::instant,
};
use crate::store::{Sql, Store, StoreError};

pub(super) struct Neighbour {
    pub(super) href: String,
    pub(super) when: String,
}

#[derive(Default)]
pub(super) struct Neighbours {
    pub(super) previous: Option<Neighbour>,
    pub(super) next: Option<Neighbour>,
    /// All calls of the number; only for readers that may see it, as the address holds it.
    pub(super) all: Option<String>,
}

/// # Errors
/// If the database did not do it.
pub(super) async fn of(
    store: &dyn Store,
    record: &Json,
    id: &str,
    reader: &Reader,
) -> Result<Neighbours, StoreError> {
    let number = record["phone_number"].as_str().filter(|number| *number != "unknown");
    let (Some(number), Some(start)) = (number, instant(&record["start_time"])) else {
        return Ok(Neighbours::default());
    };
    let find = async |compare: &'static str, order: &'static str| {
        let mut sql = Sql::new(
            store.dialect(),
            "SELECT call_id, start_time FROM calls WHERE phone_number = ",
        );
        sql.bind(crate::call::text(number)).push(" AND (start_time, call_id) ").push(compare);
        sql.push(" (").bind(start).push(", ").bind(id).push(")");
        sql.push(" ORDER BY start_time ").push(order).push(", call_id ").push(order);
        sql.push(" LIMIT 1");
        let rows = store.read(sql).await?;
        Ok::<_, StoreError>(rows.first().and_then(|row| {
            let when = reader.zone.day_and_time(row.int(1)?);
            Some(Neighbour { href: links::of_call(row.text(0)?), when })
        }))
    };
    Ok(Neighbours {
        previous: find("<", "DESC").await?,
        next: find(">", "ASC").await?,
        all: reader.numbers.then(|| links::calls(&[], &[("phone_number", number)])),
    })
}
