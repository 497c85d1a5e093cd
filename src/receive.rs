//! `call-history receive`: the endpoint, its database and its API, as one process.

use std::{
    io::{IsTerminal, Read},
    pin::pin,
    process::ExitCode,
};

use clap::{Subcommand, ValueEnum};
use receiver::{
    Receiver, Settings,
    access::{self, Scope},
    collector::Key,
    limits::Rates,
    password,
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
    /// Set the password of the page, or change it: read from the terminal, or from stdin
    Password {
        /// Remove it instead
        #[arg(long)]
        remove: bool,
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
    /// See phone numbers whole on the page
    Numbers,
}

impl From<ScopeName> for Scope {
    fn from(name: ScopeName) -> Self {
        match name {
            ScopeName::Ingest => Self::Ingest,
            ScopeName::Read => Self::Read,
            ScopeName::Admin => Self::Admin,
            ScopeName::Numbers => Self::Numbers,
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
        Some(Command::Password { remove: true }) => runtime.block_on(remove_password(&read)),
        Some(Command::Password { remove: false }) => match typed_password() {
            Ok(password) => runtime.block_on(set_password(&read, &password)),
            Err(problem) => {
                print_error(&problem);
                ExitCode::FAILURE
            }
        },
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
    settings.rates = Rates { requests: read.rate, failures: read.failed_rate };
    settings.demo = read.demo;
    settings.recordings.clone_from(&read.recordings);
    settings.recordings_days = read.recordings_days;
    let key =
        |(key, secret): &(String, SecretString)| Key { key: key.clone(), secret: secret.clone() };
    settings.livekit_keys = read.livekit.iter().map(key).collect();
    settings
}

async fn serve(read: &ReceiveSettings) -> ExitCode {
    let mut stopped = pin!(stopped());
    let started = tokio::select! {
        started = Receiver::start(settings(read)) => started,
        () = &mut stopped => return ExitCode::SUCCESS,
    };
    let receiver = match started {
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
    if read.demo {
        tracing::warn!(
            "demo: anybody who can reach this address may look at all calls, with numbers masked"
        );
    }
    if let Some(path) = receiver.first_run() {
        let mut addr = receiver.addr();
        if addr.ip().is_unspecified() {
            addr.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        let link = format!("http://{addr}{path}");
        tracing::warn!(
            link,
            "nobody can log in yet: open this link within an hour, and set a password"
        );
    }
    stopped.await;
    tracing::info!("stopping: running requests end");
    receiver.stop().await;
    ExitCode::SUCCESS
}

/// Ends when the process is to stop. Listens from the call on: a signal right after the start ends requests in order too.
fn stopped() -> impl Future<Output = ()> {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async {
        let (Ok(mut term), Ok(mut int)) = signals else {
            tracing::error!("signals cannot be received; the process can only be killed");
            return std::future::pending().await;
        };
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
    }
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

/// From the terminal, twice; or all of stdin.
fn typed_password() -> Result<String, String> {
    let failed = |e: std::io::Error| format!("the password cannot be read: {e}");
    if !std::io::stdin().is_terminal() {
        let mut text = String::new();
        // One byte more than is allowed says that it is too long.
        let most = password::LONGEST as u64 + 1;
        std::io::stdin().take(most).read_to_string(&mut text).map_err(failed)?;
        return Ok(text);
    }
    let password = rpassword::prompt_password("New password of the page: ").map_err(failed)?;
    let again = rpassword::prompt_password("The same again: ").map_err(failed)?;
    if password == again { Ok(password) } else { Err("the two are not the same".into()) }
}

async fn set_password(read: &ReceiveSettings, password: &str) -> ExitCode {
    let settings = settings(read);
    let set = async {
        let store = store::open(&settings.place).await?;
        let set = password::set(&*store, password, (settings.now)()).await;
        Store::close(&*store).await;
        set
    };
    match set.await {
        Ok(()) => {
            print(b"The password is set. Whoever logged in with one before has to log in again.\n")
        }
        Err(e) => {
            print_error(&e.to_string());
            ExitCode::FAILURE
        }
    }
}

async fn remove_password(read: &ReceiveSettings) -> ExitCode {
    let settings = settings(read);
    let removed = async {
        let store = store::open(&settings.place).await?;
        let removed = password::remove(&*store).await;
        Store::close(&*store).await;
        removed
    };
    match removed.await {
        Ok(true) => print(b"The password is removed.\n"),
        Ok(false) => print(b"There was none.\n"),
        Err(e) => {
            print_error(&e.to_string());
            ExitCode::FAILURE
        }
    }
}
