//! One connection to a room: turns the SDK's events into facts.
//!
//! In: `RoomEvent`s of the SDK and the streams they open. Out: [`Notice`]s, with the time at which they
//! reached us. It subscribes to audio and disables the subscription at once. Speaker and quality events
//! come all the same, no RTP is sent to us, and the publisher does not notice (docs/signals.md §6.2).

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use call::{
    Fact, Moment,
    event::{Discovery, LeaveReason},
    roles::Identities,
};
use futures_util::{StreamExt, stream::SelectAll};
use livekit::prelude::{LocalParticipant, Room, RoomEvent, RoomOptions};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

use super::{
    chat::{Channel, Chat},
    sdk::gate,
    streams::{self, Facts},
};
use crate::clock::{Clock, WallClock};

#[cfg(test)]
mod counted;
mod events;

/// The SDK must not retry: before each attempt we check that the room still exists.
const JOIN_RETRIES: u32 = 0;
const SIGNAL_WITHIN: Duration = Duration::from_secs(10);
/// How long we wait for the SDK to report the present participants after the join.
const PRESENT_WITHIN: Duration = Duration::from_secs(1);
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
/// A participant that leaves sooner may stay in LiveKit's list of the room until the room ends. For other
/// workers its claim would then still stand.
const STAY_AT_LEAST: Duration = Duration::from_secs(1);
/// How long we wait for the room's sid, which the server sends with the join.
const SID_WITHIN: Duration = Duration::from_secs(2);
/// What a connection reports to its session.
#[derive(Debug)]
pub(super) enum Notice {
    Fact(Fact),
    /// A participant seems to have left, but the server has not confirmed it.
    SeemsGone {
        identity: String,
        attributes: BTreeMap<String, String>,
    },
    Reconnecting,
    Reconnected,
    /// The SDK has rejoined by name and is in another room: ours no longer exists.
    OtherRoom,
    /// Our own probe packet came back: the room still delivers events.
    Echo,
    Disconnected(LeaveReason),
}

pub(super) struct Connection {
    /// `None` once the connection is closed.
    room: Option<Room>,
    events: mpsc::UnboundedReceiver<RoomEvent>,
    streams: SelectAll<Facts>,
    /// Notices for [`Self::next`].
    ready: VecDeque<(Moment, Notice)>,
    /// Notices that came while the SDK reconnects. They count only if the SDK is back in the same room.
    held: Option<Vec<(Moment, Notice)>>,
    /// When we joined; see [`STAY_AT_LEAST`].
    opened: Instant,
    /// The room's sid at the join, to notice when the SDK has rejoined another room.
    sid: String,
    /// Whether each participant spoke at the last event, to report only changes.
    speaking: HashMap<String, bool>,
    /// For each participant an `Arc` that its open streams hold clones of, to count them.
    senders: HashMap<String, Arc<()>>,
    /// Transcript streams without a chunk yet, by stream id.
    unsent: HashMap<String, Unsent>,
    /// The last typed texts.
    chat: Chat,
    /// The operator's rules about identities.
    names: Identities,
    clock: Clock,
}

/// The participant that a stream's header names as sender, and when the header came.
struct Unsent {
    identity: String,
    since: Instant,
}

/// What a join needs.
pub(super) struct Opening<'a> {
    pub(super) url: &'a str,
    pub(super) token: &'a str,
    pub(super) identity: &'a str,
    pub(super) by: Discovery,
    pub(super) clock: Clock,
    pub(super) wall: &'a WallClock,
    pub(super) names: Identities,
    /// No moment of `clock` is in use yet, so the clock may be set by the server's time that the join
    /// shows.
    pub(super) first: bool,
}

