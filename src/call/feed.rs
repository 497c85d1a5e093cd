//! What the agent itself reports of its session (`lk.agent.session`): the richest evidence there
//! is, on the agent's own clock. It may be missing, begin late or stop; nothing depends on it.
//!
//! Kept by sender, because whether a sender is an agent may be known only later, and because two
//! sessions in one room (a voice agent and a transcriber, or one agent after the other) tell the
//! same words of the caller twice.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    event::{
        AgentState, Answerer, By, FeedMessage, Handoff, Item, Model, ModelTask, Moment, ToolCall,
        Used, UserState,
    },
    parties::{Parties, Party},
    words,
};

const MAX_SENDERS: usize = 8;
const MAX_ITEMS: usize = 20_000;
const MAX_STATES: usize = 100_000;
const MAX_TOOL_CALLS: usize = 10_000;
const MAX_TOOLS: usize = 256;
const MAX_MODELS: usize = 64;
const MAX_HANDOFFS: usize = 256;
/// Two sessions report the same turn of a caller at most this far apart: each has its own
/// endpointing.
const SAME_TURN_MS: i64 = 3_000;
/// The longest answer that an agent may report to have taken; more was measured from something
/// else than its caller's words.
const LONGEST_ANSWER_SECONDS: f64 = 120.0;

/// A message of the conversation.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    /// Who told it, by its place in [`AgentView::sessions`].
    pub(crate) session: usize,
    pub(crate) by: By,
    pub(crate) words: u32,
    pub(crate) blank: bool,
    /// Only where a transcript is asked for.
    pub(crate) text: Option<Box<str>>,
    pub(crate) interrupted: bool,
    /// We did not hear of it when it was said, the agent told it when it was asked.
    pub(crate) from_history: bool,
    /// Our clock: when we first heard of it.
    pub(crate) arrived: Moment,
    /// Agent's clock, as the next three.
    pub(crate) created_at: Option<Moment>,
    pub(crate) started_at: Option<Moment>,
    pub(crate) stopped_at: Option<Moment>,
    /// Seconds.
    pub(crate) e2e_latency: Option<f64>,
}

/// What a tool did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ToolUse {
    pub(crate) calls: u32,
    pub(crate) failures: u32,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Feed {
    items: Vec<Said>,
    by_id: BTreeMap<String, usize>,
    /// Ids of items, tool calls and hand-offs that belong to an earlier call in the same room.
    told_before: BTreeSet<String>,
    /// Agent's clock.
    agent_states: Vec<(Moment, AgentState)>,
    /// Agent's clock; speech is backdated to where it really began and ended.
    user_states: Vec<(Moment, UserState)>,
    models: BTreeMap<ModelTask, String>,
    used: BTreeMap<(ModelTask, String, String), Used>,
    /// When it last told of its models.
    models_at: Option<Moment>,
    /// By id: the tool's name, and whether it failed.
    tool_calls: BTreeMap<String, (String, bool)>,
    handoffs: Vec<Handoff>,
    /// Agent's clock: pauses for noise, and whether the speech went on.
    false_interruptions: Vec<(Moment, bool)>,
    answered_by: Option<Answerer>,
    errors: u32,
    /// The smallest (arrival − created), in milliseconds: how far our clock is ahead of the
    /// agent's, plus the least delay of the network.
    offset: Option<i64>,
}

