//! What travels to compiled types: reading alone. Whether it makes sense is [`super::check`]'s question.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use selvage_policy::compiled::{self, PolicyKey, Shared};

use super::{CodecError, Problem, each, text};
use crate::address_group::{AddressGroupSpec, Owners, OwnersSpec, Slice};
use crate::node_policy::{Endpoint, Masquerade, NamedPort, NodePolicySpec, Policy, Profile, TierStep};
use crate::rules::{AddressTerm, PortMatch, PortName, Rule, Service};

pub(super) fn node_policy(node: &str, spec: &NodePolicySpec) -> Result<compiled::NodePolicy, CodecError> {
    let policies = each("policies", &spec.policies, one_policy)?;
    let keys: Vec<PolicyKey> = policies.iter().map(|(key, _)| key.clone()).collect();
    let groups = each("groups", &spec.groups, |group| text::group(group))?;
    Ok(compiled::NodePolicy {
        node: node.into(),
        endpoints: map("endpoints", each("endpoints", &spec.endpoints, endpoint)?)?,
        profiles: map("profiles", each("profiles", &spec.profiles, |content| profile(content, &keys))?)?,
        policies: map("policies", policies)?.into(),
        groups: set("groups", groups)?.into(),
        masquerade: spec.masquerade.as_ref().map(masquerade).transpose()?,
    })
}

fn masquerade(wanted: &Masquerade) -> Result<compiled::Masquerade, CodecError> {
    let nets = |field, nets| each(field, nets, |net: &String| text::net(net));
    let both = nets("from", &wanted.from).and_then(|from| Ok((from, nets("inside", &wanted.inside)?)));
    let (from, inside) = both.map_err(|error: CodecError| error.within("masquerade"))?;
    Ok(compiled::Masquerade { from, inside })
}

pub(super) fn slice(spec: &AddressGroupSpec) -> Result<Slice, CodecError> {
    let members = set("members", each("members", &spec.members, |member| text::member(member))?)?;
    let owners = spec.owners.as_ref().map(|wanted| owners(&members, wanted)).transpose();
    Ok(Slice {
        group: text::group(&spec.group).map_err(|problem| problem.at("group"))?,
        kind: text::group_kind(&spec.kind).map_err(|problem| problem.at("kind"))?,
        epoch: spec.epoch,
        index: spec.index,
        count: spec.count,
        owners: owners.map_err(|error| error.within("owners"))?,
        members,
    })
}

fn owners(members: &BTreeSet<compiled::Member>, spec: &OwnersSpec) -> Result<Owners, CodecError> {
    Ok(Owners {
        members: text::owners(members, &spec.members).map_err(|problem| problem.at("members"))?,
        former: map("former", each("former", &spec.former, |former| text::former(former))?)?,
        heirs: set("heirs", each("heirs", &spec.heirs, |member| text::member(member))?)?,
    })
}

fn endpoint(endpoint: &Endpoint) -> Result<(compiled::EndpointKey, compiled::Endpoint), CodecError> {
    let key = compiled::EndpointKey {
        namespace: endpoint.namespace.as_str().into(),
        name: endpoint.name.as_str().into(),
    };
    let endpoint = compiled::Endpoint {
        uid: endpoint.uid.as_str().into(),
        profile: text::profile(&endpoint.profile).map_err(|problem| problem.at("profile"))?,
        addresses: each("addresses", &endpoint.addresses, |address| text::address(address))?,
    };
    Ok((key, endpoint))
}

fn profile(
    profile: &Profile,
    keys: &[PolicyKey],
) -> Result<(compiled::ProfileId, Shared<compiled::Profile>), CodecError> {
    let id = text::profile(&profile.id).map_err(|problem| problem.at("id"))?;
    let step = |step: &TierStep| tier_step(step, keys);
    let content = compiled::Profile {
        ingress: each("ingress", &profile.ingress, step)?,
        egress: each("egress", &profile.egress, step)?,
        named_ports: map("namedPorts", each("namedPorts", &profile.named_ports, named_ports)?)?,
    };
    Ok((id, content.into()))
}

fn tier_step(step: &TierStep, keys: &[PolicyKey]) -> Result<compiled::TierStep, CodecError> {
    let key = |index: &u32| {
        let key = usize::try_from(*index).ok().and_then(|index| keys.get(index));
        key.cloned().ok_or_else(|| Problem::Dangling { what: "policy", value: index.to_string() })
    };
    Ok(compiled::TierStep {
        tier: step.tier.as_str().into(),
        default_action: text::action(&step.default_action).map_err(|problem| problem.at("defaultAction"))?,
        policies: each("policies", &step.policies, key)?,
    })
}

