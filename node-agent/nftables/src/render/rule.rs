//! Compiled rules as nftables rules.

use std::collections::BTreeSet;
use std::sync::Arc;

use selvage_policy::compiled::{Action, AddressTerm, End, Family, GroupId, PolicyKey, Rule, Service};

use super::address::{Alternatives, GroupSets, Unusable};
use super::expr::{
    R0, address_registers, count_drop, family as only_family, load_address, load_port, lookup, rule,
    short_hash, verdict,
};
use super::ports::{self, NamedPorts, ServiceTest};
use super::{Problem, Rendered, Settings};
use crate::model::{self, Chain, Expr, MetaKey, Name, Reg, Verdict};

/// Packets a second that one Log rule notes at most.
const LOG_RATE: u64 = 10;
/// Packets above the rate that are noted at first.
const LOG_BURST: u32 = 20;
/// Bytes of each packet that are noted: enough for the headers.
const LOG_SNAPLEN: u32 = 128;

/// What a rule needs to know of where it stands.
pub(super) struct Place<'a> {
    pub(super) policy: &'a PolicyKey,
    pub(super) id: Arc<str>,
    pub(super) names: &'a NamedPorts,
    /// What Pass does here: the next tier's chain, or accept.
    pub(super) pass: &'a Verdict,
    /// What tells the rule from every other of the ruleset, for the names of chains of its own.
    pub(super) chain: &'a str,
}

/// The rules that the compiled rules of one rule of a policy mean, in no order that matters: all do the same.
///
/// A packet may match several of them. Where what is done with it does not end the matter, as with Log, and that is
/// possible, they stand in a chain of their own, which is left at the first that matches.
pub(super) fn expand(
    same: &[Rule],
    place: &Place<'_>,
    settings: &Settings,
    sets: &mut GroupSets<'_>,
    output: &mut Rendered,
) -> Vec<model::Rule> {
    let (mut alternatives, mut last) = (Vec::new(), None);
    for wanted in same {
        let broken = broken_groups(wanted, place.policy, sets, output);
        let Some(action) = action(wanted.action, !broken.is_empty(), place, settings) else { continue };
        for mut alternative in ways(wanted, place.names, &broken, sets, output) {
            alternative.action = action.clone();
            alternatives.push(alternative);
        }
        last = Some((wanted.action, action));
    }
    let Some((Action::Log, note)) = last.filter(|_| may_meet(&alternatives)) else {
        return alternatives.into_iter().map(|alternative| alternative.rule(&place.id)).collect();
    };
    let hash = short_hash(place.chain.as_bytes());
    let hash = hash.get(..16).unwrap_or(&hash);
    let [any, one] = ["any", "log"].map(|part| Name::from(format!("{part}-{hash}")));
    let found = alternatives.into_iter().map(|mut alternative| {
        alternative.action = verdict(Verdict::Goto(one.clone()));
        alternative.rule(&place.id)
    });
    let found = found.collect();
    output.add_chain(&any, Chain { base: None, rules: found });
    output.add_chain(&one, Chain { base: None, rules: vec![rule(place.id.clone(), [note])].into() });
    vec![rule(place.id.clone(), [verdict(Verdict::Jump(any))])]
}

/// One way to match a rule, and what is done then.
struct Alternative {
    /// Only this family; both where None.
    family: Option<Family>,
    matches: Vec<Expr>,
    action: Vec<Expr>,
}

impl Alternative {
    fn rule(self, id: &Arc<str>) -> model::Rule {
        let family = self.family.map(only_family).unwrap_or_default();
        rule(id.clone(), [family, self.matches, self.action])
    }
}

/// Whether two alternatives are for packets of one family.
fn may_meet(alternatives: &[Alternative]) -> bool {
    [Family::V4, Family::V6].into_iter().any(|family| {
        let of_it = alternatives.iter().filter(|one| one.family.is_none_or(|only| only == family));
        of_it.count() > 1
    })
}

/// The ways to match a compiled rule.
fn ways(
    wanted: &Rule,
    names: &NamedPorts,
    broken: &Broken,
    sets: &mut GroupSets<'_>,
    output: &mut Rendered,
) -> Vec<Alternative> {
    let mut ways = Vec::new();
    for service in services(wanted, broken, names, output) {
        let families = [Family::V4, Family::V6].map(|family| {
            let excluded = [wanted.family, service.test.family].into_iter().flatten().any(|f| f != family);
            if excluded { Vec::new() } else { matches(wanted, &service, family, broken, sets, output) }
        });
        let of = |family, addresses: Vec<Expr>| Alternative {
            family,
            matches: [addresses.as_slice(), &service.test.expressions].concat(),
            action: Vec::new(),
        };
        let unconditional: &[Vec<Expr>] = &[Vec::new()];
        if families.iter().all(|matches| matches.as_slice() == unconditional) {
            ways.push(of(None, Vec::new()));
            continue;
        }
        for (family, matches) in [Family::V4, Family::V6].into_iter().zip(families) {
            ways.extend(matches.into_iter().map(|addresses| of(Some(family), addresses)));
        }
    }
    ways
}

/// Groups that can't be used, as addresses or (true) as ports.
type Broken = BTreeSet<(GroupId, bool)>;

