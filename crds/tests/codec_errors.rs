//! Bad input is refused by name: the field, and what is wrong with it.

// What tests share may panic as they may: that is how a test fails.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod common;

use rstest::rstest;
use selvage_crds::address_group::Slice;
use selvage_crds::conditions::reason;
use selvage_crds::{Basis, codec};
use selvage_policy::compiled::{Action, AddressTerm, GroupId, GroupKind, NodePolicy, PolicyKey, TierStep};
use serde_json::{Value, json};

/// The error of a node policy with one value replaced.
fn error_with(pointer: &str, value: Value) -> codec::CodecError {
    let spec = codec::encode_node_policy(&common::everything(), Basis::new(), false).expect("canonical");
    let mut json = serde_json::to_value(spec).expect("JSON");
    *json.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} is not there")) = value;
    let spec = serde_json::from_value(json).expect("the form of a spec");
    codec::decode_node_policy("node-1", &spec).expect_err("nonsense")
}

#[rstest]
// Words without a meaning are errors, never skipped.
#[case("/policies/0/ingress/0/action", json!("Reject"), "spec.policies[0].ingress[0].action: unknown action \"Reject\"")]
#[case("/policies/0/ingress/0/action", json!("allow"), "spec.policies[0].ingress[0].action: unknown action \"allow\"")]
#[case("/policies/0/kind", json!("Policy"), "spec.policies[0].kind: unknown kind of policy \"Policy\"")]
#[case("/policies/0/egress/1/family", json!("IPv5"), "spec.policies[0].egress[1].family: unknown address family \"IPv5\"")]
#[case("/profiles/0/ingress/0/defaultAction", json!("Drop"), "spec.profiles[0].ingress[0].defaultAction: unknown action \"Drop\"")]
#[case("/profiles/0/ingress/0/defaultAction", json!("Allow"), "spec.profiles[0].ingress[0].defaultAction: must be Deny or Pass")]
#[case("/profiles/0/ingress/0/defaultAction", json!("Log"), "spec.profiles[0].ingress[0].defaultAction: must be Deny or Pass")]
#[case("/profiles/0/ingress/0/tier", json!(""), "spec.profiles[0].ingress[0].tier: the tier has no name")]
#[case("/format", json!(2), "spec.format: unknown format 2, format 1 is read")]
// References lead somewhere.
#[case("/profiles/0/ingress/0/policies/0", json!(2), "spec.profiles[0].ingress[0].policies[0]: unknown policy 2")]
#[case("/profiles/0/egress/0/policies/0", json!(4294967295u32), "spec.profiles[0].egress[0].policies[0]: unknown policy 4294967295")]
#[case("/endpoints/1/profile", json!("0000000000000009"), "spec.endpoints[1].profile: unknown profile 0000000000000009")]
#[case("/groups/1", json!("00000000000000000000000000000003"), "spec.policies[0].ingress[0].services[0][3].group.name: unknown group 00000000000000000000000000000002")]
#[case("/policies/0/egress/0/source/1/groups/0", json!("00000000000000000000000000000000"), "spec.policies[0].egress[0].source[1].groups[0]: unknown group 00000000000000000000000000000000")]
// Text is read exactly.
#[case("/endpoints/0/addresses/0", json!("010.244.1.2"), "spec.endpoints[0].addresses[0]: \"010.244.1.2\" is not an address")]
#[case("/endpoints/0/addresses/0", json!("::ffff:10.244.1.2"), "spec.endpoints[0].addresses[0]: \"::ffff:10.244.1.2\" is not an address")]
#[case("/endpoints/0/profile", json!("7"), "spec.endpoints[0].profile: \"7\" is not a profile's id of 16 hexadecimal digits")]
#[case("/policies/0/egress/0/source/0/nets/0", json!("10.0.0.0/33"), "spec.policies[0].egress[0].source[0].nets[0]: \"10.0.0.0/33\" is not a network")]
#[case("/policies/0/egress/0/source/0/nets/0", json!("10.0.0.1"), "spec.policies[0].egress[0].source[0].nets[0]: \"10.0.0.1\" is not a network")]
#[case("/policies/0/egress/0/source/0/nets/0", json!("10.0.0.1/8"), "spec.policies[0].egress[0].source[0].nets[0]: has host bits that are not zero")]
#[case("/policies/0/egress/0/services/0/0/protocol/sourcePorts/ranges/1", json!("8080-8000"), "spec.policies[0].egress[0].services[0][0].protocol.sourcePorts.ranges[1]: \"8080-8000\" is not a port or a range of ports")]
#[case("/policies/0/egress/0/services/0/0/protocol/sourcePorts/ranges/1", json!("+81"), "spec.policies[0].egress[0].services[0][0].protocol.sourcePorts.ranges[1]: \"+81\" is not a port or a range of ports")]
#[case("/policies/0/egress/0/services/0/0/protocol/sourcePorts/ranges/1", json!("65536"), "spec.policies[0].egress[0].services[0][0].protocol.sourcePorts.ranges[1]: \"65536\" is not a port or a range of ports")]
#[case("/groups/0", json!("G0000000000000000000000000000001"), "spec.groups[0]: \"G0000000000000000000000000000001\" is not a group's name of 32 hexadecimal digits")]
// Lists are in their order, without doubles.
#[case("/groups/0", json!("00000000000000000000000000000002"), "spec.groups[1]: out of order, or there twice")]
#[case("/endpoints/1/name", json!("web-1"), "spec.endpoints[1]: out of order, or there twice")]
#[case("/endpoints/0/addresses/1", json!("10.244.1.2"), "spec.endpoints[0].addresses[1]: out of order, or there twice")]
#[case("/profiles/1/id", json!("0000000000000007"), "spec.profiles[1]: out of order, or there twice")]
#[case("/profiles/0/namedPorts/0/ports/1", json!(80), "spec.profiles[0].namedPorts[0].ports[1]: out of order, or there twice")]
#[case("/policies/0/egress/0/source/0/nets/1", json!("10.1.0.0/16"), "spec.policies[0].egress[0].source[0].nets[1]: out of order, or there twice")]
#[case("/policies/0/egress/0/services/0/0/protocol/sourcePorts/ranges/1", json!("80-90"), "spec.policies[0].egress[0].services[0][0].protocol.sourcePorts.ranges[1]: out of order, or there twice")]
// What can be read may still have no meaning in its place.
#[case("/policies/0/egress/0/services/0/0/protocol/number", json!(1), "spec.policies[0].egress[0].services[0][0].protocol.number: has no ports: only 6 (TCP), 17 (UDP) and 132 (SCTP) do")]
#[case("/policies/0/egress/0/services/0/2/icmp/protocol", json!(6), "spec.policies[0].egress[0].services[0][2].icmp.protocol: must be 1 (ICMP) or 58 (ICMPv6)")]
#[case("/policies/0/egress/0/services/0/1", json!({}), "spec.policies[0].egress[0].services[0][1]: exactly one of protocol, notProtocol, icmp and group must be set")]
#[case("/policies/0/egress/0/services/0/1", json!({"notProtocol": 6, "protocol": {"number": 6}}), "spec.policies[0].egress[0].services[0][1]: exactly one of protocol, notProtocol, icmp and group must be set")]
#[case("/policies/0/egress/0/services/0/0/protocol/sourcePorts", json!({"names": [{"protocol": 6, "name": "http"}]}), "spec.policies[0].egress[0].services[0][0].protocol.sourcePorts.names: have a meaning for destination ports of ingress rules alone")]
fn a_node_policy_is_refused(#[case] pointer: &str, #[case] value: Value, #[case] expected: &str) {
    let error = error_with(pointer, value);
    assert_eq!(error.to_string(), expected);
    let unknown_format = pointer == "/format";
    assert_eq!(error.reason(), if unknown_format { reason::UNKNOWN_FORMAT } else { reason::UNREADABLE });
}

