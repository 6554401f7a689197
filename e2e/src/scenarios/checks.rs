//! Several probes at once, each with what it should see.

use std::net::IpAddr;
use std::thread;

use selvage_e2e::Cluster;

use crate::probe::{From, Seen, Way, probe, probe_until};
use crate::table::Table;

/// How long an answer is tried for, in seconds: a loaded machine can be slow.
const PATIENCE: u64 = 20;
/// In the order of pairs of addresses.
const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
/// How many probes are under way at once.
const AT_ONCE: usize = 8;

/// A probe and what it should see.
#[derive(Debug, Clone)]
pub struct Check<'a> {
    /// The row's text.
    pub what: String,
    /// Who tries.
    pub from: From<'a>,
    /// What address.
    pub to: IpAddr,
    /// How.
    pub way: Way,
    /// What should come of it.
    pub expected: Seen,
}

/// Carries checks out and adds a row for each. What should be silent is tried once: what passes once is a hole.
pub fn run(cluster: &Cluster, table: &mut Table, step: &str, checks: &[Check<'_>]) -> anyhow::Result<()> {
    for some in checks.chunks(AT_ONCE) {
        let seen: Vec<anyhow::Result<Seen>> = thread::scope(|scope| {
            let running: Vec<_> =
                some.iter().map(|check| scope.spawn(|| carry_out(cluster, check))).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a probe panicked")))
            };
            running.into_iter().map(join).collect()
        });
        for (check, seen) in some.iter().zip(seen) {
            table.row(step, &check.what, check.expected.word(), seen?.word());
        }
    }
    Ok(())
}

fn carry_out(cluster: &Cluster, check: &Check<'_>) -> anyhow::Result<Seen> {
    let Check { from, to, way, expected, .. } = check;
    if *expected == Seen::TimedOut {
        return probe(cluster, from, *to, *way);
    }
    probe_until(cluster, from, *to, *way, *expected, PATIENCE)
}

/// The same in both families.
pub fn pair<'a>(from: &From<'a>, what: &str, to: [IpAddr; 2], port: u16, expected: Seen) -> [Check<'a>; 2] {
    let mut families = FAMILIES.iter();
    to.map(|to| Check {
        what: format!("{what}, {}", families.next().copied().unwrap_or_default()),
        from: from.clone(),
        to,
        way: Way::Tcp(port),
        expected,
    })
}

/// One address of each family, IPv4 first.
pub fn by_family(mut addresses: Vec<IpAddr>) -> anyhow::Result<[IpAddr; 2]> {
    addresses.sort_by_key(IpAddr::is_ipv6);
    match addresses.as_slice() {
        [v4, v6] if v4.is_ipv4() && v6.is_ipv6() => Ok([*v4, *v6]),
        _ => anyhow::bail!("not one address of each family: {addresses:?}"),
    }
}

/// An address as a CIDR.
pub fn host(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}
