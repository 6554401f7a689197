//! What groups hold that is no pod, who runs as which service account, and what pools make of nodes.
#![allow(clippy::unwrap_used, reason = "clippy does not know helpers of tests for tests")]

mod common;

use std::collections::BTreeSet;

use common::build::*;
use ipnet::IpNet;
use selvage_policy::compiled::Action::{Allow, Deny, Log, Pass};
use selvage_policy::compiled::{Action, Masquerade, Member};
use selvage_policy::engine::{Delta, GroupDelta, SetStatus};
use selvage_policy::model::{
    Backends, Change, Key, Namespaces, NetworkSet, Node, Peer, PodSet, Policy, Pool, Ports, ServiceAccount,
    SetSelection, given,
};
use selvage_policy::selector::Selector;
use selvage_policy::slices::SlicedGroup;

fn key(text: &str) -> Key {
    let (namespace, name) = text.split_once('/').unwrap_or(("", text));
    Key { namespace: namespace.into(), name: name.into() }
}

fn nets(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|net| net.parse().unwrap()).collect()
}

fn set(pairs: &[(&str, &str)], list: &[&str]) -> NetworkSet {
    NetworkSet { labels: labels(pairs), nets: nets(list) }
}

fn members(list: &[&str]) -> Vec<Member> {
    nets(list).into_iter().map(Member::Net).collect()
}

fn put(cluster: &mut Cluster, name: &str, set: NetworkSet) -> Delta {
    cluster.apply(Change::NetworkSet(key(name), Some(set)))
}

fn remove(cluster: &mut Cluster, name: &str) -> Delta {
    cluster.apply(Change::NetworkSet(key(name), None))
}

fn sets(namespaces: Option<Namespaces>, sets: Selector) -> Peer {
    Peer::Sets(SetSelection { namespaces, sets })
}

/// All pods take what comes from these.
fn from(peers: impl IntoIterator<Item = Peer>) -> Policy {
    policy(all_pods()).ingress([rule(Allow).from(peers)])
}

/// The only group that changed.
fn group(delta: &Delta) -> &GroupDelta {
    assert_eq!(delta.groups.len(), 1, "{delta:#?}");
    delta.groups.values().next().unwrap()
}

/// Members of the only group.
fn all(cluster: &Cluster) -> Vec<Member> {
    let groups = cluster.engine.groups();
    assert_eq!(groups.len(), 1);
    groups.iter().flat_map(|id| cluster.engine.group(*id).unwrap().members).collect()
}

fn changed(delta: &Delta) -> Vec<String> {
    delta.sets.iter().map(|key| format!("{}/{}", key.namespace, key.name)).collect()
}

#[test]
fn one_network_of_sixty_thousand_is_one_member_and_two_slices_at_most() {
    let mut cluster = Cluster::small();
    let mut large = NetworkSet::default();
    let net =
        |number: u32| IpNet::new(std::net::Ipv4Addr::from(0x1000_0000 + number * 64).into(), 26).unwrap();
    large.nets = (0..60_000).map(net).collect();
    put(&mut cluster, "large", large.clone());
    cluster.policy("p", from([sets(None, Selector::All)]));
    let mut slices = SlicedGroup::new(1, all(&cluster));
    let (before, after) = (net(30_000), net(70_000));
    large.nets[30_000] = after;
    let delta = put(&mut cluster, "large", large.clone());
    assert!(delta.nodes.is_empty() && delta.policies.is_empty());
    let change = group(&delta);
    assert_eq!(
        (&change.added[..], &change.removed[..]),
        (&[Member::Net(after)][..], &[Member::Net(before)][..])
    );
    let written = slices.change(&change.added, &change.removed);
    assert!(written.changed.len() <= 2 && written.retired.is_none(), "{written:?}");
    // Another order of the same networks is nothing new, nor is one that comes twice.
    large.nets.reverse();
    large.nets.push(after);
    assert_eq!(put(&mut cluster, "large", large), Delta::default());
}

