//! Asks a worker on this machine how it is. `call-history probe`: an image needs no HTTP client for its health check.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use reqwest::{StatusCode, redirect::Policy};

use crate::{
    admin::{AWAY, DRAINING},
    commands::print_error,
    config::{DotEnv, Source},
    net,
};

/// Shorter than the usual timeout of a container's health check.
const WITHIN: Duration = Duration::from_secs(3);
/// A worker on a machine that is starved must not be taken for another program.
const LISTENER_WITHIN: Duration = Duration::from_secs(10);

/// Succeeds if the worker answers that it lives, or that it is ready.
pub(crate) fn run(dot_env: &DotEnv, ready: bool) -> ExitCode {
    let asked = match Source::from_process(dot_env).http_addr() {
        Err(e) => Err(e),
        // A container must not seem ill for ever because its port is off.
        Ok(None) if !ready => Ok(()),
        Ok(None) => Err("there is no port to ask: CALL_HISTORY_HTTP_ADDR is off".into()),
        Ok(Some(addr)) => ask(reachable(addr), if ready { "ready" } else { "live" }),
    };
    match asked {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            print_error(&e);
            ExitCode::FAILURE
        }
    }
}

/// An address to connect to, for one to listen at.
fn reachable(mut addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() {
        addr.set_ip(match addr.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    addr
}

fn ask(addr: SocketAddr, what: &str) -> Result<(), String> {
    net::init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("the runtime cannot be started: {e}"))?;
    let (status, text) = runtime
        .block_on(answer(addr, what, WITHIN))
        .map_err(|e| format!("no worker answers at {addr}: {}", net::explain::causes(&e)))?;
    if status.is_success() { Ok(()) } else { Err(format!("not {what}: {status}: {}", text.trim())) }
}

async fn answer(
    addr: SocketAddr,
    what: &str,
    within: Duration,
) -> reqwest::Result<(StatusCode, String)> {
    // It only asks this machine: no proxy, no certificates.
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .tls_certs_only([])
        .timeout(within);
    let url = format!("http://{addr}/{what}");
    let answer = client.build()?.get(url).send().await.map_err(reqwest::Error::without_url)?;
    Ok((answer.status(), answer.text().await.unwrap_or_default()))
}

/// Who listens at an address that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listener {
    Worker,
    /// A worker that ends once its calls have ended.
    DrainingWorker,
    Other,
}

impl Listener {
    /// Asks it.
    pub(crate) async fn at(addr: SocketAddr) -> Self {
        let addr = reachable(addr);
        let listener = match answer(addr, "ready", LISTENER_WITHIN).await {
            Ok((_, text)) if text == DRAINING => Self::DrainingWorker,
            Ok((_, text)) if text == "OK" || text == AWAY => Self::Worker,
            _ => return Self::Other,
        };
        // The receiver has a path /ready too.
        match answer(addr, "worker", LISTENER_WITHIN).await {
            Ok((status, text)) if status.is_success() && text.contains("worker_type") => listener,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::reachable;

    #[test]
    fn an_address_to_listen_at_becomes_one_to_connect_to() {
        for (listens, asked) in [
            ("0.0.0.0:8081", "127.0.0.1:8081"),
            ("[::]:8081", "[::1]:8081"),
            ("10.0.0.7:80", "10.0.0.7:80"),
        ] {
            assert_eq!(reachable(listens.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
