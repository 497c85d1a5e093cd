//! Signals to processes. A small system may have no program `kill`, so we send them ourselves.

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// SIGTERM: to end in order.
pub const TERM: i32 = 15;

/// Sends a signal by its number.
///
/// # Errors
/// If there is no such process or signal, or it may not be signalled.
pub fn send(pid: u32, number: i32) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process")?;
    let signal = Signal::from_named_raw(number).context("no signal")?;
    kill_process(pid, signal).context("the process cannot be signalled")
}