impl Feed {
    fn take(&mut self, message: &FeedMessage, at: Moment, keep_text: bool) {
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
                self.item(item, at, keep_text, false);
            }
            FeedMessage::History { items, handoffs, tools } => {
                items.iter().for_each(|i| self.item(i, at, keep_text, true));
                handoffs.iter().for_each(|h| self.handoff(h));
                tools.iter().for_each(|t| self.tool(t));
            }
            FeedMessage::Clock { at: created } => self.learn_offset(*created, at),
            FeedMessage::Usage { models } => {
                self.models_at = Some(at);
                models.iter().for_each(|m| self.model(m));
            }
            FeedMessage::Tools { calls } => calls.iter().for_each(|t| self.tool(t)),
            FeedMessage::Handoff(h) => self.handoff(h),
            FeedMessage::FalseInterruption { at: created, resumed } => {
                if self.false_interruptions.len() < MAX_STATES {
                    self.false_interruptions.push((created.unwrap_or(at), *resumed));
                }
            }
            FeedMessage::Answered { by } => self.answered_by = Some(*by),
            FeedMessage::Error => self.errors = self.errors.saturating_add(1),
        }
    }

    fn learn_offset(&mut self, created: Moment, arrived: Moment) {
        let d = arrived.since(created);
        self.offset = Some(self.offset.map_or(d, |o| o.min(d)));
    }

    fn model(&mut self, m: &Model) {
        let name = match (m.provider.as_str(), m.model.as_str()) {
            ("", "") => return,
            ("", model) => model.to_owned(),
            (provider, "") => provider.to_owned(),
            (provider, model) => format!("{provider}/{model}"),
        };
        self.models.insert(m.task, name);
        let key = (m.task, m.provider.clone(), m.model.clone());
        if self.used.len() < MAX_MODELS || self.used.contains_key(&key) {
            self.used.insert(key, m.used);
        }
    }

    /// A call of a tool is told when it has run, and again in a history.
    fn tool(&mut self, t: &ToolCall) {
        if let Some((_, failed)) = self.tool_calls.get_mut(&t.id) {
            // Told while it ran, it has not failed yet.
            *failed |= t.failed;
        } else if !self.told_before.contains(&t.id) && self.tool_calls.len() < MAX_TOOL_CALLS {
            self.tool_calls.insert(t.id.clone(), (t.name.clone(), t.failed));
        }
    }

    fn handoff(&mut self, h: &Handoff) {
        let known = self.told_before.contains(&h.id) || self.handoffs.iter().any(|k| k.id == h.id);
        if !known && self.handoffs.len() < MAX_HANDOFFS {
            self.handoffs.push(h.clone());
        }
    }

    /// A later report of the same item fills what an earlier one left open.
    fn item(&mut self, item: &Item, at: Moment, keep_text: bool, from_history: bool) {
        let plausible = |l: &f64| l.is_finite() && (0.0..=LONGEST_ANSWER_SECONDS).contains(l);
        let e2e_latency = item.e2e_latency.filter(plausible);
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
            session: 0,
            by: item.by,
            words: words::count(&item.text),
            blank: item.text.trim().is_empty(),
            text: keep_text.then(|| item.text.as_str().into()),
            interrupted: item.interrupted,
            from_history,
            arrived: at,
            created_at: item.created_at,
            started_at: item.started_at,
            stopped_at: item.stopped_at,
            e2e_latency,
        });
    }

    /// It reports an agent that speaks, not one that only listens and writes down.
    fn speaks(&self) -> bool {
        self.items.iter().any(|i| i.by == By::Agent && !i.blank)
            || self.agent_states.iter().any(|(_, s)| *s == AgentState::Speaking)
    }
}

/// What a sender's feed leaves to the next call in the same room: a session and its history live
/// longer than a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FeedBefore {
    told: BTreeSet<String>,
    models: BTreeMap<ModelTask, String>,
    offset: Option<i64>,
}

/// The feeds of all senders.
#[derive(Clone, Debug, Default)]
pub(crate) struct Feeds(BTreeMap<String, Feed>);

impl Feeds {
    pub(crate) fn take(
        &mut self,
        identity: &str,
        message: &FeedMessage,
        at: Moment,
        keep_text: bool,
    ) {
        if self.0.len() >= MAX_SENDERS && !self.0.contains_key(identity) {
            return;
        }
        self.0.entry(identity.to_owned()).or_default().take(message, at, keep_text);
    }

    /// What the next call in the room must know, and must not count again.
    pub(crate) fn for_next_call(&self) -> BTreeMap<String, FeedBefore> {
        let of = |f: &Feed| FeedBefore {
            told: (f.told_before.iter().chain(f.by_id.keys()).chain(f.tool_calls.keys()))
                .chain(f.handoffs.iter().map(|h| &h.id))
                .cloned()
                .collect(),
            models: f.models.clone(),
            offset: f.offset,
        };
        self.0.iter().map(|(identity, f)| (identity.clone(), of(f))).collect()
    }

    pub(crate) fn from_earlier_call(before: BTreeMap<String, FeedBefore>) -> Self {
        let of = |b: FeedBefore| Feed {
            told_before: b.told,
            models: b.models,
            offset: b.offset,
            ..Feed::default()
        };
        Self(before.into_iter().map(|(identity, b)| (identity, of(b))).collect())
    }

