//! What statuses are about, and what they say.

use std::fmt;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use selvage_crds::IPPoolStatus;
use selvage_crds::network_policy_status::PolicyStatus;
use selvage_crds::network_set::SetStatus;
use selvage_crds::tier::TierStatus;
use selvage_policy::compiled::{PolicyKey, PolicyKind};
use selvage_policy::model::Key;

/// An object that has a status.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// A policy. What is said of a NetworkPolicy stands in the NetworkPolicyStatus of the same name.
    Policy(PolicyKey),
    /// A NetworkSet, or a GlobalNetworkSet where the key has no namespace.
    Set(Key),
    /// A tier, by name.
    Tier(Arc<str>),
    /// An IPPool, by name.
    Pool(Arc<str>),
}

/// What is said of an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// Of a policy.
    Policy(PolicyStatus),
    /// Of a set.
    Set(SetStatus),
    /// Of a tier.
    Tier(TierStatus),
    /// Of a pool.
    Pool(IPPoolStatus),
}

/// A kind as the API server knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource {
    /// `apiVersion`.
    pub api_version: &'static str,
    /// `kind`.
    pub kind: &'static str,
    /// The plural, as in its address.
    pub plural: &'static str,
}

const OURS: &str = "selvage.io/v1alpha1";

impl About {
    /// The object's name.
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Policy(key) => &key.name,
            Self::Set(key) => &key.name,
            Self::Tier(name) | Self::Pool(name) => name,
        }
    }

    /// The object's namespace; empty where it has none.
    pub fn namespace(&self) -> &str {
        match self {
            Self::Policy(key) => &key.namespace,
            Self::Set(key) => &key.namespace,
            Self::Tier(_) | Self::Pool(_) => "",
        }
    }

    /// The object's kind.
    pub fn resource(&self) -> Resource {
        let ours = |kind, plural| Resource { api_version: OURS, kind, plural };
        match self {
            Self::Policy(key) => match key.kind {
                PolicyKind::NetworkPolicy => Resource {
                    api_version: "networking.k8s.io/v1",
                    kind: "NetworkPolicy",
                    plural: "networkpolicies",
                },
                PolicyKind::ClusterNetworkPolicy => Resource {
                    api_version: "policy.networking.k8s.io/v1alpha2",
                    kind: "ClusterNetworkPolicy",
                    plural: "clusternetworkpolicies",
                },
                PolicyKind::GlobalNetworkPolicy => ours("GlobalNetworkPolicy", "globalnetworkpolicies"),
                PolicyKind::SelvageNetworkPolicy => ours("SelvageNetworkPolicy", "selvagenetworkpolicies"),
            },
            Self::Set(key) if key.namespace.is_empty() => ours("GlobalNetworkSet", "globalnetworksets"),
            Self::Set(_) => ours("NetworkSet", "networksets"),
            Self::Tier(_) => ours("Tier", "tiers"),
            Self::Pool(_) => ours("IPPool", "ippools"),
        }
    }

    /// The kind of the object that holds the status.
    pub fn holder(&self) -> Resource {
        match self {
            Self::Policy(key) if key.kind == PolicyKind::NetworkPolicy => {
                Resource { api_version: OURS, kind: "NetworkPolicyStatus", plural: "networkpolicystatuses" }
            }
            _ => self.resource(),
        }
    }

    /// What is said of such an object before anything is.
    pub fn nothing_said(&self) -> Said {
        match self {
            Self::Policy(_) => Said::Policy(PolicyStatus::default()),
            Self::Set(_) => Said::Set(SetStatus::default()),
            Self::Tier(_) => Said::Tier(TierStatus::default()),
            Self::Pool(_) => Said::Pool(IPPoolStatus::default()),
        }
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.resource().kind;
        match self.namespace() {
            "" => write!(f, "{kind} {}", self.name()),
            namespace => write!(f, "{kind} {namespace}/{}", self.name()),
        }
    }
}

impl Resource {
    /// Where its objects are.
    pub fn path(&self, namespace: &str) -> String {
        let Self { api_version, plural, .. } = self;
        match namespace {
            "" => format!("/apis/{api_version}/{plural}"),
            _ => format!("/apis/{api_version}/namespaces/{namespace}/{plural}"),
        }
    }
}

impl Said {
    /// Its conditions.
    pub fn conditions(&self) -> &[Condition] {
        match self {
            Self::Policy(status) => &status.conditions,
            Self::Set(status) => &status.conditions,
            Self::Tier(status) => &status.conditions,
            Self::Pool(status) => &status.conditions,
        }
    }

    /// As the API server takes it: a ClusterNetworkPolicy's status has conditions alone.
    ///
    /// # Errors
    /// None of these types gives any.
    pub fn json(&self, about: &About) -> serde_json::Result<serde_json::Value> {
        match (self, about) {
            (Self::Policy(status), About::Policy(key)) if key.kind == PolicyKind::ClusterNetworkPolicy => {
                Ok(serde_json::json!({ "conditions": serde_json::to_value(&status.conditions)? }))
            }
            (Self::Policy(status), _) => serde_json::to_value(status),
            (Self::Set(status), _) => serde_json::to_value(status),
            (Self::Tier(status), _) => serde_json::to_value(status),
            (Self::Pool(status), _) => serde_json::to_value(status),
        }
    }

    /// What is left of it once it was written.
    pub fn as_written(mut self, about: &About) -> Self {
        if let (Self::Policy(status), About::Policy(key)) = (&mut self, about)
            && key.kind == PolicyKind::ClusterNetworkPolicy
        {
            let conditions = std::mem::take(&mut status.conditions);
            *status = PolicyStatus { conditions, ..PolicyStatus::default() };
        }
        self
    }
}