#[test]
fn a_network_that_two_sets_have_stays_until_neither_has_it() {
    let mut cluster = Cluster::small();
    put(&mut cluster, "a", set(&[("x", "1")], &["1.0.0.0/8", "2.2.2.2/32"]));
    put(&mut cluster, "b", set(&[("x", "1")], &["1.0.0.0/8", "fd00:9::/64"]));
    cluster.policy("p", from([sets(None, Selector::equals("x", "1"))]));
    assert_eq!(all(&cluster), members(&["1.0.0.0/8", "2.2.2.2/32", "fd00:9::/64"]));
    assert!(cluster.allows("1.2.3.4", "shop/web", TCP, 80));
    let delta = remove(&mut cluster, "a");
    assert_eq!(group(&delta).removed, members(&["2.2.2.2/32"]));
    assert!(cluster.allows("1.2.3.4", "shop/web", TCP, 80));
    let delta = remove(&mut cluster, "b");
    assert_eq!(group(&delta).removed, members(&["1.0.0.0/8", "fd00:9::/64"]));
    assert!(!cluster.allows("1.2.3.4", "shop/web", TCP, 80));
}

#[test]
fn networks_of_a_set_are_masked_and_may_overlap() {
    let mut cluster = Cluster::small();
    put(&mut cluster, "a", set(&[], &["1.2.3.4/8", "1.5.0.0/16"]));
    cluster.policy("p", from([sets(None, Selector::All)]));
    assert_eq!(all(&cluster), members(&["1.0.0.0/8", "1.5.0.0/16"]));
    assert_eq!(cluster.engine.set_status(&key("a")).unwrap().members, 2);
}

#[rstest::rstest]
#[case::global(None, Selector::All, &["1.0.0.1/32"])]
#[case::one_namespace(Some(Namespaces::Named("shop".into())), Selector::All, &["1.0.0.2/32"])]
#[case::namespaces_by_label(Some(Namespaces::Matching(Selector::equals("team", "red"))), Selector::All, &["1.0.0.3/32"])]
#[case::every_namespace(Some(Namespaces::Matching(Selector::All)), Selector::All, &["1.0.0.2/32", "1.0.0.3/32"])]
#[case::by_label(Some(Namespaces::Matching(Selector::All)), Selector::equals("zone", "b"), &["1.0.0.3/32"])]
#[case::label_is_there(None, Selector::exists("zone"), &["1.0.0.1/32"])]
#[case::label_is_absent(None, Selector::absent("zone"), &[])]
#[case::given_namespace(Some(Namespaces::Matching(Selector::All)), Selector::equals(given::NAMESPACE, "bank"), &["1.0.0.3/32"])]
#[case::no_namespace_is_given_to_global_ones(None, Selector::exists(given::NAMESPACE), &[])]
fn sets_are_chosen_by_namespace_and_label(
    #[case] namespaces: Option<Namespaces>,
    #[case] selector: Selector,
    #[case] expected: &[&str],
) {
    let choose = || from([sets(namespaces.clone(), selector.clone())]);
    let zones = [("global", "a"), ("shop/set", "a"), ("bank/set", "b")];
    let mut before = Cluster::small();
    before.policy("p", choose());
    let mut after = Cluster::small();
    for (number, (name, zone)) in (1..).zip(zones) {
        for cluster in [&mut before, &mut after] {
            put(cluster, name, set(&[("zone", zone)], &[&format!("1.0.0.{number}/32")]));
        }
    }
    after.policy("p", choose());
    assert_eq!(all(&before), members(expected));
    assert_eq!(all(&after), members(expected));
}

#[test]
fn labels_of_a_set_and_of_its_namespace_change_membership_at_once() {
    let mut cluster = Cluster::small();
    let red = Some(Namespaces::Matching(Selector::equals("team", "red")));
    cluster.policy("p", from([sets(red, Selector::equals("zone", "a"))]));
    let member = members(&["1.0.0.0/24"]);
    put(&mut cluster, "bank/set", set(&[("zone", "b")], &["1.0.0.0/24"]));
    let delta = put(&mut cluster, "bank/set", set(&[("zone", "a")], &["1.0.0.0/24"]));
    assert_eq!(group(&delta).added, member);
    let delta = cluster.namespace("bank", &[("team", "blue")]);
    assert_eq!(group(&delta).removed, member);
    let delta = cluster.namespace("bank", &[("team", "red")]);
    assert_eq!(group(&delta).added, member);
}

