//! The text forms of single values, both ways.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use selvage_policy::compiled::{
    Action, Family, GroupId, GroupKind, Member, PolicyKind, PortRange, ProfileId,
};

use super::Problem;
use crate::address_group::Owner;

pub(super) fn print_action(action: Action) -> &'static str {
    match action {
        Action::Allow => "Allow",
        Action::Deny => "Deny",
        Action::Pass => "Pass",
        Action::Log => "Log",
    }
}

pub(super) fn action(text: &str) -> Result<Action, Problem> {
    one_of("action", text, [Action::Allow, Action::Deny, Action::Pass, Action::Log], print_action)
}

pub(super) fn print_family(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

pub(super) fn family(text: &str) -> Result<Family, Problem> {
    one_of("address family", text, [Family::V4, Family::V6], print_family)
}

pub(super) fn print_group_kind(kind: GroupKind) -> &'static str {
    match kind {
        GroupKind::Addresses => "Addresses",
        GroupKind::Ports => "Ports",
    }
}

pub(super) fn group_kind(text: &str) -> Result<GroupKind, Problem> {
    one_of("kind", text, [GroupKind::Addresses, GroupKind::Ports], print_group_kind)
}

pub(super) fn policy_kind(text: &str) -> Result<PolicyKind, Problem> {
    use PolicyKind::{ClusterNetworkPolicy, GlobalNetworkPolicy, NetworkPolicy, SelvageNetworkPolicy};
    let kinds = [NetworkPolicy, ClusterNetworkPolicy, GlobalNetworkPolicy, SelvageNetworkPolicy];
    one_of("kind of policy", text, kinds, |kind| kind.to_string())
}

fn one_of<T: Copy, S: AsRef<str>, const N: usize>(
    what: &'static str,
    text: &str,
    all: [T; N],
    print: impl Fn(T) -> S,
) -> Result<T, Problem> {
    let found = all.into_iter().find(|value| print(*value).as_ref() == text);
    found.ok_or_else(|| Problem::Unknown { what, value: text.to_owned() })
}

pub(super) fn group(text: &str) -> Result<GroupId, Problem> {
    GroupId::parse(text).ok_or_else(|| malformed("a group's name of 32 hexadecimal digits", text))
}

pub(super) fn profile(text: &str) -> Result<ProfileId, Problem> {
    let id = u64::from_str_radix(text, 16).ok().map(ProfileId).filter(|id| id.to_string() == text);
    id.ok_or_else(|| malformed("a profile's id of 16 hexadecimal digits", text))
}

/// An address. An IPv4 address mapped into IPv6 is none: no packet carries it.
pub(super) fn address(text: &str) -> Result<IpAddr, Problem> {
    let address = text.parse().ok().filter(|address: &IpAddr| address.to_canonical() == *address);
    address.ok_or_else(|| malformed("an address", text))
}

pub(super) fn net(text: &str) -> Result<IpNet, Problem> {
    let net = text.parse().ok().filter(|net: &IpNet| net.addr().to_canonical() == net.addr());
    net.ok_or_else(|| malformed("a network", text))
}

pub(super) fn print_ports(range: PortRange) -> String {
    match range {
        PortRange { first, last } if first == last => first.to_string(),
        PortRange { first, last } => format!("{first}-{last}"),
    }
}

pub(super) fn ports(text: &str) -> Result<PortRange, Problem> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok(PortRange { first, last }),
        _ => Err(malformed("a port or a range of ports", text)),
    }
}

pub(super) fn print_member(member: &Member) -> String {
    match member {
        Member::Net(net) if net.prefix_len() == net.max_prefix_len() => net.addr().to_string(),
        Member::Net(net) => net.to_string(),
        Member::Port(address, protocol, port) => format!("{address},{protocol},{port}"),
    }
}

pub(super) fn member(text: &str) -> Result<Member, Problem> {
    if text.contains('/') {
        return net(text).map(Member::Net);
    }
    let mut parts = text.split(',');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(text), None, None, None) => address(text).map(|address| Member::Net(address.into())),
        (Some(host), Some(protocol), Some(port), None) => match (number(protocol), number(port)) {
            (Some(protocol), Some(port)) => Ok(Member::Port(address(host)?, protocol, port)),
            _ => Err(malformed("address, protocol and port", text)),
        },
        _ => Err(malformed("a member", text)),
    }
}

/// Where no pod has a member's address.
pub(super) const NO_OWNER: &str = "--------";

/// The pods of members, in the members' order.
pub(super) fn owners(members: &BTreeSet<Member>, text: &str) -> Result<BTreeMap<Member, Owner>, Problem> {
    let wrong = || Problem::Meaningless("must be eight hexadecimal digits or dashes for each member");
    let width = NO_OWNER.len();
    if !text.is_ascii() || text.len() != members.len() * width {
        return Err(wrong());
    }
    let mut owners = BTreeMap::new();
    for (member, start) in members.iter().zip((0..).step_by(width)) {
        match text.get(start..start + width) {
            Some(NO_OWNER) => {}
            digits => {
                owners.insert(*member, digits.and_then(Owner::parse).ok_or_else(wrong)?);
            }
        }
    }
    Ok(owners)
}

pub(super) fn print_former(member: &Member, owner: Owner) -> String {
    format!("{}={owner}", print_member(member))
}

pub(super) fn former(text: &str) -> Result<(Member, Owner), Problem> {
    let owner = text.split_once('=').and_then(|(member, owner)| Some((member, Owner::parse(owner)?)));
    let (member, owner) = owner.ok_or_else(|| malformed("a member and the hash of its pod", text))?;
    Ok((self::member(member)?, owner))
}

/// A number in decimal digits alone: Rust's own parser takes a sign too.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn malformed(expected: &'static str, value: &str) -> Problem {
    Problem::Malformed { expected, value: value.to_owned() }
}
