//! selvage.io IPPool.

use std::sync::Arc;

use selvage_crds::IPPool;
use selvage_policy::model::Pool;
use selvage_policy::selector::{Chosen, Selector};

use super::cidr::{block, note_masked};
use super::result::Read;
use super::selector::selector;
use super::{Issue, Reason};

/// Reads an IPPool; None for an object without name, which no API server hands out.
///
/// A pool whose nodes can't be told masquerades nowhere. It is a pool none the less: what goes to it from others must
/// not be masqueraded.
pub fn ip_pool(object: &IPPool) -> Option<(Arc<str>, Read<Pool>)> {
    let name = object.metadata.name.as_deref()?.into();
    let spec = &object.spec;
    let mut issues = Vec::new();
    let net = match block(&spec.cidr) {
        Ok(block) => {
            note_masked("spec.cidr", &spec.cidr, block, &mut issues);
            Some(block.net)
        }
        Err(why) => {
            let message = format!("{:?} {why}: the pool is not used", spec.cidr);
            issues.push(Issue::new("spec.cidr", Reason::InvalidCIDR, message));
            None
        }
    };
    let mut unreadable = Vec::new();
    let nodes = selector("spec.nodeSelector", spec.node_selector.as_deref(), Chosen::Nodes, &mut unreadable);
    let nodes = if unreadable.is_empty() { nodes.unwrap_or(Selector::All) } else { Selector::nothing() };
    for mut issue in unreadable {
        issue.message.push_str(": no node masquerades for the pool");
        issues.push(issue);
    }
    let pool = net.map(|net| Pool { net, nat_outgoing: spec.nat_outgoing, nodes });
    Some((name, Read::new(&object.metadata, pool, issues)))
}
