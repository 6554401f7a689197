//! One node with its pods and everything beyond it, as flannel lays them out: pods on the bridge `cni0`, the rest of
//! the world behind a routed link.
//!
//! ```text
//!  pod 0, pod 1, pod 2  (10.244.1.1x, fd00:10:244:1::1x)          outside 192.0.2.10, 2001:db8::10
//!        |                                                         far pod 10.244.2.10, fd00:10:244:2::10
//!      cni0 (.1, ::1) == node == uplink 192.168.50.1 ------------- far node 192.168.50.2, fd00:50::2
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use selvage_nftables::model::Mac;
use selvage_nftables::render::bridge::{Binding, BridgeFacts};
use selvage_policy::compiled::Family;

use crate::netns::Namespace;
use crate::probe::{PATIENCE, echo};

/// The bridge's MAC address.
pub const BRIDGE_MAC: Mac = Mac([2, 0, 0, 0, 1, 1]);

/// The bridge's own addresses, which the pods' default routes lead to.
pub const GATEWAY: Addresses =
    Addresses { v4: Ipv4Addr::new(10, 244, 1, 1), v6: Ipv6Addr::new(0xfd00, 0x10, 0x244, 1, 0, 0, 0, 1) };
/// The node's addresses on its uplink.
pub const NODE: Addresses =
    Addresses { v4: Ipv4Addr::new(192, 168, 50, 1), v6: Ipv6Addr::new(0xfd00, 0x50, 0, 0, 0, 0, 0, 1) };
/// Another node.
pub const FAR_NODE: Addresses =
    Addresses { v4: Ipv4Addr::new(192, 168, 50, 2), v6: Ipv6Addr::new(0xfd00, 0x50, 0, 0, 0, 0, 0, 2) };
/// A pod on the other node.
pub const FAR_POD: Addresses =
    Addresses { v4: Ipv4Addr::new(10, 244, 2, 10), v6: Ipv6Addr::new(0xfd00, 0x10, 0x244, 2, 0, 0, 0, 0x10) };
/// A host outside the cluster.
pub const OUTSIDE: Addresses =
    Addresses { v4: Ipv4Addr::new(192, 0, 2, 10), v6: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10) };

/// Both families' addresses of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

/// Where a packet starts or ends: a namespace and the addresses used there.
#[derive(Clone, Copy)]
pub struct Host<'a> {
    pub name: &'static str,
    pub namespace: &'a Namespace,
    pub addresses: Addresses,
}

/// The node, its pods and what is beyond.
pub struct Bed {
    pub node: Namespace,
    pub far: Namespace,
    pods: Vec<Pod>,
}

struct Pod {
    namespace: Namespace,
    addresses: Addresses,
}

/// Both families.
pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

impl Addresses {
    /// The address of one family.
    pub fn of(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }

    /// Both addresses.
    pub fn both(&self) -> [IpAddr; 2] {
        FAMILIES.map(|family| self.of(family))
    }
}

/// The addresses of pod `index` on the node.
pub fn pod_addresses(index: usize) -> Addresses {
    let low = u8::try_from(0x10 + index).unwrap();
    Addresses {
        v4: Ipv4Addr::new(10, 244, 1, low),
        v6: Ipv6Addr::new(0xfd00, 0x10, 0x244, 1, 0, 0, 0, low.into()),
    }
}

/// What the node knows of its bridge once it has the CNI results of these pods.
pub fn bound(pods: &[usize]) -> BridgeFacts {
    let binding =
        |index: usize| Binding { mac: pod_mac(index), addresses: pod_addresses(index).both().into() };
    BridgeFacts {
        foreign_ports: BTreeSet::new(),
        ports: pods.iter().map(|pod| (format!("pod{pod}").into(), binding(*pod))).collect::<BTreeMap<_, _>>(),
        gateway_macs: [BRIDGE_MAC].into(),
        gateways: GATEWAY.both().into_iter().chain([BRIDGE_MAC.link_local().into()]).collect(),
    }
}

/// The MAC address of pod `index`.
pub fn pod_mac(index: usize) -> Mac {
    Mac([2, 0, 0, 0, 2, u8::try_from(index).unwrap()])
}

