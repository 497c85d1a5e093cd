//! Agents: workers that register at `/agent`, and the jobs that rooms give them.
//!
//! [`socket`] is the connection of one worker; [`pool`] knows all workers and chooses; [`job`] carries one
//! job from a room's request to the assignment. The behaviour is that of docs/worker-protocol.md,
//! weaknesses included: one attempt, no queue, no retry.

mod job;
mod pool;
mod socket;

pub(crate) use job::RunningJob;
pub use pool::WorkerState;
pub(crate) use pool::Workers;
pub(crate) use socket::agent;
