//! A call in words: what was said and what happened, in the order of time. Each item leads to its place in the picture.

use super::{super::text, moments::Moments};
use crate::side::Side;

pub(super) struct Item {
    /// `line`, `wait` or `event`.
    pub(super) kind: &'static str,
    pub(super) id: String,
    /// The place in the picture.
    pub(super) href: Option<String>,
    pub(super) time: Option<String>,
    /// Seconds, for the script.
    pub(super) at: String,
    pub(super) who: &'static str,
    pub(super) class: &'static str,
    pub(super) text: String,
    /// Beside the name: cut off, typed.
    pub(super) note: &'static str,
}

/// Items of the same moment: this one first.
type Order = (f64, u8);

pub(super) fn of(moments: &Moments) -> Vec<Item> {
    let mut items: Vec<(Order, Item)> = vec![];
    add_lines(moments, &mut items);
    add_speech_without_words(moments, &mut items);
    add_events(moments, &mut items);
    for (at, wait) in moments.waits.iter().enumerate() {
        let Some((from, _)) = wait.span else { continue };
        items.push((
            (from, 4),
            Item {
                kind: "wait",
                id: format!("in-words-wait-{at}"),
                href: Some(format!("#wait-{at}")),
                time: None,
                at: format!("{from:.2}"),
                who: "",
                class: wait.by.class(),
                text: format!("{} s", text::seconds(wait.seconds)),
                note: if wait.reported { "as the agent measured it" } else { "" },
            },
        ));
    }
    items.sort_by(|(a, _), (b, _)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    items.into_iter().map(|(_, item)| item).collect()
}

fn add_lines(moments: &Moments, items: &mut Vec<(Order, Item)>) {
    // A line without a time stays after the one before it.
    let mut last = 0.0;
    for (at, line) in moments.lines.iter().flatten().enumerate() {
        last = line.from.unwrap_or(last);
        let id = match line.speech {
            // The first line of a span is where its bar leads.
            Some(speech) if moments.line_of(speech) == Some(at) => {
                format!("in-words-speech-{speech}")
            }
            _ => format!("line-{at}"),
        };
        items.push((
            (last, 3),
            Item {
                kind: "line",
                id,
                href: line.speech.map(|speech| format!("#speech-{speech}")),
                time: line.from.map(text::moment),
                at: format!("{last:.2}"),
                who: line.by.name(),
                class: line.by.class(),
                text: line.text.clone(),
                note: match (line.interrupted, line.kind.as_str()) {
                    (true, _) => "cut off",
                    (_, "typed") => "typed",
                    (_, "dialled") => "dialled",
                    _ => "",
                },
            },
        ));
    }
}

fn add_speech_without_words(moments: &Moments, items: &mut Vec<(Order, Item)>) {
    for (at, speech) in moments.speech.iter().enumerate() {
        if moments.line_of(at).is_some() {
            continue;
        }
        items.push((
            (speech.from, 3),
            Item {
                kind: "line",
                id: format!("in-words-speech-{at}"),
                href: Some(format!("#speech-{at}")),
                time: Some(text::moment(speech.from)),
                at: format!("{:.2}", speech.from),
                who: speech.by.name(),
                class: speech.by.class(),
                text: String::new(),
                note: "",
            },
        ));
        if let Some((_, item)) = items.last_mut() {
            item.text = format!("spoke for {} s", text::seconds(speech.to - speech.from));
            item.kind = "line wordless";
        }
    }
}

fn add_events(moments: &Moments, items: &mut Vec<(Order, Item)>) {
    let mut event = |kind: &str, at: usize, from: f64, order, class, text: String| {
        items.push((
            (from, order),
            Item {
                kind: "event",
                id: format!("in-words-{kind}-{at}"),
                href: Some(format!("#{kind}-{at}")),
                time: Some(text::moment(from)),
                at: format!("{from:.2}"),
                who: "",
                class,
                text,
                note: "",
            },
        ));
    };
    for (at, stage) in moments.stages.iter().enumerate() {
        event("stage", at, stage.at, 0, "stage", format!("Stage: {}", text::words(&stage.name)));
    }
    let spans = [
        ("gap", "The observer did not see the room", &moments.gaps),
        ("unheard", "Nothing shows who spoke", &moments.unheard),
        ("silence", "Silence", &moments.silences),
        ("overlap", "Both spoke", &moments.overlaps),
    ];
    for (kind, name, all) in spans {
        for (at, (from, to)) in all.iter().enumerate() {
            let text = format!("{name}, {} s", text::seconds(to - from));
            event(kind, at, *from, 2, kind, text);
        }
    }
    for (at, cut) in moments.cuts.iter().enumerate() {
        let text = match cut.by {
            Side::Agent => "The agent began while the caller spoke",
            _ => "The caller cut the agent off",
        };
        event("cut", at, cut.at, 5, "cut", text.into());
    }
    for (at, keyed) in moments.keyed.iter().enumerate() {
        event("keyed", at, keyed.at, 1, "keyed", format!("The caller {}", keyed.kind));
    }
}
