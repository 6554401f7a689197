//! Services, nodes and what else stands between a client and a pod, in both families: policies judge pod addresses and
//! target ports, whichever way a packet came.

use std::net::IpAddr;

use anyhow::Context;
use selvage_e2e::{Backend, Cluster, Node};
use serde_json::{Value, json};

use crate::checks::{self, Check, by_family, host, pair};
use crate::pods::{self, AGNHOST, Namespaces, Pod};
use crate::probe::{From, Seen};
use crate::status;
use crate::table::Table;

const SERVERS: &str = "services-servers";
const CLIENTS: &str = "services-clients";
/// The Service's port, and the one that the pod listens on.
const PORT: u16 = 80;
const TARGET: u16 = 8080;
/// Where the pods on the host network listen.
const HOST_PORT: u16 = 18_080;
/// The client outside of the cluster, in both families, as the bed's underlay numbers it.
const OUTSIDE: [&str; 2] = ["172.31.250.1/32", "fd00:172:31:250::1/128"];

/// The scenario.
pub fn run(cluster: &Cluster) -> anyhow::Result<()> {
    let _namespaces = Namespaces::create(cluster, &[SERVERS, CLIENTS])?;
    let mut world = World::build(cluster)?;
    world.without_policies()?;
    world.ports_behind_a_service()?;
    world.deny_all()?;
    world.node_ports()?;
    world.host_network()?;
    world.egress_through_a_service()?;
    world.table.finish()
}

/// Two servers on node `a` behind one Service each, clients on `a` and `b`, pods on the host network of all.
struct World<'a> {
    cluster: &'a Cluster,
    table: Table,
    /// The nodes: the server's, the far client's, and another.
    a: Node,
    b: Node,
    c: Node,
    /// By family.
    pod: [IpAddr; 2],
    service: [IpAddr; 2],
    node_port: u16,
    /// How the far nodes' forwarded clients look on the server's node, by family.
    face_b: [String; 2],
    face_c: [String; 2],
}

impl<'a> World<'a> {
    fn build(cluster: &'a Cluster) -> anyhow::Result<Self> {
        let nodes: [Node; 3] = cluster
            .nodes()?
            .into_iter()
            .take(3)
            .collect::<Vec<_>>()
            .try_into()
            .map_err(|_| anyhow::anyhow!("this scenario needs three nodes"))?;
        let [a, b, c] = nodes;
        cluster.apply(SERVERS, &server(&a.name).to_string())?;
        for (name, kind) in [("web", "ClusterIP"), ("web-node", "NodePort")] {
            cluster.apply(SERVERS, &service(name, kind).to_string())?;
        }
        for (name, node) in [("host-a", &a.name), ("host-b", &b.name)] {
            cluster.apply(SERVERS, &host_pod(name, node).to_string())?;
        }
        pods::start(
            cluster,
            &[Pod::client(CLIENTS, "near", Some(&a.name)), Pod::client(CLIENTS, "far", Some(&b.name))],
        )?;
        for name in ["web", "host-a", "host-b"] {
            pods::wait_ready(cluster, SERVERS, name)?;
        }
        let service = cluster.kubectl_json(&["get", "service", "--namespace", SERVERS, "web"])?;
        let node_service = cluster.kubectl_json(&["get", "service", "--namespace", SERVERS, "web-node"])?;
        let node_port = node_service["spec"]["ports"][0]["nodePort"].as_u64().context("no node port")?;
        let clusters = service["spec"]["clusterIPs"].as_array().cloned().unwrap_or_default();
        Ok(Self {
            cluster,
            table: Table::start("Services and nodes"),
            pod: by_family(pods::addresses(cluster, SERVERS, "web")?)?,
            service: by_family(clusters.iter().filter_map(|ip| ip.as_str()?.parse().ok()).collect())?,
            node_port: u16::try_from(node_port)?,
            face_b: face(cluster, &b)?,
            face_c: face(cluster, &c)?,
            a,
            b,
            c,
        })
    }

    fn without_policies(&mut self) -> anyhow::Result<()> {
        let mut checks = Vec::new();
        for client in ["near", "far"] {
            checks.extend(self.by_client(client, "the Service", self.service, PORT, Seen::Answered));
        }
        for node in [self.a.clone(), self.b.clone()] {
            let to = by_family(node.addresses.clone())?;
            checks.extend(self.by_outsider(&node.name, to, Seen::Answered));
        }
        self.check("none", &checks)
    }

