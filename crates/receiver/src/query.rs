//! The query language: what lists, exports, statistics and saved links have in common.
//!
//! `field[.op]=value`: `status=failed,dropped&phone_number.sw=%2B1555&agent_response.p95.gt=1.5&q="table for two"`.
//! Comes in as pairs of texts; what is asked of the database is in [`crate::conditions`].

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use record::Moment;

use crate::{
    call::folded,
    fields::{self, FIELDS, Field, Kind},
    schema::Mistake,
    store::Value,
};

/// Each comparison of each field once.
const MOST_FILTERS: usize = 400;
pub(crate) const MOST_VALUES: usize = 100;
pub(crate) const MOST_TERMS: usize = 10;
/// Characters of a value at most.
pub(crate) const LONGEST_VALUE: usize = 500;
/// The same of a list of values.
const LONGEST_LIST: usize = MOST_VALUES * (LONGEST_VALUE + 1);
/// Calls of a page.
pub const DEFAULT_LIMIT: u32 = 50;
pub const MOST_LIMIT: u32 = 500;

/// How a field is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Equal; of a field with a list of words one of those that commas separate.
    Eq,
    /// Not equal, or without a value.
    Ne,
    /// One of those that commas separate.
    In,
    /// Begins with.
    Sw,
    /// Contains.
    Co,
    Gt,
    Ge,
    Lt,
    Le,
    /// `true`: has a value; `false`: has none.
    Present,
}

