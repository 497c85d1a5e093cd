//! The picture of a call: both tracks to scale. Everything in it is a link to the same thing in words.

use super::{super::text, moments::Moments};
use crate::side::Side;

/// Units at both ends, so that the first and the last label are whole.
const MARGIN: f64 = 18.0;
/// The width of the box on a desktop.
const FULL: f64 = 1_092.0;
/// Units of a second at least, unless the reader wants to see the whole.
const READABLE: f64 = 6.0;
const WIDEST: f64 = 30_000.0;
const TOP: f64 = 40.0;
const TRACK: f64 = 36.0;
const USER_Y: f64 = 46.0;
const AGENT_Y: f64 = 112.0;
const OTHER_Y: f64 = 164.0;
/// Of a letter of a label, about.
const LETTER: f64 = 6.1;

pub(super) struct Tick {
    pub(super) x: String,
    pub(super) label: String,
}

/// A box with a title; `href` leads to the same in words.
pub(super) struct Bar {
    pub(super) id: String,
    pub(super) class: String,
    pub(super) x: String,
    pub(super) y: String,
    pub(super) width: String,
    pub(super) height: String,
    pub(super) title: String,
    pub(super) href: String,
}

pub(super) struct Label {
    pub(super) x: String,
    pub(super) y: String,
    pub(super) text: String,
    pub(super) class: &'static str,
}

/// A vertical line.
pub(super) struct Mark {
    pub(super) id: String,
    pub(super) class: &'static str,
    pub(super) x: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) title: String,
    pub(super) href: String,
}

/// A way to look closer or at the whole.
pub(super) struct Zoom {
    pub(super) label: &'static str,
    pub(super) value: &'static str,
    pub(super) chosen: bool,
}

pub(super) struct Picture {
    pub(super) width: String,
    pub(super) height: String,
    pub(super) bottom: String,
    pub(super) axis_y: String,
    pub(super) ticks: Vec<Tick>,
    /// Silences and what was not seen or heard, behind all else.
    pub(super) backs: Vec<Bar>,
    pub(super) bars: Vec<Bar>,
    pub(super) waits: Vec<Bar>,
    pub(super) marks: Vec<Mark>,
    pub(super) labels: Vec<Label>,
    pub(super) others: bool,
    /// Who spoke when is known; otherwise there are only stages.
    pub(super) tracks: bool,
    pub(super) zooms: Vec<Zoom>,
    /// The picture in a sentence.
    pub(super) summary: String,
    /// Kinds of backs that occur, for the caption.
    pub(super) keys: Vec<(&'static str, &'static str)>,
    /// For the script: seconds at the left margin and units of a second.
    pub(super) scale: String,
}

/// Labels, values in addresses, and units of a second: how much of the call the box shows.
const ZOOMS: [(&str, &str, f64); 4] = [
    ("whole call", "whole", 0.0),
    ("2 min", "120", FULL / 120.0),
    ("45 s", "45", FULL / 45.0),
    ("15 s", "15", FULL / 15.0),
];

/// Places labels from left to right and leaves out those that would touch the one before.
struct Row {
    free: f64,
}

impl Row {
    fn new() -> Self {
        Self { free: f64::MIN }
    }

    fn takes(&mut self, x: f64, text: &str, centred: bool) -> bool {
        let width = text.chars().count() as f64 * LETTER;
        let left = if centred { x - width / 2.0 } else { x };
        let fits = left >= self.free;
        if fits {
            self.free = left + width + 5.0;
        }
        fits
    }
}

