//! How numbers, durations and phone numbers are written. Times are in [`super::zone`].

/// What stands where nothing is known.
pub(super) const NOTHING: &str = "–";

/// Of a call: `0:42`, `1:02:03`. Rounded to seconds.
pub(super) fn duration(seconds: f64) -> String {
    #[allow(clippy::cast_possible_truncation)]
    let all = seconds.clamp(0.0, 1e9).round() as i64;
    let (hours, minutes, seconds) = (all / 3_600, all / 60 % 60, all % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

/// A moment of a call: `0:15.8`.
pub(super) fn moment(seconds: f64) -> String {
    #[allow(clippy::cast_possible_truncation)]
    let tenths = (seconds.clamp(0.0, 1e9) * 10.0).round() as i64;
    format!("{}.{}", duration((tenths / 10) as f64), tenths % 10)
}

/// Seconds as figures show them: `1.18`.
pub(super) fn seconds(value: f64) -> String {
    format!("{value:.2}")
}

/// `1,284`
pub(super) fn count(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut all = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            all.push(',');
        }
        all.push(digit);
    }
    if n < 0 { format!("-{all}") } else { all }
}

/// `95 %`; small parts keep a digit, so that they do not look like none.
pub(super) fn percent(part: f64) -> String {
    // The sum of no numbers is -0.
    let percent = part * 100.0 + 0.0;
    if percent > 0.0 && percent < 1.0 || percent > 99.0 && percent < 100.0 {
        format!("{percent:.1} %")
    } else {
        format!("{percent:.0} %")
    }
}

/// `1 call`, `2 calls`
pub(super) fn counted(n: usize, one: &str) -> String {
    let n = i64::try_from(n).unwrap_or(i64::MAX);
    format!("{} {one}{}", count(n), if n == 1 { "" } else { "s" })
}

/// How long ago: `12 s`, `3 min`, `5 h`, `2 days`.
pub(super) fn ago(millis: i64) -> String {
    let seconds = millis.max(0) / 1_000;
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7_200 => format!("{} min ago", seconds / 60),
        7_200..172_800 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// Words of a vocabulary: `no_answer` as `no answer`.
pub(super) fn words(text: &str) -> String {
    text.replace('_', " ")
}

/// A phone number as this reader may see it: all of it, or its first and last two digits.
pub(super) fn number(text: &str, whole: bool) -> String {
    if whole { text.to_owned() } else { masked(&without_gaps(text)) }
}

/// A phone number that is written in groups, `+1 (555) 010-0123`, in one piece; any other text as it is.
fn without_gaps(text: &str) -> String {
    let is_gap = |c: char| matches!(c, ' ' | '\u{a0}' | '(' | ')' | '-' | '.' | '/');
    let is_number = text.chars().all(|c| c.is_ascii_digit() || c == '+' || is_gap(c));
    if is_number { text.chars().filter(|c| !is_gap(*c)).collect() } else { text.to_owned() }
}

/// Masks whatever looks like a phone number in a text: seven digits or more in a row.
pub(super) fn masked(text: &str) -> String {
    let mut all = String::with_capacity(text.len());
    let mut digits = String::new();
    let flush = |digits: &mut String, all: &mut String| {
        if digits.len() < 7 {
            all.push_str(digits);
        } else {
            let last = digits.len() - 2;
            let hidden = |(at, digit)| if at < 2 || at >= last { digit } else { '•' };
            all.extend(digits.chars().enumerate().map(hidden));
        }
        digits.clear();
    };
    for c in text.chars() {
        if c.is_ascii_digit() {
            digits.push(c);
        } else {
            flush(&mut digits, &mut all);
            all.push(c);
        }
    }
    flush(&mut digits, &mut all);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_number_keeps_its_first_and_last_two_digits() {
        assert_eq!(masked("+15551234567"), "+15•••••••67");
        assert_eq!(masked("call-_+15550100101_x7"), "call-_+15•••••••01_x7");
        assert_eq!(masked("web-3"), "web-3");
        assert_eq!(masked("unknown"), "unknown");
        assert_eq!(number("+1 (555) 010-0123", false), "+15•••••••23");
        assert_eq!(number("desk 7, room 12", false), "desk 7, room 12");
        assert_eq!(number("+15551234567", true), "+15551234567");
    }

    #[test]
    fn numbers_are_short_and_exact() {
        assert_eq!((duration(42.4), duration(3_723.0)), ("0:42".into(), "1:02:03".into()));
        assert_eq!((moment(15.84), moment(59.97)), ("0:15.8".into(), "1:00.0".into()));
        assert_eq!(
            (count(1_284), count(999), count(-1_000_000)),
            ("1,284".into(), "999".into(), "-1,000,000".into())
        );
        assert_eq!(
            (percent(0.954), percent(0.003), percent(0.999), percent(-0.0)),
            ("95 %".into(), "0.3 %".into(), "99.9 %".into(), "0 %".into())
        );
    }
}
