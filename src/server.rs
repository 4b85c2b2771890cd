//! A data plane: accepts, serves, sweeps, and ends in order.
//!
//! It is a plain future on a local runtime. hyper has no timer here: one sweeper reads the phase of
//! every connection and enforces the deadlines, so that a request costs no timer of its own.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::clock::Clock;
use crate::lifecycle::{Stage, Stop};
use crate::net::{Accept, Io, Listener, Net};
use crate::proxy::conn::Command;
use crate::proxy::worker::Worker;
use crate::proxy::{Policy, Role};
use crate::telemetry::counters::Counters;

mod announced;
mod handshake;
pub mod observe;
pub mod serve;
mod sweep;

/// How often deadlines are looked at.
const SWEEP: Duration = Duration::from_millis(250);
/// How long a close may take while unread bytes are discarded.
const LINGER: Duration = Duration::from_secs(1);

/// What a data plane is given.
pub struct Plane {
    /// Where connections come from.
    pub net: Arc<dyn Net>,
    /// The clock.
    pub clock: Clock,
    /// Its own counters.
    pub counters: Arc<Counters>,
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
    /// Connections of this plane.
    pub connections: usize,
    /// From a head's first byte to its last.
    pub header_timeout: Duration,
    /// A connection without a request.
    pub idle_timeout: Duration,
}

/// Serves until the stop says otherwise.
///
/// # Errors
/// The listener could not be used on this runtime.
pub async fn run(listeners: Vec<(Role, Listener)>, plane: Plane) -> io::Result<()> {
    let (mut outbound, mut inbound, mut forward_auth) = (None, None, None);
    for (role, listener) in listeners {
        let accept = listener.start()?;
        match role {
            Role::Outbound => outbound = Some(accept),
            Role::Inbound => inbound = Some(accept),
            Role::ForwardAuth => forward_auth = Some(accept),
        }
    }
    let policy = Arc::clone(&plane.policies.borrow());
    let worker = Worker::new(plane.net, plane.clock, plane.counters, policy);
    let mirror = Rc::clone(&worker).mirror(plane.policies, plane.seen);
    tokio::task::spawn_local(mirror);
    let http = Rc::new(serve::http1(&plane.bounds));
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stop = plane.stop;
    let mut draining = std::pin::pin!(stop.reached(Stage::Drain));
    let mut is_draining = false;
    let finish = stop.reached(Stage::Finish);
    let mut finish = std::pin::pin!(finish);
    let take = |role, io: Io| {
        // Registered here, or a burst would pass the cap before its tasks run.
        let opened = worker.open(role, io.peer().ip());
        tokio::task::spawn_local(serve::serve(
            Rc::clone(&worker),
            Rc::clone(&http),
            io,
            opened,
        ));
    };
    let has_room = |role| worker.connections_of(role) < plane.bounds.connections;
    loop {
        let rooms = Role::ALL.map(has_room);
        let (role, accepted) = tokio::select! {
            accepted = next(&mut outbound), if rooms[0] => (Role::Outbound, accepted),
            accepted = next(&mut inbound), if rooms[1] => (Role::Inbound, accepted),
            accepted = next(&mut forward_auth), if rooms[2] => (Role::ForwardAuth, accepted),
            () = worker.freed.notified(), if rooms.contains(&false) => continue,
            _ = sweep.tick() => {
                sweep::all(&worker, &plane.bounds);
                continue;
            }
            () = &mut draining, if !is_draining => {
                is_draining = true;
                worker.drain();
                continue;
            }
            () = &mut finish => break,
        };
        match accepted {
            Ok(io) => take(role, io),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(SWEEP).await;
            }
        }
    }
    worker.drain();
    // What stands in the queues by now would be reset with the listeners.
    loop {
        let before = worker.connections();
        // The runtime hears of them between two turns.
        tokio::task::yield_now().await;
        loop {
            tokio::select! {
                biased;
                Ok(io) = next(&mut outbound), if has_room(Role::Outbound) => take(Role::Outbound, io),
                Ok(io) = next(&mut inbound), if has_room(Role::Inbound) => take(Role::Inbound, io),
                Ok(io) = next(&mut forward_auth), if has_room(Role::ForwardAuth) => {
                    take(Role::ForwardAuth, io);
                }
                () = std::future::ready(()) => break,
            }
        }
        if worker.connections() <= before || stop.stage() >= Stage::Abort {
            break;
        }
    }
    drop((outbound, inbound, forward_auth));
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

async fn next(accept: &mut Option<Accept>) -> io::Result<Io> {
    match accept {
        Some(accept) => accept.accept().await,
        None => std::future::pending().await,
    }
}
