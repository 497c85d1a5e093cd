//! How many records a second are sealed so that a power cut cannot lose them, and how long one takes.
//! `cargo bench --bench outbox`; figures compare within one run only, on one disk.

// A bench prints for a person, and may panic.
#![allow(clippy::print_stdout, clippy::expect_used)]

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use store::{DiskHealth, Health, Outbox, RealDisk};

const RECORDS: usize = 4_000;

fn main() {
    let body = vec![b'x'; 1_500];
    println!("at once    seals/s    median    p99");
    for at_once in [1, 4, 16] {
        let dir = tempfile::tempdir().expect("a folder");
        let health = DiskHealth::new(dir.path(), Health::default());
        let outbox = Outbox::open(Arc::new(RealDisk), health, dir.path()).expect("an outbox");
        let began = Instant::now();
        let threads: Vec<_> = (0..at_once)
            .map(|t| {
                let (outbox, body) = (outbox.clone(), body.clone());
                thread::spawn(move || {
                    (0..RECORDS / at_once)
                        .map(|n| {
                            let began = Instant::now();
                            outbox.seal(&format!("{t}-{n}"), &body).expect("sealed");
                            began.elapsed()
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let mut took: Vec<Duration> =
            threads.into_iter().flat_map(|t| t.join().expect("a thread")).collect();
        let rate = took.len() as f64 / began.elapsed().as_secs_f64();
        took.sort();
        let ms = |d: Duration| d.as_secs_f64() * 1000.0;
        println!(
            "{at_once:>7}    {rate:>7.0}    {:>4.2} ms    {:.2} ms",
            ms(took[took.len() / 2]),
            ms(took[took.len() * 99 / 100]),
        );
    }
}
