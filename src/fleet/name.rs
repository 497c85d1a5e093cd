//! Whether another program uses our agent name. LiveKit gives each job to one program of a name, so the two
//! take each other's jobs.
//!
//! There are two signs. LiveKit's list of dispatches shows that a stranger took a job of ours. It is read of
//! rooms without an observer, and of our rooms when an agent joins or is there already, and when a call ends in which
//! nobody came to the caller. And where a voice agent lost its jobs to us, its rooms have no agent: calls with a job that
//! this worker was offered, several in a row, whether or not the job brought us to the room. The agent may also just be
//! down. A program that has taken no job yet does not show. Where we are not registered under the name ourselves, nobody
//! takes our jobs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use livekit_protocol::AgentDispatch;
use parking_lot::Mutex;
use store::health::{Health, Topic};
use tokio::time::{Instant, sleep};

use super::is_identity;
use crate::{net::Api, telemetry::masked};

/// So many dispatched calls in a row without an agent are no accident.
const WITHOUT_AGENT: u32 = 3;
/// In shorter calls the agent may not have come yet.
const SHORTEST: Duration = Duration::from_secs(5);
/// What was not seen for so long is over.
const SEEN_FOR: Duration = Duration::from_secs(600);
/// The waits before the looks at who took a job. The server lists that some time after the agent has joined: mostly within a
/// second, and at times several later (livekit-server 1.13.5).
const LOOKS_AFTER: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(15)];
pub(crate) const ADVICE: &str = "give one of the two another agent name and restart it (call-history by CALL_HISTORY_AGENT_NAME, the voice agent \
                                 in its code). Dispatch rules and tokens for the voice agent must name the voice agent. LiveKit gives \
                                 each job to one program of a name only";
pub(crate) const NO_AGENT_ADVICE: &str = "check that the voice agent runs. If it is registered under the same name, give one of the two another agent name \
                                          and restart it (call-history by CALL_HISTORY_AGENT_NAME, the voice agent in its code). \
                                          Dispatch rules and tokens for the voice agent must name the voice agent";

/// Cheap to clone; all clones share what was seen.
#[derive(Clone)]
pub(crate) struct NameWatch {
    agent_name: Arc<str>,
    health: Health,
    seen: Arc<Mutex<Seen>>,
    /// We are registered under the name, or want to be.
    registered: Arc<AtomicBool>,
}

#[derive(Default)]
struct Seen {
    /// When a stranger was last seen with a job of ours, in which room, and its identity there.
    stranger: Option<(Instant, String, String)>,
    /// Calls in a row with a job of ours in which nobody came to the caller; when the last one ended, and its room.
    without_agent: u32,
    last_without: Option<(Instant, String)>,
    /// What the log has said last.
    logged: Option<Sign>,
}

/// What speaks for another program of our name. The first is certain, the second a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    Stranger,
    NoAgent,
}

impl NameWatch {
    pub(crate) fn new(agent_name: &str, health: Health) -> Self {
        Self {
            agent_name: agent_name.into(),
            health,
            seen: Arc::default(),
            registered: Arc::default(),
        }
    }

    /// We register under the name. Before that nothing is looked at or noted.
    pub(crate) fn set_registered(&self) {
        self.registered.store(true, Ordering::Relaxed);
    }

    fn is_registered(&self) -> bool {
        self.registered.load(Ordering::Relaxed)
    }

    /// A participant that is not ours took a job of ours. `room` and `identity`: with phone numbers masked.
    pub(crate) fn stranger(&self, room: &str, identity: &str) {
        if self.is_registered() {
            self.seen.lock().stranger = Some((Instant::now(), room.into(), identity.into()));
            self.look();
        }
    }

    /// Looks whether another program took a job of ours in this room. Looks again only while a dispatch of ours is listed
    /// without anybody who took it.
    pub(crate) async fn look_into(&self, api: &Api, room: &str) {
        if !self.is_registered() {
            return;
        }
        for wait in LOOKS_AFTER {
            sleep(wait).await;
            // What cannot be seen now is seen in another room.
            let Ok(all) = api.list_dispatches(room).await else { return };
            let ours = || all.iter().filter(|d| d.agent_name == *self.agent_name);
            if let Some(identity) = ours().find_map(taken_by_stranger) {
                return self.stranger(&masked(room), &identity);
            }
            if ours().all(|d| takers(d).next().is_some()) {
                return;
            }
        }
    }

    /// A call with a job of ours ended, after this time. `was_joined`: an agent or another person came to the caller.
    /// `room`: with phone numbers masked.
    pub(crate) fn dispatched_call_ended(&self, room: &str, was_joined: bool, lasted: Duration) {
        if !self.is_registered() {
            return;
        }
        let mut seen = self.seen.lock();
        if was_joined {
            seen.without_agent = 0;
        } else if lasted >= SHORTEST {
            seen.without_agent = seen.without_agent.saturating_add(1);
            seen.last_without = Some((Instant::now(), room.into()));
        }
        drop(seen);
        self.look();
    }

