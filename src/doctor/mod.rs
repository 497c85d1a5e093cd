//! `doctor`: looks at everything that the worker needs, one line for each check, with what to do.
//!
//! Harmless on a production server: it registers under a name of its own, joins only a room of its own, which it
//! deletes, and posts nothing unless it is asked to.
//!
//! | file | its one idea |
//! |---|---|
//! | [`server`] | LiveKit: address, keys, clock, registration, other programs of our name |
//! | [`media`] | a room of its own, over UDP and over TCP; the webhook about it |
//! | [`endpoint`] | where records go: address, TLS; a sample record on request |
//! | [`machine`] | this machine: data folder, files, memory, cores |

mod endpoint;
mod machine;
mod media;
mod server;

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};

use serde::Serialize;
use store::{disk::RealDisk, health::Health};
use tokio::{task::spawn_blocking, time::timeout};

use crate::{
    clock::WallClock,
    config::{Config, ConfigErrors},
    net::Reached,
};

/// Timeout of each step.
const WITHIN: Duration = Duration::from_secs(5);
/// A certificate that ends within this time is worth a warning.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ok,
    /// It was not looked at; `found` says why.
    Skipped,
    Warning,
    Failed,
}

/// The result of one check.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    found: String,
    /// What to do; only where something is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<&'static str>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Ok, found: found.into(), advice: None }
    }

    fn skipped(name: &'static str, why: impl Into<String>) -> Self {
        Self { name, state: State::Skipped, found: why.into(), advice: None }
    }

    fn warning(name: &'static str, found: impl Into<String>, advice: &'static str) -> Self {
        Self { name, state: State::Warning, found: found.into(), advice: Some(advice) }
    }

    fn failed(name: &'static str, found: impl Into<String>, advice: &'static str) -> Self {
        Self { name, state: State::Failed, found: found.into(), advice: Some(advice) }
    }
}

/// Prints checks as they come, or all at the end as JSON.
struct Report {
    json: bool,
    checks: Vec<Check>,
}

impl Report {
    /// A line without an end, on a terminal only: the next check may take seconds.
    fn begins(&self, name: &str) {
        if !self.json && io::stdout().is_terminal() {
            let mut out = io::stdout().lock();
            // If nobody reads the output, there is nothing to do about it. The same holds below.
            let _ = write!(out, "…        {name:<12}\r").and_then(|()| out.flush());
        }
    }

    fn add(&mut self, check: Check) {
        if !self.json {
            let mark = match check.state {
                State::Ok => "ok     ",
                State::Skipped => "skipped",
                State::Warning => "warning",
                State::Failed => "FAILED ",
            };
            let mut out = io::stdout().lock();
            let _ = writeln!(out, "{mark}  {:<12} {}", check.name, check.found);
            if let Some(advice) = check.advice {
                let _ = writeln!(out, "{:22} → {advice}", "");
            }
        }
        self.checks.push(check);
    }

    fn finish(self) -> ExitCode {
        if self.json {
            let text = serde_json::to_string_pretty(&self.checks).unwrap_or_default();
            let _ = writeln!(io::stdout(), "{text}");
        }
        if self.checks.iter().any(|c| c.state == State::Failed) {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}

/// The report if the settings are wrong: nothing else can be looked at.
pub(crate) fn wrong_settings(errors: &ConfigErrors) {
    let advice = "call-history config shows each setting, and where it comes from";
    let checks = vec![Check::failed("settings", errors.to_string(), advice)];
    Report { json: true, checks }.finish();
}

/// Runs all checks and prints them. Fails if a check failed.
pub(crate) async fn run(config: &Config, json: bool, send_sample: bool) -> ExitCode {
    let wall = WallClock::new(Health::default());
    let mut report = Report { json, checks: vec![] };
    report.add(Check::ok("settings", "all settings are right"));
    report.begins("data_folder");
    let dir = config.data_dir.clone();
    // A disk may hang. Then nothing else touches it.
    let looked = spawn_blocking(move || (dir.exists(), machine::data_folder(&RealDisk, &dir)));
    let disk = match timeout(WITHIN, looked).await {
        Ok(Ok((was_there, check))) => {
            report.add(check);
            let (check, worker_runs) = machine::other_worker(&config.data_dir);
            report.add(check);
            Some((was_there, worker_runs))
        }
        _ => {
            report.add(machine::disk_hangs(&config.data_dir));
            None
        }
    };
    report.begins("livekit");
    let livekit = server::reached(config, &wall).await;
    let is_there = livekit.state != State::Failed;
    report.add(livekit);
    if !is_there {
        report.add(Check::skipped(
            "server",
            "clock, keys, registration, agent name, media, webhooks: without the server nothing shows",
        ));
    } else {
        report.add(server::clock(&wall));
    }
    let keys = if is_there { Some(server::keys(config, &wall).await) } else { None };
    match keys {
        None => {}
        Some(Err(check)) => {
            report.add(check);
            report.add(Check::skipped(
                "server",
                "registration, agent name, media, webhooks: they need the keys",
            ));
        }
        Some(Ok((check, api, rooms))) => {
            report.add(check);
            report.begins("registration");
            report.add(server::registration(config, &wall).await);
            report.begins("agent_name");
            report.add(server::agent_name(config, &api, &wall, &rooms).await);
            report.begins("room");
            for check in media::checks(config, &api, &wall).await {
                report.add(check);
            }
        }
    }
    report.add(machine::layers(config.layers));
    report.begins("endpoint");
    report.add(endpoint::reached(&config.endpoint, &config.delivery.tls).await);
    if let Some(url) = &config.events_endpoint {
        report.begins("events");
        report.add(endpoint::events_reached(url, &config.delivery.tls).await);
    }
    match (send_sample, disk) {
        (true, Some(_)) => {
            report.begins("sample");
            report.add(endpoint::sample(config, &wall).await);
        }
        (true, None) => report.add(Check::skipped("sample", "the disk hangs: see data_folder")),
        (false, _) => report.add(endpoint::no_sample()),
    }
    // A folder that was made now would belong to the user of this command.
    if let Some((false, _)) = disk {
        // It fails if somebody else has put something there.
        let _ = std::fs::remove_dir(&config.data_dir);
    }
    let worker_runs = disk.is_some_and(|(_, worker_runs)| worker_runs);
    report.add(machine::http_port(config.http_addr, worker_runs).await);
    report.add(machine::files(config.max_calls));
    report.add(machine::memory(config));
    report.finish()
}

/// What was found on the way to a host: addresses, certificate, proxy.
fn way(reached: &Reached) -> String {
    let mut text = match &reached.proxy {
        Some(proxy) => format!("through the proxy {proxy}"),
        None => {
            let addresses: Vec<String> =
                reached.addresses.iter().map(ToString::to_string).collect();
            format!("at {}", addresses.join(", "))
        }
    };
    if let Some(certificate) = &reached.certificate {
        text = format!("{text}; {certificate}");
    }
    text
}

/// A warning about a certificate that ends soon.
fn ends_soon(name: &'static str, reached: &Reached) -> Option<Check> {
    let certificate = reached.certificate.as_ref()?;
    let Ok(left) = certificate.ends.duration_since(std::time::SystemTime::now()) else {
        // It is taken all the same where a setting names exactly this certificate.
        let advice = "renew the server's certificate: other clients do not take it any more";
        return Some(Check::warning(name, format!("{certificate}: it has ended"), advice));
    };
    (left < SOON).then(|| {
        Check::warning(
            name,
            format!("{certificate}: it ends in {} days", left.as_secs() / 86_400),
            "renew the server's certificate: nothing is sent once it has ended",
        )
    })
}
