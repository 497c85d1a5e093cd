//! OTLP as JSON: how Node's agents send their log records.

use serde_json::{Map, Value as Json, json};

/// Calls `with` for each record, with its resource and scope. What it returns false for is taken out of the batch.
pub(super) fn retain(batch: &mut Json, mut with: impl FnMut(&Json, &Json, &Json) -> bool) {
    for of_resource in each_mut(batch, "resourceLogs") {
        let resource = of_resource["resource"].clone();
        for of_scope in each_mut(of_resource, "scopeLogs") {
            let scope = of_scope["scope"].clone();
            if let Some(records) = of_scope.get_mut("logRecords").and_then(Json::as_array_mut) {
                records.retain(|record| with(&resource, &scope, record));
            }
        }
    }
}

fn each_mut<'a>(json: &'a mut Json, key: &str) -> impl Iterator<Item = &'a mut Json> {
    let all = json.get_mut(key).and_then(Json::as_array_mut).into_iter().flatten();
    // Indexing adds a missing key, and wants an object.
    all.filter(|json| json.is_object())
}

/// The text of an attribute.
pub(super) fn text<'a>(json: &'a Json, key: &str) -> Option<&'a str> {
    attribute(json, key)?["stringValue"].as_str()
}

pub(super) fn attribute<'a>(json: &'a Json, key: &str) -> Option<&'a Json> {
    let mut all = json["attributes"].as_array()?.iter();
    all.find(|pair| pair["key"] == key).map(|pair| &pair["value"])
}

/// A value without the names of its kinds. Node writes null as an empty text, and whole numbers as texts.
pub(super) fn plain(value: &Json) -> Json {
    let Some((kind, value)) = value.as_object().and_then(|all| all.iter().next()) else {
        return Json::Null;
    };
    match kind.as_str() {
        "stringValue" | "boolValue" | "doubleValue" => value.clone(),
        "intValue" => number(value).map_or(Json::Null, |n| json!(n)),
        "arrayValue" => {
            let all = value["values"].as_array().into_iter().flatten();
            Json::Array(all.map(plain).collect())
        }
        "kvlistValue" => {
            let all = value["values"].as_array().into_iter().flatten();
            let pair =
                |pair: &Json| Some((pair["key"].as_str()?.to_owned(), plain(&pair["value"])));
            Json::Object(all.filter_map(pair).collect::<Map<_, _>>())
        }
        _ => Json::Null,
    }
}

/// A whole number, which may be written as a text.
pub(super) fn number(value: &Json) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}
