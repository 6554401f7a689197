//! selvage.io GlobalNetworkPolicy and SelvageNetworkPolicy.

mod end;
mod port;
mod rule;

use std::sync::Arc;

use selvage_crds::rule::Rule;
use selvage_crds::{GlobalNetworkPolicy, SelvageNetworkPolicy};
use selvage_policy::compiled::{End, PolicyKind};
use selvage_policy::model::{self, Namespaces, Order, PodSet, Policy};
use selvage_policy::selector::{Chosen, Selector};
use selvage_policy::tier;

use self::end::Place;
use self::rule::rule;
use super::result::{Converted, Identity};
use super::selector::selector;
use super::{Issue, Reason};

/// IPv4's ICMP, by IANA's number.
const ICMP: u8 = 1;
/// ICMPv6.
const ICMPV6: u8 = 58;

/// What the specs of both kinds have in common.
struct Spec<'a> {
    tier: Option<&'a str>,
    order: Option<f64>,
    selector: Option<&'a str>,
    service_account_selector: Option<&'a str>,
    types: &'a [String],
    /// Calico's fields that are not supported, with whether they are there.
    refused: Vec<(&'static str, bool)>,
    ingress: &'a [Rule],
    egress: &'a [Rule],
}

/// Reads a GlobalNetworkPolicy; None for an object without name, which no API server hands out.
pub fn global_network_policy(object: &GlobalNetworkPolicy) -> Option<Converted> {
    let identity = Identity::of(PolicyKind::GlobalNetworkPolicy, &object.metadata)?;
    let mut issues = Vec::new();
    let text = object.spec.namespace_selector.as_deref();
    let namespaces = selector("spec.namespaceSelector", text, Chosen::Namespaces, &mut issues);
    let namespaces = Namespaces::Matching(namespaces.unwrap_or(Selector::All));
    let spec = Spec {
        tier: object.spec.tier.as_deref(),
        order: object.spec.order,
        selector: object.spec.selector.as_deref(),
        service_account_selector: object.spec.service_account_selector.as_deref(),
        types: &object.spec.types,
        refused: vec![
            ("doNotTrack", object.spec.do_not_track == Some(true)),
            ("preDNAT", object.spec.pre_dnat == Some(true)),
            ("applyOnForward", object.spec.apply_on_forward == Some(true)),
            ("performanceHints", object.spec.performance_hints.is_some()),
        ],
        ingress: &object.spec.ingress,
        egress: &object.spec.egress,
    };
    Some(policy(identity, &spec, namespaces, issues))
}

/// Reads a SelvageNetworkPolicy; None for an object without name or namespace, which no API server hands out.
pub fn selvage_network_policy(object: &SelvageNetworkPolicy) -> Option<Converted> {
    let identity = Identity::of(PolicyKind::SelvageNetworkPolicy, &object.metadata)?;
    let namespaces = Namespaces::Named(identity.key.namespace.clone());
    let spec = Spec {
        tier: object.spec.tier.as_deref(),
        order: object.spec.order,
        selector: object.spec.selector.as_deref(),
        service_account_selector: object.spec.service_account_selector.as_deref(),
        types: &object.spec.types,
        refused: vec![
            ("doNotTrack", object.spec.do_not_track == Some(true)),
            ("preDNAT", object.spec.pre_dnat == Some(true)),
            ("applyOnForward", object.spec.apply_on_forward == Some(true)),
            ("performanceHints", object.spec.performance_hints.is_some()),
            ("namespaceSelector", object.spec.namespace_selector.is_some()),
        ],
        ingress: &object.spec.ingress,
        egress: &object.spec.egress,
    };
    Some(policy(identity, &spec, namespaces, Vec::new()))
}

fn policy(identity: Identity, spec: &Spec<'_>, namespaces: Namespaces, mut issues: Vec<Issue>) -> Converted {
    let pods = selector("spec.selector", spec.selector, Chosen::PodsAndSets, &mut issues);
    let path = "spec.serviceAccountSelector";
    let accounts = selector(path, spec.service_account_selector, Chosen::ServiceAccounts, &mut issues);
    // So far all of it was about the subject.
    let enforced = issues.is_empty();
    for issue in &mut issues {
        issue.message.push_str(": the policy is not enforced");
    }
    let (for_ingress, for_egress) = directions(spec, &mut issues);
    for (field, _) in spec.refused.iter().filter(|(_, given)| *given) {
        let why = "the field is not supported: it is ignored";
        issues.push(Issue::new(format!("spec.{field}"), Reason::Unsupported, why));
    }
    let home = (!identity.key.namespace.is_empty()).then_some(&identity.key.namespace);
    let mut rules = |path: &str, given: &[Rule], peer| -> Vec<model::Rule> {
        let place = Place { home, peer };
        let one = |(index, given)| rule(&format!("{path}[{index}]"), given, place, &mut issues);
        given.iter().enumerate().map(one).collect()
    };
    let ingress = for_ingress.then(|| rules("spec.ingress", spec.ingress, End::Source));
    let egress = for_egress.then(|| rules("spec.egress", spec.egress, End::Destination));
    let tier: Arc<str> = spec.tier.filter(|tier| !tier.is_empty()).unwrap_or(tier::DEFAULT).into();
    let subject = PodSet {
        namespaces,
        accounts: accounts.unwrap_or(Selector::All),
        pods: pods.unwrap_or(Selector::All),
    };
    let policy = enforced.then(|| Policy {
        uid: identity.uid.clone(),
        generation: identity.generation,
        tier,
        order: spec.order.and_then(Order::new),
        subject,
        ingress,
        egress,
    });
    identity.converted(policy, issues)
}

/// Which directions the policy speaks of: (ingress, egress).
fn directions(spec: &Spec<'_>, issues: &mut Vec<Issue>) -> (bool, bool) {
    if spec.types.is_empty() {
        return (!spec.ingress.is_empty() || spec.egress.is_empty(), !spec.egress.is_empty());
    }
    let mut found = (false, false);
    for (index, given) in spec.types.iter().enumerate() {
        match given.as_str() {
            "Ingress" => found.0 = true,
            "Egress" => found.1 = true,
            other => issues.push(Issue::new(
                format!("spec.types[{index}]"),
                Reason::InvalidPolicyType,
                format!("{other:?} is neither Ingress nor Egress: it is ignored"),
            )),
        }
    }
    found
}
