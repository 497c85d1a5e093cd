//! Several workers with one agent name: every call has one observer, and gets a new one when its
//! worker is gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt, future::try_join_all, stream};
use livekit::DisconnectReason;
use livekit_devserver::{Config, WebhookConfig};
use tokio::time::{Instant, sleep};

use super::{wait::eventually, *};

/// Logged when a worker withdraws from a room.
const WITHDRAWN: &str = "another worker observes the room, left to it";

/// A room, and the caller and the agent in it.
type Call = (String, Person, VoiceAgent);

/// Workers that share an agent name and nothing else.
struct Fleet {
    venue: Venue,
    endpoint: Endpoint,
    name: String,
    env: Vec<(String, String)>,
    workers: Vec<Worker>,
    folders: Vec<tempfile::TempDir>,
}

/// Whether a worker has joined a room, and not left it to another one.
fn holds(worker: &Worker, room: &str) -> bool {
    worker.count("joined", room) + worker.count("joined again", room)
        > worker.count(WITHDRAWN, room)
}

impl Fleet {
    async fn new(venue: Venue, workers: usize, env: &[(&str, &str)]) -> Result<Self> {
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let (endpoint, name) = (Endpoint::start().await?, unique("fleet"));
        let mut fleet = Self { venue, endpoint, name, env, workers: vec![], folders: vec![] };
        for n in 0..workers {
            fleet.folders.push(tempfile::tempdir()?);
            let worker = fleet.start(n, &[])?;
            fleet.workers.push(worker);
        }
        for worker in &mut fleet.workers {
            worker.logs("registered worker").await?;
        }
        Ok(fleet)
    }

    /// Starts the worker with the n-th data folder.
    fn start(&self, n: usize, env: &[(&str, &str)]) -> Result<Worker> {
        let data = self.folders[n].path().join("data");
        let mut setup = setup(&self.venue, &self.endpoint, &self.name, &self.env, &[], &data);
        for (key, value) in env {
            setup = setup.with(key, value);
        }
        Worker::start(setup)
    }

    async fn restart(&mut self, n: usize) -> Result<()> {
        self.workers[n] = self.start(n, &[])?;
        self.workers[n].logs("registered worker").await?;
        Ok(())
    }

    /// A caller whose token dispatches the fleet if `dispatched`.
    async fn caller(&self, room: &str, dispatched: bool) -> Result<Person> {
        let ticket = Ticket {
            room: room.into(),
            identity: "alice".into(),
            kind: "standard",
            agents: if dispatched { vec![self.name.clone()] } else { vec![] },
            ..Default::default()
        };
        Person::join(&self.venue, &ticket).await
    }

    /// Calls whose callers dispatch the fleet, each in a room of its own.
    async fn calls(&self, n: usize) -> Result<Vec<Call>> {
        let mut calls = vec![];
        for _ in 0..n {
            let room = unique(&self.name);
            let caller = self.caller(&room, true).await?;
            let agent = VoiceAgent::join(&self.venue, &room, true).await?;
            calls.push((room, caller, agent));
        }
        Ok(calls)
    }

    /// Starts one call with a fleet of two workers. After one turn, kills the worker that observes the
    /// call. Returns the call and the number of that worker.
    async fn call_whose_worker_died(&mut self) -> Result<(Call, usize)> {
        let mut call = self.calls(1).await?.remove(0);
        let (room, caller, agent) = &mut call;
        self.settle(std::slice::from_ref(room)).await?;
        turn(agent, &caller.identity).await?;
        let dead = self.observing_worker(room);
        // By then the worker's journal is on disk.
        sleep(Duration::from_millis(700)).await;
        self.workers[dead].signal(9).await?;
        self.taken_over(dead, room).await?;
        Ok((call, dead))
    }

    /// Our observers in a room, as the server lists them.
    async fn observers(&self, room: &str) -> Result<Vec<String>> {
        let all = self.venue.rooms().list_participants(room).await?.into_iter();
        let of = all.filter(|p| p.identity.starts_with("call-history-"));
        Ok(of.map(|p| format!("{} {:?} {}", p.identity, p.state(), p.joined_at_ms)).collect())
    }

