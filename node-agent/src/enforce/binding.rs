//! What each port of the pods' bridge is held to, and what was counted of those that did not keep to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use selvage_nftables::model::Name;
use selvage_nftables::netlink::Counts;
use selvage_nftables::render::bridge::{Binding, BridgeFacts, Spoof, spoof};
use selvage_policy::compiled::EndpointKey;

use super::endpoints::claims;
use crate::facts::cni_dir::CniView;
use crate::facts::links::NodeLinks;
use crate::metrics::Metrics;

/// The ports of pods, as the CNI results and the node's network tell.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    pub facts: BridgeFacts,
    /// Which pod is behind a port.
    pods: BTreeMap<Arc<str>, EndpointKey>,
}

impl Bindings {
    /// A port is bound where the CNI result of one pod says its name, its MAC address and its addresses, and it is a
    /// port of a pod bridge now. Of two results that name one port the younger counts, and of two that hold one address
    /// as well.
    pub fn of(cni: &CniView, links: &NodeLinks, pod_interfaces: &BTreeSet<Arc<str>>) -> Self {
        let claims = claims(cni, &links.interfaces, pod_interfaces);
        let mut bindings = Self {
            facts: BridgeFacts {
                foreign_ports: links.foreign_ports(pod_interfaces),
                ports: BTreeMap::new(),
                gateway_macs: links.gateway_macs.clone(),
                gateways: links.gateways.clone(),
            },
            pods: BTreeMap::new(),
        };
        let mut written = BTreeMap::new();
        for (address, attachment) in claims {
            let is_port = |name: &&Arc<str>| {
                links.ports.get(*name).is_some_and(|bridge| pod_interfaces.contains(bridge))
            };
            let mut ports = attachment.host_interfaces.iter().filter(is_port);
            let (Some(port), None, Some(mac)) = (ports.next(), ports.next(), attachment.mac) else {
                continue;
            };
            let mine = (attachment.written, &attachment.pod);
            match written.get(port) {
                Some(other) if *other > mine => continue,
                Some(other) if *other == mine => {}
                _ => {
                    written.insert(port.clone(), mine);
                    bindings.facts.ports.remove(port);
                }
            }
            let fresh = || Binding { mac, addresses: BTreeSet::new() };
            bindings.facts.ports.entry(port.clone()).or_insert_with(fresh).addresses.insert(address);
            bindings.pods.insert(port.clone(), attachment.pod.clone());
        }
        bindings
    }

    /// True where the pod has a port that is held to its addresses.
    pub fn binds(&self, pod: &EndpointKey) -> bool {
        self.pods.values().any(|bound| bound == pod)
    }
}

/// What was counted, which goes on where a counter was made anew.
#[derive(Debug, Default)]
pub(super) struct Spoofing {
    last: HashMap<(Name, Arc<str>), u64>,
}

impl Spoofing {
    /// Adds what is new to the figures, and names in the log who sent it.
    pub fn take(
        &mut self,
        counted: &HashMap<(Name, Arc<str>), Counts>,
        bindings: &Bindings,
        metrics: &Metrics,
    ) {
        let mut now = HashMap::new();
        for ((chain, id), counts) in counted {
            let Some(spoof) = spoof(chain, id) else { continue };
            let key = (chain.clone(), id.clone());
            let before = self.last.get(&key).copied().unwrap_or(0);
            // A counter that was made anew begins at nothing.
            let new = counts.packets.checked_sub(before).unwrap_or(counts.packets);
            now.insert(key, counts.packets);
            match spoof {
                Spoof::Reason(reason) => metrics.spoofed(reason, new),
                Spoof::Port(port) => {
                    let pod = port.and_then(|port| bindings.pods.get(port));
                    if new > 0 {
                        tracing::warn!(
                            port = port.unwrap_or("without a CNI result"),
                            pod = pod.map(ToString::to_string),
                            packets = new,
                            "a pod claims to be another; nothing of it got through"
                        );
                    }
                    if new > 0 || pod.is_none() {
                        metrics.spoofed_by(pod, new);
                    }
                }
            }
        }
        self.last = now;
    }
}

#[cfg(test)]
mod tests;
