//! What the agent itself reports of its session (`lk.agent.session`), by the agent's own clock. A
//! feed is the richest evidence, but it may be missing, begin late or stop, so nothing depends on
//! it.
//!
//! Feeds are kept by sender. Whether a sender is an agent may be known only later, and two sessions
//! in one room (a voice agent and a transcriber, or one agent after the other) report the same
//! words of the caller twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    event::{
        AgentState, Answerer, By, Components, FeedMessage, Handoff, Item, Model, ModelTask, Moment,
        ToolCall, Used, UserState,
    },
    parties::Parties,
    party::Party,
    snapshot::FeedSnapshot,
    taken::{fill, replace},
    words,
};

const MAX_SENDERS: usize = 8;
const MAX_ITEMS: usize = 20_000;
const MAX_STATES: usize = 100_000;
/// Errors kept from which a session cannot recover: one ends it.
const MAX_FAILURES: usize = 64;
const MAX_TOOL_CALLS: usize = 10_000;
const MAX_TOOLS: usize = 256;
const MAX_MODELS: usize = 64;
const MAX_HANDOFFS: usize = 256;
/// Ids that are remembered, so that the next call in the room does not count their entries again. A
/// room and its agent can live for months: older entries are recognized by their time.
const MAX_REMEMBERED_IDS: usize = 1_000;
/// Two sessions report the same turn of a caller at most this far apart: each has its own
/// endpointing.
const SAME_TURN_MS: i64 = 3_000;
/// The longest response time that an agent may report. A longer time was not measured from the
/// caller's words.
const LONGEST_RESPONSE_SECONDS: f64 = 120.0;

/// A message of the conversation, as one session reported it.
#[derive(Clone, Debug)]
pub struct FeedItem {
    /// The session that reported it: an index into [`AgentView::sessions`].
    pub session: usize,
    pub by: By,
    pub words: u32,
    pub blank: bool,
    /// Only where a transcript is asked for.
    pub text: Option<Box<str>>,
    pub interrupted: bool,
    /// The agent did not report the message when it was said, but only in a requested history.
    pub from_history: bool,
    /// By our clock: when it was first reported.
    pub arrived: Moment,
    /// By the agent's clock, like `started_at` and `stopped_at`, until [`Feeds::merged`] converts
    /// them to ours.
    pub created_at: Option<Moment>,
    pub started_at: Option<Moment>,
    pub stopped_at: Option<Moment>,
    /// Seconds.
    pub e2e_latency: Option<f64>,
    pub components: Components,
}

/// How often a tool was called, and how many of these calls failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ToolUse {
    pub calls: u32,
    pub failures: u32,
}

#[derive(Clone, Debug, Default)]
pub struct Feed {
    items: Vec<FeedItem>,
    by_id: BTreeMap<String, usize>,
    /// Ids of items, tool calls and hand-offs that belong to an earlier call in the same room, and
    /// the order of their first report.
    earlier_ids: BTreeMap<String, usize>,
    /// By the agent's clock: entries of a history up to this time belong to earlier calls. Set if
    /// some ids of earlier calls are forgotten.
    earlier_until: Option<Moment>,
    /// The latest ids that were first reported in this call, in order.
    new_ids: VecDeque<String>,
    /// By the agent's clock: the latest time of the entries first reported in this call.
    latest: Option<Moment>,
    /// The agent reported something in this call. A feed without reports may make room for another.
    reported: bool,
    /// By the agent's clock.
    agent_states: Vec<(Moment, AgentState)>,
    /// By the agent's clock. Speech is backdated to its real beginning and end.
    user_states: Vec<(Moment, UserState)>,
    models: BTreeMap<ModelTask, String>,
    used: BTreeMap<(ModelTask, String, String), Used>,
    /// When the agent last reported its models.
    models_at: Option<Moment>,
    /// By id: the name of the tool, and whether the call failed.
    tool_calls: BTreeMap<String, (String, bool)>,
    handoffs: Vec<Handoff>,
    /// By the agent's clock: pauses because of noise, and whether the speech went on.
    false_interruptions: Vec<(Moment, bool)>,
    answered_by: Option<Answerer>,
    errors: u32,
    /// By our clock: when the session reported errors from which it cannot recover.
    failed_at: Vec<Moment>,
    /// The smallest (arrival − created), in milliseconds: how far our clock is ahead of the
    /// agent's, plus the least delay of the network.
    offset: Option<i64>,
}

