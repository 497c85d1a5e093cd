//! The demo's output: coloured on a terminal, plain elsewhere.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::IsTerminal;

use serde_json::Value;
use tokio::time::Instant;

use crate::script::{Said, Who};

pub(crate) struct Show {
    began: Instant,
    colour: bool,
}

impl Show {
    pub(crate) fn start() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Self { began: Instant::now(), colour: std::io::stdout().is_terminal() && !unwanted }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn time(&self) -> String {
        let text = format!("{:6.1} s", self.began.elapsed().as_secs_f64());
        self.paint("2", &text)
    }

    pub(crate) fn fact(&mut self, text: &str) {
        println!("{}  {text}", self.time());
    }

    pub(crate) fn said(&mut self, who: Who, text: &str) {
        let name = match who {
            Who::Caller => self.paint("36", "caller"),
            Who::Agent => self.paint("33", "agent "),
        };
        println!("{}    {name}  {text}", self.time());
    }

    pub(crate) fn record(&self, record: &Value, said: &[Said]) {
        let count = |who| said.iter().filter(|s| s.who == who).count();
        let took = said.iter().map(|s| (s.to - s.from).as_secs_f64()).sum::<f64>();
        // The details are for the page: they have hundreds of lines.
        let mut record = record.clone();
        if let Some(all) = record.as_object_mut() {
            all.remove("details");
        }
        let title = "The record, as posted (its details are on its page):";
        println!("\n{}", self.paint("1", title));
        println!("{}", serde_json::to_string_pretty(&record).unwrap_or_default());
        println!("\n{}", self.paint("1", "What was said:"));
        println!(
            "{} utterances of the agent, {} of the caller, {took:.1} s of speech",
            count(Who::Agent),
            count(Who::Caller)
        );
    }

    /// The pages can be looked at already, while the call goes on.
    pub(crate) fn open(&self, url: &str, samples: u32) {
        let title = format!("open {url}");
        println!(
            "{}  {}: {samples} sample calls, and soon a call that is on",
            self.time(),
            self.paint("1", &title)
        );
    }

    pub(crate) fn stays(&self, page: &str) {
        println!("\nThe page of this call: {}", self.paint("1", page));
        println!("The pages stay open until Ctrl-C.");
    }

    pub(crate) fn done(&self, page: &str, stayed: bool) {
        if stayed {
            println!("\nNothing is left running.");
            return;
        }
        println!("\n{} The record is right, and nothing is left running.", self.paint("32", "ok"));
        println!("Its page was {page}; make demo-page keeps it open, with a week of sample calls.");
        println!("\nNext, a call on your own server:");
        println!(
            "  cp .env.example .env                # URL, key and secret of the server; the endpoint is the receiver"
        );
        println!("  target/debug/call-history receive & # http://127.0.0.1:8082");
        println!("  target/debug/call-history &         # wait for \"registered worker\"");
        println!("  make call");
    }
}

pub(crate) fn failed(e: &anyhow::Error) {
    eprintln!("\nThe demo failed: {e:#}");
}
