//! The command line.

use std::{path::PathBuf, str::FromStr, time::Duration};

use anyhow::{Context, Result, bail};

pub(crate) const HELP: &str = "\
What the worker costs: memory, CPU, files, start, time from a room's end to the POST.

Usage: load [OPTIONS]
       load soak [--minutes N] [--rate N] [OPTIONS]
       load scale [OPTIONS]

  --calls N        calls that are on while it is measured (100; for scale the most, 1000)
  --seconds N      seconds over which CPU is measured (30)
  --settle N       seconds of rest before each measurement (10)
  --deletions N    rooms deleted for each of the three series of endings (50)
  --burst N        calls opened at once at the end (200)
  --starts N       cold starts (10)
  --worker PATH    another worker than the one beside this program
  --env KEY=VALUE  for the worker; repeat for more
  --log PATH       appends the worker's log to this file
  --json           JSON instead of a table

A soak lets calls begin and end for a long time, while connections are cut, the endpoint fails and the worker is
restarted. It fails if a call is lost or reported twice, or if memory, files or threads grow.

  --minutes N      how long it lasts (60)
  --rate N         calls a minute, a multiple of 6 (60)

Scale lets more and more calls be on at once, on one worker: what each costs, how soon it is joined, and how soon its
record comes. It ends where this machine cannot hold more.

LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET name a server to use instead of the dev server.";

/// What the program is asked to do.
pub(crate) enum Mode {
    Help,
    /// Runs as a child process of `load`: callers and voice agents.
    People,
    Load(Args),
    Scale(Args),
    Soak {
        args: Args,
        minutes: u64,
        rate: usize,
    },
}

pub(crate) struct Args {
    pub(crate) calls: usize,
    pub(crate) seconds: Duration,
    pub(crate) settle: Duration,
    pub(crate) deletions: usize,
    pub(crate) burst: usize,
    pub(crate) starts: usize,
    pub(crate) worker: Option<PathBuf>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) log: Option<PathBuf>,
    pub(crate) json: bool,
}

/// # Errors
/// Names the wrong flag.
pub(crate) fn read(mut words: impl Iterator<Item = String>) -> Result<Mode> {
    let mut args = Args {
        calls: 0,
        seconds: Duration::from_secs(30),
        settle: Duration::from_secs(10),
        deletions: 50,
        burst: 200,
        starts: 10,
        worker: None,
        env: vec![],
        log: None,
        json: false,
    };
    let (mut soak, mut minutes, mut rate) = (false, 60, 60);
    let (mut scale, mut calls) = (false, None);
    while let Some(flag) = words.next() {
        let mut value = || words.next().with_context(|| format!("{flag} wants a value"));
        match flag.as_str() {
            "people" => return Ok(Mode::People),
            "-h" | "--help" => return Ok(Mode::Help),
            "soak" => soak = true,
            "scale" => scale = true,
            "--minutes" => minutes = number(&flag, &value()?, 2, 24 * 60)?,
            "--rate" => {
                rate = number(&flag, &value()?, 6, 300)?;
                if rate % 6 != 0 {
                    bail!("--rate wants a multiple of 6: a wave begins every ten seconds");
                }
            }
            "--json" => args.json = true,
            "--calls" => calls = Some(number(&flag, &value()?, 1, 1000)?),
            "--seconds" => args.seconds = Duration::from_secs(number(&flag, &value()?, 1, 600)?),
            "--settle" => args.settle = Duration::from_secs(number(&flag, &value()?, 0, 600)?),
            "--deletions" => args.deletions = number(&flag, &value()?, 0, 1000)?,
            "--burst" => args.burst = number(&flag, &value()?, 0, 1000)?,
            "--starts" => args.starts = number(&flag, &value()?, 0, 100)?,
            "--worker" => args.worker = Some(value()?.into()),
            "--log" => args.log = Some(value()?.into()),
            "--env" => {
                let pair = value()?;
                let (key, value) = pair.split_once('=').context("--env wants KEY=VALUE")?;
                args.env.push((key.to_owned(), value.to_owned()));
            }
            _ => bail!("unknown option {flag}; see load --help"),
        }
    }
    if !soak && (minutes, rate) != (60, 60) {
        bail!("--minutes and --rate belong to load soak");
    }
    args.calls = calls.unwrap_or(if scale { 1000 } else { 100 });
    Ok(match (soak, scale) {
        (true, false) => Mode::Soak { args, minutes, rate },
        (false, true) => Mode::Scale(args),
        (false, false) => Mode::Load(args),
        (true, true) => bail!("soak or scale?"),
    })
}

fn number<T: FromStr + PartialOrd + std::fmt::Display>(
    flag: &str,
    text: &str,
    least: T,
    most: T,
) -> Result<T> {
    match text.parse::<T>() {
        Ok(n) if n >= least && n <= most => Ok(n),
        _ => bail!("{flag} wants a number from {least} to {most}"),
    }
}