    /// The Service's port is nowhere on the way that policies look at.
    fn ports_behind_a_service(&mut self) -> anyhow::Result<()> {
        for (step, port, expected) in [("8080", TARGET, Seen::Answered), ("80", PORT, Seen::TimedOut)] {
            let rule = json!({ "ports": [{ "port": port }] });
            self.policy(SERVERS, json!({ "podSelector": {}, "ingress": [rule] }))?;
            let mut checks = Vec::new();
            for client in ["near", "far"] {
                checks.extend(self.by_client(client, "the Service", self.service, PORT, expected));
            }
            self.check(step, &checks)?;
        }
        Ok(())
    }

    fn deny_all(&mut self) -> anyhow::Result<()> {
        self.policy(SERVERS, json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] }))?;
        let mut checks = Vec::new();
        let itself = From::Pod(SERVERS, "web");
        checks.extend(pair(&itself, "web -> itself through the Service", self.service, PORT, Seen::Answered));
        checks.extend(self.by_client("far", "the Service", self.service, PORT, Seen::TimedOut));
        let (a, b) = (by_family(self.a.addresses.clone())?, by_family(self.b.addresses.clone())?);
        checks.extend(pair(&itself, "web -> its own node", a, HOST_PORT, Seen::TimedOut));
        checks.extend(pair(&itself, "web -> another node", b, HOST_PORT, Seen::TimedOut));
        let node = self.a.name.clone();
        let own = From::Node(&node);
        checks.extend(pair(&own, "the node -> its own pod web", self.pod, TARGET, Seen::Answered));
        let what = "host-a (host network) -> web on its node";
        checks.extend(pair(&From::Pod(SERVERS, "host-a"), what, self.pod, TARGET, Seen::Answered));
        // The policy selects every pod of their namespace, but they are their node.
        checks.extend(self.by_client("far", "host-a (host network)", a, HOST_PORT, Seen::Answered));
        checks.extend(self.by_client("far", "host-b (host network)", b, HOST_PORT, Seen::Answered));
        self.check("deny", &checks)?;
        // Under the policy from its first moment: without the kubelet's probes it would never be Ready.
        let mut probed = server(&self.a.name);
        probed["metadata"] = json!({ "name": "probed" });
        self.cluster.apply(SERVERS, &probed.to_string())?;
        let ready = pods::wait_ready(self.cluster, SERVERS, "probed");
        let seen = if ready.is_ok() { "Ready" } else { "not Ready" };
        self.table.row("deny", "a pod with a readiness probe, under the policy", "Ready", seen);
        Ok(())
    }

    /// On the node of the backend the client's own address is judged, elsewhere that of the node that took it.
    fn node_ports(&mut self) -> anyhow::Result<()> {
        let (a, b, c) = (
            by_family(self.a.addresses.clone())?,
            by_family(self.b.addresses.clone())?,
            by_family(self.c.addresses.clone())?,
        );
        let steps = [
            ("client", OUTSIDE.map(str::to_owned), [Seen::Answered, Seen::TimedOut, Seen::TimedOut]),
            ("node b", self.face_b.clone(), [Seen::TimedOut, Seen::Answered, Seen::TimedOut]),
            ("node c", self.face_c.clone(), [Seen::TimedOut, Seen::TimedOut, Seen::Answered]),
        ];
        for (step, allowed, [on_a, on_b, on_c]) in steps {
            self.policy(SERVERS, from_blocks(&allowed))?;
            let mut checks = self.by_outsider(&self.a.name, a, on_a);
            checks.extend(self.by_outsider(&self.b.name, b, on_b));
            // A pod's address ends at its own node on the way to another's.
            checks.extend(self.by_client("far", "c's node port", c, self.node_port, on_c));
            self.check(step, &checks)?;
        }
        Ok(())
    }

    /// Pods on the host network are met by addresses, never by selectors.
    fn host_network(&mut self) -> anyhow::Result<()> {
        self.policy(SERVERS, from_blocks(&self.face_b))?;
        let b = self.b.name.clone();
        let c = self.c.name.clone();
        let host_b = From::Pod(SERVERS, "host-b");
        let mut checks = Vec::from(pair(&host_b, "host-b -> web", self.pod, TARGET, Seen::Answered));
        checks.extend(pair(&From::Node(&c), "node c -> web", self.pod, TARGET, Seen::TimedOut));
        checks.extend(self.by_client("far", "web", self.pod, TARGET, Seen::TimedOut));
        self.check("host", &checks)?;

        let everybody = json!([{ "namespaceSelector": {} }]);
        self.policy(SERVERS, json!({ "podSelector": {}, "ingress": [{ "from": everybody }] }))?;
        let mut checks = Vec::from(pair(&host_b, "host-b -> web", self.pod, TARGET, Seen::TimedOut));
        checks.extend(pair(&From::Node(&b), "node b -> web", self.pod, TARGET, Seen::TimedOut));
        checks.extend(self.by_client("far", "web", self.pod, TARGET, Seen::Answered));
        checks.extend(self.by_client("near", "web", self.pod, TARGET, Seen::Answered));
        self.check("pods", &checks)?;
        self.cluster.kubectl_ok(&["delete", "networkpolicy", "--namespace", SERVERS, "judge"])?;
        status::gone(self.cluster, SERVERS, "judge")
    }

    fn egress_through_a_service(&mut self) -> anyhow::Result<()> {
        let services: Vec<Value> = self.service.iter().map(|address| block(&host(*address))).collect();
        let pods: Vec<Value> = self.pod.iter().map(|address| block(&host(*address))).collect();
        let steps = [
            ("to pod", json!({ "to": pods, "ports": [{ "port": TARGET }] }), Seen::Answered),
            ("to IP", json!({ "to": services, "ports": [{ "port": PORT }] }), Seen::TimedOut),
        ];
        for (step, rule, expected) in steps {
            self.policy(CLIENTS, json!({ "podSelector": {}, "policyTypes": ["Egress"], "egress": [rule] }))?;
            let mut checks = self.by_client("near", "the Service", self.service, PORT, expected);
            checks.extend(self.by_client("far", "the Service", self.service, PORT, expected));
            let own = by_family(self.a.addresses.clone())?;
            checks.extend(self.by_client("near", "its own node", own, HOST_PORT, Seen::TimedOut));
            self.check(step, &checks)?;
        }
        Ok(())
    }

    /// The namespace's one policy says this from now on.
    fn policy(&self, namespace: &str, spec: Value) -> anyhow::Result<()> {
        let policy = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": { "name": "judge" }, "spec": spec,
        });
        self.cluster.apply(namespace, &policy.to_string())?;
        status::programmed(self.cluster, namespace, "judge").map(drop)
    }

    fn by_client(
        &self,
        client: &'static str,
        target: &str,
        to: [IpAddr; 2],
        port: u16,
        expected: Seen,
    ) -> Vec<Check<'static>> {
        pair(&From::Pod(CLIENTS, client), &format!("{client} -> {target}"), to, port, expected).into()
    }

    fn by_outsider(&self, node: &str, to: [IpAddr; 2], expected: Seen) -> Vec<Check<'static>> {
        let what = format!("outside -> {node}'s node port");
        pair(&From::Outside, &what, to, self.node_port, expected).into()
    }

    fn check(&mut self, step: &str, checks: &[Check<'_>]) -> anyhow::Result<()> {
        checks::run(self.cluster, &mut self.table, step, checks)
    }
}