#[test]
fn a_sets_status_names_its_members_and_the_policies_that_use_it() {
    let mut cluster = Cluster::small();
    let delta = put(&mut cluster, "shop/set", set(&[("zone", "a")], &["1.0.0.0/24", "1.0.0.0/24"]));
    assert_eq!(changed(&delta), ["shop/set"]);
    let status = |cluster: &Cluster| cluster.engine.set_status(&key("shop/set"));
    assert_eq!(status(&cluster), Some(SetStatus { members: 1, policies: vec![] }));
    let shop = |zone| sets(Some(Namespaces::Named("shop".into())), Selector::equals("zone", zone));
    for (name, zone) in [("q", "a"), ("p", "a"), ("other", "b")] {
        let delta = cluster.policy(name, from([shop(zone)]));
        assert_eq!(changed(&delta), if zone == "a" { vec!["shop/set"] } else { vec![] }, "{name}");
    }
    let users = vec![policy_key("p"), policy_key("q")];
    assert_eq!(status(&cluster), Some(SetStatus { members: 1, policies: users }));
    let delta = cluster.apply(Change::Policy(policy_key("p"), None));
    assert_eq!(changed(&delta), ["shop/set"]);
    assert_eq!(status(&cluster).unwrap().policies, [policy_key("q")]);
    let delta = remove(&mut cluster, "shop/set");
    assert_eq!(changed(&delta), ["shop/set"]);
    assert_eq!(status(&cluster), None);
}

#[test]
fn a_set_is_used_where_it_is_forbidden_too() {
    let mut cluster = Cluster::small();
    put(&mut cluster, "bad", set(&[], &["10.0.2.0/24"]));
    let mut but = rule(Allow);
    but.source.terms =
        vec![selvage_policy::model::PeerTerm { negated: true, peers: vec![sets(None, Selector::All)] }];
    cluster.policy("p", policy(all_pods()).ingress([but]));
    assert!(!cluster.allows("bank/web", "shop/web", TCP, 80));
    assert!(cluster.allows("8.8.8.8", "shop/web", TCP, 80));
    // Without the set none of it is forbidden.
    remove(&mut cluster, "bad");
    assert!(cluster.allows("bank/web", "shop/web", TCP, 80));
}

fn backends(list: &[&str], ports: &[(u8, u16)]) -> Backends {
    Backends {
        service: "api".into(),
        addresses: addresses(list),
        ports: ports.iter().copied().collect(),
        whole: BTreeSet::new(),
    }
}

#[test]
fn a_services_backends_are_those_of_all_its_slices() {
    let mut cluster = Cluster::small();
    cluster.policy("p", from([Peer::Backends(key("shop/api"))]));
    let slice = |name: &str, backends| Change::Backends(key(name), backends);
    let delta = cluster.apply(slice("shop/one", Some(backends(&["10.0.2.2", "9.9.9.9"], &[(TCP, 80)]))));
    assert_eq!(group(&delta).added, members(&["9.9.9.9/32", "10.0.2.2/32"]));
    // The same Service name elsewhere is another Service.
    assert_eq!(cluster.apply(slice("bank/one", Some(backends(&["7.7.7.7"], &[])))), Delta::default());
    let delta = cluster.apply(slice("shop/two", Some(backends(&["10.0.2.2", "fd00:2::2"], &[]))));
    assert_eq!(group(&delta).added, members(&["fd00:2::2/128"]));
    let delta = cluster.apply(slice("shop/one", None));
    assert_eq!(group(&delta).removed, members(&["9.9.9.9/32"]));
    assert!(cluster.allows("bank/web", "shop/web", TCP, 80));
    assert!(!cluster.allows("9.9.9.9", "shop/web", TCP, 80));
}

#[test]
fn a_services_ports_go_with_its_addresses() {
    let mut cluster = Cluster::small();
    let to = rule(Allow).ports([Ports::Backends(key("bank/api"))]);
    cluster.policy("p", policy(pods_in("shop", Selector::All)).egress([to]));
    let slice = backends(&["10.0.2.2", "9.9.9.9"], &[(TCP, 80), (UDP, 53)]);
    let delta = cluster.apply(Change::Backends(key("bank/one"), Some(slice)));
    assert_eq!(group(&delta).added.len(), 4);
    assert!(cluster.allows("shop/web", "9.9.9.9", UDP, 53));
    assert!(cluster.allows("shop/web", "bank/web", TCP, 80));
    assert!(!cluster.allows("shop/web", "bank/web", TCP, 81));
    assert!(!cluster.allows("shop/web", "bank/web", UDP, 80));
    assert!(!cluster.allows("shop/web", "shop/db", TCP, 80));
}

