//! Address groups: who names them, where they are needed, and what changed in them since the last flush.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::{Delta, GroupDelta, Node};
use crate::compile::group::GroupSpec;
use crate::compiled::{GroupId, GroupKind, Member, NamedPort};
use crate::index::slab::{Id, Slab};
use crate::index::{Endpoint, Index, Set};

/// Every group that a policy names.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: Slab<Group>,
    ids: HashMap<GroupId, Id<Group>>,
    /// Changes since the last flush, of groups that were in a span then.
    pending: HashMap<Id<Group>, HashMap<Member, i32>>,
    /// Groups whose span changed since the last flush.
    spans: BTreeMap<Id<Group>, SpanChange>,
    /// Groups that lost their last policy since the last flush.
    unused: Vec<Id<Group>>,
}

/// One group.
#[derive(Debug)]
pub(crate) struct Group {
    id: GroupId,
    kind: GroupKind,
    /// For a group of kind [`GroupKind::Ports`].
    port: Option<NamedPort>,
    set: Id<Set>,
    /// How many policies name it.
    users: u32,
    /// Nodes whose published policy names it.
    span: BTreeSet<Id<Node>>,
    /// The span was not empty at the last flush.
    published: bool,
}

#[derive(Debug, Default)]
struct SpanChange {
    added: Vec<Arc<str>>,
    removed: Vec<Arc<str>>,
}

/// Whether something came or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    Plus,
    Minus,
}

impl Groups {
    /// A policy more that names a group.
    pub(crate) fn acquire(&mut self, index: &mut Index, id: GroupId, spec: &GroupSpec) -> Id<Group> {
        if let Some(known) = self.ids.get(&id).copied() {
            if let Some(group) = self.groups.get_mut(known) {
                group.users += 1;
            }
            return known;
        }
        let set = index.use_set(&spec.pods);
        let group = self.groups.insert(Group {
            id,
            kind: spec.kind(),
            port: spec.port.clone(),
            set,
            users: 1,
            span: BTreeSet::new(),
            published: false,
        });
        self.ids.insert(id, group);
        if let Some(set) = index.sets.get_mut(set) {
            set.groups.push(group);
        }
        group
    }

    /// A policy less. The group stays until the next flush: it may be in a span, or be named again.
    pub(crate) fn release(&mut self, id: Id<Group>) {
        let Some(group) = self.groups.get_mut(id) else { return };
        group.users -= 1;
        if group.users == 0 {
            self.unused.push(id);
        }
    }

    /// An address that an endpoint owns came into these sets or went out of them.
    pub(crate) fn contribute(
        &mut self,
        index: &Index,
        endpoint: &Endpoint,
        address: IpAddr,
        sets: &[Id<Set>],
        sign: Sign,
    ) {
        for id in sets.iter().filter_map(|set| index.sets.get(*set)).flat_map(|set| &set.groups) {
            let Some(group) = self.groups.get(*id).filter(|group| group.published) else { continue };
            for member in members(group.port.as_ref(), endpoint, address) {
                let changes = self.pending.entry(*id).or_default();
                let count = changes.entry(member).or_default();
                *count += if sign == Sign::Plus { 1 } else { -1 };
                if *count == 0 {
                    changes.remove(&member);
                }
            }
        }
    }

    /// A node's policy names a group, or does not any more.
    pub(crate) fn span(&mut self, id: GroupId, node: Id<Node>, name: &Arc<str>, sign: Sign) {
        let Some(id) = self.ids.get(&id).copied() else { return };
        let Some(group) = self.groups.get_mut(id) else { return };
        let change = self.spans.entry(id).or_default();
        match sign {
            Sign::Plus => {
                group.span.insert(node);
                change.added.push(name.clone());
            }
            Sign::Minus => {
                group.span.remove(&node);
                change.removed.push(name.clone());
            }
        }
    }

    /// Moves what changed into the delta, and forgets groups that nothing needs.
    pub(crate) fn flush(&mut self, index: &mut Index, delta: &mut Delta) {
        let mut pending = std::mem::take(&mut self.pending);
        let mut spans = std::mem::take(&mut self.spans);
        let touched: BTreeSet<_> = pending.keys().chain(spans.keys()).copied().collect();
        for id in touched {
            let Some(group) = self.groups.get_mut(id) else { continue };
            let was = std::mem::replace(&mut group.published, !group.span.is_empty());
            let changes = pending.remove(&id).unwrap_or_default();
            let mut span = spans.remove(&id).unwrap_or_default();
            span.added.sort_unstable();
            span.removed.sort_unstable();
            let (mut added, mut removed) = (Vec::new(), Vec::new());
            match (was, group.published) {
                (false, false) => continue,
                (true, false) => {
                    delta.removed_groups.insert(group.id);
                    continue;
                }
                (false, true) => added.extend(all_members(index, group)),
                (true, true) => {
                    for (member, count) in changes {
                        if count > 0 { &mut added } else { &mut removed }.push(member);
                    }
                }
            }
            added.sort_unstable();
            removed.sort_unstable();
            if added.is_empty() && removed.is_empty() && span.added.is_empty() && span.removed.is_empty() {
                continue;
            }
            let (kind, created) = (group.kind, !was);
            let (span_added, span_removed) = (span.added, span.removed);
            delta
                .groups
                .insert(group.id, GroupDelta { kind, created, added, removed, span_added, span_removed });
        }
        for id in std::mem::take(&mut self.unused) {
            if self.groups.get(id).is_some_and(|group| group.users == 0 && group.span.is_empty()) {
                self.remove(index, id);
            }
        }
    }

    fn remove(&mut self, index: &mut Index, id: Id<Group>) {
        let Some(group) = self.groups.remove(id) else { return };
        self.ids.remove(&group.id);
        if let Some(set) = index.sets.get_mut(group.set) {
            set.groups.retain(|known| *known != id);
        }
        index.release_set(group.set);
    }

    /// A published group with its members and the nodes of its span.
    pub(crate) fn get(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(*self.ids.get(&id)?).filter(|group| group.published)
    }

    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    /// Every published group.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().map(|(_, group)| group).filter(|group| group.published)
    }
}

impl Group {
    pub(crate) fn id(&self) -> GroupId {
        self.id
    }

    pub(crate) fn kind(&self) -> GroupKind {
        self.kind
    }

    pub(crate) fn span(&self) -> impl Iterator<Item = Id<Node>> {
        self.span.iter().copied()
    }
}

/// Everything in a group. No member comes twice: an address has one owner, and a pod one port of a name and protocol
/// as often as its containers differ in it.
pub(crate) fn all_members<'a>(index: &'a Index, group: &'a Group) -> impl Iterator<Item = Member> + 'a {
    let set = index.sets.get(group.set).into_iter();
    let endpoints = set.flat_map(|set| &set.members).filter_map(|id| index.endpoints.get(*id));
    endpoints.flat_map(move |endpoint| {
        let addresses = endpoint.owned.iter().copied();
        addresses.flat_map(move |address| members(group.port.as_ref(), endpoint, address))
    })
}

/// What one address of an endpoint is in a group.
fn members<'a>(
    port: Option<&NamedPort>,
    endpoint: &'a Endpoint,
    address: IpAddr,
) -> impl Iterator<Item = Member> + 'a {
    let (net, ports) = match port {
        None => (Some(Member::Net(IpNet::from(address))), None),
        Some(port) => (None, endpoint.named_ports.get_key_value(port)),
    };
    let ports = ports.into_iter().flat_map(move |(name, ports)| {
        ports.iter().map(move |port| Member::Port(address, name.protocol, *port))
    });
    net.into_iter().chain(ports)
}
