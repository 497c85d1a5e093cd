//! The page over HTTP: what it shows, to whom, and what browsers may do.

// Helpers of tests are not tests to clippy.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod deleting;
// Another target uses all of it.
#[allow(dead_code)]
#[path = "../it/collector/agents.rs"]
mod agents;
mod pages;
mod password;
// Another target uses all of it.
#[allow(dead_code)]
#[path = "../it/postgres.rs"]
mod postgres;
mod rig;
mod rights;
mod samples;
mod zones;
