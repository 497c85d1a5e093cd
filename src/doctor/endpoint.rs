//! Where records go: name, address, proxy, TLS; and on request a sample record.

use std::{sync::Arc, time::Duration};

use delivery::{Finished, Follow, Store, Target};
use record::{AgentConfig, CallHistory, CallType, Metrics, Moment, Outcomes, Status};
use reqwest::Url;
use store::{
    BacklogGauge, Ordinals, Outbox,
    disk::{DiskHealth, DiskWork, RealDisk},
    health::Health,
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{Check, WITHIN, ends_soon, way};
use crate::{
    clock::WallClock,
    config::{Config, loggable},
    net::{self, EndpointTls},
    run,
};

const NO_OUTBOX: &str = "no outbox can be made for it";
/// The error if the sample does not get as far as the endpoint.
const NOT_STORED: &str = "the record cannot be stored in the data folder, so nothing was sent";
/// An endpoint may take longer, up to its own limit; the doctor does not wait for it.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// The error if the endpoint has not answered by then.
const NO_ANSWER_YET: &str = "there is no answer within 15 s";
/// How often it is tried to remove the sample's folder.
const REMOVALS: u32 = 20;
const BETWEEN_REMOVALS: Duration = Duration::from_millis(50);

/// Whether records can be sent: name, address, proxy, TLS. No request is sent.
pub(super) async fn reached(url: &Url, tls: &EndpointTls) -> Check {
    look("endpoint", url, tls, "records wait in the data folder until it can").await
}

/// The same for live events.
pub(super) async fn events_reached(url: &Url, tls: &EndpointTls) -> Check {
    look(
        "events",
        url,
        tls,
        "live events are given up after a short while; records are not concerned",
    )
    .await
}

async fn look(name: &'static str, url: &Url, tls: &EndpointTls, advice: &'static str) -> Check {
    let shown = loggable(url);
    match net::reach(url, tls, WITHIN).await {
        Ok(reached) => {
            if let Some(warning) = ends_soon(name, &reached) {
                return warning;
            }
            let way = way(&reached);
            // Plain HTTP shows only with a request whether a proxy lets it through.
            if reached.proxy.is_some() && url.scheme() == "http" {
                return Check::ok(
                    name,
                    format!(
                        "{shown} is connected to {way}; whether the proxy lets posts through was not tried"
                    ),
                );
            }
            Check::ok(name, format!("{shown} can be connected to {way}"))
        }
        Err(e) => Check::failed(
            name,
            format!("{shown} cannot be connected to: {}", net::explain::endpoint(e, url)),
            advice,
        ),
    }
}

/// What is left open without a sample.
pub(super) fn no_sample() -> Check {
    Check::skipped(
        "sample",
        "whether the endpoint takes a record shows only with --send-sample, which posts one that says it is a test",
    )
}

/// Sends a record that says it is a test, exactly as those of calls are sent, by an outbox of its own.
pub(super) async fn sample(config: &Config, wall: &WallClock) -> Check {
    const NAME: &str = "sample";
    match send(config, wall).await {
        Ok(found) => Check::ok(NAME, found),
        Err(e) if e == NOT_STORED || e.starts_with(NO_OUTBOX) => {
            Check::failed(NAME, e, "see data_folder")
        }
        Err(e) if e == NO_ANSWER_YET => Check::warning(
            NAME,
            e,
            "a worker waits for CALL_HISTORY_ENDPOINT_TIMEOUT; an endpoint that needs so long should answer first, and work then",
        ),
        Err(e) if e.contains("it redirects") => Check::failed(
            NAME,
            e,
            "change CALL_HISTORY_ENDPOINT as this says: redirects are not followed",
        ),
        Err(e) if ["answered 404", "answered 405"].iter().any(|wrong| e.contains(wrong)) => {
            Check::failed(NAME, e, "look at the path in CALL_HISTORY_ENDPOINT: it must take a POST")
        }
        Err(e) if e.contains("answered ") => Check::failed(
            NAME,
            e,
            "see what the endpoint logs about this request; docs/endpoint.md says what it must answer",
        ),
        Err(e) => Check::failed(
            NAME,
            e,
            "the endpoint has not seen the request: look for the cause on the way to it",
        ),
    }
}

async fn send(config: &Config, wall: &WallClock) -> Result<String, String> {
    // The data folder may be the only place that can be written to.
    let folder = config.data_dir.join(format!("doctor-{}", uuid::Uuid::new_v4().simple()));
    let sent = send_from(config, wall, &folder).await;
    // The outbox may still be filing the record.
    for _ in 0..REMOVALS {
        // Nothing in it is worth an error.
        let _ = std::fs::remove_dir_all(&folder);
        if !folder.exists() {
            break;
        }
        sleep(BETWEEN_REMOVALS).await;
    }
    sent
}

async fn send_from(
    config: &Config,
    wall: &WallClock,
    folder: &std::path::Path,
) -> Result<String, String> {
    let (disk, health) = (Arc::new(RealDisk), Health::default());
    let disk_health = DiskHealth::new(folder, health.clone());
    let cannot = |e: &dyn std::fmt::Display| format!("{NO_OUTBOX}: {e}");
    std::fs::create_dir_all(folder).map_err(|e| cannot(&e))?;
    let outbox = Outbox::open(disk.clone(), disk_health.clone(), folder).map_err(|e| cannot(&e))?;
    let store = Store {
        ordinals: Ordinals::open(disk.clone(), disk_health.clone(), folder)
            .map_err(|e| cannot(&e))?,
        disk: DiskWork::new(disk, disk_health, folder),
        outbox: outbox.clone(),
    };
    let (attempted, mut attempts) = mpsc::unbounded_channel();
    let follow: Follow = Arc::new(move |attempt| {
        let failed = || attempt.error.unwrap_or("not delivered").to_owned();
        // Nobody listens to the later ones.
        let _ = attempted.send(if attempt.delivered { Ok(()) } else { Err(failed()) });
    });
    let target = Target { follow: Some(follow), ..run::target(config, wall)? };
    let gauge = BacklogGauge::new(config.max_backlog, health.clone());
    let (delivery, sender) = delivery::start(store, target, gauge, health);
    let record = record(wall.now());
    let id = record.call_id.clone();
    let (ended, place, journal) = (wall.now(), None, None);
    delivery.submit(Finished { record: &record, place, ended, journal }).await;
    if outbox.find(&id).is_none() {
        sender.abort();
        return Err(NOT_STORED.into());
    }
    let within = ANSWER_WITHIN.min(config.delivery.timeout + WITHIN);
    // The first attempt counts: the next one may follow at once, and succeed.
    let result = match timeout(within, attempts.recv()).await {
        Ok(Some(result)) => result,
        Ok(None) | Err(_) => Err(NO_ANSWER_YET.into()),
    };
    sender.abort();
    let shown = loggable(&config.endpoint);
    let signed = if config.jwt_secret.is_some() { "signed" } else { "not signed" };
    result.map(|()| format!("{shown} took the record {id}, {signed}, of a call that never was"))
}

fn record(now: Moment) -> CallHistory {
    CallHistory {
        call_id: uuid::Uuid::new_v4().to_string(),
        phone_number: "unknown".into(),
        room_name: "call-history-doctor".into(),
        call_type: CallType::Inbound,
        start_time: now.to_rfc3339(),
        end_time: now.to_rfc3339(),
        duration_seconds: 0.0,
        status: Status::Completed,
        termination_reason: None,
        agent_config: AgentConfig::default(),
        metrics: Metrics::default(),
        outcomes: Outcomes {
            notes: Some("A test by `call-history doctor --send-sample`: there was no call.".into()),
            ..Outcomes::default()
        },
        stage_timeline: vec![],
        details: None,
    }
}
