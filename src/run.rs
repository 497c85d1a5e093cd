//! Sets up the parts and runs them: `start` and `connect`.

use std::{io::ErrorKind, path::Path, process::ExitCode, sync::Arc, time::Duration};

use call::{Settings, event::Discovery};
use delivery::{Delivery, Store, Target, events::Events};
use reqwest::{Url, header::HOST};
use store::{
    BacklogGauge, Ordinals, Outbox,
    disk::{Disk, DiskHealth, DiskWork, Lock, RealDisk, read_patiently},
    health::{Health, Topic},
    journal::{self, Journals, LeftBehind},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    admin::{self, States, Webhook},
    clock::{WallClock, millis},
    config::{Config, loggable},
    descriptors,
    fleet::Badge,
    folder::{self, Unusable},
    memory,
    net::{self, Api, EndpointTls},
    observer::{self, Assignment, Ended, Observers, Orders},
    probe::Listener,
    stop::Stop,
    telemetry::Level,
    traces::Traces,
    worker::{self, Worker, WorkerState},
};

/// How long a stopping process waits for the last lines of journals to reach the disk.
const JOURNAL_WITHIN: Duration = Duration::from_secs(2);
/// How long a stopping process waits for the last live events, and for the last spans of traces.
const EVENTS_WITHIN: Duration = Duration::from_secs(3);
const TRACES_WITHIN: Duration = Duration::from_secs(2);
/// Timeout of a look at the endpoint at the start, and the wait after one that failed.
const TRY_WITHIN: Duration = Duration::from_secs(10);
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// Bytes: smaller bodies are not worth compressing.
const GZIP_FROM: usize = 8 * 1024;
/// How long a stopping process waits for the last records to be posted. The others stay sealed for the next
/// start.
const FLUSH_WITHIN: Duration = Duration::from_secs(12);
/// Posting that takes longer is logged: whoever stops the worker sees what it waits for.
const FLUSH_QUICKLY: Duration = Duration::from_secs(1);

/// Registers and serves until SIGTERM or SIGINT.
pub(crate) async fn start(config: Config) -> ExitCode {
    descriptors::warn_if_few(config.max_calls);
    net::report_certificates();
    let Some(setup) = set_up(&config) else { return ExitCode::FAILURE };
    let Setup { observers, delivery, sender, events, traces, backlog, health, left, _lock } = setup;
    let journals = observers.journals.clone();
    let stop = Stop::default();
    let state = watch::Sender::new(WorkerState::starting(config.layers));
    let requests = worker::request_channel();
    let webhook = config.layers.webhook.then(|| {
        let wall = observers.wall.clone();
        Webhook::new(&config.livekit, requests.0.clone(), wall, events.clone())
    });
    let page = admin::Page {
        agent_name: config.agent_name.clone(),
        worker: state.subscribe(),
        health: health.clone(),
        stop: stop.clone(),
        states: States {
            active_calls: observers.active_calls.subscribe(),
            backlog,
            wall: observers.wall.clone(),
            memory_limit: worker::memory_limit(config.max_memory),
        },
        webhook,
    };
    if let Some(addr) = config.http_addr
        && let Err(e) = admin::start(addr, page).await
    {
        let advice = match e.kind() {
            ErrorKind::AddrInUse => match Listener::at(addr).await {
                Listener::DrainingWorker => {
                    "a worker that is draining has this address: start again once its calls have ended"
                }
                Listener::Worker => "another worker has this address: stop it first",
                Listener::Other => "stop the program that has this address",
            },
            ErrorKind::AddrNotAvailable => "it must be an address of this machine",
            ErrorKind::PermissionDenied => {
                "take a port above 1023, or give the process the right to this one"
            }
            _ => "see the error",
        };
        tracing::error!(
            addr = %addr, error = %e, advice,
            "the health page's address cannot be used; set CALL_HISTORY_HTTP_ADDR to another one or to off"
        );
        return ExitCode::FAILURE;
    }
    // Nothing waits for this task: if it is late, the first call does the work itself.
    drop(tokio::task::spawn_blocking(observer::make_ready));
    tokio::spawn(descriptors::watch(health.clone()));
    tokio::spawn(memory::watch(observers.active_calls.subscribe(), heap::give_back));
    tokio::spawn(folder::watch_space(config.data_dir.clone(), health.clone()));
    tokio::spawn(try_endpoint(
        config.endpoint.clone(),
        config.delivery.tls.clone(),
        health.clone(),
    ));
    report_layers(&config);
    tokio::spawn(listen(stop.clone(), config.drain_timeout));
    let worker = Worker {
        config: Arc::new(config),
        observers: Arc::new(observers),
        left,
        stop,
        state,
        health,
        requests,
    };
    worker.run().await;
    flush(delivery, sender).await;
    events.flush(EVENTS_WITHIN).await;
    traces.flush(TRACES_WITHIN).await;
    journals.flush(JOURNAL_WITHIN);
    tracing::info!("stopped");
    ExitCode::SUCCESS
}

