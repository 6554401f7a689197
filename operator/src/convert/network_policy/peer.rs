//! Peers of a rule.

use std::sync::Arc;

use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicyPeer};
use selvage_policy::model::{Entity, Namespaces, Peer, PodSet};
use selvage_policy::selector::Selector;

use crate::convert::cidr::{block, note_masked};
use crate::convert::label_selector::{Values, selector};
use crate::convert::{Issue, Reason};

/// Reads a rule's `from` or `to`. No entry means any address; an entry that can't be read matches nothing.
pub(super) fn peers(
    path: &str,
    namespace: &Arc<str>,
    given: Option<&[NetworkPolicyPeer]>,
    issues: &mut Vec<Issue>,
) -> Entity {
    let given = given.unwrap_or_default();
    if given.is_empty() {
        return Entity::default();
    }
    let entry = |(index, peer)| {
        one(&format!("{path}[{index}]"), namespace, peer, issues).unwrap_or_else(|issue| {
            issues.push(issue);
            Peer::Nothing
        })
    };
    Entity::any_of(given.iter().enumerate().map(entry).collect())
}

fn one(
    path: &str,
    namespace: &Arc<str>,
    given: &NetworkPolicyPeer,
    issues: &mut Vec<Issue>,
) -> Result<Peer, Issue> {
    let invalid = |why| Issue::new(path, Reason::InvalidPeer, format!("{why}: the peer matches nothing"));
    match (&given.ip_block, &given.namespace_selector, &given.pod_selector) {
        (None, None, None) => Err(invalid("it has none of ipBlock, namespaceSelector and podSelector")),
        (Some(given), None, None) => ip_block(&format!("{path}.ipBlock"), given, issues),
        (Some(_), _, _) => Err(invalid("ipBlock excludes namespaceSelector and podSelector")),
        (None, namespaces, pods) => {
            let namespaces = match namespaces {
                None => Namespaces::Named(namespace.clone()),
                Some(given) => Namespaces::Matching(selector(
                    &format!("{path}.namespaceSelector"),
                    given,
                    Values::Literal,
                )?),
            };
            let pods = match pods {
                None => Selector::All,
                Some(given) => selector(&format!("{path}.podSelector"), given, Values::Literal)?,
            };
            Ok(Peer::Pods(PodSet { namespaces, accounts: Selector::All, pods }))
        }
    }
}

/// One `except` that can't be read removes the whole block: leaving the entry out would let in what it keeps out.
fn ip_block(path: &str, given: &IPBlock, issues: &mut Vec<Issue>) -> Result<Peer, Issue> {
    let cidr_path = format!("{path}.cidr");
    let cidr = block(&given.cidr).map_err(|why| {
        let message = format!("{:?} {why}: the peer matches nothing", given.cidr);
        Issue::new(&cidr_path, Reason::InvalidCIDR, message)
    })?;
    note_masked(&cidr_path, &given.cidr, cidr, issues);
    let mut except = Vec::new();
    for (index, text) in given.except.iter().flatten().enumerate() {
        let path = format!("{path}.except[{index}]");
        let refused = |why: &str| {
            let message = format!("{text:?} {why}: the whole of {} matches nothing", cidr.net);
            Issue::new(&path, Reason::InvalidExcept, message)
        };
        let part = block(text).map_err(refused)?;
        if !cidr.net.contains(&part.net) {
            return Err(refused("does not lie inside the cidr"));
        }
        note_masked(&path, text, part, issues);
        except.push(part.net);
    }
    Ok(Peer::Block { net: cidr.net, except })
}
