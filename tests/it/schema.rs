//! The record's JSON Schema: the published file is what the binary prints, and every posted record
//! fits it.

use std::{process::Command, sync::LazyLock};

use anyhow::Result;
use serde_json::Value;

use super::binary;

const SCHEMA: &str = include_str!("../../docs/schema/call-history.schema.json");

static VALIDATOR: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
    jsonschema::draft202012::options()
        .should_validate_formats(true)
        .build(&schema)
        .expect("the schema is one")
});

/// Panics with all the violations if a record does not fit the schema.
pub(crate) fn check(record: &Value) {
    let wrong: Vec<String> =
        VALIDATOR.iter_errors(record).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(wrong.is_empty(), "does not fit the schema: {wrong:#?}\n{record:#}");
}

#[test]
fn the_published_schema_is_that_of_the_binary() -> Result<()> {
    let out = Command::new(binary()).arg("schema").env_clear().output()?;
    assert!(out.status.success());
    let made = String::from_utf8(out.stdout)?;
    assert!(made == SCHEMA, "docs/schema is not what `call-history schema` prints: make schema");
    Ok(())
}

#[test]
fn the_example_of_the_documentation_fits() -> Result<()> {
    check(&serde_json::from_str(include_str!("../../docs/schema/example.json"))?);
    Ok(())
}

#[test]
fn a_record_with_anything_else_in_it_does_not_fit() -> Result<()> {
    let good: Value = serde_json::from_str(include_str!("../../docs/schema/example.json"))?;
    let set = |pointer: &str, value: Value| {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).expect("a place") = value;
        bad
    };
    let mut more = good.clone();
    more["surprise"] = Value::Null;
    for bad in [
        set("/status", "splendid".into()),
        set("/start_time", "yesterday".into()),
        set("/duration_seconds", (-1).into()),
        set("/metrics/silence_count", Value::Null),
        set("/outcomes/completion_rate", 1.5.into()),
        set("/agent_config", Value::Null),
        more,
    ] {
        assert!(!VALIDATOR.is_valid(&bad), "{bad:#}");
    }
    Ok(())
}
