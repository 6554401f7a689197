//! What is made of an object: its meaning, and what of it is not enforced as written.

use std::sync::Arc;

use kube::core::ObjectMeta;
use selvage_policy::compiled::{PolicyKey, PolicyKind};
use selvage_policy::model::Policy;

use super::{Issue, Reason};

/// What a policy of any kind says.
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

/// What an object that is no policy says.
#[derive(Debug, Clone, PartialEq)]
pub struct Read<T> {
    /// `metadata.uid`.
    pub uid: Arc<str>,
    /// `metadata.generation`.
    pub generation: i64,
    /// Its meaning; None where nothing of it can be used.
    pub value: Option<T>,
    /// What is not used as written, and notes after it.
    pub issues: Vec<Issue>,
}

/// Which policy is being read.
pub(super) struct Identity {
    pub(super) key: PolicyKey,
    pub(super) uid: Arc<str>,
    pub(super) generation: i64,
}

/// What is left of a policy that can't be decoded: nothing to enforce, and why. None for an object without name, or
/// without namespace where its kind has one.
pub fn unreadable(kind: PolicyKind, metadata: &ObjectMeta, error: &str) -> Option<Converted> {
    let issue = Issue::new("spec", Reason::Unreadable, format!("{error}: nothing of it is enforced"));
    Identity::of(kind, metadata).map(|identity| identity.converted(None, vec![issue]))
}

impl<T> Read<T> {
    pub(super) fn new(metadata: &ObjectMeta, value: Option<T>, issues: Vec<Issue>) -> Self {
        let uid = metadata.uid.as_deref().unwrap_or_default().into();
        Self { uid, generation: metadata.generation.unwrap_or_default(), value, issues }
    }

    /// What is left of an object that can't be decoded.
    pub fn unreadable(metadata: &ObjectMeta, error: &str) -> Self {
        let issue = Issue::new("spec", Reason::Unreadable, format!("{error}: nothing of it is used"));
        Self::new(metadata, None, vec![issue])
    }
}

impl Identity {
    /// None for an object that no API server hands out.
    pub(super) fn of(kind: PolicyKind, metadata: &ObjectMeta) -> Option<Self> {
        let namespace = match kind {
            PolicyKind::NetworkPolicy | PolicyKind::SelvageNetworkPolicy => metadata.namespace.as_deref()?,
            PolicyKind::ClusterNetworkPolicy | PolicyKind::GlobalNetworkPolicy => "",
        };
        let key = PolicyKey { kind, namespace: namespace.into(), name: metadata.name.as_deref()?.into() };
        let uid = metadata.uid.as_deref().unwrap_or_default().into();
        Some(Self { key, uid, generation: metadata.generation.unwrap_or_default() })
    }

    pub(super) fn converted(self, policy: Option<Policy>, issues: Vec<Issue>) -> Converted {
        Converted { key: self.key, uid: self.uid, generation: self.generation, policy, issues }
    }
}
