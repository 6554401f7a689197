//! What is established stays: over policies that tighten, agents that stop and start, and Services that lead back.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};

use crate::agent::Agent;
use crate::bed::{Bed, FAMILIES, Host};
use crate::matrix::{Ask, TCP, UDP, check, no, yes};
use crate::probe::{Attempt, GRACE, PATIENCE, Tcp, Token, listen, receives};
use crate::world::{Narrow, World, allow, host, ports};

/// An open TCP connection, both ends.
pub struct Connection {
    client: TcpStream,
    server: TcpStream,
}

impl Connection {
    /// Opens one.
    pub fn open(from: Host<'_>, source: IpAddr, listener: &TcpListener, to: IpAddr) -> Self {
        let port = listener.local_addr().unwrap().port();
        let attempt = Attempt::start(from.namespace, Some(source), (to, port).into());
        assert_eq!(attempt.outcome(PATIENCE), Tcp::Answered, "{} to {to}", from.name);
        let server = listener.accept().unwrap().0;
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { client: attempt.into_stream(), server }
    }

    /// The client's port.
    pub fn client_port(&self) -> u16 {
        self.client.local_addr().unwrap().port()
    }

    /// Fails unless each end hears the other.
    pub fn lives(&self) {
        let (client, server) = (&self.client, &self.server);
        for (mut speaker, mut hearer) in [(client, server), (server, client)] {
            speaker.write_all(b"alive").unwrap();
            let mut heard = [0; 5];
            hearer.read_exact(&mut heard).expect("the connection is cut");
            assert_eq!(&heard, b"alive");
        }
    }
}

/// Connections to pod 1's port 80 in both families, from its own node's pod 0 and from another node's.
pub fn connections(bed: &Bed, listener: &TcpListener) -> Vec<Connection> {
    FAMILIES
        .iter()
        .flat_map(|family| [bed.pod(0), bed.far_pod()].map(|from| (from, *family)))
        .map(|(from, family)| {
            Connection::open(from, from.addresses.of(family), listener, bed.pod(1).addresses.of(family))
        })
        .collect()
}

fn deny_all(bed: &Bed) -> World {
    let mut world = World::of(&[bed.pod(0), bed.pod(1)]);
    world.select(bed.pod(0), Some(vec![]), Some(vec![]));
    world.select(bed.pod(1), Some(vec![]), Some(vec![]));
    world
}

#[test]
fn open_connections_survive_a_policy_that_tightens() {
    let bed = Bed::new(2);
    let listener = listen(bed.pod(1).namespace, 80);
    let mut agent = Agent::start(&bed);
    agent.apply(&World::of(&[bed.pod(0), bed.pod(1)]));
    let open = connections(&bed, &listener);
    agent.apply(&deny_all(&bed));
    open.iter().for_each(Connection::lives);
    let checks = [bed.pod(0), bed.far_pod()].map(|from| no(from, bed.pod(1), Ask::Tcp(80)));
    check(&bed, &checks);
    open.iter().for_each(Connection::lives);
}

#[test]
fn a_udp_flow_that_was_answered_survives_a_policy_that_tightens() {
    let bed = Bed::new(2);
    let mut agent = Agent::start(&bed);
    for family in FAMILIES {
        agent.apply(&World::of(&[bed.pod(0), bed.pod(1)]));
        let to = bed.pod(1).addresses.of(family);
        let server = bed.pod(1).namespace.run(|| UdpSocket::bind((to, 5300)).unwrap());
        for from in [bed.pod(0), bed.far_pod()] {
            let client = from.namespace.run(|| UdpSocket::bind((from.addresses.of(family), 5301)).unwrap());
            let exchange = || {
                let token = Token::new();
                client.send_to(token.bytes(), (to, 5300)).unwrap();
                assert!(receives(&server, &token, PATIENCE), "{} {family:?}", from.name);
                server.send_to(token.bytes(), client.local_addr().unwrap()).unwrap();
                assert!(receives(&client, &token, PATIENCE), "{} {family:?}", from.name);
            };
            agent.apply(&World::of(&[bed.pod(0), bed.pod(1)]));
            exchange();
            agent.apply(&deny_all(&bed));
            exchange();
        }
        check(
            &bed,
            &[no(bed.pod(0), bed.pod(1), Ask::Udp(5300)), no(bed.far_pod(), bed.pod(1), Ask::Udp(5300))],
        );
    }
}

