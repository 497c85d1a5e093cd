//! The server against unmodified clients: the Rust SDK, `livekit-api`, and raw websockets.
//!
//! Every test has a server of its own and waits for events, never for time to pass.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod agents;
mod api;
mod audio;
mod data;
mod faults;
mod jobs;
mod phone;
mod raw;
mod rooms;
mod support;
mod tokens;
mod webhooks;