#[test]
fn a_deny_stops_backends_of_which_every_port_is_meant_whichever_comes_first() {
    let whole = |list: &[&str]| Backends { whole: [TCP].into(), ..backends(list, &[(UDP, 53)]) };
    let slice = |cluster: &mut Cluster, backends| cluster.apply(Change::Backends(key("bank/one"), backends));
    let mut cluster = Cluster::small();
    let no = rule(Deny).ports([Ports::Backends(key("bank/api"))]);
    cluster.policy("p", policy(pods_in("shop", Selector::All)).egress([no, rule(Allow)]));
    assert!(cluster.allows("shop/web", "bank/web", TCP, 5432));
    slice(&mut cluster, Some(whole(&["10.0.2.2", "9.9.9.9"])));
    assert!(!cluster.allows("shop/web", "bank/web", TCP, 5432));
    assert!(!cluster.allows("shop/web", "9.9.9.9", TCP, 1));
    assert!(!cluster.allows("shop/web", "9.9.9.9", UDP, 53));
    assert!(cluster.allows("shop/web", "9.9.9.9", UDP, 54));
    assert!(cluster.allows("shop/web", "shop/db", TCP, 5432));
    // One address more is a member, and no rule.
    let delta = slice(&mut cluster, Some(whole(&["10.0.2.2", "9.9.9.9", "9.9.9.8"])));
    assert!(delta.nodes.is_empty() && !delta.groups.is_empty(), "{delta:#?}");
    // With numbers again, the rule is the one that it was.
    let delta = slice(&mut cluster, Some(backends(&["10.0.2.2"], &[(TCP, 80)])));
    assert!(!delta.nodes.is_empty());
    assert!(cluster.allows("shop/web", "bank/web", TCP, 5432));
    assert!(!cluster.allows("shop/web", "bank/web", TCP, 80));
    slice(&mut cluster, None);
    assert!(cluster.allows("shop/web", "bank/web", TCP, 80));
}

fn node(pairs: &[(&str, &str)], list: &[&str]) -> Option<Node> {
    Some(Node { labels: labels(pairs), addresses: addresses(list), ..Node::default() })
}

#[test]
fn nodes_are_their_addresses_by_label() {
    let mut cluster = Cluster::default();
    cluster.pod("shop/web", pod("node-1", &["10.0.1.1"], &[]));
    cluster.apply(Change::Node("node-1".into(), node(&[("role", "edge")], &["192.0.2.1", "2001:db8::1"])));
    cluster.policy("p", from([Peer::Nodes(Selector::equals("role", "edge"))]));
    assert_eq!(all(&cluster), members(&["192.0.2.1/32", "2001:db8::1/128"]));
    let delta = cluster.apply(Change::Node("node-2".into(), node(&[("role", "edge")], &["192.0.2.2"])));
    assert_eq!(group(&delta).added, members(&["192.0.2.2/32"]));
    let delta = cluster.apply(Change::Node("node-1".into(), node(&[], &["192.0.2.1", "2001:db8::1"])));
    assert_eq!(group(&delta).removed, members(&["192.0.2.1/32", "2001:db8::1/128"]));
    let delta = cluster.apply(Change::Node("node-2".into(), None));
    assert_eq!(group(&delta).removed, members(&["192.0.2.2/32"]));
}

fn run_as(accounts: Selector) -> PodSet {
    PodSet { accounts, ..all_pods() }
}

fn account(cluster: &mut Cluster, name: &str, pairs: Option<&[(&str, &str)]>) -> Delta {
    let account = pairs.map(|pairs| ServiceAccount { labels: labels(pairs) });
    cluster.apply(Change::ServiceAccount(key(name), account))
}

#[test]
fn an_accounts_labels_choose_its_own_pods_at_once() {
    let mut cluster = Cluster::small();
    cluster.change("shop/web", |pod| pod.service_account = "robot".into());
    cluster.policy("p", from([Peer::Pods(run_as(Selector::equals("trusted", "yes")))]));
    assert_eq!(all(&cluster), []);
    let delta = account(&mut cluster, "shop/robot", Some(&[("trusted", "yes")]));
    assert_eq!(group(&delta).added, members(&["10.0.1.1/32", "fd00:1::1/128"]));
    assert!(delta.nodes.is_empty() && delta.policies.is_empty());
    // The same name in another namespace is another account.
    assert_eq!(account(&mut cluster, "bank/robot", Some(&[("trusted", "yes")])), Delta::default());
    assert!(cluster.allows("shop/web", "bank/web", TCP, 80));
    assert!(!cluster.allows("shop/db", "bank/web", TCP, 80));
    let delta = account(&mut cluster, "shop/robot", None);
    assert_eq!(group(&delta).removed, members(&["10.0.1.1/32", "fd00:1::1/128"]));
}

