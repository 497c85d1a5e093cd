//! Queries as links: the same names and values as in the API.

use std::fmt::Write;

/// Names and values in their order.
pub(super) type Pairs = Vec<(String, String)>;

/// Percent-encoded, with `&` between.
pub(super) fn query_string(pairs: &[(String, String)]) -> String {
    let one = |(name, value): &(String, String)| format!("{}={}", encoded(name), encoded(value));
    pairs.iter().map(one).collect::<Vec<_>>().join("&")
}

/// The same address without empty fields, which a form sends too; `None` if there are none.
pub(super) fn without_empty(path: &str, pairs: &Pairs) -> Option<String> {
    let is_full = |(_, value): &&(String, String)| !value.trim().is_empty();
    let full: Pairs = pairs.iter().filter(is_full).cloned().collect();
    (full.len() < pairs.len()).then(|| with_query(path, &full))
}

/// A path with a query, if there is one.
pub(super) fn with_query(path: &str, pairs: &[(String, String)]) -> String {
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", query_string(pairs)) }
}

/// The page of a call.
pub(super) fn of_call(id: &str) -> String {
    format!("/calls/{}", encoded(id))
}

/// Calls that match a query and some more conditions, which replace those of the same name.
pub(super) fn calls(pairs: &[(String, String)], more: &[(&str, &str)]) -> String {
    let mut all: Pairs =
        pairs.iter().filter(|(name, _)| more.iter().all(|(new, _)| new != name)).cloned().collect();
    all.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    with_query("/calls", &all)
}

pub(crate) fn encoded(text: &str) -> String {
    let mut all = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~,:".contains(&byte) {
            all.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(all, "%{byte:02X}");
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_leave_their_place() {
        assert_eq!(encoded("+1 555&a=b#c/\"é"), "%2B1%20555%26a%3Db%23c%2F%22%C3%A9");
        let pairs = [("status".into(), "failed".into()), ("q".into(), "a b".into())];
        assert_eq!(calls(&pairs, &[("status", "dropped")]), "/calls?q=a%20b&status=dropped");
        assert_eq!(with_query("/calls", &[]), "/calls");
    }
}
