use std::time::{Duration, SystemTime};

use selvage_policy::compiled::ProfileId;

use super::*;

fn key(name: &str) -> EndpointKey {
    EndpointKey { namespace: "ns".into(), name: name.into() }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn endpoint(uid: &str, addresses: &[&str]) -> Endpoint {
    let addresses = addresses.iter().map(|a| ip(a)).collect();
    Endpoint { uid: uid.into(), profile: ProfileId(1), addresses }
}

fn attachment(name: &str, uid: Option<&str>, address: &str, veth: &str, second: u64) -> Attachment {
    Attachment {
        pod: key(name),
        uid: uid.map(Into::into),
        addresses: vec![ip(address)],
        host_interfaces: vec!["cni0".into(), veth.into()],
        mac: None,
        written: SystemTime::UNIX_EPOCH + Duration::from_secs(second),
    }
}

/// Owners as "address uid" lines, with the interfaces cni0, veth1 and veth2 alive.
fn owners(endpoints: &[(&str, Endpoint)], attachments: Option<Vec<Attachment>>) -> Vec<String> {
    let endpoints = endpoints.iter().map(|(name, e)| (key(name), e.clone())).collect();
    let interfaces = ["cni0", "veth1", "veth2"].map(Arc::from).into_iter().collect();
    let pod_interfaces = [Arc::from("cni0")].into_iter().collect();
    let view = CniView { attachments, unreadable: 0 };
    let placement = place(&endpoints, &view, &interfaces, &pod_interfaces);
    let listed: usize = placement.addresses.values().map(Vec::len).sum();
    assert_eq!(listed, placement.owners.len(), "an address in two endpoints");
    placement.owners.iter().map(|(address, uid)| format!("{address} {uid}")).collect()
}

#[test]
fn without_the_folder_the_api_decides() {
    let endpoints = [("a", endpoint("1", &["10.0.0.1", "fd00::1"])), ("b", endpoint("2", &[]))];
    assert_eq!(owners(&endpoints, None), ["10.0.0.1 1", "fd00::1 1"]);
}

#[test]
fn the_cni_result_is_enough_and_wins() {
    let endpoints = [("a", endpoint("1", &[])), ("b", endpoint("2", &["10.0.0.9"]))];
    let cni = vec![
        attachment("a", Some("1"), "10.0.0.1", "veth1", 1),
        attachment("b", Some("2"), "10.0.0.2", "veth2", 1),
    ];
    assert_eq!(owners(&endpoints, Some(cni)), ["10.0.0.1 1", "10.0.0.2 2"]);
}

#[test]
fn a_pod_without_a_result_keeps_what_the_api_says() {
    let endpoints = [("a", endpoint("1", &["10.0.0.1"]))];
    assert_eq!(owners(&endpoints, Some(vec![])), ["10.0.0.1 1"]);
}

#[test]
fn an_address_given_to_a_pod_that_is_not_known_yet_is_nobodys() {
    let endpoints = [("a", endpoint("1", &["10.0.0.1"]))];
    let cni = vec![attachment("new", Some("2"), "10.0.0.1", "veth1", 1)];
    assert!(owners(&endpoints, Some(cni)).is_empty());
}

#[test]
fn the_same_name_with_another_uid_is_another_pod() {
    let endpoints = [("a", endpoint("1", &["10.0.0.1"]))];
    let cni = vec![attachment("a", Some("2"), "10.0.0.1", "veth1", 1)];
    assert!(owners(&endpoints, Some(cni)).is_empty());
    let without_uid = vec![attachment("a", None, "10.0.0.1", "veth1", 1)];
    assert_eq!(owners(&endpoints, Some(without_uid)), ["10.0.0.1 1"]);
}

#[test]
fn left_overs_of_a_boot_before_are_ignored() {
    let endpoints = [("a", endpoint("1", &["10.0.0.1"])), ("old", endpoint("9", &[]))];
    let cni = vec![
        attachment("old", Some("9"), "10.0.0.1", "veth-gone", 99),
        attachment("a", Some("1"), "10.0.0.1", "veth1", 1),
    ];
    assert_eq!(owners(&endpoints, Some(cni)), ["10.0.0.1 1"]);
}

#[test]
fn the_younger_of_two_has_the_address() {
    let endpoints = [("a", endpoint("1", &["10.0.0.1"])), ("b", endpoint("2", &["10.0.0.1"]))];
    for (first, second, owner) in [(1, 2, "10.0.0.1 2"), (2, 1, "10.0.0.1 1")] {
        let cni = vec![
            attachment("a", Some("1"), "10.0.0.1", "veth1", first),
            attachment("b", Some("2"), "10.0.0.1", "veth2", second),
        ];
        assert_eq!(owners(&endpoints, Some(cni)), [owner]);
    }
}
