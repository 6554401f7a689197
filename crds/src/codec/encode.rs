//! Compiled types to what travels.

use std::collections::BTreeMap;

use selvage_policy::compiled::{self, PolicyKey};

use super::{CodecError, FORMAT, Problem, each, text};
use crate::address_group::{AddressGroupSpec, Owners, OwnersSpec, Slice};
use crate::node_policy::{Endpoint, Masquerade, NamedPort, NodePolicySpec, Policy, Profile, TierStep};
use crate::rules::{AddressTerm, GroupMatch, Icmp, PortMatch, PortName, Protocol, Rule, Service};
use crate::{Basis, digest};

pub(super) fn node_policy(
    policy: &compiled::NodePolicy,
    basis: Basis,
    teardown: bool,
) -> Result<NodePolicySpec, CodecError> {
    let indices: BTreeMap<&PolicyKey, u32> = policy.policies.keys().zip(0..).collect();
    Ok(NodePolicySpec {
        format: FORMAT,
        digest: digest::node_policy(policy),
        policy_set: digest::policy_set(policy),
        basis,
        teardown,
        endpoints: policy.endpoints.iter().map(endpoint).collect(),
        profiles: each("profiles", &policy.profiles, |(id, content)| profile(*id, content, &indices))?,
        policies: policy.policies.iter().map(|(key, content)| one_policy(key, content)).collect(),
        groups: policy.groups.iter().map(ToString::to_string).collect(),
        masquerade: policy.masquerade.as_ref().map(|wanted| Masquerade {
            from: wanted.from.iter().map(ToString::to_string).collect(),
            inside: wanted.inside.iter().map(ToString::to_string).collect(),
        }),
    })
}

pub(super) fn slice(slice: &Slice, basis: Basis) -> AddressGroupSpec {
    AddressGroupSpec {
        format: FORMAT,
        digest: digest::slice(slice),
        basis,
        group: slice.group.to_string(),
        kind: text::print_group_kind(slice.kind).to_owned(),
        epoch: slice.epoch,
        index: slice.index,
        count: slice.count,
        members: slice.members.iter().map(text::print_member).collect(),
        owners: slice
            .owners
            .as_ref()
            .zip(digest::owners(slice))
            .map(|(known, digest)| owners(slice, known, digest)),
    }
}

fn owners(slice: &Slice, owners: &Owners, digest: String) -> OwnersSpec {
    let of =
        |member| owners.members.get(member).map_or_else(|| text::NO_OWNER.to_owned(), ToString::to_string);
    OwnersSpec {
        digest,
        members: slice.members.iter().map(of).collect(),
        former: owners.former.iter().map(|(member, owner)| text::print_former(member, *owner)).collect(),
        heirs: owners.heirs.iter().map(text::print_member).collect(),
    }
}

fn endpoint((key, endpoint): (&compiled::EndpointKey, &compiled::Endpoint)) -> Endpoint {
    Endpoint {
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
        uid: endpoint.uid.to_string(),
        profile: endpoint.profile.to_string(),
        addresses: endpoint.addresses.iter().map(ToString::to_string).collect(),
    }
}

fn profile(
    id: compiled::ProfileId,
    profile: &compiled::Profile,
    indices: &BTreeMap<&PolicyKey, u32>,
) -> Result<Profile, CodecError> {
    let step = |step: &compiled::TierStep| {
        let policies = each("policies", &step.policies, |key| {
            let index = indices.get(key).copied();
            index.ok_or_else(|| Problem::Dangling { what: "policy", value: key.to_string() })
        })?;
        Ok::<_, CodecError>(TierStep {
            tier: step.tier.to_string(),
            default_action: text::print_action(step.default_action).to_owned(),
            policies,
        })
    };
    let named_ports = profile.named_ports.iter().map(|(port, ports)| NamedPort {
        protocol: port.protocol,
        name: port.name.to_string(),
        ports: ports.iter().copied().collect(),
    });
    Ok(Profile {
        id: id.to_string(),
        ingress: each("ingress", &profile.ingress, step)?,
        egress: each("egress", &profile.egress, step)?,
        named_ports: named_ports.collect(),
    })
}

fn one_policy(key: &PolicyKey, policy: &compiled::Policy) -> Policy {
    Policy {
        kind: key.kind.to_string(),
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
        uid: policy.uid.to_string(),
        generation: policy.generation,
        ingress: rules(&policy.ingress),
        egress: rules(&policy.egress),
    }
}

fn rules(rules: &[compiled::Rule]) -> Vec<Rule> {
    let mut next = 0;
    let one = |given: &compiled::Rule| {
        let index = (given.index != next).then_some(given.index);
        next = given.index.saturating_add(1);
        Rule { index, ..rule(given) }
    };
    rules.iter().map(one).collect()
}

fn rule(rule: &compiled::Rule) -> Rule {
    Rule {
        index: None,
        action: text::print_action(rule.action).to_owned(),
        family: rule.family.map(|family| text::print_family(family).to_owned()),
        services: rule.services.iter().map(|any| any.iter().map(service).collect()).collect(),
        source: rule.source.iter().map(term).collect(),
        destination: rule.destination.iter().map(term).collect(),
    }
}

fn term(term: &compiled::AddressTerm) -> AddressTerm {
    AddressTerm {
        negated: term.negated,
        nets: term.nets.iter().map(ToString::to_string).collect(),
        groups: term.groups.iter().map(ToString::to_string).collect(),
    }
}

fn service(service: &compiled::Service) -> Service {
    match service {
        compiled::Service::Protocol { protocol, source_ports, destination_ports } => Service {
            protocol: Some(Protocol {
                number: *protocol,
                source_ports: source_ports.as_ref().map(port_match),
                destination_ports: destination_ports.as_ref().map(port_match),
            }),
            ..Service::default()
        },
        compiled::Service::NotProtocol(protocol) => {
            Service { not_protocol: Some(*protocol), ..Service::default() }
        }
        compiled::Service::Icmp { protocol, kind, code, negated } => Service {
            icmp: Some(Icmp { protocol: *protocol, kind: *kind, code: *code, negated: *negated }),
            ..Service::default()
        },
        compiled::Service::Group { group, end, negated } => Service {
            group: Some(GroupMatch {
                name: group.to_string(),
                source: *end == compiled::End::Source,
                negated: *negated,
            }),
            ..Service::default()
        },
    }
}

fn port_match(ports: &compiled::PortMatch) -> PortMatch {
    let name = |port: &compiled::NamedPort| PortName { protocol: port.protocol, name: port.name.to_string() };
    PortMatch {
        negated: ports.negated,
        ranges: ports.ranges.iter().map(|range| text::print_ports(*range)).collect(),
        names: ports.names.iter().map(name).collect(),
    }
}
