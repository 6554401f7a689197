//! CEL rules of our own policies, and their messages.
//!
//! The API server multiplies what a rule may cost at most by the limits of the lists around it, and refuses a definition
//! that is too dear: see [`limit`](super::limit).

/// A protocol by name or number.
pub const PROTOCOL: &str = "type(self) == int ? self >= 1 && self <= 255 : \
    self in ['TCP', 'UDP', 'SCTP', 'ICMP', 'ICMPv6', 'UDPLite']";
/// Message of [`PROTOCOL`].
pub const PROTOCOL_MESSAGE: &str = "must be TCP, UDP, SCTP, ICMP, ICMPv6, UDPLite, or a number from 1 to 255";

/// `icmp` beside a protocol that has it.
pub const ICMP_NEEDS_PROTOCOL: &str = "!(has(self.icmp) || has(self.notICMP)) || (has(self.protocol) && \
    (self.protocol in ['ICMP', 'ICMPv6'] || self.protocol in [1, 58]))";

/// Each ICMP belongs to one family.
pub const ICMP_FAMILY: &str = "!has(self.protocol) || !has(self.ipVersion) || \
    ((self.ipVersion != 6 || !(self.protocol == 'ICMP' || self.protocol == 1)) && \
    (self.ipVersion != 4 || !(self.protocol == 'ICMPv6' || self.protocol == 58)))";

/// Numbers stand beside a protocol with ports, and nothing stands beside one without.
pub const PORTS_NEED_PROTOCOL: &str = "\
    has(self.protocol) && (self.protocol in ['TCP', 'UDP', 'SCTP'] || self.protocol in [6, 17, 132]) || \
    (has(self.protocol) ? \
    (!has(self.source) || (!has(self.source.ports) && !has(self.source.notPorts))) && \
    (!has(self.destination) || (!has(self.destination.ports) && !has(self.destination.notPorts))) : \
    (!has(self.source) || \
    ((!has(self.source.ports) || self.source.ports.all(p, type(p) == string && p.matches('[a-z]'))) && \
    (!has(self.source.notPorts) || self.source.notPorts.all(p, type(p) == string && p.matches('[a-z]'))))) && \
    (!has(self.destination) || \
    ((!has(self.destination.ports) || self.destination.ports.all(p, type(p) == string && p.matches('[a-z]'))) && \
    (!has(self.destination.notPorts) || self.destination.notPorts.all(p, type(p) == string && p.matches('[a-z]'))))))";

/// A port's number, as a number or as text, or a range; names have a pattern.
pub const PORT: &str = "type(self) == int ? self >= 1 && self <= 65535 : !self.matches('^[0-9:]+$') || \
    (self.contains(':') ? \
    int(self.split(':')[0]) <= int(self.split(':')[1]) && int(self.split(':')[1]) <= 65535 : \
    int(self) <= 65535)";
/// Message of [`PORT`].
pub const PORT_MESSAGE: &str =
    "must be from 1 to 65535, and a range FIRST:LAST must not end before it starts";

/// A network or an address.
pub const NET: &str = "isCIDR(self) || isIP(self)";
/// Message of [`NET`].
pub const NET_MESSAGE: &str =
    "must be a network or an address, such as 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32";

/// `services` is the only thing that an end says of addresses.
pub const SERVICES_ALONE: &str = "!has(self.services) || !(has(self.nets) || has(self.notNets) || \
    has(self.selector) || has(self.notSelector) || has(self.namespaceSelector) || has(self.serviceAccounts))";

/// `global()`, outside quotes, nowhere.
pub const NOT_GLOBAL: &str = r#"!self.matches("^([^'\"]|'[^']*'|\"[^\"]*\")*\\bglobal\\s*\\(")"#;
/// Message of [`NOT_GLOBAL`].
pub const NOT_GLOBAL_MESSAGE: &str =
    "global() has its meaning in the namespaceSelector of a rule's source or destination alone";
/// `global()`, outside quotes, alone or nowhere.
pub const GLOBAL_ALONE: &str = r#"self.matches("^\\s*global\\(\\s*\\)\\s*$") || !self.matches("^([^'\"]|'[^']*'|\"[^\"]*\")*\\bglobal\\s*\\(")"#;

/// Ingress rules: a Service can be the source alone.
pub const INGRESS_SERVICES: &str = "self.all(r, !has(r.destination) || !has(r.destination.services))";
/// Egress rules: a Service can be the destination alone.
pub const EGRESS_SERVICES: &str = "self.all(r, !has(r.source) || !has(r.source.services))";
/// Egress rules: a Service brings its own ports.
pub const EGRESS_SERVICE_PORTS: &str = "self.all(r, !has(r.destination) || !has(r.destination.services) || \
    !(has(r.destination.ports) || has(r.destination.notPorts)))";
/// Ingress rules of a global policy: there is no namespace to take a Service from.
pub const SOURCE_SERVICE_NAMESPACE: &str =
    "self.all(r, !has(r.source) || !has(r.source.services) || has(r.source.services.namespace))";
/// Egress rules of a global policy.
pub const DESTINATION_SERVICE_NAMESPACE: &str = "self.all(r, !has(r.destination) || \
    !has(r.destination.services) || has(r.destination.services.namespace))";
/// Message of both.
pub const SERVICE_NAMESPACE_MESSAGE: &str =
    "a global policy has no namespace of its own: give services its namespace";

/// A tier's name is what policies name it by.
pub const TIER_NAME: &str = "self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')";
/// Message of [`TIER_NAME`].
pub const TIER_NAME_MESSAGE: &str = "a tier's name has at most 63 letters, digits and dashes, and no dots";
/// The tiers that always exist are always the same.
pub const BUILT_IN_TIERS: &str = "self.metadata.name == 'kube-admin' ? \
    has(self.spec.order) && self.spec.order == 1000.0 && self.spec.defaultAction == 'Pass' : \
    self.metadata.name == 'default' ? \
    has(self.spec.order) && self.spec.order == 1000000.0 && self.spec.defaultAction == 'Deny' : \
    self.metadata.name != 'kube-baseline' || \
    (has(self.spec.order) && self.spec.order == 10000000.0 && self.spec.defaultAction == 'Pass')";
/// Message of [`BUILT_IN_TIERS`].
pub const BUILT_IN_TIERS_MESSAGE: &str = "this tier always exists and can't be changed: kube-admin is (1000, Pass), \
    default (1000000, Deny), kube-baseline (10000000, Pass); make a tier of your own";
