//! The end of a call, and its record.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use call::{Call, Fact, Moment, event::LeaveReason};
use delivery::Finished;
use record::{CallHistory, EndBasis};

use super::{room::Connection, watch::Watch};

/// What is left in the streams of a room that has ended.
const REST_WITHIN: Duration = Duration::from_millis(40);

impl Watch {
    /// The last call in this room, if one is on.
    pub(super) async fn room_over(
        &mut self,
        c: Option<&mut Connection>,
        reason: LeaveReason,
        ended_at: Moment,
    ) {
        if let Some(c) = c {
            for (at, fact) in c.rest(REST_WITHIN).await {
                self.apply(at, fact);
            }
        }
        self.apply(ended_at, Fact::RoomEnded { reason });
        if self.live.is_some() {
            self.call_over().await;
        } else if self.calls == 0 {
            tracing::info!(
                job_id = self.assignment.id,
                room = self.room_name,
                "room ended without a caller, nothing to report"
            );
        }
    }

    /// The call is over while we are not in the room: nor do we see how the next one begins.
    pub(super) async fn call_over_unseen(&mut self) {
        self.call_over().await;
        self.apply(self.clock.now(), Fact::Blind);
    }

    pub(super) async fn call_over(&mut self) {
        let Some(call) = self.tell().await else { return };
        // A room may live for weeks, and so would an error of its first second.
        let moved = self.clock.restart_after_call(&self.shared.wall);
        let (next, event) = call.next(self.clock.now(), moved);
        if !next.opted_out() {
            let journal = self.shared.journals.begin(&next);
            journal.append(&event);
            self.journal = Some(journal);
        }
        self.call = Some(next);
    }

    /// Hands the record over.
    pub(super) async fn tell(&mut self) -> Option<Call> {
        // A job may have said that nothing is to be stored.
        while let Ok(metadata) = self.metadata.try_recv() {
            self.apply(self.clock.now(), Fact::JobMetadata { metadata });
        }
        let call = self.call.take()?;
        self.calls += 1;
        self.live = None;
        self.problems.clear();
        if call.opted_out() {
            tracing::info!(
                room = self.room_name,
                "call ended; opted out of recording, nothing is stored or sent"
            );
        } else if let Some(record) = catch_unwind(AssertUnwindSafe(|| call.record()))
            .unwrap_or_else(|_| call.record_without_metrics())
        {
            self.log_end(&call, &record);
            let finished = Finished {
                record: &record,
                room: &call.room().sid,
                ordinal: call.ordinal(),
                ended: Moment::parse_rfc3339(&record.end_time).unwrap_or_default(),
                journal: self.journal.take(),
            };
            self.shared.delivery.submit(finished).await;
        }
        self.forget_journal();
        Some(call)
    }

    /// A room that is over leaves no journal of a call that never was.
    pub(super) fn forget_journal(&mut self) {
        if let Some(journal) = self.journal.take() {
            journal.forget();
        }
    }

    fn log_end(&self, call: &Call, r: &CallHistory) {
        let m = &r.metrics;
        tracing::info!(
            call_id = r.call_id,
            room = self.room_name,
            status = r.status.as_str(),
            reason = call.known_reason(),
            duration_s = r.duration_seconds,
            end_time_basis = call.end_basis().map(EndBasis::as_str),
            user_utterances = m.total_user_utterances,
            agent_utterances = m.total_agent_utterances,
            interruptions = m.interruption_count,
            silences = m.silence_count,
            stages = r.stage_timeline.len(),
            "call ended"
        );
    }
}
