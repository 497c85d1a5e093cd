//! `…/observability/recordings/v0`: the report, the conversation and the sound of a session, at its end.
//!
//! The sound goes to its file as it arrives, once the header has said that it may be kept. Until then it waits in memory:
//! nothing of a redacted job touches the disk.

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use multer::{Constraints, Field, Multipart, SizeLimit};
use record::Moment;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use super::{
    batch::{Ids, LATEST, Part},
    facts::Facts,
    files::{Draft, Files},
    jobs::{self, Kept, Recording, Upload},
    logs,
    wire::{self, Field as Wire},
};
use crate::{
    call::text,
    store::{Store, StoreError},
};

/// Bytes of a recording that is kept: almost five hours at the rate that agents use.
pub(crate) const MAX_RECORDING: u64 = 256 * 1024 * 1024;
/// What a body may have in all; what is too much is read and thrown away, as an agent that is still sending reads no
/// answer.
const MOST_BODY: u64 = 8 * MAX_RECORDING;
const MOST_HEADER: usize = 1024 * 1024;
const MOST_CHAT: usize = 16 * 1024 * 1024;
/// Bytes of sound that wait for the header. Agents send the header first.
const MOST_WAITING: usize = 32 * 1024 * 1024;

/// Why a recording is not kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// Sent again it would be the same.
    #[error("it cannot be read: {0}")]
    Unreadable(&'static str),
    #[error(transparent)]
    Disk(#[from] std::io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The agent has gone, or the connection.
    #[error("it broke off")]
    BrokeOff,
}

/// What the header of a recording says.
#[derive(Debug, Default)]
pub(super) struct Header {
    pub(super) ids: Ids,
    /// Milliseconds since 1970: the moment of the first sample.
    pub(super) started_at: i64,
    redacted: bool,
    summary: Json,
    bytes: Vec<u8>,
}

impl Header {
    /// `livekit.MetricsRecordingHeader`
    fn read(bytes: Vec<u8>) -> Option<Self> {
        if !wire::is_message(&bytes) {
            return None;
        }
        let text = |n| wire::field(&bytes, n).and_then(Wire::text).unwrap_or_default();
        let time = wire::field(&bytes, 4).and_then(Wire::bytes).unwrap_or_default();
        let part = |n| wire::field(time, n).and_then(Wire::number).unwrap_or_default();
        let started_at =
            part(1).saturating_mul(1_000).saturating_add(part(2).min(999_999_999) / 1_000_000);
        let summary: Json = serde_json::from_str(text(11)).unwrap_or_default();
        let ids = Ids::new(text(1), text(8));
        let in_summary = summary["options"]["recording_options"]["redaction"] == true;
        let redacted = in_summary || wire::field(&bytes, 10) == Some(Wire::Number(1));
        let started_at =
            i64::try_from(started_at).ok().filter(|at| *at < LATEST).unwrap_or_default();
        (!ids.room.is_empty() || !ids.job.is_empty()).then_some(Self {
            ids,
            started_at,
            redacted,
            summary,
            bytes,
        })
    }
}

/// The sound while it arrives.
enum Sound {
    None,
    Waiting(Vec<u8>),
    File(Box<Writing>),
    /// Too large, or of a redacted job.
    Dropped,
}

struct Writing {
    draft: Draft,
    sha256: Sha256,
    bytes: u64,
}

impl Writing {
    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.sha256.update(bytes);
        self.bytes += bytes.len() as u64;
        self.draft.write(bytes).await
    }
}

/// Where it goes.
pub(super) struct To<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) files: &'a Files,
    pub(super) received_at: Moment,
    /// Bytes of sound.
    pub(super) most: u64,
}

/// What a body has brought so far.
struct Arriving<'a> {
    to: To<'a>,
    header: Option<Header>,
    chat: Vec<u8>,
    sound: Sound,
    content_type: &'static str,
    /// The disk does not take it. The rest is read all the same: an agent that is still sending reads no answer.
    failed: Option<Failed>,
}

/// Reads a body and keeps what is in it. When it returns, that is on disk.
///
/// # Errors
/// If it cannot be read, or not be kept.
pub(super) async fn keep(to: To<'_>, headers: &HeaderMap, body: Body) -> Result<Kept, Failed> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let boundary = multer::parse_boundary(content_type.unwrap_or_default())
        .map_err(|_| Failed::Unreadable("no multipart form"))?;
    let limit = SizeLimit::new().whole_stream(MOST_BODY);
    let constraints = Constraints::new().size_limit(limit);
    let mut parts = Multipart::with_constraints(body.into_data_stream(), boundary, constraints);
    let mut arriving = Arriving {
        to,
        header: None,
        chat: vec![],
        sound: Sound::None,
        content_type: "application/octet-stream",
        failed: None,
    };
    while let Some(field) = parts.next_field().await.map_err(broken)? {
        arriving.take(field).await?;
    }
    arriving.finish().await
}

fn broken(e: multer::Error) -> Failed {
    match e {
        multer::Error::StreamReadFailed(_) => Failed::BrokeOff,
        multer::Error::StreamSizeExceeded { .. } => Failed::Unreadable("too large"),
        _ => Failed::Unreadable("no multipart form"),
    }
}

