//! The definitions of all kinds, as they are installed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

pub mod cel;
mod items;

pub use items::{declared, directions, net, ports};

/// Limits of lists and text, such that checking an object at its limits stays within what the API server allows.
pub mod limit {
    /// Characters of a selector.
    pub const SELECTOR: usize = 1024;
    /// Rules of a policy in one direction.
    pub const RULES: usize = 512;
    /// Networks in one list of a rule. More of them are a set.
    pub const NETS: usize = 4096;
    /// Networks in a set; etcd ends before.
    pub const SET: usize = 65_536;
    /// Characters of a network.
    pub const NET: usize = 49;
    /// Characters of a protocol's name.
    pub const PROTOCOL: usize = 7;
    /// Ports in one list of a rule.
    pub const PORTS: usize = 100;
    /// Characters of a port: RFC 6335 gives names 15.
    pub const PORT: usize = 15;
    /// Names in one list of a rule.
    pub const NAMES: usize = 1024;
    /// Characters of a tier's name.
    pub const TIER: usize = 63;
    /// Characters of a word that is refused anyway.
    pub const WORD: usize = 64;
    /// Entries of a list that is refused anyway.
    pub const REFUSED: usize = 256;
}

/// Patterns of text fields. They refuse what can't be meant; [`crate::codec`] checks the rest.
pub mod pattern {
    /// 128 bits in hexadecimal.
    pub const HEX32: &str = "^[0-9a-f]{32}$";
    /// 64 bits in hexadecimal.
    pub const HEX16: &str = "^[0-9a-f]{16}$";
    /// An address of either family.
    pub const ADDRESS: &str = "^[0-9a-fA-F.:]{2,45}$";
    /// A network of either family.
    pub const CIDR: &str = "^[0-9a-fA-F.:]{2,45}/[0-9]{1,3}$";
    /// A network or an address of either family.
    pub const NET: &str = "^[0-9a-fA-F.:]{2,45}(/[0-9]{1,3})?$";
    /// A member of an address group: address, network, or address, protocol and port.
    pub const MEMBER: &str = "^[0-9a-fA-F.:]{2,45}(/[0-9]{1,3}|,[0-9]{1,3},[0-9]{1,5})?$";
    /// Hashes of pods' uids, or dashes.
    pub const OWNERS: &str = "^([0-9a-f]{8}|-{8})*$";
    /// A member and the hash of its pod's uid.
    pub const FORMER: &str = "^[0-9a-fA-F.:]{2,45}(/[0-9]{1,3}|,[0-9]{1,3},[0-9]{1,5})?=[0-9a-f]{8}$";
    /// A port or an inclusive range of ports.
    pub const PORTS: &str = "^[0-9]{1,5}(-[0-9]{1,5})?$";
    /// An address family.
    pub const FAMILY: &str = "^IPv[46]$";
    /// A DNS label: the name of a tier, a namespace or a Service.
    pub const LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
    /// A DNS subdomain: the name of most objects.
    pub const NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
    /// A port as text: a number, a range, or a name with a letter in it (RFC 6335).
    pub const PORT: &str = "^([1-9][0-9]{0,4}(:[1-9][0-9]{0,4})?|([0-9]-?)*[a-z](-?[a-z0-9])*)$";
    /// A natural number.
    pub const DECIMAL: &str = "^[0-9]{0,39}$";
}

/// Every definition, by name, as written to `crds/yaml` and installed by the chart.
pub fn all() -> Vec<CustomResourceDefinition> {
    let mut definitions = vec![
        crate::AddressGroup::crd(),
        crate::GlobalNetworkPolicy::crd(),
        crate::GlobalNetworkSet::crd(),
        crate::IPPool::crd(),
        crate::NetworkPolicyStatus::crd(),
        crate::NetworkSet::crd(),
        crate::NodePolicy::crd(),
        crate::SelvageNetworkPolicy::crd(),
        crate::Tier::crd(),
    ];
    for definition in &mut definitions {
        for version in &mut definition.spec.versions {
            if let Some(schema) =
                version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut())
            {
                finish(schema);
            }
        }
    }
    definitions
}

/// Makes every list atomic in so many words, and drops the formats of Rust's numbers, which Kubernetes does not know and
/// warns about, or which say nothing; their bounds stay.
fn finish(schema: &mut JSONSchemaProps) {
    if schema.format.as_deref().is_some_and(|format| format.starts_with("uint") || format == "double") {
        schema.format = None;
    }
    if let Some(description) = &mut schema.description {
        // Links between Rust types lead nowhere here.
        *description = description.replace("[`", "`").replace("`]", "`");
    }
    if schema.type_.as_deref() == Some("array") && schema.x_kubernetes_list_type.is_none() {
        schema.x_kubernetes_list_type = Some("atomic".to_owned());
    }
    for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        finish(property);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => finish(item),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(finish),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = &mut schema.additional_properties {
        finish(value);
    }
}