impl Connection {
    /// Joins. The first notices are the participants that are in the room already.
    ///
    /// # Errors
    /// The SDK's error without the token; or that the server sent no sid, without which a call has no id.
    pub(super) async fn open(opening: Opening<'_>) -> Result<Self, String> {
        let Opening { url, token, identity, by, clock, wall, names, first } = opening;
        let _joining = gate::open(identity);
        let mut options = RoomOptions::default();
        options.auto_subscribe = false;
        options.join_retries = JOIN_RETRIES;
        options.connect_timeout = SIGNAL_WITHIN;
        options.data_stream = options.data_stream.with_max_payload_byte_length(streams::MAX_FEED);
        let asked = Instant::now();
        let (room, events) = Room::connect(url, token, options)
            .await
            .map_err(|e| redacted(&e.to_string(), token))?;
        let answered = Instant::now();
        let metadata = room.metadata();
        // The server sends it with the join; the SDK only makes it awaitable.
        let sid = timeout(SID_WITHIN, room.sid()).await.map(|s| s.to_string());
        let sid = sid.ok().filter(|s| !s.is_empty()).ok_or("the server sent no room sid")?;
        let mut connection = Self {
            room: Some(room),
            events,
            streams: SelectAll::new(),
            ready: VecDeque::new(),
            held: None,
            opened: Instant::now(),
            sid,
            speaking: HashMap::new(),
            senders: HashMap::new(),
            unsent: HashMap::new(),
            chat: Chat::default(),
            names,
            clock,
        };
        let mut server_behind_ms = 0;
        if let Some((from, to)) = connection.joined_at() {
            wall.learn_join(from, to, asked, answered);
            if first {
                connection.clock.restart(wall);
            }
            let (asked, answered) =
                (connection.clock.moment(asked), connection.clock.moment(answered));
            server_behind_ms = clock_difference((from, to), (asked, answered));
        }
        connection.fact(Fact::Watching { server_behind_ms, by: Some(by) });
        if !metadata.is_empty() {
            connection.fact(Fact::RoomMetadata { metadata });
        }
        // The first event lists the participants that are in the room.
        let _ = timeout(PRESENT_WITHIN, connection.those_present()).await;
        Ok(connection)
    }

    async fn those_present(&mut self) {
        while let Some(event) = self.events.recv().await {
            let first = matches!(event, RoomEvent::Connected { .. });
            self.read(event);
            if first {
                return;
            }
        }
    }

    /// Takes the facts that are ready: after the join the room's metadata and its participants.
    pub(super) fn known(&mut self) -> Vec<(Moment, Fact)> {
        let mut known = vec![];
        for (at, notice) in std::mem::take(&mut self.ready) {
            match notice {
                Notice::Fact(fact) => known.push((at, fact)),
                other => self.ready.push_back((at, other)),
            }
        }
        known
    }

    /// The server's time of our join: earliest and latest.
    fn joined_at(&self) -> Option<(Moment, Moment)> {
        let at = Some(self.us()?.joined_at()).filter(|ms| *ms > 0)?;
        // Older servers send whole seconds.
        let until = if at % 1_000 == 0 { at.saturating_add(999) } else { at };
        Some((Moment::from_millis(at), Moment::from_millis(until)))
    }

    /// The room's sid.
    pub(super) fn sid(&self) -> &str {
        &self.sid
    }

    pub(super) fn us(&self) -> Option<LocalParticipant> {
        self.room.as_ref().map(Room::local_participant)
    }

    /// Identities of the other participants, as the SDK lists them.
    pub(super) fn present(&self) -> Vec<String> {
        let all = self.room.as_ref().map(Room::remote_participants).unwrap_or_default();
        all.keys().map(ToString::to_string).collect()
    }

    /// The next notice, and its time. Safe to cancel.
    pub(super) async fn next(&mut self) -> (Moment, Notice) {
        loop {
            if let Some(noticed) = self.ready.pop_front() {
                return noticed;
            }
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.read(event),
                    None => {
                        // No event will release the held notices any more.
                        self.ready.extend(self.held.take().into_iter().flatten());
                        self.notice(Notice::Disconnected(LeaveReason::UnknownReason));
                    }
                },
                Some(fact) = self.streams.next(), if !self.streams.is_empty() => match fact {
                    Fact::Chat { identity, text, .. } => self.typed(identity, text, Channel::Stream),
                    fact => self.fact(fact),
                },
            }
        }
    }

    /// Reads what is left in the streams of a room that has ended, for at most `within`.
    pub(super) async fn rest(&mut self, within: Duration) -> Vec<(Moment, Fact)> {
        let mut rest = vec![];
        let read = async {
            while let Some(fact) = self.streams.next().await {
                let at = self.clock.now();
                // The same text may have come as a message already.
                if let Fact::Chat { identity, text, .. } = &fact
                    && !self.chat.is_new(identity, text, Channel::Stream, at)
                {
                    continue;
                }
                rest.push((at, fact));
            }
        };
        // Streams that have not ended by then are given up.
        let _ = timeout(within, read).await;
        rest
    }

    /// Leaves, in a task of its own. The caller may wait for it.
    pub(super) fn close(&mut self) -> Option<JoinHandle<()>> {
        let room = self.room.take()?;
        let stay_until = self.opened + STAY_AT_LEAST;
        Some(tokio::spawn(async move {
            sleep_until(stay_until).await;
            // If a task of the SDK has panicked, `close` never returns.
            let _ = timeout(LEAVE_WITHIN, room.close()).await;
        }))
    }

    fn fact(&mut self, fact: Fact) {
        self.notice(Notice::Fact(fact));
    }

    fn notice(&mut self, notice: Notice) {
        let noticed = (self.clock.now(), notice);
        match &mut self.held {
            Some(held) => held.push(noticed),
            None => self.ready.push_back(noticed),
        }
    }

    /// The SDK's reconnect is over: it failed, or it is in the same room or in another one of that name.
    fn settled(&mut self, notice: Notice) {
        let sid = self.room.as_ref().and_then(Room::maybe_sid).map(|s| s.to_string());
        let same = sid.is_none_or(|s| s == self.sid);
        if let Some(held) = self.held.take().filter(|_| same) {
            self.ready.extend(held);
        }
        self.notice(if same { notice } else { Notice::OtherRoom });
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close();
    }
}

