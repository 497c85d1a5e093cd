//! `call-history`: one true history record per LiveKit call, posted to the operator's endpoint.
//!
//! The way of the data, one way only:
//! `worker` takes jobs → `observer` turns a room into call events → `journal` writes them down
//! → `call` makes them one record → `delivery` seals and posts it.
//!
//! A library only so that benchmarks and the fuzzer reach the core; it promises nothing to others.

mod admin;
mod call;
mod cli;
mod clock;
mod config;
mod delivery;
mod descriptors;
mod disk;
mod health;
mod journal;
mod net;
mod observer;
mod run;
mod stop;
mod telemetry;
mod tools;
mod worker;

pub use tools::{Replay, Sealer};

use std::process::ExitCode;

use clap::Parser;

/// The program: parses the command line and settings, and runs.
pub fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    // Of the working folder alone: what lies above it may be anybody's. A missing .env is as good as
    // an empty one; of a broken one nothing below the mistake is read.
    if let Err(e) = dotenvy::from_path(".env")
        && !e.not_found()
    {
        complain(&format!(".env is not right: {e}"));
        return ExitCode::from(config::EXIT_CONFIG);
    }
    let command = match cli.command.unwrap_or(cli::Command::Start) {
        cli::Command::Replay { files, explain, details } => {
            return tools::replay(&files, explain, details);
        }
        cli::Command::Schema => return tools::schema(),
        cli::Command::Outbox { command } => return tools::outbox(command),
        command => command,
    };
    let config = match config::Config::read(config::Source::from_process()) {
        Ok(config) => config,
        Err(errors) => {
            complain(&errors.to_string());
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
            complain(&format!("the runtime cannot be started: {e}"));
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

/// For what goes wrong before there is a log.
#[allow(clippy::print_stderr)]
fn complain(text: &str) {
    eprintln!("call-history: {text}");
}