impl Op {
    pub const ALL: [(&'static str, Self); 10] = [
        ("eq", Self::Eq),
        ("ne", Self::Ne),
        ("in", Self::In),
        ("sw", Self::Sw),
        ("co", Self::Co),
        ("gt", Self::Gt),
        ("ge", Self::Ge),
        ("lt", Self::Lt),
        ("le", Self::Le),
        ("present", Self::Present),
    ];

    /// Whether a kind of field can be compared so.
    pub fn fits(self, kind: Kind) -> bool {
        match self {
            Self::Eq | Self::Ne | Self::Present => true,
            Self::In => kind != Kind::Truth,
            Self::Sw | Self::Co => kind == Kind::Text,
            Self::Gt | Self::Ge | Self::Lt | Self::Le => {
                matches!(kind, Kind::Time | Kind::Count | Kind::Number)
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Filter {
    pub(crate) field: &'static Field,
    pub(crate) op: Op,
    pub(crate) values: Vec<Value>,
}

/// Which calls.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    pub(crate) filters: Vec<Filter>,
    /// Folded texts, all of which occur.
    pub(crate) terms: Vec<String>,
}

/// Which part of the list, besides which calls.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    pub limit: u32,
    pub cursor: Option<Cursor>,
    pub include_total: bool,
}

/// The last call of the page before. New calls do not move what comes after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub start_time: i64,
    pub call_id: String,
}

impl Cursor {
    pub fn to_text(&self) -> String {
        BASE64.encode(format!("{}:{}", self.start_time, self.call_id))
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64.decode(text).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (start_time, call_id) = text.split_once(':')?;
        if call_id.contains('\0') {
            return None;
        }
        Some(Self { start_time: start_time.parse().ok()?, call_id: call_id.into() })
    }
}

impl Query {
    /// Reads the parameters of a list.
    ///
    /// # Errors
    /// All mistakes.
    pub fn with_page(pairs: &[(String, String)]) -> Result<(Self, Page), Vec<Mistake>> {
        let mut page = Page { limit: DEFAULT_LIMIT, ..Page::default() };
        let mut mistakes = vec![];
        let mut rest = vec![];
        for (name, value) in pairs {
            match name.as_str() {
                "limit" => match value.parse() {
                    Ok(limit) if (1..=MOST_LIMIT).contains(&limit) => page.limit = limit,
                    _ => {
                        mistakes.push(Mistake::new(name, format!("must be from 1 to {MOST_LIMIT}")))
                    }
                },
                "cursor" => match Cursor::parse(value) {
                    Some(cursor) => page.cursor = Some(cursor),
                    None => {
                        mistakes.push(Mistake::new(name, "must be the next_cursor of an answer"))
                    }
                },
                "include_total" => match truth(value) {
                    Some(wanted) => page.include_total = wanted,
                    None => mistakes.push(Mistake::new(name, "must be true or false")),
                },
                _ => rest.push((name.clone(), value.clone())),
            }
        }
        match Self::parse(&rest, &["limit", "cursor", "include_total"]) {
            Ok(query) if mistakes.is_empty() => Ok((query, page)),
            Ok(_) => Err(mistakes),
            Err(more) => {
                mistakes.extend(more);
                Err(mistakes)
            }
        }
    }

    /// Reads which calls. `others`: names that the caller has read itself, for the message about unknown ones.
    ///
    /// # Errors
    /// All mistakes.
    pub fn parse(pairs: &[(String, String)], others: &[&str]) -> Result<Self, Vec<Mistake>> {
        let mut query = Self::default();
        let mut mistakes = vec![];
        for (name, value) in pairs {
            let words = fields::find(name).is_some_and(|f| matches!(f.kind, Kind::Choice(_)));
            let is_list = words || name.ends_with(".in");
            let longest = if is_list { LONGEST_LIST } else { LONGEST_VALUE };
            let read = if value.chars().count() > longest {
                Err(format!("must have {longest} characters or fewer"))
            } else if name == "q" {
                terms(value).map(|terms| query.terms.extend(terms))
            } else {
                filter(name, value, others).map(|filter| query.filters.push(filter))
            };
            if let Err(problem) = read {
                mistakes.push(Mistake::new(name, problem));
            }
        }
        if query.filters.len() > MOST_FILTERS || query.terms.len() > MOST_TERMS {
            let problem =
                format!("at most {MOST_FILTERS} filters and {MOST_TERMS} words to search");
            mistakes.push(Mistake::new("", problem));
        }
        if mistakes.is_empty() { Ok(query) } else { Err(mistakes) }
    }

    /// Whether words are searched.
    pub(crate) fn has_terms(&self) -> bool {
        !self.terms.is_empty()
    }

    /// Whether all of it can be asked of a table that has only these columns.
    pub(crate) fn only_of(&self, columns: &[&str]) -> bool {
        self.terms.is_empty() && self.filters.iter().all(|f| columns.contains(&f.field.column))
    }
}

/// Words, and texts between quotation marks.
fn terms(text: &str) -> Result<Vec<String>, String> {
    let mut terms: Vec<String> = vec![];
    for (n, part) in text.split('"').enumerate() {
        if n % 2 == 1 {
            terms.push(folded(part.trim()));
        } else {
            terms.extend(part.split_whitespace().map(folded));
        }
    }
    terms.retain(|term| !term.is_empty());
    if terms.is_empty() { Err("must have a word to search".into()) } else { Ok(terms) }
}

fn filter(name: &str, value: &str, others: &[&str]) -> Result<Filter, String> {
    let (field, op) = match fields::find(name) {
        Some(field) => (field, Op::Eq),
        None => {
            let (field, _) = name.rsplit_once('.').unwrap_or((name, ""));
            let field = fields::find(field).ok_or_else(|| unknown_field(others))?;
            (field, named_op(name, field)?)
        }
    };
    if !op.fits(field.kind) {
        return Err(unknown_op(field));
    }
    let values = match op {
        Op::Present => vec![one(Kind::Truth, value)?],
        Op::Sw | Op::Co => vec![Value::from(without_nul(value))],
        Op::In => several(field.kind, value)?,
        Op::Eq if matches!(field.kind, Kind::Choice(_)) => several(field.kind, value)?,
        _ => vec![one(field.kind, value)?],
    };
    Ok(Filter { field, op, values })
}

fn several(kind: Kind, text: &str) -> Result<Vec<Value>, String> {
    let values: Vec<Value> =
        text.split(',').map(|part| one(kind, part)).collect::<Result<_, _>>()?;
    if text.split(',').any(|part| part.chars().count() > LONGEST_VALUE) {
        return Err(format!("each must have {LONGEST_VALUE} characters or fewer"));
    }
    if values.len() > MOST_VALUES {
        return Err(format!("must have {MOST_VALUES} values or fewer"));
    }
    Ok(values)
}

fn one(kind: Kind, text: &str) -> Result<Value, String> {
    match kind {
        Kind::Text => Ok(without_nul(text).into()),
        Kind::Choice(words) if words.contains(&text) => Ok(text.into()),
        Kind::Choice(words) => Err(format!("must be one of {}", words.join(", "))),
        Kind::Time => time(text).map(Value::from).ok_or_else(|| {
            "must be a time like 2026-11-27T03:45:00Z, or a day like 2026-11-27 (UTC)".into()
        }),
        Kind::Count | Kind::Number => text
            .parse::<f64>()
            .ok()
            .filter(|n| n.is_finite())
            .map(Value::from)
            .ok_or_else(|| "must be a number".into()),
        Kind::Truth => truth(text)
            .map(|truth| i64::from(truth).into())
            .ok_or_else(|| "must be true or false".into()),
    }
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// A plus sign that was not escaped arrives as a blank.
fn time(text: &str) -> Option<i64> {
    let text = text.replace(' ', "+");
    let day = || Moment::parse_rfc3339(&format!("{text}T00:00:00Z"));
    Moment::parse_rfc3339(&text).or_else(day).map(Moment::millis)
}

fn without_nul(text: &str) -> String {
    text.replace('\0', "")
}

fn named_op(name: &str, field: &Field) -> Result<Op, String> {
    let op = name.rsplit_once('.').map_or("", |(_, op)| op);
    let known = Op::ALL.iter().find(|(known, _)| *known == op);
    known.map(|(_, op)| *op).ok_or_else(|| unknown_op(field))
}

fn unknown_field(others: &[&str]) -> String {
    let names: Vec<&str> = FIELDS.iter().map(|f| f.name).collect();
    format!("unknown; known are {}, q, {}", others.join(", "), names.join(", "))
}

fn unknown_op(field: &Field) -> String {
    let ops = Op::ALL.iter().filter(|(_, op)| op.fits(field.kind));
    let ops: Vec<&str> = ops.map(|(name, _)| *name).collect();
    format!("{} can be compared by {}", field.name, ops.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back() {
        let cursor = Cursor { start_time: -5, call_id: "a:b/ü".into() };
        assert_eq!(Cursor::parse(&cursor.to_text()), Some(cursor));
        for wrong in
            ["", "x", "!", &BASE64.encode("1"), &BASE64.encode("x:y"), &BASE64.encode("1:a\0")]
        {
            assert_eq!(Cursor::parse(wrong), None, "{wrong}");
        }
    }
}
