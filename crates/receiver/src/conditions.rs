//! From a query to the conditions of a statement. All values are bound.

use crate::{
    query::{Filter, Op, Query},
    store::{Dialect, Sql, Value},
};

/// The index of texts knows every three characters.
const SHORTEST_INDEXED: usize = 3;

impl Query {
    /// Appends the conditions; there is always one.
    pub(crate) fn push_where(&self, sql: &mut Sql) {
        self.push_where_but("", sql);
        self.push_terms(sql);
    }

    /// The same without the terms, and without the conditions on one column.
    pub(crate) fn push_where_but(&self, column: &str, sql: &mut Sql) {
        sql.push("1 = 1");
        for filter in self.filters.iter().filter(|f| f.field.column != column) {
            sql.push(" AND ");
            filter.push(sql);
        }
    }

    /// The terms, looked for in the texts of the calls of the table `newest`, one after the other.
    pub(crate) fn push_terms_of_newest(&self, sql: &mut Sql) {
        for term in &self.terms {
            sql.push(
                " AND EXISTS (SELECT 1 FROM bodies WHERE bodies.n = newest.n AND search_text LIKE ",
            );
            push_pattern(term, sql);
            sql.push(")");
        }
    }

    fn push_terms(&self, sql: &mut Sql) {
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
    sql.push(" AND n IN (SELECT n FROM bodies WHERE search_text LIKE ");
    push_pattern(term, sql);
    sql.push(")");
}

fn push_pattern(term: &str, sql: &mut Sql) {
    let escaped: String = term
        .chars()
        .flat_map(|c| matches!(c, '\\' | '%' | '_').then_some('\\').into_iter().chain([c]))
        .collect();
    sql.bind(format!("%{escaped}%")).push(" ESCAPE '\\'");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fields::FIELDS;

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