impl Arriving<'_> {
    async fn take(&mut self, mut field: Field<'_>) -> Result<(), Failed> {
        match field.name() {
            Some("header") if self.header.is_none() => {
                let bytes = whole(field, MOST_HEADER).await?;
                if let Some(mut header) = bytes.and_then(Header::read) {
                    let ids = std::iter::once(&header.ids);
                    match jobs::redacted(self.to.store, ids).await {
                        Ok(redacted) => header.redacted |= !redacted.is_empty(),
                        Err(e) => self.fail(e.into()),
                    }
                    self.header = Some(header);
                    self.header_is_here().await;
                }
            }
            Some("chat_history") => self.chat = whole(field, MOST_CHAT).await?.unwrap_or_default(),
            Some("audio") if matches!(self.sound, Sound::None) => {
                self.content_type = known_type(field.content_type().map(|t| t.essence_str()));
                self.sound = Sound::Waiting(vec![]);
                self.header_is_here().await;
                while let Some(bytes) = field.chunk().await.map_err(broken)? {
                    self.sound(&bytes).await;
                }
            }
            _ => while field.chunk().await.map_err(broken)?.is_some() {},
        }
        Ok(())
    }

    fn fail(&mut self, e: Failed) {
        self.sound = Sound::Dropped;
        self.failed.get_or_insert(e);
    }

    /// Sound that waits for the header may go on.
    async fn header_is_here(&mut self) {
        let Some(header) = &self.header else { return };
        if header.redacted || self.failed.is_some() {
            self.sound = Sound::Dropped;
            return;
        }
        let Sound::Waiting(bytes) = &mut self.sound else { return };
        let bytes = std::mem::take(bytes);
        match self.to.files.begin(self.to.received_at, end_of(self.content_type)).await {
            Ok(draft) => {
                let writing = Writing { draft, sha256: Sha256::new(), bytes: 0 };
                self.sound = Sound::File(Box::new(writing));
                self.sound(&bytes).await;
            }
            Err(e) => self.fail(e.into()),
        }
    }

    async fn sound(&mut self, bytes: &[u8]) {
        match &mut self.sound {
            Sound::Waiting(waiting) if waiting.len() + bytes.len() <= MOST_WAITING => {
                waiting.extend_from_slice(bytes);
            }
            Sound::File(writing) if writing.bytes + bytes.len() as u64 <= self.to.most => {
                if let Err(e) = writing.write(bytes).await {
                    self.fail(e.into());
                }
            }
            Sound::Waiting(_) | Sound::File(_) => {
                tracing::warn!("a recording is too large and is not kept");
                self.sound = Sound::Dropped;
            }
            Sound::None | Sound::Dropped => {}
        }
    }

    async fn finish(self) -> Result<Kept, Failed> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        let header = self.header.ok_or(Failed::Unreadable("no header"))?;
        let uploads = uploads(&header, self.chat);
        let recording = match self.sound {
            Sound::File(writing) if writing.bytes > 0 => {
                let Writing { draft, sha256, bytes } = *writing;
                Some(Recording {
                    started_at: header.started_at,
                    bytes,
                    sha256: sha256.finalize().to_vec(),
                    content_type: self.content_type,
                    file: draft.finish().await?,
                })
            }
            _ => None,
        };
        let file = recording.as_ref().map(|recording| recording.file.clone());
        let kept = jobs::keep(self.to.store, uploads, recording, self.to.received_at).await;
        if let Some(file) = file
            && (kept.is_err() || !jobs::has_file(self.to.store, &file).await?)
        {
            // It was there before, or its call was deleted.
            self.to.files.remove(&file).await?;
        }
        Ok(kept?)
    }
}

/// What the database keeps of a recording.
fn uploads(header: &Header, chat: Vec<u8>) -> Vec<Upload> {
    let upload = |kind, facts, raw: Vec<u8>| {
        let sha256 = jobs::digest(&raw);
        let mut part = Part { redacted: header.redacted, facts, raw, ..Part::default() };
        part.note_time(header.started_at);
        if header.redacted {
            part.facts.redact();
            part.raw.clear();
        } else {
            part.room_name = header.summary["room"].as_str().map(text);
        }
        Upload { ids: header.ids.clone(), kind, part, sha256 }
    };
    let mut facts = Facts::default();
    if header.summary.is_object() {
        facts.report = Some(logs::summary(&header.summary));
    }
    let mut all = vec![upload("header", facts, header.bytes.clone())];
    if !header.redacted && !chat.is_empty() {
        let items = serde_json::from_slice::<Json>(&chat).map(|chat| logs::history(&chat));
        let facts = Facts { items: items.unwrap_or_default(), ..Facts::default() };
        all.push(upload("chat", facts, chat));
    }
    all
}

/// A part as a whole; `None` if it is too large.
async fn whole(mut field: Field<'_>, most: usize) -> Result<Option<Vec<u8>>, Failed> {
    let mut all = vec![];
    let mut fits = true;
    while let Some(bytes) = field.chunk().await.map_err(broken)? {
        fits &= all.len() + bytes.len() <= most;
        if fits {
            all.extend_from_slice(&bytes);
        }
    }
    Ok(fits.then_some(all))
}

/// Types of sound that browsers play. Whatever else it says is passed on as bytes.
fn known_type(said: Option<&str>) -> &'static str {
    const KNOWN: [&str; 6] =
        ["audio/ogg", "audio/wav", "audio/mpeg", "audio/mp4", "audio/webm", "audio/flac"];
    let known = KNOWN.into_iter().find(|known| Some(*known) == said);
    known.unwrap_or("application/octet-stream")
}

fn end_of(content_type: &str) -> &'static str {
    match content_type {
        "audio/ogg" => "ogg",
        "audio/wav" => "wav",
        "audio/mpeg" => "mp3",
        "audio/mp4" => "m4a",
        "audio/webm" => "webm",
        "audio/flac" => "flac",
        _ => "bin",
    }
}
