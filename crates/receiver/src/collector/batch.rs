//! A batch of OTLP, taken apart by jobs: each with its facts, and with its own part of the batch as it was sent.
//!
//! An agent's process sends for one job as a rule, and then its part is the batch itself. Of a job whose agent asked for
//! redaction no log records with words go on from here.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Bytes;
use serde_json::{Map, Value as Json};

use super::{
    facts::Facts,
    logs::{self, Record},
    otlp::{self, At, Budget},
    otlp_json,
    spans::{self, cut, millis},
    wire::{self, Field},
};
use crate::call::text;

/// Jobs of a batch at most.
const MOST_JOBS: usize = 64;
/// Values that are read of a batch at most; the rest is only kept as it was sent.
const MOST_VALUES: usize = 400_000;
const MOST_SPANS: usize = 20_000;
/// Milliseconds since 1970: a time beyond the year 9999 is none. With it, no sum of two times overflows.
pub(super) const LATEST: i64 = 253_402_300_800_000;
const REDACTED: &str = "lk.redaction.enabled";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    Logs,
    Metrics,
}

impl Signal {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
        }
    }
}

/// Which job an upload is of. Either may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ids {
    /// The room's sid, `RM_…`.
    pub(super) room: String,
    /// `AJ_…`
    pub(super) job: String,
}

impl Ids {
    pub(super) fn new(room: &str, job: &str) -> Self {
        Self { room: text(room), job: text(job) }
    }
}

/// What a batch has of one job.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) room_name: Option<String>,
    pub(super) phone_number: Option<String>,
    pub(super) redacted: bool,
    /// The first and the last moment in it, by the agent's clock.
    pub(super) span: Option<(i64, i64)>,
    pub(super) facts: Facts,
    /// As it was sent; empty if none of it may be kept.
    pub(super) raw: Vec<u8>,
}

impl Part {
    pub(super) fn note_time(&mut self, at: i64) {
        if (1..LATEST).contains(&at) {
            let (from, to) = self.span.unwrap_or((at, at));
            self.span = Some((from.min(at), to.max(at)));
        }
    }
}

/// A batch as it was sent, unpacked.
pub(super) enum Batch {
    Protobuf(Signal, Bytes),
    /// Log records of Node.
    Json(Box<Json>),
}

impl Batch {
    /// `None`: nothing that can be read.
    pub(super) fn protobuf(signal: Signal, bytes: Bytes) -> Option<Self> {
        wire::is_message(&bytes).then_some(Self::Protobuf(signal, bytes))
    }

    /// All jobs in it, and whether their agent asks for redaction.
    pub(super) fn jobs(&mut self) -> BTreeMap<Ids, bool> {
        let mut all: BTreeMap<Ids, bool> = BTreeMap::new();
        let mut add = |ids: Ids, redacted: bool| {
            if all.len() < MOST_JOBS || all.contains_key(&ids) {
                *all.entry(ids).or_default() |= redacted;
            }
        };
        match self {
            Self::Protobuf(signal, bytes) => {
                for at in otlp::records(bytes) {
                    let (ids, redacted) = about(*signal, at);
                    add(ids, redacted);
                }
            }
            Self::Json(batch) => otlp_json::retain(batch, |resource, scope, record| {
                let levels = [record, scope, resource];
                let redacted = |json: &&Json| {
                    otlp_json::attribute(json, REDACTED)
                        .is_some_and(|value| value["boolValue"] == true)
                };
                add(ids_of_json(levels), levels.iter().any(redacted));
                true
            }),
        }
        all
    }

    /// What it has of each of the jobs. `redacted` are those whose words are not kept.
    pub(super) fn parts(
        &mut self,
        jobs: &BTreeSet<Ids>,
        redacted: &BTreeSet<Ids>,
    ) -> BTreeMap<Ids, Part> {
        let mut parts: BTreeMap<Ids, Part> =
            jobs.iter().map(|ids| (ids.clone(), Part::default())).collect();
        match self {
            Self::Protobuf(signal, bytes) => read_protobuf(*signal, bytes, &mut parts),
            Self::Json(batch) => read_json(batch, &mut parts),
        }
        for (ids, part) in &mut parts {
            if redacted.contains(ids) {
                part.redacted = true;
                part.facts.redact();
                (part.phone_number, part.room_name) = (None, None);
            }
            part.raw = self.raw_of(ids, part.redacted, jobs.len() == 1);
        }
        parts
    }

    fn raw_of(&self, ids: &Ids, redacted: bool, alone: bool) -> Vec<u8> {
        let is_log = !matches!(self, Self::Protobuf(Signal::Traces | Signal::Metrics, _));
        if redacted && is_log {
            return vec![];
        }
        match self {
            Self::Protobuf(_, bytes) if alone => bytes.to_vec(),
            Self::Protobuf(signal, bytes) => otlp::only(bytes, |at| about(*signal, at).0 == *ids),
            Self::Json(batch) => {
                let mut batch = batch.clone();
                if !alone {
                    otlp_json::retain(&mut batch, |resource, scope, record| {
                        ids_of_json([record, scope, resource]) == *ids
                    });
                }
                serde_json::to_vec(&batch).unwrap_or_default()
            }
        }
    }
}

/// The field of a record that has its attributes.
const fn attributes_of(signal: Signal) -> u32 {
    match signal {
        Signal::Traces => 9,
        Signal::Logs => 6,
        // A metric has none of its own that matter here.
        Signal::Metrics => 12,
    }
}