    /// Shows what is seen, or ends the warning when nothing speaks for it any more. Called now and then.
    pub(crate) fn look(&self) {
        let mut seen = self.seen.lock();
        let name = &*self.agent_name;
        let stranger = seen.stranger.clone().filter(|(at, ..)| at.elapsed() < SEEN_FOR);
        let last = seen.last_without.clone().filter(|(at, _)| at.elapsed() < SEEN_FOR);
        let last = last.filter(|_| seen.without_agent >= WITHOUT_AGENT);
        let sign = match (&stranger, &last) {
            (Some(_), _) => Some(Sign::Stranger),
            (None, Some(_)) => Some(Sign::NoAgent),
            (None, None) => None,
        };
        let is_new = sign != std::mem::replace(&mut seen.logged, sign);
        drop(seen);
        if let Some((_, room, identity)) = stranger {
            let what = format!(
                "another program took a job of \"{name}\" within the last ten minutes, as {identity} in room {room}: {ADVICE}"
            );
            self.health.warn(Topic::AgentName, what);
            if is_new {
                tracing::warn!(
                    agent_name = name,
                    room,
                    identity,
                    advice = ADVICE,
                    "another program is registered under this agent name"
                );
            }
        } else if let Some((_, room)) = last {
            let what = format!(
                "calls that are dispatched to \"{name}\" have no voice agent, last in room {room}: {NO_AGENT_ADVICE}"
            );
            self.health.warn(Topic::AgentName, what);
            if is_new {
                tracing::warn!(
                    agent_name = name,
                    room,
                    calls = WITHOUT_AGENT,
                    advice = NO_AGENT_ADVICE,
                    "dispatched calls have no voice agent; it may be down, or registered under this agent name"
                );
            }
        } else if self.health.clear(Topic::AgentName) {
            tracing::info!(agent_name = name, "the warning about the agent name is over");
        }
    }
}

/// The identity of a participant that took a job of this dispatch and is not one of our observers.
pub(crate) fn taken_by_stranger(dispatch: &AgentDispatch) -> Option<String> {
    takers(dispatch).find(|i| !is_identity(i)).map(masked)
}

/// The identities of the participants that took a job of this dispatch.
fn takers(dispatch: &AgentDispatch) -> impl Iterator<Item = &str> {
    let jobs = dispatch.state.as_ref().map(|s| s.jobs.as_slice()).unwrap_or_default();
    let takers = jobs.iter().filter_map(|j| Some(j.state.as_ref()?.participant_identity.as_str()));
    takers.filter(|i| !i.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    impl NameWatch {
        fn logged(&self) -> Option<Sign> {
            self.seen.lock().logged
        }
    }

    fn watch() -> (NameWatch, Health) {
        let health = Health::default();
        let name = NameWatch::new("recorder", health.clone());
        name.set_registered();
        (name, health)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stranger_is_warned_of_until_it_was_not_seen_for_long() {
        let (name, health) = watch();
        name.look();
        assert_eq!(health.warning(), None);
        name.stranger("room", "agent-1");
        tokio::time::advance(SEEN_FOR / 2).await;
        name.stranger("room", "agent-2");
        tokio::time::advance(SEEN_FOR / 2).await;
        name.look();
        assert!(health.warning().is_some_and(|w| w.contains("\"recorder\"")));
        tokio::time::advance(SEEN_FOR / 2).await;
        name.look();
        assert_eq!(health.warning(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_said_where_we_are_not_registered_under_the_name() {
        let health = Health::default();
        let name = NameWatch::new("recorder", health.clone());
        name.stranger("room", "agent-1");
        for _ in 0..WITHOUT_AGENT {
            name.dispatched_call_ended("room", false, SHORTEST);
        }
        assert_eq!(health.warning(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_guess_gives_way_to_what_is_certain_and_comes_back_after_it() {
        let (name, health) = watch();
        let says = |what: &str| health.warning().is_some_and(|w| w.contains(what));
        for _ in 0..WITHOUT_AGENT {
            name.dispatched_call_ended("room", false, SHORTEST);
        }
        assert!(
            says("have no voice agent, last in room room") && name.logged() == Some(Sign::NoAgent)
        );
        name.stranger("room", "agent-1");
        assert!(says("as agent-1 in room room") && name.logged() == Some(Sign::Stranger));
        // It stands between the warnings of the page.
        assert!(!ADVICE.contains("; ") && !NO_AGENT_ADVICE.contains("; "));
        tokio::time::advance(SEEN_FOR / 2).await;
        name.dispatched_call_ended("room", false, SHORTEST);
        assert!(says("as agent-1 in room room"));
        tokio::time::advance(SEEN_FOR / 2).await;
        name.look();
        assert!(says("have no voice agent") && name.logged() == Some(Sign::NoAgent));
        tokio::time::advance(SEEN_FOR / 2).await;
        name.look();
        assert_eq!((health.warning(), name.logged()), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn dispatched_calls_without_an_agent_are_warned_of_if_they_follow_each_other() {
        let (name, health) = watch();
        for was_joined in [false, false, true, false, false] {
            name.dispatched_call_ended("room", was_joined, SHORTEST);
            assert_eq!(health.warning(), None);
        }
        // Its caller hung up before an agent could come.
        name.dispatched_call_ended("room", false, SHORTEST / 2);
        assert_eq!(health.warning(), None);
        name.dispatched_call_ended("room", false, SHORTEST);
        assert!(health.warning().is_some_and(|w| w.contains("have no voice agent")));
        name.dispatched_call_ended("room", true, SHORTEST);
        assert_eq!(health.warning(), None);
        for _ in 0..3 {
            name.dispatched_call_ended("room", false, SHORTEST);
        }
        assert!(health.warning().is_some());
        tokio::time::advance(SEEN_FOR).await;
        name.look();
        assert_eq!(health.warning(), None, "nothing was seen for long");
    }
}
