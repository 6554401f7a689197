//! The definitions of all kinds, as they are installed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

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
    /// A member of an address group: address, network, or address, protocol and port.
    pub const MEMBER: &str = "^[0-9a-fA-F.:]{2,45}(/[0-9]{1,3}|,[0-9]{1,3},[0-9]{1,5})?$";
    /// A port or an inclusive range of ports.
    pub const PORTS: &str = "^[0-9]{1,5}(-[0-9]{1,5})?$";
    /// An address family.
    pub const FAMILY: &str = "^IPv[46]$";
    /// A natural number.
    pub const DECIMAL: &str = "^[0-9]{0,39}$";
}

/// Every definition, by name, as written to `crds/yaml` and installed by the chart.
pub fn all() -> Vec<CustomResourceDefinition> {
    let mut definitions = vec![
        crate::AddressGroup::crd(),
        crate::IPPool::crd(),
        crate::NetworkPolicyStatus::crd(),
        crate::NodePolicy::crd(),
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

/// Makes every list atomic in so many words, and drops the formats of Rust's integers, which Kubernetes does not know
/// and warns about; their bounds stay.
fn finish(schema: &mut JSONSchemaProps) {
    if schema.format.as_deref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = None;
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
