//! LiveKit: address, keys, clock, registration, other programs of our name.

use std::{pin::pin, time::Instant};

use futures_util::{StreamExt, stream};

use crate::{
    clock::WallClock,
    config::Config,
    fleet::{
        Badge,
        name::{self, taken_by_stranger},
    },
    net::{self, Api, ApiError, EndpointTls},
    telemetry::{self, masked},
    worker,
};

use super::{Check, WITHIN, ends_soon, way};

/// Rooms whose dispatches are looked at, the newest first.
const MOST_ROOMS: usize = 50;
/// Of them at the same time.
const ROOMS_AT_ONCE: usize = 10;
/// A caller who has waited so long should have a voice agent.
const AGENT_WITHIN_MS: i64 = 10_000;

/// Whether a LiveKit server answers at the URL. Its answer also shows its time.
pub(super) async fn reached(config: &Config, wall: &WallClock) -> Check {
    const NAME: &str = "livekit";
    let shown = config.livekit.loggable_url();
    let failed = |e: String| {
        let e = net::explain::livekit(telemetry::masked(&e), &config.livekit.url);
        let advice = if e.contains("through the proxy") {
            "check the proxy in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY, or name the server's host in NO_PROXY"
        } else {
            "check LIVEKIT_URL, and that this machine reaches the server: name, port, firewall"
        };
        Check::failed(NAME, format!("{shown} does not answer: {e}"), advice)
    };
    let Ok(url) = config.livekit.http_url().parse() else {
        return failed("the URL cannot be read".into());
    };
    let reached = match net::reach(&url, &EndpointTls::default(), WITHIN).await {
        Ok(reached) => reached,
        Err(e) => return failed(e),
    };
    let client = match net::http_client(WITHIN) {
        Ok(client) => client,
        Err(e) => return Check::failed(NAME, e.to_string(), "TLS cannot be set up"),
    };
    let asked = Instant::now();
    let answer = match client.get(url).send().await {
        Ok(answer) => answer,
        Err(e) => return failed(net::explain::causes(&e.without_url())),
    };
    wall.learn_answer(answer.headers(), asked.into());
    let status = answer.status();
    let text = answer.text().await.unwrap_or_default();
    if let Some(warning) = ends_soon(NAME, &reached) {
        warning
    } else if status.is_success() && text.trim() == "OK" {
        Check::ok(NAME, format!("{shown} answers, {}", way(&reached)))
    } else {
        let found = format!("{shown} answers {status}, but not as LiveKit does");
        // A gateway may pass only LiveKit's own paths on.
        if answers_as_livekit(config, wall).await {
            Check::warning(
                NAME,
                found,
                "its API is there, so a gateway may answer for it: nothing to do if calls work",
            )
        } else {
            Check::failed(
                NAME,
                found,
                "something else listens there: LIVEKIT_URL has the wrong host, port or path",
            )
        }
    }
}

/// Whether what answers speaks LiveKit's API, if only to refuse our key.
async fn answers_as_livekit(config: &Config, wall: &WallClock) -> bool {
    let Ok(api) = Api::new(&config.livekit, wall) else { return false };
    !matches!(api.list_rooms(vec![]).await, Err(ApiError::NoAnswer(_)))
}

pub(super) fn clock(wall: &WallClock) -> Check {
    const NAME: &str = "clock";
    match (wall.ahead(), wall.wrong_by()) {
        (None, _) => Check::warning(NAME, "the server did not say its time", "check \"livekit\""),
        (_, None) => Check::ok(NAME, "this machine's clock agrees with the server's"),
        (_, Some(ahead)) => Check::failed(
            NAME,
            if ahead < 0.0 {
                format!("this machine's clock is {} s behind the server's", -ahead)
            } else {
                format!("this machine's clock is {ahead} s ahead of the server's")
            },
            "set the clocks of both machines, for example with NTP: voice agents and callers get tokens that are \
             refused, and times of records differ",
        ),
    }
}

/// Whether key and secret are right, by a signed request. Also returns the names of some rooms.
pub(super) async fn keys(
    config: &Config,
    wall: &WallClock,
) -> Result<(Check, Api, Vec<String>), Check> {
    const NAME: &str = "keys";
    let failed = |e: ApiError| match e {
        ApiError::Unauthorized(e) => Check::failed(
            NAME,
            format!("LiveKit does not take the key or its secret: {e}"),
            "LIVEKIT_API_KEY and LIVEKIT_API_SECRET must be a pair of the server's keys",
        ),
        e => Check::failed(
            NAME,
            format!("LiveKit does not list its rooms: {e}"),
            "see what LiveKit, or a gateway before it, logs about this request",
        ),
    };
    let api = Api::new(&config.livekit, wall)
        .map_err(|e| Check::failed(NAME, e.to_string(), "TLS or a proxy cannot be set up"))?;
    let mut rooms = api.list_rooms(vec![]).await.map_err(failed)?;
    rooms.sort_by_key(|r| std::cmp::Reverse(r.creation_time_ms));
    let check = Check::ok(
        NAME,
        format!("key and secret are taken; the server has {}", open_rooms(rooms.len())),
    );
    let names = rooms.into_iter().map(|r| r.name).take(MOST_ROOMS).collect();
    Ok((check, api, names))
}

