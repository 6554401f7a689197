//! networking.k8s.io/v1 NetworkPolicy.

use std::sync::Arc;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use kube::core::ObjectMeta;
use selvage_policy::compiled::{Action, PolicyKey, PolicyKind};
use selvage_policy::model::{Entity, Namespaces, Order, PodSet, Policy, Rule};
use selvage_policy::selector::Selector;

use super::peer::peers;
use super::port::ports;
use super::selector::selector;
use super::{Issue, Reason};

/// The tier of NetworkPolicies, and the order that they all share there.
const TIER: &str = "default";
const ORDER: f64 = 1000.0;

/// What a NetworkPolicy says.
#[derive(Debug, Clone, PartialEq)]
pub struct Converted {
    /// Which object it is.
    pub key: PolicyKey,
    /// `metadata.uid`.
    pub uid: Arc<str>,
    /// `metadata.generation`.
    pub generation: i64,
    /// What is enforced; None when the policy's own subject can't be read.
    pub policy: Option<Policy>,
    /// What is not enforced as written, in the order of the fields.
    pub issues: Vec<Issue>,
}

/// Reads a NetworkPolicy; None for an object without name or namespace, which no API server hands out.
pub fn network_policy(object: &NetworkPolicy) -> Option<Converted> {
    let namespace: Arc<str> = object.metadata.namespace.as_deref()?.into();
    let name: Arc<str> = object.metadata.name.as_deref()?.into();
    let uid: Arc<str> = object.metadata.uid.as_deref().unwrap_or_default().into();
    let generation = object.metadata.generation.unwrap_or_default();
    let empty = NetworkPolicySpec::default();
    let spec = object.spec.as_ref().unwrap_or(&empty);

    let mut issues = Vec::new();
    let subject = match spec.pod_selector.as_ref().map(|given| selector("spec.podSelector", given)) {
        None => Some(Selector::All),
        Some(Ok(pods)) => Some(pods),
        Some(Err(mut issue)) => {
            issue.message.push_str(", and the policy is not enforced");
            issues.push(issue);
            None
        }
    };
    let (for_ingress, for_egress) = directions(spec, &mut issues);
    let ingress = for_ingress.then(|| ingress(spec, &namespace, &mut issues));
    let egress = for_egress.then(|| egress(spec, &namespace, &mut issues));
    let policy = subject.map(|pods| Policy {
        uid: uid.clone(),
        generation,
        tier: TIER.into(),
        order: Order::new(ORDER),
        subject: PodSet { namespaces: Namespaces::Named(namespace.clone()), accounts: Selector::All, pods },
        ingress,
        egress,
    });
    let key = PolicyKey { kind: PolicyKind::NetworkPolicy, namespace, name };
    Some(Converted { key, uid, generation, policy, issues })
}

/// What is left of a NetworkPolicy that can't be decoded: nothing to enforce, and why. None as [`network_policy`].
pub fn unreadable(metadata: &ObjectMeta, error: &str) -> Option<Converted> {
    let shell = NetworkPolicy { metadata: metadata.clone(), spec: None };
    let issue = Issue::new("spec", Reason::Unreadable, format!("{error}: nothing of it is enforced"));
    network_policy(&shell).map(|converted| Converted { policy: None, issues: vec![issue], ..converted })
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