/// What a node's own packets to other nodes' pods carry: VXLAN's interface has the first address of the node's block.
fn face(cluster: &Cluster, node: &Node) -> anyhow::Result<[String; 2]> {
    let addresses = match cluster.require_bed()?.spec().backend {
        Backend::HostGw => by_family(node.addresses.clone())?,
        Backend::Vxlan => {
            let first = |cidr: &String| cidr.split_once('/').and_then(|(first, _)| first.parse().ok());
            by_family(node.pod_cidrs.iter().filter_map(first).collect())?
        }
    };
    Ok(addresses.map(host))
}

fn block(cidr: &str) -> Value {
    json!({ "ipBlock": { "cidr": cidr } })
}

fn from_blocks(cidrs: &[String; 2]) -> Value {
    let peers: Vec<Value> = cidrs.iter().map(|cidr| block(cidr)).collect();
    json!({ "podSelector": {}, "ingress": [{ "from": peers, "ports": [{ "port": TARGET }] }] })
}

fn server(node: &str) -> Value {
    let probe = json!({ "httpGet": { "path": "/hostname", "port": TARGET }, "periodSeconds": 1 });
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "web", "labels": { "app": "web" } },
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "nodeSelector": Pod::pinned(Some(node)),
            "containers": [{
                "name": "agnhost", "image": AGNHOST, "imagePullPolicy": "IfNotPresent",
                "args": ["netexec", format!("--http-port={TARGET}"), "--udp-port=-1"],
                "readinessProbe": probe,
            }],
        },
    })
}

fn host_pod(name: &str, node: &str) -> Value {
    let mut pod = server(node);
    pod["metadata"] = json!({ "name": name });
    pod["spec"]["hostNetwork"] = json!(true);
    let container = &mut pod["spec"]["containers"][0];
    container["args"] = json!(["netexec", format!("--http-port={HOST_PORT}"), "--udp-port=-1"]);
    container["readinessProbe"]["httpGet"]["port"] = json!(HOST_PORT);
    pod
}

fn service(name: &str, kind: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name },
        "spec": {
            "type": kind, "selector": { "app": "web" }, "ipFamilyPolicy": "RequireDualStack",
            "ports": [{ "port": PORT, "targetPort": TARGET, "protocol": "TCP" }],
        },
    })
}
