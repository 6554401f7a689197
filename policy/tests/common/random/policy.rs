//! Random selectors, peers, ports, rules and policies, of every form that the model has, broken parts included.

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use selvage_policy::compiled::{Action, End, Family, PortRange};
use selvage_policy::model::{
    Entity, Namespaces, Peer, PeerTerm, PodSet, Policy, PortTerm, Ports, Rule, SetSelection, given,
};
use selvage_policy::selector::{Selector, TextTest};

use super::{key, name, named_port, namespace_name, net, order, tier_name};

fn text_test() -> impl Strategy<Value = TextTest> {
    select(&[TextTest::Contains, TextTest::StartsWith, TextTest::EndsWith][..])
}

/// Trees as nobody would write them: not in canonical form.
pub fn selector() -> impl Strategy<Value = Selector> {
    let values = || btree_set(name(&["x", "y", "z"]), 0..3);
    let key = || name(&["app", "tier", "env"]);
    let leaf = prop_oneof![
        Just(Selector::All),
        key().prop_map(Selector::Has),
        (key(), values()).prop_map(|(key, values)| Selector::In(key, values)),
        (key(), values()).prop_map(|(key, values)| Selector::In(key, values)),
        (key(), values()).prop_map(|(key, values)| Selector::NotIn(key, values)),
        (key(), text_test(), name(&["x", "y", ""]))
            .prop_map(|(key, test, text)| Selector::Text(key, test, text)),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|inner| Selector::Not(Box::new(inner))),
            vec(inner.clone(), 0..3).prop_map(Selector::And),
            vec(inner, 0..3).prop_map(Selector::Or),
        ]
    })
}

/// Every given label, and the one that every namespace has.
fn given_of_pods() -> impl Strategy<Value = Selector> {
    prop_oneof![
        namespace_name().prop_map(|name| Selector::equals(given::NAMESPACE, name)),
        Just(Selector::equals(given::SERVICE_ACCOUNT, "s")),
        Just(Selector::equals(given::SERVICE_ACCOUNT, "s").negate()),
        Just(Selector::equals(given::ORCHESTRATOR, "k8s")),
    ]
}

fn namespaces() -> impl Strategy<Value = Namespaces> {
    let given = (select(&["kubernetes.io/metadata.name", given::NAME][..]), namespace_name())
        .prop_map(|(key, name)| Selector::equals(key, name));
    prop_oneof![
        3 => namespace_name().prop_map(Namespaces::Named),
        3 => selector().prop_map(Namespaces::Matching),
        1 => given.prop_map(Namespaces::Matching),
    ]
}

fn pod_set() -> impl Strategy<Value = PodSet> {
    let accounts = prop_oneof![
        4 => Just(Selector::All),
        1 => selector(),
        1 => name(&["default", "s"]).prop_map(|name| Selector::equals(given::NAME, name)),
    ];
    let pods = prop_oneof![4 => selector(), 1 => given_of_pods()];
    let any = (namespaces(), accounts, pods).prop_map(|(namespaces, accounts, pods)| PodSet {
        namespaces,
        accounts,
        pods,
    });
    // Often enough everybody, so that policies meet.
    prop_oneof![2 => any, 1 => Just(PodSet::all())]
}

fn set_selection() -> impl Strategy<Value = SetSelection> {
    let sets = prop_oneof![
        3 => selector(),
        2 => Just(Selector::All),
        1 => namespace_name().prop_map(|name| Selector::equals(given::NAMESPACE, name)),
    ];
    (option::of(namespaces()), sets).prop_map(|(namespaces, sets)| SetSelection { namespaces, sets })
}

fn peer() -> impl Strategy<Value = Peer> {
    let any_node = prop_oneof![1 => selector(), 1 => Just(Selector::All)];
    prop_oneof![
        6 => pod_set().prop_map(Peer::Pods),
        4 => (net(), vec(net(), 0..3)).prop_map(|(net, except)| Peer::Block { net, except }),
        6 => set_selection().prop_map(Peer::Sets),
        3 => key().prop_map(Peer::Backends),
        4 => any_node.prop_map(Peer::Nodes),
        4 => Just(Peer::Nothing),
    ]
}

fn entity() -> impl Strategy<Value = Entity> {
    let term = (any::<bool>(), vec(peer(), 0..3)).prop_map(|(negated, peers)| PeerTerm { negated, peers });
    prop_oneof![
        5 => Just(Entity::default()),
        4 => vec(peer(), 0..3).prop_map(Entity::any_of),
        2 => vec(term, 1..3).prop_map(|terms| Entity { terms }),
    ]
}

fn ports() -> impl Strategy<Value = Ports> {
    let protocol = || select(&[6u8, 17, 132][..]);
    prop_oneof![
        2 => select(&[1u8, 6, 6, 17, 47, 58, 132][..]).prop_map(Ports::Protocol),
        3 => (protocol(), 79u16..84, 0u16..3)
            .prop_map(|(protocol, first, more)| Ports::Range(protocol, PortRange { first, last: first + more })),
        2 => named_port().prop_map(Ports::Named),
        2 => (select(&[(1u8, 8u8), (58, 128)][..]), 0u8..2, option::of(0u8..2))
            .prop_map(|((protocol, echo), more, code)| Ports::Icmp(protocol, echo + more, code)),
        2 => key().prop_map(Ports::Backends),
        2 => Just(Ports::Nothing),
    ]
}

fn port_terms() -> impl Strategy<Value = Vec<PortTerm>> {
    let end = select(&[End::Source, End::Destination][..]);
    let term = (end, any::<bool>(), vec(ports(), 0..4)).prop_map(|(end, negated, ports)| PortTerm {
        end,
        negated,
        ports,
    });
    prop_oneof![
        4 => Just(Vec::new()),
        4 => vec(ports(), 1..4).prop_map(|ports| vec![PortTerm::any_of(ports)]),
        3 => vec(term, 1..4),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let actions = [Action::Allow, Action::Allow, Action::Deny, Action::Pass, Action::Log];
    let family = option::weighted(0.15, select(&[Family::V4, Family::V6][..]));
    (select(actions.to_vec()), family, port_terms(), entity(), entity()).prop_map(
        |(action, family, ports, source, destination)| Rule { action, family, ports, source, destination },
    )
}

pub fn policy() -> impl Strategy<Value = Policy> {
    let rules = || option::weighted(0.7, vec(rule(), 0..4));
    // The last is asked least.
    let tier = prop_oneof![4 => Just("default".into()), 3 => tier_name(), 1 => Just("second".into())];
    (0i64..3, tier, order(), pod_set(), rules(), rules()).prop_map(
        |(generation, tier, order, subject, ingress, egress)| Policy {
            uid: "uid".into(),
            generation,
            tier,
            order,
            subject,
            ingress,
            egress,
        },
    )
}
