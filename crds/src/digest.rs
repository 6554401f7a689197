//! Digests over the meaning of what travels.
//!
//! A digest is taken over the compiled types, not over JSON: what an agent decoded has the operator's digest exactly
//! when it means the same. Every value is fed with its length or tag before it, so that no two meanings feed the same
//! bytes, and every struct is taken apart by name, so that a new field can't be forgotten here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use selvage_policy::compiled::{
    Action, AddressTerm, End, Endpoint, EndpointKey, Family, GroupId, GroupKind, Masquerade, Member,
    NamedPort, NodePolicy, Policy, PolicyKey, PolicyKind, PortMatch, PortRange, Profile, ProfileId, Rule,
    Service, Shared, TierStep,
};

use crate::address_group::{Owner, Owners, Slice};

/// The digest of a node's policy: 32 hexadecimal digits.
pub fn node_policy(policy: &NodePolicy) -> String {
    hex("selvage NodePolicy 1", policy, 32)
}

/// The digest of a slice without its owners, which agents of before them compute too: 32 hexadecimal digits.
pub fn slice(slice: &Slice) -> String {
    hex("selvage AddressGroup 1", slice, 32)
}

/// The digest of a slice with its owners: 32 hexadecimal digits; None where it has none.
pub fn owners(slice: &Slice) -> Option<String> {
    let owners = slice.owners.as_ref()?;
    Some(hex("selvage AddressGroup owners 1", &(slice, owners), 32))
}

/// The digest of all that a slice says.
pub fn whole_slice(slice: &Slice) -> String {
    owners(slice).unwrap_or_else(|| self::slice(slice))
}

/// The hash over name, uid and generation of every policy of a node: 16 hexadecimal digits. It stays when pods come
/// and go, so that they never make a policy look unprogrammed.
pub fn policy_set(policy: &NodePolicy) -> String {
    let set: Vec<_> =
        policy.policies.iter().map(|(key, policy)| (key, (&policy.uid, policy.generation))).collect();
    hex("selvage policy set 1", &set, 16)
}

fn hex(domain: &str, value: &impl Feed, digits: usize) -> String {
    let mut hasher = blake3::Hasher::new();
    domain.feed(&mut hasher);
    value.feed(&mut hasher);
    let mut hex = hasher.finalize().to_hex().to_string();
    hex.truncate(digits);
    hex
}

trait Feed {
    fn feed(&self, hasher: &mut blake3::Hasher);
}

macro_rules! feed_number {
    ($($kind:ty),*) => {$(
        impl Feed for $kind {
            fn feed(&self, hasher: &mut blake3::Hasher) {
                hasher.update(&self.to_le_bytes());
            }
        }
    )*};
}

macro_rules! feed_struct {
    ($($kind:ident { $($field:ident),* })*) => {$(
        impl Feed for $kind {
            fn feed(&self, hasher: &mut blake3::Hasher) {
                let Self { $($field),* } = self;
                $($field.feed(hasher);)*
            }
        }
    )*};
}

feed_number!(u8, u16, u32, u64, u128, i64);

feed_struct! {
    NodePolicy { node, endpoints, profiles, policies, groups, masquerade }
    Masquerade { from, inside }
    EndpointKey { namespace, name }
    Endpoint { uid, profile, addresses }
    Profile { ingress, egress, named_ports }
    TierStep { tier, default_action, policies }
    PolicyKey { kind, namespace, name }
    Policy { uid, generation, ingress, egress }
    AddressTerm { negated, nets, groups }
    PortMatch { negated, ranges, names }
    PortRange { first, last }
    NamedPort { protocol, name }
    Owners { members, former, heirs }
}

impl Feed for Slice {
    fn feed(&self, hasher: &mut blake3::Hasher) {
        // The owners have a digest of their own.
        let Self { group, kind, epoch, index, count, members, owners: _ } = self;
        (group, (kind, (epoch, (index, (count, members))))).feed(hasher);
    }
}

impl Feed for Owner {
    fn feed(&self, hasher: &mut blake3::Hasher) {
        self.0.feed(hasher);
    }
}

/// The index names the rule to people and decides nothing: without it, an operator and an agent of which one does not know
/// the field agree.
impl Feed for Rule {
    fn feed(&self, hasher: &mut blake3::Hasher) {
        let Self { index: _, action, family, services, source, destination } = self;
        action.feed(hasher);
        family.feed(hasher);
        services.feed(hasher);
        source.feed(hasher);
        destination.feed(hasher);
    }
}

impl Feed for bool {
    fn feed(&self, hasher: &mut blake3::Hasher) {
        u8::from(*self).feed(hasher);
    }
}

impl Feed for str {
    fn feed(&self, hasher: &mut blake3::Hasher) {
        (self.len() as u64).feed(hasher);
        hasher.update(self.as_bytes());
    }
}

impl<T: Feed + ?Sized> Feed for &T {
    fn feed(&self, hasher: &mut blake3::Hasher) {
        (**self).feed(hasher);
    }
}

