//! discovery.k8s.io/v1 EndpointSlice.

use std::collections::BTreeSet;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use selvage_policy::model::Backends;

use super::cidr::address;
use super::port::{number, protocol};

/// The label that names a slice's Service.
const SERVICE: &str = "kubernetes.io/service-name";

/// What a slice says of its Service's backends, ready or not; None for a slice of no Service, and for one of domain
/// names, which are no addresses.
///
/// A port without a number means every port of its protocol, as discovery.k8s.io has it; no ports at all means none.
pub fn endpoint_slice(object: &EndpointSlice) -> Option<Backends> {
    let service = object.metadata.labels.as_ref()?.get(SERVICE).filter(|name| !name.is_empty())?;
    if object.address_type == "FQDN" {
        return None;
    }
    let addresses = object.endpoints.iter().flatten().flat_map(|endpoint| &endpoint.addresses);
    let (mut ports, mut whole) = (BTreeSet::new(), BTreeSet::new());
    for port in object.ports.iter().flatten() {
        match (protocol(port.protocol.as_deref()), port.port.map(number)) {
            (Some(protocol), Some(Ok(number))) => {
                ports.insert((protocol, number));
            }
            (Some(protocol), None) => {
                whole.insert(protocol);
            }
            (None, _) | (_, Some(Err(_))) => {}
        }
    }
    Some(Backends {
        service: service.as_str().into(),
        addresses: addresses.filter_map(|text| address(text)).collect(),
        ports,
        whole,
    })
}