#[test]
fn a_change_that_makes_sense_is_still_no_change_of_ours() {
    let error = error_with("/policies/0/ingress/0/action", json!("Allow"));
    assert_eq!(error.path, "spec.digest");
    assert!(error.to_string().ends_with("a field was lost or changed on the way"), "{error}");
    assert_eq!(error_with("/policies/0/generation", json!(4)).path, "spec.policySet");
}

#[rstest]
#[case(0, "/kind", json!("Names"), "spec.kind: unknown kind \"Names\"")]
#[case(0, "/kind", json!("Ports"), "spec.members[0]: is an address in a group of ports")]
#[case(0, "/owners/members", json!("000000ab"), "spec.owners.members: must be eight hexadecimal digits or dashes for each member")]
#[case(0, "/owners/members", json!("000000AB--------"), "spec.owners.members: must be eight hexadecimal digits or dashes for each member")]
#[case(0, "/owners/former/0", json!("10.244.1.3"), "spec.owners.former[0]: \"10.244.1.3\" is not a member and the hash of its pod")]
#[case(0, "/owners/former/0", json!("10.244.1.2=000000cd"), "spec.owners.former[0]: is a member")]
#[case(0, "/owners/former/0", json!("10.244.1.3,6,80=000000cd"), "spec.owners.former[0]: is a port in a group of addresses")]
#[case(0, "/owners/heirs/0", json!("10.244.1.3"), "spec.owners.heirs[0]: is no member")]
#[case(1, "/kind", json!("Addresses"), "spec.members[0]: is a port in a group of addresses")]
#[case(0, "/format", json!(0), "spec.format: unknown format 0, format 1 is read")]
#[case(0, "/group", json!("1"), "spec.group: \"1\" is not a group's name of 32 hexadecimal digits")]
#[case(0, "/index", json!(3), "spec.index: must be below count")]
#[case(0, "/count", json!(0), "spec.index: must be below count")]
#[case(0, "/members/0", json!("fd00::/64"), "spec.members[1]: out of order, or there twice")]
#[case(0, "/members/1", json!("fd00::1/64"), "spec.members[1]: has host bits that are not zero")]
#[case(0, "/members/1", json!("::ffff:1.2.3.4"), "spec.members[1]: \"::ffff:1.2.3.4\" is not an address")]
#[case(1, "/members/0", json!("10.244.1.2,6"), "spec.members[0]: \"10.244.1.2,6\" is not a member")]
#[case(1, "/members/0", json!("10.244.1.2,6,80,90"), "spec.members[0]: \"10.244.1.2,6,80,90\" is not a member")]
#[case(1, "/members/0", json!("10.244.1.2,256,80"), "spec.members[0]: \"10.244.1.2,256,80\" is not address, protocol and port")]
#[case(1, "/members/0", json!("10.244.1.2,6,"), "spec.members[0]: \"10.244.1.2,6,\" is not address, protocol and port")]
#[case(1, "/members/0", json!("10.244.1,6,80"), "spec.members[0]: \"10.244.1\" is not an address")]
fn a_slice_is_refused(
    #[case] which: usize,
    #[case] pointer: &str,
    #[case] value: Value,
    #[case] expected: &str,
) {
    let spec = codec::encode_slice(&common::slices()[which], Basis::new()).expect("canonical");
    let mut json = serde_json::to_value(spec).expect("JSON");
    *json.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} is not there")) = value;
    let spec = serde_json::from_value(json).expect("the form of a spec");
    assert_eq!(codec::decode_slice(&spec).expect_err("nonsense").to_string(), expected);
}

