//! Accepts for several data threads, and hands each connection to the one with the fewest.
//!
//! A sidecar has few connections, and long ones: were each thread to take what it gets hold of, one
//! may end up with all. It is a plain future, which `app` runs on a thread of its own, so that no data
//! thread waits for another, and there is none where one data thread accepts by itself.
//!
//! - What a thread was handed counts as its own from then on.
//! - A thread that has not swept for a second gets nothing while another one has.
//! - At the end, what stands in the queues is handed over first; the threads' ends of the channels
//!   close with this.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::mpsc;

use super::doors::Doors;
use super::unusable;
use crate::clock::{Boot, Clock};
use crate::lifecycle::{Stage, Stop};
use crate::net::{Accepted, Listener};
use crate::proxy::Role;
use crate::proxy::load::{Load, Room};
use crate::telemetry::counters::Counters;

/// Four sweeps.
const STUCK: Duration = Duration::from_secs(1);

/// A connection on its way to a data thread.
pub type Handed = (Role, Accepted);

/// A data thread, as the acceptor sees it.
#[derive(Debug)]
struct Thread {
    load: Arc<Load>,
    counters: Arc<Counters>,
    hand: mpsc::UnboundedSender<Handed>,
}

impl Thread {
    fn is_well(&self, now: Boot) -> bool {
        let beat = match self.counters.heartbeat.load(Relaxed) {
            // It is about to begin.
            0 => now,
            beat => Boot::from_nanos(beat),
        };
        now.since(beat) <= STUCK && !self.hand.is_closed()
    }
}

/// The thread with the fewest connections, of those that are well; of several, the next one in turn.
fn least(threads: &[Thread], last: usize, now: Boot) -> usize {
    let in_turn = (1..=threads.len()).map(|step| (last + step) % threads.len());
    let fewest = in_turn.min_by_key(|at| (!threads[*at].is_well(now), threads[*at].load.all()));
    fewest.unwrap_or(last)
}

/// Hands connections to data threads.
#[derive(Debug)]
pub struct Acceptor {
    listeners: Vec<(Role, Listener)>,
    threads: Vec<Thread>,
    /// Connections of one listener.
    most: usize,
    room: Arc<Room>,
    clock: Clock,
    stop: Stop,
}

impl Acceptor {
    /// Of these listeners, which may have `most` connections each.
    #[must_use]
    pub fn new(
        listeners: Vec<(Role, Listener)>,
        most: usize,
        clock: Clock,
        stop: Stop,
    ) -> Acceptor {
        Acceptor {
            listeners,
            threads: Vec::new(),
            most,
            room: Arc::default(),
            clock,
            stop,
        }
    }

    /// One more data thread: what it is handed, and where it counts that.
    pub fn thread(
        &mut self,
        counters: &Arc<Counters>,
    ) -> (mpsc::UnboundedReceiver<Handed>, Arc<Load>) {
        // As many as there may be connections: the cap bounds it.
        let (hand, handed) = mpsc::unbounded_channel();
        let load = Arc::new(Load::new(Arc::clone(&self.room)));
        self.threads.push(Thread {
            load: Arc::clone(&load),
            counters: Arc::clone(counters),
            hand,
        });
        (handed, load)
    }

    /// Accepts until no new connections are wanted.
    ///
    /// # Errors
    /// A listener could not be used on this runtime.
    pub async fn run(self) -> io::Result<()> {
        let mut doors = Doors::open(self.listeners)?;
        let (threads, most) = (self.threads, self.most);
        let has_room = |role| {
            threads
                .iter()
                .map(|thread| thread.load.of(role))
                .sum::<usize>()
                < most
        };
        let mut turn = 0;
        let mut hand = |role, accepted: io::Result<Accepted>| {
            let accepted = match accepted {
                Ok(accepted) => accepted,
                Err(error) => return unusable(&error),
            };
            turn = least(&threads, turn, self.clock.boot());
            let Thread { load, hand, .. } = &threads[turn];
            load.opened(role);
            if hand.send((role, accepted)).is_err() {
                load.closed(role);
            }
        };
        let mut finish = std::pin::pin!(self.stop.reached(Stage::Finish));
        loop {
            tokio::select! {
                (role, io) = doors.next(&self.room, has_room) => hand(role, Accepted::from(io)),
                () = &mut finish => break,
            }
        }
        while let Some((role, accepted)) = doors.queued(has_room) {
            hand(role, Ok(accepted));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threads<const N: usize>(
        open: [usize; N],
    ) -> (Vec<Thread>, Vec<mpsc::UnboundedReceiver<Handed>>) {
        let clock = Clock::manual(1_800_000_000);
        let mut acceptor = Acceptor::new(Vec::new(), 100, clock, Stop::default());
        let mut ends = Vec::new();
        for open in open {
            let (end, load) = acceptor.thread(&Arc::default());
            (0..open).for_each(|_| load.opened(Role::Inbound));
            ends.push(end);
        }
        (acceptor.threads, ends)
    }

    fn at(seconds: u64) -> Boot {
        Boot::default() + Duration::from_secs(seconds)
    }

    #[test]
    fn the_thread_with_the_fewest_is_next_and_of_several_the_next_in_turn() {
        let (threads, _ends) = threads([3, 1, 2, 1]);
        assert_eq!(least(&threads, 0, at(0)), 1);
        assert_eq!(least(&threads, 1, at(0)), 3);
        threads[3].load.opened(Role::Outbound);
        assert_eq!(least(&threads, 1, at(0)), 1, "whatever it is for");
        threads[0].load.closed(Role::Inbound);
        threads[0].load.closed(Role::Inbound);
        threads[0].load.closed(Role::Inbound);
        assert_eq!(least(&threads, 1, at(0)), 0);
    }

    #[test]
    fn a_thread_that_is_stuck_or_gone_gets_nothing_while_another_is_well() {
        let (threads, mut ends) = threads([0, 5, 7]);
        for thread in &threads {
            thread.counters.beat(at(10));
        }
        threads[1].counters.beat(at(20));
        threads[2].counters.beat(at(20));
        assert_eq!(least(&threads, 0, at(10)), 0);
        assert_eq!(least(&threads, 0, at(20)), 1);
        ends.remove(1);
        assert_eq!(least(&threads, 0, at(20)), 2);
        assert_eq!(least(&threads, 0, at(30)), 0, "all are stuck");
    }
}