impl Feed {
    /// False if the message changes nothing.
    fn take(&mut self, message: &FeedMessage, at: Moment, keep_text: bool) -> bool {
        match message {
            FeedMessage::AgentState { at: created, state } => {
                let created = created.unwrap_or(at);
                let offset_changed = self.update_offset(created, at);
                let kept = self.agent_states.len() < MAX_STATES;
                if kept {
                    self.agent_states.push((created, *state));
                }
                offset_changed || kept
            }
            // User states are backdated, so they do not show how far the clocks are apart.
            FeedMessage::UserState { at: created, state } => {
                let kept = self.user_states.len() < MAX_STATES;
                if kept {
                    self.user_states.push((created.unwrap_or(at), *state));
                }
                kept
            }
            FeedMessage::Item { at: created, item } => {
                let offset_changed = created.is_some_and(|created| self.update_offset(created, at));
                self.item(item, at, keep_text, false) || offset_changed
            }
            FeedMessage::History { items, handoffs, tools } => {
                let mut new = false;
                for i in self.of_this_call(items, |i| (&i.id, i.time())) {
                    new |= self.item(i, at, keep_text, true);
                }
                for h in self.of_this_call(handoffs, |h| (&h.id, h.at)) {
                    new |= self.handoff(h, at);
                }
                for t in self.of_this_call(tools, |t| (&t.id, t.at)) {
                    new |= self.tool(t, at);
                }
                new
            }
            FeedMessage::Clock { at: created } => self.update_offset(*created, at),
            FeedMessage::Usage { models } => {
                self.models_at = Some(at);
                models.iter().for_each(|m| self.model(m));
                true
            }
            FeedMessage::Tools { calls } => {
                let mut new = false;
                calls.iter().for_each(|t| new |= self.tool(t, at));
                new
            }
            FeedMessage::Handoff(h) => self.handoff(h, at),
            FeedMessage::FalseInterruption { at: created, resumed } => {
                let kept = self.false_interruptions.len() < MAX_STATES;
                if kept {
                    self.false_interruptions.push((created.unwrap_or(at), *resumed));
                }
                kept
            }
            FeedMessage::Answered { by } => replace(&mut self.answered_by, Some(*by)),
            FeedMessage::Error { fatal } => {
                if *fatal && self.failed_at.len() < MAX_FAILURES {
                    self.failed_at.push(at);
                }
                let errors = self.errors.saturating_add(1);
                replace(&mut self.errors, errors) || *fatal
            }
        }
    }

