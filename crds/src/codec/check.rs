//! Whether a compiled policy is in its canonical form and every reference in it leads somewhere.
//!
//! What the renderer relies on stands here, so that it needs no errors of its own for it. Indices in paths are those
//! of the lists that travel, which hold maps in the order of their keys.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use selvage_policy::compiled::{
    Action, AddressTerm, Endpoint, GroupId, GroupKind, Masquerade, Member, NodePolicy, Policy, PortMatch,
    Profile, Rule, Service, TierStep,
};

use super::{CodecError, Problem, each};
use crate::address_group::{Owners, Slice};

/// Protocols whose headers have ports: TCP, UDP, SCTP.
const WITH_PORTS: [u8; 3] = [6, 17, 132];

pub(super) fn node_policy(policy: &NodePolicy) -> Result<(), CodecError> {
    if policy.node.is_empty() {
        return Err(Problem::Meaningless("the node has no name").into());
    }
    each("endpoints", policy.endpoints.values(), |endpoint| self::endpoint(endpoint, policy))?;
    each("profiles", policy.profiles.values(), |profile| self::profile(profile, policy))?;
    each("policies", policy.policies.values(), |content| one_policy(content, &policy.groups))?;
    if let Some(Masquerade { from, inside }) = &policy.masquerade {
        nets("from", from)
            .and_then(|()| nets("inside", inside))
            .map_err(|error| error.within("masquerade"))?;
    }
    Ok(())
}

pub(super) fn slice(slice: &Slice) -> Result<(), CodecError> {
    if slice.index >= slice.count {
        return Err(Problem::Meaningless("must be below count").at("index"));
    }
    each("members", &slice.members, |member| self::member(slice.kind, member))?;
    match &slice.owners {
        Some(owners) => self::owners(slice, owners).map_err(|error| error.within("owners")),
        None => Ok(()),
    }
}

fn member(kind: GroupKind, member: &Member) -> Result<(), Problem> {
    match (kind, member) {
        (GroupKind::Addresses, Member::Net(net)) => masked(net),
        (GroupKind::Ports, Member::Port(address, ..)) => canonical(address),
        (GroupKind::Addresses, Member::Port(..)) => {
            Err(Problem::Meaningless("is a port in a group of addresses"))
        }
        (GroupKind::Ports, Member::Net(_)) => Err(Problem::Meaningless("is an address in a group of ports")),
    }
}

fn owners(slice: &Slice, owners: &Owners) -> Result<(), CodecError> {
    let stranger = Problem::Meaningless("is no member");
    each("members", owners.members.keys(), |member| match slice.members.contains(member) {
        true => Ok(()),
        false => Err(stranger.clone()),
    })?;
    each("former", owners.former.keys(), |former| match slice.members.contains(former) {
        true => Err(Problem::Meaningless("is a member")),
        false => member(slice.kind, former),
    })?;
    each("heirs", &owners.heirs, |heir| match slice.members.contains(heir) {
        true => Ok(()),
        false => Err(stranger.clone()),
    })?;
    Ok(())
}

/// Every item must stand in that relation to the one after it.
pub(super) fn ordered<'a, T: 'a>(
    field: &str,
    items: impl IntoIterator<Item = &'a T>,
    right: impl Fn(&T, &T) -> bool,
) -> Result<(), CodecError> {
    let mut before: Option<&T> = None;
    for (index, item) in items.into_iter().enumerate() {
        if before.is_some_and(|before| !right(before, item)) {
            return Err(Problem::Order.at_item(field, index));
        }
        before = Some(item);
    }
    Ok(())
}

fn endpoint(endpoint: &Endpoint, policy: &NodePolicy) -> Result<(), CodecError> {
    if !policy.profiles.contains_key(&endpoint.profile) {
        let value = endpoint.profile.to_string();
        return Err(Problem::Dangling { what: "profile", value }.at("profile"));
    }
    each("addresses", &endpoint.addresses, canonical)?;
    ordered("addresses", &endpoint.addresses, |before, after| before < after)
}