/// Observes one room until it ends.
pub(crate) async fn connect(config: Config, room: String) -> ExitCode {
    // Joining a room that does not exist would create it.
    let wall = WallClock::new(Health::default());
    let Some(api) = livekit_api(&config, &wall) else { return ExitCode::FAILURE };
    let sid = match api.list_rooms(vec![room.clone()]).await {
        Ok(rooms) => rooms.into_iter().find(|r| r.name == room).map(|r| r.sid),
        Err(e) => {
            tracing::error!(url = config.livekit.loggable_url(), error = %e, "LiveKit cannot be asked for the room");
            return ExitCode::FAILURE;
        }
    };
    if sid.is_none() {
        tracing::error!("there is no such room; start the call first");
        return ExitCode::FAILURE;
    }
    let Some(setup) = set_up(&config) else { return ExitCode::FAILURE };
    let Setup { observers, delivery, sender, events, traces, left, _lock, .. } = setup;
    let journals = observers.journals.clone();
    // Only this room's call; those of other rooms wait for the next `start`.
    let left = left.into_iter().filter(|l| Some(&l.call.room().sid) == sid.as_ref());
    let left = left.max_by_key(|l| l.call.ordinal()).map(Box::new);
    let stop = Stop::default();
    tokio::spawn(listen(stop.clone(), config.drain_timeout));
    let url = config.livekit.url.clone();
    let assignment = Assignment::own(room, sid, url, Discovery::Command);
    let observers = Arc::new(observers);
    let keep = watch::Sender::new(false);
    let (_nothing, later_jobs) = mpsc::unbounded_channel();
    let orders = Orders { stop, withdraw: keep.subscribe(), later_jobs };
    let ended = observer::observe(observers, assignment, left, orders, |_| {}).await;
    flush(delivery, sender).await;
    events.flush(EVENTS_WITHIN).await;
    traces.flush(TRACES_WITHIN).await;
    journals.flush(JOURNAL_WITHIN);
    match ended {
        Ended::Done | Ended::Removed => ExitCode::SUCCESS,
        Ended::NotOurs | Ended::Elsewhere | Ended::ReportedBefore(_) | Ended::Failed(_) => {
            tracing::error!(?ended, "the room was not observed");
            ExitCode::FAILURE
        }
    }
}

/// The parts of a run.
struct Setup {
    observers: Observers,
    delivery: Delivery,
    sender: JoinHandle<()>,
    events: Events,
    traces: Traces,
    backlog: BacklogGauge,
    health: Health,
    /// Calls that an earlier run left behind.
    left: Vec<LeftBehind>,
    /// Held for the life of the process, so that no other process uses the data folder.
    _lock: Lock,
}

