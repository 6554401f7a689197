//! What was written is what is read, by us and by others.

use std::collections::{BTreeMap, BTreeSet};

use selvage_nftables::model::*;
use selvage_nftables::netlink::{Counts, Ownership, Standing};
use selvage_nftables::sorted::Sorted;
use selvage_nftables::transaction::{Op, Transaction};
use serde_json::Value;

use crate::netns::Namespace;
use crate::sample::*;

#[test]
fn everything_the_model_has_is_read_back_equal() {
    let namespace = Namespace::new();
    let mut connection = connect(&namespace, Ownership::Owned);
    let wish = everything();
    assert_eq!(connection.read().unwrap(), None, "no table yet");

    connection.commit(&creation(&wish)).unwrap();

    let seen = connection.read().unwrap().unwrap();
    assert_eq!(seen.unreadable, Vec::<String>::new());
    assert_same(&seen.ruleset, &wish);
    assert_eq!((seen.standing, seen.dormant), (Standing::Ours, false));
}

/// As assert_eq, one object at a time so that a difference can be read.
fn assert_same(seen: &Ruleset, wish: &Ruleset) {
    for (name, chain) in &wish.chains {
        assert_eq!(seen.chains.get(name), Some(chain), "chain {name}");
    }
    for (name, set) in &wish.sets {
        assert_eq!(seen.sets.get(name), Some(set), "set {name}");
    }
    assert_eq!(seen, wish);
}

#[test]
fn committing_the_same_again_changes_no_definition_and_adds_no_element() {
    let namespace = Namespace::new();
    let mut connection = connect(&namespace, Ownership::Owned);
    let mut wish = everything();
    wish.chains.values_mut().for_each(|chain| chain.rules.clear());
    connection.commit(&creation(&wish)).unwrap();
    connection.commit(&creation(&wish)).unwrap();
    assert_same(&connection.read().unwrap().unwrap().ruleset, &wish);
}

#[test]
fn every_operation_does_what_it_says() {
    let namespace = Namespace::new();
    let mut connection = connect(&namespace, Ownership::Owned);
    let mut wish = everything();
    connection.commit(&creation(&wish)).unwrap();

    let drop_all = rule("closed", vec![Expr::Counter, Expr::Verdict(Verdict::Drop)]);
    let moved = BTreeMap::from([(v4(10, 0, 0, 1), Verdict::Drop)]);
    let gone = Elements::Ranges(Sorted::from_iter([
        (v4(10, 2, 0, 7), v4(10, 2, 0, 7)),
        (v4(240, 0, 0, 0), v4(255, 255, 255, 255)),
    ]));
    let ops = vec![
        Op::DeleteElements { set: "v4".into(), elements: Elements::Points([v4(10, 0, 0, 1)].into()) },
        Op::AddElements { set: "v4".into(), elements: Elements::Points([v4(10, 9, 9, 9)].into()) },
        Op::DeleteElements { set: "cidr4".into(), elements: gone },
        Op::DeleteElements { set: "dispatch4".into(), elements: Elements::Verdicts(moved.clone()) },
        Op::AddElements { set: "dispatch4".into(), elements: Elements::Verdicts(moved) },
        Op::FlushChain { name: "other".into() },
        Op::AddRule { chain: "other".into(), rule: drop_all.clone() },
        Op::DeleteChain { name: "out".into() },
        Op::DeleteSet { name: "unsized".into() },
    ];
    connection.commit(&Transaction { ops }).unwrap();

    let sets = &mut wish.sets;
    sets.insert("v4".into(), points(vec![KeyPart::Ipv4], [v4(10, 0, 0, 2), v4(10, 9, 9, 9)], Some(64)));
    if let Elements::Ranges(ranges) = &mut sets.get_mut("cidr4").unwrap().elements {
        ranges.retain(|range| range.first != v4(10, 2, 0, 7));
        ranges.retain(|range| range.first != v4(240, 0, 0, 0));
    }
    if let Elements::Verdicts(verdicts) = &mut sets.get_mut("dispatch4").unwrap().elements {
        verdicts.insert(v4(10, 0, 0, 1), Verdict::Drop);
    }
    sets.remove("unsized");
    wish.chains.get_mut("other").unwrap().rules = vec![drop_all].into();
    wish.chains.remove("out");
    assert_same(&connection.read().unwrap().unwrap().ruleset, &wish);

    connection.commit(&[Op::DeleteTable].into_iter().collect()).unwrap();
    assert_eq!(connection.read().unwrap(), None);
}

