//! The tables, step by step. A step that was released is never changed: a new one is added.

use sqlx::{
    SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};

use super::sql::Dialect;

type Step = (i64, &'static str, &'static str);

const SQLITE: &[Step] = &[
    (1, "calls", include_str!("../../migrations/sqlite/0001_calls.sql")),
    (2, "search", include_str!("../../migrations/sqlite/0002_search.sql")),
    (10, "uploads", include_str!("../../migrations/sqlite/0010_uploads.sql")),
    (20, "password", include_str!("../../migrations/sqlite/0020_password.sql")),
    (30, "day sums", include_str!("../../migrations/sqlite/0030_day_sums.sql")),
];
const POSTGRES: &[Step] = &[
    (1, "calls", include_str!("../../migrations/postgres/0001_calls.sql")),
    (10, "uploads", include_str!("../../migrations/postgres/0010_uploads.sql")),
    (20, "password", include_str!("../../migrations/postgres/0020_password.sql")),
    (30, "day sums", include_str!("../../migrations/postgres/0030_day_sums.sql")),
];

/// All steps of an engine; sqlx keeps in a table which of them are done.
pub(crate) fn of(dialect: Dialect) -> Migrator {
    let steps = match dialect {
        Dialect::Sqlite => SQLITE,
        Dialect::Postgres => POSTGRES,
    };
    let migration = |(version, name, sql): &Step| {
        let sql = (*sql).into_sql_str();
        Migration::new(*version, (*name).into(), MigrationType::Simple, sql, false)
    };
    Migrator::with_migrations(steps.iter().map(migration).collect())
}
