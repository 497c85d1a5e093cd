//! The dev server as a program: flags in, one line of JSON on stdout once it is ready, logs on stderr.

use std::{
    io::{IsTerminal, Write},
    net::IpAddr,
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use livekit_devserver::{Config, DEV_KEY, DEV_SECRET, WebhookConfig, start};
use tracing_subscriber::EnvFilter;

/// A LiveKit server in one process, for demos and tests. Never for production: one thread, one node, no
/// TURN, no limits worth the name.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Address of all listeners
    #[arg(long, env = "DEVSERVER_BIND", default_value = "127.0.0.1")]
    bind: IpAddr,
    /// HTTP and websocket port; 0 takes a free one
    #[arg(long, env = "DEVSERVER_PORT", default_value_t = 7880)]
    port: u16,
    /// Media port, UDP; 0 takes a free one
    #[arg(long, env = "DEVSERVER_UDP_PORT", default_value_t = 0)]
    udp_port: u16,
    /// Media port, TCP; 0 takes a free one
    #[arg(long, env = "DEVSERVER_TCP_PORT", default_value_t = 0)]
    tcp_port: u16,
    /// Address that clients get for media; default: the one of --bind
    #[arg(long, env = "DEVSERVER_NODE_IP")]
    node_ip: Option<IpAddr>,
    /// API key and its secret of 32 characters or more; repeat for more
    #[arg(long, env = "DEVSERVER_KEY", value_name = "KEY:SECRET", value_parser = key, value_delimiter = ',', default_values_t = [Key { key: DEV_KEY.into(), secret: DEV_SECRET.into() }])]
    key: Vec<Key>,
    /// Seconds that a room waits for its first visitor who is not an agent
    #[arg(long, env = "DEVSERVER_EMPTY_TIMEOUT", value_name = "SECONDS", value_parser = seconds, default_value = "300")]
    empty_timeout: Duration,
    /// Seconds that a room outlives the last departure
    #[arg(long, env = "DEVSERVER_DEPARTURE_TIMEOUT", value_name = "SECONDS", value_parser = seconds, default_value = "20")]
    departure_timeout: Duration,
    /// Where to post events; http:// only; repeat for more
    #[arg(long, env = "DEVSERVER_WEBHOOK_URL", value_name = "URL", value_delimiter = ',')]
    webhook_url: Vec<String>,
    /// Offer TCP candidates only
    #[arg(long)]
    no_udp: bool,
}

#[derive(Debug, Clone)]
struct Key {
    key: String,
    secret: String,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.key, self.secret)
    }
}

fn key(text: &str) -> Result<Key, String> {
    match text.split_once(':') {
        Some((key, secret)) if !key.is_empty() => {
            Ok(Key { key: key.into(), secret: secret.trim().into() })
        }
        _ => Err("give KEY:SECRET".into()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "give a number of seconds")?;
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    let ansi = std::io::stderr().is_terminal() && !unwanted;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .init();
    let args = Args::parse();
    let signer = args.key.first().map(|k| k.key.clone()).unwrap_or_default();
    let webhook = (!args.webhook_url.is_empty())
        .then_some(WebhookConfig { urls: args.webhook_url, api_key: signer });
    let config = Config {
        bind: args.bind,
        port: args.port,
        udp_port: args.udp_port,
        tcp_port: args.tcp_port,
        node_ip: args.node_ip,
        udp: !args.no_udp,
        keys: args.key.into_iter().map(|k| (k.key, k.secret)).collect(),
        empty_timeout: args.empty_timeout,
        departure_timeout: args.departure_timeout,
        webhook,
        ..Config::default()
    };
    let server = match start(config).await {
        Ok(server) => server,
        Err(error) => {
            tracing::error!(%error, "the server did not start");
            return ExitCode::FAILURE;
        }
    };
    let ready = serde_json::json!({
        "url": server.url(), "api_key": server.api_key(), "api_secret": server.api_secret(),
    });
    // The parent process may have closed our stdout; the server runs on without it.
    let _ = writeln!(std::io::stdout(), "{ready}");
    stopped().await;
    server.shutdown().await;
    ExitCode::SUCCESS
}

/// SIGTERM or SIGINT.
async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let wait = |kind| async move {
        match signal(kind) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::interrupt()) => {}
    }
}
