//! Protocols, ports and families of a rule.

use rstest::rstest;
use selvage_policy::compiled::{End, Family};
use selvage_policy::model::{PortTerm, Ports};
use serde_json::{Value, json};

use super::*;

#[rstest]
#[case::tcp(json!({ "protocol": "TCP" }), vec![protocol(6)])]
#[case::udp(json!({ "protocol": "UDP" }), vec![protocol(17)])]
#[case::sctp(json!({ "protocol": "SCTP" }), vec![protocol(132)])]
#[case::icmp(json!({ "protocol": "ICMP" }), vec![protocol(1)])]
#[case::icmpv6(json!({ "protocol": "ICMPv6" }), vec![protocol(58)])]
#[case::udplite(json!({ "protocol": "UDPLite" }), vec![protocol(136)])]
#[case::by_number(json!({ "protocol": 47 }), vec![protocol(47)])]
#[case::last(json!({ "protocol": 255 }), vec![protocol(255)])]
#[case::not_by_name(json!({ "notProtocol": "UDP" }), vec![not_at(End::Destination, vec![Ports::Protocol(17)])])]
#[case::not_by_number(json!({ "notProtocol": 1 }), vec![not_at(End::Destination, vec![Ports::Protocol(1)])])]
#[case::icmp_type(
    json!({ "protocol": "ICMP", "icmp": { "type": 8 } }),
    vec![protocol(1), PortTerm::any_of(vec![Ports::Icmp(1, 8, None)])]
)]
#[case::icmp_type_and_code(
    json!({ "protocol": 58, "icmp": { "type": 1, "code": 0 } }),
    vec![protocol(58), PortTerm::any_of(vec![Ports::Icmp(58, 1, Some(0))])]
)]
#[case::not_icmp(
    json!({ "protocol": "ICMPv6", "notICMP": { "type": 128, "code": 0 } }),
    vec![protocol(58), not_at(End::Destination, vec![Ports::Icmp(58, 128, Some(0))])]
)]
#[case::icmp_that_says_nothing(json!({ "protocol": "ICMP", "icmp": {}, "notICMP": {} }), vec![protocol(1)])]
fn protocols(#[case] given: Value, #[case] terms: Vec<PortTerm>) {
    assert_eq!(ports(given), (terms, vec![]));
}

#[rstest]
#[case::number(json!([80]), vec![range(6, 80, 80)])]
#[case::several(json!([80, "90:100"]), vec![range(6, 80, 80), range(6, 90, 100)])]
#[case::number_as_text(json!(["80"]), vec![range(6, 80, 80)])]
#[case::range_of_one(json!(["80:80"]), vec![range(6, 80, 80)])]
#[case::all(json!(["1:65535"]), vec![range(6, 1, 65535)])]
#[case::name(json!(["http"]), vec![named(6, "http")])]
#[case::mixed(json!(["http", 8080]), vec![named(6, "http"), range(6, 8080, 8080)])]
fn ports_of_a_protocol(#[case] given: Value, #[case] entries: Vec<Ports>) {
    for (name, end) in [("source", End::Source), ("destination", End::Destination)] {
        let terms = vec![protocol(6), at(end, entries.clone())];
        assert_eq!(ports(json!({ "protocol": "TCP", name: { "ports": given } })), (terms, vec![]));
        let terms = vec![protocol(6), not_at(end, entries.clone())];
        assert_eq!(ports(json!({ "protocol": 6, name: { "notPorts": given } })), (terms, vec![]));
    }
}

#[test]
fn a_name_without_a_protocol_is_of_any_that_carries_it() {
    let given = json!({ "destination": { "ports": ["dns"] }, "source": { "notPorts": ["dns"] } });
    let terms = vec![not_at(End::Source, every_protocol("dns")), at(End::Destination, every_protocol("dns"))];
    assert_eq!(ports(given), (terms, vec![]));
}

#[rstest]
#[case::four(4, Family::V4)]
#[case::six(6, Family::V6)]
fn ip_version(#[case] version: u8, #[case] family: Family) {
    let (read, found) = rule(Kind::Global, "egress", json!({ "action": "Allow", "ipVersion": version }));
    assert_eq!((read.family, found), (Some(family), vec![]));
}
