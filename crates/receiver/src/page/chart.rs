//! Charts as numbers for SVG: columns, a band of two lines, bars, a map of hours.

/// Units of a chart over time.
pub(super) const WIDTH: f64 = 548.0;
pub(super) const HEIGHT: f64 = 190.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 24.0;

pub(super) struct Tick {
    pub(super) at: String,
    pub(super) label: String,
}

pub(super) struct Segment {
    pub(super) class: &'static str,
    pub(super) y: String,
    pub(super) height: String,
    pub(super) href: String,
    pub(super) title: String,
}

pub(super) struct Column {
    pub(super) x: String,
    pub(super) width: String,
    pub(super) segments: Vec<Segment>,
}

/// A point that can be opened: a strip as high as the chart.
pub(super) struct Point {
    pub(super) x: String,
    pub(super) width: String,
    pub(super) href: String,
    pub(super) title: String,
    /// Dots of the lines.
    pub(super) dots: Vec<(String, String, &'static str)>,
}

pub(super) struct Columns {
    pub(super) columns: Vec<Column>,
    pub(super) up: Vec<Tick>,
    pub(super) along: Vec<Tick>,
}

pub(super) struct Lines {
    /// Class and path of each line.
    pub(super) lines: Vec<(&'static str, String)>,
    pub(super) band: String,
    pub(super) points: Vec<Point>,
    pub(super) up: Vec<Tick>,
    pub(super) along: Vec<Tick>,
}

/// A day, a week or a month of a chart.
pub(super) struct Slot {
    pub(super) label: String,
    pub(super) href: String,
    pub(super) title: String,
}

fn n(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

fn y(value: f64, top: f64) -> f64 {
    HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)
}

fn step(slots: usize) -> f64 {
    (WIDTH - LEFT - RIGHT) / slots.max(1) as f64
}

/// The upper end of an axis and where it has lines: 1, 2 or 5 with zeros.
fn up(most: f64, whole: bool) -> (f64, Vec<Tick>) {
    let least: f64 = if whole { 1.0 } else { 0.05 };
    let raw = (most / 4.0).max(least);
    let power = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|f| f * power).find(|s| *s >= raw - 1e-9);
    let step = step.unwrap_or(raw);
    let lines = (most / step).ceil().max(1.0);
    let top = lines * step;
    let decimals = if step >= 1.0 {
        0
    } else if step >= 0.1 {
        1
    } else {
        2
    };
    let tick = |k: u32| {
        let value = f64::from(k) * step;
        Tick { at: n(y(value, top)), label: format!("{value:.decimals$}") }
    };
    let ticks = (0..=20).take_while(|k| f64::from(*k) <= lines).map(tick).collect();
    (top, ticks)
}

fn along(slots: &[Slot]) -> Vec<Tick> {
    let step = step(slots.len());
    let each = (64.0 / step).ceil().max(1.0) as usize;
    let tick = |(at, slot): (usize, &Slot)| Tick {
        at: n(LEFT + (at as f64 + 0.5) * step),
        label: slot.label.clone(),
    };
    slots.iter().enumerate().step_by(each).map(tick).collect()
}

/// Stacked columns: of each slot classes, values, links and titles, from below. `most`: the highest column that the axis
/// has place for.
pub(super) fn columns(
    slots: &[Slot],
    values: Vec<Vec<(&'static str, f64, String, String)>>,
    most: f64,
) -> Columns {
    let (top, up) = up(most, true);
    let step = step(slots.len());
    let width = (step * 0.72).min(46.0);
    let column = |(at, parts): (usize, Vec<(&'static str, f64, String, String)>)| {
        let mut below = 0.0;
        let mut segments = vec![];
        for (class, value, href, title) in parts {
            if value > 0.0 {
                let (from, to) = (y(below, top), y(below + value, top));
                let height = n((from - to).max(1.0));
                segments.push(Segment { class, y: n(to), height, href, title });
                below += value;
            }
        }
        let x = LEFT + (at as f64 + 0.5) * step - width / 2.0;
        Column { x: n(x), width: n(width), segments }
    };
    let columns = values.into_iter().enumerate().map(column).collect();
    Columns { columns, up, along: along(slots) }
}

/// Lines over the same slots, the first one the lowest of a band. `None` leaves a hole. `most`: the highest value that the
/// axis has place for.
pub(super) fn lines(slots: &[Slot], all: &[(&'static str, Vec<Option<f64>>)], most: f64) -> Lines {
    let (top, up) = up(most, false);
    let step = step(slots.len());
    let x = |at: usize| LEFT + (at as f64 + 0.5) * step;
    let line = |(class, values): &(&'static str, Vec<Option<f64>>)| {
        let mut path = String::new();
        let mut open = false;
        for (at, value) in values.iter().enumerate() {
            if let Some(value) = value {
                path +=
                    &format!("{}{} {}", if open { "L" } else { "M" }, n(x(at)), n(y(*value, top)));
            }
            open = value.is_some();
        }
        (*class, path)
    };
    let point = |(at, slot): (usize, &Slot)| {
        let dots: Vec<_> = all
            .iter()
            .filter_map(|(class, values)| Some((n(x(at)), n(y((*values.get(at)?)?, top)), *class)))
            .collect();
        let (x, width) = (n(x(at) - step / 2.0), n(step));
        (!dots.is_empty()).then(|| Point {
            x,
            width,
            href: slot.href.clone(),
            title: slot.title.clone(),
            dots,
        })
    };
    Lines {
        lines: all.iter().map(line).collect(),
        band: band(all, x, top),
        points: slots.iter().enumerate().filter_map(point).collect(),
        up,
        along: along(slots),
    }
}

/// Between the first two lines, for each run without a hole.
fn band(all: &[(&'static str, Vec<Option<f64>>)], x: impl Fn(usize) -> f64, top: f64) -> String {
    let [("p50", low), ("p95", high)] = all else { return String::new() };
    let mut path = String::new();
    let mut run: Vec<(usize, f64, f64)> = vec![];
    let close = |run: &mut Vec<(usize, f64, f64)>, path: &mut String| {
        if run.len() > 1 {
            let upper =
                run.iter().map(|(at, _, high)| format!("{} {}", n(x(*at)), n(y(*high, top))));
            let lower =
                run.iter().rev().map(|(at, low, _)| format!("{} {}", n(x(*at)), n(y(*low, top))));
            *path += &format!("M{}Z", upper.chain(lower).collect::<Vec<_>>().join("L"));
        }
        run.clear();
    };
    for (at, pair) in low.iter().zip(high).enumerate() {
        match pair {
            (Some(low), Some(high)) => run.push((at, *low, *high)),
            _ => close(&mut run, &mut path),
        }
    }
    close(&mut run, &mut path);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        let labels = |most, whole| -> Vec<String> {
            up(most, whole).1.into_iter().map(|tick| tick.label).collect()
        };
        assert_eq!(labels(37.0, true), ["0", "10", "20", "30", "40"]);
        assert_eq!(labels(2.3, false), ["0", "1", "2", "3"]);
        assert_eq!(labels(1.0, true), ["0", "1"]);
        assert_eq!(labels(0.0, false).first().map(String::as_str), Some("0.00"));
    }
}