#[test]
fn replies_and_errors_of_what_was_allowed_pass_without_a_rule_of_their_own() {
    // Pod 0 may only ask, pod 1 may only be asked: what comes back is established, or related to what is.
    let bed = Bed::new(2);
    let mut agent = Agent::start(&bed);
    let mut world = World::of(&[bed.pod(0), bed.pod(1)]);
    world.select(bed.pod(0), Some(vec![]), Some(vec![allow().to(host(bed.pod(1)))]));
    world.select(bed.pod(1), Some(vec![allow().from(host(bed.pod(0)))]), Some(vec![]));
    agent.apply(&world);
    let _server = listen(bed.pod(1).namespace, 80);
    check(
        &bed,
        &[
            yes(bed.pod(0), bed.pod(1), Ask::Tcp(80)),
            yes(bed.pod(0), bed.pod(1), Ask::Ping),
            no(bed.pod(1), bed.pod(0), Ask::Tcp(80)),
            no(bed.pod(1), bed.pod(0), Ask::Ping),
        ],
    );
    for family in FAMILIES {
        let client =
            bed.pod(0).namespace.run(|| UdpSocket::bind((bed.pod(0).addresses.of(family), 0)).unwrap());
        client.connect((bed.pod(1).addresses.of(family), 9)).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.send(b"to a closed port").unwrap();
        let error = client.recv(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "the ICMP error is lost: {error}");
    }
}

#[test]
fn rules_and_connections_stay_when_the_agent_dies_and_another_takes_over() {
    let bed = Bed::new(2);
    let listener = listen(bed.pod(1).namespace, 80);
    let mut world = World::of(&[bed.pod(0), bed.pod(1)]);
    let from = [bed.pod(0), bed.far_pod()];
    world.select(
        bed.pod(1),
        Some(from.map(|from| allow().from(host(from)).on(ports(TCP, 80, 80))).to_vec()),
        None,
    );
    let enforced = || {
        let mut checks = from.map(|from| yes(from, bed.pod(1), Ask::Tcp(80))).to_vec();
        checks.extend(from.map(|from| no(from, bed.pod(1), Ask::Tcp(81))));
        checks.push(no(bed.outside(), bed.pod(1), Ask::Tcp(80)));
        check(&bed, &checks);
    };
    let mut first = Agent::start(&bed);
    first.apply(&world);
    let open = connections(&bed, &listener);
    enforced();
    drop(first);
    open.iter().for_each(Connection::lives);
    enforced();
    let mut second = Agent::adopt(&bed);
    assert!(second.plan(&world.ruleset()).transactions.is_empty(), "what stands is what is wanted");
    second.apply(&world);
    open.iter().for_each(Connection::lives);
    enforced();
    // The table is the second agent's now: it changes it, and nobody else can.
    second.apply(&deny_all(&bed));
    open.iter().for_each(Connection::lives);
    check(&bed, &from.map(|from| no(from, bed.pod(1), Ask::Tcp(80))));
    let stranger = bed.node.run(|| {
        std::process::Command::new("nft").args(["delete", "table", "inet", "selvage"]).output().unwrap()
    });
    assert!(!stranger.status.success(), "somebody else deleted the table");
    check(&bed, &from.map(|from| no(from, bed.pod(1), Ask::Tcp(80))));
}

