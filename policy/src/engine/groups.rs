//! Address groups: who names them, where they are needed, and what changed in them since the last flush.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::lists::Lists;
use super::network_sets::NetSet;
use super::{Delta, GroupDelta, Node, Policy};
use crate::compile::group::GroupSpec;
use crate::compiled::{GroupId, GroupKind, Member, NamedPort};
use crate::hash::HashMap;
use crate::index::few::Few;
use crate::index::slab::{Id, Slab};
use crate::index::{Endpoint, Index, Set};
use crate::model::{Key, SetSelection};
use crate::selector::Selector;

/// Every group that a policy names.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: Slab<Group>,
    ids: HashMap<GroupId, Id<Group>>,
    /// Changes since the last flush, of groups that were in a span then.
    pending: HashMap<Id<Group>, HashMap<Member, Noted>>,
    /// Members of groups of backends by their addresses: another pod may have one of those.
    backends: HashMap<IpAddr, BTreeSet<(Id<Group>, Member)>>,
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
    pub(super) source: Source,
    /// How many policies name it, or are about to.
    users: u32,
    /// Policies that name it.
    pub(super) policies: Few<Id<Policy>, 4>,
    /// Nodes whose published policy names it.
    span: Few<Id<Node>, 4>,
    /// The span was not empty at the last flush.
    published: bool,
}

/// What a group is made of.
#[derive(Debug)]
pub(super) enum Source {
    /// Pods: their addresses, or, with names, each with the ports that carry one of them.
    Pods(Id<Set>, Option<BTreeSet<NamedPort>>),
    /// Everything else.
    Listed(Listed),
}

/// Members that several objects may give, each with how many do.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) of: ListedOf,
    counts: BTreeMap<Member, u32>,
    /// The NetworkSets that it holds.
    pub(super) sets: BTreeSet<Id<NetSet>>,
}

/// What a listed group is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ListedOf {
    /// Networks of sets.
    Sets(SetSelection),
    /// A Service's backends.
    Backends(Key, Part),
    /// Addresses of nodes.
    Nodes(Selector),
}

/// What of a Service's backends is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Their addresses.
    Addresses,
    /// Their addresses, each with protocol and port.
    Ports,
    /// The addresses of those that have every port of this protocol.
    Whole(u8),
}

/// What became of a member since the last flush.
#[derive(Debug)]
struct Noted {
    /// It was one.
    was: bool,
    /// How often it came, less how often it went.
    count: i32,
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
    pub(crate) fn acquire(
        &mut self,
        index: &mut Index,
        lists: &mut Lists,
        id: GroupId,
        spec: &GroupSpec,
    ) -> Id<Group> {
        if let Some(known) = self.ids.get(&id).copied() {
            if let Some(group) = self.groups.get_mut(known) {
                group.users += 1;
            }
            return known;
        }
        let listed = |of| Source::Listed(Listed { of, counts: BTreeMap::new(), sets: BTreeSet::new() });
        let source = match spec {
            GroupSpec::Pods(pods) => Source::Pods(index.use_set(pods), None),
            GroupSpec::PortsOfPods(pods, names) => Source::Pods(index.use_set(pods), Some(names.clone())),
            GroupSpec::Sets(sets) => listed(ListedOf::Sets(sets.clone())),
            GroupSpec::Backends(service) => listed(ListedOf::Backends(service.clone(), Part::Addresses)),
            GroupSpec::PortsOfBackends(service) => listed(ListedOf::Backends(service.clone(), Part::Ports)),
            GroupSpec::WholeBackends(service, protocol) => {
                listed(ListedOf::Backends(service.clone(), Part::Whole(*protocol)))
            }
            GroupSpec::Nodes(selector) => listed(ListedOf::Nodes(selector.clone())),
        };
        let group = self.groups.insert(Group {
            id,
            kind: spec.kind(),
            source,
            users: 1,
            policies: Few::default(),
            span: Few::default(),
            published: false,
        });
        self.ids.insert(id, group);
        match self.groups.get(group).map(|group| &group.source) {
            Some(Source::Pods(set, _)) => {
                if let Some(set) = index.sets.get_mut(*set) {
                    set.groups.insert(group);
                }
            }
            Some(Source::Listed(listed)) => {
                let of = listed.of.clone();
                lists.fill(index, self, group, &of);
            }
            None => {}
        }
        group
    }

    /// A member that one object gives a listed group more, or less.
    pub(super) fn list(&mut self, id: Id<Group>, member: Member, sign: Sign) {
        let Some(group) = self.groups.get_mut(id) else { return };
        let Source::Listed(listed) = &mut group.source else { return };
        let count = listed.counts.entry(member).or_default();
        let flipped = match sign {
            Sign::Plus => {
                *count += 1;
                *count == 1
            }
            Sign::Minus => {
                *count = count.saturating_sub(1);
                *count == 0
            }
        };
        if *count == 0 {
            listed.counts.remove(&member);
        }
        let published = group.published;
        let of_pods = group.of_pods();
        if flipped && of_pods {
            self.file(id, member, sign);
        }
        if flipped && published {
            self.note(id, member, sign);
        }
    }

    /// Files a member of a group of backends under its address, or takes it out.
    fn file(&mut self, id: Id<Group>, member: Member, sign: Sign) {
        let filed = self.backends.entry(member.address()).or_default();
        match sign {
            Sign::Plus => filed.insert((id, member)),
            Sign::Minus => filed.remove(&(id, member)),
        };
        if filed.is_empty() {
            self.backends.remove(&member.address());
        }
    }

    /// A change of a published group's members.
    fn note(&mut self, id: Id<Group>, member: Member, sign: Sign) {
        let changes = self.pending.entry(id).or_default();
        // One that went and came is kept: it may be another pod's now.
        let noted = changes.entry(member).or_insert(Noted { was: sign == Sign::Minus, count: 0 });
        noted.count += if sign == Sign::Plus { 1 } else { -1 };
    }

