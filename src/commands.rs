//! Commands that need no server: `replay`, `schema`, `outbox`.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use call::explain;
use store::{
    Outbox,
    disk::{DiskHealth, RealDisk},
    health::Health,
    journal,
};

use crate::{
    config::{DotEnv, Source},
    outbox,
};

/// Prints the record of each journal, one per line, or the explanation of its numbers.
pub(crate) fn replay(files: &[PathBuf], explained: bool, details: bool) -> ExitCode {
    let mut out = io::stdout().lock();
    let mut failed = false;
    for path in files {
        match replay_one(path, explained, details) {
            Ok(text) => {
                if writeln!(out, "{text}").is_err() {
                    // The reader of the output is gone.
                    return ExitCode::FAILURE;
                }
            }
            Err(e) => {
                failed = true;
                print_error(&format!("{}: {e}", path.display()));
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn replay_one(path: &Path, explained: bool, details: bool) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
    let mut journal = journal::read(&bytes)?;
    journal.header.settings.details |= details;
    if let Some(torn) = &journal.torn {
        print_error(&format!("{}: cut off at {torn}", path.display()));
    }
    let (call, whole) = journal::replay_to_end(&journal);
    if call.opted_out() {
        return Err("somebody opted out of being recorded: no record".into());
    }
    if !whole {
        print_error(&format!("{}: the call had not ended; shown as it stands", path.display()));
    }
    let (record, measured) =
        call.explained().ok_or("no caller was ever there: no call, no record")?;
    if explained {
        return Ok(explain::text(&record, &measured));
    }
    serde_json::to_string(&record).map_err(|e| e.to_string())
}

/// Runs the operator's commands on the data folder.
pub(crate) fn outbox(command: outbox::Command, dot_env: &DotEnv) -> ExitCode {
    let dir = Source::from_process(dot_env).data_dir();
    let health = DiskHealth::new(&dir, Health::default());
    let records = Outbox::at(Arc::new(RealDisk), health, &dir);
    match outbox::run(command, &records, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            if !e.is_empty() {
                print_error(&e);
            }
            ExitCode::FAILURE
        }
    }
}

/// Prints the JSON Schema of a record or of a live event, made from its types.
pub(crate) fn schema(events: bool) -> ExitCode {
    let schema = if events { record::event_schema() } else { record::schema() };
    let text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Prints a text that is made at once.
pub(crate) fn print(text: &[u8]) -> ExitCode {
    match io::stdout().write_all(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Prints an error to stderr, for commands without a log and for errors before the log is set up.
#[allow(clippy::print_stderr)]
pub(crate) fn print_error(text: &str) {
    eprintln!("call-history: {text}");
}