/// Locks the data folder and opens what is in it.
fn open(
    config: &Config,
    disk: &Arc<dyn Disk>,
    health: &DiskHealth,
) -> Result<(Lock, Store, Journals), Unusable> {
    let dir = &config.data_dir;
    let cannot = |what: String| move |source| Unusable::Io { what, source };
    disk.create_dir(dir).map_err(cannot(format!("cannot create {}", dir.display())))?;
    let lock = Lock::take(dir)?;
    let store = Store {
        outbox: Outbox::open(disk.clone(), health.clone(), dir)?,
        ordinals: Ordinals::open(disk.clone(), health.clone(), dir)
            .map_err(cannot("no ordinals".to_owned()))?,
        disk: DiskWork::new(disk.clone(), health.clone(), dir),
    };
    let journals = Journals::start(disk.clone(), health.clone(), dir, config.keep_journals)
        .map_err(cannot("no journals".to_owned()))?;
    Ok((lock, store, journals))
}

/// Sets up the parts. `None` after an error was logged.
fn set_up(config: &Config) -> Option<Setup> {
    let dir = &config.data_dir;
    let health = Health::default();
    let wall = WallClock::new(health.clone());
    let disk_health = DiskHealth::new(dir, health.clone());
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let opened = open(config, &disk, &disk_health);
    let (lock, store, journals) = match opened {
        Ok(opened) => opened,
        Err(e) => {
            let advice = folder::advice(&e);
            let e = format!("{e}{}", folder::owner(dir));
            tracing::error!(
                folder = %dir.display(), error = e, advice, "the data folder cannot be used"
            );
            return None;
        }
    };
    let left = journal::left_behind(&*disk, dir, &store.outbox).unwrap_or_else(|e| {
        tracing::error!(error = %e, "calls of an earlier run cannot be recovered");
        vec![]
    });
    let traces = Traces::start();
    let targets = target(config, &wall).and_then(|t| Ok((t, events(config, &wall, &health)?)));
    let (target, events) = match targets {
        Ok((target, events)) => (Target { follow: traces.follow(), ..target }, events),
        Err(e) => {
            tracing::error!(error = e, "TLS or a proxy cannot be set up");
            return None;
        }
    };
    tracing::info!(
        endpoint = loggable(&config.endpoint),
        signed = config.jwt_secret.is_some(),
        "records will be posted"
    );
    let backlog = BacklogGauge::new(config.max_backlog, health.clone());
    let (delivery, sender) = delivery::start(store, target, backlog.clone(), health.clone());
    let settings = Settings {
        silence_threshold_ms: millis(config.silence_threshold),
        end_grace_ms: millis(config.end_grace),
        details: config.details,
        transcript: config.transcript,
        require_agent: config.require_agent,
        identities: config.identities.clone(),
        metadata_keys: config.metadata_keys.clone().into(),
        profiles: Arc::new(config.profiles.clone()),
    };
    let badge = Badge::new(&config.agent_name, worker_id(&*disk, dir), config.identities.clone());
    let observers = Observers::new(
        settings,
        livekit_api(config, &wall)?,
        wall,
        (delivery.clone(), events.clone()),
        journals,
        badge,
        &health,
    );
    Some(Setup { observers, delivery, sender, events, traces, backlog, health, left, _lock: lock })
}

/// Where and how records are posted.
///
/// # Errors
/// If TLS or a proxy cannot be set up.
pub(crate) fn target(config: &Config, wall: &WallClock) -> Result<Target, String> {
    let tls = config.delivery.tls.client_config()?;
    // HTTP/2 has the host's name elsewhere, and a server may refuse to get two.
    let http2 = !config.delivery.headers.contains_key(HOST);
    let client = net::http_client_with(config.delivery.timeout, tls, http2);
    let (wall, endpoint, signed) =
        (wall.clone(), config.endpoint.clone(), config.jwt_secret.is_some());
    Ok(Target {
        client: client.map_err(|e| e.to_string())?,
        endpoint: config.endpoint.clone(),
        jwt_secret: config.jwt_secret.clone(),
        headers: config.delivery.headers.clone(),
        max_body: config.delivery.max_body,
        gzip_from: config.delivery.gzip.then_some(GZIP_FROM),
        shown: loggable(&config.endpoint),
        keep_sent: config.keep_sent,
        now: Arc::new(move || wall.now()),
        explain: Arc::new(move |e| {
            net::explain::refusal(descriptors::explain(e), &endpoint, signed)
        }),
        follow: None,
    })
}

