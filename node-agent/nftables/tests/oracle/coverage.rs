//! What the cases have reached, so that they can't go blind unseen.

use std::collections::BTreeMap;

use selvage_policy::compiled::{Action, End, Family};
use selvage_policy::model::{Entity, Peer, Ports, Rule};
use selvage_policy::oracle::always::{Outcome, Passage};
use selvage_policy::oracle::verdict::{Decider, Direction, Verdict};
use selvage_policy::oracle::{Objects, Packet};

/// How often each thing decided.
#[derive(Debug, Default)]
pub struct Coverage {
    counts: BTreeMap<String, usize>,
}

/// What must have decided, in either family, and in the run as a whole.
const PER_FAMILY: [&str; 36] = [
    "passes",
    "dropped",
    "ingress Allow",
    "ingress Deny",
    "egress Allow",
    "egress Deny",
    "ingress default Deny",
    "egress default Deny",
    "ingress no tier",
    "egress no tier",
    "noted",
    "peer Block",
    "peer Block with except",
    "peer Pods",
    "peer Sets",
    "peer GlobalSets",
    "peer Backends",
    "peer Nodes",
    "peer Nothing",
    "peers negated",
    "peers several terms",
    "ports Protocol",
    "ports Range",
    "ports Named",
    "ports Icmp",
    "ports Backends",
    "ports Nothing",
    "ports negated",
    "ports at the source",
    "ports several terms",
    "rule of one family",
    "masqueraded",
    "NetworkPolicy",
    "SelvageNetworkPolicy",
    "ClusterNetworkPolicy",
    "GlobalNetworkPolicy",
];
const IN_ALL: [&str; 13] = [
    "tier first",
    "tier second",
    "tier kube-admin",
    "tier default",
    "tier kube-baseline",
    "Passes(NeighbourDiscovery)",
    "Dropped(RouterMessage)",
    "Dropped(UnknownSource)",
    "Dropped(Multicast)",
    "Dropped(Overlay)",
    "Passes(OpenConnection)",
    "Passes(Hairpin)",
    "Dropped(UnknownDestination)",
];

impl Coverage {
    /// Notes a case.
    pub fn note(&mut self, objects: &Objects, passage: &Passage, outcome: &Outcome, masqueraded: bool) {
        let packet = &passage.packet;
        self.count(packet, if outcome.passes() { "passes" } else { "dropped" });
        if masqueraded {
            self.count(packet, "masqueraded");
        }
        let (egress, ingress) = match outcome {
            Outcome::Judged { egress, ingress } => (egress, ingress),
            other => {
                *self.counts.entry(format!("{other:?}")).or_default() += 1;
                return;
            }
        };
        for (verdict, direction) in [(egress, Direction::Egress), (ingress, Direction::Ingress)] {
            if let Some(verdict) = verdict {
                self.verdict(objects, packet, verdict, direction);
            }
        }
    }

    fn verdict(&mut self, objects: &Objects, packet: &Packet, verdict: &Verdict, direction: Direction) {
        let way = if direction == Direction::Ingress { "ingress" } else { "egress" };
        if !verdict.noted.is_empty() {
            self.count(packet, "noted");
        }
        match &verdict.by {
            Decider::NoTier => self.count(packet, &format!("{way} no tier")),
            Decider::TierDefault(_) => self.count(packet, &format!("{way} default Deny")),
            Decider::Rule { policy: key, index } => {
                let policy = &objects.policies[key];
                let rules = if direction == Direction::Ingress { &policy.ingress } else { &policy.egress };
                let rule = &rules.as_ref().unwrap()[*index];
                self.count(packet, &format!("{way} {:?}", rule.action));
                self.count(packet, &key.kind.to_string());
                *self.counts.entry(format!("tier {}", policy.tier)).or_default() += 1;
                self.rule(packet, rule);
            }
        }
    }

    fn rule(&mut self, packet: &Packet, rule: &Rule) {
        assert!(matches!(rule.action, Action::Allow | Action::Deny));
        if rule.family.is_some() {
            self.count(packet, "rule of one family");
        }
        for entity in [&rule.source, &rule.destination] {
            self.entity(packet, entity);
        }
        if rule.ports.len() > 1 {
            self.count(packet, "ports several terms");
        }
        for term in &rule.ports {
            if term.negated {
                self.count(packet, "ports negated");
            }
            if term.end == End::Source {
                self.count(packet, "ports at the source");
            }
            for entry in &term.ports {
                self.count(
                    packet,
                    match entry {
                        Ports::Protocol(_) => "ports Protocol",
                        Ports::Range(..) => "ports Range",
                        Ports::Named(_) => "ports Named",
                        Ports::Icmp(..) => "ports Icmp",
                        Ports::Backends(_) => "ports Backends",
                        Ports::Nothing => "ports Nothing",
                    },
                );
            }
        }
    }

    fn entity(&mut self, packet: &Packet, entity: &Entity) {
        if entity.terms.len() > 1 {
            self.count(packet, "peers several terms");
        }
        for term in &entity.terms {
            if term.negated {
                self.count(packet, "peers negated");
            }
            for peer in &term.peers {
                self.count(
                    packet,
                    match peer {
                        Peer::Block { except, .. } if except.is_empty() => "peer Block",
                        Peer::Block { .. } => "peer Block with except",
                        Peer::Pods(_) => "peer Pods",
                        Peer::Sets(selection) if selection.namespaces.is_none() => "peer GlobalSets",
                        Peer::Sets(_) => "peer Sets",
                        Peer::Backends(_) => "peer Backends",
                        Peer::Nodes(_) => "peer Nodes",
                        Peer::Nothing => "peer Nothing",
                    },
                );
            }
        }
    }

    fn count(&mut self, packet: &Packet, what: &str) {
        *self.counts.entry(format!("{what}, {}", family(packet))).or_default() += 1;
    }

    /// Fails with everything that was reached less than `least` times.
    pub fn require(&self, least: usize) {
        let both =
            PER_FAMILY.iter().flat_map(|what| [Family::V4, Family::V6].map(|f| format!("{what}, {f:?}")));
        let one = IN_ALL.iter().map(|what| (*what).to_owned());
        let mut counts: Vec<(usize, String)> =
            both.chain(one).map(|what| (self.counts.get(&what).copied().unwrap_or(0), what)).collect();
        counts.sort();
        println!("reached least: {:?}", &counts[..3]);
        counts.retain(|(count, _)| *count < least);
        assert!(counts.is_empty(), "reached less than {least} times: {counts:?}\nof {:#?}", self.counts);
    }
}

fn family(packet: &Packet) -> &'static str {
    if packet.source.is_ipv4() { "V4" } else { "V6" }
}
