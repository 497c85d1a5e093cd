//! Many calls in one room, one after the other, with an agent whose session outlives them.

use record::Details;

use super::*;
use crate::{
    event::{Handoff, ToolCall},
    snapshot::FeedSnapshot,
    taken::Taken,
};

const A_CALL_MS: i64 = 100_000;
/// How far the agent's clock is ahead.
const AHEAD_MS: i64 = 3_600_000;

/// A room whose agent stays, and all that the agent's history holds by now.
struct RoomWithAgent {
    t: Scenario,
    calls: i64,
    items: Vec<Item>,
    tools: Vec<ToolCall>,
    handoffs: Vec<Handoff>,
    /// Whether the agent's session reports times.
    dated: bool,
}

impl RoomWithAgent {
    fn new(dated: bool) -> Self {
        let room = RoomFacts { sid: "RM_1".into(), name: "room".into() };
        let settings = Settings { details: true, ..Settings::default() };
        let call = Call::new(room, settings);
        let mut t = Scenario { call, events: vec![], streams: 0 };
        t.fact(0, Fact::Watching { server_behind_ms: 0, by: None });
        t.joins(0, "agent", Kind::Agent, &[("lk.agent.state", "listening")]);
        Self { t, calls: 0, items: vec![], tools: vec![], handoffs: vec![], dated }
    }

    fn ms(&self, into: i64) -> i64 {
        self.calls * A_CALL_MS + into
    }

    fn time(&self, into: i64) -> Option<Moment> {
        self.dated.then(|| at(self.ms(into) + AHEAD_MS))
    }

    fn item(&self, id: &str, by: By, text: &str, into: i64) -> Item {
        Item {
            created_at: self.time(into),
            ..item(&format!("{id}-{}", self.calls), by, text, None)
        }
    }

    fn tool(&self, id: &str, into: i64) -> ToolCall {
        let id = format!("{id}-{}", self.calls);
        ToolCall { id, name: "look".into(), failed: false, at: self.time(into) }
    }

    /// A caller joins; the agent reports four items, two tool calls and a hand-off.
    fn talk(&mut self) {
        let who = format!("caller{}", self.calls);
        self.t.joins(self.ms(1_000), &who, Kind::Standard, &[]);
        for (id, by, text, into) in [
            ("a", By::Agent, "good day to you", 3_000),
            ("b", By::User, "hello", 6_000),
            ("c", By::Agent, "what will it be", 9_000),
            ("d", By::User, "the usual", 12_000),
        ] {
            let item = self.item(id, by, text, into);
            self.items.push(item.clone());
            let message = FeedMessage::Item { at: Some(at(self.ms(into) + AHEAD_MS)), item };
            self.t.feed(self.ms(into + 20), message);
        }
        let calls = vec![self.tool("t", 13_000), self.tool("u", 14_000)];
        self.tools.extend(calls.clone());
        self.t.feed(self.ms(15_000), FeedMessage::Tools { calls });
        let handoff = Handoff {
            id: format!("h-{}", self.calls),
            at: self.time(16_000),
            from: None,
            to: "waiter".into(),
        };
        self.handoffs.push(handoff.clone());
        self.t.feed(self.ms(16_020), FeedMessage::Handoff(handoff));
    }

    /// The agent sends its whole history.
    fn sends_history(&mut self, into: i64) -> Taken {
        let message = FeedMessage::History {
            items: self.items.clone(),
            handoffs: self.handoffs.clone(),
            tools: self.tools.clone(),
        };
        let fact = Fact::Feed { identity: "agent".into(), message };
        self.t.call.apply(&Event { at: at(self.ms(into)), fact })
    }

    fn hang_up(&mut self) -> CallHistory {
        let who = format!("caller{}", self.calls);
        self.t.leaves(self.ms(20_000), &who, LeaveReason::ClientInitiated);
        self.t.record()
    }

    /// Begins the next call from its line in the journal, as a restarted worker does. Returns the
    /// length of that line in bytes.
    fn next(&mut self) -> usize {
        let (_, event) = self.t.call.next(at(self.ms(90_000)), 0);
        let line = serde_json::to_string(&event).unwrap();
        let mut next = Call::new(self.t.call.room().clone(), self.t.call.settings().clone());
        let _ = next.apply(&serde_json::from_str(&line).unwrap());
        self.t.call = next;
        self.t.events.clear();
        self.calls += 1;
        line.len()
    }
}