#[test]
fn an_account_without_an_object_has_its_name_alone() {
    let mut cluster = Cluster::small();
    cluster.change("shop/web", |pod| pod.service_account = "robot".into());
    cluster.policy("p", from([Peer::Pods(run_as(Selector::equals(given::NAME, "robot")))]));
    assert_eq!(all(&cluster), members(&["10.0.1.1/32", "fd00:1::1/128"]));
    // No label of the object says otherwise.
    assert_eq!(account(&mut cluster, "shop/robot", Some(&[(given::NAME, "other")])), Delta::default());
}

#[test]
fn policies_select_by_account() {
    let mut cluster = Cluster::small();
    let delta = cluster.policy("p", policy(run_as(Selector::equals("locked", "yes"))).ingress([]));
    assert!(delta.nodes.is_empty());
    let delta = account(&mut cluster, "bank/default", Some(&[("locked", "yes")]));
    assert_eq!(delta.nodes.keys().map(|name| &**name).collect::<Vec<_>>(), ["node-2"]);
    assert!(delta.policies.contains(&policy_key("p")));
    assert_eq!(cluster.engine.policy(&policy_key("p")).unwrap().endpoints, 1);
    assert!(!cluster.allows("shop/web", "bank/web", TCP, 80));
    assert!(cluster.allows("bank/web", "shop/web", TCP, 80));
}

#[rstest::rstest]
#[case::namespace(Selector::equals(given::NAMESPACE, "bank"), &["10.0.2.2/32", "fd00:2::2/128"])]
#[case::account(Selector::equals(given::SERVICE_ACCOUNT, "robot"), &["10.0.1.1/32", "fd00:1::1/128"])]
#[case::orchestrator_and_label(
    Selector::all_of([Selector::equals(given::ORCHESTRATOR, "k8s"), Selector::equals("app", "db")]),
    &["10.0.2.1/32", "fd00:2::1/128"]
)]
#[case::not_the_namespace_and_label(
    Selector::all_of([Selector::without(given::NAMESPACE, ["bank".into()]), Selector::equals("app", "web")]),
    &["10.0.1.1/32", "fd00:1::1/128"]
)]
fn pods_have_labels_that_are_given(#[case] selector: Selector, #[case] expected: &[&str]) {
    let mut cluster = Cluster::small();
    cluster.change("shop/web", |pod| pod.service_account = "robot".into());
    // Set by hand they mean nothing.
    cluster.change("shop/db", |pod| pod.labels.extend(labels(&[(given::NAMESPACE, "bank")])));
    cluster.policy("p", from([Peer::Pods(PodSet { pods: selector.clone(), ..all_pods() })]));
    assert_eq!(all(&cluster), members(expected));
    cluster.finish("bank/web");
    cluster.pod("bank/web", pod("node-2", &["10.0.2.2", "fd00:2::2"], &[("app", "web")]));
    assert_eq!(all(&cluster), members(expected));
}

#[rstest::rstest]
#[case::rules_that_log(&[Log, Log], Pass)]
#[case::one_that_decides(&[Log, Allow], Deny)]
#[case::none(&[], Deny)]
fn a_tier_counts_by_what_its_rules_do(#[case] actions: &[Action], #[case] default_action: Action) {
    let mut cluster = Cluster::small();
    cluster.policy("p", policy(all_pods()).ingress(actions.iter().copied().map(rule)));
    let node = cluster.engine.node("node-1").unwrap();
    let profile = &node.profiles[&node.endpoints[&endpoint("shop/web")].profile];
    let [step] = &profile.ingress[..] else { panic!("{profile:?}") };
    assert_eq!((step.default_action, &step.policies[..]), (default_action, &[policy_key("p")][..]));
    assert_eq!(node.policies[&policy_key("p")].ingress.len(), actions.len());
}

fn pool(net: &str, nat_outgoing: bool, nodes: Selector) -> Option<Pool> {
    Some(Pool { net: net.parse().unwrap(), nat_outgoing, nodes })
}

