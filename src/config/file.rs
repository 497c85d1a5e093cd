//! Reads a settings file: flat TOML, one setting per line. Keeps line numbers for error messages.

use std::collections::BTreeMap;

use toml::Spanned;

pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: String,
    /// From 1.
    pub(super) line: usize,
}

/// The name of the setting for a key in a file.
pub(super) fn setting(key: &str) -> String {
    let upper = key.to_ascii_uppercase();
    if upper.starts_with("LIVEKIT_") || upper.starts_with("JWT_SECRET") {
        upper
    } else {
        format!("{}{upper}", super::settings::PREFIX)
    }
}

/// # Errors
/// The line and the reason, if the text is not TOML or a value is not a string, number or boolean.
pub(super) fn read(text: &str) -> Result<Vec<Entry>, String> {
    let table: BTreeMap<Spanned<String>, Spanned<toml::Value>> =
        toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(1, |s| line_of(text, s.start));
            format!("line {line}: {}", e.message())
        })?;
    let mut entries = vec![];
    for (key, value) in table {
        let line = line_of(text, key.span().start);
        let key = key.into_inner();
        let value = match value.into_inner() {
            toml::Value::String(s) => s,
            toml::Value::Integer(n) => n.to_string(),
            toml::Value::Float(n) => n.to_string(),
            toml::Value::Boolean(b) => b.to_string(),
            _ => return Err(format!("line {line}: {key} must be a text or a number")),
        };
        entries.push(Entry { key, value, line });
    }
    Ok(entries)
}

/// The line number at a byte offset, from 1.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
}
