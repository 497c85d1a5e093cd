//! What the agent itself reports of a call: its recording, what its answers waited for, tools, judges.

use serde_json::Value as Json;

use super::{
    super::text,
    beside::{Card, Fact},
    moments::instant,
};
use crate::collector::{
    serve::{self, Sound},
    session::{Job, Session},
    turns::{self, Kind, Turn},
};

/// Units of the picture of a wait.
const WIDTH: f64 = 320.0;
/// The longest wait that is drawn to scale; longer ones end there.
const LONGEST: f64 = 15.0;
/// Milliseconds by which clocks that agree may differ.
const ALIKE: i64 = 20;
/// Rows of a table.
const MOST: usize = 500;

/// A recording with its player.
pub(super) struct Player {
    pub(super) href: String,
    pub(super) content_type: String,
    /// Seconds, for the script: the position at which the call starts.
    pub(super) starts: String,
    pub(super) megabytes: String,
    /// Of the name of a file.
    pub(super) end: String,
    pub(super) clock: String,
    /// The clocks could not be compared.
    pub(super) unsure: bool,
}

/// A bar of a wait.
pub(super) struct Bar {
    pub(super) class: &'static str,
    pub(super) title: String,
    pub(super) x: String,
    pub(super) y: &'static str,
    pub(super) width: String,
}

/// An answer of the agent.
pub(super) struct Row {
    /// Seconds from the start of the call, for the script.
    pub(super) at: String,
    pub(super) time: String,
    pub(super) wait: String,
    pub(super) bars: Vec<Bar>,
    /// Where the answer is heard.
    pub(super) heard: String,
    /// The sum of each kind, in the order of [`KINDS`].
    pub(super) seconds: Vec<String>,
    pub(super) note: String,
}

pub(super) struct Tool {
    pub(super) at: String,
    pub(super) time: String,
    pub(super) name: String,
    pub(super) seconds: String,
    pub(super) arguments: String,
    pub(super) output: String,
    pub(super) failed: bool,
}

pub(super) struct Judge {
    pub(super) name: String,
    pub(super) verdict: String,
    pub(super) tone: &'static str,
    pub(super) reasoning: String,
}

pub(super) struct LogLine {
    pub(super) time: String,
    pub(super) tone: &'static str,
    pub(super) level: String,
    pub(super) text: String,
}

/// What a call's page shows of uploads. All of it is empty if there are none.
#[derive(Default)]
pub(super) struct Agent {
    pub(super) players: Vec<Player>,
    pub(super) rows: Vec<Row>,
    pub(super) tools: Vec<Tool>,
    pub(super) judges: Vec<Judge>,
    pub(super) lines: Vec<LogLine>,
    pub(super) cards: Vec<Card>,
}

const KINDS: [(Kind, &str, &str, &str); 5] = [
    (Kind::Transcript, "words", "Final transcript", "11"),
    (Kind::EndOfTurn, "turn", "End of turn decided", "2"),
    (Kind::Model, "llm", "Language model, first token", "5"),
    (Kind::Tool, "tool", "Tool", "5"),
    (Kind::Voice, "tts", "Voice, first sound", "5"),
];

/// Names of the columns.
pub(super) const COLUMNS: [(&str, &str); 5] = [
    ("words", "Transcript"),
    ("turn", "End of turn"),
    ("llm", "First token"),
    ("tool", "Tools"),
    ("tts", "First sound"),
];

impl Agent {
    pub(super) fn of(record: &Json, id: &str, session: &Session, numbers: bool) -> Self {
        let mut agent = Self {
            players: serve::sounds(record, id, session).iter().map(player).collect(),
            ..Self::default()
        };
        let start = instant(&record["start_time"]).unwrap_or_default();
        for job in &session.jobs {
            // Where the clocks cannot be compared, they count as the same.
            let clock = serve::clock_of(record, job).map_or(0, |clock| clock.millis);
            agent.add(job, start - clock, numbers);
        }
        agent
    }