/// Where live events go. They have connections of their own, so that records do not wait for them.
///
/// # Errors
/// If TLS or a proxy cannot be set up.
fn events(config: &Config, wall: &WallClock, health: &Health) -> Result<Events, String> {
    let Some(endpoint) = config.events_endpoint.clone() else { return Ok(Events::default()) };
    let shown = loggable(&endpoint);
    tracing::info!(endpoint = shown, "live events will be posted");
    let url = endpoint.clone();
    let target = Target {
        explain: Arc::new(move |e| net::explain::events(descriptors::explain(e), &url)),
        endpoint,
        shown,
        ..target(config, wall)?
    };
    Ok(Events::new(target, health.metrics().clone()))
}

/// Connects to the endpoint until that works once, and sends nothing: a wrong address or certificate shows at the start,
/// not after the first call.
async fn try_endpoint(endpoint: Url, tls: EndpointTls, health: Health) {
    while let Err(e) = net::reach(&endpoint, &tls, TRY_WITHIN).await {
        let error = net::explain::endpoint(e, &endpoint);
        if health.warn(Topic::EndpointAway, format!("it cannot be connected to: {error}")) {
            tracing::warn!(
                endpoint = loggable(&endpoint),
                error,
                "the endpoint cannot be connected to; records will wait until it can"
            );
        }
        sleep(TRY_AGAIN_AFTER).await;
    }
    if health.clear(Topic::EndpointAway) {
        tracing::info!(endpoint = loggable(&endpoint), "the endpoint can be connected to now");
    }
}

/// How calls are found. A worker that only waits for a dispatch sees no call at all if nobody dispatches it.
fn report_layers(config: &Config) {
    tracing::info!(layers = %config.layers, "how calls are found");
    if !config.layers.reconcile {
        tracing::warn!(
            agent_name = config.agent_name,
            "rooms are not looked for: CALL_HISTORY_DISCOVERY lacks reconcile, so calls that no other layer \
             reports are not seen"
        );
    }
}

/// A client for LiveKit's API. `None` if it cannot be set up, which is logged.
fn livekit_api(config: &Config, wall: &WallClock) -> Option<Api> {
    let api = Api::new(&config.livekit, wall);
    if let Err(e) = &api {
        tracing::error!(error = %e, "TLS or a proxy cannot be set up");
    }
    api.ok()
}

/// The worker's id, kept in the data folder so that it stays the same across restarts. By it we recognize
/// observers that a previous run of ours left in a room. If the id cannot be stored, it serves for this run.
/// An id that exists but cannot be read now is not overwritten: the next start may read it again.
fn worker_id(disk: &dyn Disk, dir: &Path) -> String {
    let path = dir.join("worker-id");
    let id = uuid::Uuid::new_v4().to_string();
    match read_patiently(disk, &path) {
        Ok(kept) => {
            let kept = String::from_utf8(kept).unwrap_or_default();
            if uuid::Uuid::try_parse(kept.trim()).is_ok() {
                return kept.trim().to_owned();
            }
            tracing::warn!(path = %path.display(), "the file worker-id holds no valid id, a new one is written");
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => {
            tracing::warn!(
                path = %path.display(), error = %e,
                "the worker's id cannot be read, another is used for this run: what an earlier run \
                 left in rooms is taken for another worker until LiveKit removes it"
            );
            return id;
        }
    }
    let kept = disk.write_synced(&path, id.as_bytes()).and_then(|()| disk.sync_dir(dir));
    if let Err(e) = kept {
        tracing::warn!(error = %e, "the worker's id cannot be kept in the data folder");
    }
    id
}

/// Turns signals into [`Stop`]: the first drains, the second or the deadline ends.
async fn listen(stop: Stop, drain_timeout: Duration) {
    let (Ok(mut term), Ok(mut int)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be received; the process can only be killed");
        return;
    };
    let mut next = async || tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} };
    next().await;
    tracing::info!(
        "draining worker: no new calls, those that are on go on; signal again to stop now"
    );
    stop.drain();
    // On the second signal or after the timeout: stop now.
    let _ = timeout(drain_timeout, next()).await;
    tracing::info!("stopping now");
    stop.now();
}

