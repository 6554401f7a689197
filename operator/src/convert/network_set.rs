//! selvage.io NetworkSet and GlobalNetworkSet.

use kube::core::ObjectMeta;
use selvage_crds::{GlobalNetworkSet, NetworkSet};
use selvage_policy::model::{self, Key};

use super::cidr::{net, note_masked};
use super::objects::{labels, object_key};
use super::result::Read;
use super::{Issue, Reason};

/// How many entries of a sort are named; a set may have tens of thousands.
const NAMED: usize = 20;

/// Reads a NetworkSet; None for an object without name or namespace, which no API server hands out.
pub fn network_set(object: &NetworkSet) -> Option<(Key, Read<model::NetworkSet>)> {
    Some((
        object_key(&object.metadata)?,
        read(&object.metadata, &object.spec.nets, object.spec.allowed_egress_domains.is_some()),
    ))
}

/// Reads a GlobalNetworkSet; None for an object without name, which no API server hands out.
pub fn global_network_set(object: &GlobalNetworkSet) -> Option<(Key, Read<model::NetworkSet>)> {
    let key = Key { namespace: "".into(), name: object.metadata.name.as_deref()?.into() };
    Some((key, read(&object.metadata, &object.spec.nets, object.spec.allowed_egress_domains.is_some())))
}

/// Every entry that can be read, once.
fn read(metadata: &ObjectMeta, given: &[String], domains: bool) -> Read<model::NetworkSet> {
    let (mut nets, mut wrong, mut notes) = (Vec::with_capacity(given.len()), Vec::new(), Vec::new());
    let mut unreadable = 0usize;
    for (index, text) in given.iter().enumerate() {
        match net(text) {
            Ok(block) => {
                if block.masked && notes.len() < NAMED {
                    note_masked(&format!("spec.nets[{index}]"), text, block, &mut notes);
                }
                nets.push(block.net);
            }
            Err(why) => {
                unreadable += 1;
                if wrong.len() < NAMED {
                    let message = format!("{text:?} {why}: the entry is left out");
                    wrong.push(Issue::new(format!("spec.nets[{index}]"), Reason::InvalidCIDR, message));
                }
            }
        }
    }
    if unreadable > wrong.len() {
        let message = format!("{unreadable} entries can't be read and are left out; the first are named");
        wrong.push(Issue::new("spec.nets", Reason::InvalidCIDR, message));
    }
    if domains {
        let why = "domain names are not supported: they are ignored";
        wrong.push(Issue::new("spec.allowedEgressDomains", Reason::Unsupported, why));
    }
    nets.sort_unstable();
    nets.dedup();
    wrong.append(&mut notes);
    Read::new(metadata, Some(model::NetworkSet { labels: labels(metadata), nets }), wrong)
}
