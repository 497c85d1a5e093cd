//! The part of JSON Schema that this product's schemas use, and the check of a value against it.
//!
//! Why no library: the one that can stop at the first hundred mistakes (`jsonschema`) takes a tenth of the release's
//! build, most of it for keywords that no schema here has. Others collect all mistakes first, and a body of 16 MB can
//! have millions. The tests compare what is found here with what that library finds.

use std::{cmp::Ordering, collections::BTreeMap, fmt, slice};

use record::Moment;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Number, Value};

use super::{LONGEST, MOST, Mistake};

/// What a schema asks of one value. A schema with a keyword that is not here cannot be read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Rule {
    #[serde(rename = "type", default)]
    types: Types,
    #[serde(rename = "enum")]
    options: Option<Vec<Value>>,
    format: Option<Format>,
    minimum: Option<Number>,
    maximum: Option<Number>,
    /// Characters.
    min_length: Option<usize>,
    /// Characters.
    max_length: Option<usize>,
    #[serde(default)]
    properties: BTreeMap<String, Rule>,
    /// Of the properties that are not named.
    additional_properties: Option<Box<Rule>>,
    #[serde(default)]
    required: Vec<String>,
    items: Option<Box<Rule>>,
    /// One of them is enough.
    #[serde(default)]
    any_of: Vec<Rule>,
    #[serde(rename = "$ref")]
    reference: Option<String>,
    #[serde(rename = "$defs", default)]
    definitions: BTreeMap<String, Rule>,
    // Allowed, and nothing to check.
    #[serde(rename = "$schema")]
    _schema: Option<IgnoredAny>,
    #[serde(rename = "title")]
    _title: Option<IgnoredAny>,
    #[serde(rename = "description")]
    _description: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
