//! Live events in the database: kept once by call and sequence, also of calls whose record has not come yet.

use record::Moment;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use crate::{
    call::text,
    calls::{Kept, is_deleted},
    store::{Sql, Store, StoreError, Value},
};

/// An event as it is stored.
#[derive(Clone, Debug)]
pub struct Event {
    pub call_id: String,
    pub sequence: i64,
    /// Milliseconds since 1970.
    time: i64,
    event: String,
    phone_number: String,
    sha256: Vec<u8>,
    bytes: Vec<u8>,
}

impl Event {
    /// `event` has no mistakes; `bytes` are those that it was read from.
    pub fn of(event: &Json, bytes: &[u8]) -> Self {
        let text_of = |key: &str| event[key].as_str().unwrap_or_default();
        let sequence = event["sequence"].as_f64().unwrap_or_default();
        Self {
            call_id: text_of("call_id").into(),
            // The schema's largest is that of 32 bits.
            #[allow(clippy::cast_possible_truncation)]
            sequence: sequence as i64,
            time: Moment::parse_rfc3339(text_of("time")).unwrap_or_default().millis(),
            event: text(text_of("event")),
            phone_number: text(text_of("phone_number")),
            sha256: Sha256::digest(bytes).to_vec(),
            bytes: bytes.to_vec(),
        }
    }
}

/// Keeps an event. When it returns, the event is on disk.
///
/// # Errors
/// If the database did not do it; then nothing is kept.
pub async fn keep(
    store: &dyn Store,
    event: Event,
    received_at: Moment,
) -> Result<Kept, StoreError> {
    let dialect = store.dialect();
    let mut transaction = store.begin().await?;

    if is_deleted(&mut *transaction, dialect, &event.call_id).await? {
        return Ok(Kept::Deleted);
    }

    let mut insert = Sql::new(
        dialect,
        "INSERT INTO events \
         (call_id, sequence, received_at, time, event, phone_number, sha256, body) VALUES (",
    );
    insert.values::<Value>([
        event.call_id.as_str().into(),
        event.sequence.into(),
        received_at.millis().into(),
        event.time.into(),
        event.event.into(),
        event.phone_number.into(),
        event.sha256.clone().into(),
        event.bytes.into(),
    ]);
    insert.push(") ON CONFLICT (call_id, sequence) DO NOTHING");
    if transaction.execute(insert).await? > 0 {
        transaction.commit().await?;
        return Ok(Kept::Now);
    }
    let mut before = Sql::new(dialect, "SELECT sha256 FROM events WHERE call_id = ");
    before.bind(event.call_id).push(" AND sequence = ").bind(event.sequence);
    let before = transaction.read(before).await?;
    let same = before.first().and_then(|row| row.bytes(0)) == Some(event.sha256.as_slice());
    Ok(if same { Kept::Before } else { Kept::Other })
}

/// The events of a call in their order, as they were received.
///
/// # Errors
/// If the database did not do it.
pub async fn of_call(store: &dyn Store, call_id: &str) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut sql = Sql::new(store.dialect(), "SELECT body FROM events WHERE call_id = ");
    sql.bind(call_id).push(" ORDER BY sequence LIMIT 10000");
    let rows = store.read(sql).await?;
    Ok(rows.into_iter().filter_map(|row| row.into_bytes(0)).collect())
}
