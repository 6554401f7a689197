//! Objects put together at random, from what is right, wrong and absurd: none panics, and none gets wider than what it
//! says.

use proptest::prelude::*;
use proptest::sample::select;
use selvage_policy::compiled::Action;
use selvage_policy::model::{Entity, Peer, Ports, Rule};
use serde_json::{Map, Value, json};

use crate::convert::{
    Converted, Issue, address, block, cidr::net, cluster_network_policy, global_network_policy,
    network_policy, network_set, selvage_network_policy,
};

/// A field that may be absent.
fn maybe(value: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Option<Value>> {
    proptest::option::of(value).boxed()
}

fn object(fields: Vec<(&'static str, BoxedStrategy<Option<Value>>)>) -> BoxedStrategy<Value> {
    let (names, values): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
    values
        .prop_map(move |values| {
            let given = names.iter().zip(values).filter_map(|(name, value)| Some(((*name).into(), value?)));
            Value::Object(given.collect::<Map<_, _>>())
        })
        .boxed()
}

fn list(entry: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    proptest::collection::vec(entry, 0..4).prop_map(Value::Array).boxed()
}

fn text(words: &'static [&'static str]) -> BoxedStrategy<Value> {
    prop_oneof![9 => select(words).prop_map(str::to_owned), 1 => "\\PC{0,12}"].prop_map(Value::String).boxed()
}

fn number() -> BoxedStrategy<Value> {
    prop_oneof![0i32..300, select(vec![-1, 0, 1, 4, 6, 17, 58, 80, 65535, 65536, i32::MIN, i32::MAX])]
        .prop_map(|number| json!(number))
        .boxed()
}

fn cidr() -> BoxedStrategy<Value> {
    text(&[
        "10.0.0.0/8",
        "10.0.0.1/8",
        "192.0.2.1",
        "fd00::/8",
        "fd00::1",
        "010.0.0.0/8",
        "::ffff:0:0/96",
        "/",
        "a.b",
    ])
}

fn line() -> BoxedStrategy<Value> {
    text(&[
        "",
        " ",
        "all()",
        "global()",
        "has(a)",
        "!has(a)",
        "a == 'b'",
        "a in {'b'}",
        "a",
        "(",
        "a == 'b' && global()",
    ])
}

fn port() -> BoxedStrategy<Value> {
    prop_oneof![number(), text(&["http", "80", "80:90", "90:80", ":", "0:1", "HTTP", "80-90"])].boxed()
}

fn protocol() -> BoxedStrategy<Value> {
    prop_oneof![number(), text(&["TCP", "UDP", "SCTP", "ICMP", "ICMPv6", "UDPLite", "tcp", ""])].boxed()
}

fn label_selector() -> BoxedStrategy<Value> {
    let requirement = object(vec![
        ("key", text(&["a", "", "@name", "a/b"]).prop_map(Some).boxed()),
        ("operator", text(&["In", "NotIn", "Exists", "DoesNotExist", "Gt"]).prop_map(Some).boxed()),
        ("values", maybe(list(text(&["b", "", "-"])))),
    ]);
    object(vec![
        (
            "matchLabels",
            maybe(select(vec![json!({}), json!({ "a": "b" }), json!({ "": "b" }), json!({ "a": "-" })])),
        ),
        ("matchExpressions", maybe(list(requirement))),
    ])
}

/// A rule of our own, with an action.
fn own_rule() -> BoxedStrategy<Value> {
    let icmp = || object(vec![("type", maybe(number())), ("code", maybe(number()))]);
    let end = || {
        object(vec![
            ("nets", maybe(list(cidr()))),
            ("notNets", maybe(list(cidr()))),
            ("selector", maybe(line())),
            ("notSelector", maybe(line())),
            ("namespaceSelector", maybe(line())),
            (
                "serviceAccounts",
                maybe(object(vec![("names", maybe(list(line()))), ("selector", maybe(line()))])),
            ),
            (
                "services",
                proptest::option::weighted(
                    0.2,
                    select(vec![
                        json!({ "name": "a" }),
                        json!({ "name": "a", "namespace": "b" }),
                        json!({ "name": "" }),
                    ]),
                )
                .boxed(),
            ),
            ("ports", maybe(list(port()))),
            ("notPorts", maybe(list(port()))),
        ])
    };
    object(vec![
        ("action", text(&["Allow", "Deny", "Pass", "Log"]).prop_map(Some).boxed()),
        ("protocol", maybe(protocol())),
        ("notProtocol", maybe(protocol())),
        ("icmp", proptest::option::weighted(0.2, icmp()).boxed()),
        ("notICMP", proptest::option::weighted(0.2, icmp()).boxed()),
        ("ipVersion", maybe(number())),
        ("source", maybe(end())),
        ("destination", maybe(end())),
    ])
}

fn own_spec() -> BoxedStrategy<Value> {
    object(vec![
        ("tier", maybe(text(&["", "security"]))),
        ("order", maybe(number())),
        ("selector", maybe(line())),
        ("namespaceSelector", maybe(line())),
        ("serviceAccountSelector", maybe(line())),
        ("types", maybe(list(text(&["Ingress", "Egress", "Sideways"])))),
        ("ingress", maybe(list(own_rule()))),
        ("egress", maybe(list(own_rule()))),
    ])
}

fn cluster_spec() -> BoxedStrategy<Value> {
    let pods = || {
        object(vec![
            ("namespaceSelector", maybe(label_selector())),
            ("podSelector", label_selector().prop_map(Some).boxed()),
        ])
    };
    let peer = || {
        prop_oneof![
            object(vec![("namespaces", label_selector().prop_map(Some).boxed())]),
            object(vec![("pods", pods().prop_map(Some).boxed())]),
            object(vec![("networks", list(cidr()).prop_map(Some).boxed()), ("unknown", maybe(number()))]),
            object(vec![("nodes", maybe(label_selector())), ("domainNames", maybe(list(line())))]),
        ]
    };
    let port = || {
        let range = object(vec![
            ("start", number().prop_map(Some).boxed()),
            ("end", number().prop_map(Some).boxed()),
        ]);
        let port = object(vec![("number", maybe(number())), ("range", maybe(range))]);
        object(vec![("destinationPort", maybe(port))])
    };
    let protocol = prop_oneof![
        object(vec![("tcp", maybe(port()))]),
        object(vec![("udp", maybe(port())), ("sctp", maybe(port()))]),
        object(vec![("destinationNamedPort", maybe(text(&["http", "", "80"])))]),
    ];
    let rule = |field| {
        object(vec![
            ("action", text(&["Accept", "Deny", "Pass", "Log"]).prop_map(Some).boxed()),
            (field, list(peer().boxed()).prop_map(Some).boxed()),
            ("protocols", maybe(list(protocol.clone().boxed()))),
        ])
    };
    object(vec![
        ("tier", text(&["Admin", "Baseline"]).prop_map(Some).boxed()),
        ("priority", number().prop_map(Some).boxed()),
        ("subject", prop_oneof![Just(json!({ "namespaces": {} })), peer()].prop_map(Some).boxed()),
        ("ingress", maybe(list(rule("from")))),
        ("egress", maybe(list(rule("to")))),
    ])
}

fn policy_spec() -> BoxedStrategy<Value> {
    let block = object(vec![("cidr", cidr().prop_map(Some).boxed()), ("except", maybe(list(cidr())))]);
    let peer = object(vec![
        ("ipBlock", maybe(block)),
        ("namespaceSelector", maybe(label_selector())),
        ("podSelector", maybe(label_selector())),
    ]);
    let port = object(vec![
        ("protocol", maybe(text(&["TCP", "UDP", "SCTP", "ICMP"]))),
        ("port", maybe(port())),
        ("endPort", maybe(number())),
    ]);
    let rule = |field| object(vec![(field, maybe(list(peer.clone()))), ("ports", maybe(list(port.clone())))]);
    object(vec![
        ("podSelector", maybe(label_selector())),
        ("policyTypes", maybe(list(text(&["Ingress", "Egress", "Sideways"])))),
        ("ingress", maybe(list(rule("from")))),
        ("egress", maybe(list(rule("to")))),
    ])
}

fn named(spec: Value) -> Value {
    json!({ "metadata": { "namespace": "ns", "name": "p" }, "spec": spec })
}

/// The rules given and the rules read in each direction.
fn directions<'a>(spec: &'a Value, read: &'a Converted) -> Vec<(&'static str, &'a [Value], &'a [Rule])> {
    let policy = read.policy.as_ref();
    let given = |direction| spec[direction].as_array().map(Vec::as_slice).unwrap_or_default();
    let rules = [
        ("ingress", policy.and_then(|policy| policy.ingress.as_deref())),
        ("egress", policy.and_then(|policy| policy.egress.as_deref())),
    ];
    rules.into_iter().filter_map(|(name, rules)| Some((name, given(name), rules?))).collect()
}

