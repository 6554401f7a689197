//! What is published means the same to the one who reads it, or is not read at all.

// What tests share may panic as they may: that is how a test fails.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use selvage_crds::address_group::{AddressGroupSpec, Owner, Owners, Slice};
use selvage_crds::node_policy::NodePolicySpec;
use selvage_crds::{Basis, codec, digest};
use selvage_policy::compiled::{Member, NodePolicy};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn basis() -> Basis {
    Basis::from([("Pod".to_owned(), "1234".to_owned()), ("NetworkPolicy".to_owned(), "99".to_owned())])
}

fn through_json<T: Serialize + DeserializeOwned>(value: &T) -> T {
    serde_json::from_str(&serde_json::to_string(value).expect("JSON")).expect("what was written")
}

proptest! {
    #[test]
    fn a_node_policy_comes_back(policy in common::node_policy(), teardown: bool) {
        let spec = through_json(&codec::encode_node_policy(&policy, basis(), teardown).expect("canonical"));
        let back = codec::decode_node_policy(&policy.node, &spec).expect("what was encoded");
        prop_assert_eq!(digest::node_policy(&back), &*spec.digest);
        prop_assert_eq!(digest::policy_set(&back), &*spec.policy_set);
        prop_assert_eq!(back, policy);
        prop_assert_eq!((spec.teardown, spec.basis), (teardown, basis()));
    }

    #[test]
    fn a_slice_comes_back(slice in common::slice()) {
        let spec = through_json(&codec::encode_slice(&slice, basis()).expect("canonical"));
        prop_assert_eq!(&codec::decode_slice(&spec).expect("what was encoded"), &slice);
        prop_assert_eq!(digest::slice(&slice), spec.digest);
    }

}

proptest! {
    // Each case tries every field of a policy.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_field_can_be_lost_from_a_random_policy(policy in common::node_policy()) {
        let spec = codec::encode_node_policy(&policy, basis(), false).expect("canonical");
        every_loss_is_seen(&spec, |spec| codec::decode_node_policy(&policy.node, spec).is_err());
    }

    #[test]
    fn text_that_is_anything_makes_an_error_and_no_panic(policy in common::node_policy(), text in ".{0,20}") {
        let spec = codec::encode_node_policy(&policy, basis(), false).expect("canonical");
        let json = serde_json::to_value(&spec).expect("JSON");
        for path in leaves(&json) {
            let mut changed = json.clone();
            *changed.pointer_mut(&path).expect("a leaf") = Value::String(text.clone());
            if let Ok(spec) = serde_json::from_value::<NodePolicySpec>(changed) {
                // Equal only where the text is what stood there.
                let decoded = codec::decode_node_policy(&policy.node, &spec);
                prop_assert!(decoded.is_err() || decoded.as_ref() == Ok(&policy), "{} took {:?}", path, text);
            }
        }
    }
}

#[test]
fn no_field_can_be_lost_or_changed() {
    let policy = common::everything();
    let spec = codec::encode_node_policy(&policy, basis(), false).expect("canonical");
    let refused = |spec: &NodePolicySpec| codec::decode_node_policy("node-1", spec).is_err();
    assert!(every_loss_is_seen(&spec, refused) > 100);
    assert!(every_change_is_seen(&spec, &["/teardown"], refused) > 100);
    for slice in common::slices() {
        let spec = codec::encode_slice(&slice, basis()).expect("canonical");
        let refused = |spec: &AddressGroupSpec| codec::decode_slice(spec).is_err();
        // Without all of its owners it is what an operator of before them wrote.
        let less = |spec: &AddressGroupSpec| spec.owners.is_none() || refused(spec);
        assert!(every_loss_is_seen(&spec, less) >= 13);
        assert!(every_change_is_seen(&spec, &[], refused) >= 13);
    }
}

#[test]
fn an_agent_of_before_owners_reads_a_slice_that_has_them() {
    for slice in common::slices() {
        let mut json =
            serde_json::to_value(codec::encode_slice(&slice, basis()).expect("canonical")).expect("JSON");
        let owners = json.as_object_mut().and_then(|spec| spec.remove("owners"));
        assert!(owners.is_some());
        let spec = serde_json::from_value(json).expect("the form of a spec");
        assert_eq!(codec::decode_slice(&spec), Ok(Slice { owners: None, ..slice }));
    }
}

#[test]
fn a_slice_of_250_pods_is_small() {
    let pods =
        |net: fn(u32) -> IpAddr| (0..250).map(net).map(|address| Member::Net(address.into())).collect();
    let families: [fn(u32) -> IpAddr; 2] = [
        |pod| Ipv4Addr::from_bits(0x0af4_c800 + pod).into(),
        |pod| Ipv6Addr::from_bits(0xfd00_0010_0244_00c8_0000_0000_0000_0000 + u128::from(pod)).into(),
    ];
    let sizes = families.map(|family| {
        let members: BTreeSet<Member> = pods(family);
        let owners = members.iter().map(|member| (*member, Owner::of(&format!("{member:?}"))));
        let owners = Owners { members: owners.collect(), ..Owners::default() };
        let [slice, _] = common::slices();
        let with = Slice { members, owners: Some(owners), ..slice };
        let without = Slice { owners: None, ..with.clone() };
        [without, with].map(|slice| {
            codec::size(&codec::encode_slice(&slice, basis()).expect("canonical")).expect("a size")
        })
    });
    for [without, with] in sizes {
        assert!(with < without + 2_100 && with < 8_000, "{without} -> {with} bytes");
    }
}