/// The job of a record, and whether its agent asks for redaction.
fn about(signal: Signal, at: At<'_>) -> (Ids, bool) {
    let record = match signal {
        Signal::Metrics => data_point(at.record),
        _ => Some((at.record, attributes_of(signal))),
    };
    let levels = [record, Some((at.scope, 3)), Some((at.resource, 1))];
    let (mut room, mut job, mut redacted) = ("", "", false);
    for (message, number) in levels.into_iter().flatten() {
        for (key, value) in otlp::attributes(message, number) {
            let text = || wire::field(value, 1).and_then(Field::text).unwrap_or_default();
            match key {
                "room_id" if room.is_empty() => room = text(),
                "job_id" if job.is_empty() => job = text(),
                REDACTED => redacted |= wire::field(value, 2) == Some(Field::Number(1)),
                _ => {}
            }
        }
    }
    (Ids::new(room, job), redacted)
}

/// The first data point of a metric, and the field of it that has its attributes.
fn data_point(metric: &[u8]) -> Option<(&[u8], u32)> {
    // Gauge, sum, histogram, exponential histogram, summary.
    const KINDS: [(u32, u32); 5] = [(5, 7), (7, 7), (9, 9), (10, 1), (11, 7)];
    KINDS.into_iter().find_map(|(kind, attributes)| {
        let data = wire::field(metric, kind)?.bytes()?;
        Some((wire::each(data, 1).next()?, attributes))
    })
}

fn read_protobuf(signal: Signal, batch: &[u8], parts: &mut BTreeMap<Ids, Part>) {
    let mut budget = Budget(MOST_VALUES);
    for at in otlp::records(batch) {
        let (ids, _) = about(signal, at);
        let Some(part) = parts.get_mut(&ids) else { continue };
        if budget.0 == 0 {
            return;
        }
        match signal {
            Signal::Traces => {
                let (number, room) = spans::about_call(at.record);
                note(&mut part.phone_number, number);
                note(&mut part.room_name, room);
                let span = spans::read(at, &mut budget);
                part.note_time(span.from);
                part.note_time(span.to);
                if part.facts.spans.len() < MOST_SPANS {
                    part.facts.spans.push(span);
                }
            }
            Signal::Logs => {
                note(&mut part.room_name, otlp::text(at.scope, 3, "room"));
                note(&mut part.room_name, otlp::text(at.record, 6, "lk.pii.room_name"));
                let record = log_record(at, &mut budget);
                part.note_time(record.at);
                logs::add(&mut part.facts, &record);
            }
            Signal::Metrics => {}
        }
    }
}

fn log_record(at: At<'_>, budget: &mut Budget) -> Record {
    let number = |n| wire::field(at.record, n).and_then(Field::number).unwrap_or_default();
    let body = wire::field(at.record, 5).and_then(Field::bytes).unwrap_or_default();
    let scope = wire::field(at.scope, 1).and_then(Field::text).unwrap_or_default();
    let time = if number(1) > 0 { number(1) } else { number(11) };
    let mut attributes = Map::new();
    if logs::has_words(scope) {
        for (key, value) in otlp::attributes(at.record, 6) {
            if budget.0 == 0 {
                break;
            }
            attributes.insert(key.to_owned(), otlp::json(value, budget));
        }
    }
    Record {
        scope: scope.to_owned(),
        at: millis(time),
        severity: i64::try_from(number(2)).unwrap_or_default(),
        body: otlp::json(body, budget).as_str().map(cut).unwrap_or_default(),
        attributes,
    }
}

fn read_json(batch: &mut Json, parts: &mut BTreeMap<Ids, Part>) {
    otlp_json::retain(batch, |resource, scope, record| {
        let Some(part) = parts.get_mut(&ids_of_json([record, scope, resource])) else {
            return true;
        };
        note(&mut part.room_name, otlp_json::text(scope, "room"));
        let name = scope["name"].as_str().unwrap_or_default();
        let time = |key| otlp_json::number(&record[key]).filter(|n| *n > 0);
        let nanos = time("timeUnixNano").or(time("observedTimeUnixNano")).unwrap_or_default();
        let mut attributes = Map::new();
        if logs::has_words(name) {
            for pair in record["attributes"].as_array().into_iter().flatten() {
                let key = pair["key"].as_str().unwrap_or_default();
                attributes.insert(key.to_owned(), otlp_json::plain(&pair["value"]));
            }
        }
        let record = Record {
            scope: name.to_owned(),
            at: millis(nanos.unsigned_abs()),
            severity: record["severityNumber"].as_i64().unwrap_or_default(),
            body: record["body"]["stringValue"].as_str().map(cut).unwrap_or_default(),
            attributes,
        };
        part.note_time(record.at);
        logs::add(&mut part.facts, &record);
        true
    });
}

fn ids_of_json(levels: [&Json; 3]) -> Ids {
    let text = |key| levels.iter().find_map(|json| otlp_json::text(json, key));
    Ids::new(text("room_id").unwrap_or_default(), text("job_id").unwrap_or_default())
}

fn note(to: &mut Option<String>, found: Option<&str>) {
    if let Some(found) = found.filter(|found| !found.is_empty() && to.is_none()) {
        *to = Some(text(found));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_cannot_be_are_none() {
        let mut part = Part::default();
        for at in [i64::MIN, -1, 0, LATEST, i64::MAX] {
            part.note_time(at);
            assert_eq!(part.span, None, "{at}");
        }
        part.note_time(LATEST - 1);
        part.note_time(1);
        assert_eq!(part.span, Some((1, LATEST - 1)));
    }
}
