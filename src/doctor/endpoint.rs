//! Where records go: name, address, proxy, TLS; and on request a sample record.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use delivery::{Finished, Follow, Store, Target};
use record::{AgentConfig, CallHistory, CallType, Metrics, Moment, Outcomes, Status};
use reqwest::Url;
use store::{
    BacklogGauge, Ordinals, Outbox,
    disk::{DiskHealth, DiskWork, RealDisk},
    health::Health,
    outbox::Folder,
};
use tokio::time::{Instant, sleep};

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
/// How often the outbox is looked at for the sample's result.
const LOOK_EVERY: Duration = Duration::from_millis(50);

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
    // Nothing in it is worth an error.
    let _ = std::fs::remove_dir_all(&folder);
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
    // A first answer that is an error is not hidden by the next attempt, which may follow at once and succeed.
    let error = Arc::new(OnceLock::new());
    let seen = Arc::clone(&error);
    let follow: Follow = Arc::new(move |attempt| {
        if let (false, Some(status)) = (attempt.delivered, attempt.status) {
            // Only the first is kept.
            let _ = seen.set(status);
        }
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
    let until = Instant::now() + ANSWER_WITHIN.min(config.delivery.timeout + WITHIN);
    let result = loop {
        if let Some(done) = outcome(&outbox, &id, error.get().copied()) {
            break done;
        }
        if Instant::now() > until {
            break Err(NO_ANSWER_YET.into());
        }
        sleep(LOOK_EVERY).await;
    };
    sender.abort();
    let shown = loggable(&config.endpoint);
    let signed = if config.jwt_secret.is_some() { "signed" } else { "not signed" };
    result.map(|()| format!("{shown} took the record {id}, {signed}, of a call that never was"))
}

/// The result of the sample, once there is one. `error`: the status of the first answer that was an error.
fn outcome(outbox: &Outbox, id: &str, error: Option<u16>) -> Option<Result<(), String>> {
    let folder = outbox.find(id)?;
    if folder == Folder::Sent {
        // The outbox keeps no errors of a record that was delivered after all.
        return Some(error.map_or(Ok(()), |status| Err(format!("answered {status}"))));
    }
    let attempts = outbox.attempts(folder, id);
    (attempts.count > 0).then_some(Err(attempts.last_error))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_that_only_a_later_attempt_delivered_has_failed() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk_health = DiskHealth::new(folder.path(), Health::default());
        let outbox =
            Outbox::open(Arc::new(RealDisk), disk_health, folder.path()).expect("an outbox");
        outbox.seal("one", b"{}").expect("sealed");
        assert_eq!(outcome(&outbox, "one", None), None, "no attempt has ended");
        assert_eq!(outcome(&outbox, "one", Some(401)), None, "its error is not written yet");
        outbox.sent("one").expect("filed");
        assert_eq!(outcome(&outbox, "one", None), Some(Ok(())));
        assert_eq!(outcome(&outbox, "one", Some(401)), Some(Err("answered 401".into())));
    }
}
