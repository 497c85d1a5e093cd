//! `GET /api/calls.parquet`: all calls of a query as a Parquet file, with the columns of the CSV and their types.
//!
//! Streamed: some thousand calls are a row group, which is sent before the next one is read.

use std::{
    io::{self, Write},
    sync::Arc,
};

use axum::{
    body::Bytes,
    extract::{Query as Pairs, State},
    http::HeaderMap,
    response::Response,
};
use futures_util::stream;
use parking_lot::Mutex;
use parquet::{
    basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical},
    data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type},
    errors::ParquetError,
    file::{
        properties::WriterProperties,
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    schema::types::Type,
};

use super::pages::{Pages, answer, failed, pages};
use crate::{
    answer::Refused,
    api::shared::Parameters,
    app::App,
    calls::Listed,
    fields::{FIELDS, Field, Kind},
    store::{StoreError, Value},
};

/// Calls of a row group: some megabytes.
const GROUP: usize = 5_000;

/// `GET /api/calls.parquet`
pub async fn parquet(
    State(app): State<App>,
    headers: HeaderMap,
    Pairs(pairs): Parameters,
) -> Result<Response, Refused> {
    let pages = pages(&app, &headers, &pairs).await?;
    let file = File::new().map_err(|_| unexpected())?;
    let parts = stream::unfold((pages, Some(file)), |(mut pages, file)| async move {
        let file = file?;
        match part(&mut pages, file).await {
            Ok((bytes, file)) => Some((Ok(bytes), (pages, file))),
            Err(e) => Some((Err(failed(e)), (pages, None))),
        }
    });
    Ok(answer("application/vnd.apache.parquet", "attachment; filename=\"calls.parquet\"", parts))
}

fn unexpected() -> StoreError {
    StoreError::Unexpected("a table that cannot be written as Parquet")
}

/// The bytes of the next row group; of the file's end, and no file, after the last one.
async fn part(pages: &mut Pages, mut file: File) -> Result<(Bytes, Option<File>), StoreError> {
    let mut calls: Vec<Listed> = vec![];
    while calls.len() < GROUP {
        let page = pages.next().await?;
        if page.is_empty() {
            break;
        }
        calls.extend(page);
    }
    let written = tokio::task::spawn_blocking(move || {
        if calls.is_empty() {
            return file.end().map(|bytes| (bytes, None));
        }
        let bytes = file.add(&calls)?;
        Ok((bytes, Some(file)))
    });
    written.await.ok().and_then(Result::ok).ok_or_else(unexpected)
}

struct File {
    writer: SerializedFileWriter<Buffer>,
    written: Buffer,
}

impl File {
    fn new() -> Result<Self, ParquetError> {
        let columns = FIELDS.iter().map(|field| Ok(Arc::new(column(field)?)));
        let columns = columns.collect::<Result<Vec<_>, ParquetError>>()?;
        let schema = Type::group_type_builder("calls").with_fields(columns).build()?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let written = Buffer::default();
        let writer =
            SerializedFileWriter::new(written.clone(), Arc::new(schema), Arc::new(properties))?;
        Ok(Self { writer, written })
    }

    /// Adds a row group, and returns the bytes since the last one.
    fn add(&mut self, calls: &[Listed]) -> Result<Bytes, ParquetError> {
        let mut group = self.writer.next_row_group()?;
        let mut at = 0;
        while let Some(mut column) = group.next_column()? {
            let values = calls.iter().map(|call| call.values().get(at));
            if let Some(field) = FIELDS.get(at) {
                write(&mut column, field.kind, values)?;
            }
            column.close()?;
            at += 1;
        }
        group.close()?;
        self.writer.flush()?;
        Ok(self.written.take())
    }

    fn end(self) -> Result<Bytes, ParquetError> {
        self.writer.close()?;
        Ok(self.written.take())
    }
}

fn column(field: &Field) -> Result<Type, ParquetError> {
    let (physical, logical) = match field.kind {
        Kind::Text | Kind::Choice(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::Time => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MILLIS))),
        Kind::Count => (Physical::INT64, None),
        Kind::Number => (Physical::DOUBLE, None),
        Kind::Truth => (Physical::BOOLEAN, None),
    };
    Type::primitive_type_builder(field.name, physical)
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(logical)
        .build()
}

