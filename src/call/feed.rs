//! What the agent itself reports of its session (`lk.agent.session`): the richest evidence there
//! is, on the agent's own clock. It may be missing, begin late or stop; nothing depends on it.
//!
//! Kept by sender, because whether a sender is an agent may be known only later.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    event::{AgentState, By, FeedMessage, Item, ModelTask, Moment, UserState},
    parties::Parties,
    words,
};

const MAX_SENDERS: usize = 8;
const MAX_ITEMS: usize = 20_000;
const MAX_STATES: usize = 100_000;

/// A message of the conversation, without its text.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) by: By,
    pub(crate) words: u32,
    pub(crate) blank: bool,
    pub(crate) interrupted: bool,
    /// Our clock: when we first heard of it.
    pub(crate) arrived: Moment,
    /// Agent's clock, as the next three.
    pub(crate) created_at: Option<Moment>,
    pub(crate) started_at: Option<Moment>,
    pub(crate) stopped_at: Option<Moment>,
    /// Seconds.
    pub(crate) e2e_latency: Option<f64>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Feed {
    items: Vec<Said>,
    by_id: BTreeMap<String, usize>,
    /// Ids of items that belong to an earlier call in the same room.
    told_before: BTreeSet<String>,
    /// Agent's clock.
    agent_states: Vec<(Moment, AgentState)>,
    /// Agent's clock; speech is backdated to where it really began and ended.
    user_states: Vec<(Moment, UserState)>,
    models: BTreeMap<&'static str, String>,
    /// The smallest (arrival − created), in milliseconds: how far our clock is ahead of the
    /// agent's, plus the least delay of the network.
    offset: Option<i64>,
}

impl Feed {
    fn take(&mut self, message: &FeedMessage, at: Moment) {
        match message {
            FeedMessage::AgentState { at: created, state } => {
                let created = created.unwrap_or(at);
                self.learn_offset(created, at);
                if self.agent_states.len() < MAX_STATES {
                    self.agent_states.push((created, *state));
                }
            }
            // Backdated, so it says nothing about the clocks.
            FeedMessage::UserState { at: created, state } => {
                if self.user_states.len() < MAX_STATES {
                    self.user_states.push((created.unwrap_or(at), *state));
                }
            }
            FeedMessage::Item { at: created, item } => {
                if let Some(created) = created {
                    self.learn_offset(*created, at);
                }
                self.item(item, at);
            }
            FeedMessage::History { items } => items.iter().for_each(|i| self.item(i, at)),
            FeedMessage::Clock { at: created } => self.learn_offset(*created, at),
            FeedMessage::Usage { models } => {
                for m in models {
                    let task = match m.task {
                        ModelTask::Stt => "stt",
                        ModelTask::Llm => "llm",
                        ModelTask::Tts => "tts",
                    };
                    let name = match (m.provider.as_str(), m.model.as_str()) {
                        ("", "") => continue,
                        ("", model) => model.to_owned(),
                        (provider, "") => provider.to_owned(),
                        (provider, model) => format!("{provider}/{model}"),
                    };
                    self.models.insert(task, name);
                }
            }
        }
    }

    fn learn_offset(&mut self, created: Moment, arrived: Moment) {
        let d = arrived.since(created);
        self.offset = Some(self.offset.map_or(d, |o| o.min(d)));
    }

    /// A later report of the same item fills what an earlier one left open.
    fn item(&mut self, item: &Item, at: Moment) {
        let e2e_latency = item.e2e_latency.filter(|l| l.is_finite() && *l >= 0.0);
        if let Some(i) = self.by_id.get(&item.id) {
            let known = &mut self.items[*i];
            known.interrupted |= item.interrupted;
            known.created_at = known.created_at.or(item.created_at);
            known.started_at = known.started_at.or(item.started_at);
            known.stopped_at = known.stopped_at.or(item.stopped_at);
            known.e2e_latency = known.e2e_latency.or(e2e_latency);
            return;
        }
        if self.items.len() >= MAX_ITEMS || self.told_before.contains(&item.id) {
            return;
        }
        self.by_id.insert(item.id.clone(), self.items.len());
        self.items.push(Said {
            by: item.by,
            words: words::count(&item.text),
            blank: item.text.trim().is_empty(),
            interrupted: item.interrupted,
            arrived: at,
            created_at: item.created_at,
            started_at: item.started_at,
            stopped_at: item.stopped_at,
            e2e_latency,
        });
    }
}

/// The feeds of all senders.
#[derive(Clone, Debug, Default)]
pub(crate) struct Feeds(BTreeMap<String, Feed>);

impl Feeds {
    pub(crate) fn take(&mut self, identity: &str, message: &FeedMessage, at: Moment) {
        if self.0.len() >= MAX_SENDERS && !self.0.contains_key(identity) {
            return;
        }
        self.0.entry(identity.to_owned()).or_default().take(message, at);
    }

    /// What the next call in the room must not count again: a history holds the whole session.
    pub(crate) fn next_call(self) -> Self {
        let mut feeds = self.0;
        for feed in feeds.values_mut() {
            let ids = std::mem::take(&mut feed.by_id).into_keys();
            let told = std::mem::take(&mut feed.told_before);
            *feed = Feed {
                told_before: told.into_iter().chain(ids).collect(),
                models: std::mem::take(&mut feed.models),
                offset: feed.offset,
                ..Feed::default()
            };
        }
        Self(feeds)
    }

    /// One view of what agents reported, on *our* line of time.
    pub(crate) fn merged(&self, parties: &Parties) -> AgentView {
        let mut view = AgentView::default();
        for (_, feed) in self.0.iter().filter(|(i, _)| parties.is_agent(i) == Some(true)) {
            let offset = feed.offset.unwrap_or(0);
            let ours = |t: Moment| t.plus(offset);
            view.agent_states.extend(feed.agent_states.iter().map(|(t, s)| (ours(*t), *s)));
            view.user_states.extend(feed.user_states.iter().map(|(t, s)| (ours(*t), *s)));
            view.items.extend(feed.items.iter().filter(|i| !i.blank).map(|i| Said {
                created_at: i.created_at.map(ours),
                started_at: i.started_at.map(ours),
                stopped_at: i.stopped_at.map(ours),
                ..i.clone()
            }));
            view.models.extend(feed.models.clone());
        }
        view.agent_states.sort_by_key(|(t, _)| *t);
        view.user_states.sort_by_key(|(t, _)| *t);
        view.items.sort_by_key(Said::order);
        view
    }
}

impl Said {
    /// Where it stands in the conversation, by our clock.
    pub(crate) fn order(&self) -> Moment {
        self.started_at.or(self.created_at).unwrap_or(self.arrived)
    }
}

/// All agents' reports together; times by our clock.
#[derive(Clone, Debug, Default)]
pub(crate) struct AgentView {
    pub(crate) items: Vec<Said>,
    pub(crate) agent_states: Vec<(Moment, AgentState)>,
    pub(crate) user_states: Vec<(Moment, UserState)>,
    /// `stt`, `llm`, `tts` → `provider/model`.
    pub(crate) models: BTreeMap<&'static str, String>,
}
