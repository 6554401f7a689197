//! What the node's network looks like: interfaces, its own addresses, and the bridge flags that make bridged packets
//! pass the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{InfoBridge, InfoData, InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::{Handle, MulticastGroup};
use selvage_nftables::model::Mac;
use tokio::sync::watch;

use crate::views;

/// Present exactly while br_netfilter is loaded: without it no bridged packet meets the rules, whatever the flags
/// of the bridge say (`br_netfilter_hooks.c` makes the file in every network namespace).
const BR_NETFILTER: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
/// How often the network is looked at without any event.
const POLL: Duration = Duration::from_secs(30);
/// Events within this time are answered by one look.
const GATHER: Duration = Duration::from_millis(20);
/// A netlink answer that takes longer will not come.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What the kernel says of the node's network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeLinks {
    /// Names of all interfaces.
    pub interfaces: BTreeSet<Arc<str>>,
    /// The node's own addresses, loopback and link-local left out, by interface.
    pub addresses: BTreeMap<Arc<str>, BTreeSet<IpAddr>>,
    /// The pod interfaces that are bridges.
    pub bridges: BTreeMap<Arc<str>, BridgeFlags>,
    /// The interface that each port belongs to (a bridge, for instance), by the port.
    pub ports: BTreeMap<Arc<str>, Arc<str>>,
    /// Interfaces that carry the pod network to other nodes.
    pub tunnels: BTreeSet<Arc<str>>,
    /// MAC addresses of the pods' bridges.
    pub gateway_macs: BTreeSet<Mac>,
    /// The pods' bridges' own addresses, link-local ones included.
    pub gateways: BTreeSet<IpAddr>,
    /// br_netfilter is loaded.
    pub br_netfilter: bool,
    /// Why bridge flags could not be set, the last time it was tried.
    pub bridge_error: Option<String>,
}

/// Whether a bridge hands its packets to the IPv4 and IPv6 rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BridgeFlags {
    index: u32,
    /// `nf_call_iptables`
    pub ipv4: bool,
    /// `nf_call_ip6tables`
    pub ipv6: bool,
    /// `group_fwd_mask`: frames to the reserved addresses meet the rules of the bridge family as all others do.
    pub reserved: bool,
}

/// The addresses 01:80:c2:00:00:03 to :0f, by their last digit: all that the kernel lets one set
/// (`BR_GROUPFWD_RESTRICTED` of net/bridge/br_private.h). Without it a bridge hands a frame to :0e past all rules to
/// the node, as if it had come in by an interface of its own, and learns the sender's MAC address from it.
const GROUP_FWD_MASK: u16 = 0xfff8;

impl BridgeFlags {
    fn complete(&self) -> bool {
        self.ipv4 && self.ipv6 && self.reserved
    }
}

