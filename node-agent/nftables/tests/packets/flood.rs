//! Packets without pause, so that some are on their way at every moment of a commit.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::bed::{Bed, FAMILIES};
use crate::probe::Token;

/// Packets after which a flood has been one.
pub const PACKETS: u64 = 100_000;

/// Ends the flood when dropped, also when a test panics.
struct Flood<'a> {
    stop: &'a AtomicBool,
}

/// Sends the token without pause from pod 0 to pod 1 while `f` runs, which is told how many were sent so far.
pub fn flooded<T>(bed: &Bed, token: &Token, f: impl FnOnce(&AtomicU64) -> T) -> T {
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _stop_at_the_end = Flood { stop: &stop };
        for family in FAMILIES {
            let [from, to] = [bed.pod(0), bed.pod(1)].map(|pod| pod.addresses.of(family));
            let socket = bed.pod(0).namespace.run(|| UdpSocket::bind((from, 0)).unwrap());
            socket.connect((to, 9)).unwrap();
            let (stop, sent) = (&stop, &sent);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // Where the interface is full, the next one finds room.
                    if socket.send(token.bytes()).is_ok() {
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        f(&sent)
    })
}

impl Drop for Flood<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
