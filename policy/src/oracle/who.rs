//! "Who is judged": which endpoint an address is, and which selections contain an endpoint.

use std::net::IpAddr;
use std::sync::Arc;

use super::Objects;
use crate::compiled::EndpointKey;
use crate::model::{Key, Labels, Namespaces, NetworkSet, Pod, PodSet, SetSelection, given};
use crate::selector::{Selector, TextTest};

/// The endpoint that an address is: "Two live pods with one address: the one whose node owns the block wins, then the
/// newer." What is equal in both is decided by uid, then name, so that there is one answer.
///
/// Pods on the host network and finished ones are not among the objects: their addresses are no endpoint's.
pub fn owner(objects: &Objects, address: IpAddr) -> Option<(&EndpointKey, &Pod)> {
    let mut best: Option<(&EndpointKey, &Pod)> = None;
    for (key, pod) in &objects.pods {
        if !pod.addresses.contains(&address) {
            continue;
        }
        let beats = |other: (&EndpointKey, &Pod)| {
            let (mine, theirs) =
                (on_its_block(objects, pod, address), on_its_block(objects, other.1, address));
            if mine != theirs {
                return mine;
            }
            (pod.created, &pod.uid, key) > (other.1.created, &other.1.uid, other.0)
        };
        if best.is_none_or(beats) {
            best = Some((key, pod));
        }
    }
    best
}

fn on_its_block(objects: &Objects, pod: &Pod, address: IpAddr) -> bool {
    let node = objects.nodes.get(&pod.node);
    node.is_some_and(|node| node.blocks.iter().any(|block| block.contains(&address)))
}

/// Whether a selection of pods contains an endpoint: by its namespace, its service account and its labels, "own,
/// namespace and service-account labels kept apart", all as they are now.
pub fn contains(objects: &Objects, selection: &PodSet, key: &EndpointKey) -> bool {
    let Some(pod) = objects.pods.get(key) else { return false };
    let own = labelled(
        &pod.labels,
        &[
            (given::NAMESPACE, &key.namespace),
            (given::SERVICE_ACCOUNT, &pod.service_account),
            (given::ORCHESTRATOR, &"k8s".into()),
        ],
    );
    let account = Key { namespace: key.namespace.clone(), name: pod.service_account.clone() };
    let account = match objects.accounts.get(&account) {
        Some(object) => labelled(&object.labels, &[(given::NAME, &account.name)]),
        None => labelled(&Labels::new(), &[(given::NAME, &account.name)]),
    };
    in_namespaces(objects, &selection.namespaces, &key.namespace)
        && holds(&selection.accounts, &account)
        && holds(&selection.pods, &own)
}

/// Whether a selection of sets contains a NetworkSet, or a GlobalNetworkSet, whose key has no namespace.
pub fn contains_set(objects: &Objects, selection: &SetSelection, key: &Key, set: &NetworkSet) -> bool {
    let global = key.namespace.is_empty();
    let labels = match global {
        true => labelled(&set.labels, &[]),
        false => labelled(&set.labels, &[(given::NAMESPACE, &key.namespace)]),
    };
    let there = match &selection.namespaces {
        None => global,
        Some(namespaces) => !global && in_namespaces(objects, namespaces, &key.namespace),
    };
    there && holds(&selection.sets, &labels)
}

/// "`kubernetes.io/metadata.name` is always there", and so is the given name.
fn in_namespaces(objects: &Objects, namespaces: &Namespaces, name: &Arc<str>) -> bool {
    match namespaces {
        Namespaces::Named(only) => only == name,
        Namespaces::Matching(selector) => {
            let given = [("kubernetes.io/metadata.name", name), (given::NAME, name)];
            let labels = match objects.namespaces.get(name) {
                Some(object) => labelled(&object.labels, &given),
                None => labelled(&Labels::new(), &given),
            };
            holds(selector, &labels)
        }
    }
}

/// An object's own labels and those it is given: nobody can forge the latter.
fn labelled(own: &Labels, given: &[(&str, &Arc<str>)]) -> Labels {
    let mut labels = own.clone();
    labels.retain(|key, _| !given::is_given(key));
    labels.extend(given.iter().map(|(key, value)| (Arc::from(*key), Arc::clone(value))));
    labels
}

/// What a selector says of labels: "With the label absent, `!=` and `not in` are true, the rest false."
pub fn holds(selector: &Selector, labels: &Labels) -> bool {
    let value = |key: &Arc<str>| labels.get(key).map(|value| &**value);
    match selector {
        Selector::All => true,
        Selector::Has(key) => value(key).is_some(),
        Selector::In(key, list) => value(key).is_some_and(|value| list.iter().any(|one| **one == *value)),
        Selector::NotIn(key, list) => value(key).is_none_or(|value| list.iter().all(|one| **one != *value)),
        Selector::Text(key, test, text) => value(key).is_some_and(|value| match test {
            TextTest::Contains => value.contains(&**text),
            TextTest::StartsWith => value.starts_with(&**text),
            TextTest::EndsWith => value.ends_with(&**text),
        }),
        Selector::Not(inner) => !holds(inner, labels),
        Selector::And(parts) => parts.iter().all(|part| holds(part, labels)),
        Selector::Or(parts) => parts.iter().any(|part| holds(part, labels)),
    }
}
