//! `call-history receive`: the endpoint, its database and its API, as one process.

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use receiver::{
    Receiver, Settings,
    access::{self, Scope},
    collector::Key,
    store::{self, Place, Store},
};
use secrecy::SecretString;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    commands::{print, print_error},
    config::{DotEnv, EXIT_CONFIG, ReceiveSettings, Source},
    run, telemetry,
};

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a token for the API, and print it this once
    Token {
        /// What it is for, as lists show it
        name: String,
        /// What it may do
        #[arg(long, value_delimiter = ',', default_value = "read")]
        scopes: Vec<ScopeName>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ScopeName {
    /// Post records and events
    Ingest,
    /// Read everything
    Read,
    /// Delete, and manage tokens
    Admin,
}

impl From<ScopeName> for Scope {
    fn from(name: ScopeName) -> Self {
        match name {
            ScopeName::Ingest => Self::Ingest,
            ScopeName::Read => Self::Read,
            ScopeName::Admin => Self::Admin,
        }
    }
}

pub(crate) fn run(command: Option<Command>, dot_env: DotEnv) -> ExitCode {
    let read = match ReceiveSettings::read(Source::from_process(&dot_env)) {
        Ok(read) => read,
        Err(errors) => {
            print_error(&errors.to_string());
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            print_error(&format!("the runtime cannot be started: {e}"));
            return ExitCode::FAILURE;
        }
    };
    // Connections to Postgres with TLS need a provider of cryptography.
    crate::net::init();
    match command {
        Some(Command::Token { name, scopes }) => runtime.block_on(token(&read, &name, &scopes)),
        None => {
            let level = telemetry::init(read.log_format, read.log_level, dot_env);
            runtime.block_on(async {
                tokio::spawn(run::reload_on_hangup(level));
                serve(&read).await
            })
        }
    }
}

fn settings(read: &ReceiveSettings) -> Settings {
    let place = match &read.db {
        Some(url) => Place::Postgres { url: url.clone() },
        None => Place::folder(&read.data_dir),
    };
    let mut settings = Settings::new(place);
    settings.addr = read.addr;
    settings.jwt_secret.clone_from(&read.jwt_secret);
    settings.retention_days = read.retention_days;
    settings.recordings.clone_from(&read.recordings);
    settings.recordings_days = read.recordings_days;
    let key =
        |(key, secret): &(String, SecretString)| Key { key: key.clone(), secret: secret.clone() };
    settings.livekit_keys = read.livekit.iter().map(key).collect();
    settings
}

async fn serve(read: &ReceiveSettings) -> ExitCode {
    let receiver = match Receiver::start(settings(read)).await {
        Ok(receiver) => receiver,
        Err(e) => {
            tracing::error!(error = %e, "the receiver does not start");
            return ExitCode::FAILURE;
        }
    };
    let database = if read.db.is_some() { "Postgres" } else { "SQLite" };
    let signed = read.jwt_secret.is_some();
    let collects = read.livekit.is_some();
    tracing::info!(addr = %receiver.addr(), database, signed, collects, "receiver started");
    if !receiver.addr().ip().is_loopback() {
        match access::list(receiver.store()).await {
            Ok(tokens) if tokens.is_empty() => {
                tracing::warn!("there is no token: nobody can use the API on this address")
            }
            _ => {}
        }
    }
    stopped().await;
    tracing::info!("stopping: running requests end");
    receiver.stop().await;
    ExitCode::SUCCESS
}

/// Returns when the process is to stop.
async fn stopped() {
    let (Ok(mut term), Ok(mut int)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be received; the process can only be killed");
        return std::future::pending().await;
    };
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
}

async fn token(read: &ReceiveSettings, name: &str, scopes: &[ScopeName]) -> ExitCode {
    let settings = settings(read);
    let scopes: Vec<Scope> = scopes.iter().map(|scope| (*scope).into()).collect();
    let made = async {
        let store = store::open(&settings.place).await?;
        let made = access::create(&*store, name, &scopes, (settings.now)()).await;
        Store::close(&*store).await;
        made
    };
    match made.await {
        Ok((_, token)) => print(format!("{token}\n").as_bytes()),
        Err(e) => {
            print_error(&e.to_string());
            ExitCode::FAILURE
        }
    }
}
