//! The command line. Settings come from the environment and files, not from flags: see
//! [`crate::config`].

use std::{io::Write, path::PathBuf};

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::outbox;

#[derive(Debug, Parser)]
#[command(
    name = "call-history",
    version,
    about = "One true history record per LiveKit call, posted to your endpoint.",
    long_about = "Joins every call of a LiveKit server as a hidden participant, watches what the \
        room shows, and when the call ends posts its history record to CALL_HISTORY_ENDPOINT.",
    after_help = "Settings are read from the environment, .env and config/*.toml.\n\
        Required: LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET, CALL_HISTORY_ENDPOINT.\n\
        All settings with their defaults: .env.example.\n\n\
        outbox reads CALL_HISTORY_DATA_DIR alone, probe CALL_HISTORY_HTTP_ADDR; replay and schema need none.\n\
        SIGTERM: no new calls, running ones go on. SIGHUP: the log level is read again.\n\n\
        Exit status: 0 done, 1 failed, 2 wrong command line, 78 wrong settings (all named at once)."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Register as a worker and observe every call of the server (the default)
    Start,
    /// Observe one room now, without registering; ends when the room does
    Connect {
        /// Name of the room; it must exist
        #[arg(long)]
        room: String,
    },
    /// Check server, keys, clock, media, endpoint, data folder and limits, and say what to do
    Doctor {
        /// Print the checks as JSON
        #[arg(long)]
        json: bool,
        /// Also send a record to the endpoint, marked as a test
        #[arg(long)]
        send_sample: bool,
    },
    /// Print every setting and where it comes from; secrets are not shown
    Config {
        /// Print only whether all settings are right
        #[arg(long)]
        check: bool,
        /// Print the settings as JSON
        #[arg(long, conflicts_with = "check")]
        json: bool,
    },
    /// Ask the worker on this machine whether it lives; for health checks of containers
    Probe {
        /// Ask whether it is ready for calls: connected to LiveKit and not draining
        #[arg(long)]
        ready: bool,
    },
    /// Take records as an endpoint, keep them, and answer questions about them; needs no settings
    #[cfg(feature = "receiver")]
    Receive {
        #[command(subcommand)]
        command: Option<crate::receive::Command>,
    },
    /// Print the record that a call's journal gives; needs no settings
    Replay {
        /// Journals: files of DATA_DIR/live or DATA_DIR/journals
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Print for each number the moments that made it
        #[arg(long)]
        explain: bool,
        /// Add `details` to the record, whatever the journal's settings say
        #[arg(long)]
        details: bool,
    },
    /// Look at records that wait, were delivered or refused, and have them tried again
    Outbox {
        #[command(subcommand)]
        command: outbox::Command,
    },
    /// Print the JSON Schema of the record; needs no settings
    Schema {
        /// Print that of live events
        #[arg(long)]
        events: bool,
    },
    /// Print a script that completes commands in a shell: source it, or put it where the shell looks
    Completions { shell: Shell },
    /// Print the manual page; `call-history man | man -l -` shows it
    Man,
}

/// The script for a shell.
pub(crate) fn completions(shell: Shell) -> Vec<u8> {
    let mut script = vec![];
    clap_complete::generate(shell, &mut Cli::command(), "call-history", &mut script);
    // clap_complete 4.6 names the parts of a program with a hyphen in two ways in its script for bash.
    match String::from_utf8(script) {
        Ok(text) => text.replace("call__subcmd__history", "call__history").into_bytes(),
        Err(e) => e.into_bytes(),
    }
}

/// The manual page, with all subcommands.
///
/// # Errors
/// None in practice: it is written to memory.
pub(crate) fn manual() -> std::io::Result<Vec<u8>> {
    let mut command = Cli::command();
    command.build();
    let mut page = vec![];
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    subcommands(&command, "", &mut page)?;
    Ok(page)
}

/// Only the parts that describe a subcommand: there is one page for all.
fn subcommands(of: &clap::Command, path: &str, page: &mut Vec<u8>) -> std::io::Result<()> {
    for sub in of.get_subcommands().filter(|c| c.get_name() != "help") {
        let name = format!("{path}{}", sub.get_name());
        let man = clap_mangen::Man::new(sub.clone());
        writeln!(page, ".SH \"{}\"", name.to_uppercase())?;
        man.render_synopsis_section(page)?;
        man.render_description_section(page)?;
        man.render_options_section(page)?;
        subcommands(sub, &format!("{name} "), page)?;
    }
    Ok(())
}
