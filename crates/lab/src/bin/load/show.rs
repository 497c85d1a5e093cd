//! The output: a table, or JSON.
#![allow(clippy::print_stdout, clippy::print_stderr)] // printing is the purpose of this program

use anyhow::Result;
use serde::Serialize;

use crate::{
    report::{Burst, Endings, Idle, Load, Report, Spread},
    scale::Scaled,
    soak::Soaked,
};

pub(crate) fn text(text: &str) {
    println!("{text}");
}

pub(crate) fn failed(e: &anyhow::Error) {
    eprintln!("load failed: {e:#}");
}

pub(crate) fn json(report: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(report)?);
    Ok(())
}

/// Some twenty of the samples, and what came out.
pub(crate) fn soak(soaked: &Soaked) -> Result<()> {
    println!("server                   {}", soaked.server);
    println!("\n  minutes   calls       RSS   files  threads   data folder");
    let last = soaked.samples.len().saturating_sub(1);
    for (n, s) in soaked.samples.iter().enumerate() {
        if n % (last / 20 + 1) == 0 || n == last {
            println!(
                "{:>9.1} {:>7} {:>6.1} MB {:>7} {:>8}   {} files, {:.0} kB",
                s.seconds as f64 / 60.0,
                s.calls_so_far,
                s.rss_mb,
                s.fds,
                s.threads,
                s.folder_files,
                s.folder_kb,
            );
        }
    }
    let (early, late) = soaked.memory();
    println!("\nmemory, medians of the third and the last quarter   {early:.1} MB, {late:.1} MB");
    println!(
        "{} calls: {} lost, {} reported twice; {} attempts failed, {} connections cut, {} restarts of the worker",
        soaked.calls,
        soaked.lost.len(),
        soaked.twice.len(),
        soaked.attempts_that_failed,
        soaked.cuts,
        soaked.restarts,
    );
    Ok(())
}

/// A row for each number of calls, as a table of Markdown.
pub(crate) fn scaled(scaled: &Scaled) -> Result<()> {
    println!("server {}; {:.1} MB without calls\n", scaled.server, scaled.idle.rss_mb);
    println!(
        "| calls | RSS, quiet | for each call: quiet | talking | CPU, talking | joins: median, most | room's end to POST: median, most | writes to disk, most | machine, talking |"
    );
    println!("|{}", " ---: |".repeat(9));
    for s in &scaled.steps {
        let of_talk = |shown: fn(&Load) -> String| s.talking.as_ref().map_or("–".into(), shown);
        println!(
            "| {} | {:.0} MB | {:.0} kB | {} | {} | {:.0}, {:.0} ms | {:.0}, {:.0} ms | {}, {} | {} |",
            s.calls,
            s.quiet.rss_mb,
            s.quiet.rss_kb_per_call,
            of_talk(|t| format!("{:.0} kB", t.rss_kb_per_call)),
            of_talk(|t| format!("{:.2} %", t.cpu_percent_per_call)),
            s.joins.median,
            s.joins.max,
            s.ends.posted_ms.median,
            s.ends.posted_ms.max,
            s.disk.writes,
            s.disk.most(),
            of_talk(|t| format!("{:.0} %", t.machine_percent)),
        );
    }
    if let Some(why) = &scaled.ended_at {
        println!("\n{why}");
    }
    println!(
        "\n{} calls, {} records within {:.1} s of their end",
        scaled.opened, scaled.reported, scaled.reported_s
    );
    Ok(())
}

pub(crate) fn table(r: &Report) -> Result<()> {
    println!("server                   {}", r.server);
    println!("binary                   {:.1} MB", r.binary_mb);
    println!("start to registered      {}", spread(&r.cold_start_ms));
    println!("\nworker without calls          RSS       PSS      peak      CPU   files  threads");
    idle("  fresh", &r.idle);
    idle("  after the calls", &r.after_calls);
    idle("  after the bursts", &r.after_bursts);
    println!("\nworker with {} calls, per call: over fresh", r.quiet.calls);
    println!(
        "                              RSS       PSS   RSS/call   PSS/call   CPU/call   files   threads"
    );
    load("  quiet", &r.quiet);
    load(&format!("  {:.1} chunks/s", r.talking.chunks_per_call_and_second), &r.talking);
    println!("\nfrom the deletion of a room to    its answer / the call's end / the POST");
    endings("  alone", &r.deleted_alone);
    endings("  among quiet calls", &r.deleted_among_quiet);
    endings("  among talking calls", &r.deleted_among_talking);
    burst("calls opened at once", &r.opened_at_once);
    burst("calls dispatched at once", &r.dispatched_at_once);
    println!(
        "\nof all {} calls {} were reported, {} more than once",
        r.calls_opened, r.calls_reported, r.posted_twice
    );
    Ok(())
}

fn idle(name: &str, i: &Idle) {
    println!(
        "{name:<23}{:>7.1} MB{:>7.1} MB{:>7.1} MB{:>7.2} %{:>8}{:>9}",
        i.rss_mb, i.pss_mb, i.peak_mb, i.cpu_percent, i.fds, i.threads
    );
}

fn load(name: &str, l: &Load) {
    let server = l.server_cpu_percent.map(|c| format!("   (server {c:.0} %)")).unwrap_or_default();
    println!(
        "{name:<23}{:>7.1} MB{:>7.1} MB{:>8.0} kB{:>8.0} kB{:>9.4} %{:>8.2}{:>10.3}{server}",
        l.rss_mb,
        l.pss_mb,
        l.rss_kb_per_call,
        l.pss_kb_per_call,
        l.cpu_percent_per_call,
        l.fds_per_call,
        l.threads_per_call
    );
}

fn endings(name: &str, e: &Endings) {
    println!("{name:<23}  {}", spread(&e.answered_ms));
    println!("{:<23}  {}", "", spread(&e.ended_ms));
    println!("{:<23}  {}", "", spread(&e.posted_ms));
}

fn burst(what: &str, b: &Burst) {
    println!("\n{} {what}, {} more could not be opened", b.calls, b.not_opened);
    if let Some(opened) = b.opened_s {
        println!("  people in              {opened:.2} s");
    }
    println!("  worker in all rooms    {:.2} s", b.joined_s);
    println!("  its joins              {}", spread(&b.join_ms));
    println!("  peak memory            {:.1} MB", b.peak_mb);
    println!("  all deleted at once    {} records in {:.2} s", b.reported, b.posted_s);
    for room in &b.not_started {
        println!("  not seen               {room}");
    }
}

fn spread(s: &Spread) -> String {
    format!(
        "min {:.1}, median {:.1}, p95 {:.1}, max {:.1} ms  (n = {})",
        s.min, s.median, s.p95, s.max, s.n
    )
}
