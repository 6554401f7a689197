//! "IPPool: natOutgoing (what leaves all pools is masqueraded), disabled (still inside), nodeSelector (nodes that
//! masquerade)."

use super::{Objects, Packet, who};

/// Whether a node gives a packet that it lets out its own address.
pub fn masquerades(objects: &Objects, node: &str, packet: &Packet) -> bool {
    let Some(node) = objects.nodes.get(node) else { return false };
    let from = objects.pools.values().any(|pool| {
        pool.nat_outgoing && who::holds(&pool.nodes, &node.labels) && pool.net.contains(&packet.source)
    });
    let inside = objects.pools.values().any(|pool| pool.net.contains(&packet.destination));
    from && !inside
}
