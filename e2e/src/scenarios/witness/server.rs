//! The receiving end in a pod: answers what is allowed, and notes what should not have arrived.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::client::is_pause;
use super::flow::Log;
use super::packet::{Word, icmp_socket};
use super::{TCP, UDP};
use crate::netns::PodNet;
use crate::traffic::Echo;

/// A pod's servers, until they are dropped.
#[derive(Debug)]
pub struct Server {
    _echo: Echo,
    /// The threads of UDP and of both ICMPs.
    pub threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Server {
    /// Listens in a pod for all flows, until `stop`.
    pub fn start(at: &PodNet, logs: &Arc<[Log]>, stop: &Arc<AtomicBool>) -> anyhow::Result<Self> {
        let echo = Echo::start(at, TCP)?;
        let socket = at.udp(UDP)?;
        let mut threads = vec![spawn(socket, logs, stop, |socket, logs, stop| answer(&socket, logs, stop))];
        for ipv6 in [false, true] {
            let socket = at.run(|| icmp_socket(ipv6, None))?;
            threads
                .push(spawn(socket, logs, stop, move |socket, logs, stop| hear(&socket, ipv6, logs, stop)));
        }
        Ok(Self { _echo: echo, threads })
    }
}

fn spawn(
    socket: UdpSocket,
    logs: &Arc<[Log]>,
    stop: &Arc<AtomicBool>,
    work: impl FnOnce(UdpSocket, &[Log], &AtomicBool) -> io::Result<()> + Send + 'static,
) -> JoinHandle<io::Result<()>> {
    let (logs, stop) = (Arc::clone(logs), Arc::clone(stop));
    std::thread::spawn(move || {
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        work(socket, &logs, &stop)
    })
}

/// UDP.
fn answer(socket: &UdpSocket, logs: &[Log], stop: &AtomicBool) -> io::Result<()> {
    let mut buffer = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        let (length, from) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if is_pause(&error) => continue,
            Err(error) => return Err(error),
        };
        let packet = buffer.get(..length).unwrap_or_default();
        let Some(word) = Word::parse(packet) else { continue };
        match logs.get(usize::from(word.flow)) {
            // An answer that can't be sent is one that the other end misses.
            Some(log) if log.flow.allowed => drop(socket.send_to(packet, from)),
            Some(log) => log.passed(word.number),
            None => {}
        }
    }
    Ok(())
}

/// Echo requests, which the kernel answers.
fn hear(socket: &UdpSocket, ipv6: bool, logs: &[Log], stop: &AtomicBool) -> io::Result<()> {
    let mut buffer = [0; 256];
    while !stop.load(Ordering::Relaxed) {
        match socket.recv(&mut buffer) {
            Ok(length) => {
                let packet = buffer.get(..length).unwrap_or_default();
                let word = Word::in_echo(packet, ipv6, false);
                let log = word.and_then(|word| Some((logs.get(usize::from(word.flow))?, word.number)));
                if let Some((log, number)) = log.filter(|(log, _)| !log.flow.allowed) {
                    log.passed(number);
                }
            }
            Err(error) if is_pause(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