#[test]
fn a_node_masquerades_what_leaves_all_pools_from_those_that_say_so() {
    let mut cluster = Cluster::default();
    for (name, role) in [("edge", "edge"), ("inner", "inner")] {
        cluster.apply(Change::Node(name.into(), node(&[("role", role)], &[])));
    }
    let masquerade = |cluster: &Cluster, name: &str| cluster.engine.node(name).unwrap().masquerade.clone();
    let expected =
        |from: &[&str], inside: &[&str]| Some(Masquerade { from: nets(from), inside: nets(inside) });
    let nodes = |delta: &Delta| delta.nodes.keys().map(|name| name.to_string()).collect::<BTreeSet<_>>();
    let edge = Selector::equals("role", "edge");

    let delta = cluster.apply(Change::Pool("plain".into(), pool("10.1.0.0/16", false, Selector::All)));
    assert_eq!(delta, Delta::default());
    let delta = cluster.apply(Change::Pool("a".into(), pool("10.0.0.0/17", true, edge)));
    assert_eq!(nodes(&delta), BTreeSet::from(["edge".to_owned()]));
    assert_eq!(masquerade(&cluster, "edge"), expected(&["10.0.0.0/17"], &["10.0.0.0/17", "10.1.0.0/16"]));
    assert_eq!(masquerade(&cluster, "inner"), None);
    cluster.apply(Change::Pool("b".into(), pool("10.0.128.0/17", true, Selector::All)));
    assert_eq!(masquerade(&cluster, "edge"), expected(&["10.0.0.0/16"], &["10.0.0.0/15"]));
    assert_eq!(masquerade(&cluster, "inner"), expected(&["10.0.128.0/17"], &["10.0.0.0/15"]));

    let delta = cluster.apply(Change::Node("inner".into(), node(&[("role", "edge")], &[])));
    assert_eq!(nodes(&delta), BTreeSet::from(["inner".to_owned()]));
    assert_eq!(masquerade(&cluster, "inner"), expected(&["10.0.0.0/16"], &["10.0.0.0/15"]));
    for name in ["a", "b"] {
        cluster.apply(Change::Pool(name.into(), None));
    }
    assert_eq!(masquerade(&cluster, "edge"), None);
}

#[rstest::rstest]
#[case::global_sets(sets(None, Selector::equals("x", "1")), "65aa67ed30ba3bda816a784e92333379")]
#[case::sets_of_a_namespace(sets(Some(Namespaces::Named("shop".into())), Selector::All), "5dbb2321f2e5329b5595b09f1400659c")]
#[case::the_same_by_name(
    sets(Some(Namespaces::Matching(Selector::equals(given::NAME, "shop"))), Selector::All),
    "5dbb2321f2e5329b5595b09f1400659c"
)]
#[case::sets_by_label(
    sets(Some(Namespaces::Matching(Selector::equals("team", "red"))), Selector::All),
    "bacda95ab4e64e46e044e35df7462a81"
)]
#[case::backends(Peer::Backends(key("shop/api")), "204fa3154541fac537270073d5eccc33")]
#[case::nodes(Peer::Nodes(Selector::exists("role")), "69833cd737acca916275670f4623016a")]
#[case::pods_by_account(
    Peer::Pods(run_as(Selector::equals(given::NAME, "robot"))),
    "eeb88398ecc4f74c7f166b67c48121b5"
)]
fn group_names_are_the_same_for_ever(#[case] peer: Peer, #[case] name: &str) {
    let mut cluster = Cluster::small();
    cluster.policy("p", from([peer]));
    let names: Vec<_> = cluster.engine.groups().iter().map(ToString::to_string).collect();
    assert_eq!(names, [name]);
}

#[test]
fn a_global_set_goes_while_a_policy_names_a_namespace_without_a_name() {
    let mut cluster = Cluster::small();
    put(&mut cluster, "global", set(&[], &["192.0.2.0/24"]));
    let nameless = pods_where(Selector::equals("kubernetes.io/metadata.name", ""), Selector::All);
    cluster.policy("p", from([Peer::Pods(nameless)]));
    remove(&mut cluster, "global");
    let namespaces = cluster.engine.counts().namespaces;
    cluster.apply(Change::Policy(policy_key("p"), None));
    assert_eq!(cluster.engine.counts().namespaces, namespaces - 1);
}
