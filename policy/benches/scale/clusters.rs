//! The clusters: objects one after another, by number.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use selvage_policy::compiled::{Action, PolicyKey, PolicyKind, PortRange};
use selvage_policy::model::{
    Change, Entity, Key, Namespace, Namespaces, NetworkSet, Node, Order, Peer, PodSet, Policy, PortTerm,
    Ports, Rule, SetSelection,
};
use selvage_policy::selector::Selector;

use crate::common::{global_policy, labels, namespace, pod, text};

/// Many small namespaces: four pods each, on four nodes, and three policies.
#[derive(Clone, Copy)]
pub struct Tenants {
    pub namespaces: u32,
    pub nodes: u32,
}

/// Every policy selects every pod and lets in every pod.
#[derive(Clone, Copy)]
pub struct OneNamespace {
    pub pods: u32,
    pub policies: u32,
    pub nodes: u32,
}

/// Namespaces of one pod that let in nobody else's.
#[derive(Clone, Copy)]
pub struct Isolated {
    pub namespaces: u32,
    pub nodes: u32,
}

/// Policies of one set each, on endpoints of one node that every policy selects.
#[derive(Clone, Copy)]
pub struct NetworkSets {
    pub sets: u32,
    pub endpoints: u32,
}

const PODS_A_NAMESPACE: u32 = 4;
const TEAMS: u32 = 500;
const NETS_A_SET: u32 = 10;
/// Pods of one namespace that is relabelled are this far from the others.
const LARGE: u32 = 1_000_000;

impl Tenants {
    pub fn objects(self) -> impl Iterator<Item = Change> {
        let namespaces = (0..self.namespaces).map(move |number| self.namespace(number, number % TEAMS));
        let policies = (0..self.namespaces).flat_map(move |number| {
            let [web, api] = [self.web(number, 8080), self.api(number)];
            [deny_all(number), web, api]
        });
        let pods = (0..self.namespaces * PODS_A_NAMESPACE).map(move |number| self.pod(number, 0));
        nodes(self.nodes).chain(namespaces).chain(policies).chain(pods)
    }

    fn namespace(self, number: u32, team: u32) -> Change {
        let labels = labels(&[("team", &text("team", team)), ("stage", "production")]);
        Change::Namespace(namespace(number), Some(Namespace { labels }))
    }

    /// Apps of a namespace are numbered from 0; `turn` gives it another.
    fn pod(self, number: u32, turn: u32) -> Change {
        let node = number / (self.namespaces * PODS_A_NAMESPACE / self.nodes);
        pod(self.namespaces, node, number, (number / self.namespaces + turn) % 3)
    }

    /// App 0 lets in app 1, and sends to a block.
    fn web(self, number: u32, port: u16) -> Change {
        let home = namespace(number);
        let block = Ipv4Net::new_assert(Ipv4Addr::from((172 << 24) + (number << 4)), 28);
        let block = Peer::Block { net: block.into(), except: Vec::new() };
        let from = Entity::any_of(vec![Peer::Pods(in_namespace(&home, app(1)))]);
        let ingress = rule(from, Entity::default(), port);
        let egress = rule(Entity::default(), Entity::any_of(vec![block]), 443);
        policy(number, "web", in_namespace(&home, app(0)), vec![ingress], Some(vec![egress]))
    }

    /// App 1 lets in app 2 of the team's namespaces.
    fn api(self, number: u32) -> Change {
        let namespaces = Namespaces::Matching(Selector::equals("team", text("team", number % TEAMS)));
        let from = PodSet { namespaces, accounts: Selector::All, pods: app(2) };
        let ingress = rule(Entity::any_of(vec![Peer::Pods(from)]), Entity::default(), 9090);
        policy(number, "api", in_namespace(&namespace(number), app(1)), vec![ingress], None)
    }

    pub fn relabelled_pod(self, turn: u32) -> Change {
        self.pod(self.namespaces / 3, turn)
    }

    pub fn edited_policy(self, turn: u32) -> Change {
        self.web(self.namespaces / 2, if turn % 2 == 1 { 8081 } else { 8080 })
    }

    /// The namespace goes to another team, or comes back.
    pub fn relabelled_namespace(self, turn: u32) -> Change {
        let number = self.namespaces / 4;
        self.namespace(number, (number + turn % 2) % TEAMS)
    }

    /// A namespace of that many pods, spread over the nodes.
    pub fn large_namespace(self, pods: u32) -> impl Iterator<Item = Change> {
        let of = move |number| {
            let node = number % self.nodes;
            let Change::Pod(mut key, pod) = pod(1, node, LARGE * pods + number, number % 3) else {
                unreachable!("a pod is a pod")
            };
            key.namespace = namespace(LARGE + pods);
            Change::Pod(key, pod)
        };
        (0..pods).map(of).chain([self.relabelled_large(pods, 0)])
    }