/// What went wrong with route netlink.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No socket.
    #[error("route netlink socket: {0}")]
    Socket(#[from] std::io::Error),
    /// The kernel refused.
    #[error("route netlink: {0}")]
    Netlink(#[from] rtnetlink::Error),
    /// A bridge did not take its flags.
    #[error("bridge {bridge}: setting nf_call_iptables, nf_call_ip6tables and group_fwd_mask: {reason}")]
    Flags {
        /// The bridge's name.
        bridge: Arc<str>,
        /// What the kernel said.
        reason: String,
    },
    /// No answer.
    #[error("route netlink does not answer")]
    Timeout,
}

impl NodeLinks {
    /// Why bridged packets may not meet the rules; None when they do.
    pub fn bridge_problem(&self) -> Option<String> {
        if !self.br_netfilter {
            return Some(format!("br_netfilter is not loaded on the node ({BR_NETFILTER} is missing)"));
        }
        if let Some(error) = &self.bridge_error {
            return Some(error.clone());
        }
        let (name, _) = self.bridges.iter().find(|(_, flags)| !(flags.ipv4 && flags.ipv6))?;
        Some(format!("bridge {name} does not hand its packets to the rules (nf_call_iptables)"))
    }

    /// The ports of bridges that are no pod bridge.
    pub fn foreign_ports(&self, pod_interfaces: &BTreeSet<Arc<str>>) -> BTreeSet<Arc<str>> {
        let foreign = self.ports.iter().filter(|(_, bridge)| !pod_interfaces.contains(*bridge));
        foreign.map(|(port, _)| port.clone()).collect()
    }

    /// The node's own addresses in the pod network: those of the pods' side and of tunnels, which clients behind
    /// other nodes' source NAT arrive with.
    pub fn pod_network_addresses(&self, pod_interfaces: &BTreeSet<Arc<str>>) -> Vec<String> {
        let concerned = |name: &Arc<str>| pod_interfaces.contains(name) || self.tunnels.contains(name);
        let of_pods = self.addresses.iter().filter(|(name, _)| concerned(name));
        let all: BTreeSet<&IpAddr> = of_pods.flat_map(|(_, addresses)| addresses).collect();
        all.into_iter().take(MAX_ADDRESSES).map(ToString::to_string).collect()
    }
}

/// Most addresses that are told: the status takes no more.
const MAX_ADDRESSES: usize = 64;

/// Keeps `links` current, and the flags of the pods' bridges set, until nobody listens any more.
pub async fn follow(pod_interfaces: BTreeSet<Arc<str>>, links: watch::Sender<NodeLinks>) {
    while !links.is_closed() {
        if let Err(error) = session(&pod_interfaces, &links).await {
            tracing::warn!(%error, "the node's network can't be followed; trying again");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// One netlink socket's life.
async fn session(
    pod_interfaces: &BTreeSet<Arc<str>>,
    links: &watch::Sender<NodeLinks>,
) -> Result<(), LinkError> {
    let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
    let (events_connection, _events_handle, mut events) = rtnetlink::new_multicast_connection(&groups)?;
    let (connection, handle, _) = rtnetlink::new_connection()?;
    let tasks = (tokio::spawn(events_connection), tokio::spawn(connection));
    let result = loop {
        let look = tokio::time::timeout(TIMEOUT, look_and_set(&handle, pod_interfaces)).await;
        match look.map_err(|_| LinkError::Timeout).and_then(|seen| seen) {
            Ok(seen) => views::replace(links, seen),
            Err(error) => break Err(error),
        };
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = links.closed() => break Ok(()),
            event = events.next() => {
                if event.is_none() {
                    break Err(LinkError::Timeout);
                }
                tokio::time::sleep(GATHER).await;
                while let Some(Some(_)) = futures::FutureExt::now_or_never(events.next()) {}
            }
        }
    };
    tasks.0.abort();
    tasks.1.abort();
    result
}

/// Reads the network and sets the flags of pod bridges where they are not set.
///
/// # Errors
/// Where reading fails. A bridge that refuses its flags is told in [`NodeLinks::bridge_error`].
pub async fn look_and_set(
    handle: &Handle,
    pod_interfaces: &BTreeSet<Arc<str>>,
) -> Result<NodeLinks, LinkError> {
    let mut seen = look(handle, pod_interfaces).await?;
    let unset: Vec<(Arc<str>, u32)> = seen
        .bridges
        .iter()
        .filter(|(_, flags)| !flags.complete())
        .map(|(name, flags)| (name.clone(), flags.index))
        .collect();
    if unset.is_empty() {
        return Ok(seen);
    }
    let mut refused = None;
    for (name, index) in unset {
        match set_bridge_flags(handle, index).await {
            Ok(()) => tracing::info!(bridge = %name, "bridged packets are handed to the rules now"),
            Err(reason) => {
                refused = Some(LinkError::Flags { bridge: name, reason: reason.to_string() }.to_string());
            }
        }
    }
    seen = look(handle, pod_interfaces).await?;
    seen.bridge_error = refused;
    Ok(seen)
}

async fn look(handle: &Handle, pod_interfaces: &BTreeSet<Arc<str>>) -> Result<NodeLinks, LinkError> {
    let mut seen = NodeLinks { br_netfilter: Path::new(BR_NETFILTER).exists(), ..NodeLinks::default() };
    let mut names: BTreeMap<u32, Arc<str>> = BTreeMap::new();
    let mut masters: Vec<(Arc<str>, u32)> = Vec::new();
    let mut all = std::pin::pin!(handle.link().get().execute());
    while let Some(link) = all.try_next().await? {
        let Some(name) = link_name(&link) else { continue };
        if pod_interfaces.contains(&name)
            && let Some(flags) = bridge_flags(&link)
        {
            seen.bridges.insert(name.clone(), flags);
            seen.gateway_macs.extend(link_mac(&link));
        }
        if is_tunnel(&link) {
            seen.tunnels.insert(name.clone());
        }
        masters.extend(link.attributes.iter().find_map(|a| match a {
            LinkAttribute::Controller(index) => Some((name.clone(), *index)),
            _ => None,
        }));
        names.insert(link.header.index, name.clone());
        seen.interfaces.insert(name);
    }
    // A port whose bridge came or went meanwhile belongs to none; the next event brings another look.
    let ports = masters.into_iter().filter_map(|(port, master)| Some((port, names.get(&master)?.clone())));
    seen.ports = ports.collect();
    let mut all = std::pin::pin!(handle.address().get().execute());
    while let Some(message) = all.try_next().await? {
        let Some(name) = names.get(&message.header.index) else { continue };
        // IFA_LOCAL is the node's end where the two differ (point to point); IPv6 has IFA_ADDRESS alone.
        let local = message.attributes.iter().find_map(|a| match a {
            AddressAttribute::Local(address) => Some(*address),
            _ => None,
        });
        let address = local.or_else(|| {
            message.attributes.iter().find_map(|a| match a {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            })
        });
        if seen.bridges.contains_key(name) {
            seen.gateways.extend(address);
        }
        if let Some(address) = address.filter(|a| !a.is_loopback() && !is_link_local(a)) {
            seen.addresses.entry(name.clone()).or_default().insert(address);
        }
    }
    Ok(seen)
}

fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn link_name(link: &LinkMessage) -> Option<Arc<str>> {
    link.attributes.iter().find_map(|a| match a {
        LinkAttribute::IfName(name) => Some(Arc::from(&**name)),
        _ => None,
    })
}

fn link_mac(link: &LinkMessage) -> Option<Mac> {
    link.attributes.iter().find_map(|a| match a {
        LinkAttribute::Address(bytes) => <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac),
        _ => None,
    })
}

fn is_tunnel(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|a| match a {
        LinkAttribute::LinkInfo(infos) => infos.iter().any(|info| match info {
            LinkInfo::Kind(kind) => {
                matches!(kind, InfoKind::Vxlan | InfoKind::IpIp | InfoKind::Geneve | InfoKind::Wireguard)
            }
            _ => false,
        }),
        _ => false,
    })
}

/// None where the link is no bridge.
fn bridge_flags(link: &LinkMessage) -> Option<BridgeFlags> {
    let infos = link.attributes.iter().find_map(|a| match a {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    })?;
    infos.iter().find(|i| matches!(i, LinkInfo::Kind(InfoKind::Bridge)))?;
    let mut flags = BridgeFlags { index: link.header.index, ..BridgeFlags::default() };
    for info in infos {
        let LinkInfo::Data(InfoData::Bridge(data)) = info else { continue };
        for attribute in data {
            match attribute {
                InfoBridge::NfCallIpTables(on) => flags.ipv4 = *on,
                InfoBridge::NfCallIp6Tables(on) => flags.ipv6 = *on,
                InfoBridge::GroupFwdMask(mask) => flags.reserved = mask & GROUP_FWD_MASK == GROUP_FWD_MASK,
                _ => {}
            }
        }
    }
    Some(flags)
}

/// Sets `IFLA_BR_GROUP_FWD_MASK`, `IFLA_BR_NF_CALL_IPTABLES` and `IFLA_BR_NF_CALL_IP6TABLES`: these are what the sysctls of the same name would do for
/// all bridges, but possible with NET_ADMIN alone where sysctls are read only.
async fn set_bridge_flags(handle: &Handle, index: u32) -> Result<(), LinkError> {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Bridge),
        LinkInfo::Data(InfoData::Bridge(vec![
            InfoBridge::NfCallIpTables(true),
            InfoBridge::NfCallIp6Tables(true),
            InfoBridge::GroupFwdMask(GROUP_FWD_MASK),
        ])),
    ]));
    // RTM_NEWLINK changes a link that exists; RTM_SETLINK does not take the data of a link's kind.
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewLink(link));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
    let mut handle = handle.clone();
    let mut answers = handle.request(request)?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload {
            return Err(rtnetlink::Error::NetlinkError(error).into());
        }
    }
    Ok(())
}
