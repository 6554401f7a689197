//! Schemas of lists and fields whose Rust types say too little.

use schemars::{Schema, SchemaGenerator, json_schema};

use super::{cel, limit, pattern};

/// Networks or addresses.
pub mod net {
    use super::*;

    /// In a rule: eight lists in each of hundreds of rules are too dear for CEL, so that the chart's admission policy has
    /// to look closer.
    pub fn few(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array",
            "maxItems": limit::NETS,
            "items": {"type": "string", "maxLength": limit::NET, "pattern": pattern::NET},
        })
    }

    /// In a set.
    pub fn many(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array",
            "maxItems": limit::SET,
            "items": {
                "type": "string",
                "maxLength": limit::NET,
                "x-kubernetes-validations": [{"rule": cel::NET, "message": cel::NET_MESSAGE}],
            },
        })
    }
}

/// Ports by number, range or name.
pub fn ports(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": limit::PORTS,
        "items": {
            "x-kubernetes-int-or-string": true,
            "maxLength": limit::PORT,
            "pattern": pattern::PORT,
            "x-kubernetes-validations": [{"rule": cel::PORT, "message": cel::PORT_MESSAGE}],
        },
    })
}

/// Directions that a policy is about.
pub fn directions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 2,
        "items": {"type": "string", "enum": ["Ingress", "Egress"]},
    })
}

/// Fields that are declared so that they can be refused: what is not declared is pruned without a word.
pub mod declared {
    use super::*;

    /// What such a field holds.
    pub type Object = serde_json::Map<String, serde_json::Value>;

    /// Message of fields that are about host endpoints.
    pub const HOST_ENDPOINTS: &str =
        "is not supported, it is about host endpoints, which nodes are not here: remove it";

    /// Message of fields that are about how pods get their addresses, and how packets travel.
    pub const ALLOCATION: &str = "is not supported, it is about what the CNI does, such as allocation, encapsulation and routing: remove it";

    /// Any object.
    pub fn object(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
    }

    /// Any list of text.
    pub fn list(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array",
            "maxItems": limit::REFUSED,
            "items": {"type": "string", "maxLength": limit::SELECTOR},
        })
    }
}
