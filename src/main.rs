//! `call-history`: one true history record per LiveKit call, posted to the operator's endpoint.
//!
//! This package is the binary, and the only one of the product's that knows LiveKit:
//!
//! | module | its one idea |
//! |---|---|
//! | [`worker`] | registration, jobs, finding rooms, load |
//! | [`fleet`] | which worker of several observes a room |
//! | [`observer`] | one room: LiveKit's events become events of a call |
//! | [`admin`] | the port: health page, webhooks |
//! | [`config`] | settings, and what is wrong with them |
//! | [`run`] | puts the parts together |
//! | [`commands`] | what needs no server: `replay`, `schema`, `outbox` |
//!
//! Beside it in `crates/`: `call`, the pure core; `store`, all that touches the data folder; `delivery`,
//! which posts; `record`, the types of what is posted. `docs/architecture.md` has the drawing.

mod admin;
mod cli;
mod clock;
mod commands;
mod config;
mod descriptors;
mod fleet;
mod net;
mod observer;
mod outbox;
mod run;
mod stop;
mod telemetry;
mod worker;

use std::process::ExitCode;

use clap::Parser;

/// The program: parses the command line and settings, and runs.
fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    // Of the working folder alone: what lies above it may be anybody's. A missing .env is as good as
    // an empty one; of a broken one nothing below the mistake is read.
    if let Err(e) = dotenvy::from_path(".env")
        && !e.not_found()
    {
        commands::complain(&format!(".env is not right: {e}"));
        return ExitCode::from(config::EXIT_CONFIG);
    }
    let command = match cli.command.unwrap_or(cli::Command::Start) {
        cli::Command::Replay { files, explain, details } => {
            return commands::replay(&files, explain, details);
        }
        cli::Command::Schema => return commands::schema(),
        cli::Command::Outbox { command } => return commands::outbox(command),
        command => command,
    };
    let config = match config::Config::read(config::Source::from_process()) {
        Ok(config) => config,
        Err(errors) => {
            commands::complain(&errors.to_string());
            return ExitCode::from(config::EXIT_CONFIG);
        }
    };
    // Each call takes a few descriptors; the usual soft limit is 1,024.
    let raised = rlimit::increase_nofile_limit(u64::MAX);
    telemetry::init(config.log_format);
    if let Err(e) = raised {
        tracing::warn!(error = %e, "the limit of open files cannot be raised");
    }
    net::init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            commands::complain(&format!("the runtime cannot be started: {e}"));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        match command {
            cli::Command::Connect { room } => run::connect(config, room).await,
            _ => run::start(config).await,
        }
    });
    // A disk that hangs is not waited for.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    code
}
