//! Tests of the core: calls are written as short scenarios. Times are milliseconds from the start of
//! the scenario. Times of speech are when it was spoken; its signals arrive as late as in a room.

mod endings;
mod evidence;
mod people;
mod properties;
mod published;
mod rooms;
mod stays;
mod tables;
mod taken;

use std::collections::BTreeMap;

use record::{CallHistory, Tier};

use super::{
    Call, Event, Fact, Moment, Phase, RoomFacts, Settings,
    event::{
        AgentState, By, FeedMessage, Item, Joined, Kind, LeaveReason, StreamOpened, UserState,
    },
    evidence::SignalDelay,
};

const TRANSCRIPT: SignalDelay = SignalDelay::user(Tier::Transcripts);
const ZERO: i64 = 1_700_000_000_000;

fn at(ms: i64) -> Moment {
    Moment::from_millis(ZERO + ms)
}

/// A call, and what has happened in it so far.
struct Scenario {
    call: Call,
    /// All events so far, for a replay with other settings.
    events: Vec<Event>,
    streams: u32,
}

impl Scenario {
    fn new() -> Self {
        Self::in_room("room")
    }

    fn in_room(name: &str) -> Self {
        let room = RoomFacts { sid: "RM_1".into(), name: name.into() };
        let mut scenario =
            Self { call: Call::new(room, Settings::default()), events: vec![], streams: 0 };
        scenario.fact(0, Fact::Watching { server_behind_ms: 0, by: None });
        scenario
    }

    /// A web caller and an agent, both there from the start.
    fn web_call() -> Self {
        let mut t = Self::new();
        t.joins(0, "caller", Kind::Standard, &[]);
        t.joins(0, "agent", Kind::Agent, &[("lk.agent.state", "listening")]);
        t
    }

    fn fact(&mut self, ms: i64, fact: Fact) -> &mut Self {
        let event = Event { at: at(ms), fact };
        let _ = self.call.apply(&event);
        self.events.push(event);
        self
    }

    /// Applies a fact; returns what a journal has to hold of it.
    fn taken(&mut self, ms: i64, fact: Fact) -> Option<Fact> {
        let event = Event { at: at(ms), fact };
        self.events.push(event.clone());
        self.call.apply(&event).of(event).map(|e| e.fact)
    }

    fn joins(&mut self, ms: i64, who: &str, kind: Kind, attributes: &[(&str, &str)]) -> &mut Self {
        self.fact(
            ms,
            Fact::Joined(Joined {
                identity: who.into(),
                sid: format!("PA_{who}"),
                kind,
                name: String::new(),
                metadata: String::new(),
                attributes: map(attributes),
                joined_at: at(ms),
                permissions: None,
            }),
        )
    }

    fn leaves(&mut self, ms: i64, who: &str, reason: LeaveReason) -> &mut Self {
        self.fact(
            ms,
            Fact::Left { identity: who.into(), reason, attributes: BTreeMap::new(), since: None },
        )
    }

    fn sets(&mut self, ms: i64, who: &str, attributes: &[(&str, &str)]) -> &mut Self {
        self.fact(ms, Fact::Attributes { identity: who.into(), changed: map(attributes) })
    }

    fn state(&mut self, ms: i64, state: &str) -> &mut Self {
        self.sets(ms + SignalDelay::agent(Tier::State).start, "agent", &[("lk.agent.state", state)])
    }

    /// The agent speaks: state, text, state.
    fn agent_says(&mut self, from: i64, to: i64, text: &str) -> &mut Self {
        self.state(from, "speaking");
        self.stream("agent", from + 100, to - 50, text, false);
        self.state(to, "listening")
    }

    /// The caller speaks: an interim and a final of one segment.
    fn caller_says(&mut self, from: i64, to: i64, text: &str) -> &mut Self {
        let segment = format!("SG_{from}");
        let first = text.split(' ').next().unwrap_or("");
        let (from, to) = (from + TRANSCRIPT.start, to + TRANSCRIPT.end);
        self.segment("caller", &segment, from, from, first, false);
        self.segment("caller", &segment, from + 200, from + 200, text, false);
        self.segment("caller", &segment, to.max(from + 200), to.max(from + 200), text, true)
    }

