//! Pod sets and the endpoints in them.

use std::collections::BTreeSet;

use super::buckets::keys;
use super::few::{Few, Tally};
use super::labels::LabelSet;
use super::postings::Candidates;
use super::slab::Id;
use super::{Endpoint, Index, Move, Scope, Set};
use crate::compile::group::hash128;
use crate::model::PodSet;
use crate::selector::Selector;

impl Index {
    /// A user more for a set in canonical form, which is made where it is not known.
    pub(crate) fn use_set(&mut self, pods: &PodSet) -> Id<Set> {
        let hash = hash128(&pods.to_string());
        if let Some(id) = self.set_ids.get(&hash).copied() {
            if let Some(set) = self.sets.get_mut(id) {
                set.users += 1;
            }
            return id;
        }
        let scope = self.use_scope(&pods.namespaces);
        let members = self.endpoints_for(scope, pods);
        let id = self.sets.insert(Set {
            hash,
            scope,
            accounts: self.selectors.get_or(&pods.accounts, || pods.accounts.clone().into()),
            selector: self.selectors.get_or(&pods.pods, || pods.pods.clone().into()),
            users: 1,
            members: members.iter().copied().collect(),
            subjects: Few::default(),
            nodes: Tally::default(),
            groups: Few::default(),
            changed: false,
            judged: false,
        });
        self.set_ids.insert(hash, id);
        for key in keys(&pods.pods) {
            self.set_buckets.insert(scope, key, id);
        }
        for member in members {
            if let Some(endpoint) = self.endpoints.get_mut(member)
                && let Err(place) = endpoint.sets.binary_search(&id)
            {
                endpoint.sets.insert(place, id);
            }
        }
        id
    }

    /// A user less; without users the set is forgotten.
    pub(crate) fn release_set(&mut self, id: Id<Set>) {
        let Some(set) = self.sets.get_mut(id) else { return };
        set.users -= 1;
        if set.users > 0 {
            return;
        }
        let Some(set) = self.sets.remove(id) else { return };
        self.set_ids.remove(&set.hash);
        for key in keys(&set.selector) {
            self.set_buckets.remove(set.scope, key, id);
        }
        for member in &set.members {
            if let Some(endpoint) = self.endpoints.get_mut(*member) {
                endpoint.sets.retain(|known| *known != id);
            }
        }
        self.release_scope(set.scope);
    }

    /// Puts a new endpoint where its labels belong.
    pub(crate) fn insert_endpoint(&mut self, endpoint: Endpoint) -> (Id<Endpoint>, Move) {
        let (namespace, name) = (endpoint.namespace, endpoint.name.clone());
        let id = self.endpoints.insert(endpoint);
        if let Some(endpoint) = self.endpoints.get(id) {
            self.postings.refile(id, &LabelSet::default(), &endpoint.labels);
        }
        if let Some(namespace) = self.namespaces.get_mut(namespace) {
            namespace.endpoints.insert(name, id);
        }
        let joined = self.matching(id);
        (id, self.shift(id, Vec::new(), joined))
    }

    /// Other labels for an endpoint.
    pub(crate) fn relabel_endpoint(&mut self, id: Id<Endpoint>, labels: LabelSet) -> Option<Move> {
        let endpoint = self.endpoints.get_mut(id)?;
        self.postings.refile(id, &endpoint.labels, &labels);
        endpoint.labels = labels;
        self.reassign(id)
    }

    /// Moves an endpoint to the sets where it belongs now.
    pub(crate) fn reassign(&mut self, id: Id<Endpoint>) -> Option<Move> {
        let after: BTreeSet<_> = self.matching(id).into_iter().collect();
        let before: BTreeSet<_> = self.endpoints.get(id)?.sets.iter().copied().collect();
        let left = before.difference(&after).copied().collect();
        let joined = after.difference(&before).copied().collect();
        Some(self.shift(id, left, joined))
    }