    fn update_offset(&mut self, created: Moment, arrived: Moment) -> bool {
        let d = arrived.since(created);
        let least = self.offset.map_or(d, |o| o.min(d));
        replace(&mut self.offset, Some(least))
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

    /// The entries of a list in a history that may belong to this call. While all ids of earlier
    /// calls are remembered, these are all entries. After that an entry's time decides. An entry
    /// without a time belongs to this call if it comes after the last entry of an earlier call,
    /// because a history is in order. (If the list has no entry that is known to be earlier,
    /// entries without a time count as earlier: the latest ids are remembered longest.)
    fn of_this_call<'a, T>(
        &self,
        list: &'a [T],
        named: impl Fn(&'a T) -> (&'a String, Option<Moment>),
    ) -> Vec<&'a T> {
        let Some(until) = self.earlier_until else { return list.iter().collect() };
        let before = |(id, at): (&String, Option<Moment>)| {
            self.earlier_ids.contains_key(id) || at.is_some_and(|at| at <= until)
        };
        let last_before = list.iter().rposition(|entry| before(named(entry)));
        let mut of_this = vec![];
        for (n, entry) in list.iter().enumerate() {
            let (id, at) = named(entry);
            let later = match at {
                Some(at) => at > until,
                None => last_before.is_some_and(|last| n > last),
            };
            if later || self.has_reported(id) {
                of_this.push(entry);
            }
        }
        of_this
    }

    /// The entry with this id was reported in this call before.
    fn has_reported(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
            || self.tool_calls.contains_key(id)
            || self.handoffs.iter().any(|h| h.id == id)
    }

    /// Remembers an id, so that the next call does not count its entry again. `time`: when the
    /// entry was created, by the agent's clock; `at`: when it was reported.
    fn remember(&mut self, id: &str, time: Option<Moment>, at: Moment) {
        if self.new_ids.len() >= MAX_REMEMBERED_IDS {
            self.new_ids.pop_front();
        }
        self.new_ids.push_back(id.to_owned());
        let reported = self.offset.map(|o| at.plus(o.saturating_neg()));
        // An entry is not created after its report.
        let time = match (time, reported) {
            (Some(time), Some(reported)) => time.min(reported),
            (time, reported) => time.or(reported).unwrap_or(at),
        };
        self.latest = self.latest.max(Some(time));
    }

    /// A tool call is reported when it has run, and again in a history.
    fn tool(&mut self, t: &ToolCall, at: Moment) -> bool {
        if let Some((_, failed)) = self.tool_calls.get_mut(&t.id) {
            // A report from before the end of a tool call does not show its failure.
            let failed_now = *failed || t.failed;
            return replace(failed, failed_now);
        }
        if self.earlier_ids.contains_key(&t.id) || self.tool_calls.len() >= MAX_TOOL_CALLS {
            return false;
        }
        self.tool_calls.insert(t.id.clone(), (t.name.clone(), t.failed));
        self.remember(&t.id, t.at, at);
        true
    }

    fn handoff(&mut self, h: &Handoff, at: Moment) -> bool {
        let known =
            self.earlier_ids.contains_key(&h.id) || self.handoffs.iter().any(|k| k.id == h.id);
        if known || self.handoffs.len() >= MAX_HANDOFFS {
            return false;
        }
        self.handoffs.push(h.clone());
        self.remember(&h.id, h.at, at);
        true
    }

    /// A later report of the same item fills what an earlier report left open.
    fn item(&mut self, item: &Item, at: Moment, keep_text: bool, from_history: bool) -> bool {
        let plausible = |l: &f64| l.is_finite() && (0.0..=LONGEST_RESPONSE_SECONDS).contains(l);
        let e2e_latency = item.e2e_latency.filter(plausible);
        if let Some(i) = self.by_id.get(&item.id) {
            let known = &mut self.items[*i];
            let interrupted = known.interrupted || item.interrupted;
            return replace(&mut known.interrupted, interrupted)
                | fill(&mut known.created_at, item.created_at)
                | fill(&mut known.started_at, item.started_at)
                | fill(&mut known.stopped_at, item.stopped_at)
                | fill(&mut known.e2e_latency, e2e_latency)
                | (known.components.is_empty()
                    && replace(&mut known.components, plausible_components(&item.components)));
        }
        if self.items.len() >= MAX_ITEMS || self.earlier_ids.contains_key(&item.id) {
            return false;
        }
        self.by_id.insert(item.id.clone(), self.items.len());
        self.items.push(FeedItem {
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
            components: plausible_components(&item.components),
        });
        self.remember(&item.id, item.time(), at);
        true
    }

    /// Whether the agent of this feed speaks; a transcriber only listens.
    fn speaks(&self) -> bool {
        self.items.iter().any(|i| i.by == By::Agent && !i.blank)
            || self.agent_states.iter().any(|(_, s)| *s == AgentState::Speaking)
    }
}

