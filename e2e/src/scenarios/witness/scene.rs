//! The pods and policies that the witness' traffic runs between.

use selvage_e2e::Cluster;
use serde_json::{Value, json};

use super::flow::{Flow, Kind};
use crate::pods::{self, Namespaces, Pod};
use crate::status;

/// Friends may reach `server`, and nothing else: both ends are asked. Nobody but friends may reach `server`. `open` lets
/// everybody in, so that what is denied there is denied by the sender's node alone.
const PODS: [(&str, &str, bool); 6] = [
    ("server", "server", false),
    ("open", "open", false),
    ("friend-near", "friend", false),
    ("stranger-near", "stranger", false),
    ("friend-far", "friend", true),
    ("stranger-far", "stranger", true),
];
const ALLOWED: [(&str, &str); 2] = [("friend-near", "server"), ("friend-far", "server")];
const DENIED: [(&str, &str); 4] = [
    ("stranger-near", "server"),
    ("stranger-far", "server"),
    ("friend-near", "open"),
    ("friend-far", "open"),
];
const ALLOWED_KINDS: [Kind; 5] = [Kind::Talk, Kind::NewTcp, Kind::Udp, Kind::NewUdp, Kind::Ping];
const DENIED_KINDS: [Kind; 3] = [Kind::NewTcp, Kind::Udp, Kind::Ping];

/// How long policies may take to stand again after a fault, in seconds.
const SLOW: u64 = 120;

/// Pods on two nodes, and what they may do.
pub struct Scene<'a> {
    /// Where.
    pub cluster: &'a Cluster,
    /// Their namespace, removed when the scene is dropped.
    pub space: &'static str,
    /// The node of `server`, and of those that are near it.
    pub near: String,
    /// The node of those that are far.
    pub far: String,
    _namespaces: Namespaces<'a>,
}

impl<'a> Scene<'a> {
    /// Makes the pods and policies in a namespace of that name, and waits until they stand.
    pub fn build(cluster: &'a Cluster, space: &'static str, near: &str, far: &str) -> anyhow::Result<Self> {
        let namespaces = Namespaces::create(cluster, &[space])?;
        let scene =
            Self { cluster, space, near: near.to_owned(), far: far.to_owned(), _namespaces: namespaces };
        for (name, role, is_far) in &PODS {
            let node = if *is_far { far } else { near };
            let labels = json!({ "pod": name, "role": role });
            let pod = Pod { labels, ..Pod::client(space, name, Some(node)) };
            cluster.apply(space, &pod.manifest().to_string())?;
        }
        for policy in policies() {
            cluster.apply(space, &policy.to_string())?;
        }
        scene.wait_ready()?;
        Ok(scene)
    }

    /// Waits until all pods are Ready and the policies Programmed.
    pub fn wait_ready(&self) -> anyhow::Result<()> {
        for (name, ..) in PODS {
            pods::wait_ready(self.cluster, self.space, name)?;
        }
        for policy in ["server", "friends"] {
            status::programmed_within(self.cluster, self.space, policy, SLOW)?;
        }
        Ok(())
    }
}

fn policies() -> [Value; 2] {
    let policy = |name: &str, spec: Value| {
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": { "name": name }, "spec": spec,
        })
    };
    let (server, friends) =
        (json!({ "matchLabels": { "pod": "server" } }), json!({ "matchLabels": { "role": "friend" } }));
    [
        policy(
            "server",
            json!({ "podSelector": server, "policyTypes": ["Ingress"], "ingress": [{ "from": [{ "podSelector": friends }] }] }),
        ),
        policy(
            "friends",
            json!({ "podSelector": friends, "policyTypes": ["Egress"], "egress": [{ "to": [{ "podSelector": server }] }] }),
        ),
    ]
}

/// Every flow between the pods, in both families.
pub fn flows() -> Vec<Flow> {
    let is_far = |pod: &str| PODS.iter().any(|(name, _, far)| *name == pod && *far);
    let mut flows = Vec::new();
    let both = [(&ALLOWED[..], &ALLOWED_KINDS[..], true), (&DENIED[..], &DENIED_KINDS[..], false)];
    for (pairs, kinds, allowed) in both {
        for (from, to) in pairs.iter().copied() {
            for kind in kinds.iter().copied() {
                for ipv6 in [false, true] {
                    flows.push(Flow { from, to, kind, ipv6, allowed, across: is_far(from) != is_far(to) });
                }
            }
        }
    }
    flows
}

/// The names of all pods, and whether it is a server.
pub fn pods_and_servers() -> impl Iterator<Item = (&'static str, bool)> {
    PODS.iter().map(|(name, role, _)| (*name, matches!(*role, "server" | "open")))
}
