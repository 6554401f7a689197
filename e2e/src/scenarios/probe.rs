//! Probes: one attempt from a pod or a node, and what came of it.

use std::fmt;
use std::net::IpAddr;

use anyhow::{Context, bail};
use selvage_e2e::{Cluster, Output, output, wait_for};

/// How long an attempt waits for an answer: longer than the second after which TCP sends its first packet again.
const PATIENCE: &str = "1500ms";

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// A connection was made, or an echo came back.
    Answered,
    /// Nothing came back: a drop.
    TimedOut,
    /// The other end said that nothing listens there.
    Refused,
}

/// Where an attempt starts.
#[derive(Debug, Clone)]
pub enum From<'a> {
    /// A pod with the agnhost image: namespace and name.
    Pod(&'a str, &'a str),
    /// A node's own processes, on the test bed.
    Node(&'a str),
    /// A client that is neither node nor pod, on the test bed.
    Outside,
}

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A TCP connection to a port.
    Tcp(u16),
    /// An ICMP or ICMPv6 echo.
    Ping,
}

impl Seen {
    /// The word in tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::TimedOut => "time-out",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "TCP :{port}"),
            Self::Ping => f.write_str("ping"),
        }
    }
}

/// One attempt.
pub fn probe(cluster: &Cluster, from: &From<'_>, to: IpAddr, way: Way) -> anyhow::Result<Seen> {
    match way {
        Way::Ping => ping(cluster, from, to),
        Way::Tcp(port) => connect(cluster, from, to, port, "tcp"),
    }
}

/// Attempts until one sees what is expected, for the moments in which no condition says that a change has arrived
/// (a deleted policy has none); after `seconds` what was seen last.
pub fn probe_until(
    cluster: &Cluster,
    from: &From<'_>,
    to: IpAddr,
    way: Way,
    expected: Seen,
    seconds: u64,
) -> anyhow::Result<Seen> {
    let mut last = None;
    let seen = wait_for("the expected answer", seconds, || {
        let seen = probe(cluster, from, to, way).map_err(|error| format!("{error:#}"))?;
        last = Some(seen);
        if seen == expected { Ok(seen) } else { Err(seen.word().to_owned()) }
    });
    match (seen, last) {
        (Ok(seen), _) | (Err(_), Some(seen)) => Ok(seen),
        (Err(error), None) => Err(error.into()),
    }
}

fn connect(
    cluster: &Cluster,
    from: &From<'_>,
    to: IpAddr,
    port: u16,
    protocol: &str,
) -> anyhow::Result<Seen> {
    let target = std::net::SocketAddr::new(to, port).to_string();
    let words = ["connect", "--timeout", PATIENCE, "--protocol", protocol, &target];
    let seen = match from {
        From::Pod(namespace, pod) => {
            let mut all = vec!["/agnhost"];
            all.extend(words);
            cluster.pod_exec(namespace, pod, &all)?
        }
        From::Node(_) | From::Outside => {
            let bed = cluster.require_bed()?;
            let agnhost = bed.tools().kubernetes.join("agnhost");
            let agnhost = agnhost.to_str().context("the path of agnhost is no text")?.to_owned();
            let mut all = vec![agnhost.as_str()];
            all.extend(words);
            let command = match from {
                From::Node(node) => bed.node_command(node, &all),
                _ => bed.outside_command(&all),
            };
            output(&mut command?, None)?
        }
    };
    judge(&seen)
}

/// agnhost connect prints one word: see test/images/agnhost/connect in Kubernetes.
fn judge(seen: &Output) -> anyhow::Result<Seen> {
    if seen.success() {
        return Ok(Seen::Answered);
    }
    let text = format!("{}{}", seen.stdout, seen.stderr);
    if text.contains("TIMEOUT") {
        Ok(Seen::TimedOut)
    } else if text.contains("REFUSED") {
        Ok(Seen::Refused)
    } else {
        bail!("the probe did not run: {}", text.trim())
    }
}

fn ping(cluster: &Cluster, from: &From<'_>, to: IpAddr) -> anyhow::Result<Seen> {
    let (program, to) = (if to.is_ipv4() { "ping" } else { "ping6" }, to.to_string());
    let words = [program, "-c", "1", "-W", "2", &to];
    let seen = match from {
        From::Pod(namespace, pod) => cluster.pod_exec(namespace, pod, &words)?,
        From::Node(node) => {
            let mut all = vec!["busybox"];
            all.extend(words);
            cluster.require_bed()?.node_exec(node, &all)?
        }
        From::Outside => {
            let mut all = vec!["busybox"];
            all.extend(words);
            cluster.require_bed()?.outside_exec(&all)?
        }
    };
    if seen.success() {
        Ok(Seen::Answered)
    } else if seen.stdout.contains("100% packet loss") {
        Ok(Seen::TimedOut)
    } else {
        bail!("ping did not run: {}{}", seen.stdout, seen.stderr)
    }
}