fn figures(r: &CallHistory) -> (u32, u32, u32, usize) {
    let d: &Details = r.details.as_ref().unwrap();
    let tools = d.tools.iter().flatten().map(|t| t.calls).sum();
    let m = &r.metrics;
    (m.total_user_utterances, m.total_agent_utterances, tools, d.handoffs.iter().flatten().count())
}

#[test]
fn a_room_remembers_a_bounded_amount_and_counts_nothing_twice_in_its_thousandth_call() {
    for dated in [true, false] {
        let mut room = RoomWithAgent::new(dated);
        let mut sizes = vec![];
        for _ in 0..1_000 {
            room.talk();
            room.hang_up();
            sizes.push(room.next());
        }
        let (few, many) = (sizes[200], sizes[999]);
        assert!(many < 30_000 && many < few + 1_000, "{few} bytes after 200 calls, {many} at last");

        room.talk();
        // The whole history since the first call holds nothing new.
        assert!(matches!(room.sends_history(17_000), Taken::No), "dated: {dated}");
        // What was missed in this call counts.
        let (item, tool) =
            (room.item("e", By::Agent, "here you are", 17_500), room.tool("v", 17_500));
        room.items.push(item);
        room.tools.push(tool);
        assert!(matches!(room.sends_history(18_000), Taken::Whole));
        assert_eq!(figures(&room.hang_up()), (2, 3, 3, 1), "dated: {dated}");
    }
}

/// So many items came after the last tool call that its id is no longer remembered.
#[test]
fn a_tool_of_long_ago_is_not_counted_again() {
    for dated in [true, false] {
        let mut room = RoomWithAgent::new(dated);
        room.talk();
        room.hang_up();
        room.next();
        for n in 0..1_200 {
            let item = room.item(&format!("x{n}"), By::Agent, "word", 5_000);
            room.t.item(room.ms(5_000), item);
        }
        room.next();
        room.t.joins(room.ms(1_000), &format!("caller{}", room.calls), Kind::Standard, &[]);
        assert!(matches!(room.sends_history(17_000), Taken::No), "dated: {dated}");
    }
}

#[test]
fn a_history_that_is_fully_remembered_is_compared_by_its_ids() {
    let mut room = RoomWithAgent::new(true);
    room.talk();
    room.hang_up();
    room.next();
    room.talk();
    // The agent's clock was set back meanwhile.
    let earlier = Item { created_at: Some(at(-AHEAD_MS)), ..room.item("e", By::Agent, "yes", 0) };
    room.items.push(earlier);
    assert!(matches!(room.sends_history(17_000), Taken::Whole));
    assert!(matches!(room.sends_history(17_000), Taken::No));
}

#[test]
fn agents_of_earlier_calls_do_not_use_up_the_place_for_later_feeds() {
    let mut t = Scenario::new();
    for n in 0..20 {
        let (ms, agent) = (n * A_CALL_MS, format!("agent{n}"));
        let (caller, left) = (format!("caller{n}"), LeaveReason::ClientInitiated);
        t.joins(ms, &caller, Kind::Standard, &[]);
        t.joins(ms, &agent, Kind::Agent, &[]);
        let item =
            item(&format!("i{n}"), By::Agent, "three words here", Some((ms + 2_000, ms + 3_000)));
        let message = FeedMessage::Item { at: Some(at(ms + 3_000)), item };
        t.fact(ms + 3_000, Fact::Feed { identity: agent.clone(), message });
        t.leaves(ms + 9_000, &agent, left);
        t.leaves(ms + 9_000, &caller, left);
        assert_eq!(t.record().metrics.longest_agent_utterance, 3, "call {n}");
        t.call = t.call.next(at(ms + 20_000), 0).0;
    }
}

#[test]
fn nobody_is_carried_over_from_a_room_that_has_ended() {
    let mut t = Scenario::web_call();
    let (next, _) = t.call.next(at(1_000), 0);
    assert!(next.has_caller(), "who is there goes on to the next call");
    // The caller's leave was not reported before the room's end.
    t.fact(2_000, Fact::RoomEnded { reason: LeaveReason::RoomClosed });
    let (next, _) = t.call.next(at(2_000), 0);
    assert!(!next.has_caller() && next.present().is_empty());
}

#[test]
fn the_feed_snapshot_of_an_older_journal_is_read() {
    let line = r#"{"told":["b","a"],"models":{"llm":"m"},"offset":7}"#;
    let before: FeedSnapshot = serde_json::from_str(line).unwrap();
    assert_eq!(serde_json::to_string(&before).unwrap(), line);
}