    fn stream(&mut self, who: &str, from: i64, to: i64, text: &str, is_final: bool) -> &mut Self {
        let segment = format!("SG_{who}_{from}");
        self.segment(who, &segment, from, to, text, is_final)
    }

    fn open(&mut self, ms: i64, who: &str, segment: &str) -> String {
        self.streams += 1;
        let stream = format!("stream{}", self.streams);
        let opened = StreamOpened {
            stream: stream.clone(),
            identity: who.into(),
            segment: Some(segment.into()),
            track: None,
            generated: who == "caller",
        };
        self.fact(ms, Fact::StreamOpened(opened));
        stream
    }

    fn chunk(&mut self, ms: i64, stream: &str, text: &str) -> &mut Self {
        self.fact(ms, Fact::StreamChunk { stream: stream.into(), text: text.into() })
    }

    fn close(&mut self, ms: i64, stream: &str, is_final: bool) -> &mut Self {
        self.fact(ms, Fact::StreamClosed { stream: stream.into(), is_final })
    }

    fn segment(
        &mut self,
        who: &str,
        segment: &str,
        from: i64,
        to: i64,
        text: &str,
        is_final: bool,
    ) -> &mut Self {
        let stream = self.open(from, who, segment);
        for word in text.split_inclusive(' ') {
            self.chunk(from, &stream, word);
        }
        self.close(to, &stream, is_final)
    }

    fn feed(&mut self, ms: i64, message: FeedMessage) -> &mut Self {
        self.fact(ms, Fact::Feed { identity: "agent".into(), message })
    }

    fn feed_agent(&mut self, ms: i64, state: AgentState) -> &mut Self {
        self.feed(ms, FeedMessage::AgentState { at: Some(at(ms)), state })
    }

    fn feed_user(&mut self, ms: i64, state: UserState) -> &mut Self {
        let delay = SignalDelay::user(Tier::Feed);
        let ms = ms + if state == UserState::Speaking { delay.start } else { delay.end };
        self.feed(ms, FeedMessage::UserState { at: Some(at(ms)), state })
    }

    fn item(&mut self, ms: i64, item: Item) -> &mut Self {
        self.feed(ms, FeedMessage::Item { at: Some(at(ms)), item })
    }

    fn publishes(&mut self, ms: i64, who: &str, text: &str) -> &mut Self {
        self.fact(ms, Fact::Published { identity: Some(who.into()), text: text.into() })
    }

    fn phase(&self, ms: i64) -> Phase {
        self.call.phase(at(ms))
    }

    fn record(&self) -> CallHistory {
        self.call.record().expect("a record")
    }

    /// The caller hangs up and the room closes.
    fn ends(&mut self, ms: i64) -> CallHistory {
        self.leaves(ms, "caller", LeaveReason::ClientInitiated);
        self.record()
    }
}

/// The whole state of a call, without its problems.
fn state(call: &mut Call) -> String {
    call.take_problems();
    format!("{call:?}")
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn item(id: &str, by: By, text: &str, spoken: Option<(i64, i64)>) -> Item {
    let delay = if by == By::User {
        SignalDelay::user(Tier::Items)
    } else {
        SignalDelay::agent(Tier::Items)
    };
    let spoken = spoken.map(|(from, to)| (from + delay.start, to + delay.end));
    Item {
        id: id.into(),
        by,
        text: text.into(),
        interrupted: false,
        created_at: spoken.map(|(_, to)| at(to)),
        started_at: spoken.map(|(from, _)| at(from)),
        stopped_at: spoken.map(|(_, to)| at(to)),
        e2e_latency: None,
        components: Default::default(),
    }
}

fn history(items: Vec<Item>) -> FeedMessage {
    FeedMessage::History { items, handoffs: vec![], tools: vec![] }
}

/// The latency that an agent reports for an answer after `seconds`: it notices the caller's end late.
fn reported_latency(seconds: f64) -> Option<f64> {
    Some(seconds - SignalDelay::user(Tier::Feed).end as f64 / 1000.0)
}
