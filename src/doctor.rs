//! `doctor`: looks at everything that the worker needs, one line for each check, with what to do.
//!
//! Harmless on a production server: it registers nothing, joins no room and posts nothing.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use reqwest::Url;
use serde::Serialize;
use store::{
    disk::{Disk, RealDisk},
    health::Health,
};

use crate::{
    clock::WallClock,
    config::{Config, loggable},
    fleet::name::taken_by_stranger,
    net::{self, Api, EndpointTls},
    telemetry,
};

/// Timeout of each step.
const WITHIN: Duration = Duration::from_secs(5);
/// Rooms whose dispatches are looked at.
const MOST_ROOMS: usize = 50;
/// Every record waits for this, so a slower disk is worth a warning.
const SLOW_DISK: Duration = Duration::from_millis(250);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ok,
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

    fn warning(name: &'static str, found: impl Into<String>, advice: &'static str) -> Self {
        Self { name, state: State::Warning, found: found.into(), advice: Some(advice) }
    }

    fn failed(name: &'static str, found: impl Into<String>, advice: &'static str) -> Self {
        Self { name, state: State::Failed, found: found.into(), advice: Some(advice) }
    }
}

/// Runs all checks and prints them. Fails if a check failed.
pub(crate) async fn run(config: &Config, json: bool) -> ExitCode {
    let wall = WallClock::new(Health::default());
    let mut checks = vec![Check::ok("settings", "all settings are right")];
    checks.push(server(config, &wall).await);
    checks.push(clock(&wall));
    let api = Api::new(&config.livekit, &wall).map_err(|e| e.to_string());
    let rooms = match &api {
        Ok(api) => api.list_rooms(vec![]).await.map_err(|e| e.to_string()),
        Err(e) => Err(e.clone()),
    };
    match (api, rooms) {
        (Ok(api), Ok(rooms)) => {
            checks.push(Check::ok("keys", format!("LiveKit lists {} rooms", rooms.len())));
            let names: Vec<String> = rooms.into_iter().map(|r| r.name).take(MOST_ROOMS).collect();
            checks.push(agent_name(&config.agent_name, &api, &names).await);
        }
        (_, Err(e)) | (Err(e), _) => checks.push(Check::failed(
            "keys",
            format!("LiveKit does not list its rooms: {e}"),
            "LIVEKIT_API_KEY and LIVEKIT_API_SECRET must be a pair of the server's keys, and the clocks \
             of both machines must agree",
        )),
    }
    checks.push(endpoint(&config.endpoint, &config.delivery.tls).await);
    checks.push(data_folder(&RealDisk, &config.data_dir));
    print(&checks, json);
    if checks.iter().any(|c| c.state == State::Failed) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Whether a LiveKit server answers at the URL. Its answer also shows its time.
async fn server(config: &Config, wall: &WallClock) -> Check {
    const NAME: &str = "livekit";
    let shown = config.livekit.loggable_url();
    let client = match net::http_client(WITHIN) {
        Ok(client) => client,
        Err(e) => return Check::failed(NAME, e.to_string(), "TLS cannot be set up"),
    };
    let asked = Instant::now();
    let answer = match client.get(config.livekit.http_url()).send().await {
        Ok(answer) => answer,
        Err(e) => {
            let url = &config.livekit.url;
            let e = telemetry::masked(&net::explain::causes(&e.without_url()));
            let e = net::explain::livekit(e, url);
            return Check::failed(
                NAME,
                format!("{shown} does not answer: {e}"),
                "check LIVEKIT_URL, and that this machine reaches the server: name, port, firewall",
            );
        }
    };
    wall.learn_answer(answer.headers(), asked.into());
    let status = answer.status();
    let text = answer.text().await.unwrap_or_default();
    if status.is_success() && text.trim() == "OK" {
        Check::ok(NAME, format!("{shown} answers"))
    } else {
        Check::warning(
            NAME,
            format!("{shown} answers {status}, but not as LiveKit does"),
            "something else may listen there: check host and port in LIVEKIT_URL",
        )
    }
}

fn clock(wall: &WallClock) -> Check {
    const NAME: &str = "clock";
    match (wall.ahead(), wall.wrong_by()) {
        (None, _) => Check::warning(NAME, "the server did not tell its time", "check \"livekit\""),
        (_, None) => Check::ok(NAME, "this machine's clock agrees with the server's"),
        (_, Some(ahead)) => Check::failed(
            NAME,
            format!("this machine's clock is {ahead} s ahead of the server's (negative: behind)"),
            "set the clock, for example with NTP: tokens are refused when clocks differ",
        ),
    }
}

/// Whether another program takes jobs under our agent name. LiveKit does not list workers, but it shows who
/// took the jobs of a dispatch.
async fn agent_name(name: &str, api: &Api, rooms: &[String]) -> Check {
    const NAME: &str = "agent_name";
    for room in rooms {
        let all = api.list_dispatches(room).await.unwrap_or_default();
        let ours = all.iter().filter(|d| d.agent_name == name);
        if let Some(stranger) = ours.filter_map(taken_by_stranger).next() {
            return Check::failed(
                NAME,
                format!("another program takes jobs under the name \"{name}\", as {stranger}"),
                "give call-history a name of its own with CALL_HISTORY_AGENT_NAME: LiveKit offers each \
                 job to one program only",
            );
        }
    }
    Check::ok(
        NAME,
        format!(
            "no other program was seen to take jobs of \"{name}\"; no voice agent may have this name"
        ),
    )
}

/// Whether records can be sent: name, address, proxy, TLS. No request is sent.
async fn endpoint(url: &Url, tls: &EndpointTls) -> Check {
    const NAME: &str = "endpoint";
    let shown = loggable(url);
    match net::reach(url, tls, WITHIN).await {
        Ok(None) => Check::ok(NAME, format!("{shown} can be connected to; nothing was sent")),
        Ok(Some(proxy)) => Check::ok(
            NAME,
            format!(
                "the proxy {proxy} can be connected to; whether it lets records through to {shown} is seen \
                 when one is sent"
            ),
        ),
        Err(e) => Check::failed(
            NAME,
            format!(
                "{shown} cannot be connected to: {}",
                net::explain::endpoint(telemetry::masked(&e), url)
            ),
            "records wait in the data folder until it can; check CALL_HISTORY_ENDPOINT",
        ),
    }
}

/// Whether the data folder takes a file, and how fast.
fn data_folder(disk: &dyn Disk, dir: &Path) -> Check {
    const NAME: &str = "data_folder";
    let shown = dir.display();
    let path = dir.join(format!("doctor-{}", uuid::Uuid::new_v4()));
    let began = Instant::now();
    let written = disk
        .create_dir(dir)
        .and_then(|()| disk.write_synced(&path, b"doctor"))
        .and_then(|()| disk.sync_dir(dir));
    let took = began.elapsed();
    let removed = disk.remove(&path);
    match written.and(removed) {
        Err(e) => Check::failed(
            NAME,
            format!("{shown} cannot be written: {e}"),
            "check CALL_HISTORY_DATA_DIR: the folder's owner, its space, a read-only mount",
        ),
        Ok(()) if took > SLOW_DISK => Check::warning(
            NAME,
            format!("{shown} takes {} ms to store a file", took.as_millis()),
            "use a local disk: every record is stored before it is posted",
        ),
        Ok(()) => Check::ok(NAME, format!("{shown} stores a file in {} ms", took.as_millis())),
    }
}

fn print(checks: &[Check], json: bool) {
    let mut out = io::stdout().lock();
    if json {
        let text = serde_json::to_string_pretty(checks).unwrap_or_default();
        // If nobody reads the output, there is nothing to do about it. The same holds below.
        let _ = writeln!(out, "{text}");
        return;
    }
    for c in checks {
        let mark = match c.state {
            State::Ok => "ok     ",
            State::Warning => "warning",
            State::Failed => "FAILED ",
        };
        let _ = writeln!(out, "{mark}  {:<12} {}", c.name, c.found);
        if let Some(advice) = c.advice {
            let _ = writeln!(out, "{:22} → {advice}", "");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::disk::memory::MemoryDisk;

    #[test]
    fn a_folder_that_takes_no_file_fails_and_nothing_is_left_in_one_that_does() {
        let (disk, dir) = (MemoryDisk::default(), Path::new("/data"));
        assert_eq!(data_folder(&disk, dir).state, State::Ok);
        assert_eq!(disk.walk(dir).unwrap().count(), 0);
        let file = std::env::current_exe().unwrap();
        let check = data_folder(&RealDisk, &file.join("below-a-file"));
        assert_eq!(check.state, State::Failed);
        assert!(check.advice.is_some());
    }
}
