//! A node as its agent has it: what the engine says, sent through the wire codec, rendered.

use std::collections::BTreeSet;

use selvage_crds::address_group::{AddressGroupSpec, Slice};
use selvage_crds::codec::{decode_node_policy, decode_slice, encode_node_policy, encode_slice};
use selvage_crds::node_policy::NodePolicySpec;
use selvage_nftables::render::{Groups, LocalFacts, Rendered, Settings, render};
use selvage_policy::compiled::{GroupId, NodePolicy};
use selvage_policy::engine::Engine;
use selvage_policy::slices::SlicedGroup;

/// The bridge that the pods are on.
pub const BRIDGE: &str = "cni0";

/// What was sent to the node's agent: None where there is no such node.
pub fn received(engine: &Engine, node: &str) -> Option<(NodePolicy, Groups)> {
    let published = engine.node(node)?;
    let spec = encode_node_policy(&published, Default::default(), false).unwrap();
    let spec: NodePolicySpec = over_the_wire(&spec);
    let policy = decode_node_policy(node, &spec).unwrap();
    assert_eq!(policy, *published, "the codec loses something");
    let groups = policy.groups.iter().map(|id| (*id, group(engine, *id).into())).collect();
    Some((policy, groups))
}

fn group(engine: &Engine, id: GroupId) -> BTreeSet<selvage_policy::compiled::Member> {
    let state = engine.group(id).unwrap();
    let cut = SlicedGroup::new(1, state.members.iter().copied());
    let count = cut.epoch().count;
    let slices = (0..count).map(|index| {
        let members = cut.slice(index).unwrap().clone();
        let slice = Slice { group: id, kind: state.kind, epoch: 1, index, count, members, owners: None };
        let spec: AddressGroupSpec = over_the_wire(&encode_slice(&slice, Default::default()).unwrap());
        decode_slice(&spec).unwrap().members
    });
    let members = slices.flatten().collect();
    assert_eq!(members, state.members, "the codec loses members");
    members
}

fn over_the_wire<T: serde::Serialize + serde::de::DeserializeOwned>(spec: &T) -> T {
    serde_json::from_slice(&serde_json::to_vec(spec).unwrap()).unwrap()
}

/// The ruleset for what was received, with the addresses that the API server knows. Everything must be understood.
pub fn rendered(policy: &NodePolicy, groups: &Groups) -> Rendered {
    let addresses = policy.endpoints.iter().map(|(key, endpoint)| {
        let addresses = endpoint.addresses.iter().copied().collect();
        (key.clone(), addresses)
    });
    let facts =
        LocalFacts { pod_interfaces: BTreeSet::from([BRIDGE.into()]), addresses: addresses.collect() };
    let rendered = render(policy, groups, &facts, &Settings::default());
    assert!(rendered.problems.is_empty(), "{:?}", rendered.problems);
    rendered
}
