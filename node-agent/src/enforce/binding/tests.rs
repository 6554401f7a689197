use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use selvage_nftables::model::Mac;

use super::*;
use crate::facts::cni::Attachment;

fn attachment(name: &str, addresses: &[&str], port: &str, second: u64) -> Attachment {
    Attachment {
        pod: EndpointKey { namespace: "ns".into(), name: name.into() },
        uid: None,
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        host_interfaces: vec!["cni0".into(), port.into()],
        mac: Some(Mac([2, 0, 0, 0, 0, 1])),
        written: SystemTime::UNIX_EPOCH + Duration::from_secs(second),
    }
}

/// "port pod address,..." lines, where veth1 and veth2 are ports of cni0 and veth3 one of docker0.
fn bound(attachments: Vec<Attachment>) -> Vec<String> {
    let name = |name: &str| Arc::<str>::from(name);
    let links = NodeLinks {
        interfaces: ["cni0", "docker0", "veth1", "veth2", "veth3"].map(name).into(),
        ports: [("veth1", "cni0"), ("veth2", "cni0"), ("veth3", "docker0")]
            .map(|(port, bridge)| (name(port), name(bridge)))
            .into(),
        ..NodeLinks::default()
    };
    let cni = CniView { attachments: Some(attachments), unreadable: 0 };
    let bindings = Bindings::of(&cni, &links, &[name("cni0")].into());
    let line = |(port, binding): (&Arc<str>, &Binding)| {
        let addresses: Vec<String> = binding.addresses.iter().map(IpAddr::to_string).collect();
        format!("{port} {} {}", bindings.pods[port].name, addresses.join(","))
    };
    bindings.facts.ports.iter().map(line).collect()
}

#[test]
fn a_port_is_bound_to_what_the_cni_result_says() {
    let a = attachment("a", &["10.244.1.2", "fd00::2"], "veth1", 1);
    let b = attachment("b", &["10.244.1.3"], "veth2", 1);
    assert_eq!(bound(vec![a.clone(), b]), ["veth1 a 10.244.1.2,fd00::2", "veth2 b 10.244.1.3"]);
    for strange in [
        Attachment { mac: None, ..a.clone() },
        Attachment { host_interfaces: vec!["cni0".into()], ..a.clone() },
        Attachment { host_interfaces: vec!["veth1".into(), "veth2".into()], ..a.clone() },
        Attachment { host_interfaces: vec!["cni0".into(), "veth3".into()], ..a.clone() },
        Attachment { host_interfaces: vec!["cni0".into(), "gone".into()], ..a.clone() },
    ] {
        assert_eq!(bound(vec![strange]), [""; 0]);
    }
}

#[test]
fn an_address_that_changed_hands_is_bound_to_the_younger_port_alone() {
    let old = attachment("old", &["10.244.1.2", "10.244.1.9"], "veth1", 1);
    let new = attachment("new", &["10.244.1.2"], "veth2", 2);
    assert_eq!(bound(vec![old, new]), ["veth1 old 10.244.1.9", "veth2 new 10.244.1.2"]);
}

#[test]
fn a_port_whose_name_came_again_is_the_younger_pods_alone() {
    let old = attachment("old", &["10.244.1.2"], "veth1", 1);
    let new = attachment("new", &["10.244.1.1", "10.244.1.3"], "veth1", 2);
    assert_eq!(bound(vec![old, new]), ["veth1 new 10.244.1.1,10.244.1.3"]);
}

#[test]
fn a_counter_that_was_made_anew_goes_on() {
    let (mut spoofing, metrics) = (Spoofing::default(), Metrics::default());
    let links = NodeLinks {
        interfaces: ["veth1".into()].into(),
        ports: [("veth1".into(), "cni0".into())].into(),
        ..NodeLinks::default()
    };
    let cni =
        CniView { attachments: Some(vec![attachment("a", &["10.244.1.2"], "veth1", 1)]), unreadable: 0 };
    let bindings = Bindings::of(&cni, &links, &["cni0".into()].into());
    for packets in [5, 7, 2] {
        let counts = Counts { packets, bytes: 0 };
        let counted = HashMap::from([
            (("arp".into(), "posing-arp".into()), counts),
            (("posing".into(), "veth1".into()), counts),
            (("bound".into(), "own-ipv4".into()), counts),
        ]);
        spoofing.take(&counted, &bindings, &metrics);
    }
    let text = metrics.encode().unwrap();
    for line in [
        r#"selvage_agent_spoofed_packets_total{reason="arp"} 9"#,
        r#"selvage_agent_spoofed_packets_by_pod_total{namespace="ns",pod="a"} 9"#,
    ] {
        assert!(text.contains(line), "{text}");
    }
}