    /// One view of what agents reported, on *our* line of time.
    ///
    /// Where an agent speaks, those that only listen are not asked about the caller.
    pub(crate) fn merged(&self, parties: &Parties) -> AgentView {
        let of_agents = || self.0.iter().filter(|(i, _)| parties.is_agent(i) == Some(true));
        let some_speak = of_agents().any(|(_, f)| f.speaks());
        let mut view = AgentView::default();
        let mut ids: BTreeSet<&str> = BTreeSet::new();
        let mut items: Vec<Said> = vec![];
        let mut by_usage: Vec<&Feed> = of_agents().map(|(_, f)| f).collect();
        by_usage.sort_by_key(|f| f.models_at);
        by_usage.into_iter().for_each(|f| view.models.extend(f.models.clone()));
        let mut told: BTreeMap<&str, (&str, bool)> = BTreeMap::new();
        for (identity, feed) in of_agents() {
            for (id, (name, failed)) in &feed.tool_calls {
                told.entry(id).or_insert((name, false)).1 |= failed;
            }
            view.add_figures(feed);
            if some_speak && !feed.speaks() {
                continue;
            }
            let offset = feed.offset.unwrap_or(0);
            let ours = |t: Moment| t.plus(offset);
            let mut session = Session {
                identity: identity.clone(),
                gone_at: parties.get(identity).and_then(Party::gone_at),
                agent_states: feed.agent_states.iter().map(|(t, s)| (ours(*t), *s)).collect(),
                user_states: feed.user_states.iter().map(|(t, s)| (ours(*t), *s)).collect(),
            };
            session.agent_states.sort_by_key(|(t, _)| *t);
            session.user_states.sort_by_key(|(t, _)| *t);
            view.false_interruptions
                .extend(feed.false_interruptions.iter().map(|(t, resumed)| (ours(*t), *resumed)));
            for (id, i) in &feed.by_id {
                let said = &feed.items[*i];
                // A session that goes on from another's conversation has its items, ids and all.
                if said.blank || !ids.insert(id) {
                    continue;
                }
                items.push(Said {
                    session: view.sessions.len(),
                    created_at: said.created_at.map(ours),
                    started_at: said.started_at.map(ours),
                    stopped_at: said.stopped_at.map(ours),
                    ..said.clone()
                });
            }
            view.sessions.push(session);
        }
        view.items = one_telling_each(items);
        for (name, failed) in told.into_values() {
            if view.tools.len() < MAX_TOOLS || view.tools.contains_key(name) {
                let tool = view.tools.entry(name.to_owned()).or_default();
                tool.calls = tool.calls.saturating_add(1);
                tool.failures = tool.failures.saturating_add(u32::from(failed));
            }
        }
        view
    }
}

/// Sorts, and drops what another session has told of the same turn of the caller.
fn one_telling_each(mut items: Vec<Said>) -> Vec<Said> {
    items.sort_by_key(|i| (i.order(), i.session));
    let several = items.windows(2).any(|w| w[0].session != w[1].session);
    let mut taken: Vec<Said> = Vec::with_capacity(items.len());
    for item in items {
        let same = |t: &Said| {
            t.session != item.session
                && t.by == By::User
                && t.arrived.since(item.arrived).unsigned_abs() <= SAME_TURN_MS.unsigned_abs()
        };
        let twice = several
            && item.by == By::User
            && (taken.iter().rev())
                .take_while(|t| item.order().since(t.order()) <= SAME_TURN_MS)
                .any(same);
        if !twice {
            taken.push(item);
        }
    }
    taken
}

impl Said {
    /// Where it stands in the conversation, by our clock.
    pub(crate) fn order(&self) -> Moment {
        self.started_at.or(self.created_at).unwrap_or(self.arrived)
    }
}

/// One sender's states, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Session {
    pub(crate) identity: String,
    /// When the sender was gone: its last states held until then.
    pub(crate) gone_at: Option<Moment>,
    pub(crate) agent_states: Vec<(Moment, AgentState)>,
    pub(crate) user_states: Vec<(Moment, UserState)>,
}

/// All agents' reports together; times by our clock.
#[derive(Clone, Debug, Default)]
pub(crate) struct AgentView {
    pub(crate) items: Vec<Said>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) false_interruptions: Vec<(Moment, bool)>,
    /// The last in use: `provider/model`.
    pub(crate) models: BTreeMap<ModelTask, String>,
    pub(crate) used: BTreeMap<(ModelTask, String, String), Used>,
    pub(crate) tools: BTreeMap<String, ToolUse>,
    pub(crate) handoffs: Vec<Handoff>,
    pub(crate) answered_by: Option<Answerer>,
    pub(crate) errors: u32,
}

impl AgentView {
    /// What is told but not reckoned with.
    fn add_figures(&mut self, feed: &Feed) {
        for (key, used) in &feed.used {
            let sum = self.used.entry(key.clone()).or_default();
            sum.input_tokens = sum.input_tokens.saturating_add(used.input_tokens);
            sum.cached_input_tokens =
                sum.cached_input_tokens.saturating_add(used.cached_input_tokens);
            sum.output_tokens = sum.output_tokens.saturating_add(used.output_tokens);
            sum.characters = sum.characters.saturating_add(used.characters);
            sum.audio_seconds += used.audio_seconds;
        }
        let ours = |h: &Handoff| Handoff {
            at: h.at.map(|t| t.plus(feed.offset.unwrap_or(0))),
            ..h.clone()
        };
        // A session that goes on from another's conversation has its hand-offs.
        let new = feed.handoffs.iter().filter(|h| !self.handoffs.iter().any(|k| k.id == h.id));
        let new: Vec<Handoff> = new.map(ours).collect();
        self.handoffs.extend(new);
        self.handoffs.sort_by_key(|h| h.at);
        self.answered_by = self.answered_by.or(feed.answered_by);
        self.errors = self.errors.saturating_add(feed.errors);
    }
}
