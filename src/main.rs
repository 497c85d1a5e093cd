//! `call-history`: one true history record per LiveKit call, posted to the operator's endpoint.
//!
//! The way of the data, one way only:
//! [`worker`] takes jobs → [`observer`] turns a room into call events → [`call`] makes them one
//! record → [`delivery`] seals and posts it.

mod admin;
mod call;
mod cli;
mod clock;
mod config;
mod delivery;
mod net;
mod observer;
mod run;
mod stop;
mod telemetry;
mod worker;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    // A missing .env is as good as an empty one; a broken one is told with the settings it lacks.
    let dotenv = dotenvy::dotenv();
    let config = match config::Config::read(config::Source::from_process()) {
        Ok(config) => config,
        Err(errors) => {
            if let Err(e) = dotenv
                && !e.not_found()
            {
                complain(&format!(".env cannot be read: {e}"));
            }
            complain(&errors.to_string());
            return ExitCode::from(config::EXIT_CONFIG);
        }
    };
    telemetry::init(config.log_format);
    net::init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            complain(&format!("the runtime cannot be started: {e}"));
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        match cli.command.unwrap_or(cli::Command::Start) {
            cli::Command::Start => run::start(config).await,
            cli::Command::Connect { room } => run::connect(config, room).await,
        }
    })
}

/// For what goes wrong before there is a log.
#[allow(clippy::print_stderr)]
fn complain(text: &str) {
    eprintln!("call-history: {text}");
}