    /// `start` is that of the call by the job's clock.
    fn add(&mut self, job: &Job, start: i64, numbers: bool) {
        let shown = |text: &str| text::number(text, numbers);
        let facts = &job.facts;
        let turns = turns::of(&facts.spans);
        let longest = turns.iter().filter_map(|turn| turn.wait).fold(1.0, f64::max).min(LONGEST);
        let rows = turns.iter().filter(|turn| turn.wait.is_some()).take(MOST);
        self.rows.extend(rows.map(|turn| row(turn, start, longest)));
        for span in facts.spans.iter().take(20_000) {
            let Some(tool) = span.tool.as_ref().filter(|_| self.tools.len() < MOST) else {
                continue;
            };
            let part = |text: &Option<String>| text.as_deref().map(shown).unwrap_or_default();
            let (at, time) = moment(span.from, start);
            self.tools.push(Tool {
                at,
                time,
                name: tool.name.clone(),
                seconds: text::seconds(length(span.from, span.to)),
                arguments: part(&tool.arguments),
                output: part(&tool.output),
                failed: tool.failed,
            });
        }
        self.judges.extend(facts.evaluations.iter().take(MOST).map(|evaluation| Judge {
            name: text::words(&evaluation.name),
            verdict: evaluation.verdict.clone(),
            tone: match evaluation.verdict.as_str() {
                "pass" => "ok",
                "fail" => "bad",
                _ => "warn",
            },
            reasoning: evaluation.reasoning.as_deref().map(shown).unwrap_or_default(),
        }));
        self.lines.extend(facts.lines.iter().take(MOST).map(|line| LogLine {
            time: moment(line.at, start).1,
            tone: if line.level == "error" { "bad" } else { "warn" },
            level: line.level.clone(),
            text: shown(&line.text),
        }));
        self.cards.extend(card(job, self.cards.len(), &shown));
    }

    pub(super) fn columns(&self) -> &'static [(&'static str, &'static str)] {
        &COLUMNS
    }
}

#[allow(clippy::cast_precision_loss)]
fn length(from: i64, to: i64) -> f64 {
    (to - from) as f64 / 1_000.0
}

/// Seconds for the script, and as they are shown.
fn moment(at: i64, start: i64) -> (String, String) {
    let seconds = length(start, at).max(0.0);
    (format!("{seconds:.2}"), text::moment(seconds))
}

fn player(sound: &Sound) -> Player {
    let clock = match sound.clock {
        Some(clock) if clock.millis.abs() < ALIKE => format!(
            "The agent's clock agrees with ours, by {} at which both saw the agent begin to speak.",
            text::counted(clock.of, "moment"),
        ),
        Some(clock) => format!(
            "The agent's clock was {} s {} ours, by {} at which both saw the agent begin to speak.",
            text::seconds(length(0, clock.millis).abs()),
            if clock.millis > 0 { "behind" } else { "ahead of" },
            text::counted(clock.of, "moment"),
        ),
        None => "The agent's clock could not be compared with ours: if they differ, so do timeline and sound.".into(),
    };
    #[allow(clippy::cast_precision_loss)]
    let megabytes = sound.recording.bytes as f64 / 1e6;
    Player {
        href: sound.href.clone(),
        content_type: sound.recording.content_type.clone(),
        starts: format!("{:.3}", sound.starts),
        end: sound.recording.file.rsplit('.').next().unwrap_or_default().into(),
        megabytes: format!("{megabytes:.1}"),
        clock,
        unsure: sound.clock.is_none(),
    }
}

