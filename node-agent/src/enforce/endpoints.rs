//! Which address belongs to which endpoint of this node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use selvage_nftables::render::owners::Owner;
use selvage_policy::compiled::{Endpoint, EndpointKey};

use crate::facts::cni::Attachment;
use crate::facts::cni_dir::CniView;

/// Who has which address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    /// Addresses of each endpoint that has any, sorted. No address is in two.
    pub addresses: BTreeMap<EndpointKey, Vec<IpAddr>>,
    /// The uid of the endpoint that has the address.
    pub owners: BTreeMap<IpAddr, Arc<str>>,
}

/// Finds the addresses of endpoints.
///
/// What the CNI plugin said decides: an address that it gave to one pod is no other's, whatever the API says, also
/// where that pod is not among the endpoints yet (then nobody has it, and it is closed). Addresses from the API fill
/// in for pods whose attachment can't be found. Attachments of an interface that is gone are left-overs and do not
/// count; of two that hold one address the younger does.
pub fn place(
    endpoints: &BTreeMap<EndpointKey, Endpoint>,
    cni: &CniView,
    interfaces: &BTreeSet<Arc<str>>,
    pod_interfaces: &BTreeSet<Arc<str>>,
) -> Placement {
    let claims = claims(cni, interfaces, pod_interfaces);
    let mut placement = Placement::default();
    let mut attached: BTreeSet<&EndpointKey> = BTreeSet::new();
    for (address, attachment) in &claims {
        let Some((key, endpoint)) = endpoints.get_key_value(&attachment.pod) else { continue };
        if attachment.uid.as_ref().is_none_or(|uid| *uid == endpoint.uid) {
            attached.insert(key);
            placement.add(key, endpoint, *address);
        }
    }
    for (key, endpoint) in endpoints {
        if attached.contains(key) {
            continue;
        }
        for address in &endpoint.addresses {
            if !claims.contains_key(address) && !placement.owners.contains_key(address) {
                placement.add(key, endpoint, *address);
            }
        }
    }
    placement
}

impl Placement {
    fn add(&mut self, key: &EndpointKey, endpoint: &Endpoint, address: IpAddr) {
        self.addresses.entry(key.clone()).or_default().push(address);
        self.owners.insert(address, endpoint.uid.clone());
    }

    /// The owners as the table records them.
    pub fn record(&self) -> BTreeMap<IpAddr, Owner> {
        self.owners.iter().map(|(address, uid)| (*address, Owner::of(uid))).collect()
    }
}

/// The pods that the CNI plugin says have an address, where it says which pod of that name.
pub fn holders(
    cni: &CniView,
    interfaces: &BTreeSet<Arc<str>>,
    pod_interfaces: &BTreeSet<Arc<str>>,
) -> BTreeMap<IpAddr, Owner> {
    let claims = claims(cni, interfaces, pod_interfaces).into_iter();
    claims
        .filter_map(|(address, attachment)| Some((address, Owner::of(attachment.uid.as_deref()?))))
        .collect()
}

/// The attachment that has an address: of those that are alive the youngest.
pub(super) fn claims<'a>(
    cni: &'a CniView,
    interfaces: &BTreeSet<Arc<str>>,
    pod_interfaces: &BTreeSet<Arc<str>>,
) -> BTreeMap<IpAddr, &'a Attachment> {
    let mut alive: Vec<&Attachment> =
        cni.attachments.iter().flatten().filter(|a| is_alive(a, interfaces, pod_interfaces)).collect();
    // The youngest first; the rest of the order is arbitrary but always the same.
    alive.sort_by(|a, b| {
        (b.written, &a.pod, &a.uid, &a.addresses).cmp(&(a.written, &b.pod, &b.uid, &b.addresses))
    });
    let mut claims: BTreeMap<IpAddr, &Attachment> = BTreeMap::new();
    for attachment in &alive {
        for address in &attachment.addresses {
            claims.entry(*address).or_insert(attachment);
        }
    }
    claims
}

/// True unless every interface that the attachment had of its own is gone. Bridges are shared, so they say nothing.
fn is_alive(
    attachment: &Attachment,
    interfaces: &BTreeSet<Arc<str>>,
    pod_interfaces: &BTreeSet<Arc<str>>,
) -> bool {
    let mut own = attachment.host_interfaces.iter().filter(|name| !pod_interfaces.contains(*name)).peekable();
    own.peek().is_none() || own.any(|name| interfaces.contains(name))
}

#[cfg(test)]
mod tests;