/// What no agent would take is not published either.
#[rstest]
#[case::policy(
    |policy: &mut NodePolicy| policy.policies.clear(),
    "spec.profiles[0].ingress[0].policies[0]: unknown policy NetworkPolicy dev/web"
)]
#[case::group(
    |policy: &mut NodePolicy| policy.groups = [GroupId(1)].into(),
    "spec.policies[0].ingress[0].services[0][3].group.name: unknown group 00000000000000000000000000000002"
)]
#[case::profile(
    |policy: &mut NodePolicy| policy.profiles.clear(),
    "spec.endpoints[0].profile: unknown profile 0000000000000007"
)]
#[case::node(|policy: &mut NodePolicy| policy.node = "".into(), "spec: the node has no name")]
fn a_faulty_policy_is_not_encoded(#[case] fault: fn(&mut NodePolicy), #[case] expected: &str) {
    let mut policy = common::everything();
    fault(&mut policy);
    let error = codec::encode_node_policy(&policy, Basis::new(), false).expect_err("a fault");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn faulty_steps_and_terms_are_not_encoded() {
    let error = |change: &dyn Fn(&mut NodePolicy)| {
        let mut policy = common::everything();
        change(&mut policy);
        codec::encode_node_policy(&policy, Basis::new(), false).expect_err("a fault").to_string()
    };
    let steps = error(&|policy| {
        let profile = policy.profiles.values_mut().next().expect("a profile");
        let policies: Vec<PolicyKey> = policy.policies.keys().cloned().collect();
        profile.egress.push(TierStep { tier: "t".into(), default_action: Action::Allow, policies });
    });
    assert_eq!(steps, "spec.profiles[0].egress[1].defaultAction: must be Deny or Pass");
    let nets = error(&|policy| {
        let key = policy.policies.keys().next().cloned().expect("a policy");
        let mut changed = (*policy.policies[&key]).clone();
        let nets = ["10.0.0.0/8", "10.0.0.0/8"].map(|net| net.parse().expect("a network")).to_vec();
        changed.egress[1].source.push(AddressTerm { nets, ..AddressTerm::default() });
        policy.policies.insert(key, changed.into());
    });
    assert_eq!(nets, "spec.policies[0].egress[1].source[2].nets[1]: out of order, or there twice");
}

#[test]
fn a_faulty_slice_is_not_encoded() {
    let [addresses, _] = common::slices();
    let slice = Slice { kind: GroupKind::Ports, ..addresses };
    let error = codec::encode_slice(&slice, Basis::new()).expect_err("a fault");
    assert_eq!(error.to_string(), "spec.members[0]: is an address in a group of ports");
}