    pub(super) fn by_id(&self, id: Id<Group>) -> Option<&Group> {
        self.groups.get(id)
    }

    pub(super) fn by_id_mut(&mut self, id: Id<Group>) -> Option<&mut Group> {
        self.groups.get_mut(id)
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
            let Source::Pods(_, names) = &group.source else { continue };
            let members: Vec<Member> = members(names.as_ref(), endpoint, address).collect();
            for member in members {
                self.note(*id, member, sign);
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
    pub(super) fn flush(&mut self, index: &mut Index, lists: &mut Lists, delta: &mut Delta) {
        let mut pending = std::mem::take(&mut self.pending);
        for (id, member) in
            delta.handed_over.keys().filter_map(|address| self.backends.get(address)).flatten()
        {
            let noted = pending.entry(*id).or_default().entry(*member);
            noted.or_insert(Noted { was: true, count: 0 });
        }
        let mut spans = std::mem::take(&mut self.spans);
        let touched: BTreeSet<_> = pending.keys().chain(spans.keys()).copied().collect();
        for id in touched {
            let Some(group) = self.groups.get_mut(id) else { continue };
            let was = std::mem::replace(&mut group.published, !group.span.is_empty());
            let changes = pending.remove(&id).unwrap_or_default();
            let mut span = spans.remove(&id).unwrap_or_default();
            span.added.sort_unstable();
            span.removed.sort_unstable();
            let of_pods = group.of_pods();
            let (mut added, mut removed, mut renewed) = (Vec::new(), Vec::new(), Vec::new());
            match (was, group.published) {
                (false, false) => continue,
                (true, false) => {
                    delta.removed_groups.insert(group.id);
                    continue;
                }
                (false, true) => added.extend(all_members(index, group)),
                (true, true) => {
                    let another = |member: &Member| delta.handed_over.contains_key(&member.address());
                    for (member, Noted { was, count }) in changes {
                        match count.cmp(&0) {
                            Ordering::Greater => added.push(member),
                            Ordering::Less => removed.push(member),
                            Ordering::Equal if was && of_pods && another(&member) => renewed.push(member),
                            Ordering::Equal => {}
                        }
                    }
                }
            }
            added.sort_unstable();
            removed.sort_unstable();
            renewed.sort_unstable();
            let same = [&added, &removed, &renewed].into_iter().all(Vec::is_empty);
            if same && span.added.is_empty() && span.removed.is_empty() {
                continue;
            }
            let (kind, created) = (group.kind, !was);
            let (span_added, span_removed) = (span.added, span.removed);
            let change =
                GroupDelta { kind, of_pods, created, added, removed, renewed, span_added, span_removed };
            delta.groups.insert(group.id, change);
        }
        for id in std::mem::take(&mut self.unused) {
            if self.groups.get(id).is_some_and(|group| group.users == 0 && group.span.is_empty()) {
                self.remove(index, lists, id);
            }
        }
    }

    fn remove(&mut self, index: &mut Index, lists: &mut Lists, id: Id<Group>) {
        let Some(group) = self.groups.remove(id) else { return };
        self.ids.remove(&group.id);
        match &group.source {
            Source::Pods(set, _) => {
                if let Some(known) = index.sets.get_mut(*set) {
                    known.groups.remove(&id);
                }
                index.release_set(*set);
            }
            Source::Listed(listed) => {
                lists.forget(id, listed);
                if matches!(listed.of, ListedOf::Backends(..)) {
                    listed.counts.keys().for_each(|member| self.file(id, *member, Sign::Minus));
                }
            }
        }
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

    /// Its members are there because of the pods that have their addresses.
    pub(crate) fn of_pods(&self) -> bool {
        match &self.source {
            Source::Pods(..) => true,
            Source::Listed(listed) => matches!(listed.of, ListedOf::Backends(..)),
        }
    }

    pub(crate) fn span(&self) -> impl Iterator<Item = Id<Node>> {
        self.span.iter().copied()
    }
}

/// Everything in a group. No member comes twice: an address has one owner.
pub(crate) fn all_members<'a>(index: &'a Index, group: &'a Group) -> impl Iterator<Item = Member> + 'a {
    let (set, names, listed) = match &group.source {
        Source::Pods(set, names) => (index.sets.get(*set), names.as_ref(), None),
        Source::Listed(listed) => (None, None, Some(listed.counts.keys().copied())),
    };
    let endpoints = set.into_iter().flat_map(|set| &set.members).filter_map(|id| index.endpoints.get(*id));
    let of_pods = endpoints.flat_map(move |endpoint| {
        let addresses = endpoint.owned.iter().copied();
        addresses.flat_map(move |address| members(names, endpoint, address))
    });
    of_pods.chain(listed.into_iter().flatten())
}

/// What one address of an endpoint is in a group: each port once, whichever of the names carry it.
fn members(
    names: Option<&BTreeSet<NamedPort>>,
    endpoint: &Endpoint,
    address: IpAddr,
) -> impl Iterator<Item = Member> + use<> {
    let (net, ports) = match names {
        None => (Some(Member::Net(IpNet::from(address))), BTreeSet::new()),
        Some(names) => {
            let carried = endpoint.named_ports.iter().filter(|(name, _)| names.contains(name));
            let ports = carried.flat_map(|(name, ports)| ports.iter().map(|port| (name.protocol, *port)));
            (None, ports.collect::<BTreeSet<(u8, u16)>>())
        }
    };
    let ports = ports.into_iter().map(move |(protocol, port)| Member::Port(address, protocol, port));
    net.into_iter().chain(ports)
}
