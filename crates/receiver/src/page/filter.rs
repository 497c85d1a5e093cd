//! The query as a form. What the form has no field for stays in it, and is shown as a condition that can be removed.

use super::links::{self, Pairs};
use crate::{
    schema::Mistake,
    store::{Sql, Store, StoreError},
};

/// Calls among which values are looked for that the form proposes.
const RECENT: &str = " FROM (SELECT business_type, final_stage, termination_reason FROM calls \
                      ORDER BY start_time DESC, call_id DESC LIMIT 2000) AS recent WHERE ";

/// A field that is typed into.
pub(super) struct Input {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    /// Of HTML.
    pub(super) kind: &'static str,
    pub(super) value: String,
    /// Values that are proposed.
    pub(super) list: Vec<String>,
    /// What is wrong with the value.
    pub(super) problem: Option<String>,
}

/// A field with a list to choose from.
pub(super) struct Choice {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    pub(super) options: Vec<Choosable>,
}

pub(super) struct Choosable {
    pub(super) value: String,
    pub(super) label: String,
    pub(super) chosen: bool,
}

/// A condition without a field.
pub(super) struct Other {
    pub(super) name: String,
    pub(super) value: String,
    /// The same query without it.
    pub(super) without: String,
}

pub(super) struct Filter {
    /// Where it leads.
    pub(super) path: &'static str,
    pub(super) q: String,
    pub(super) status: Choice,
    pub(super) direction: Choice,
    /// Always in sight.
    pub(super) main: Vec<Input>,
    /// Behind a button.
    pub(super) more: Vec<Input>,
    pub(super) more_choices: Vec<Choice>,
    /// Some of those are set.
    pub(super) open: bool,
    pub(super) others: Vec<Other>,
    /// Mistakes of conditions without a field.
    pub(super) problems: Vec<String>,
    pub(super) is_empty: bool,
}

type Named = [(&'static str, &'static str)];

const STATUS: &Named = &[
    ("", "any status"),
    ("completed", "completed"),
    ("failed", "failed"),
    ("dropped", "dropped"),
    ("failed,dropped", "failed or dropped"),
];
const DIRECTION: &Named = &[("", "both ways"), ("inbound", "inbound"), ("outbound", "outbound")];
const COMPLETE: &Named = &[("", "any"), ("true", "the whole call"), ("false", "only a part")];
const SUCCESSFUL: &Named = &[("", "any"), ("true", "yes"), ("false", "no")];
const ENDED_BY: &Named = &[
    ("", "anybody"),
    ("caller", "the caller"),
    ("agent", "the agent"),
    ("room", "closing the room"),
    ("network", "a broken connection"),
    ("worker", "the worker"),
    ("unknown", "nobody knows"),
];

/// Names, labels and kinds of the fields behind the button.
const MORE: [(&str, &str, &str); 7] = [
    ("phone_number.co", "Number contains", "text"),
    ("termination_reason", "Reason", "text"),
    ("final_stage", "Last stage", "text"),
    ("duration_seconds.ge", "Longer than, seconds", "number"),
    ("agent_response.p95.gt", "Answer p95 over, seconds", "number"),
    ("interruption_count.ge", "Interruptions, at least", "number"),
    ("silence_count.ge", "Silences, at least", "number"),
];

impl Filter {
    /// # Errors
    /// If the database did not do it.
    pub(super) async fn new(
        store: &dyn Store,
        path: &'static str,
        pairs: &[(String, String)],
        mistakes: &[Mistake],
    ) -> Result<Self, StoreError> {
        let mut known: Vec<&str> = vec!["q"];
        let value = |name: &str| {
            let found = pairs.iter().find(|(given, _)| given == name);
            found.map_or(String::new(), |(_, value)| value.clone())
        };
        let problem = |name: &str| {
            mistakes.iter().find(|mistake| mistake.path == name).map(|m| m.problem.clone())
        };
        let mut input = |name: &'static str, label, kind, list| {
            known.push(name);
            Input { name, label, kind, value: value(name), list, problem: problem(name) }
        };
        // A browser shows nothing but a day in a field for days.
        let kind = |name: &str| if matches!(value(name).len(), 0 | 10) { "date" } else { "text" };
        let from = input("start_time.ge", "From", kind("start_time.ge"), vec![]);
        let before = input("start_time.lt", "Before", kind("start_time.lt"), vec![]);
        let businesses = proposed(store, "business_type").await?;
        let business = input("business_type", "Business type", "text", businesses);
        let mut more = vec![];
        for (name, label, kind) in MORE {
            let list = match name {
                "termination_reason" => proposed(store, "termination_reason").await?,
                "final_stage" => proposed(store, "final_stage").await?,
                _ => vec![],
            };
            more.push(input(name, label, kind, list));
        }
        let mut choice = |name, label, options: &Named| {
            known.push(name);
            choice(name, label, options, &value(name))
        };
        let status = choice("status", "Status", STATUS);
        let direction = choice("call_type", "Direction", DIRECTION);
        let more_choices = vec![
            choice("ended_by", "Ended by", ENDED_BY),
            choice("successful", "Successful", SUCCESSFUL),
            choice("complete", "Seen", COMPLETE),
        ];
        let set = |name: &str| !value(name).is_empty();
        let open = more.iter().any(|input| set(input.name))
            || more_choices.iter().any(|choice| set(choice.name));
        // A field that is typed into says for itself what is wrong.
        let typed = |name: &str| {
            MORE.iter().any(|(known, ..)| *known == name)
                || ["start_time.ge", "start_time.lt", "business_type"].contains(&name)
        };
        let unnamed = |mistake: &&Mistake| !typed(&mistake.path);
        Ok(Self {
            path,
            q: value("q"),
            others: others(path, pairs, &known),
            problems: mistakes
                .iter()
                .filter(unnamed)
                .map(|m| format!("{}: {}", m.path, m.problem))
                .collect(),
            is_empty: pairs.is_empty(),
            status,
            direction,
            main: vec![business, from, before],
            more,
            more_choices,
            open,
        })
    }
}

fn choice(name: &'static str, label: &'static str, options: &Named, value: &str) -> Choice {
    let one = |(option, label): &(&str, &str)| Choosable {
        value: (*option).to_owned(),
        label: (*label).to_owned(),
        chosen: *option == value,
    };
    let mut options: Vec<Choosable> = options.iter().map(one).collect();
    if !options.iter().any(|option| option.chosen) {
        options.push(Choosable { value: value.into(), label: value.into(), chosen: true });
    }
    Choice { name, label, options }
}

fn others(path: &str, pairs: &[(String, String)], known: &[&str]) -> Vec<Other> {
    let mut seen: Vec<&str> = vec![];
    let mut others = vec![];
    for (at, (name, value)) in pairs.iter().enumerate() {
        // The form holds the first of each name.
        if known.contains(&name.as_str()) && !seen.contains(&name.as_str()) {
            seen.push(name);
            continue;
        }
        let mut rest: Pairs = pairs.to_vec();
        rest.remove(at);
        let without = links::with_query(path, &rest);
        others.push(Other { name: name.clone(), value: value.clone(), without });
    }
    others
}

/// Values of a column among recent calls.
async fn proposed(store: &dyn Store, column: &'static str) -> Result<Vec<String>, StoreError> {
    let mut sql = Sql::new(store.dialect(), "SELECT DISTINCT ");
    sql.push(column).push(RECENT).push(column).push(" IS NOT NULL ORDER BY ").push(column);
    sql.push(" LIMIT 50");
    let rows = store.read(sql).await?;
    Ok(rows.iter().filter_map(|row| row.text(0)).map(str::to_owned).collect())
}
