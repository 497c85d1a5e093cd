//! `call-history outbox …`: shows records and moves them, whether the worker runs or not. It works on the
//! files alone, and then notifies a running worker, which reads the folders again.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant, SystemTime},
};

use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Subcommand, ValueEnum};
use comfy_table::{Table, presets::NOTHING};
use serde::{Deserialize, Serialize};
use store::outbox::{Attempts, Folder, Outbox};

/// Most rows of a table; `--json` has no limit.
const ROWS: usize = 200;
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List records that wait (or all of a folder)
    List {
        /// Which records
        #[arg(long, value_enum, default_value_t = Which::Pending)]
        folder: Which,
        /// One JSON object a line, without an end
        #[arg(long)]
        json: bool,
    },
    /// Show one record, and what came of it
    Show {
        /// Its `call_id`
        id: String,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Have records tried again now: one, wherever it is, or all that wait or are dead
    Retry {
        /// Its `call_id`
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        id: Option<String>,
        /// All that wait or are dead
        #[arg(long)]
        all: bool,
    },
    /// List records that the endpoint refused for good, or did not take for 72 h
    Dead {
        /// One JSON object a line, without an end
        #[arg(long)]
        json: bool,
    },
    /// Print records as they are posted
    Export {
        /// Which records
        #[arg(long, value_enum, default_value_t = Which::Pending)]
        folder: Which,
        /// One record a line
        #[arg(long, value_enum, default_value_t = Format::Jsonl)]
        format: Format,
    },
    /// Delete delivered records
    Purge {
        /// Said, so that nothing undelivered is meant
        #[arg(long, required = true)]
        sent: bool,
        /// Like 90m, 24h, 7d
        #[arg(long, value_parser = humantime::parse_duration)]
        older_than: Duration,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Which {
    Pending,
    Sent,
    Dead,
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Jsonl,
}

impl Which {
    fn folders(self) -> &'static [Folder] {
        match self {
            Self::Pending => &[Folder::Pending],
            Self::Sent => &[Folder::Sent],
            Self::Dead => &[Folder::Dead],
            Self::All => &Folder::ALL,
        }
    }
}

/// One line of a list.
#[derive(Serialize)]
struct Row {
    call_id: String,
    folder: Folder,
    /// When the record was sealed; for a sent record, when it was delivered.
    at: Option<String>,
    bytes: u64,
    room_name: String,
    end_time: String,
    status: String,
    attempts: Attempts,
}

/// The fields of a record's body that a list shows.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Summary {
    room_name: String,
    end_time: String,
    status: String,
}

/// # Errors
/// What failed, as a text for the operator. Output before the failure is already printed.
pub(crate) fn run(command: Command, outbox: &Outbox, out: &mut dyn Write) -> Result<(), String> {
    match command {
        Command::List { folder, json } => list(outbox, folder.folders(), json, out),
        Command::Dead { json } => list(outbox, &[Folder::Dead], json, out),
        Command::Show { id, json } => show(outbox, &id, json, out),
        Command::Retry { id: Some(id), .. } => retry(outbox, &id, out),
        Command::Retry { id: None, .. } => retry_all(outbox, out),
        Command::Export { folder, format: Format::Jsonl } => export(outbox, folder.folders(), out),
        Command::Purge { older_than, json, .. } => {
            let deleted = match outbox.purge_sent(older_than) {
                // No worker was ever started here.
                Err(e) if e.is_gone() => 0,
                other => other.map_err(|e| e.to_string())?,
            };
            match json {
                true => write(out, &format!("{{\"deleted\":{deleted}}}")),
                false => write(out, &format!("{deleted} delivered records deleted")),
            }
        }
    }
}

fn list(
    outbox: &Outbox,
    folders: &[Folder],
    json: bool,
    out: &mut dyn Write,
) -> Result<(), String> {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    table.set_header(["CALL", "WHERE", "AT", "BYTES", "ROOM", "STATUS", "TRIED", "LAST ERROR"]);
    let mut n = 0usize;
    for folder in folders {
        for id in walk(outbox, *folder)? {
            if !json && n >= ROWS {
                // It is only counted: there may be a hundred thousand more.
                n += 1;
                continue;
            }
            let Some(row) = row(outbox, *folder, &id) else { continue };
            n += 1;
            if json {
                let line = serde_json::to_string(&row).map_err(|e| e.to_string())?;
                write(out, &line)?;
            } else {
                table.add_row([
                    row.call_id,
                    folder.name().to_owned(),
                    row.at.unwrap_or_default(),
                    row.bytes.to_string(),
                    row.room_name,
                    row.status,
                    // The attempts at a delivered record are not kept.
                    if *folder == Folder::Sent {
                        "-".into()
                    } else {
                        row.attempts.count.to_string()
                    },
                    row.attempts.last_error,
                ]);
            }
        }
    }
    match (json, n) {
        (true, _) => Ok(()),
        (false, 0) => write(out, "none"),
        (false, _) => {
            write(out, &table.to_string())?;
            let more = n.saturating_sub(ROWS);
            if more > 0 {
                write(out, &format!("… and {more} more; --json lists all"))?;
            }
            Ok(())
        }
    }
}