impl From<&Feed> for FeedSnapshot {
    fn from(f: &Feed) -> Self {
        let mut before: Vec<(&String, &usize)> = f.earlier_ids.iter().collect();
        before.sort_by_key(|(_, n)| **n);
        let mut ids: Vec<String> =
            before.into_iter().map(|(id, _)| id).chain(&f.new_ids).cloned().collect();
        let forgotten = f.by_id.len() + f.tool_calls.len() + f.handoffs.len() > f.new_ids.len()
            || ids.len() > MAX_REMEMBERED_IDS;
        ids.drain(..ids.len().saturating_sub(MAX_REMEMBERED_IDS));
        let until = if forgotten { f.earlier_until.max(f.latest) } else { f.earlier_until };
        Self { earlier_ids: ids, models: f.models.clone(), offset: f.offset, until }
    }
}

impl From<FeedSnapshot> for Feed {
    fn from(b: FeedSnapshot) -> Self {
        Self {
            earlier_ids: b.earlier_ids.into_iter().enumerate().map(|(n, id)| (id, n)).collect(),
            earlier_until: b.until,
            models: b.models,
            offset: b.offset,
            ..Self::default()
        }
    }
}

fn plausible_components(c: &Components) -> Components {
    let plausible = |seconds: Option<f64>| {
        seconds.filter(|s| s.is_finite() && (0.0..=LONGEST_RESPONSE_SECONDS).contains(s))
    };
    Components {
        transcription_delay: plausible(c.transcription_delay),
        end_of_turn_delay: plausible(c.end_of_turn_delay),
        llm_first_token: plausible(c.llm_first_token),
        tts_first_byte: plausible(c.tts_first_byte),
    }
}

/// The feeds of all senders.
#[derive(Clone, Debug, Default)]
pub(crate) struct Feeds(BTreeMap<String, Feed>);

impl Feeds {
    /// False if the message changes nothing.
    pub(crate) fn take(
        &mut self,
        identity: &str,
        message: &FeedMessage,
        at: Moment,
        keep_text: bool,
    ) -> bool {
        if let Some(feed) = self.0.get_mut(identity) {
            let new = feed.take(message, at, keep_text);
            feed.reported |= new;
            return new;
        }
        let mut feed = Feed { reported: true, ..Feed::default() };
        if !feed.take(message, at, keep_text) {
            return false;
        }
        if self.0.len() >= MAX_SENDERS {
            // Agents come and go in a room that stays: a feed of an earlier call makes room.
            let silent = self.0.iter().find(|(_, f)| !f.reported).map(|(i, _)| i.clone());
            let Some(silent) = silent else { return false };
            self.0.remove(&silent);
        }
        self.0.insert(identity.to_owned(), feed);
        true
    }

    /// What the next call in the room needs, and the ids that it must not count again.
    pub(crate) fn for_next_call(&self) -> BTreeMap<String, FeedSnapshot> {
        self.0.iter().map(|(identity, f)| (identity.clone(), f.into())).collect()
    }

    pub(crate) fn from_earlier_call(before: BTreeMap<String, FeedSnapshot>) -> Self {
        Self(before.into_iter().map(|(identity, b)| (identity, b.into())).collect())
    }

