//! The query language: what lists, exports, statistics and saved links have in common.
//!
//! `field[.op]=value`: `status=failed,dropped&phone_number.sw=%2B1555&agent_response.p95.gt=1.5&q="table for two"`.
//! Comes in as pairs of texts, goes out as conditions of a statement whose values are all bound.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use record::Moment;

use crate::{
    call::folded,
    fields::{self, FIELDS, Field, Kind},
    schema::Mistake,
    store::{Dialect, Sql, Value},
};

const MOST_FILTERS: usize = 50;
const MOST_VALUES: usize = 100;
const MOST_TERMS: usize = 10;
/// Characters of a value at most.
const LONGEST_VALUE: usize = 500;
/// Calls of a page.
pub const DEFAULT_LIMIT: u32 = 50;
pub const MOST_LIMIT: u32 = 500;
/// The index of texts knows every three characters.
const SHORTEST_INDEXED: usize = 3;

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
struct Filter {
    field: &'static Field,
    op: Op,
    values: Vec<Value>,
}

/// Which calls.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    filters: Vec<Filter>,
    /// Folded texts, all of which occur.
    terms: Vec<String>,
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

    fn parse(text: &str) -> Option<Self> {
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
            let read = if value.chars().count() > LONGEST_VALUE {
                Err(format!("must have {LONGEST_VALUE} characters or fewer"))
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

    /// Whether all of it can be asked of a table that has only these columns.
    pub(crate) fn only_of(&self, columns: &[&str]) -> bool {
        self.terms.is_empty() && self.filters.iter().all(|f| columns.contains(&f.field.column))
    }

    /// Appends the conditions; there is always one.
    pub(crate) fn push_where(&self, sql: &mut Sql) {
        sql.push("1 = 1");
        for filter in &self.filters {
            sql.push(" AND ");
            filter.push(sql);
        }
        let (indexed, short): (Vec<&String>, Vec<&String>) =
            self.terms.iter().partition(|term| term.chars().count() >= SHORTEST_INDEXED);
        if sql.dialect() == Dialect::Sqlite && !indexed.is_empty() {
            push_indexed(&indexed, sql);
        } else {
            indexed.iter().for_each(|term| push_term(term, sql));
        }
        short.iter().for_each(|term| push_term(term, sql));
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

impl Filter {
    fn push(&self, sql: &mut Sql) {
        let column = self.field.column;
        let values = || self.values.iter().cloned();
        let compare = |sql: &mut Sql, op: &'static str| {
            sql.push(column).push(op).values(values());
        };
        match self.op {
            Op::Eq if self.values.len() == 1 => compare(sql, " = "),
            Op::Eq | Op::In => {
                sql.push(column).push(" IN (").values(values()).push(")");
            }
            Op::Ne => {
                sql.push("(");
                compare(sql, " <> ");
                sql.push(" OR ").push(column).push(" IS NULL)");
            }
            Op::Gt => compare(sql, " > "),
            Op::Ge => compare(sql, " >= "),
            Op::Lt => compare(sql, " < "),
            Op::Le => compare(sql, " <= "),
            Op::Sw => self.push_begins_with(sql),
            Op::Co => {
                sql.push(match sql.dialect() {
                    Dialect::Sqlite => "instr(",
                    Dialect::Postgres => "strpos(",
                });
                sql.push(column).push(", ").values(values()).push(") > 0");
            }
            Op::Present if self.values == [Value::from(1_i64)] => {
                sql.push(column).push(" IS NOT NULL");
            }
            Op::Present => {
                sql.push(column).push(" IS NULL");
            }
        }
    }

    /// As a range, which an index can answer.
    fn push_begins_with(&self, sql: &mut Sql) {
        let Some(Value::Text(Some(prefix))) = self.values.first() else { return };
        sql.push("(").push(self.field.column).push(" >= ").bind(prefix.as_str());
        if let Some(after) = after(prefix) {
            sql.push(" AND ").push(self.field.column).push(" < ").bind(after);
        }
        sql.push(")");
    }
}

/// The first text that is behind all texts with this beginning. `None`: there is none.
fn after(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        // Some numbers are no character.
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

/// All of them are found by one look into SQLite's index of texts.
fn push_indexed(terms: &[&String], sql: &mut Sql) {
    // Phrases of the index's language, in which a quotation mark is written twice.
    let phrase = |term: &&String| format!("\"{}\"", term.replace('"', "\"\""));
    let phrases: Vec<String> = terms.iter().map(phrase).collect();
    sql.push(" AND n IN (SELECT rowid FROM search WHERE search MATCH ");
    sql.bind(phrases.join(" AND ")).push(")");
}

fn push_term(term: &str, sql: &mut Sql) {
    let escaped: String = term
        .chars()
        .flat_map(|c| matches!(c, '\\' | '%' | '_').then_some('\\').into_iter().chain([c]))
        .collect();
    sql.push(" AND n IN (SELECT n FROM bodies WHERE search_text LIKE ")
        .bind(format!("%{escaped}%"));
    sql.push(" ESCAPE '\\')");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &[(&str, &str)]) -> Vec<(String, String)> {
        text.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    fn statement(query: &Query, dialect: Dialect) -> Sql {
        let mut sql = Sql::new(dialect, "SELECT n FROM calls WHERE ");
        query.push_where(&mut sql);
        sql
    }

    /// Conditions and bound values.
    fn sqlite(text: &[(&str, &str)]) -> (String, Vec<Value>) {
        let sql = statement(&Query::parse(&pairs(text), &[]).unwrap(), Dialect::Sqlite);
        let (_, conditions) = sql.text().split_once("1 = 1").unwrap();
        (conditions.to_owned(), sql.bound().to_vec())
    }

    #[test]
    fn each_comparison_is_its_condition() {
        for (name, value, condition, bound) in [
            ("status", "failed", " AND status = ?1", vec!["failed".into()]),
            (
                "status",
                "failed,dropped",
                " AND status IN (?1, ?2)",
                vec!["failed".into(), "dropped".into()],
            ),
            ("room_name", "a,b", " AND room_name = ?1", vec!["a,b".into()]),
            ("room_name.ne", "a", " AND (room_name <> ?1 OR room_name IS NULL)", vec!["a".into()]),
            ("room_name.co", "a", " AND instr(room_name, ?1) > 0", vec!["a".into()]),
            (
                "room_name.sw",
                "ab",
                " AND (room_name >= ?1 AND room_name < ?2)",
                vec!["ab".into(), "ac".into()],
            ),
            ("room_name.present", "false", " AND room_name IS NULL", vec![]),
            ("agent_response.p95.gt", "1.5", " AND agent_response_p95 > ?1", vec![1.5.into()]),
            (
                "start_time.ge",
                "1970-01-01T00:00:01Z",
                " AND start_time >= ?1",
                vec![1_000_i64.into()],
            ),
            (
                "q",
                "Ab",
                " AND n IN (SELECT n FROM bodies WHERE search_text LIKE ?1 ESCAPE '\\')",
                vec!["%ab%".into()],
            ),
            (
                "q",
                "\"a\"\"bc\"",
                " AND n IN (SELECT n FROM bodies WHERE search_text LIKE ?1 ESCAPE '\\') AND n IN (SELECT n FROM bodies WHERE search_text LIKE ?2 ESCAPE '\\')",
                vec!["%a%".into(), "%bc%".into()],
            ),
            (
                "q",
                "abc \"d \"e f",
                " AND n IN (SELECT rowid FROM search WHERE search MATCH ?1) AND n IN (SELECT n FROM bodies WHERE search_text LIKE ?2 ESCAPE '\\') AND n IN (SELECT n FROM bodies WHERE search_text LIKE ?3 ESCAPE '\\') AND n IN (SELECT n FROM bodies WHERE search_text LIKE ?4 ESCAPE '\\')",
                vec!["\"abc\"".into(), "%d%".into(), "%e%".into(), "%f%".into()],
            ),
            (
                "q",
                "abc def",
                " AND n IN (SELECT rowid FROM search WHERE search MATCH ?1)",
                vec!["\"abc\" AND \"def\"".into()],
            ),
            (
                "q",
                "a_B%c",
                " AND n IN (SELECT rowid FROM search WHERE search MATCH ?1)",
                vec!["\"a_b%c\"".into()],
            ),
        ] {
            let (found, values) = sqlite(&[(name, value)]);
            assert_eq!((found.as_str(), values), (condition, bound), "{name}={value}");
        }
    }

    #[test]
    fn the_text_after_a_beginning_is_the_next_one() {
        for (prefix, next) in [
            ("a", Some("b")),
            ("+1", Some("+2")),
            ("a\u{d7ff}", Some("a\u{e000}")),
            ("a\u{10ffff}", Some("b")),
            ("\u{10ffff}", None),
            ("", None),
        ] {
            assert_eq!(after(prefix).as_deref(), next, "{prefix:?}");
        }
    }

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

    fn pair() -> impl Strategy<Value = (String, String)> {
        let field = prop::sample::select(FIELDS.iter().map(|f| f.name).collect::<Vec<_>>());
        let op = prop::sample::select(Op::ALL.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        let value = prop_oneof![
            any::<String>(),
            "[-0-9.e]{1,8}",
            "(true|false|failed|inbound|2026-11-27)(,dropped|,outbound)?",
            "['\"%_\\\\;)( \0-]{0,12}",
        ];
        prop_oneof![
            (field, op, value.clone()).prop_map(|(f, op, v)| (format!("{f}.{op}"), v)),
            value.clone().prop_map(|v| ("q".into(), v)),
            (any::<String>(), value),
        ]
    }

    /// A database in memory with the tables.
    async fn memory() -> sqlx::SqlitePool {
        let options = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1);
        let pool = options.connect("sqlite::memory:").await.unwrap();
        crate::store::migrations::of(Dialect::Sqlite).run(&pool).await.unwrap();
        pool
    }

    #[test]
    fn every_query_that_is_taken_is_a_statement_that_runs_with_bound_values_only() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let pool = runtime.block_on(memory());
        let taken = std::cell::Cell::new(0);
        let mut runner = proptest::test_runner::TestRunner::default();
        let all = prop::collection::vec(pair(), 0..6);
        runner
            .run(&all, |mut pairs| {
                pairs.retain(|pair| Query::parse(std::slice::from_ref(pair), &[]).is_ok());
                taken.set(taken.get() + pairs.len());
                let Ok(query) = Query::parse(&pairs, &[]) else { return Ok(()) };
                for dialect in [Dialect::Sqlite, Dialect::Postgres] {
                    let sql = statement(&query, dialect);
                    // The text does not depend on the values: fixed parts, columns and places for values.
                    let place = if dialect == Dialect::Sqlite { '?' } else { '$' };
                    let places = sql.text().matches(place).count();
                    prop_assert_eq!(places, sql.bound().len());
                    let plain =
                        |c: char| c.is_ascii_alphanumeric() || " _?$(),=<>.*'\\".contains(c);
                    prop_assert!(sql.text().chars().all(plain), "{}", sql.text());
                    for value in sql.bound() {
                        let nul = matches!(value, Value::Text(Some(text)) if text.contains('\0'));
                        prop_assert!(!nul, "Postgres does not take it");
                    }
                }
                let sql = statement(&query, Dialect::Sqlite);
                let ran = runtime.block_on(crate::store::sqlite::run(&pool, sql));
                prop_assert!(ran.is_ok(), "{:?}", ran);
                Ok(())
            })
            .unwrap();
        assert!(taken.get() > 100, "hardly any query was taken");
    }
}
