//! The live events of one call: notices how far it is, and says so once.

use call::{Call, Moment, progress::Progress};
use delivery::events::{CallEvents, Events};
use record::{CallEvent, CallHistory, CallType, EventKind};

pub(super) struct Live {
    events: CallEvents,
    posted: Progress,
}

impl Live {
    /// Begins with the event that the call has started. `None` if no events are wanted.
    pub(super) fn begin(events: &Events, call: &Call) -> Option<Self> {
        let live = Self::of(events, call, 1)?;
        let at = call.current_caller().map_or_else(Moment::default, |c| c.joined_at);
        live.events.post(|e| (e.event, e.time) = (EventKind::Started, at.to_rfc3339()));
        Some(live)
    }

    /// Goes on with a call whose events an earlier run has posted. Nobody knows its last number: the next one is so
    /// much higher that no number is used twice. It grows with the call, as there may have been several runs.
    pub(super) fn resume(events: &Events, call: &Call, now: Moment) -> Option<Self> {
        let lasts = call.current_caller().map_or(0, |c| now.since(c.joined_at));
        let tenths: u32 = (lasts.max(0) / 100).try_into().unwrap_or(0);
        let live = Self::of(events, call, 1_000_u32.saturating_add(tenths))?;
        Some(Self { posted: call.progress(), ..live })
    }

    fn of(events: &Events, call: &Call, first: u32) -> Option<Self> {
        let posting = events.begin(about(call), first)?;
        events.remember(&call.room().sid, &posting);
        Some(Self { events: posting, posted: Progress::default() })
    }

    /// Posts what is new.
    pub(super) fn note(&mut self, call: &Call) {
        let now = call.progress();
        if now == self.posted {
            return;
        }
        self.update(call);
        if now.answered && !self.posted.answered {
            let at = call.current_caller().and_then(|c| c.connected_at).unwrap_or_default();
            self.events.post(|e| (e.event, e.time) = (EventKind::Answered, at.to_rfc3339()));
        }
        for place in self.posted.stages..now.stages {
            let Some((stage, at)) = call.stage(place) else { break };
            self.events.post(|e| {
                (e.event, e.time) = (EventKind::Stage, at.to_rfc3339());
                e.stage = Some(stage.to_owned());
            });
        }
        self.posted = now;
    }

    /// The call is over.
    pub(super) fn end(mut self, events: &Events, call: &Call, record: &CallHistory) {
        // Its recordings come soon: it is the latest of those that are remembered.
        events.remember(&call.room().sid, &self.events);
        self.note(call);
        self.update(call);
        let kind = if self.posted.answered { EventKind::Ended } else { EventKind::Missed };
        self.events.post(|e| over(e, kind, record));
    }

    fn update(&self, call: &Call) {
        self.events.update(about(call));
    }
}

/// Posts the only event of a call that no observer saw.
pub(in crate::observer) fn missed(events: &Events, call: &Call, record: &CallHistory) {
    if let Some(events) = events.begin(about(call), 1) {
        events.post(|e| over(e, EventKind::Missed, record));
    }
}

fn over(e: &mut CallEvent, kind: EventKind, record: &CallHistory) {
    e.event = kind;
    e.time.clone_from(&record.end_time);
    e.status = Some(record.status);
    e.termination_reason.clone_from(&record.termination_reason);
    e.duration_seconds = Some(record.duration_seconds);
}

/// Call, room and caller; event and time are set later.
fn about(call: &Call) -> CallEvent {
    let caller = call.current_caller();
    CallEvent {
        event: EventKind::Started,
        call_id: call.id(),
        sequence: 0,
        time: String::new(),
        room_name: call.room().name.clone(),
        phone_number: caller.as_ref().map_or("unknown".into(), |c| c.phone_number.clone()),
        call_type: caller.map_or(CallType::Inbound, |c| c.call_type),
        stage: None,
        status: None,
        termination_reason: None,
        duration_seconds: None,
        recording: None,
    }
}
