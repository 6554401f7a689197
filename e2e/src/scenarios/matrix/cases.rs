//! The matrix' cases: policies, and in plain Rust what they mean.

use serde_json::{Value, json};

use super::flows::{Flow, Service};
use super::{Case, World};

const X: &str = "matrix-x";
const Y: &str = "matrix-y";

/// All cases.
pub fn all(world: &World) -> Vec<Case> {
    let mut cases = vec![Case { name: "no policy", policies: Vec::new(), passes: Box::new(|_| true) }];
    cases.extend(ingress_peers());
    cases.extend(ports());
    cases.extend(egress());
    cases.extend(blocks(world));
    cases
}

/// A policy whose peer two labels decide: the namespace's and the pod's; pods labelled `open` are not its subject.
pub fn allow_labelled() -> String {
    let peer = json!({
        "namespaceSelector": { "matchLabels": { "friends": "yes" } },
        "podSelector": { "matchLabels": { "friend": "yes" } },
    });
    let subject = json!({ "matchExpressions": [{ "key": "open", "operator": "DoesNotExist" }] });
    policy("labelled", json!({ "podSelector": subject, "ingress": [{ "from": [peer] }] }))
}

fn policy(name: &str, spec: Value) -> String {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": { "name": name }, "spec": spec,
    })
    .to_string()
}

/// One policy in X that selects all of its pods, for ingress.
fn ingress(name: &'static str, rules: Value, passes: fn(&Flow) -> bool) -> Case {
    let spec = json!({ "podSelector": {}, "policyTypes": ["Ingress"], "ingress": rules });
    let passes = move |flow: &Flow| flow.to.namespace != X || passes(flow);
    Case { name, policies: vec![(X, policy("ingress", spec))], passes: Box::new(passes) }
}

fn ingress_peers() -> Vec<Case> {
    let ns_y = json!({ "matchLabels": { "ns": "y" } });
    let pod_b = json!({ "matchLabels": { "pod": "b" } });
    let not_x = json!({ "matchExpressions": [{ "key": "ns", "operator": "NotIn", "values": ["x"] }] });
    let absent = json!({ "matchExpressions": [{ "key": "nobody", "operator": "DoesNotExist" }] });
    vec![
        ingress("ingress denied", json!([]), |_| false),
        ingress("ingress: any", json!([{}]), |_| true),
        ingress("from a namespace", json!([{ "from": [{ "namespaceSelector": ns_y }] }]), |f| {
            f.from.namespace == Y
        }),
        ingress("from pods of its own namespace", json!([{ "from": [{ "podSelector": pod_b }] }]), |f| {
            f.from.namespace == X && f.from.pod == "b"
        }),
        ingress(
            "from pods of a namespace (both must hold)",
            json!([{ "from": [{ "namespaceSelector": ns_y, "podSelector": pod_b }] }]),
            |f| f.from.namespace == Y && f.from.pod == "b",
        ),
        ingress(
            "from a namespace or own pods (one must hold)",
            json!([{ "from": [{ "namespaceSelector": ns_y }, { "podSelector": pod_b }] }]),
            |f| f.from.namespace == Y || (f.from.namespace == X && f.from.pod == "b"),
        ),
        ingress(
            "from all pods of all namespaces",
            json!([{ "from": [{ "namespaceSelector": {} }] }]),
            |_| true,
        ),
        ingress("from namespaces by NotIn", json!([{ "from": [{ "namespaceSelector": not_x }] }]), |f| {
            f.from.namespace != X
        }),
        ingress("from pods by DoesNotExist", json!([{ "from": [{ "podSelector": absent }] }]), |f| {
            f.from.namespace == X
        }),
        union(),
    ]
}

/// Two policies on one pod: what either allows.
fn union() -> Case {
    let subject = json!({ "matchLabels": { "pod": "a" } });
    let from = |ns: &str| json!([{ "from": [{ "namespaceSelector": { "matchLabels": { "ns": ns } } }] }]);
    let one = json!({ "podSelector": subject, "ingress": from("y") });
    let other = json!({ "podSelector": subject, "ingress": from("z") });
    Case {
        name: "two policies on one pod are a union",
        policies: vec![(X, policy("one", one)), (X, policy("other", other))],
        passes: Box::new(|f| f.to.namespace != X || f.to.pod != "a" || f.from.namespace != X),
    }
}

