//! The API server takes whatever is encoded, and prunes nothing of it: a naive reading of the schemas, as it does.

// What tests share may panic as they may: that is how a test fails.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod common;

use proptest::prelude::*;
use regex::Regex;
use selvage_crds::{Basis, codec, schema};
use serde_json::Value;

/// The schema of a kind's spec.
fn spec_schema(plural: &str) -> Value {
    let definition = schema::all().into_iter().find(|definition| definition.spec.names.plural == plural);
    let json = serde_json::to_value(definition.expect("a kind")).expect("JSON");
    json["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn node_policies_are_taken_whole(policy in common::node_policy()) {
        let spec = codec::encode_node_policy(&policy, Basis::from([("Pod".into(), "1".into())]), true);
        let json = serde_json::to_value(spec.expect("canonical")).expect("JSON");
        prop_assert_eq!(complaints(&spec_schema("nodepolicies"), &json), Vec::<String>::new());
    }

    #[test]
    fn slices_are_taken_whole(slice in common::slice()) {
        let json = serde_json::to_value(codec::encode_slice(&slice, Basis::new()).expect("canonical"));
        prop_assert_eq!(complaints(&spec_schema("addressgroups"), &json.expect("JSON")), Vec::<String>::new());
    }
}

#[test]
fn every_kind_of_value_is_taken_whole() {
    let spec = codec::encode_node_policy(&common::everything(), Basis::new(), false).expect("canonical");
    let json = serde_json::to_value(spec).expect("JSON");
    assert_eq!(complaints(&spec_schema("nodepolicies"), &json), Vec::<String>::new());
    for slice in common::slices() {
        let json = serde_json::to_value(codec::encode_slice(&slice, Basis::new()).expect("canonical"));
        assert_eq!(complaints(&spec_schema("addressgroups"), &json.expect("JSON")), Vec::<String>::new());
    }
}

/// This reading does complain.
#[test]
fn what_is_wrong_is_found() {
    let spec = codec::encode_node_policy(&common::everything(), Basis::new(), false).expect("canonical");
    let mut json = serde_json::to_value(spec).expect("JSON");
    json["digest"] = "x".into();
    json["format"] = (-1).into();
    json["endpoints"][0]["unknown"] = true.into();
    json["endpoints"][0]["name"] = "".into();
    json["profiles"][0]["ingress"][0]["defaultAction"] = "Allow".into();
    json["policies"][0].as_object_mut().expect("a policy").remove("uid");
    assert_eq!(
        complaints(&spec_schema("nodepolicies"), &json),
        [
            "/digest: pattern",
            "/endpoints/0/name: length",
            "/endpoints/0/unknown: pruned",
            "/format: bounds",
            "/policies/0/uid: required",
            "/profiles/0/ingress/0/defaultAction: enum",
        ]
    );
}

fn complaints(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    validate(schema, value, "", &mut found);
    found.sort();
    found
}

fn validate(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let mut complain = |right: bool, what: &str| {
        if !right {
            found.push(format!("{path}: {what}"));
        }
    };
    let kind = schema["type"].as_str();
    let at_most = |name: &str, size: u64| schema[name].as_u64().is_none_or(|most| size <= most);
    let at_least = |name: &str, size: u64| schema[name].as_u64().is_none_or(|least| size >= least);
    match value {
        Value::Bool(_) => complain(kind == Some("boolean"), "type"),
        Value::Number(number) => {
            complain(kind == Some("integer"), "type");
            let number = number.as_f64().expect("a number");
            let low = schema["minimum"].as_f64().is_none_or(|least| number >= least);
            complain(low && schema["maximum"].as_f64().is_none_or(|most| number <= most), "bounds");
        }
        Value::String(text) => {
            complain(kind == Some("string"), "type");
            let pattern = schema["pattern"].as_str().map(|pattern| Regex::new(pattern).expect("a pattern"));
            complain(pattern.is_none_or(|pattern| pattern.is_match(text)), "pattern");
            let length = text.chars().count() as u64;
            complain(at_most("maxLength", length) && at_least("minLength", length), "length");
            complain(schema["enum"].as_array().is_none_or(|words| words.contains(value)), "enum");
        }
        Value::Array(items) => {
            complain(kind == Some("array"), "type");
            complain(at_most("maxItems", items.len() as u64), "length");
            for (index, item) in items.iter().enumerate() {
                validate(&schema["items"], item, &format!("{path}/{index}"), found);
            }
        }
        Value::Object(fields) => {
            complain(kind == Some("object"), "type");
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            for name in required.filter(|name| !fields.contains_key(*name)) {
                found.push(format!("{path}/{name}: required"));
            }
            for (name, field) in fields {
                let path = format!("{path}/{name}");
                let inner = [&schema["properties"][name], &schema["additionalProperties"]];
                match inner.into_iter().find(|inner| inner.is_object()) {
                    Some(inner) => validate(inner, field, &path, found),
                    None => found.push(format!("{path}: pruned")),
                }
            }
        }
        Value::Null => complain(schema["nullable"] == true, "type"),
    }
}
