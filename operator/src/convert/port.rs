//! Protocols and ports, as every kind of object gives them.

/// TCP, by IANA's number.
pub(super) const TCP: u8 = 6;
/// UDP.
pub(super) const UDP: u8 = 17;
/// SCTP.
pub(super) const SCTP: u8 = 132;

/// The protocols whose ports can be given by number, and that can carry a name.
pub(super) const WITH_PORTS: [u8; 3] = [TCP, UDP, SCTP];

/// IANA's number of a protocol that NetworkPolicies, container ports and EndpointSlices may name; TCP where none is.
pub(super) fn protocol(name: Option<&str>) -> Option<u8> {
    match name {
        None | Some("TCP") => Some(TCP),
        Some("UDP") => Some(UDP),
        Some("SCTP") => Some(SCTP),
        Some(_) => None,
    }
}

/// A port's number.
///
/// # Errors
/// What is wrong with it.
pub(super) fn number(port: impl TryInto<u16> + std::fmt::Display + Copy) -> Result<u16, String> {
    port.try_into().ok().filter(|port| *port != 0).ok_or_else(|| format!("{port} is not from 1 to 65535"))
}

/// IANA service names (RFC 6335, section 5.1), as the API server asks of container ports.
pub(super) fn is_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && name.bytes().any(|b| b.is_ascii_lowercase())
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--")
}