/// The Service addresses of the tests below.
const SERVICE: [&str; 2] = ["10.96.0.10", "fd00:10:96::10"];

/// What kube-proxy does for a Service with one endpoint: the port and address are translated, and what comes back to
/// its own sender is masqueraded.
pub fn service(bed: &Bed, endpoint: Host<'_>) {
    let [v4, v6] = SERVICE;
    let (to4, to6) = (endpoint.addresses.v4, endpoint.addresses.v6);
    bed.node.nft(&format!(
        "table inet proxy {{
           chain services {{
             type nat hook prerouting priority dstnat;
             ip daddr {v4} meta l4proto {{ tcp, udp }} th dport 80 dnat ip to {to4}:8080
             ip6 daddr {v6} meta l4proto {{ tcp, udp }} th dport 80 dnat ip6 to [{to6}]:8080
           }}
           chain hairpin {{
             type nat hook postrouting priority srcnat;
             ip saddr {to4} ip daddr {to4} masquerade
             ip6 saddr {to6} ip6 daddr {to6} masquerade
           }}
         }}"
    ));
}

/// Tries the Service and says what came of it.
fn ask_service(from: Host<'_>, patience: std::time::Duration) -> [Tcp; 2] {
    SERVICE.map(|service| {
        let service: IpAddr = service.parse().unwrap();
        let family = FAMILIES[usize::from(service.is_ipv6())];
        Attempt::start(from.namespace, Some(from.addresses.of(family)), (service, 80).into())
            .outcome(patience)
    })
}

#[test]
fn a_pod_reaches_itself_through_its_service_whatever_the_policies_say() {
    let bed = Bed::new(2);
    service(&bed, bed.pod(1));
    let _server = listen(bed.pod(1).namespace, 8080);
    let mut agent = Agent::start(&bed);
    agent.apply(&deny_all(&bed));
    assert_eq!(ask_service(bed.pod(1), PATIENCE), [Tcp::Answered; 2]);
    assert_eq!(ask_service(bed.pod(0), GRACE), [Tcp::Silent; 2]);
    // Without the hairpin rules it does not.
    let hairpin = [("from_pod", "hairpin"), ("to_pod", "hairpin")];
    agent.apply_ruleset(&crate::locks::without(&deny_all(&bed).ruleset(), &hairpin));
    assert_eq!(ask_service(bed.pod(1), GRACE), [Tcp::Silent; 2]);
}

#[test]
fn a_service_is_judged_by_the_backends_address_and_port() {
    let bed = Bed::new(2);
    service(&bed, bed.pod(1));
    let _server = listen(bed.pod(1).namespace, 8080);
    let mut agent = Agent::start(&bed);
    let mut world = World::of(&[bed.pod(0), bed.pod(1)]);
    let both = |port| vec![allow().to(host(bed.pod(1))).on(ports(TCP, port, port))];
    let from = |port| vec![allow().from(host(bed.pod(0))).on(ports(TCP, port, port))];
    world.select(bed.pod(0), None, Some(both(8080)));
    world.select(bed.pod(1), Some(from(8080)), None);
    agent.apply(&world);
    assert_eq!(ask_service(bed.pod(0), PATIENCE), [Tcp::Answered; 2]);
    // The Service's own port and address mean nothing.
    world.select(bed.pod(0), None, Some(both(80)));
    agent.apply(&world);
    assert_eq!(ask_service(bed.pod(0), GRACE), [Tcp::Silent; 2]);
    world.select(bed.pod(0), None, None);
    world.select(bed.pod(1), Some(from(80)), None);
    agent.apply(&world);
    assert_eq!(ask_service(bed.pod(0), GRACE), [Tcp::Silent; 2]);
    world.select(bed.pod(1), Some(vec![allow().on(ports(UDP, 8080, 8080))]), None);
    agent.apply(&world);
    assert_eq!(ask_service(bed.pod(0), GRACE), [Tcp::Silent; 2]);
}