    /// Takes an endpoint out of every set: to be followed by [`Index::remove_endpoint`].
    pub(crate) fn leave_all(&mut self, id: Id<Endpoint>) -> Option<Move> {
        let left = self.endpoints.get(id)?.sets.clone();
        Some(self.shift(id, left, Vec::new()))
    }

    /// Forgets an endpoint that is in no set.
    pub(crate) fn remove_endpoint(&mut self, id: Id<Endpoint>) -> Option<Endpoint> {
        let endpoint = self.endpoints.remove(id)?;
        self.postings.refile(id, &endpoint.labels, &LabelSet::default());
        if let Some(namespace) = self.namespaces.get_mut(endpoint.namespace) {
            namespace.endpoints.remove(&endpoint.name);
        }
        self.drop_namespace_if_unused(endpoint.namespace);
        Some(endpoint)
    }

    /// Moves an endpoint out of some sets and into others.
    pub(super) fn shift(&mut self, id: Id<Endpoint>, left: Vec<Id<Set>>, joined: Vec<Id<Set>>) -> Move {
        for set in &left {
            if let Some(set) = self.sets.get_mut(*set) {
                set.members.remove(&id);
            }
        }
        for set in &joined {
            if let Some(set) = self.sets.get_mut(*set) {
                set.members.insert(id);
            }
        }
        if let Some(endpoint) = self.endpoints.get_mut(id)
            && !(left.is_empty() && joined.is_empty())
        {
            endpoint.sets.retain(|set| !left.contains(set));
            endpoint.sets.extend(&joined);
            endpoint.sets.sort_unstable();
        }
        Move { endpoint: id, left, joined }
    }

    /// Sets that an endpoint belongs to by its namespace and labels.
    fn matching(&self, id: Id<Endpoint>) -> Vec<Id<Set>> {
        let Some(endpoint) = self.endpoints.get(id) else { return Vec::new() };
        let Some(namespace) = self.namespaces.get(endpoint.namespace) else { return Vec::new() };
        self.sets_for(namespace.scopes.iter().copied(), endpoint)
    }

    /// Sets of these scopes that an endpoint of theirs belongs to, sorted.
    pub(super) fn sets_for(
        &self,
        scopes: impl Iterator<Item = Id<Scope>>,
        endpoint: &Endpoint,
    ) -> Vec<Id<Set>> {
        let mut found = Vec::new();
        let labels = self.pod_labels(endpoint);
        for scope in scopes {
            let candidates = labels.fulfilled().flat_map(|key| self.set_buckets.get(scope, key));
            found.extend(candidates.filter(|id| {
                self.sets.get(*id).is_some_and(|set| {
                    set.scope == scope
                        && set.selector.matches(&labels)
                        && self.runs_as(endpoint, &set.accounts)
                })
            }));
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Endpoints of a scope that are in a set, sorted: asked one by one where the scope has fewer than the lists by label.
    fn endpoints_for(&self, scope: Id<Scope>, pods: &PodSet) -> Vec<Id<Endpoint>> {
        let all = self.endpoints.len();
        let by_scope: usize = self.scope_members(scope).map(|namespace| namespace.endpoints.len()).sum();
        let whole = by_scope == all;
        let mut found = if by_scope < self.postings.bound(all, &pods.pods) {
            let members = self.scope_members(scope).flat_map(|namespace| namespace.endpoints.values());
            Candidates { ids: members.copied().collect(), exact: false }
        } else {
            self.postings.candidates(&self.endpoints, &pods.pods)
        };
        if whole && found.exact && pods.accounts == Selector::All {
            return found.ids;
        }
        found.ids.retain(|id| {
            self.endpoints.get(*id).is_some_and(|endpoint| {
                (whole || self.in_scope(endpoint.namespace, scope))
                    && (found.exact || pods.pods.matches(&self.pod_labels(endpoint)))
                    && self.runs_as(endpoint, &pods.accounts)
            })
        });
        found.ids.sort_unstable();
        found.ids
    }
}