fn walk(outbox: &Outbox, folder: Folder) -> Result<impl Iterator<Item = String>, String> {
    match outbox.walk(folder) {
        Ok(ids) => Ok(Some(ids).into_iter().flatten()),
        // No worker was ever started here.
        Err(e) if e.is_gone() => Ok(None.into_iter().flatten()),
        Err(e) => Err(e.to_string()),
    }
}

/// `None` if the record has been moved or deleted meanwhile.
fn row(outbox: &Outbox, folder: Folder, id: &str) -> Option<Row> {
    let (sealed, bytes) = outbox.about(folder, id)?;
    let body = outbox.body(folder, id).ok()?;
    let summary: Summary = serde_json::from_slice(&body).unwrap_or_default();
    Some(Row {
        call_id: id.to_owned(),
        folder,
        at: Some(rfc3339(sealed)),
        bytes,
        room_name: summary.room_name,
        end_time: summary.end_time,
        status: summary.status,
        attempts: outbox.attempts(folder, id),
    })
}

fn rfc3339(t: SystemTime) -> String {
    DateTime::<Utc>::from(t).to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn find(outbox: &Outbox, id: &str) -> Result<Folder, String> {
    // The id becomes part of a path, so it must not hold other characters.
    let name = id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let found = if name { outbox.find(id) } else { None };
    found.ok_or_else(|| format!("there is no record {id}"))
}

fn show(outbox: &Outbox, id: &str, json: bool, out: &mut dyn Write) -> Result<(), String> {
    let folder = find(outbox, id)?;
    let body = outbox.body(folder, id).map_err(|e| e.to_string())?;
    let record: serde_json::Value =
        serde_json::from_slice(&body).map_err(|e| format!("the record is not JSON: {e}"))?;
    let attempts = outbox.attempts(folder, id);
    if json {
        let all = serde_json::json!({"folder": folder, "attempts": attempts, "record": record});
        return write(out, &all.to_string());
    }
    write(out, &format!("{} ({})", outbox.path(folder, id).display(), folder.name()))?;
    if attempts.count > 0 {
        let at = |s| DateTime::from_timestamp(s, 0).unwrap_or_default().to_rfc3339();
        write(
            out,
            &format!(
                "tried {} times from {} to {}, last: {}",
                attempts.count,
                at(attempts.first_at),
                at(attempts.last_at),
                attempts.last_error
            ),
        )?;
    }
    write(out, &serde_json::to_string_pretty(&record).unwrap_or_default())
}

fn retry(outbox: &Outbox, id: &str, out: &mut dyn Write) -> Result<(), String> {
    let folder = find(outbox, id)?;
    outbox.revive(folder, id).map_err(|e| e.to_string())?;
    outbox.request_reload().map_err(|e| format!("a running worker cannot be notified: {e}"))?;
    write(out, &format!("{id} was {}, and will be tried", folder.name()))
}

fn retry_all(outbox: &Outbox, out: &mut dyn Write) -> Result<(), String> {
    let (mut n, mut progress) = (0, Progress::new());
    for folder in [Folder::Dead, Folder::Pending] {
        // Collect all names first, so that no moved record is met again.
        let ids: Vec<String> = walk(outbox, folder)?.collect();
        for id in ids {
            match outbox.revive(folder, &id) {
                Ok(()) => n += 1,
                Err(e) if e.is_gone() => {}
                Err(e) => return Err(e.to_string()),
            }
            progress.show(n);
        }
        if folder == Folder::Dead && n > 0 {
            write(out, &format!("{n} dead records wait again"))?;
            n = 0;
        }
    }
    match outbox.request_reload() {
        Ok(()) => write(out, &format!("{n} records will be tried now")),
        Err(_) if n == 0 => write(out, "no record waits"),
        Err(e) => Err(format!("a running worker cannot be notified: {e}")),
    }
}

/// Shows on a terminal, once a second, how many records are done.
struct Progress(Instant);

impl Progress {
    fn new() -> Self {
        Self(Instant::now())
    }

    fn show(&mut self, n: usize) {
        if self.0.elapsed() >= PROGRESS_EVERY && io::stderr().is_terminal() {
            self.0 = Instant::now();
            // If it cannot be shown, there is nothing to do about it.
            let _ = write!(io::stderr(), "… {n} records\r");
        }
    }
}

fn export(outbox: &Outbox, folders: &[Folder], out: &mut dyn Write) -> Result<(), String> {
    for folder in folders {
        for id in walk(outbox, *folder)? {
            match outbox.body(*folder, &id) {
                Ok(body) => write(out, &String::from_utf8_lossy(&body))?,
                Err(e) if e.is_gone() => {}
                Err(e) => return Err(e.to_string()),
            }
        }
    }
    Ok(())
}

fn write(out: &mut dyn Write, line: &str) -> Result<(), String> {
    match writeln!(out, "{line}") {
        // The reader of the output is gone, which is not an error.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(String::new()),
        other => other.map_err(|e| e.to_string()),
    }
}