    pub fn relabelled_large(self, pods: u32, turn: u32) -> Change {
        self.namespace(LARGE + pods, turn % 2)
    }
}

impl OneNamespace {
    pub fn objects(self) -> impl Iterator<Item = Change> {
        let policies = (0..self.policies).map(move |number| self.policy(number));
        let pods = (0..self.pods).map(move |number| pod(1, number % self.nodes, number, 0));
        nodes(self.nodes).chain(policies).chain(pods)
    }

    fn policy(self, number: u32) -> Change {
        let home = namespace(0);
        let from = Entity::any_of(vec![Peer::Pods(in_namespace(&home, app(0)))]);
        let ingress = rule(from, Entity::default(), 8080);
        let name = text("allow", number);
        policy(0, &name, in_namespace(&home, app(0)), vec![ingress], None)
    }
}

impl Isolated {
    pub fn objects(self) -> impl Iterator<Item = Change> {
        let namespaces = (0..self.namespaces)
            .map(|number| Change::Namespace(namespace(number), Some(Namespace::default())));
        let policies = (0..self.namespaces).map(|number| {
            let own = in_namespace(&namespace(number), Selector::All);
            let peers = || Entity::any_of(vec![Peer::Pods(own.clone())]);
            let ingress = Rule { ports: Vec::new(), ..rule(peers(), Entity::default(), 0) };
            let egress = Rule { ports: Vec::new(), ..rule(Entity::default(), peers(), 0) };
            policy(number, "isolate", own.clone(), vec![ingress], Some(vec![egress]))
        });
        let pods = (0..self.namespaces)
            .map(move |number| pod(self.namespaces, number / (self.namespaces / self.nodes), number, 0));
        nodes(self.nodes).chain(namespaces).chain(policies).chain(pods)
    }
}

impl NetworkSets {
    pub fn objects(self) -> impl Iterator<Item = Change> {
        let sets = (0..self.sets).map(|number| {
            let nets = (number * NETS_A_SET..(number + 1) * NETS_A_SET).map(net).collect();
            let labels = labels(&[("set", &text("set", number)), ("kind", "benchmark")]);
            let key = Key { namespace: "".into(), name: text("set", number) };
            Change::NetworkSet(key, Some(NetworkSet { labels, nets }))
        });
        let policies = (0..self.sets).map(|number| {
            let sets = SetSelection { namespaces: None, sets: Selector::equals("set", text("set", number)) };
            let (key, policy) = global_policy(number, PodSet::all(), vec![Peer::Sets(sets)]);
            Change::Policy(key, Some(policy))
        });
        let pods = (0..self.endpoints).map(|number| pod(10, 0, number, number % 20));
        sets.chain(policies).chain(pods)
    }
}

fn net(number: u32) -> IpNet {
    Ipv4Net::new_assert(Ipv4Addr::from((11 << 24) + (number << 4)), 28).into()
}

fn nodes(count: u32) -> impl Iterator<Item = Change> {
    (0..count).map(|number| Change::Node(text("node", number), Some(Node::default())))
}

fn app(number: u32) -> Selector {
    Selector::equals("app", text("app", number))
}

fn in_namespace(name: &std::sync::Arc<str>, pods: Selector) -> PodSet {
    PodSet { namespaces: Namespaces::Named(name.clone()), accounts: Selector::All, pods }
}

fn rule(source: Entity, destination: Entity, port: u16) -> Rule {
    let ports = vec![PortTerm::any_of(vec![Ports::Range(6, PortRange { first: port, last: port })])];
    Rule { action: Action::Allow, family: None, ports, source, destination }
}

fn deny_all(number: u32) -> Change {
    policy(number, "deny", in_namespace(&namespace(number), Selector::All), Vec::new(), None)
}

/// A NetworkPolicy of a namespace by number.
fn policy(home: u32, name: &str, subject: PodSet, ingress: Vec<Rule>, egress: Option<Vec<Rule>>) -> Change {
    let home = namespace(home);
    let policy = Policy {
        uid: format!("11111111-0000-0000-{home}-{name}").into(),
        generation: 1,
        tier: "default".into(),
        order: Order::new(1_000.0),
        subject,
        ingress: Some(ingress),
        egress,
    };
    let key = PolicyKey { kind: PolicyKind::NetworkPolicy, namespace: home, name: name.into() };
    Change::Policy(key, Some(policy))
}