    /// Waits until each of these rooms has exactly one observer, in three looks in a row.
    async fn settle(&self, rooms: &[String]) -> Result<()> {
        let deadline = Instant::now() + 2 * POSTED;
        let mut good = 0;
        while good < 3 {
            // Not all at once: the requests would time out on each other.
            let looks = stream::iter(rooms.iter().map(|r| self.observers(r))).buffered(16);
            let there: Vec<_> = looks.try_collect().await?;
            good = if there.iter().all(|o| o.len() == 1) { good + 1 } else { 0 };
            if Instant::now() > deadline {
                let bad = rooms.iter().zip(&there).filter(|(_, o)| o.len() != 1);
                let bad: Vec<String> =
                    bad.map(|(r, o)| format!("{o:#?}\n{}", self.log_of(r))).collect();
                panic!("{}", bad.join("\n"));
            }
            sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// The number of the worker that observes a room.
    fn observing_worker(&self, room: &str) -> usize {
        self.workers.iter().position(|w| holds(w, room)).expect("nobody observes it")
    }

    /// Waits until another worker than `from` observes a room.
    async fn taken_over(&self, from: usize, room: &str) -> Result<()> {
        let others = || self.workers.iter().enumerate().filter(|(n, _)| *n != from);
        eventually(&format!("another worker in {room}"), 2 * POSTED, async || {
            // One that has withdrawn from the room before it was needed does not count.
            let observes = |w: &Worker| holds(w, room) && w.count("call started", room) > 0;
            Ok(others().any(|(_, w)| observes(w)).then_some(()))
        })
        .await
    }

    /// Waits until a worker that was away is back in each of its rooms, or has left it to another one.
    async fn is_back(&self, worker: usize, rooms: &[String]) -> Result<()> {
        let worker = &self.workers[worker];
        let decided = |r: &String| {
            worker.count("joined", r) == 0
                || worker.count("joined again", r) + worker.count(WITHDRAWN, r) > 0
        };
        eventually("the worker is back", 2 * POSTED, async || {
            Ok(rooms.iter().all(decided).then_some(()))
        })
        .await
    }

    /// The records of a room, one for each id.
    async fn records(&mut self, room: &str) -> Result<Vec<Value>> {
        let posts = self.endpoint.wait(room, 1, 2 * POSTED).await;
        posts.with_context(|| self.log_of(room))?;
        // A second record would have come by then.
        sleep(Duration::from_millis(500)).await;
        let mut of: BTreeMap<String, Value> = BTreeMap::new();
        for post in self.endpoint.about(room) {
            of.entry(post.header("idempotency-key").to_owned()).or_insert(post.record()?);
        }
        Ok(of.into_values().collect())
    }

    /// The only record of a room; it must have been posted once.
    async fn record(&mut self, room: &str) -> Result<Value> {
        let mut records = self.records(room).await?;
        let posts = self.endpoint.about(room).len();
        assert_eq!((records.len(), posts), (1, 1), "{}", self.log_of(room));
        Ok(records.remove(0))
    }

    /// What the workers logged about a room.
    fn log_of(&self, room: &str) -> String {
        let of = |(n, w): (usize, &Worker)| {
            let lines = w.log().into_iter().filter(|l| l["room"] == room);
            lines.map(|l| format!("worker {n}: {l}\n")).collect::<String>()
        };
        self.workers.iter().enumerate().map(of).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_rooms_at_once_have_one_observer_each_among_five_workers() -> Result<()> {
    let _alone = alone().await;
    let mut fleet = Fleet::new(Venue::from_env().await?, 5, &[LAYERS]).await?;
    let rooms: Vec<String> = (0..200).map(|_| unique(&fleet.name)).collect();
    let callers = rooms.iter().enumerate().map(|(n, r)| fleet.caller(r, n % 2 == 0));
    // Not all at once: the test machine is the limit here, not the workers.
    let callers: Vec<Person> = stream::iter(callers).buffered(16).try_collect().await?;
    fleet.settle(&rooms).await?;
    for (n, worker) in fleet.workers.iter().enumerate() {
        let held = rooms.iter().filter(|r| worker.count("joined", r) > worker.count(WITHDRAWN, r));
        let held = held.count();
        assert!(held >= 10, "worker {n} has {held} of 200");
    }
    try_join_all(callers.into_iter().map(|c| c.leaves(DisconnectReason::ClientInitiated))).await?;
    for room in &rooms {
        fleet.endpoint.wait(room, 1, POSTED).await.with_context(|| fleet.log_of(room))?;
    }
    // A record that is posted twice would have come by then.
    sleep(Duration::from_secs(1)).await;
    let posts = fleet.endpoint.posts();
    let ids: BTreeSet<&str> = posts.iter().map(|p| p.header("idempotency-key")).collect();
    assert_eq!((posts.len(), ids.len()), (200, 200));
    Ok(())
}

/// The layers of discovery that work with any server.
const LAYERS: (&str, &str) = ("CALL_HISTORY_DISCOVERY", "dispatch, reconcile");

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_triggers_ends_with_one_observer() -> Result<()> {
    let _alone = alone().await;
    let mut urls = vec![];
    let mut addrs = vec![];
    for _ in 0..5 {
        let addr = free_addr().await?;
        urls.push(format!("http://{addr}/webhook"));
        addrs.push(addr);
    }
    let webhook = Some(WebhookConfig { urls, api_key: "devkey".into() });
    let venue = Venue::dev(Config { webhook, ..lab::server::quick() }).await?;
    let all = ("CALL_HISTORY_DISCOVERY", "dispatch, reconcile, webhook, participant");
    let mut fleet = Fleet::new(venue, 0, &[all]).await?;
    for (n, addr) in addrs.iter().enumerate() {
        fleet.folders.push(tempfile::tempdir()?);
        let mut worker = fleet.start(n, &[("CALL_HISTORY_HTTP_ADDR", addr)])?;
        worker.logs("registered worker").await?;
        fleet.workers.push(worker);
    }
    for round in 0..3 {
        let room = unique(&fleet.name);
        let caller = fleet.caller(&room, round % 2 == 0).await?;
        try_join_all((0..10).map(|_| fleet.venue.dispatch(&fleet.name, &room, ""))).await?;
        fleet.settle(std::slice::from_ref(&room)).await?;
        caller.leaves(DisconnectReason::ClientInitiated).await?;
        fleet.record(&room).await?;
    }
    Ok(())
}

/// One turn of the agent and one of the caller.
async fn turn(agent: &mut VoiceAgent, caller: &str) -> Result<()> {
    agent.says("one two three", Duration::from_millis(20)).await?;
    agent.hears(caller, "four five", Duration::from_millis(20)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_during_calls_loses_nothing() -> Result<()> {
    let mut fleet = Fleet::new(Venue::from_env().await?, 3, &[LAYERS]).await?;
    let mut calls = fleet.calls(6).await?;
    let rooms: Vec<String> = calls.iter().map(|(r, ..)| r.clone()).collect();
    fleet.settle(&rooms).await?;
    for n in 0..fleet.workers.len() {
        for (_, caller, agent) in &mut calls {
            turn(agent, &caller.identity).await?;
        }
        // Two signals: after the first the worker would wait for the end of these long calls.
        fleet.workers[n].stops_now().await?;
        fleet.settle(&rooms).await?;
        fleet.restart(n).await?;
    }
    for (room, caller, mut agent) in calls {
        turn(&mut agent, &caller.identity).await?;
        caller.leaves(DisconnectReason::ClientInitiated).await?;
        let r = fleet.record(&room).await?;
        assert_eq!(verdict(&r), ("completed", None));
        assert_eq!(r["metrics"]["total_agent_utterances"], 4, "{r:#}");
        assert_eq!(r["metrics"]["total_user_utterances"], 4, "{r:#}");
    }
    Ok(())
}

/// A server that notices a dead client after 12 s instead of 21 s. With much less it would take everybody for dead after a
/// pause of the whole machine.
async fn quick_to_notice() -> Result<Venue> {
    Venue::dev(Config { silence_limit: Duration::from_secs(12), ..lab::server::quick() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_gone_for_good_is_replaced() -> Result<()> {
    let mut fleet = Fleet::new(quick_to_notice().await?, 2, &[]).await?;
    let ((room, caller, mut agent), _) = fleet.call_whose_worker_died().await?;
    turn(&mut agent, &caller.identity).await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    let r = fleet.record(&room).await?;
    assert_eq!(verdict(&r), ("completed", None));
    assert_eq!(r["metrics"]["total_agent_utterances"], 2);
    assert_eq!(r["metrics"]["total_user_utterances"], 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_restarts_after_a_kill_takes_its_call_back() -> Result<()> {
    let mut fleet = Fleet::new(quick_to_notice().await?, 2, &[]).await?;
    let ((room, caller, mut agent), dead) = fleet.call_whose_worker_died().await?;
    let other = 1 - dead;
    let withdrawn = fleet.workers[other].count(WITHDRAWN, &room);
    fleet.restart(dead).await?;
    fleet.workers[other].logs_nth(WITHDRAWN, withdrawn + 1, POSTED).await?;
    turn(&mut agent, &caller.identity).await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    let r = fleet.record(&room).await?;
    assert_eq!(verdict(&r), ("completed", None));
    assert_eq!(r["metrics"]["total_agent_utterances"], 2);
    assert!(r["outcomes"]["notes"].as_str().unwrap().contains("restarted"), "the one who saw it");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_frozen_for_a_minute_loses_no_call() -> Result<()> {
    let mut fleet = Fleet::new(Venue::from_env().await?, 3, &[LAYERS]).await?;
    let mut calls = fleet.calls(6).await?;
    let rooms: Vec<String> = calls.iter().map(|(r, ..)| r.clone()).collect();
    fleet.settle(&rooms).await?;
    let frozen = fleet.observing_worker(&rooms[0]);
    for (_, caller, agent) in &mut calls {
        turn(agent, &caller.identity).await?;
    }
    fleet.workers[frozen].signal(19).await?;
    let thaw = Instant::now() + Duration::from_secs(60);
    // New calls meanwhile: the other workers find those that the server offers to the frozen one.
    calls.extend(fleet.calls(6).await?);
    // One call ends while its worker is frozen. The server notices the frozen worker only after 21 s; then another one
    // comes.
    let (first, caller, mut agent) = calls.remove(0);
    fleet.taken_over(frozen, &first).await?;
    turn(&mut agent, &caller.identity).await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    let r = fleet.records(&first).await?.remove(0);
    assert_eq!(verdict(&r), ("completed", None), "by another worker");
    assert_eq!(r["metrics"]["total_agent_utterances"], 2, "{r:#}");
    tokio::time::sleep_until(thaw).await;
    fleet.workers[frozen].signal(18).await?;
    let rooms: Vec<String> = calls.iter().map(|(r, ..)| r.clone()).collect();
    // For a few seconds each of its rooms has two observers. A call that ended then would be reported by both.
    fleet.is_back(frozen, &rooms).await?;
    fleet.settle(&rooms).await?;
    let late = 5;
    for (n, (room, caller, mut agent)) in calls.into_iter().enumerate() {
        turn(&mut agent, &caller.identity).await?;
        caller.leaves(DisconnectReason::ClientInitiated).await?;
        let r = fleet.record(&room).await?;
        assert_eq!(verdict(&r), ("completed", None), "{}", fleet.log_of(&room));
        let turns = if n < late { 2 } else { 1 };
        assert_eq!(r["metrics"]["total_agent_utterances"], turns, "{r:#}");
        assert_eq!(r["metrics"]["total_user_utterances"], turns, "{r:#}");
    }
    // The frozen worker may also report what it had seen of the first call, with the same id.
    let ids: BTreeSet<String> = (fleet.endpoint.about(&first).iter())
        .map(|p| p.header("idempotency-key").to_owned())
        .collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_call_of_a_room_keeps_its_id_when_its_worker_goes() -> Result<()> {
    let grace = ("CALL_HISTORY_END_GRACE", "0.5");
    // Nothing here waits for the room's end.
    let config = Config { departure_timeout: Duration::from_secs(300), ..Config::default() };
    let mut fleet = Fleet::new(Venue::dev(config).await?, 2, &[grace]).await?;
    let room = unique(&fleet.name);
    let first = fleet.caller(&room, true).await?;
    fleet.settle(std::slice::from_ref(&room)).await?;
    first.leaves(DisconnectReason::ClientInitiated).await?;
    fleet.endpoint.wait(&room, 1, POSTED).await?;
    let second = fleet.caller(&room, false).await?;
    let one = fleet.observing_worker(&room);
    fleet.workers[one].logs_nth("call started", 2, POSTED).await?;
    // The other worker looks at the room about every 2 s.
    sleep(Duration::from_secs(4)).await;
    fleet.workers[one].stops_now().await?;
    fleet.workers[1 - one].logs("call started").await?;
    second.leaves(DisconnectReason::ClientInitiated).await?;
    let posts = fleet.endpoint.wait(&room, 2, POSTED).await?;
    let ids: BTreeSet<&str> = posts.iter().map(|p| p.header("idempotency-key")).collect();
    assert_eq!((posts.len(), ids.len()), (2, 2), "{}", fleet.log_of(&room));
    Ok(())
}