enum Types {
    #[default]
    Any,
    One(Type),
    Several(Vec<Type>),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Type {
    Array,
    Boolean,
    Integer,
    Null,
    Number,
    Object,
    String,
}

#[derive(Debug, Deserialize)]
enum Format {
    #[serde(rename = "date-time")]
    DateTime,
    /// Nothing to check: the schema gives the bounds of whole numbers, and every JSON number fits a double.
    #[serde(rename = "double", alias = "uint32", alias = "uint64")]
    OfNumber,
}

/// Where a `$ref` points to, in a schema of ours.
pub(super) const DEFINITIONS: &str = "#/$defs/";

impl Rule {
    /// Up to [`MOST`] mistakes of a value.
    pub(super) fn mistakes(&self, value: &Value) -> Vec<Mistake> {
        let mut check = Check { definitions: &self.definitions, path: vec![], found: vec![] };
        check.value(value, self);
        check.found
    }
}

/// One value that is being checked.
struct Check<'a> {
    definitions: &'a BTreeMap<String, Rule>,
    /// From the whole to the part that is checked now. A text is made of it only where something is wrong: a body can
    /// have millions of parts.
    path: Vec<Step<'a>>,
    found: Vec<Mistake>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Item(usize),
    /// Of an object whose properties the schema names.
    Property(&'a str),
    /// Of an object whose properties the sender names.
    Other(&'a str),
}

impl<'a> Check<'a> {
    fn value(&mut self, value: &'a Value, rule: &'a Rule) {
        if !rule.types.allow(value) {
            self.mistake(format!("must be of type {}", rule.types));
        }
        if let Some(options) = &rule.options
            && !options.contains(value)
        {
            self.mistake(format!("must be one of {}", Value::from(options.as_slice())));
        }
        match value {
            Value::Number(number) => self.number(number, rule),
            Value::String(text) => self.text(text, rule),
            Value::Array(items) => self.items(items, rule),
            Value::Object(properties) => self.properties(properties, rule),
            Value::Null | Value::Bool(_) => {}
        }
        if let Some(name) = &rule.reference {
            match self.definition(name) {
                Some(definition) => self.value(value, definition),
                None => self.mistake("is not defined in the schema"),
            }
        }
        self.any_of(value, &rule.any_of);
    }

    fn number(&mut self, number: &Number, rule: &Rule) {
        if let Some(limit) = &rule.minimum
            && compare(number, limit) == Some(Ordering::Less)
        {
            self.mistake(format!("must be {limit} or more"));
        }
        if let Some(limit) = &rule.maximum
            && compare(number, limit) == Some(Ordering::Greater)
        {
            self.mistake(format!("must be {limit} or less"));
        }
    }

    fn text(&mut self, text: &str, rule: &Rule) {
        if let Some(limit) = rule.min_length
            && text.chars().take(limit).count() < limit
        {
            self.mistake(format!("must have {limit} characters or more"));
        }
        if let Some(limit) = rule.max_length
            && text.chars().nth(limit).is_some()
        {
            self.mistake(format!("must have {limit} characters or fewer"));
        }
        if matches!(rule.format, Some(Format::DateTime)) && !is_time(text) {
            self.mistake("must be a time like 2026-11-27T03:45:00.000Z");
        }
    }

    fn items(&mut self, items: &'a [Value], rule: &'a Rule) {
        let Some(of_items) = &rule.items else { return };
        for (index, item) in items.iter().enumerate() {
            self.inside(Step::Item(index), |check| check.value(item, of_items));
            if self.found.len() == MOST {
                return;
            }
        }
    }

    fn properties(&mut self, properties: &'a Map<String, Value>, rule: &'a Rule) {
        for name in &rule.required {
            if !properties.contains_key(name) {
                self.inside(Step::Property(name), |check| check.mistake("is missing"));
            }
        }
        for (name, value) in properties {
            if let Some(of_property) = rule.properties.get(name) {
                self.inside(Step::Property(name), |check| check.value(value, of_property));
            } else if let Some(of_others) = &rule.additional_properties {
                self.inside(Step::Other(name), |check| check.value(value, of_others));
            }
            if self.found.len() == MOST {
                return;
            }
        }
    }

    /// Where no rule fits, the mistakes are those of the first: `null` comes after the type that it replaces.
    fn any_of(&mut self, value: &'a Value, rules: &'a [Rule]) {
        let before = self.found.len();
        let mut of_first = None;
        for rule in rules {
            self.value(value, rule);
            if self.found.len() == before {
                return;
            }
            let its = self.found.split_off(before);
            of_first.get_or_insert(its);
        }
        self.found.extend(of_first.unwrap_or_default());
    }

    /// `$ref` of a schema of ours: a name of its `$defs`.
    fn definition(&self, reference: &str) -> Option<&'a Rule> {
        self.definitions.get(reference.strip_prefix(DEFINITIONS)?)
    }

    fn inside(&mut self, step: Step<'a>, check: impl FnOnce(&mut Self)) {
        self.path.push(step);
        check(self);
        self.path.pop();
    }

    fn mistake(&mut self, problem: impl AsRef<str>) {
        if self.found.len() < MOST {
            let mut mistake = Mistake::new(pointer(&self.path), problem);
            mistake.named_by_sender = self.path.iter().any(|step| matches!(step, Step::Other(_)));
            self.found.push(mistake);
        }
    }
}

/// A JSON pointer, of which at least the first [`LONGEST`] characters are right.
fn pointer(path: &[Step<'_>]) -> String {
    let mut pointer = String::new();
    for step in path {
        pointer.push('/');
        match step {
            Step::Item(index) => pointer.push_str(&index.to_string()),
            Step::Property(name) | Step::Other(name) => {
                for character in name.chars().take(LONGEST) {
                    match character {
                        '~' => pointer.push_str("~0"),
                        '/' => pointer.push_str("~1"),
                        other => pointer.push(other),
                    }
                }
            }
        }
    }
    pointer
}

impl Types {
    fn allow(&self, value: &Value) -> bool {
        match self {
            Self::Any => true,
            Self::One(one) => one.allows(value),
            Self::Several(several) => several.iter().any(|one| one.allows(value)),
        }
    }
}

impl Type {
    fn allows(self, value: &Value) -> bool {
        match self {
            Self::Array => value.is_array(),
            Self::Boolean => value.is_boolean(),
            Self::Integer => value.as_number().is_some_and(|number| whole(number).is_some()),
            Self::Null => value.is_null(),
            Self::Number => value.is_number(),
            Self::Object => value.is_object(),
            Self::String => value.is_string(),
        }
    }
}

/// `integer or null`
impl fmt::Display for Types {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let types = match self {
            Self::Any => &[],
            Self::One(one) => slice::from_ref(one),
            Self::Several(several) => several.as_slice(),
        };
        for (i, one) in types.iter().enumerate() {
            let or = if i == 0 { "" } else { " or " };
            write!(f, "{or}{}", format!("{one:?}").to_lowercase())?;
        }
        Ok(())
    }
}

/// [`Moment`] reads more than RFC 3339 has: a space before the time, a minus sign that is not ASCII, and a second 60 in
/// any minute. Readers of the record may not. A leap second is the last of a day in UTC, and [`Moment`] makes it the
/// first of the next day.
fn is_time(text: &str) -> bool {
    let separator = text.as_bytes().get(10);
    let leap_second = text.as_bytes().get(17..19) == Some(b"60");
    text.is_ascii()
        && matches!(separator, Some(b'T' | b't'))
        && Moment::parse_rfc3339(text)
            .is_some_and(|at| !leap_second || at.to_rfc3339().contains("T00:00:00"))
}

/// A number without a fraction, also one that is written as 2.0: JSON Schema counts it as an integer.
#[expect(
    clippy::cast_possible_truncation,
    reason = "`as` stops at the limits of i128, far beyond those of a schema"
)]
fn whole(number: &Number) -> Option<i128> {
    let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    whole
        .or_else(|| number.as_f64().filter(|float| float.fract() == 0.0).map(|float| float as i128))
}

