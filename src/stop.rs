//! How the process is asked to stop.

/// Given to everything that runs, by a `tokio::sync::watch`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stop {
    #[default]
    Run,
    /// No new calls; those that are on go on to their end.
    Drain,
    /// What is on is finished as it stands.
    Now,
}
