//! "Who is judged": endpoints, their addresses, and who lies in which selection.

use std::net::IpAddr;

use super::Objects;
use crate::compiled::EndpointKey;
use crate::model::{Key, Labels, Namespaces, NetworkSet, Pod, PodSet, SetSelection, given};
use crate::selector::{LabelSource, Selector};

/// The endpoint that owns an address. Of two live pods with one address the one whose node owns the block wins, then the
/// newer; what is equal in both is decided by uid and name, so that the answer is certain.
pub fn owner(objects: &Objects, address: IpAddr) -> Option<(&EndpointKey, &Pod)> {
    objects.pods.iter().filter(|(_, pod)| pod.addresses.contains(&address)).max_by_key(|(key, pod)| {
        let node = objects.nodes.get(&pod.node);
        let owns = node.is_some_and(|node| node.blocks.iter().any(|block| block.contains(&address)));
        (owns, pod.created, pod.uid.clone(), (*key).clone())
    })
}

/// Whether a selection of pods contains an endpoint.
pub fn contains(objects: &Objects, set: &PodSet, key: &EndpointKey) -> bool {
    let Some(pod) = objects.pods.get(key) else { return false };
    let mut labels = pod.labels.clone();
    give(&mut labels, given::NAMESPACE, &key.namespace);
    give(&mut labels, given::SERVICE_ACCOUNT, &pod.service_account);
    give(&mut labels, given::ORCHESTRATOR, "k8s");
    let account = Key { namespace: key.namespace.clone(), name: pod.service_account.clone() };
    let mut account_labels = objects.accounts.get(&account).map(|a| a.labels.clone()).unwrap_or_default();
    give(&mut account_labels, given::NAME, &account.name);
    in_namespaces(objects, &set.namespaces, &key.namespace)
        && selects(&set.accounts, &account_labels)
        && selects(&set.pods, &labels)
}

/// Whether a selection of sets contains one.
pub fn contains_set(objects: &Objects, selection: &SetSelection, key: &Key, set: &NetworkSet) -> bool {
    let mut labels = set.labels.clone();
    if !key.namespace.is_empty() {
        give(&mut labels, given::NAMESPACE, &key.namespace);
    }
    let place = match &selection.namespaces {
        None => key.namespace.is_empty(),
        Some(namespaces) => !key.namespace.is_empty() && in_namespaces(objects, namespaces, &key.namespace),
    };
    place && selects(&selection.sets, &labels)
}

fn in_namespaces(objects: &Objects, namespaces: &Namespaces, name: &str) -> bool {
    match namespaces {
        Namespaces::Named(wanted) => **wanted == *name,
        Namespaces::Matching(selector) => {
            let mut labels = objects.namespaces.get(name).map(|ns| ns.labels.clone()).unwrap_or_default();
            // Always there, whatever the object says.
            give(&mut labels, "kubernetes.io/metadata.name", name);
            give(&mut labels, given::NAME, name);
            selects(selector, &labels)
        }
    }
}

fn give(labels: &mut Labels, key: &str, value: &str) {
    labels.insert(key.into(), value.into());
}

/// What a selector says of labels. With the label absent, `not in` holds and every other condition on it does not.
pub fn selects(selector: &Selector, labels: &Labels) -> bool {
    match selector {
        Selector::All => true,
        Selector::Has(key) => labels.contains_key(key),
        Selector::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
        Selector::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
        Selector::Text(key, test, text) => labels.label(key).is_some_and(|value| match test {
            crate::selector::TextTest::Contains => value.contains(&**text),
            crate::selector::TextTest::StartsWith => value.starts_with(&**text),
            crate::selector::TextTest::EndsWith => value.ends_with(&**text),
        }),
        Selector::Not(inner) => !selects(inner, labels),
        Selector::And(parts) => parts.iter().all(|part| selects(part, labels)),
        Selector::Or(parts) => parts.iter().any(|part| selects(part, labels)),
    }
}
