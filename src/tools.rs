//! Commands that need no server: `replay`, `schema`, `outbox`.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use crate::{
    call::{Call, CallHistory, explain},
    complain,
    config::Source,
    delivery::{Outbox, operator},
    disk::{DiskHealth, RealDisk},
    health::Health,
    journal::{self, Journal},
};

/// Prints the record of each journal, a line each, or what made its numbers.
pub(crate) fn replay(files: &[PathBuf], explained: bool, details: bool) -> ExitCode {
    let mut out = io::stdout().lock();
    let mut failed = false;
    for path in files {
        match one(path, explained, details) {
            Ok(text) => {
                if writeln!(out, "{text}").is_err() {
                    // Nobody reads any more.
                    return ExitCode::FAILURE;
                }
            }
            Err(e) => {
                failed = true;
                complain(&format!("{}: {e}", path.display()));
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn one(path: &Path, explained: bool, details: bool) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
    let mut replay = Replay::read(&bytes)?;
    replay.journal.header.settings.details |= details;
    if let Some(torn) = &replay.journal.torn {
        complain(&format!("{}: cut off at {torn}", path.display()));
    }
    let (call, whole) = journal::told(&replay.journal);
    if call.opted_out() {
        return Err("somebody opted out of being recorded: no record".into());
    }
    if !whole {
        complain(&format!("{}: the call had not ended; told as it stands", path.display()));
    }
    let (record, measured) =
        call.explained().ok_or("no caller was ever there: no call, no record")?;
    if explained {
        return Ok(explain::text(&record, &measured));
    }
    serde_json::to_string(&record).map_err(|e| e.to_string())
}

/// Seals records, for the benchmark.
pub struct Sealer(Outbox);

impl Sealer {
    /// # Errors
    /// If the folder cannot be used.
    pub fn open(dir: &Path) -> Result<Self, String> {
        let health = DiskHealth::new(dir, Health::default());
        Outbox::open(Arc::new(RealDisk), health, dir).map(Self).map_err(|e| e.to_string())
    }

    /// # Errors
    /// If it is not safe on disk now.
    pub fn seal(&self, id: &str, body: &[u8]) -> Result<(), String> {
        self.0.seal(id, body).map_err(|e| e.to_string())
    }
}

/// A journal to be told again, for the benchmark and the fuzzer.
pub struct Replay {
    journal: Journal,
}

/// A call that was told.
pub struct Told {
    call: Call,
}

impl Replay {
    /// # Errors
    /// If the bytes do not begin as a journal does.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        Ok(Self { journal: journal::read(bytes)? })
    }

    /// Events that could be read.
    pub fn events(&self) -> usize {
        self.journal.events.len()
    }

    /// Takes all events.
    pub fn tell(&self) -> Told {
        Told { call: journal::told(&self.journal).0 }
    }
}

impl Told {
    /// The record, as it would be posted.
    pub fn record(&self) -> Option<String> {
        serde_json::to_string(&self.call.record()?).ok()
    }

    /// What made its numbers.
    pub fn explanation(&self) -> Option<String> {
        let (record, measured) = self.call.explained()?;
        Some(explain::text(&record, &measured))
    }
}

/// The operator's commands on the data folder.
pub(crate) fn outbox(command: operator::Command) -> ExitCode {
    let dir = Source::from_process().data_dir();
    let health = DiskHealth::new(&dir, Health::default());
    let outbox = Outbox::at(Arc::new(RealDisk), health, &dir);
    match operator::run(command, &outbox, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            if !e.is_empty() {
                complain(&e);
            }
            ExitCode::FAILURE
        }
    }
}

/// The schema of what is posted, from the types that it is made of.
pub(crate) fn schema() -> ExitCode {
    let schema = schemars::generate::SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<CallHistory>();
    let text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