/// Writes a column. What has no value is only counted.
fn write<'a>(
    column: &mut SerializedColumnWriter<'_>,
    kind: Kind,
    values: impl Iterator<Item = Option<&'a Value>>,
) -> Result<(), ParquetError> {
    let values = values.map(|value| value.unwrap_or(&Value::Int(None)));
    let done = match kind {
        Kind::Text | Kind::Choice(_) => {
            let (present, all) = split(values, |value| match value {
                Value::Text(Some(text)) => Some(ByteArray::from(text.as_str())),
                _ => None,
            });
            column.typed::<ByteArrayType>().write_batch(&all, Some(&present), None)
        }
        Kind::Time | Kind::Count => {
            let (present, all) = split(values, whole);
            column.typed::<Int64Type>().write_batch(&all, Some(&present), None)
        }
        Kind::Number => {
            let (present, all) = split(values, |value| match value {
                Value::Real(n) => *n,
                #[allow(clippy::cast_precision_loss)]
                other => whole(other).map(|n| n as f64),
            });
            column.typed::<DoubleType>().write_batch(&all, Some(&present), None)
        }
        Kind::Truth => {
            let (present, all) = split(values, |value| whole(value).map(|n| n != 0));
            column.typed::<BoolType>().write_batch(&all, Some(&present), None)
        }
    };
    done.map(drop)
}

fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Int(n) => *n,
        _ => None,
    }
}

/// For each row whether it has a value (1 or 0), and the values that there are.
fn split<'a, T>(
    values: impl Iterator<Item = &'a Value>,
    read: impl Fn(&Value) -> Option<T>,
) -> (Vec<i16>, Vec<T>) {
    let (mut present, mut all) = (vec![], vec![]);
    for value in values {
        let value = read(value);
        present.push(i16::from(value.is_some()));
        all.extend(value);
    }
    (present, all)
}

/// Bytes that were written and not sent yet.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn take(&self) -> Bytes {
        std::mem::take(&mut *self.0.lock()).into()
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use parquet::{
        file::reader::{FileReader, SerializedFileReader},
        record::Field as Cell,
    };
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::{Receiver, Settings, store::Place};

    /// More calls than a row group, read again by another reader, are those of the list.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_file_has_all_calls_with_their_types() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(Place::folder(folder.path()));
        settings.addr.set_port(0);
        let receiver = Receiver::start(settings).await.unwrap();
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = |path: &str| format!("http://127.0.0.1:{}{path}", receiver.addr().port());
        let text = include_str!("../../../../../docs/schema/example.json");
        let mut record: Json = serde_json::from_str(text).unwrap();
        let calls = GROUP + 3;
        let mut posts = tokio::task::JoinSet::new();
        for n in 0..calls {
            record["call_id"] = format!("{n:05}").into();
            record["metrics"]["silence_count"] = n.into();
            record["outcomes"]["successful"] = [json!(true), Json::Null][n % 2].clone();
            let post = client.post(url("/call-history")).body(record.to_string()).send();
            posts.spawn(async move { assert_eq!(post.await.unwrap().status(), 200) });
            if posts.len() > 60 {
                posts.join_next().await.unwrap().unwrap();
            }
        }
        posts.join_all().await;

        let file = client.get(url("/api/calls.parquet")).send().await.unwrap();
        assert_eq!(file.headers()["content-type"], "application/vnd.apache.parquet");
        let reader = SerializedFileReader::new(file.bytes().await.unwrap()).unwrap();
        assert_eq!(reader.metadata().num_row_groups(), 2);
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows.len(), calls);
        // All begin at the same time: the greatest id is the first.
        let first = |name: &str| {
            let mut columns = rows[0].get_column_iter();
            columns.find(|(column, _)| *column == name).map(|(_, value)| value.clone()).unwrap()
        };
        let n = calls - 1;
        assert_eq!(first("call_id"), Cell::Str(format!("{n:05}")));
        assert_eq!(first("silence_count"), Cell::Long(n as i64));
        assert_eq!(first("duration_seconds"), Cell::Double(342.123));
        assert_eq!(first("start_time"), Cell::TimestampMillis(1_695_220_200_000));
        assert_eq!(first("successful"), [Cell::Bool(true), Cell::Null][n % 2]);
        assert_eq!(first("termination_reason"), Cell::Null);
        let columns = reader.metadata().file_metadata().schema().get_fields();
        let names: Vec<&str> = columns.iter().map(|column| column.name()).collect();
        assert!(names.iter().copied().eq(FIELDS.iter().map(|field| field.name)));

        let none = client.get(url("/api/calls.parquet?call_id=nobody")).send().await.unwrap();
        let reader = SerializedFileReader::new(none.bytes().await.unwrap()).unwrap();
        assert_eq!(reader.metadata().file_metadata().num_rows(), 0);
    }
}
