//! Service accounts, and the labels that pods have by what they are.

use std::sync::Arc;

use super::buckets::{Key, fulfilled};
use super::labels::LabelSet;
use super::slab::Id;
use super::{Endpoint, Index, Move, Namespace};
use crate::model::given;
use crate::selector::{LabelSource, Selector};

/// A pod's labels: its own, and those that it is given.
pub(super) struct PodLabels<'a> {
    own: &'a LabelSet,
    namespace: &'a str,
    account: &'a str,
}

/// A service account's labels: its own, and its name.
struct AccountLabels<'a> {
    own: Option<&'a LabelSet>,
    name: &'a str,
}

/// What every pod's [`given::ORCHESTRATOR`] says.
const ORCHESTRATOR: &str = "k8s";

impl Index {
    pub(super) fn pod_labels<'a>(&'a self, endpoint: &'a Endpoint) -> PodLabels<'a> {
        let namespace = self.namespaces.get(endpoint.namespace).map_or("", |namespace| &namespace.name);
        PodLabels { own: &endpoint.labels, namespace, account: &endpoint.account }
    }

    /// Whether an endpoint's service account is one of those that a selector matches.
    pub(super) fn runs_as(&self, endpoint: &Endpoint, accounts: &Selector) -> bool {
        if *accounts == Selector::All {
            return true;
        }
        let namespace = self.namespaces.get(endpoint.namespace);
        let own = namespace.and_then(|namespace| namespace.accounts.get(&endpoint.account));
        accounts.matches(&AccountLabels { own, name: &endpoint.account })
    }

    /// Other labels for a service account, or none where its object is gone: its own pods are asked again.
    pub(crate) fn relabel_account(
        &mut self,
        namespace: Id<Namespace>,
        account: &Arc<str>,
        labels: Option<LabelSet>,
    ) -> Vec<Move> {
        let Some(known) = self.namespaces.get_mut(namespace) else { return Vec::new() };
        if known.accounts.get(account) == labels.as_ref() {
            return Vec::new();
        }
        match labels {
            Some(labels) => known.accounts.insert(account.clone(), labels),
            None => known.accounts.remove(account),
        };
        let endpoints: Vec<Id<Endpoint>> = known.endpoints.values().copied().collect();
        let runs =
            |id: &Id<Endpoint>| self.endpoints.get(*id).is_some_and(|endpoint| endpoint.account == *account);
        let own: Vec<Id<Endpoint>> = endpoints.into_iter().filter(runs).collect();
        own.into_iter().filter_map(|id| self.reassign(id)).collect()
    }
}

impl PodLabels<'_> {
    /// The keys that the pod fulfils.
    pub(super) fn fulfilled(&self) -> impl Iterator<Item = Key<'_>> {
        let given = [given::NAMESPACE, given::SERVICE_ACCOUNT, given::ORCHESTRATOR].into_iter();
        let given = given.filter_map(|key| Some((key, self.label(key)?)));
        let given = given.flat_map(|(key, value)| [Key::Present(key), Key::Value(key, value)]);
        fulfilled(self.own).chain(given)
    }
}

impl LabelSource for PodLabels<'_> {
    fn label(&self, key: &str) -> Option<&str> {
        match key {
            given::NAMESPACE => Some(self.namespace),
            given::SERVICE_ACCOUNT => Some(self.account),
            given::ORCHESTRATOR => Some(ORCHESTRATOR),
            key => self.own.label(key),
        }
    }
}

impl LabelSource for AccountLabels<'_> {
    fn label(&self, key: &str) -> Option<&str> {
        match key {
            given::NAME => Some(self.name),
            key => self.own?.label(key),
        }
    }
}