#[test]
fn an_object_under_another_nodes_name_is_refused() {
    let spec = codec::encode_node_policy(&common::everything(), basis(), false).expect("canonical");
    let error = codec::decode_node_policy("node-2", &spec).expect_err("another node");
    assert_eq!(error.path, "spec.digest");
}

#[test]
fn digests_stay_as_they_are() {
    // An operator and an agent of different versions compare them: with another value, FORMAT must be another too.
    let policy = common::everything();
    let [addresses, ports] = common::slices();
    let digests = [
        digest::node_policy(&NodePolicy::default()),
        digest::node_policy(&policy),
        digest::policy_set(&policy),
        digest::slice(&addresses),
        digest::slice(&ports),
        digest::owners(&addresses).expect("owners"),
        digest::owners(&ports).expect("owners"),
    ];
    let expected = [
        "d452e7cbe83d3124dd2e5bcef1b86615",
        "ec7382775669712410d5b9adc03fbfad",
        "be9f35d626be3e61",
        "0555444bf74ce9ac351ec5997b34115b",
        "8537b1763cd1a62dcc7575624c77fba7",
        "5adb5ba972caab8009c2b905ce59a54c",
        "5f6cc4cf9548cd0983d52aed53636e9b",
    ];
    assert_eq!(digests, expected);
}

#[test]
fn the_size_is_that_of_the_json() {
    let spec = codec::encode_node_policy(&common::everything(), basis(), false).expect("canonical");
    let json = serde_json::to_string(&spec).expect("JSON");
    assert_eq!(codec::size(&spec).expect("a size"), json.len());
}

/// Removes each field of each object in turn; returns how many there were.
fn every_loss_is_seen<T: Serialize + DeserializeOwned>(spec: &T, refused: impl Fn(&T) -> bool) -> usize {
    let json = serde_json::to_value(spec).expect("JSON");
    let fields = fields(&json);
    for (parent, name) in &fields {
        let mut pruned = json.clone();
        let object = pruned.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object");
        object.remove(name);
        let seen = serde_json::from_value::<T>(pruned).map_or(true, |spec| refused(&spec));
        assert!(seen, "{parent}/{name} was lost, and nobody noticed");
    }
    fields.len()
}

/// Changes each value in turn but those at `free`; returns how many there were.
fn every_change_is_seen<T: Serialize + DeserializeOwned>(
    spec: &T,
    free: &[&str],
    refused: impl Fn(&T) -> bool,
) -> usize {
    let json = serde_json::to_value(spec).expect("JSON");
    let leaves = leaves(&json);
    for path in &leaves {
        if free.contains(&path.as_str()) {
            continue;
        }
        let mut changed = json.clone();
        let leaf = changed.pointer_mut(path).expect("a leaf");
        *leaf = match leaf {
            Value::Bool(value) => Value::Bool(!*value),
            Value::Number(value) => Value::from(value.as_u64().expect("a natural number") ^ 1),
            Value::String(value) => Value::String(another(value)),
            _ => continue,
        };
        let seen = serde_json::from_value::<T>(changed).map_or(true, |spec| refused(&spec));
        assert!(seen, "{path} was changed, and nobody noticed");
    }
    leaves.len()
}

/// Another text of the same form: with its last digit or letter replaced.
fn another(text: &str) -> String {
    let Some(last) = text.chars().last() else { return "x".to_owned() };
    let other = match last {
        '0'..='8' | 'a'..='e' => char::from_u32(u32::from(last) + 1).expect("a character"),
        '9' => '1',
        _ => 'a',
    };
    text.chars().take(text.chars().count() - 1).chain([other]).collect()
}

/// Whether a value only names a rule to people: nothing is enforced by it, and the digest leaves it out.
fn names_a_rule(path: &str) -> bool {
    path.starts_with("/policies/") && path.ends_with("/index")
}

/// Every field of every object, but what is inside the basis, where no schema can prune and by which nothing is enforced,
/// and what names a rule.
fn fields(json: &Value) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    walk(json, "", &mut |path, value| {
        if path == "/basis" {
            return;
        }
        for name in value.as_object().into_iter().flat_map(|object| object.keys()) {
            if !names_a_rule(&format!("{path}/{name}")) {
                fields.push((path.to_owned(), name.clone()));
            }
        }
    });
    fields
}

/// The JSON pointer of every value that is neither list nor object, but the same exceptions.
fn leaves(json: &Value) -> Vec<String> {
    let mut leaves = Vec::new();
    walk(json, "", &mut |path, value| {
        if !value.is_object() && !value.is_array() && !path.starts_with("/basis/") && !names_a_rule(path) {
            leaves.push(path.to_owned());
        }
    });
    leaves
}

fn walk(value: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, value);
    match value {
        Value::Object(object) => {
            object.iter().for_each(|(name, value)| walk(value, &format!("{path}/{name}"), visit));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, value)| walk(value, &format!("{path}/{n}"), visit));
        }
        _ => {}
    }
}