#[test]
fn nft_reads_what_was_meant() {
    let namespace = Namespace::new();
    let mut connection = connect(&namespace, Ownership::Owned);
    let wish = everything();
    connection.commit(&creation(&wish)).unwrap();

    let listing = namespace.command("nft", &["-j", "list", "table", "inet", "selvage"], "");
    let listing: Value = serde_json::from_str(&listing).unwrap();
    let objects = listing["nftables"].as_array().unwrap();
    let of = |kind: &'static str| objects.iter().filter_map(move |object| object.get(kind));

    let chains: BTreeSet<&str> = of("chain").map(|chain| chain["name"].as_str().unwrap()).collect();
    assert_eq!(chains, wish.chains.keys().map(|name| &**name).collect());
    for (name, chain) in &wish.chains {
        let comments: Vec<_> = of("rule")
            .filter(|rule| rule["chain"] == **name)
            .map(|rule| rule["comment"].as_str().unwrap_or(""))
            .collect();
        assert_eq!(comments, chain.rules.iter().map(|rule| &*rule.id).collect::<Vec<_>>(), "{name}");
    }
    for (name, set) in &wish.sets {
        let seen = of("set").chain(of("map")).find(|seen| seen["name"] == **name).unwrap();
        let count = seen.get("elem").map_or(0, |elements| elements.as_array().unwrap().len());
        assert_eq!(count, set.elements.len(), "{name}");
    }
    let guard = of("chain").find(|chain| chain["name"] == "guard").unwrap();
    assert_eq!(
        (&guard["hook"], &guard["prio"], &guard["policy"]),
        (&"prerouting".into(), &(-300).into(), &"accept".into())
    );
    let types: BTreeMap<&str, &Value> =
        of("set").chain(of("map")).map(|set| (set["name"].as_str().unwrap(), &set["type"])).collect();
    assert_eq!(types["named_ports"], &serde_json::json!(["ipv4_addr", "inet_proto", "inet_service"]));
    assert_eq!(types["pod_side"], "ifname");
    assert_eq!(types["cidr6"], "ipv6_addr");
    let cidr4 = of("set").find(|set| set["name"] == "cidr4").unwrap();
    assert_eq!(
        cidr4["elem"],
        serde_json::json!([
            {"prefix": {"addr": "0.0.0.0", "len": 8}},
            {"prefix": {"addr": "10.0.0.0", "len": 16}},
            "10.2.0.7",
            {"prefix": {"addr": "240.0.0.0", "len": 4}},
        ])
    );
    let expressions =
        |comment: &str| of("rule").find(|rule| rule["comment"] == comment).unwrap()["expr"].clone();
    assert_eq!(
        expressions("last"),
        serde_json::json!([{"counter": {"packets": 0, "bytes": 0}}, {"drop": null}])
    );
    assert_eq!(
        expressions("dispatch"),
        serde_json::json!([{"vmap": {
            "key": {"payload": {"protocol": "ip", "field": "saddr"}}, "data": "@dispatch4"}}])
    );
    let dispatch = of("map").find(|map| map["name"] == "dispatch4").unwrap();
    let first = dispatch["elem"].as_array().unwrap().iter().find(|e| e[0] == "10.0.0.1").unwrap();
    assert_eq!(first[1], serde_json::json!({"jump": {"target": "profile"}}));
}

