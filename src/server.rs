//! A data plane: accepts, serves, sweeps, and ends in order.
//!
//! It is a plain future on a local runtime. hyper has no timer here: one sweeper reads the phase of
//! every connection and enforces the deadlines, so that a request costs no timer of its own.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use crate::clock::Clock;
use crate::lifecycle::{Stage, Stop};
use crate::net::{Io, Listener, Net};
use crate::proxy::conn::Command;
use crate::proxy::load::Load;
use crate::proxy::worker::Worker;
use crate::proxy::{Policy, Role};
use crate::telemetry::counters::Counters;
use acceptor::Handed;
use doors::Doors;

pub mod acceptor;
mod announced;
mod doors;
mod frames;
mod handshake;
mod http2;
mod mistaken;
pub mod observe;
pub mod serve;
mod sweep;

/// How often deadlines are looked at.
const SWEEP: Duration = Duration::from_millis(250);
/// How long a close may take while unread bytes are discarded.
const LINGER: Duration = Duration::from_secs(1);

/// With more connections than that, sockets hold little for those that do not read.
const CROWD: usize = 64;

/// What a data plane is given.
pub struct Plane {
    /// Where connections come from.
    pub net: Arc<dyn Net>,
    /// The clock.
    pub clock: Clock,
    /// Its own counters.
    pub counters: Arc<Counters>,
    /// Its connections.
    pub load: Arc<Load>,
    /// The policy, and every later one.
    pub policies: watch::Receiver<Arc<Policy>>,
    /// Where it says which policy it has taken.
    pub seen: watch::Sender<u64>,
    /// When to end.
    pub stop: Stop,
    /// The bounds.
    pub bounds: Bounds,
}

impl std::fmt::Debug for Plane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plane")
            .field("bounds", &self.bounds)
            .finish_non_exhaustive()
    }
}

/// What one peer may cost.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// A request's head. Bytes.
    pub header_bytes: usize,
    /// Connections of one listener, over all data threads.
    pub connections: usize,
    /// Connections to upstreams, those that idle among them, of one data thread.
    pub upstreams: usize,
    /// Exchanges of one data thread: connections, and streams beyond the first of each.
    pub exchanges: usize,
    /// Streams of one connection.
    pub concurrent_streams: u32,
    /// What may come from an upstream over HTTP/2 for an exchange before it is read. Bytes.
    pub window: u32,
    /// From a head's first byte to its last.
    pub header_timeout: Duration,
    /// A connection without a request, or a caller in the middle of one that neither sends nor takes
    /// anything though nothing else is waited for.
    pub idle_timeout: Duration,
}

/// Where a data plane's connections come from.
#[derive(Debug)]
pub enum Intake {
    /// Its own listeners.
    Listeners(Vec<(Role, Listener)>),
    /// An [`Acceptor`](acceptor::Acceptor), which has counted them.
    Handed(mpsc::UnboundedReceiver<Handed>),
}

/// Serves until the stop says otherwise.
///
/// # Errors
/// The listeners could not be used on this runtime.
pub async fn run(intake: Intake, plane: Plane) -> io::Result<()> {
    let (mut doors, mut handed) = match intake {
        Intake::Listeners(listeners) => (Doors::open(listeners)?, None),
        Intake::Handed(handed) => (Doors::default(), Some(handed)),
    };
    let policy = Arc::clone(&plane.policies.borrow());
    let load = Arc::clone(&plane.load);
    let window = plane.bounds.window;
    let worker = Worker::new(
        plane.net,
        plane.clock,
        plane.counters,
        policy,
        plane.load,
        window,
    );
    let mirror = Rc::clone(&worker).mirror(plane.policies, plane.seen);
    let mut mirror = tokio::task::spawn_local(mirror);
    let served = Rc::new(serve::Served {
        http1: serve::http1(&plane.bounds),
        bounds: plane.bounds,
    });
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stop = plane.stop;
    let mut draining = std::pin::pin!(stop.reached(Stage::Drain));
    let mut is_draining = false;
    let mut finish = std::pin::pin!(stop.reached(Stage::Finish));
    // One that its load has counted.
    let take = |role: Role, io: io::Result<Io>| {
        let io = match io {
            Ok(io) => io,
            Err(error) => {
                load.closed(role);
                return unusable(&error);
            }
        };
        if worker.connections() >= CROWD {
            io.holds_little();
        }
        // Registered here, or a drain would not see it before its task runs.
        let opened = worker.open(role, io.peer().ip());
        tokio::task::spawn_local(serve::serve(
            Rc::clone(&worker),
            Rc::clone(&served),
            io,
            opened,
        ));
    };
    let has_room = |role| load.of(role) < plane.bounds.connections;
    loop {
        tokio::select! {
            (role, io) = doors.next(&load.room, has_room), if handed.is_none() => {
                load.opened(role);
                take(role, Ok(io));
            }
            (role, accepted) = next(&mut handed) => take(role, accepted.start()),
            _ = sweep.tick() => sweep::all(&worker, &plane.bounds),
            () = &mut draining, if !is_draining => {
                is_draining = true;
                worker.drain();
            }
            // Without it nothing is learned any more, not even a new token.
            Err(panic) = &mut mirror => std::panic::resume_unwind(panic.into_panic()),
            () = &mut finish => break,
        }
    }
    worker.drain();
    // What stands in the queues by now would be reset with the listeners.
    loop {
        // Between two turns the runtime hears of what those who came last have sent.
        tokio::task::yield_now().await;
        let mut some_came = false;
        while let Some((role, accepted)) = doors.queued(has_room) {
            load.opened(role);
            take(role, accepted.start());
            some_came = true;
        }
        if let Some(handed) = &mut handed {
            // The acceptor empties its own first, and then ends.
            let next = tokio::select! {
                next = handed.recv() => next,
                () = stop.reached(Stage::Abort) => None,
            };
            if let Some((role, accepted)) = next {
                take(role, accepted.start());
                some_came = true;
            }
        }
        if !some_came || stop.stage() >= Stage::Abort {
            break;
        }
    }
    drop(doors);
    worker.each_connection(|conn| conn.tell(Command::Drain));
    while worker.connections() > 0 {
        tokio::select! {
            () = worker.freed.notified() => {}
            _ = sweep.tick() => sweep::all(&worker, &plane.bounds),
            () = stop.reached(Stage::Abort) => break,
        }
    }
    worker.each_connection(|conn| conn.tell(Command::Close));
    Ok(())
}

/// The next one that was handed over; none where the acceptor has ended.
async fn next(handed: &mut Option<mpsc::UnboundedReceiver<Handed>>) -> Handed {
    if let Some(handed) = handed
        && let Some(accepted) = handed.recv().await
    {
        return accepted;
    }
    std::future::pending().await
}

/// A connection came that this process cannot work with.
fn unusable(error: &io::Error) {
    tracing::debug!(%error, "a connection could not be used");
}
