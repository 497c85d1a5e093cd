//! What must never stand in a worker's log: the tests' phone numbers, spoken words and secrets. Every worker of every
//! test is watched for them.

use parking_lot::Mutex;

/// Shorter texts may stand in a log by chance.
const LEAST: usize = 8;

static SECRETS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// From now on no worker may log this text.
pub fn keep(text: &str) {
    let text = text.trim_start_matches('+');
    let mut all = SECRETS.lock();
    if text.len() >= LEAST && !all.iter().any(|known| known == text) {
        all.push(text.to_owned());
    }
}

/// The same for what is said. One or two words may stand in a line of the log by chance.
pub fn keep_words(text: &str) {
    if text.split_whitespace().count() >= 3 {
        keep(text);
    }
}

/// A secret that stands in this line.
pub fn in_line(line: &str) -> Option<String> {
    SECRETS.lock().iter().find(|secret| line.contains(secret.as_str())).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found_in_a_line() {
        keep("+15550009876");
        keep_words("one large pizza please");
        keep_words("hello there");
        for (line, found) in [
            (r#"{"message":"joined","identity":"sip_15550009876"}"#, true),
            (r#"{"error":"unexpected: one large pizza please"}"#, true),
            (r#"{"error":"hello there"}"#, false),
            (r#"{"identity":"sip_1555000…"}"#, false),
        ] {
            assert_eq!(in_line(line).is_some(), found, "{line}");
        }
    }
}
