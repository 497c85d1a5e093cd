//! The query as a form. What the form has no field for stays in it, and is shown as a condition that can be removed.

use super::{
    links::{self, Pairs},
    reader::Reader,
    zone::{self, Zone},
};
use crate::{
    schema::Mistake,
    store::{Sql, Store, StoreError},
};

/// Calls among which values are looked for that the form proposes.
const RECENT: &str = " FROM (SELECT business_type, final_stage, termination_reason FROM calls \
                      ORDER BY start_time DESC, call_id DESC LIMIT 2000) AS recent WHERE ";

/// The parameter that compares with another filter; if there is none, with all calls.
pub(super) const VERSUS: &str = "versus";

/// A field that is typed into.
pub(super) struct Input {
    pub(super) name: String,
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
    pub(super) name: String,
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

/// The fields that are always in sight.
pub(super) struct Fields {
    pub(super) q: Input,
    pub(super) choices: Vec<Choice>,
    pub(super) inputs: Vec<Input>,
}

pub(super) struct Filter {
    /// Where it leads.
    pub(super) path: &'static str,
    pub(super) fields: Fields,
    /// Behind a button.
    pub(super) more: Vec<Input>,
    pub(super) more_choices: Vec<Choice>,
    /// Some of those are set.
    pub(super) open: bool,
    /// The fields of another filter, where two can be compared; and whether they are.
    pub(super) versus: Option<(Fields, bool)>,
    pub(super) others: Vec<Other>,
    /// Mistakes of conditions without a field.
    pub(super) problems: Vec<String>,
    pub(super) is_empty: bool,
    /// The form keeps the zone, so that its address shows the same to everybody.
    pub(super) zone: Option<&'static str>,
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
    (NUMBER, "Number contains", "text"),
    ("termination_reason", "Reason", "text"),
    ("final_stage", "Last stage", "text"),
    ("duration_seconds.ge", "Longer than, seconds", "number"),
    ("agent_response.p95.gt", "Answer p95 over, seconds", "number"),
    ("interruption_count.ge", "Interruptions, at least", "number"),
    ("silence_count.ge", "Silences, at least", "number"),
];
/// For readers that see numbers.
const NUMBER: &str = "phone_number.co";

/// Makes fields, and remembers which.
struct Maker<'a> {
    pairs: &'a [(String, String)],
    mistakes: &'a [Mistake],
    known: Vec<String>,
}

impl Maker<'_> {
    fn value(&self, name: &str) -> String {
        let found = self.pairs.iter().find(|(given, _)| given == name);
        found.map_or(String::new(), |(_, value)| value.clone())
    }

    fn input(
        &mut self,
        name: String,
        label: &'static str,
        kind: &'static str,
        list: Vec<String>,
    ) -> Input {
        let value = self.value(&name);
        let mistake = self.mistakes.iter().find(|mistake| mistake.path == name);
        let problem = mistake.map(|mistake| mistake.problem.clone());
        // A browser shows nothing but a day in a field for days.
        let kind = if kind == "date" && !matches!(value.len(), 0 | 10) { "text" } else { kind };
        self.known.push(name.clone());
        Input { name, label, kind, value, list, problem }
    }

    fn choice(&mut self, name: String, label: &'static str, options: &Named) -> Choice {
        let value = self.value(&name);
        let one = |(option, label): &(&str, &str)| Choosable {
            value: (*option).to_owned(),
            label: (*label).to_owned(),
            chosen: *option == value,
        };
        let mut options: Vec<Choosable> = options.iter().map(one).collect();
        if !options.iter().any(|option| option.chosen) {
            options.push(Choosable { value: value.clone(), label: value, chosen: true });
        }
        self.known.push(name.clone());
        Choice { name, label, options }
    }

    /// `before`: what stands before each name.
    fn fields(&mut self, before: &str, businesses: &[String]) -> Fields {
        let name = |name: &str| format!("{before}{name}");
        Fields {
            q: self.input(name("q"), "Search", "search", vec![]),
            choices: vec![
                self.choice(name("status"), "Status", STATUS),
                self.choice(name("call_type"), "Direction", DIRECTION),
            ],
            inputs: vec![
                self.input(name("business_type"), "Business type", "text", businesses.to_vec()),
                self.input(name("start_time.ge"), "From", "date", vec![]),
                self.input(name("start_time.lt"), "Before", "date", vec![]),
            ],
        }
    }
}

impl Filter {
    /// `pairs`: the query of the page.
    ///
    /// # Errors
    /// If the database did not do it.
    pub(super) async fn new(
        store: &dyn Store,
        path: &'static str,
        pairs: &[(String, String)],
        mistakes: &[Mistake],
        reader: &Reader,
    ) -> Result<Self, StoreError> {
        let known = vec![zone::NAME.into(), VERSUS.into()];
        let mut maker = Maker { pairs, mistakes, known };
        let businesses = proposed(store, "business_type").await?;
        let fields = maker.fields("", &businesses);
        let mut more = vec![];
        for (name, label, kind) in
            MORE.into_iter().filter(|more| reader.numbers || more.0 != NUMBER)
        {
            let list = match name {
                "termination_reason" => proposed(store, "termination_reason").await?,
                "final_stage" => proposed(store, "final_stage").await?,
                _ => vec![],
            };
            more.push(maker.input(name.into(), label, kind, list));
        }
        let more_choices = vec![
            maker.choice("ended_by".into(), "Ended by", ENDED_BY),
            maker.choice("successful".into(), "Successful", SUCCESSFUL),
            maker.choice("complete".into(), "Seen", COMPLETE),
        ];
        let set = |name: &str| !maker.value(name).is_empty();
        let open = more.iter().any(|input| set(&input.name))
            || more_choices.iter().any(|choice| set(&choice.name));
        let versus = (path == "/numbers").then(|| {
            let compared = pairs.iter().any(|(name, _)| name.starts_with(VERSUS));
            (maker.fields(&format!("{VERSUS}."), &businesses), compared)
        });
        // A field that is typed into says for itself what is wrong.
        let typed = |fields: &Fields| -> Vec<String> {
            std::iter::once(&fields.q).chain(&fields.inputs).map(|i| i.name.clone()).collect()
        };
        let mut said = typed(&fields);
        said.extend(more.iter().map(|input| input.name.clone()));
        said.extend(versus.iter().flat_map(|(fields, _)| typed(fields)));
        let unsaid = mistakes.iter().filter(|mistake| !said.contains(&mistake.path));
        Ok(Self {
            path,
            others: others(path, pairs, &maker.known),
            problems: unsaid.map(|m| format!("{}: {}", m.path, m.problem)).collect(),
            is_empty: pairs.iter().all(|(name, _)| name == zone::NAME),
            fields,
            more,
            more_choices,
            open,
            versus,
            zone: (reader.zone != Zone::UTC).then(|| reader.zone.name()),
        })
    }
}

fn others(path: &str, pairs: &[(String, String)], known: &[String]) -> Vec<Other> {
    let mut seen: Vec<&str> = vec![];
    let mut others = vec![];
    for (at, (name, value)) in pairs.iter().enumerate() {
        // The form holds the first of each name.
        if known.contains(name) && !seen.contains(&name.as_str()) {
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