fn n(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

fn span(from: f64, to: f64) -> String {
    format!("{} to {}, {} s", text::moment(from), text::moment(to), text::seconds(to - from))
}

impl Picture {
    /// `None`: there is nothing to draw.
    pub(super) fn of(moments: &Moments, zoom: Option<&str>) -> Option<Self> {
        let length = moments.length;
        if length <= 0.0 || !moments.known && moments.stages.is_empty() {
            return None;
        }
        let room = FULL - 2.0 * MARGIN;
        let fit = room / length;
        let chosen = ZOOMS.iter().find(|(_, value, _)| zoom == Some(value));
        let wanted = match chosen {
            Some((_, "whole", _)) => fit,
            Some((_, _, scale)) => *scale,
            None if moments.known => fit.max(READABLE),
            None => fit,
        };
        let scale = wanted.max(fit).min((WIDEST / length).max(fit));
        let x = |at: f64| MARGIN + at * scale;
        let others = moments.speech.iter().any(|speech| speech.by == Side::Other);
        let bottom = match (moments.known, others) {
            (false, _) => TOP + 24.0,
            (true, false) => AGENT_Y + TRACK + 8.0,
            (true, true) => OTHER_Y + TRACK + 8.0,
        };
        let mut picture = Self {
            width: n(length * scale + 2.0 * MARGIN),
            height: n(bottom + 24.0),
            bottom: n(bottom),
            axis_y: n(bottom + 17.0),
            ticks: ticks(length, scale)
                .map(|at| Tick { x: n(x(at)), label: text::duration(at) })
                .collect(),
            backs: vec![],
            bars: vec![],
            waits: vec![],
            marks: vec![],
            labels: vec![],
            others,
            tracks: moments.known,
            zooms: if moments.known { zooms(fit, zoom) } else { vec![] },
            summary: summary(moments),
            keys: vec![],
            scale: format!("{MARGIN} {scale}"),
        };
        picture.add_backs(moments, x, bottom);
        picture.add_speech(moments, x);
        picture.add_waits(moments, x);
        picture.add_stages(moments, x, bottom);
        picture.add_cuts(moments, x);
        picture.add_keyed(moments, x);
        Some(picture)
    }

    fn add_backs(&mut self, moments: &Moments, x: impl Fn(f64) -> f64, bottom: f64) {
        let kinds = [
            ("silence", "Nobody spoke", "silence", &moments.silences),
            ("unheard", "Nothing shows who spoke", "not heard", &moments.unheard),
            ("gap", "Not observed", "not observed", &moments.gaps),
            ("overlap", "Both spoke", "", &moments.overlaps),
        ];
        for (class, title, name, spans) in kinds {
            let mut row = Row::new();
            for (at, (from, to)) in spans.iter().enumerate() {
                let width = ((to - from) * (x(1.0) - x(0.0))).max(1.0);
                self.backs.push(Bar {
                    id: format!("{class}-{at}"),
                    class: class.into(),
                    x: n(x(*from)),
                    y: n(TOP),
                    width: n(width),
                    height: n(bottom - TOP),
                    title: format!("{title}: {}", span(*from, *to)),
                    href: format!("#in-words-{class}-{at}"),
                });
                let label = format!("{name} {} s", text::seconds(to - from));
                let middle = x((from + to) / 2.0);
                let fits = label.chars().count() as f64 * LETTER < width - 4.0;
                if !name.is_empty() && fits && row.takes(middle, &label, true) {
                    let y = n(USER_Y + TRACK + 19.0);
                    self.labels.push(Label { x: n(middle), y, text: label, class: "mid strong" });
                }
            }
            if !spans.is_empty() {
                self.keys.push((class, title));
            }
        }
    }

    fn add_speech(&mut self, moments: &Moments, x: impl Fn(f64) -> f64) {
        for (at, speech) in moments.speech.iter().enumerate() {
            let y = match speech.by {
                Side::User => USER_Y,
                Side::Agent => AGENT_Y,
                Side::Other => OTHER_Y,
            };
            let line = moments.line_of(at);
            let words = line.and_then(|line| moments.lines.as_ref()?.get(line));
            let words = words.map_or(String::new(), |line| format!(": {}", line.text));
            self.bars.push(Bar {
                id: format!("speech-{at}"),
                class: format!("bar {}", speech.by.class()),
                x: n(x(speech.from)),
                y: n(y),
                width: n((x(speech.to) - x(speech.from)).max(1.5)),
                height: n(TRACK),
                title: format!("{}, {}{words}", speech.by.name(), span(speech.from, speech.to)),
                href: format!("#in-words-speech-{at}"),
            });
        }
    }

    fn add_waits(&mut self, moments: &Moments, x: impl Fn(f64) -> f64) {
        let mut row = Row::new();
        for (at, wait) in moments.waits.iter().enumerate() {
            let Some((from, to)) = wait.span else { continue };
            let (class, y) = match wait.by {
                Side::Agent => ("wait a", AGENT_Y - 9.0),
                _ => ("wait u", USER_Y + TRACK + 5.0),
            };
            self.waits.push(Bar {
                id: format!("wait-{at}"),
                class: class.into(),
                x: n(x(from)),
                y: n(y),
                width: n((x(to) - x(from)).max(1.0)),
                height: "3".into(),
                title: format!(
                    "{} answers after {} s{}",
                    wait.by.name(),
                    text::seconds(wait.seconds),
                    if wait.reported { ", as the agent measured it" } else { "" }
                ),
                href: format!("#in-words-wait-{at}"),
            });
            let label = text::seconds(wait.seconds);
            let middle = x((from + to) / 2.0);
            if wait.by == Side::Agent && row.takes(middle, &label, true) {
                let y = n(AGENT_Y - 13.0);
                self.labels.push(Label { x: n(middle), y, text: label, class: "mid" });
            }
        }
    }

    fn add_stages(&mut self, moments: &Moments, x: impl Fn(f64) -> f64, bottom: f64) {
        let (mut first, mut second) = (Row::new(), Row::new());
        for (at, stage) in moments.stages.iter().enumerate() {
            let (label, left) = (text::words(&stage.name), x(stage.at));
            let right_end = left + 5.0 + label.chars().count() as f64 * LETTER;
            let over = right_end > x(moments.length) + MARGIN;
            let (start, class) = if over { (left - 5.0, "end") } else { (left + 5.0, "start") };
            let from = if over { start - label.chars().count() as f64 * LETTER } else { start };
            let y = if first.takes(from, &label, false) {
                Some(13.0)
            } else if second.takes(from, &label, false) {
                Some(29.0)
            } else {
                None
            };
            self.marks.push(Mark {
                id: format!("stage-{at}"),
                class: "stage",
                x: n(left),
                from: n(y.map_or(TOP, |y| y - 10.0)),
                to: n(bottom),
                title: format!("Stage {label}, from {}", text::moment(stage.at)),
                href: format!("#in-words-stage-{at}"),
            });
            if let Some(y) = y {
                self.labels.push(Label { x: n(start), y: n(y), text: label, class });
            }
        }
    }

    fn add_cuts(&mut self, moments: &Moments, x: impl Fn(f64) -> f64) {
        if !moments.cuts.is_empty() {
            self.keys.push(("cut", "Cut off"));
        }
        for (at, cut) in moments.cuts.iter().enumerate() {
            let (y, title) = match cut.by {
                Side::Agent => (USER_Y, "The agent began while the caller spoke"),
                _ => (AGENT_Y, "The caller cut the agent off"),
            };
            self.marks.push(Mark {
                id: format!("cut-{at}"),
                class: "cut",
                x: n(x(cut.at)),
                from: n(y - 5.0),
                to: n(y + TRACK + 5.0),
                title: format!("{title}, {}", text::moment(cut.at)),
                href: format!("#in-words-cut-{at}"),
            });
        }
    }

    fn add_keyed(&mut self, moments: &Moments, x: impl Fn(f64) -> f64) {
        let mut row = Row::new();
        for (at, keyed) in moments.keyed.iter().enumerate() {
            self.marks.push(Mark {
                id: format!("keyed-{at}"),
                class: "keyed",
                x: n(x(keyed.at)),
                from: n(USER_Y),
                to: n(USER_Y + TRACK),
                title: format!("The caller {}, {}", keyed.kind, text::moment(keyed.at)),
                href: format!("#in-words-keyed-{at}"),
            });
            if row.takes(x(keyed.at) + 4.0, &keyed.kind, false) {
                self.labels.push(Label {
                    x: n(x(keyed.at) + 4.0),
                    y: n(USER_Y + 22.0),
                    text: keyed.kind.clone(),
                    class: "start",
                });
            }
        }
    }
}

fn zooms(fit: f64, zoom: Option<&str>) -> Vec<Zoom> {
    let wider = |(_, value, scale): &&(&str, &str, f64)| *value == "whole" || *scale > fit * 1.2;
    let all: Vec<Zoom> = ZOOMS
        .iter()
        .filter(wider)
        .map(|(label, value, _)| Zoom { label, value, chosen: zoom == Some(value) })
        .collect();
    if all.len() > 1 { all } else { vec![] }
}

/// Where the axis has a label: at round times, not too close.
fn ticks(length: f64, scale: f64) -> impl Iterator<Item = f64> {
    const STEPS: [f64; 11] = [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0];
    let step = STEPS.into_iter().find(|step| step * scale >= 64.0).unwrap_or(3_600.0);
    (0..2_000).map(move |at| f64::from(at) * step).take_while(move |at| *at <= length)
}

fn summary(moments: &Moments) -> String {
    if !moments.known {
        return "The record does not say who spoke when.".into();
    }
    let side = |side: Side, name: &str| {
        let spans = || moments.speech.iter().filter(move |speech| speech.by == side);
        let seconds: f64 = spans().map(|speech| speech.to - speech.from).sum();
        format!(
            "{name} spoke {} for {}",
            text::counted(spans().count(), "time"),
            text::duration(seconds)
        )
    };
    format!(
        "{} long. {}, {}. {}, {}, {}.",
        text::duration(moments.length),
        side(Side::User, "The caller"),
        side(Side::Agent, "the agent"),
        text::counted(moments.overlaps.len(), "overlap"),
        text::counted(moments.cuts.len(), "cut-off"),
        text::counted(moments.silences.len(), "silence"),
    )
}