/// Milliseconds to add to a server's time to get ours: the distance between the server's time of our join
/// and the interval in which we joined. It is 0 if they overlap, so a slow join is not taken for a
/// difference of clocks.
fn clock_difference(server: (Moment, Moment), ours: (Moment, Moment)) -> i64 {
    ours.0.since(server.1).max(0) + ours.1.since(server.0).min(0)
}

/// Removes the token from an error text, which may hold the URL with the token in it.
pub(super) fn redacted(text: &str, token: &str) -> String {
    text.replace(token, "…")
}

#[cfg(test)]
mod tests {
    use super::{
        events::{MAX_STREAMS, UNSENT_FOR},
        *,
    };
    use store::health::Health;

    /// A connection without a room, and the sender of its events.
    fn connection() -> (mpsc::UnboundedSender<RoomEvent>, Connection) {
        let (sdk, events) = mpsc::unbounded_channel();
        let connection = Connection {
            room: None,
            events,
            streams: SelectAll::new(),
            ready: VecDeque::new(),
            held: None,
            opened: Instant::now(),
            sid: "RM_1".into(),
            speaking: HashMap::new(),
            senders: HashMap::new(),
            unsent: HashMap::new(),
            chat: Chat::default(),
            names: Identities::default(),
            clock: Clock::start(&WallClock::new(Health::default())),
        };
        (sdk, connection)
    }

    #[tokio::test(start_paused = true)]
    async fn streams_without_content_make_room_for_others_after_a_while() {
        let (_sdk, mut c) = connection();
        for n in 0..=MAX_STREAMS {
            c.unsent(format!("stream{n}"), "agent".into());
        }
        assert_eq!(c.unsent.len(), MAX_STREAMS);
        tokio::time::advance(UNSENT_FOR).await;
        c.unsent("late".into(), "agent".into());
        assert_eq!(c.unsent.keys().collect::<Vec<_>>(), ["late"]);
    }

    #[tokio::test]
    async fn a_text_on_two_channels_is_one_also_when_the_room_ends() {
        let (_sdk, mut c) = connection();
        let chat =
            |text: &str| Fact::Chat { identity: "alice".into(), text: text.into(), words: None };
        c.typed("alice".into(), "yes".into(), Channel::Message);
        let streams = futures_util::stream::iter([chat("yes"), chat("no")]);
        c.streams.push(Box::pin(streams));
        let rest = c.rest(Duration::from_secs(1)).await;
        let texts = rest.into_iter().map(|(_, fact)| fact);
        assert!(texts.eq([chat("no")]), "the message was counted before");
    }

    /// The SDK's task may panic while it reconnects.
    #[tokio::test]
    async fn held_notices_are_reported_when_the_events_end_during_a_reconnect() {
        let (sdk, mut c) = connection();
        sdk.send(RoomEvent::Reconnecting).unwrap();
        let (old_metadata, metadata) = (String::new(), "new".to_owned());
        sdk.send(RoomEvent::RoomMetadataChanged { old_metadata, metadata }).unwrap();
        drop(sdk);
        let mut notices = vec![];
        for _ in 0..3 {
            let next = timeout(Duration::from_millis(100), c.next()).await;
            notices.push(next.expect("no further notice").1);
        }
        assert!(
            matches!(
                &notices[..],
                [
                    Notice::Reconnecting,
                    Notice::Fact(Fact::RoomMetadata { metadata }),
                    Notice::Disconnected(LeaveReason::UnknownReason),
                ] if metadata == "new"
            ),
            "{notices:?}"
        );
    }
}
