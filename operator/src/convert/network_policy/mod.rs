//! networking.k8s.io/v1 NetworkPolicy.

mod peer;
mod port;

use std::sync::Arc;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use selvage_policy::compiled::{Action, PolicyKind};
use selvage_policy::model::{Entity, Namespaces, Order, PodSet, Policy, Rule};
use selvage_policy::selector::Selector;
use selvage_policy::tier;

use self::peer::peers;
use self::port::ports;
use super::label_selector::{Values, selector};
use super::result::{Converted, Identity};
use super::{Issue, Reason};

/// Reads a NetworkPolicy; None for an object without name or namespace, which no API server hands out.
pub fn network_policy(object: &NetworkPolicy) -> Option<Converted> {
    let identity = Identity::of(PolicyKind::NetworkPolicy, &object.metadata)?;
    let namespace = &identity.key.namespace;
    let empty = NetworkPolicySpec::default();
    let spec = object.spec.as_ref().unwrap_or(&empty);

    let mut issues = Vec::new();
    let subject =
        match spec.pod_selector.as_ref().map(|given| selector("spec.podSelector", given, Values::Literal)) {
            None => Some(Selector::All),
            Some(Ok(pods)) => Some(pods),
            Some(Err(mut issue)) => {
                issue.message.push_str(", and the policy is not enforced");
                issues.push(issue);
                None
            }
        };
    let (for_ingress, for_egress) = directions(spec, &mut issues);
    let ingress = for_ingress.then(|| ingress(spec, namespace, &mut issues));
    let egress = for_egress.then(|| egress(spec, namespace, &mut issues));
    let policy = subject.map(|pods| Policy {
        uid: identity.uid.clone(),
        generation: identity.generation,
        tier: tier::DEFAULT.into(),
        order: Order::new(tier::NETWORK_POLICY_ORDER),
        subject: PodSet { namespaces: Namespaces::Named(namespace.clone()), accounts: Selector::All, pods },
        ingress,
        egress,
    });
    Some(identity.converted(policy, issues))
}

/// Which directions the policy isolates: (ingress, egress).
fn directions(spec: &NetworkPolicySpec, issues: &mut Vec<Issue>) -> (bool, bool) {
    let types = spec.policy_types.as_deref().unwrap_or_default();
    if types.is_empty() {
        return (true, spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()));
    }
    let mut found = (false, false);
    for (index, given) in types.iter().enumerate() {
        match given.as_str() {
            "Ingress" => found.0 = true,
            "Egress" => found.1 = true,
            other => issues.push(Issue::new(
                format!("spec.policyTypes[{index}]"),
                Reason::InvalidPolicyType,
                format!("{other:?} is neither Ingress nor Egress: it is ignored"),
            )),
        }
    }
    found
}

fn ingress(spec: &NetworkPolicySpec, namespace: &Arc<str>, issues: &mut Vec<Issue>) -> Vec<Rule> {
    let rule = |(index, given): (usize, &k8s_openapi::api::networking::v1::NetworkPolicyIngressRule)| {
        let path = format!("spec.ingress[{index}]");
        let source = peers(&format!("{path}.from"), namespace, given.from.as_deref(), issues);
        let ports = ports(&path, given.ports.as_deref(), issues);
        Rule { action: Action::Allow, family: None, ports, source, destination: Entity::default() }
    };
    spec.ingress.iter().flatten().enumerate().map(rule).collect()
}

fn egress(spec: &NetworkPolicySpec, namespace: &Arc<str>, issues: &mut Vec<Issue>) -> Vec<Rule> {
    let rule = |(index, given): (usize, &k8s_openapi::api::networking::v1::NetworkPolicyEgressRule)| {
        let path = format!("spec.egress[{index}]");
        let destination = peers(&format!("{path}.to"), namespace, given.to.as_deref(), issues);
        let ports = ports(&path, given.ports.as_deref(), issues);
        Rule { action: Action::Allow, family: None, ports, source: Entity::default(), destination }
    };
    spec.egress.iter().flatten().enumerate().map(rule).collect()
}
