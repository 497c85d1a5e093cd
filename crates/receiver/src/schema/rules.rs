//! The part of JSON Schema that this product's schemas use, and the check of a value against it.
//!
//! Why no library: the one that can stop at the first hundred mistakes (`jsonschema`) takes a tenth of the release's
//! build, most of it for keywords that no schema here has. Others collect all mistakes first, and a body of 16 MB can
//! have millions. The tests compare what is found here with what that library finds.

use std::{cmp::Ordering, collections::BTreeMap, fmt, slice};

use record::Moment;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Number, Value};

use super::{MOST, Mistake};

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
    // For people.
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
    /// The size of a number in memory. The bounds of the schema say the same.
    #[serde(rename = "double", alias = "uint32", alias = "uint64")]
    OfNumber,
}

/// Where a `$ref` points to, in a schema of ours.
pub(super) const DEFINITIONS: &str = "#/$defs/";

impl Rule {
    /// Up to [`MOST`] mistakes of a value.
    pub(super) fn mistakes(&self, value: &Value) -> Vec<Mistake> {
        let mut check =
            Check { definitions: &self.definitions, path: String::new(), found: vec![] };
        check.value(value, self);
        check.found
    }
}

/// One value that is being checked.
struct Check<'a> {
    definitions: &'a BTreeMap<String, Rule>,
    /// JSON pointer of the part that is looked at.
    path: String,
    found: Vec<Mistake>,
}

impl<'a> Check<'a> {
    fn value(&mut self, value: &Value, rule: &Rule) {
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

    fn items(&mut self, items: &[Value], rule: &Rule) {
        let Some(of_items) = &rule.items else { return };
        for (index, item) in items.iter().enumerate() {
            self.inside(&index.to_string(), |check| check.value(item, of_items));
            if self.found.len() == MOST {
                return;
            }
        }
    }

    fn properties(&mut self, properties: &Map<String, Value>, rule: &Rule) {
        for name in &rule.required {
            if !properties.contains_key(name) {
                self.inside(name, |check| check.mistake("is missing"));
            }
        }
        for (name, value) in properties {
            let of_others = rule.additional_properties.as_deref();
            if let Some(of_property) = rule.properties.get(name).or(of_others) {
                self.inside(name, |check| check.value(value, of_property));
            }
            if self.found.len() == MOST {
                return;
            }
        }
    }

    /// Where no rule fits, the mistakes are those of the first: `null` comes after the type that it replaces.
    fn any_of(&mut self, value: &Value, rules: &[Rule]) {
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

    fn inside(&mut self, name: &str, check: impl FnOnce(&mut Self)) {
        let outside = self.path.len();
        self.path.push('/');
        // As JSON pointers write names.
        self.path.push_str(&name.replace('~', "~0").replace('/', "~1"));
        check(self);
        self.path.truncate(outside);
    }

    fn mistake(&mut self, problem: impl AsRef<str>) {
        if self.found.len() < MOST {
            self.found.push(Mistake::new(&self.path, problem));
        }
    }
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

/// [`Moment`] also reads a space between date and time, which JSON Schema does not.
fn is_time(text: &str) -> bool {
    matches!(text.as_bytes().get(10), Some(b'T' | b't')) && Moment::parse_rfc3339(text).is_some()
}

/// The value of a number without a fraction: for JSON Schema 2.0 is an integer, too.
#[expect(clippy::cast_possible_truncation, reason = "beyond all limits it stays beyond them")]
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
            "2026-11-27T03:45:00", "2026-11-27 03:45:00Z", "2026-02-30T03:45:00Z", "2026-11-27t03:45:00+14:00", [], {},
            [null], {"a/b~c": 1},
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
        if random.random_ratio(1, 20) {
            return strange().choose(random).unwrap().clone();
        }
        match part["type"].as_str().or_else(|| part["type"][0].as_str()) {
            Some("object") => {
                let mut object = Map::new();
                for (name, part) in part["properties"].as_object().into_iter().flatten() {
                    if random.random_ratio(9, 10) {
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

    /// The library gives the path of the whole where a property is missing, and where no rule of several fits.
    #[test]
    fn what_is_wrong_is_what_the_library_finds_wrong() {
        let mut random = StdRng::seed_from_u64(1);
        for schema in [relaxed_record(), relaxed_event()] {
            let options = jsonschema::draft202012::options().should_validate_formats(true);
            let library = options.build(&schema).unwrap();
            let rule = Rule::deserialize(&schema).unwrap();
            let mut right = 0;
            for _ in 0..1000 {
                let value = nearly(&schema, &schema, &mut random);
                let theirs: Vec<String> =
                    library.iter_errors(&value).map(|e| e.instance_path().to_string()).collect();
                let ours: Vec<String> = rule.mistakes(&value).into_iter().map(|m| m.path).collect();
                for path in &ours {
                    let known = theirs.iter().any(|whole| path.starts_with(whole.as_str()));
                    assert!(known, "only here: {path}, {theirs:?}, {value}");
                }
                for whole in &theirs {
                    let known = ours.iter().any(|path| path.starts_with(whole.as_str()));
                    assert!(known, "only there: {whole}, {ours:?}, {value}");
                }
                right += u32::from(ours.is_empty());
            }
            assert!((10..990).contains(&right), "{right} of 1000 are right");
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