/// Exact for whole numbers, of which a float has only the first 53 bits.
fn compare(a: &Number, b: &Number) -> Option<Ordering> {
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jsonschema::{ValidationError, error::ValidationErrorKind};
    use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
    use serde_json::json;

    use super::*;
    use crate::schema::{relaxed_event, relaxed_record};

    /// Values of all types, on both sides of the schemas' limits.
    fn strange() -> Vec<Value> {
        let values = json!([
            null, true, -1, 0, 1, 2.0, 1.5, -0.0, 1e300, u32::MAX, 4_294_967_296_u64, i64::MAX,
            9_223_372_036_854_775_808_u64, u64::MAX, i64::MIN, "", "inbound", "failed", "1",
            "x".repeat(128), "ü".repeat(128), "x".repeat(129), "2026-11-27T03:45:00.000Z",
            "2026-11-27T03:45:00", "2026-11-27 03:45:00Z", "2026-11-27T03:45:00\u{2212}05:00",
            "2026-11-27T03:45:60Z", "2026-12-31T23:59:60.5Z", "2026-12-31T18:59:60-05:00",
            "2026-02-30T03:45:00Z", "2026-11-27t03:45:00+14:00", [], {}, [null], {"a/b~c": 1},
        ]);
        serde_json::from_value(values).unwrap()
    }

    /// A value that fits a part of a schema, but for a strange one here and there.
    fn nearly(part: &Value, schema: &Value, random: &mut StdRng) -> Value {
        if let Some(name) = part["$ref"].as_str() {
            let definition = &schema["$defs"][name.strip_prefix(DEFINITIONS).unwrap()];
            return nearly(definition, schema, random);
        }
        if let Some(rules) = part["anyOf"].as_array() {
            return nearly(rules.choose(random).unwrap(), schema, random);
        }
        if random.random_ratio(1, 200) {
            return strange().choose(random).unwrap().clone();
        }
        match part["type"].as_str().or_else(|| part["type"][0].as_str()) {
            Some("object") => {
                let mut object = Map::new();
                for (name, part) in part["properties"].as_object().into_iter().flatten() {
                    if !random.random_ratio(1, 200) {
                        object.insert(name.clone(), nearly(part, schema, random));
                    }
                }
                let other = nearly(&part["additionalProperties"], schema, random);
                object.insert("other/~".into(), other);
                object.into()
            }
            Some("array") => {
                let length = random.random_range(0..3);
                (0..length).map(|_| nearly(&part["items"], schema, random)).collect()
            }
            Some("integer" | "number") => 1.into(),
            Some("boolean") => true.into(),
            Some("string") if part["format"] == "date-time" => "2026-11-27T03:45:00.000Z".into(),
            Some("string") => "text".into(),
            _ => part["enum"][0].clone(),
        }
    }

    /// For `anyOf` the library gives one mistake of the whole; in this form, those inside.
    fn null_or_else(part: &mut Value) {
        if let Value::Object(keywords) = part
            && let Some(rules) = keywords.remove("anyOf")
        {
            assert_eq!(rules[1], json!({"type": "null"}), "{rules}");
            keywords.insert("if".into(), rules[1].clone());
            keywords.insert("then".into(), true.into());
            keywords.insert("else".into(), rules[0].clone());
        }
        match part {
            Value::Object(parts) => parts.values_mut().for_each(null_or_else),
            Value::Array(parts) => parts.iter_mut().for_each(null_or_else),
            _ => {}
        }
    }

    fn path_of(mistake: &ValidationError<'_>) -> String {
        let whole = mistake.instance_path();
        match mistake.kind() {
            ValidationErrorKind::Required { property } => {
                format!("{whole}/{}", property.as_str().unwrap())
            }
            _ => whole.to_string(),
        }
    }

    #[test]
    fn what_is_wrong_is_what_the_library_finds_wrong() {
        let mut random = StdRng::seed_from_u64(1);
        for schema in [relaxed_record(), relaxed_event()] {
            let rule = Rule::deserialize(&schema).unwrap();
            let mut for_library = schema.clone();
            null_or_else(&mut for_library);
            let options = jsonschema::draft202012::options().should_validate_formats(true);
            let library = options.build(&for_library).unwrap();
            let (mut right, mut wrong) = (0, BTreeSet::new());
            for _ in 0..3000 {
                let value = nearly(&schema, &schema, &mut random);
                let mut ours: Vec<String> =
                    rule.mistakes(&value).into_iter().map(|m| m.path).collect();
                let mut theirs: Vec<String> =
                    library.iter_errors(&value).map(|mistake| path_of(&mistake)).collect();
                ours.sort();
                theirs.sort();
                assert_eq!(ours, theirs, "{value}");
                right += u32::from(ours.is_empty());
                wrong.extend(ours);
            }
            assert!(right > 1000 && wrong.len() > 20, "{right} right, {wrong:?}");
        }
    }

    /// As floats the two are the same.
    #[test]
    fn the_largest_number_of_a_database_is_the_last_that_is_taken() {
        let rule = Rule::deserialize(json!({"maximum": i64::MAX})).unwrap();
        assert_eq!(rule.mistakes(&json!(i64::MAX)), []);
        assert_eq!(rule.mistakes(&json!(i64::MAX.unsigned_abs() + 1)).len(), 1);
    }

    #[test]
    fn a_keyword_that_is_not_checked_makes_no_rule() {
        assert!(Rule::deserialize(json!({"type": "string", "maxLength": 1})).is_ok());
        for schema in [
            json!({"type": "string", "pattern": "^a"}),
            json!({"type": "string", "format": "uri"}),
            json!({"properties": {"a": {"oneOf": []}}}),
        ] {
            assert!(Rule::deserialize(&schema).is_err(), "{schema}");
        }
        let lost = Rule::deserialize(json!({"items": {"$ref": "#/$defs/Lost"}})).unwrap();
        assert_eq!(
            lost.mistakes(&json!([1])),
            [Mistake::new("/0", "is not defined in the schema")]
        );
    }
}
