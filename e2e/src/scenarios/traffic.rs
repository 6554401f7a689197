//! Traffic that goes on while something else happens.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use selvage_e2e::wait_for;

use crate::netns::{PodNet, both_families};

/// How often a flood sends, and a conversation speaks.
const PACE: Duration = Duration::from_millis(5);
/// How long a word of a conversation may go unanswered. Less than a cut lasts, more than any pause of a loaded machine.
const ANSWER: Duration = Duration::from_secs(20);

/// Sends back what comes, over TCP, until it is dropped.
#[derive(Debug)]
pub struct Echo {
    stop: Arc<AtomicBool>,
}

/// A TCP connection with data both ways, until it is dropped.
#[derive(Debug)]
pub struct Talk {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// UDP datagrams one way, every few milliseconds, until it is dropped. Nobody answers, so that conntrack takes each for
/// the first of its connection, and each is judged.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    received: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

/// What a flood has seen, by number of the datagram.
#[derive(Debug, Default)]
struct Seen {
    sent: Vec<Instant>,
    received: Vec<Option<Instant>>,
}

impl Echo {
    /// Listens in a pod's namespace.
    pub fn start(at: &PodNet, port: u16) -> anyhow::Result<Self> {
        let listener = at.listen(port).with_context(|| format!("listening on {port}"))?;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        thread::spawn(move || serve(&listener, &seen));
        Ok(Self { stop })
    }
}

fn serve(listener: &TcpListener, stop: &Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                let stop = Arc::clone(stop);
                // A client that goes away ends its own connection alone.
                thread::spawn(move || echo(stream, &stop).ok());
            }
            Err(_) => thread::sleep(PACE),
        }
    }
}

fn echo(mut stream: TcpStream, stop: &AtomicBool) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut word = [0; 256];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut word) {
            Ok(0) => break,
            Ok(length) => stream.write_all(word.get(..length).unwrap_or_default())?,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Talk {
    /// Connects to an [`Echo`] and talks to it.
    pub fn start(from: &PodNet, to: SocketAddr) -> anyhow::Result<Self> {
        let stream = from.connect_within(to, 20)?;
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&answers));
        let thread = thread::spawn(move || converse(stream, &stopped, &counter));
        Ok(Self { stop, answers, thread: Some(thread) })
    }

    /// Fails when the connection was cut: new words must be answered still.
    pub fn goes_on(&mut self) -> anyhow::Result<u64> {
        let before = self.answers.load(Ordering::Relaxed);
        let grown = wait_for("an answer on the open connection", ANSWER.as_secs(), || {
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                return Ok(None);
            }
            let now = self.answers.load(Ordering::Relaxed);
            if now > before { Ok(Some(now)) } else { Err(format!("{now} answers")) }
        })?;
        if let Some(answers) = grown {
            return Ok(answers);
        }
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => bail!("the open connection was cut after {before} answers: {error}"),
            _ => bail!("the open connection ended"),
        }
    }
}

fn converse(mut stream: TcpStream, stop: &AtomicBool, answers: &AtomicU64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER))?;
    while !stop.load(Ordering::Relaxed) {
        let word = answers.load(Ordering::Relaxed).to_be_bytes();
        stream.write_all(&word)?;
        let mut answer = [0; 8];
        stream.read_exact(&mut answer)?;
        if answer != word {
            return Err(io::Error::other("another word came back"));
        }
        answers.fetch_add(1, Ordering::Relaxed);
        thread::sleep(PACE);
    }
    Ok(())
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Flood {
    /// Sends from one pod to a UDP port of another, and listens there.
    pub fn start(from: &PodNet, to: &PodNet, ipv6: bool, port: u16) -> anyhow::Result<Self> {
        let target = both_families(to.address(ipv6)?, port);
        let (sender, receiver) = (from.udp(0)?, to.udp(port)?);
        receiver.set_read_timeout(Some(Duration::from_millis(50)))?;
        let mut flood = Self {
            stop: Arc::default(),
            seen: Arc::default(),
            received: Arc::default(),
            threads: Vec::new(),
        };
        let (stop, seen, received) =
            (Arc::clone(&flood.stop), Arc::clone(&flood.seen), Arc::clone(&flood.received));
        let listening = thread::spawn(move || {
            let mut word = [0; 8];
            while !stop.load(Ordering::Relaxed) {
                if receiver.recv(&mut word).is_ok_and(|length| length == 8) {
                    let now = Instant::now();
                    let number = usize::try_from(u64::from_be_bytes(word)).unwrap_or(usize::MAX);
                    received.fetch_add(1, Ordering::Relaxed);
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(slot) = seen.received.get_mut(number) {
                        *slot = Some(now);
                    }
                }
            }
        });
        let (stop, seen) = (Arc::clone(&flood.stop), Arc::clone(&flood.seen));
        let sending = thread::spawn(move || {
            for number in 0_u64.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                {
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.sent.push(Instant::now());
                    seen.received.push(None);
                }
                // Nothing to be done about one that can't be sent: it counts as lost.
                sender.send_to(&number.to_be_bytes(), target).ok();
                thread::sleep(PACE);
            }
        });
        flood.threads = vec![listening, sending];
        Ok(flood)
    }

    /// How many have arrived.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// When the first datagram after the last one that arrived was sent; nothing while they arrive.
    pub fn stopped_at(&self, quiet: Duration) -> Option<Instant> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let last = seen.received.iter().rposition(Option::is_some)?;
        let stopped = *seen.sent.get(last.checked_add(1)?)?;
        (stopped.elapsed() > quiet).then_some(stopped)
    }

    /// When the first datagram arrived.
    pub fn first_at(&self) -> Option<Instant> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.received.iter().flatten().min().copied()
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // Waited for, so that the next flood finds the port free; one that panicked has freed it.
            thread.join().ok();
        }
    }
}