#[test]
fn rules_of_others_are_never_taken_for_ours() {
    let namespace = Namespace::new();
    let mut connection = connect(&namespace, Ownership::Plain);
    let chain = Chain { base: base(Hook::Forward, 0), rules: vec![rule("a", vec![Expr::Counter])].into() };
    let wish = Ruleset { chains: BTreeMap::from([("from_pod".into(), chain)]), sets: BTreeMap::new() };
    connection.commit(&creation(&wish)).unwrap();
    for (strange, why) in [
        ("insert rule inet selvage from_pod notrack", "notrack"),
        ("insert rule inet selvage from_pod ct mark set 7", "ct"),
        ("insert rule inet selvage from_pod limit rate over 1 mbytes/second drop", "limit"),
        ("insert rule inet selvage from_pod tcp flags syn tcp option maxseg size set rt mtu", "rt"),
        ("insert rule inet selvage from_pod meta mark 1 accept", "meta key 3"),
        ("add set inet selvage s { type ipv4_addr; flags timeout; }", "set s"),
        ("add map inet selvage m { type ipv4_addr : mark; }", "set m"),
        ("add set inet selvage e { type ether_type; }", "key type"),
        ("add chain inet selvage i { type filter hook ingress device lo priority 0; }", "hook"),
        ("add chain inet selvage r { type route hook output priority 0; }", "route"),
    ] {
        namespace.nft(strange);
        let seen = connection.read().unwrap().unwrap();
        assert_ne!(seen.ruleset, wish, "{strange}");
        assert!(seen.unreadable.iter().any(|text| text.contains(why)), "{strange}: {:?}", seen.unreadable);
        connection.commit(&[Op::DeleteTable].into_iter().collect()).unwrap();
        connection.commit(&creation(&wish)).unwrap();
        assert_same(&connection.read().unwrap().unwrap().ruleset, &wish);
    }
    // What nft writes and the model can express is read as if it were ours.
    namespace.nft("insert rule inet selvage from_pod counter drop comment \"b\"");
    namespace.nft("add set inet selvage n { type inet_service; flags interval; elements = { 80-90, 443 }; }");
    let seen = connection.read().unwrap().unwrap();
    assert_eq!(seen.unreadable, Vec::<String>::new());
    let inserted = rule("b", vec![Expr::Counter, Expr::Verdict(Verdict::Drop)]);
    assert_eq!(seen.ruleset.chains["from_pod"].rules[0], inserted);
    let ranges = BTreeMap::from([(key(&[0, 80]), key(&[0, 90])), (key(&[1, 187]), key(&[1, 187]))]);
    assert_eq!(seen.ruleset.sets["n"].elements, Elements::Ranges(ranges.into()));
}

#[test]
fn the_anonymous_set_of_a_foreign_rule_goes_with_it() {
    let namespace = Namespace::new();
    let mut connection = connect(&namespace, Ownership::Plain);
    let chain = Chain { base: base(Hook::Forward, 0), rules: vec![].into() };
    let wish = Ruleset { chains: BTreeMap::from([("from_pod".into(), chain)]), sets: BTreeMap::new() };
    connection.commit(&creation(&wish)).unwrap();
    namespace.nft("add rule inet selvage from_pod ip saddr { 10.0.0.1, 10.0.0.2 } accept");
    let seen = connection.read().unwrap().unwrap().ruleset;
    assert_eq!(seen.sets, BTreeMap::new());
    assert_eq!(seen.chains["from_pod"].rules.len(), 1);
    connection.commit(&[Op::FlushChain { name: "from_pod".into() }].into_iter().collect()).unwrap();
    assert_same(&connection.read().unwrap().unwrap().ruleset, &wish);
}

#[test]
fn counters_count_by_chain_and_id() {
    let namespace = Namespace::new();
    let mut connection = connect(&namespace, Ownership::Owned);
    let rules = vec![
        rule("all", vec![Expr::Counter]),
        rule("no counter", vec![Expr::Verdict(Verdict::Accept)]),
        rule("never", vec![Expr::Counter]),
    ];
    let output = Chain { base: base(Hook::Output, 0), rules: rules.into() };
    let wish = Ruleset { chains: BTreeMap::from([("output".into(), output)]), sets: BTreeMap::new() };
    connection.commit(&creation(&wish)).unwrap();
    namespace.run(|| {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..3 {
            socket.send_to(&[0; 100], socket.local_addr().unwrap()).unwrap();
        }
    });
    let counters = connection.counters().unwrap();
    let of = |id: &str| counters.get(&("output".into(), id.into())).copied();
    assert_eq!(of("all"), Some(Counts { packets: 3, bytes: 3 * 128 }));
    assert_eq!(of("never"), Some(Counts::default()));
    assert_eq!(of("no counter"), None);
    // What was counted is no difference.
    assert_same(&connection.read().unwrap().unwrap().ruleset, &wish);
}

#[test]
fn the_generation_grows_with_every_change() {
    let namespace = Namespace::new();
    let mut connection = connect(&namespace, Ownership::Owned);
    let before = connection.generation().unwrap();
    assert_eq!(connection.generation().unwrap(), before);
    connection.commit(&[Op::AddTable].into_iter().collect()).unwrap();
    assert!(connection.generation().unwrap() > before);
    let unchanged = connection.generation().unwrap();
    connection.commit(&Transaction::default()).unwrap();
    assert_eq!(connection.generation().unwrap(), unchanged, "an empty transaction is not sent");
}
