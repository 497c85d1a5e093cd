//! How fast the core takes events, and what a call costs in memory as it grows.
//!
//! `cargo bench` prints both; figures compare within one run only.

// A bench prints for a person, and may panic.
#![allow(clippy::print_stdout, clippy::expect_used)]

#[path = "shared/conversation.rs"]
mod conversation;

use std::{hint::black_box, time::Instant};

use peak_alloc::PeakAlloc;
use store::journal;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const RUNS: usize = 9;

fn main() {
    println!("call      events    events/s (min … median … max)      record    memory of the call");
    for (name, minutes) in [("10 min", 10), ("1 h", 60), ("10 h", 600)] {
        let text = conversation::journal(minutes * 60 / conversation::SECONDS_A_TURN);
        let read = journal::read(text.as_bytes()).expect("a journal");
        let (mut rates, mut records) = (vec![], vec![]);
        for _ in 0..RUNS {
            let began = Instant::now();
            let call = black_box(journal::replay_to_end(&read).0);
            rates.push(read.events.len() as f64 / began.elapsed().as_secs_f64());
            let began = Instant::now();
            black_box(call.record());
            records.push(began.elapsed().as_secs_f64() * 1000.0);
        }
        let before = MEMORY.current_usage();
        let call = journal::replay_to_end(&read).0;
        let kib = (MEMORY.current_usage() - before) as f64 / 1024.0;
        drop(call);
        rates.sort_by(f64::total_cmp);
        records.sort_by(f64::total_cmp);
        println!(
            "{name:<7} {:>8}    {:.2} M … {:.2} M … {:.2} M    {:>7.2} ms    {kib:>8.0} KiB",
            read.events.len(),
            rates[0] / 1e6,
            rates[RUNS / 2] / 1e6,
            rates[RUNS - 1] / 1e6,
            records[RUNS / 2],
        );
    }
}
