//! Agents: workers that register at `/agent`, and the jobs that rooms give them.
//!
//! [`socket`] speaks to one worker; [`pool`] knows them all and chooses; [`job`] carries one job from a
//! room's wish to the assignment. Behaviour: docs/worker-protocol.md, its unkind sides included: one attempt, no queue, no
//! retry.

mod job;
mod pool;
mod socket;

pub(crate) use job::RunningJob;
pub use pool::WorkerState;
pub(crate) use pool::Workers;
pub(crate) use socket::agent;
