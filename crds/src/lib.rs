//! The custom resources of `selvage.io/v1alpha1`, and the codec between the compiled policy and what travels.
//!
//! The YAML under `crds/yaml` and the chart's copies are generated from these types (`cargo xtask generate`).
//! Every list is atomic: one writer replaces it whole, so that the API server keeps no record per element.

#![forbid(unsafe_code)]
// The columns of one kube attribute share words such as type_ = "string": to the lint they are duplicates.
#![allow(clippy::duplicated_attributes)]

pub mod address_group;
pub mod bucket;
pub mod cluster_network_policy;
pub mod codec;
pub mod conditions;
pub mod digest;
pub mod global_network_policy;
pub mod ip_pool;
pub mod network_policy_status;
pub mod network_set;
pub mod node_policy;
pub mod policy_uses;
pub mod rule;
pub mod rules;
pub mod schema;
pub mod selvage_network_policy;
pub mod tier;

pub use address_group::{AddressGroup, AddressGroupSpec};
pub use cluster_network_policy::{
    ClusterNetworkPolicy, ClusterNetworkPolicySpec, ClusterNetworkPolicyStatus,
};
pub use global_network_policy::{GlobalNetworkPolicy, GlobalNetworkPolicySpec};
pub use ip_pool::{IPPool, IPPoolSpec, IPPoolStatus};
pub use network_policy_status::{NetworkPolicyStatus, NetworkPolicyStatusSpec, PolicyStatus};
pub use network_set::{GlobalNetworkSet, GlobalNetworkSetSpec, NetworkSet, NetworkSetSpec, SetStatus};
pub use node_policy::{NodePolicy, NodePolicySpec, NodePolicyStatus};
pub use selvage_network_policy::{SelvageNetworkPolicy, SelvageNetworkPolicySpec};
pub use tier::{Tier, TierSpec, TierStatus};

/// The resourceVersion of the newest object of each kind (`Pod`, `Namespace`, `Node`, `NetworkPolicy`, ...) behind a
/// published object: a new leader publishes nothing until its caches have reached every one.
pub type Basis = std::collections::BTreeMap<String, String>;