fn profile(profile: &Profile, policy: &NodePolicy) -> Result<(), CodecError> {
    let step = |step: &TierStep| {
        if step.tier.is_empty() {
            return Err(Problem::Meaningless("the tier has no name").at("tier"));
        }
        if !matches!(step.default_action, Action::Deny | Action::Pass) {
            return Err(Problem::Meaningless("must be Deny or Pass").at("defaultAction"));
        }
        each("policies", &step.policies, |key| match policy.policies.contains_key(key) {
            true => Ok(()),
            false => Err(Problem::Dangling { what: "policy", value: key.to_string() }),
        })?;
        Ok(())
    };
    each("ingress", &profile.ingress, step)?;
    each("egress", &profile.egress, step)?;
    Ok(())
}

fn one_policy(policy: &Policy, groups: &BTreeSet<GroupId>) -> Result<(), CodecError> {
    each("ingress", &policy.ingress, |rule| self::rule(rule, groups, true))?;
    each("egress", &policy.egress, |rule| self::rule(rule, groups, false))?;
    Ok(())
}

fn rule(rule: &Rule, groups: &BTreeSet<GroupId>, ingress: bool) -> Result<(), CodecError> {
    each("services", &rule.services, |any| each("", any, |service| self::service(service, groups, ingress)))?;
    each("source", &rule.source, |term| self::term(term, groups))?;
    each("destination", &rule.destination, |term| self::term(term, groups))?;
    Ok(())
}

/// Merged networks.
fn nets(field: &str, nets: &[IpNet]) -> Result<(), CodecError> {
    each(field, nets, masked)?;
    ordered(field, nets, |before, after| before < after && !before.contains(after))
}

fn term(term: &AddressTerm, groups: &BTreeSet<GroupId>) -> Result<(), CodecError> {
    nets("nets", &term.nets)?;
    each("groups", &term.groups, |group| listed(group, groups))?;
    ordered("groups", &term.groups, |before, after| before < after)
}

fn service(service: &Service, groups: &BTreeSet<GroupId>, ingress: bool) -> Result<(), CodecError> {
    match service {
        Service::Protocol { protocol, source_ports, destination_ports } => {
            let given = source_ports.is_some() || destination_ports.is_some();
            if given && !WITH_PORTS.contains(protocol) {
                let problem = Problem::Meaningless("has no ports: only 6 (TCP), 17 (UDP) and 132 (SCTP) do");
                return Err(problem.at("number").within("protocol"));
            }
            ports("sourcePorts", source_ports.as_ref(), false).map_err(|error| error.within("protocol"))?;
            ports("destinationPorts", destination_ports.as_ref(), ingress)
                .map_err(|error| error.within("protocol"))
        }
        Service::NotProtocol(_) => Ok(()),
        Service::Icmp { protocol: 1 | 58, .. } => Ok(()),
        Service::Icmp { .. } => {
            Err(Problem::Meaningless("must be 1 (ICMP) or 58 (ICMPv6)").at("protocol").within("icmp"))
        }
        Service::Group { group, .. } => {
            listed(group, groups).map_err(|problem| problem.at("name").within("group"))
        }
    }
}

fn ports(field: &str, ports: Option<&PortMatch>, names_resolve: bool) -> Result<(), CodecError> {
    let Some(ports) = ports else { return Ok(()) };
    if !names_resolve && !ports.names.is_empty() {
        let problem = Problem::Meaningless("have a meaning for destination ports of ingress rules alone");
        return Err(problem.at("names").within(field));
    }
    if let Some(index) = ports.ranges.iter().position(|range| range.first > range.last) {
        return Err(Problem::Meaningless("ends before it starts").at_item("ranges", index).within(field));
    }
    ordered("ranges", &ports.ranges, |before, after| before.last < after.first)
        .map_err(|error| error.within(field))
}

fn listed(group: &GroupId, groups: &BTreeSet<GroupId>) -> Result<(), Problem> {
    match groups.contains(group) {
        true => Ok(()),
        false => Err(Problem::Dangling { what: "group", value: group.to_string() }),
    }
}

fn masked(net: &IpNet) -> Result<(), Problem> {
    if net.trunc() != *net {
        return Err(Problem::Meaningless("has host bits that are not zero"));
    }
    canonical(&net.addr())
}

fn canonical(address: &IpAddr) -> Result<(), Problem> {
    match address.to_canonical() == *address {
        true => Ok(()),
        false => Err(Problem::Meaningless("is an IPv4 address mapped into IPv6")),
    }
}
