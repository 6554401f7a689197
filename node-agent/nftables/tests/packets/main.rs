//! Real packets against the real kernel, without a cluster: what the rendered ruleset lets through, what it stops, and
//! that each hole the design names is closed by the rules said to close it, and open without them.
//!
//! Each test makes its own node, pods and far side ([`bed`]) in network namespaces that vanish with it. It needs root,
//! the programs `ip`, `bridge` and `nft`, bridge netfilter and nftables in the kernel (6.9 or later), and fails naming
//! what is missing. A packet that must arrive may take long; one that must not is believed lost once a packet sent
//! later by another way has arrived.
//!
//! | the design says | shown by |
//! |---|---|
//! | the source's node asks egress, the destination's node ingress; on one node both | [`ingress`], [`egress`], `egress::on_one_node_both_directions_are_asked` |
//! | tiers in order, Pass, Log, default action | `ingress::tiers_are_asked_in_order_until_one_decides` |
//! | established and related pass; a policy that tightens leaves them alone | `connections::open_connections_...`, `a_udp_flow_...`, `replies_and_errors_...` |
//! | invalid is judged like a first packet; fragments by their datagram | [`unusual`] |
//! | judged after DNAT: never by Service address or port | `connections::a_service_is_judged_by_...` |
//! | deny hangs, a closed port that is allowed answers "refused" | `ingress::a_closed_port_answers_...` |
//! | a node reaches its own pods | `ingress::deny_all_leaves_only_the_node` |
//! | a pod's egress to its own node is judged | `egress::deny_all_leaves_nothing_...`, `the_own_node_is_reached_...` |
//! | a pod reaches itself through its Service; a neighbour can't forge that | `connections::a_pod_reaches_itself_...`, `holes::hairpin_forged_by_a_neighbour` |
//! | named ports are the pod's own; as peers address, protocol and port together | `ingress::a_named_port_...`, `egress::named_ports_of_peers_...` |
//! | ipBlock and except, ports, endPort, protocols, SCTP, ping | `ingress::an_ip_block_...`, `ports_and_protocols_select`, `a_protocol_without_ports_...` |
//! | link-local IPv6 between pods and to the node | `holes::link_local_...` |
//! | forged sources | `holes::forged_source_...` |
//! | broadcast and multicast | `holes::broadcast_and_multicast_...` |
//! | a pod not known yet is closed both ways, or open by a setting | [`unknown`] |
//! | router advertisements and redirects from pods | `holes::router_advertisement_and_redirect_from_a_pod` |
//! | overlay packets from a pod to a node | `holes::overlay_packets_from_a_pod_to_a_node` |
//! | neighbour discovery (hop limit 255) and MLD pass | [`neighbours`] |
//! | no packet passes while chains are swapped | [`swaps`] |
//! | cold start closed; an unowned table replaced in one transaction | [`start`] |
//! | an address that changes hands leaves its connections behind | [`reuse`] |
//! | pools with natOutgoing are masqueraded, and nothing else is | [`masquerade`] |
//! | owner and persist: rules and connections outlive the agent, another adopts them | `connections::rules_and_connections_stay_...` |
//! | frames that br_netfilter shows no rule: tagged, PPPoE, other types; bridges that are no pod bridge untouched | [`frames`] |
//! | all of it at once: random clusters and packets, as the oracle says | [`oracle`] |
//! | a pod that poses as its neighbour, by address, MAC address, ARP or neighbour discovery | [`posing`], [`poison`] |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod agent;
mod bed;
#[path = "../../../../policy/tests/common/mod.rs"]
mod common;
mod connections;
mod egress;
mod flood;
mod frames;
mod holes;
mod ingress;
mod locks;
mod masquerade;
mod matrix;
mod neighbours;
mod netns;
#[path = "../oracle/node.rs"]
mod node;
mod open;
mod oracle;
#[path = "../oracle/passages.rs"]
mod passages;
mod poison;
mod posing;
mod probe;
mod reuse;
#[path = "../oracle/seed.rs"]
mod seed;
mod start;
mod swaps;
mod unknown;
mod unusual;
mod wire;
mod world;