/// Whether workers can register. Under a name that nobody dispatches: a second worker of our name would be
/// offered jobs.
pub(super) async fn registration(config: &Config, wall: &WallClock) -> Check {
    const NAME: &str = "registration";
    let name = format!("call-history-doctor-{}", uuid::Uuid::new_v4().simple());
    let config = Config { agent_name: name, ..config.clone() };
    match worker::try_registration(&config, wall).await {
        Ok(version) => {
            Check::ok(NAME, format!("workers can register; the server is LiveKit {version}"))
        }
        Err(e) => Check::failed(
            NAME,
            format!(
                "the server takes no worker: {}",
                net::explain::livekit(e, &config.livekit.url)
            ),
            "a proxy before the server must pass websockets on, also at the path /agent",
        ),
    }
}

/// What the jobs of a room show about our agent name.
enum Verdict {
    /// The room has no job of this name.
    None,
    /// A participant that is not ours took one: its identity.
    Stranger(String),
    /// One caller is there, and no voice agent.
    NoAgent,
    /// Nobody is there, or a caller who has just come.
    TooEarly,
    Served,
}

/// Whether another program takes jobs under our agent name. LiveKit does not list workers, but it shows who
/// took the jobs of a dispatch. Where we took the jobs of a voice agent, its rooms have no agent.
pub(super) async fn agent_name(
    config: &Config,
    api: &Api,
    wall: &WallClock,
    rooms: &[String],
) -> Check {
    const NAME: &str = "agent_name";
    let name = &config.agent_name;
    if !config.layers.dispatch {
        return Check::skipped(NAME, "by its settings the worker does not register under a name");
    }
    let badge = Badge::new(name, String::new(), config.identities.clone());
    let looks = stream::iter(rooms).map(async |room| (room, jobs(&badge, api, wall, room).await));
    let mut looks = pin!(looks.buffer_unordered(ROOMS_AT_ONCE));
    let (mut served, mut too_early, mut without_agent, mut error) = (0, 0, vec![], None);
    while let Some((room, look)) = looks.next().await {
        match look {
            Ok(Verdict::None) => {}
            Ok(Verdict::Served) => served += 1,
            Ok(Verdict::TooEarly) => too_early += 1,
            Ok(Verdict::NoAgent) => without_agent.push(masked(room)),
            Ok(Verdict::Stranger(identity)) => {
                let room = masked(room);
                return Check::failed(
                    NAME,
                    format!(
                        "another program took a job of \"{name}\", as {identity} in room {room}"
                    ),
                    name::ADVICE,
                );
            }
            Err(e) => error = Some(e),
        }
    }
    if let Some(e) = error.filter(|_| without_agent.is_empty()) {
        return Check::warning(
            NAME,
            format!("it cannot be seen who takes jobs of \"{name}\": {e}"),
            "no voice agent must register under this name",
        );
    }
    let again = "run doctor again when a caller has been in a room for 10 s";
    match (without_agent.first(), served, too_early) {
        (Some(room), ..) => Check::warning(
            NAME,
            format!(
                "{} with a job of \"{name}\" and a caller, but without a voice agent, for example {room}: the agent may be \
                 down, or registered under this name",
                open_rooms(without_agent.len())
            ),
            name::NO_AGENT_ADVICE,
        ),
        (None, 0, 0) => Check::skipped(
            NAME,
            format!(
                "no open room has a job of \"{name}\", so nothing shows whether another program has this name: {again}"
            ),
        ),
        (None, 0, _) => Check::skipped(
            NAME,
            format!(
                "{} with a job of \"{name}\", but none of them shows yet who takes such jobs: {again}",
                open_rooms(too_early)
            ),
        ),
        (None, ..) => Check::ok(
            NAME,
            format!("no other program took a job of \"{name}\": {} looked at", open_rooms(served)),
        ),
    }
}

async fn jobs(badge: &Badge, api: &Api, wall: &WallClock, room: &str) -> Result<Verdict, ApiError> {
    let all = api.list_dispatches(room).await?;
    let ours: Vec<_> = all.iter().filter(|d| d.agent_name == badge.fleet()).collect();
    if ours.is_empty() {
        return Ok(Verdict::None);
    }
    if let Some(identity) = ours.into_iter().find_map(taken_by_stranger) {
        return Ok(Verdict::Stranger(identity));
    }
    let there = badge.read(&api.list_participants(room).await?);
    let waited = there.human_since.map(|since| wall.now().millis() - since);
    Ok(match waited {
        // LiveKit lists some seconds after the agent's join who took a job.
        Some(ms) if ms < AGENT_WITHIN_MS => Verdict::TooEarly,
        Some(_) if there.agent || there.humans > 1 => Verdict::Served,
        Some(_) => Verdict::NoAgent,
        None => Verdict::TooEarly,
    })
}

fn open_rooms(n: usize) -> String {
    if n == 1 { "1 open room".into() } else { format!("{n} open rooms") }
}