impl Bed {
    /// A node with this many pods, forwarding both families, with no rules yet.
    pub fn new(pods: usize) -> Self {
        let node = Namespace::new();
        let far = Namespace::new();
        for namespace in [&node, &far] {
            quick_addresses(namespace);
        }
        // The bridge's own flags do the work, as with an agent that may not write sysctls.
        for name in ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"] {
            node.sysctl(&format!("bridge/{name}"), "0");
        }
        for path in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            node.sysctl(path, "1");
        }
        for path in ["ipv4/conf/all/rp_filter", "ipv4/conf/default/rp_filter"] {
            // As on most nodes: with strict filtering some forgeries would fail without any rule of ours.
            node.sysctl(path, "0");
        }
        let mut lines = vec![
            format!("link add cni0 address {BRIDGE_MAC} type bridge nf_call_iptables 1 nf_call_ip6tables 1"),
            "link set cni0 up".to_owned(),
            format!("addr add {}/24 brd + dev cni0", GATEWAY.v4),
            format!("addr add {}/64 dev cni0 nodad", GATEWAY.v6),
            format!("link add uplink type veth peer name uplink netns {}", far.path()),
            format!("addr add {}/24 dev uplink", NODE.v4),
            format!("addr add {}/64 dev uplink nodad", NODE.v6),
            "link set uplink up".to_owned(),
            format!("route add 10.244.2.0/24 via {}", FAR_NODE.v4),
            format!("route add 192.0.2.0/24 via {}", FAR_NODE.v4),
            format!("route add fd00:10:244:2::/64 via {}", FAR_NODE.v6),
            format!("route add 2001:db8::/64 via {}", FAR_NODE.v6),
        ];
        node.ip(&lines);
        lines.clear();
        for (addresses, v4, v6) in [(FAR_NODE, 24, 64), (FAR_POD, 32, 128), (OUTSIDE, 32, 128)] {
            lines.push(format!("addr add {}/{v4} dev uplink", addresses.v4));
            lines.push(format!("addr add {}/{v6} dev uplink nodad", addresses.v6));
        }
        lines.extend([
            "link set uplink up".to_owned(),
            format!("route add default via {}", NODE.v4),
            format!("route add default via {}", NODE.v6),
        ]);
        far.ip(&lines);
        let mut bed = Self { node, far, pods: Vec::new() };
        for _ in 0..pods {
            bed.add_pod(pod_addresses(bed.pods.len()));
        }
        for pod in 0..pods {
            bed.wait_until_reachable(bed.pod(pod));
        }
        bed.wait_until_reachable(bed.far_node());
        bed
    }

    /// Starts one more pod with these addresses and gives its index; it may not be reachable yet.
    pub fn add_pod(&mut self, addresses: Addresses) -> usize {
        let index = self.pods.len();
        let namespace = Namespace::new();
        quick_addresses(&namespace);
        self.node.ip(&[
            format!(
                "link add pod{index} type veth peer name eth0 address {} netns {}",
                pod_mac(index),
                namespace.path()
            ),
            format!("link set pod{index} master cni0 up"),
            format!("link set pod{index} type bridge_slave hairpin on"),
        ]);
        namespace.ip(&[
            format!("addr add {}/24 brd + dev eth0", addresses.v4),
            format!("addr add {}/64 dev eth0 nodad", addresses.v6),
            "link set eth0 up".to_owned(),
            format!("route add default via {}", GATEWAY.v4),
            format!("route add default via {}", GATEWAY.v6),
        ]);
        self.pods.push(Pod { namespace, addresses });
        index
    }

    /// Takes a pod's interface away, as a pod that ends, and what the node knows of neighbours, as if the next holder
    /// of the address had announced itself. The index stays used.
    pub fn remove_pod(&self, index: usize) {
        self.node.ip(&[format!("link del pod{index}"), "neigh flush dev cni0".to_owned()]);
    }

    /// A pod of the node.
    pub fn pod(&self, index: usize) -> Host<'_> {
        let pod = &self.pods[index];
        const NAMES: [&str; 4] = ["pod 0", "pod 1", "pod 2", "pod 3"];
        Host { name: NAMES[index], namespace: &pod.namespace, addresses: pod.addresses }
    }

    /// The node itself, by the address that pods see first.
    pub fn node(&self) -> Host<'_> {
        Host { name: "node", namespace: &self.node, addresses: GATEWAY }
    }

    /// The node by its own address, on the uplink.
    pub fn node_uplink(&self) -> Host<'_> {
        Host { name: "node's uplink", namespace: &self.node, addresses: NODE }
    }

    /// The other node.
    pub fn far_node(&self) -> Host<'_> {
        Host { name: "far node", namespace: &self.far, addresses: FAR_NODE }
    }

    /// A pod on the other node.
    pub fn far_pod(&self) -> Host<'_> {
        Host { name: "far pod", namespace: &self.far, addresses: FAR_POD }
    }

    /// A host outside the cluster.
    pub fn outside(&self) -> Host<'_> {
        Host { name: "outside", namespace: &self.far, addresses: OUTSIDE }
    }

    /// Waits until the node's echo requests to the host are answered in both families: links, bridge ports and
    /// neighbours are then in order.
    pub fn wait_until_reachable(&self, host: Host<'_>) {
        for address in host.addresses.both() {
            let deadline = std::time::Instant::now() + 2 * PATIENCE;
            while !echo(&self.node, None, address, PATIENCE / 20) {
                assert!(std::time::Instant::now() < deadline, "the bed does not work: node to {}", host.name);
            }
        }
    }
}

/// Addresses that can be used at once, so that tests do not wait for duplicate address detection (one looks at it and
/// switches it on again), and echo sockets for root.
fn quick_addresses(namespace: &Namespace) {
    for path in ["ipv6/conf/all/accept_dad", "ipv6/conf/default/accept_dad"] {
        namespace.sysctl(path, "0");
    }
    for path in ["ipv6/conf/all/disable_ipv6", "ipv6/conf/default/disable_ipv6"] {
        namespace.sysctl(path, "0");
    }
    namespace.sysctl("ipv4/ping_group_range", "0 0");
}