/// Groups of the rule that can't be used, noted as problems.
fn broken_groups(
    wanted: &Rule,
    policy: &PolicyKey,
    sets: &mut GroupSets<'_>,
    output: &mut Rendered,
) -> Broken {
    let terms = wanted.source.iter().chain(&wanted.destination).flat_map(|term| &term.groups);
    let services = wanted.services.iter().flatten().filter_map(|service| match service {
        Service::Group { group, .. } => Some(group),
        _ => None,
    });
    let named = terms.map(|group| (*group, false)).chain(services.map(|group| (*group, true)));
    let mut broken = BTreeSet::new();
    for (group, ports) in named {
        let policy = policy.clone();
        output.problems.insert(match sets.check(group, ports) {
            Ok(()) => continue,
            Err(Unusable::Incomplete) => Problem::GroupIncomplete { policy, group },
            Err(Unusable::Kind) => Problem::GroupKind { policy, group },
        });
        broken.insert((group, ports));
    }
    broken
}

/// What is done with a packet that matches; None where the rule must not match anything.
fn action(action: Action, closed: bool, place: &Place<'_>, settings: &Settings) -> Option<Vec<Expr>> {
    let pass = |to: Verdict| match settings.count_allowed {
        true => vec![Expr::Counter, Expr::Verdict(to)],
        false => verdict(to),
    };
    match (action, closed) {
        (Action::Allow | Action::Log, true) => None,
        (Action::Deny, _) | (Action::Pass, true) => Some(count_drop()),
        (Action::Allow, false) => Some(pass(Verdict::Accept)),
        (Action::Pass, false) => Some(pass(place.pass.clone())),
        (Action::Log, false) => Some(vec![
            Expr::Counter,
            Expr::Limit { rate: LOG_RATE, unit: 1, burst: LOG_BURST },
            Expr::Log { group: settings.log_group, prefix: place.id.clone(), snaplen: LOG_SNAPLEN },
        ]),
    }
}

/// One way to satisfy every condition on protocol and ports.
#[derive(Clone)]
struct ServiceMatch {
    test: ServiceTest,
    /// Groups in which the address, protocol and port of an end are looked up.
    groups: Vec<GroupMatch>,
}

#[derive(Clone, Copy)]
struct GroupMatch {
    group: GroupId,
    end: End,
    negated: bool,
}

fn services(wanted: &Rule, broken: &Broken, names: &NamedPorts, output: &mut Rendered) -> Vec<ServiceMatch> {
    let mut ways = vec![ServiceMatch::any()];
    let with_ports = wanted.services.iter().any(|any| any.iter().all(ports::has_ports));
    for any in &wanted.services {
        let mut options = Vec::new();
        for service in ports::join(any) {
            match service {
                // The rule was closed to a drop: whatever the group might hold is in it.
                Service::Group { group, .. } if broken.contains(&(group, true)) => {
                    options.push(ServiceMatch::any())
                }
                Service::Group { group, end, negated } => {
                    let groups = vec![GroupMatch { group, end, negated }];
                    options.push(ServiceMatch { groups, ..ServiceMatch::any() });
                    if negated && !with_ports {
                        options.push(ServiceMatch { test: ports::without_ports(), groups: Vec::new() });
                    }
                }
                service => {
                    let tests = ports::service(&service, names, output).into_iter();
                    options.extend(tests.map(|test| ServiceMatch { test, groups: Vec::new() }));
                }
            }
        }
        ways = ways.iter().flat_map(|way| options.iter().filter_map(|option| way.and(option))).collect();
    }
    ways
}

/// The ways in which a packet of one family satisfies the rule's address conditions.
fn matches(
    wanted: &Rule,
    service: &ServiceMatch,
    family: Family,
    broken: &Broken,
    sets: &mut GroupSets<'_>,
    output: &mut Rendered,
) -> Alternatives {
    let sides = [(End::Source, &wanted.source), (End::Destination, &wanted.destination)];
    let terms = sides.into_iter().flat_map(|(side, terms)| terms.iter().map(move |term| (side, term)));
    let mut alternatives: Alternatives = vec![Vec::new()];
    for (side, term) in terms {
        if names_any(term, broken) {
            continue;
        }
        let options = sets.term(term, side, family, output);
        alternatives = product(&alternatives, &options);
    }
    for GroupMatch { group, end, negated } in service.groups.iter().copied() {
        let set = sets.ports(group, family, output);
        let protocol = address_registers(family);
        let test = vec![
            load_address(end, family, R0),
            Expr::Meta { key: MetaKey::L4Proto, dreg: Reg(protocol) },
            load_port(end, Reg(protocol + 1)),
            lookup(&set, negated),
        ];
        alternatives = product(&alternatives, &[test]);
    }
    alternatives
}

fn names_any(term: &AddressTerm, broken: &Broken) -> bool {
    term.groups.iter().any(|group| broken.contains(&(*group, false)))
}

fn product(a: &[Vec<Expr>], b: &[Vec<Expr>]) -> Alternatives {
    a.iter().flat_map(|left| b.iter().map(move |right| [left.as_slice(), right].concat())).collect()
}

impl ServiceMatch {
    fn any() -> Self {
        Self { test: ServiceTest::default(), groups: Vec::new() }
    }

    /// What satisfies both; None where no family does.
    fn and(&self, other: &Self) -> Option<Self> {
        let family = match (self.test.family, other.test.family) {
            (Some(a), Some(b)) if a != b => return None,
            (a, b) => a.or(b),
        };
        let expressions = [self.test.expressions.as_slice(), &other.test.expressions].concat();
        let groups = [self.groups.as_slice(), &other.groups].concat();
        Some(Self { test: ServiceTest { family, expressions }, groups })
    }
}
