//! Namespaces and the scopes that choose them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::buckets::{Key, fulfilled, keys};
use super::few::Few;
use super::labels::LabelSet;
use super::slab::Id;
use super::{Index, Move, Namespace, Scope};
use crate::model::{Labels, Namespaces};
use crate::selector::Selector;

impl Index {
    pub(crate) fn namespace_id(&self, name: &str) -> Option<Id<Namespace>> {
        self.namespace_ids.get(name).copied()
    }

    /// The namespace of that name, made without an object where it is not known.
    pub(crate) fn namespace_or_new(&mut self, name: &Arc<str>) -> Id<Namespace> {
        if let Some(id) = self.namespace_ids.get(name) {
            return *id;
        }
        let name = &self.strings.intern(name);
        let labels = self.strings.namespace_labels(name, &Labels::new());
        let scopes = self.scopes_for(&labels);
        let id = self.namespaces.insert(Namespace {
            name: name.clone(),
            present: false,
            labels: LabelSet::default(),
            endpoints: BTreeMap::new(),
            scopes: Few::default(),
            named: 0,
            accounts: BTreeMap::new(),
            network_sets: 0,
        });
        self.namespace_ids.insert(name.clone(), id);
        self.file_namespace(id, labels);
        self.enter_scopes(id, &scopes);
        id
    }