fn ports() -> Vec<Case> {
    vec![
        ingress("TCP port 80", json!([{ "ports": [{ "protocol": "TCP", "port": 80 }] }]), |f| {
            f.service == Service::Tcp80
        }),
        ingress("UDP, every port", json!([{ "ports": [{ "protocol": "UDP" }] }]), |f| {
            f.service == Service::Udp80
        }),
        ingress(
            "TCP ports 81 to 90",
            json!([{ "ports": [{ "protocol": "TCP", "port": 81, "endPort": 90 }] }]),
            |f| f.service == Service::Tcp81,
        ),
        ingress("a port by name", json!([{ "ports": [{ "protocol": "TCP", "port": "serve-81" }] }]), |f| {
            f.service == Service::Tcp81
        }),
        ingress(
            "a name of another protocol",
            json!([{ "ports": [{ "protocol": "UDP", "port": "serve-81" }] }]),
            |_| false,
        ),
    ]
}

/// One policy in X that selects its pods a, for egress.
fn egress_of_a(name: &'static str, rules: Value, passes: fn(&Flow) -> bool) -> Case {
    let subject = json!({ "matchLabels": { "pod": "a" } });
    let spec = json!({ "podSelector": subject, "policyTypes": ["Egress"], "egress": rules });
    let passes = move |flow: &Flow| flow.from.namespace != X || flow.from.pod != "a" || passes(flow);
    Case { name, policies: vec![(X, policy("egress", spec))], passes: Box::new(passes) }
}

fn egress() -> Vec<Case> {
    let to_y = json!({ "namespaceSelector": { "matchLabels": { "ns": "y" } } });
    vec![
        egress_of_a("egress denied", json!([]), |_| false),
        egress_of_a(
            "egress to a namespace's port 81",
            json!([{ "to": [to_y], "ports": [{ "port": 81 }] }]),
            |f| f.to.namespace == Y && f.service == Service::Tcp81,
        ),
        egress_of_a(
            "egress to a port by name, anywhere",
            json!([{ "ports": [{ "port": "serve-80" }] }]),
            |f| f.service == Service::Tcp80,
        ),
        egress_of_a(
            "egress to a port by name in a namespace",
            json!([{ "to": [to_y], "ports": [{ "protocol": "UDP", "port": "echo-80" }] }]),
            |f| f.to.namespace == Y && f.service == Service::Udp80,
        ),
        both_ways(),
    ]
}

/// Both ends must allow: egress at the source, ingress at the destination.
fn both_ways() -> Case {
    let to_y = json!([{ "to": [{ "namespaceSelector": { "matchLabels": { "ns": "y" } } }] }]);
    let spec = json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"], "egress": to_y });
    let from_x = json!([{
        "from": [{ "namespaceSelector": { "matchLabels": { "ns": "x" } } }],
        "ports": [{ "port": 80 }],
    }]);
    let other = json!({ "podSelector": {}, "ingress": from_x });
    Case {
        name: "egress at one end, ingress at the other",
        policies: vec![(X, policy("isolated", spec)), (Y, policy("from-x", other))],
        passes: Box::new(|f| {
            let out = f.from.namespace != X || f.to.namespace == Y;
            let in_x = f.to.namespace != X;
            let in_y = f.to.namespace != Y || (f.from.namespace == X && f.service == Service::Tcp80);
            out && in_x && in_y
        }),
    }
}

/// ipBlocks, in both families at once: the pool without the blocks of the node that every pod b is on.
fn blocks(world: &World) -> Vec<Case> {
    let kept_out = world.blocks_of("b");
    let peers: Vec<Value> = world
        .pools
        .iter()
        .map(|pool| {
            let except: Vec<_> =
                kept_out.iter().filter(|block| block.contains(':') == pool.contains(':')).collect();
            json!({ "ipBlock": { "cidr": pool, "except": except } })
        })
        .collect();
    let one_family = json!([{ "to": [{ "ipBlock": { "cidr": "0.0.0.0/0" } }] }]);
    let on_node_of_b: Vec<&str> =
        super::PODS.into_iter().filter(|pod| world.nodes.get(pod) == world.nodes.get("b")).collect();
    let spec = json!({ "podSelector": {}, "ingress": [{ "from": peers }] });
    vec![
        Case {
            name: "ipBlocks of both families, each with an except",
            policies: vec![(X, policy("blocks", spec))],
            passes: Box::new(move |f| f.to.namespace != X || !on_node_of_b.contains(&f.from.pod)),
        },
        egress_of_a("egress to every IPv4 address is no IPv6", one_family, |f| f.address.is_ipv4()),
    ]
}
