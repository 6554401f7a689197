//! What the API server is told of our kinds.

// What tests share may panic as they may: that is how a test fails.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use rstest::rstest;
use selvage_crds::{IPPoolSpec, schema};
use serde_json::{Value, json};

fn definitions() -> Vec<(String, Value)> {
    let json = |definition: &CustomResourceDefinition| serde_json::to_value(definition).expect("JSON");
    schema::all().iter().map(|definition| (definition.spec.names.plural.clone(), json(definition))).collect()
}

#[test]
fn every_kind_is_there_once_with_its_short_names() {
    let names: Vec<String> = definitions()
        .iter()
        .map(|(plural, json)| {
            let names = &json["spec"]["names"];
            let scope = &json["spec"]["scope"];
            format!("{plural} {} {} {scope}", names["kind"], names["shortNames"])
        })
        .collect();
    assert_eq!(
        names,
        [
            r#"addressgroups "AddressGroup" ["ag"] "Namespaced""#,
            r#"globalnetworkpolicies "GlobalNetworkPolicy" ["gnp"] "Cluster""#,
            r#"globalnetworksets "GlobalNetworkSet" ["gns"] "Cluster""#,
            r#"ippools "IPPool" ["ippool"] "Cluster""#,
            r#"networkpolicystatuses "NetworkPolicyStatus" ["netpolstatus","nps"] "Namespaced""#,
            r#"networksets "NetworkSet" ["netset"] "Namespaced""#,
            r#"nodepolicies "NodePolicy" ["nodepol"] "Namespaced""#,
            r#"selvagenetworkpolicies "SelvageNetworkPolicy" ["snp"] "Namespaced""#,
            r#"tiers "Tier" null "Cluster""#,
        ]
    );
}

/// Walks every schema in a definition, by its path.
fn each_schema(value: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, value);
    for (name, property) in value["properties"].as_object().into_iter().flatten() {
        each_schema(property, &format!("{path}.{name}"), visit);
    }
    for inner in ["items", "additionalProperties"] {
        if value[inner].is_object() {
            each_schema(&value[inner], &format!("{path}[]"), visit);
        }
    }
}

fn each_schema_of_all(mut visit: impl FnMut(&str, &Value)) {
    for (plural, json) in definitions() {
        for version in json["spec"]["versions"].as_array().expect("versions") {
            each_schema(&version["schema"]["openAPIV3Schema"], &plural, &mut visit);
        }
    }
}

#[test]
fn schemas_are_structural_bounded_and_atomic() {
    let mut seen = 0;
    each_schema_of_all(|path, schema| {
        seen += 1;
        let of_two_types = schema["x-kubernetes-int-or-string"] == true;
        assert!(schema["type"].is_string() != of_two_types, "{path} has no type");
        assert!(schema["description"].is_string() || path.ends_with("[]"), "{path} has no description");
        for combinator in ["anyOf", "oneOf", "allOf", "not"] {
            assert!(schema[combinator].is_null(), "{path} has {combinator}");
        }
        if schema["type"] == "array" {
            assert_eq!(schema["x-kubernetes-list-type"], "atomic", "{path}");
            assert!(schema["maxItems"].is_number(), "{path} has no end");
        }
        // The formats that the API server knows; it warns of others.
        let format = schema["format"].as_str();
        assert!(
            format.is_none_or(|format| ["int32", "int64", "date-time"].contains(&format)),
            "{path}: {format:?}"
        );
    });
    assert!(seen > 400, "{seen} schemas");
}

#[test]
fn columns_lead_to_fields() {
    for (plural, json) in definitions() {
        let version = &json["spec"]["versions"][0];
        let columns = version["additionalPrinterColumns"].as_array().expect("columns");
        assert_eq!(columns.last().map(|column| &column["name"]), Some(&json!("Age")), "{plural}");
        for column in columns {
            let path = column["jsonPath"].as_str().expect("a path");
            let filter = path.find("[?").map(|start| start..path.find(']').expect("an end") + 1);
            let plain =
                filter.map_or_else(|| path.to_owned(), |filter| path.replace(&path[filter], ".items"));
            if plain.starts_with(".metadata.") {
                continue;
            }
            let mut schema = &version["schema"]["openAPIV3Schema"];
            for step in plain.split('.').skip(1) {
                schema = if step == "items" { &schema["items"] } else { &schema["properties"][step] };
            }
            assert!(schema["type"].is_string(), "{plural}: column {} leads nowhere: {path}", column["name"]);
        }
    }
}

#[rstest]
#[case("10.244.0.0/16", true)]
#[case("fd00:10:244::/56", true)]
#[case("10.244.0.1/16", false)]
#[case("fd00:10:244::1/56", false)]
#[case("FD00::/56", false)]
#[case("fd00:0::/56", false)]
#[case("10.244.0.0", false)]
#[case("10.244.0.0/33", false)]
fn a_pools_network_must_be_canonical(#[case] cidr: &str, #[case] taken: bool) {
    let spec = json!({ "cidr": cidr, "natOutgoing": true });
    assert_eq!(IPPoolSpec::validate_cel(&spec, None).is_ok(), taken, "{cidr}");
}

#[test]
fn a_pools_network_stays() {
    let (old, new) = (json!({ "cidr": "10.244.0.0/16" }), json!({ "cidr": "10.245.0.0/16" }));
    let errors = IPPoolSpec::validate_cel(&new, Some(&old)).expect_err("a change");
    assert!(errors.to_string().contains("can't be changed"), "{errors}");
    assert!(IPPoolSpec::validate_cel(&old, Some(&old)).is_ok());
}
