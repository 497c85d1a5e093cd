//! docs/logs.md has every line that the program can log, as the source has it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use anyhow::{Context, Result};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::*;

/// The folders whose lines an operator sees: the binary, and the crates that it logs for.
const SOURCES: [&str; 6] = [
    "src",
    "crates/call/src",
    "crates/store/src",
    "crates/delivery/src",
    "crates/receiver/src",
    "crates/record/src",
];

/// The lines of the log: names of fields, by level and message.
type Lines = BTreeMap<(String, String), BTreeSet<String>>;

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All sources in a folder, without `tests.rs`.
pub(super) fn files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, found)?;
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// Adds the events of a source: `tracing::LEVEL!(…)`.
fn events(source: TokenStream, found: &mut Lines) {
    let tokens: Vec<TokenTree> = source.into_iter().collect();
    for (n, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else { continue };
        let before: Vec<String> =
            tokens[..n].iter().rev().take(5).map(ToString::to_string).collect();
        if let [mark, level, _, _, from] = &before[..]
            && mark == "!"
            && from == "tracing"
            && group.delimiter() == Delimiter::Parenthesis
        {
            let (message, fields) = event(group.stream());
            // Two places may log the same, with more or fewer fields.
            found.entry((level.to_uppercase(), message)).or_default().extend(fields);
        }
        events(group.stream(), found);
    }
}

/// The message and the names of the fields of one event.
fn event(arguments: TokenStream) -> (String, BTreeSet<String>) {
    let mut all: Vec<Vec<TokenTree>> = vec![vec![]];
    for token in arguments {
        match &token {
            TokenTree::Punct(p) if p.as_char() == ',' => all.push(vec![]),
            _ => all.last_mut().expect("never empty").push(token),
        }
    }
    let (mut message, mut fields) = (String::new(), BTreeSet::new());
    for argument in all.iter().filter(|a| !a.is_empty()) {
        match &argument[..] {
            [TokenTree::Literal(text)] => message = unquoted(&text.to_string()),
            [TokenTree::Punct(_), TokenTree::Ident(name)] | [TokenTree::Ident(name), ..] => {
                fields.insert(name.to_string());
            }
            other => panic!("an argument that this test does not understand: {other:?}"),
        }
    }
    (message, fields)
}

/// The text of a literal; a backslash at the end of a line swallows the spaces of the next.
fn unquoted(literal: &str) -> String {
    let text = literal.trim_matches('"').replace("\\\"", "\"");
    let mut parts = text.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + part.trim_start())
}

fn in_the_source() -> Result<Lines> {
    let mut found = Lines::new();
    for folder in SOURCES {
        let mut all = vec![];
        files(&root().join(folder), &mut all)?;
        for file in all {
            let text = std::fs::read_to_string(&file)?;
            // Tests may log what they like.
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let tokens = text.parse().map_err(|e| anyhow::anyhow!("{}: {e}", file.display()))?;
            events(tokens, &mut found);
        }
    }
    Ok(found)
}

/// Rows: `| LEVEL | message | fields | meaning | what to do |`.
fn in_the_document() -> Result<Lines> {
    let text = std::fs::read_to_string(root().join("docs/logs.md"))?;
    let mut found = Lines::new();
    for row in text.lines().filter(|l| l.starts_with("| ")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        if !["ERROR", "WARN", "INFO", "DEBUG"].contains(&cells[0]) {
            continue;
        }
        let [level, message, fields, meaning, _] = cells[..] else {
            anyhow::bail!("this row has not five cells: {row}");
        };
        anyhow::ensure!(meaning.len() > 10, "a meaning is missing: {row}");
        let key = (level.to_owned(), message.to_owned());
        let names = fields.split(' ').map(|f| f.trim_matches('`').to_owned());
        let before = found.insert(key, names.filter(|f| !f.is_empty()).collect());
        anyhow::ensure!(before.is_none(), "documented twice: {message}");
    }
    Ok(found)
}

#[test]
fn every_topic_of_a_warning_is_in_the_documents() -> Result<()> {
    let source = std::fs::read_to_string(root().join("crates/store/src/health.rs"))?;
    let topics: Vec<&str> = (source.lines())
        .filter_map(|l| {
            l.trim().strip_prefix("Self::")?.split_once(" => \"")?.1.strip_suffix("\",")
        })
        .collect();
    assert!(topics.len() > 15, "the topics are not found: {topics:?}");
    let document = std::fs::read_to_string(root().join("docs/logs.md"))?;
    for topic in topics {
        assert!(document.contains(&format!("\n| `{topic}` | ")), "docs/logs.md lacks {topic}");
    }
    Ok(())
}

#[test]
fn every_line_of_the_log_is_in_the_documents_as_it_is_in_the_source() -> Result<()> {
    let source = in_the_source()?;
    assert!(source.len() > 100, "the events are not found: {}", source.len());
    let document = in_the_document().context("docs/logs.md")?;
    let row = |((level, message), fields): (&(String, String), &BTreeSet<String>)| {
        let fields: Vec<String> = fields.iter().map(|f| format!("`{f}`")).collect();
        format!("| {level} | {message} | {} |  |  |", fields.join(" "))
    };
    let missing: Vec<String> =
        source.iter().filter(|(k, v)| document.get(*k) != Some(v)).map(row).collect();
    let gone: Vec<String> =
        document.iter().filter(|(k, v)| source.get(*k) != Some(v)).map(row).collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "missing in docs/logs.md:\n{}\nnot in the source any more:\n{}",
        missing.join("\n"),
        gone.join("\n")
    );
    Ok(())
}