/// Rule by rule: one that has an issue is closed, one that has none does what it says.
fn check(spec: &Value, read: &Converted, accept: &str) -> Result<(), TestCaseError> {
    for (direction, given, rules) in directions(spec, read) {
        prop_assert_eq!(given.len(), rules.len());
        for (index, (given, rule)) in given.iter().zip(rules).enumerate() {
            let path = format!("spec.{direction}[{index}]");
            let wrong = |issue: &Issue| {
                !issue.is_note() && issue.path.strip_prefix(&path).is_some_and(|rest| rest.starts_with('.'))
            };
            let action = given["action"].as_str().unwrap_or_default();
            if read.issues.iter().any(wrong) {
                closed(action, accept, rule)?;
                continue;
            }
            let wanted = match action {
                "Deny" => Action::Deny,
                "Pass" => Action::Pass,
                "Log" => Action::Log,
                _ => {
                    prop_assert_eq!(action, accept);
                    Action::Allow
                }
            };
            prop_assert_eq!(rule.action, wanted);
            sound(rule)?;
        }
    }
    Ok(())
}

fn closed(action: &str, accept: &str, rule: &Rule) -> Result<(), TestCaseError> {
    prop_assert!(rule.ports.is_empty() && rule.family.is_none());
    prop_assert_eq!(&rule.source, &Entity::default());
    let skipped = action == accept || (action == "Log" && rule.action == Action::Log);
    let destination = if skipped { Entity::any_of(vec![Peer::Nothing]) } else { Entity::default() };
    prop_assert_eq!(&rule.destination, &destination);
    prop_assert_eq!(rule.action == Action::Deny, !skipped);
    Ok(())
}

