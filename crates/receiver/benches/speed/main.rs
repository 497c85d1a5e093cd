//! Measures the receiver from outside, beside a minimal endpoint in Express. Prints figures and no verdict.
//!
//! `make bench-receiver` builds what it needs, and runs it. One part only: `cargo bench --workspace --bench speed -- posts`
//! or `questions`.
//!
//! | file | its one idea |
//! |---|---|
//! | [`posts`] | durable posts a second, and memory under them |
//! | [`questions`] | lists, searches and figures over a million calls |
//! | [`process`] | an endpoint as a process |

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "../../tests/it/postgres.rs"]
#[allow(dead_code)]
mod postgres;
mod posts;
mod process;
mod questions;

#[tokio::main]
async fn main() {
    // Cargo adds `--bench`.
    let parts: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|p| p == part);
    if wanted("posts") {
        posts::measure().await;
    }
    if wanted("questions") {
        questions::measure().await;
    }
}