impl<T: Feed + ?Sized> Feed for Arc<T> {
    fn feed(&self, hasher: &mut blake3::Hasher) {
        (**self).feed(hasher);
    }
}

impl<T: Feed> Feed for Shared<T> {
    fn feed(&self, hasher: &mut blake3::Hasher) {
        (**self).feed(hasher);
    }
}

impl<A: Feed, B: Feed> Feed for (A, B) {
    fn feed(&self, hasher: &mut blake3::Hasher) {
        self.0.feed(hasher);
        self.1.feed(hasher);
    }
}

impl<T: Feed> Feed for Option<T> {
    fn feed(&self, hasher: &mut blake3::Hasher) {
        self.is_some().feed(hasher);
        if let Some(value) = self {
            value.feed(hasher);
        }
    }
}

impl<T: Feed> Feed for Vec<T> {
    fn feed(&self, hasher: &mut blake3::Hasher) {
        (self.len() as u64).feed(hasher);
        self.iter().for_each(|item| item.feed(hasher));
    }
}

impl<T: Feed> Feed for BTreeSet<T> {
    fn feed(&self, hasher: &mut blake3::Hasher) {
        (self.len() as u64).feed(hasher);
        self.iter().for_each(|item| item.feed(hasher));
    }
}

impl<K: Feed, V: Feed> Feed for BTreeMap<K, V> {
    fn feed(&self, hasher: &mut blake3::Hasher) {
        (self.len() as u64).feed(hasher);
        for (key, value) in self {
            key.feed(hasher);
            value.feed(hasher);
        }
    }
}

impl Feed for IpAddr {
    fn feed(&self, hasher: &mut blake3::Hasher) {
        match self {
            Self::V4(address) => hasher.update(&[4]).update(&address.octets()),
            Self::V6(address) => hasher.update(&[6]).update(&address.octets()),
        };
    }
}

impl Feed for IpNet {
    fn feed(&self, hasher: &mut blake3::Hasher) {
        self.addr().feed(hasher);
        self.prefix_len().feed(hasher);
    }
}

impl Feed for GroupId {
    fn feed(&self, hasher: &mut blake3::Hasher) {
        self.0.feed(hasher);
    }
}

impl Feed for ProfileId {
    fn feed(&self, hasher: &mut blake3::Hasher) {
        self.0.feed(hasher);
    }
}

// Tags are written out: the order of variants in the source must not change a digest.

impl Feed for Action {
    fn feed(&self, hasher: &mut blake3::Hasher) {
        let tag: u8 = match self {
            Self::Allow => 1,
            Self::Deny => 2,
            Self::Pass => 3,
            Self::Log => 4,
        };
        tag.feed(hasher);
    }
}

impl Feed for End {
    fn feed(&self, hasher: &mut blake3::Hasher) {
        let tag: u8 = match self {
            Self::Source => 1,
            Self::Destination => 2,
        };
        tag.feed(hasher);
    }
}

impl Feed for Family {
    fn feed(&self, hasher: &mut blake3::Hasher) {
        let tag: u8 = match self {
            Self::V4 => 4,
            Self::V6 => 6,
        };
        tag.feed(hasher);
    }
}

impl Feed for GroupKind {
    fn feed(&self, hasher: &mut blake3::Hasher) {
        let tag: u8 = match self {
            Self::Addresses => 1,
            Self::Ports => 2,
        };
        tag.feed(hasher);
    }
}

impl Feed for PolicyKind {
    fn feed(&self, hasher: &mut blake3::Hasher) {
        let tag: u8 = match self {
            Self::NetworkPolicy => 1,
            Self::ClusterNetworkPolicy => 2,
            Self::GlobalNetworkPolicy => 3,
            Self::SelvageNetworkPolicy => 4,
        };
        tag.feed(hasher);
    }
}

impl Feed for Member {
    fn feed(&self, hasher: &mut blake3::Hasher) {
        match self {
            Self::Net(net) => {
                1u8.feed(hasher);
                net.feed(hasher);
            }
            Self::Port(address, protocol, port) => {
                2u8.feed(hasher);
                address.feed(hasher);
                protocol.feed(hasher);
                port.feed(hasher);
            }
        }
    }
}

impl Feed for Service {
    fn feed(&self, hasher: &mut blake3::Hasher) {
        match self {
            Self::Protocol { protocol, source_ports, destination_ports } => {
                1u8.feed(hasher);
                protocol.feed(hasher);
                source_ports.feed(hasher);
                destination_ports.feed(hasher);
            }
            Self::NotProtocol(protocol) => {
                2u8.feed(hasher);
                protocol.feed(hasher);
            }
            Self::Icmp { protocol, kind, code, negated } => {
                3u8.feed(hasher);
                protocol.feed(hasher);
                kind.feed(hasher);
                code.feed(hasher);
                negated.feed(hasher);
            }
            Self::Group { group, end, negated } => {
                4u8.feed(hasher);
                group.feed(hasher);
                end.feed(hasher);
                negated.feed(hasher);
            }
        }
    }
}