/// Reads the log level anew at each SIGHUP, which else would end the process.
pub(crate) async fn reload_on_hangup(mut level: Level) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        tracing::warn!("SIGHUP cannot be received: it ends the process");
        return;
    };
    while hangup.recv().await.is_some() {
        level.reload();
    }
}

/// Gives the sender time to post what is due. `delivery` must be the last handle to it.
async fn flush(delivery: Delivery, sender: JoinHandle<()>) {
    let abort = sender.abort_handle();
    let leftovers = delivery.leftovers();
    drop(delivery);
    let until = Instant::now() + FLUSH_WITHIN;
    tokio::pin!(sender);
    let mut undelivered = timeout(FLUSH_QUICKLY, &mut sender).await.is_err();
    if undelivered {
        tracing::info!(
            within_s = (FLUSH_WITHIN - FLUSH_QUICKLY).as_secs(),
            "records are still being sent before the process ends"
        );
        undelivered = timeout_at(until, &mut sender).await.is_err();
    }
    abort.abort();
    let lost = leftovers.save().await;
    if lost > 0 {
        tracing::error!(records = lost, "records that could not be sealed on disk are lost");
    }
    if undelivered {
        tracing::warn!(
            "undelivered records stay in the data folder and are sent at the next start"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::disk::memory::MemoryDisk;

    fn disk() -> (MemoryDisk, &'static Path, std::path::PathBuf) {
        let (disk, dir) = (MemoryDisk::default(), Path::new("/data"));
        disk.create_dir(dir).unwrap();
        (disk, dir, dir.join("worker-id"))
    }

    #[test]
    fn a_worker_keeps_its_id_across_restarts_and_power_cuts() {
        let (disk, dir, path) = disk();
        let id = worker_id(&disk, dir);
        assert_eq!(worker_id(&disk, dir), id);
        for seed in 0..40 {
            assert_eq!(worker_id(&disk.after_a_power_cut(seed), dir), id, "cut {seed}");
        }
        disk.write(&path, format!(" {id}\n").as_bytes()).unwrap();
        assert_eq!(worker_id(&disk, dir), id, "as an editor leaves it");
    }

    #[test]
    fn an_id_that_cannot_be_read_for_a_moment_is_still_used() {
        let (disk, dir, _) = disk();
        let id = worker_id(&disk, dir);
        disk.fail_reads(store::disk::READ_AGAIN as u64);
        assert_eq!(worker_id(&disk, dir), id);
    }

    #[test]
    fn an_id_that_cannot_be_read_is_replaced_for_this_run_only() {
        let (disk, dir, _) = disk();
        let id = worker_id(&disk, dir);
        disk.fail_reads(u64::MAX);
        let other = worker_id(&disk, dir);
        assert!(other != id && uuid::Uuid::try_parse(&other).is_ok());
        disk.fail_reads(0);
        assert_eq!(worker_id(&disk, dir), id, "it was not written over");
    }

    #[test]
    fn an_id_that_is_not_valid_is_replaced() {
        for rubbish in [&b""[..], b"x", b"\xff\xfe", b"ac329949-ee7c-5bfc"] {
            let (disk, dir, path) = disk();
            disk.write(&path, rubbish).unwrap();
            let id = worker_id(&disk, dir);
            assert!(uuid::Uuid::try_parse(&id).is_ok());
            assert_eq!(disk.read(&path).unwrap(), id.as_bytes());
        }
    }
}
