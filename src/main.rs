//! `call-history`: one true history record per LiveKit call, posted to the operator's endpoint.
//!
//! This package is the binary. Of the product's packages only this one depends on LiveKit:
//!
//! | module | its one idea |
//! |---|---|
//! | [`worker`] | registration, jobs, finding rooms, load |
//! | [`fleet`] | which worker of several observes a room |
//! | [`observer`] | one room: LiveKit's events become events of a call |
//! | [`admin`] | the HTTP port: health page, webhooks |
//! | [`config`] | reading and checking settings |
//! | [`run`] | sets up the parts and runs them |
//! | [`doctor`] | looks at everything that the worker needs |
//! | [`probe`] | asks a running worker whether it lives or is ready |
//! | [`commands`], [`outbox`] | commands that need no server: `replay`, `schema`, `outbox` |
//! | `receive` | the command `receive` (feature `receiver`) |
//! | [`cli`] | the command line and its help |
//! | [`net`] | every connection that goes out: TLS, HTTP clients, websockets |
//! | [`clock`] | our clock against LiveKit's |
//! | [`telemetry`] | the log, and what must not stand in it |
//! | [`descriptors`] | the limit on open files |
//! | [`memory`] | gives back what calls have used |
//! | [`stop`] | signals that stop the process |
//!
//! Other packages are in `crates/`: `call`, the pure core; `store`, everything that touches the data folder;
//! `delivery`, which posts records; `record`, the types of a record; `receiver`, the
//! endpoint of `receive`. `docs/architecture.md` has a drawing.

mod admin;
mod cli;
mod clock;
mod commands;
mod config;
mod descriptors;
mod doctor;
mod fleet;
mod folder;
mod memory;
mod net;
mod observer;
mod outbox;
mod probe;
#[cfg(feature = "receiver")]
mod receive;
mod run;
mod stop;
mod telemetry;
mod traces;
mod worker;

use std::process::ExitCode;

use clap::Parser;

/// The program: parses the command line and settings, and runs.
fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    // If it has a mistake we stop, as nothing after the first one is read.
    let dot_env = match config::DotEnv::load() {
        Ok(dot_env) => dot_env,
        Err(e) => {
            commands::print_error(&e);
            return ExitCode::from(config::EXIT_CONFIG);
        }
    };
    let command = match cli.command.unwrap_or(cli::Command::Start) {
        cli::Command::Config { check, json } => return config::show(&dot_env, check, json),
        cli::Command::Outbox { command } => return commands::outbox(command, &dot_env),
        cli::Command::Probe { ready } => return probe::run(&dot_env, ready),
        #[cfg(feature = "receiver")]
        cli::Command::Receive { command } => return receive::run(command, dot_env),
        cli::Command::Replay { files, explain, details } => {
            return commands::replay(&files, explain, details);
        }
        cli::Command::Schema { events } => return commands::schema(events),
        cli::Command::Completions { shell } => return commands::print(&cli::completions(shell)),
        cli::Command::Man => return commands::print(&cli::manual().unwrap_or_default()),
        command => command,
    };
    let config = match config::Config::read(config::Source::from_process(&dot_env)) {
        Ok(config) => config,
        Err(errors) => {
            match command {
                cli::Command::Doctor { json: true, .. } => doctor::wrong_settings(&errors),
                _ => commands::print_error(&errors.to_string()),
            }
            return ExitCode::from(config::EXIT_CONFIG);
        }
    };
    // Each call needs a few file descriptors; the usual soft limit is 1,024.
    let raised = rlimit::increase_nofile_limit(u64::MAX);
    // The doctor prints its findings, not a log.
    let level = (!matches!(command, cli::Command::Doctor { .. }))
        .then(|| telemetry::init(config.log_format, config.log_level, dot_env));
    if let Err(e) = raised {
        tracing::warn!(error = %e, "the limit of open files cannot be raised");
    }
    net::init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            commands::print_error(&format!("the runtime cannot be started: {e}"));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        if let Some(level) = level {
            tokio::spawn(run::reload_on_hangup(level));
        }
        match command {
            cli::Command::Connect { room } => run::connect(config, room).await,
            cli::Command::Doctor { json, send_sample } => {
                doctor::run(&config, json, send_sample).await
            }
            _ => run::start(config).await,
        }
    });
    // If a disk hangs, do not wait for it longer than this.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    code
}