fn row(turn: &Turn, start: i64, longest: f64) -> Row {
    let scale = WIDTH / longest;
    let x = |seconds: f64| (seconds.max(0.0) * scale).min(WIDTH);
    let bar = |part: &turns::Part| {
        let (_, class, title, y) = KINDS.iter().find(|(kind, ..)| *kind == part.kind)?;
        Some(Bar {
            class,
            title: format!("{title}: {} to {} s", text::seconds(part.from), text::seconds(part.to)),
            x: format!("{:.1}", x(part.from)),
            y,
            width: format!("{:.1}", (x(part.to) - x(part.from)).max(1.0)),
        })
    };
    let sum = |kind: Kind| {
        let parts: Vec<f64> =
            turn.parts.iter().filter(|p| p.kind == kind).map(|p| p.to - p.from).collect();
        if parts.is_empty() { text::NOTHING.into() } else { text::seconds(parts.iter().sum()) }
    };
    let wait = turn.wait.unwrap_or_default();
    let (at, time) = moment(turn.spoke_at, start);
    Row {
        at,
        time,
        wait: text::seconds(wait),
        bars: turn.parts.iter().filter_map(bar).collect(),
        heard: format!("{:.1}", (x(wait) - 1.0).max(0.0)),
        seconds: KINDS.iter().map(|(kind, ..)| sum(*kind)).collect(),
        note: match (turn.interrupted, turn.interrupted_by.as_deref()) {
            (false, _) => String::new(),
            (true, None) => "cut off".into(),
            (true, Some("user_turn")) => "the caller cut it off".into(),
            (true, Some("programmatic")) => "cut off by the program".into(),
            (true, Some(_)) => "cut off".into(),
        },
    }
}

/// The session's report.
fn card(job: &Job, n: usize, shown: &impl Fn(&str) -> String) -> Option<Card> {
    let facts = &job.facts;
    let mut all = vec![];
    let mut fact = |name: &str, value: String, tone| {
        all.push(Fact { name: name.into(), value, tone });
    };
    if let Some(outcome) = &facts.outcome {
        let (said, tone) = match outcome.outcome.as_deref() {
            Some("success") => ("success", "ok"),
            Some("fail") => ("fail", "bad"),
            Some(other) => (other, ""),
            None => ("not said which", "dim"),
        };
        fact("outcome", said.to_owned(), tone);
        if let Some(reason) = &outcome.reason {
            fact("reason", shown(reason), "");
        }
    }
    let report = facts.report.clone().unwrap_or_default();
    let session = facts.spans.iter().find_map(|span| span.close_reason.clone());
    if let Some(name) = report.agent_name {
        fact("agent", name, "");
    }
    if let Some(version) = report.sdk_version {
        fact("livekit-agents", version, "");
    }
    if let Some(reason) = report.close_reason.or(session) {
        let plain = reason.trim_start_matches("CR_").to_lowercase();
        fact("session closed", text::words(&plain), "");
    }
    // Judges are shown by themselves, and so is the outcome.
    let tags: Vec<&String> = report.tags.iter().filter(|tag| !tag.starts_with("lk.")).collect();
    for tag in tags.iter().take(50) {
        let metadata = facts.tags.iter().find(|t| t.name == ***tag).map(|tag| &tag.metadata);
        let metadata = metadata.filter(|metadata| !metadata.is_null());
        fact("tag", shown(&metadata.map_or((*tag).clone(), |m| format!("{tag} {m}"))), "");
    }
    for (component, n) in &report.errors {
        fact("errors", format!("{component}: {n}"), "bad");
    }
    for usage in report.usage.iter().take(50) {
        let of = |key: &str| usage[key].as_str().unwrap_or_default();
        let task = of("type").trim_end_matches("_usage").to_uppercase();
        fact(&task, format!("{} {}{}", of("provider"), of("model"), used(usage)).trim().into(), "");
    }
    if job.redacted {
        fact("redaction", "no words and no sound were kept".into(), "");
    }
    let ids: [&'static str; 3] = ["agent-report", "agent-report-2", "agent-report-3"];
    let id = ids.get(n)?;
    let note = "As the agent reported it.";
    (!all.is_empty()).then_some(Card { title: "The agent's report", id, facts: all, note })
}

fn used(usage: &Json) -> String {
    let parts = [
        ("input_tokens", "tokens in"),
        ("output_tokens", "out"),
        ("characters_count", "characters"),
        ("audio_duration", "s of sound"),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter_map(|(key, unit)| {
            let n = usage[*key].as_f64().filter(|n| *n > 0.0)?;
            #[allow(clippy::cast_possible_truncation)]
            Some(format!("{} {unit}", text::count(n.round() as i64)))
        })
        .collect();
    if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) }
}