    /// Other labels for a namespace: its endpoints leave and join the sets of the scopes that flip.
    pub(crate) fn relabel_namespace(&mut self, id: Id<Namespace>, labels: LabelSet) -> Vec<Move> {
        let after = self.scopes_for(&labels);
        let Some(namespace) = self.namespaces.get(id) else { return Vec::new() };
        let endpoints: Vec<_> = namespace.endpoints.values().copied().collect();
        let before: BTreeSet<_> = namespace.scopes.iter().copied().filter(|s| self.by_label(*s)).collect();
        let left: BTreeSet<_> = before.difference(&after).copied().collect();
        let joined: BTreeSet<_> = after.difference(&before).copied().collect();
        self.file_namespace(id, labels);
        if left.is_empty() && joined.is_empty() {
            return Vec::new();
        }
        self.leave_scopes(id, &left);
        self.enter_scopes(id, &joined);
        let mut moves = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            let Some(known) = self.endpoints.get(endpoint) else { continue };
            let in_scope = |set| self.sets.get(set).is_some_and(|set| left.contains(&set.scope));
            let left = known.sets.iter().copied().filter(|set| in_scope(*set)).collect();
            let joined = self.sets_for(joined.iter().copied(), known);
            moves.push(self.shift(endpoint, left, joined));
        }
        moves
    }

    /// Forgets a namespace that nothing needs any more.
    pub(crate) fn drop_namespace_if_unused(&mut self, id: Id<Namespace>) {
        let Some(namespace) = self.namespaces.get(id) else { return };
        let used = namespace.named > 0 || namespace.network_sets > 0 || !namespace.accounts.is_empty();
        if namespace.present || !namespace.endpoints.is_empty() || used {
            return;
        }
        let scopes = namespace.scopes.iter().copied().collect();
        self.leave_scopes(id, &scopes);
        self.file_namespace(id, LabelSet::default());
        if let Some(namespace) = self.namespaces.remove(id) {
            self.namespace_ids.remove(&namespace.name);
        }
    }

    /// The scope of a new set.
    pub(super) fn use_scope(&mut self, namespaces: &Namespaces) -> Id<Scope> {
        if let Some(id) = self.scope_ids.get(namespaces).copied() {
            if let Some(scope) = self.scopes.get_mut(id) {
                scope.users += 1;
            }
            return id;
        }
        let shared = Arc::new(match namespaces {
            Namespaces::Named(name) => Namespaces::Named(self.strings.intern(name)),
            Namespaces::Matching(_) => namespaces.clone(),
        });
        let scope = Scope { namespaces: shared.clone(), members: Few::default(), users: 1 };
        let id = self.scopes.insert(scope);
        self.scope_ids.insert(shared, id);
        let members = match namespaces {
            Namespaces::Named(name) => {
                let namespace = self.namespace_or_new(name);
                if let Some(namespace) = self.namespaces.get_mut(namespace) {
                    namespace.named += 1;
                }
                vec![namespace]
            }
            Namespaces::Matching(selector) => {
                for key in keys(selector) {
                    self.scope_buckets.insert((), key, id);
                }
                self.namespaces_for(selector)
            }
        };
        for namespace in members {
            self.enter_scopes(namespace, &BTreeSet::from([id]));
        }
        id
    }

    pub(super) fn release_scope(&mut self, id: Id<Scope>) {
        let Some(scope) = self.scopes.get_mut(id) else { return };
        scope.users -= 1;
        if scope.users > 0 {
            return;
        }
        let Some(scope) = self.scopes.remove(id) else { return };
        self.scope_ids.remove(&scope.namespaces);
        for member in &scope.members {
            if let Some(namespace) = self.namespaces.get_mut(*member) {
                namespace.scopes.remove(&id);
            }
        }
        match &*scope.namespaces {
            Namespaces::Named(name) => {
                let Some(namespace) = self.namespace_id(name) else { return };
                if let Some(namespace) = self.namespaces.get_mut(namespace) {
                    namespace.named -= 1;
                }
                self.drop_namespace_if_unused(namespace);
            }
            Namespaces::Matching(selector) => {
                for key in keys(selector) {
                    self.scope_buckets.remove((), key, id);
                }
            }
        }
    }

    pub(super) fn scope_members(&self, id: Id<Scope>) -> impl Iterator<Item = &Namespace> {
        let members = self.scopes.get(id).into_iter().flat_map(|scope| &scope.members);
        members.filter_map(|id| self.namespaces.get(*id))
    }

    /// Whether a namespace is in a scope.
    pub(super) fn in_scope(&self, namespace: Id<Namespace>, scope: Id<Scope>) -> bool {
        self.scopes.get(scope).is_some_and(|scope| scope.members.contains(&namespace))
    }

    fn by_label(&self, scope: Id<Scope>) -> bool {
        self.scopes.get(scope).is_some_and(|scope| matches!(*scope.namespaces, Namespaces::Matching(_)))
    }

    /// Scopes that choose a namespace with these labels by label.
    fn scopes_for(&self, labels: &LabelSet) -> BTreeSet<Id<Scope>> {
        let candidates = fulfilled(labels).flat_map(|key| self.scope_buckets.get((), key));
        let matches = |id: &Id<Scope>| match &*self.scopes.get(*id)?.namespaces {
            Namespaces::Matching(selector) => selector.matches(labels).then_some(()),
            Namespaces::Named(_) => None,
        };
        candidates.filter(|id| matches(id).is_some()).collect()
    }

    fn namespaces_for(&self, selector: &Selector) -> Vec<Id<Namespace>> {
        let matches = |id: &Id<Namespace>| {
            self.namespaces.get(*id).is_some_and(|namespace| selector.matches(&namespace.labels))
        };
        let keys = keys(selector);
        if keys.iter().all(|key| matches!(key, Key::Value(..))) {
            let candidates: BTreeSet<_> =
                keys.into_iter().flat_map(|key| self.namespace_labels.get((), key)).collect();
            candidates.into_iter().filter(matches).collect()
        } else {
            self.namespaces.iter().map(|(id, _)| id).filter(matches).collect()
        }
    }

    fn enter_scopes(&mut self, id: Id<Namespace>, scopes: &BTreeSet<Id<Scope>>) {
        for scope in scopes {
            if let Some(scope) = self.scopes.get_mut(*scope) {
                scope.members.insert(id);
            }
        }
        if let Some(namespace) = self.namespaces.get_mut(id) {
            namespace.scopes.extend(scopes.iter().copied());
        }
    }

    fn leave_scopes(&mut self, id: Id<Namespace>, scopes: &BTreeSet<Id<Scope>>) {
        for scope in scopes {
            if let Some(scope) = self.scopes.get_mut(*scope) {
                scope.members.remove(&id);
            }
        }
        if let Some(namespace) = self.namespaces.get_mut(id) {
            for scope in scopes {
                namespace.scopes.remove(scope);
            }
        }
    }

    fn file_namespace(&mut self, id: Id<Namespace>, labels: LabelSet) {
        if let Some(namespace) = self.namespaces.get_mut(id) {
            self.namespace_labels.refile(id, &namespace.labels, &labels);
            namespace.labels = labels;
        }
    }
}