    /// Merges the reports of all agents into one view, by *our* clock.
    ///
    /// If an agent speaks, the items and states from agents that only listen are left out.
    pub(crate) fn merged(&self, parties: &Parties) -> AgentView {
        let of_agents = || self.0.iter().filter(|(i, _)| parties.is_agent(i) == Some(true));
        let some_speak = of_agents().any(|(_, f)| f.speaks());
        let mut view = AgentView::default();
        let mut ids: BTreeSet<&str> = BTreeSet::new();
        let mut items: Vec<FeedItem> = vec![];
        let mut by_usage: Vec<&Feed> = of_agents().map(|(_, f)| f).collect();
        by_usage.sort_by_key(|f| f.models_at);
        by_usage.into_iter().for_each(|f| view.models.extend(f.models.clone()));
        let mut tool_calls: BTreeMap<&str, (&str, bool)> = BTreeMap::new();
        for (identity, feed) in of_agents() {
            for (id, (name, failed)) in &feed.tool_calls {
                tool_calls.entry(id).or_insert((name, false)).1 |= failed;
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
                let item = &feed.items[*i];
                // A session that continues another's conversation repeats its items under the same
                // ids.
                if item.blank || !ids.insert(id) {
                    continue;
                }
                items.push(FeedItem {
                    session: view.sessions.len(),
                    created_at: item.created_at.map(ours),
                    started_at: item.started_at.map(ours),
                    stopped_at: item.stopped_at.map(ours),
                    ..item.clone()
                });
            }
            view.sessions.push(session);
        }
        view.items = drop_repeated_turns(items);
        for (name, failed) in tool_calls.into_values() {
            if view.tools.len() < MAX_TOOLS || view.tools.contains_key(name) {
                let tool = view.tools.entry(name.to_owned()).or_default();
                tool.calls = tool.calls.saturating_add(1);
                tool.failures = tool.failures.saturating_add(u32::from(failed));
            }
        }
        view
    }
}

/// Sorts the items, and drops those that another session reported for the same turn of the caller.
fn drop_repeated_turns(mut items: Vec<FeedItem>) -> Vec<FeedItem> {
    items.sort_by_key(|i| (i.order(), i.session));
    let several = items.windows(2).any(|w| w[0].session != w[1].session);
    let mut taken: Vec<FeedItem> = Vec::with_capacity(items.len());
    for item in items {
        let same = |t: &FeedItem| {
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

impl Item {
    /// By the agent's clock: when the item was created.
    fn time(&self) -> Option<Moment> {
        self.created_at.or(self.stopped_at).or(self.started_at)
    }
}

impl FeedItem {
    /// The item's position in the conversation, by our clock.
    pub fn order(&self) -> Moment {
        self.started_at.or(self.created_at).unwrap_or(self.arrived)
    }
}

/// One sender's states, in order.
#[derive(Clone, Debug, Default)]
pub struct Session {
    pub identity: String,
    /// When the sender was gone. Its last states hold until then.
    pub gone_at: Option<Moment>,
    pub agent_states: Vec<(Moment, AgentState)>,
    pub user_states: Vec<(Moment, UserState)>,
}

/// The reports of all agents together; times by our clock.
#[derive(Clone, Debug, Default)]
pub struct AgentView {
    pub items: Vec<FeedItem>,
    pub sessions: Vec<Session>,
    pub false_interruptions: Vec<(Moment, bool)>,
    /// The models last in use, as `provider/model`.
    pub models: BTreeMap<ModelTask, String>,
    pub used: BTreeMap<(ModelTask, String, String), Used>,
    pub tools: BTreeMap<String, ToolUse>,
    pub handoffs: Vec<Handoff>,
    pub answered_by: Option<Answerer>,
    pub errors: u32,
    /// When sessions reported errors from which they cannot recover.
    pub failed_at: Vec<Moment>,
}

impl AgentView {
    /// Whether the agent's model hears the caller itself: it reports a language model and no speech recognition.
    pub fn hears_by_itself(&self) -> bool {
        self.models.contains_key(&ModelTask::Llm) && !self.models.contains_key(&ModelTask::Stt)
    }
}

impl AgentView {
    /// Adds what is reported for the details only, not for the metrics.
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
        // A session that continues another's conversation repeats its hand-offs.
        let new = feed.handoffs.iter().filter(|h| !self.handoffs.iter().any(|k| k.id == h.id));
        let new: Vec<Handoff> = new.map(ours).collect();
        self.handoffs.extend(new);
        self.handoffs.sort_by_key(|h| h.at);
        self.answered_by = self.answered_by.or(feed.answered_by);
        self.errors = self.errors.saturating_add(feed.errors);
        self.failed_at.extend(&feed.failed_at);
    }
}