fn named_ports(port: &NamedPort) -> Result<(compiled::NamedPort, BTreeSet<u16>), CodecError> {
    let key = compiled::NamedPort { protocol: port.protocol, name: port.name.as_str().into() };
    Ok((key, set("ports", port.ports.clone())?))
}

fn one_policy(policy: &Policy) -> Result<(PolicyKey, Arc<compiled::Policy>), CodecError> {
    let key = PolicyKey {
        kind: text::policy_kind(&policy.kind).map_err(|problem| problem.at("kind"))?,
        namespace: policy.namespace.as_str().into(),
        name: policy.name.as_str().into(),
    };
    let policy = compiled::Policy {
        uid: policy.uid.as_str().into(),
        generation: policy.generation,
        ingress: rules("ingress", &policy.ingress)?,
        egress: rules("egress", &policy.egress)?,
    };
    Ok((key, Arc::new(policy)))
}

fn rules(field: &str, rules: &[Rule]) -> Result<Vec<compiled::Rule>, CodecError> {
    let mut next = 0;
    each(field, rules, |given| {
        let index = given.index.unwrap_or(next);
        next = index.saturating_add(1);
        Ok::<_, CodecError>(compiled::Rule { index, ..rule(given)? })
    })
}

fn rule(rule: &Rule) -> Result<compiled::Rule, CodecError> {
    let family = rule.family.as_deref().map(text::family).transpose();
    Ok(compiled::Rule {
        index: 0,
        action: text::action(&rule.action).map_err(|problem| problem.at("action"))?,
        family: family.map_err(|problem| problem.at("family"))?,
        services: each("services", &rule.services, |any| each("", any, service))?,
        source: each("source", &rule.source, term)?,
        destination: each("destination", &rule.destination, term)?,
    })
}

fn term(term: &AddressTerm) -> Result<compiled::AddressTerm, CodecError> {
    Ok(compiled::AddressTerm {
        negated: term.negated,
        nets: each("nets", &term.nets, |net| text::net(net))?,
        groups: each("groups", &term.groups, |group| text::group(group))?,
    })
}

fn service(service: &Service) -> Result<compiled::Service, CodecError> {
    match service {
        Service { protocol: Some(protocol), not_protocol: None, icmp: None, group: None } => {
            let ports = |field, ports: &Option<PortMatch>| {
                ports.as_ref().map(port_match).transpose().map_err(|error| error.within(field))
            };
            let matched = compiled::Service::Protocol {
                protocol: protocol.number,
                source_ports: ports("sourcePorts", &protocol.source_ports)
                    .map_err(|error| error.within("protocol"))?,
                destination_ports: ports("destinationPorts", &protocol.destination_ports)
                    .map_err(|error| error.within("protocol"))?,
            };
            Ok(matched)
        }
        Service { protocol: None, not_protocol: Some(protocol), icmp: None, group: None } => {
            Ok(compiled::Service::NotProtocol(*protocol))
        }
        Service { protocol: None, not_protocol: None, icmp: Some(icmp), group: None } => {
            Ok(compiled::Service::Icmp {
                protocol: icmp.protocol,
                kind: icmp.kind,
                code: icmp.code,
                negated: icmp.negated,
            })
        }
        Service { protocol: None, not_protocol: None, icmp: None, group: Some(group) } => {
            let end = if group.source { compiled::End::Source } else { compiled::End::Destination };
            let name = text::group(&group.name).map_err(|problem| problem.at("name").within("group"))?;
            Ok(compiled::Service::Group { group: name, end, negated: group.negated })
        }
        _ => {
            Err(Problem::Meaningless("exactly one of protocol, notProtocol, icmp and group must be set")
                .into())
        }
    }
}

fn port_match(ports: &PortMatch) -> Result<compiled::PortMatch, CodecError> {
    let name =
        |port: &PortName| compiled::NamedPort { protocol: port.protocol, name: port.name.as_str().into() };
    Ok(compiled::PortMatch {
        negated: ports.negated,
        ranges: each("ranges", &ports.ranges, |range| text::ports(range))?,
        names: ports.names.iter().map(name).collect(),
    })
}

/// A map from a list that must be strictly ascending by key.
fn map<K: Ord, V>(field: &str, items: Vec<(K, V)>) -> Result<BTreeMap<K, V>, CodecError> {
    ascending(field, items.iter().map(|(key, _)| key))?;
    Ok(items.into_iter().collect())
}

/// A set from a list that must be strictly ascending.
fn set<T: Ord>(field: &str, items: Vec<T>) -> Result<BTreeSet<T>, CodecError> {
    ascending(field, &items)?;
    Ok(items.into_iter().collect())
}

fn ascending<'a, T: Ord + 'a>(field: &str, items: impl IntoIterator<Item = &'a T>) -> Result<(), CodecError> {
    super::check::ordered(field, items, |before, after| before < after)
}