/// Whether the model's own promises hold.
fn sound(rule: &Rule) -> Result<(), TestCaseError> {
    for peer in rule.source.terms.iter().chain(&rule.destination.terms).flat_map(|term| &term.peers) {
        prop_assert_ne!(peer, &Peer::Nothing);
        if let Peer::Block { net, .. } = peer {
            prop_assert_eq!(*net, net.trunc());
        }
    }
    for entry in rule.ports.iter().flat_map(|term| &term.ports) {
        prop_assert_ne!(entry, &Ports::Nothing);
        if let Ports::Range(protocol, range) = entry {
            prop_assert!([6, 17, 132].contains(protocol) && range.first > 0 && range.first <= range.last);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn our_own_policies(spec in own_spec()) {
        let read = global_network_policy(&serde_json::from_value(named(spec.clone())).unwrap()).unwrap();
        check(&spec, &read, "Allow")?;
        let read = selvage_network_policy(&serde_json::from_value(named(spec.clone())).unwrap()).unwrap();
        check(&spec, &read, "Allow")?;
    }

    #[test]
    fn cluster_network_policies(spec in cluster_spec()) {
        let read = cluster_network_policy(&serde_json::from_value(named(spec.clone())).unwrap()).unwrap();
        check(&spec, &read, "Accept")?;
    }

    /// A peer or port that can't be read matches nothing: it never becomes none at all, which would be any.
    #[test]
    fn network_policies(spec in policy_spec()) {
        let read = network_policy(&serde_json::from_value(named(spec.clone())).unwrap()).unwrap();
        for (direction, given, rules) in directions(&spec, &read) {
            prop_assert_eq!(given.len(), rules.len());
            for (given, rule) in given.iter().zip(rules) {
                let (field, entity) =
                    if direction == "ingress" { ("from", &rule.source) } else { ("to", &rule.destination) };
                let count = |field: &str| given[field].as_array().map_or(0, Vec::len);
                let peers = entity.terms.iter().map(|term| term.peers.len()).sum::<usize>();
                prop_assert_eq!((peers, entity.terms.is_empty()), (count(field), count(field) == 0));
                let ports = rule.ports.iter().map(|term| term.ports.len()).sum::<usize>();
                prop_assert_eq!((ports, rule.ports.is_empty()), (count("ports"), count("ports") == 0));
            }
        }
    }

    #[test]
    fn network_sets(nets in proptest::collection::vec(cidr(), 0..8)) {
        let object = json!({ "metadata": { "namespace": "ns", "name": "s" }, "spec": { "nets": nets } });
        let (_, read) = network_set(&serde_json::from_value(object).unwrap()).unwrap();
        let set = read.value.unwrap();
        let wrong = read.issues.iter().filter(|issue| !issue.is_note()).count();
        prop_assert!(set.nets.len() + wrong <= nets.len());
        prop_assert_eq!(wrong == 0 && !nets.is_empty() && set.nets.is_empty(), false);
    }

    /// What is read is read in one way: its canonical text means the same, and other programs read it so too.
    #[test]
    fn networks(text in prop_oneof!["[0-9a-f.:/]{0,24}", "[0-9]{1,3}(\\.[0-9]{1,3}){3}/[0-9]{1,2}", "\\PC{0,16}"]) {
        if let Ok(read) = net(&text) {
            let again = block(&read.net.to_string()).unwrap();
            prop_assert_eq!((again.net, again.masked), (read.net, false));
            let host = text.split('/').next().unwrap();
            prop_assert!(read.net.contains(&host.parse::<std::net::IpAddr>().unwrap()));
        }
        if let Some(read) = address(&text) {
            prop_assert_eq!(net(&text).unwrap().net, ipnet::IpNet::from(read));
        }
    }
}
