//! A data plane: accepts, serves HTTP/1.1, sweeps, and ends in order.
//!
//! It is a plain future on a local runtime. hyper has no timer here: one sweeper reads the phase of
//! every connection and enforces the deadlines, so that a request costs no timer of its own.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::clock::Clock;
use crate::lifecycle::{Stage, Stop};
use crate::net::{Accept, Io, Listener, Net};
use crate::proxy::signal::Phase;
use crate::proxy::worker::{Command, Opened, Worker};
use crate::proxy::{Policy, Role};
use crate::reason::Reason;
use crate::telemetry::counters::{Counters, SideCounters};
use observe::Observed;

mod handshake;
pub mod observe;

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
    let http = Rc::new(http1(&plane.bounds));
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
        tokio::task::spawn_local(serve(Rc::clone(&worker), Rc::clone(&http), io, opened));
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
                sweep_all(&worker, &plane.bounds);
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
            _ = sweep.tick() => sweep_all(&worker, &plane.bounds),
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

/// hyper, as every connection has it.
#[must_use]
pub fn http1(bounds: &Bounds) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .half_close(false)
        .header_read_timeout(None)
        .max_buf_size(bounds.header_bytes.max(8192));
    builder
}

async fn serve(worker: Rc<Worker>, http: Rc<http1::Builder>, io: Io, opened: Opened) {
    let conn = opened.conn();
    let Some(io) = handshake::secured(&worker, conn, io).await else {
        return;
    };
    let service = service_fn(|request| {
        // Before the first poll: hyper looks for the caller's end in between.
        let begun = worker.begin(conn, &request);
        Rc::clone(&worker).answer(Rc::clone(conn), request, begun)
    });
    let io = TokioIo::new(Observed::new(io, Arc::clone(&conn.signal)));
    let mut serving = http.serve_connection(io, service).with_upgrades();
    let mut is_draining = false;
    let ended = poll_fn(|cx| {
        match conn.command(cx.waker()) {
            Command::Run => {}
            Command::Drain if is_draining => {}
            Command::Drain => {
                is_draining = true;
                // A request that came before this is answered: hyper closes what it takes for idle.
                conn.signal.look();
                if let Poll::Ready(ended) = Pin::new(&mut serving).poll(cx) {
                    return Poll::Ready(Some(ended));
                }
                // One whose head is still coming is answered as the last one.
                if conn.signal.phase() != Phase::Head {
                    Pin::new(&mut serving).graceful_shutdown();
                }
            }
            Command::Close => return Poll::Ready(None),
        }
        Pin::new(&mut serving).poll(cx).map(Some)
    })
    .await;
    match ended {
        Some(Ok(())) => {}
        Some(Err(error)) => count(worker.counters.of(conn.role.side()), &error),
        None if conn.signal.phase() == Phase::Head => {
            let counters = worker.counters.of(conn.role.side());
            counters.refused(Reason::Timeout);
            if let Some(parts) = serving.into_parts() {
                say_too_slow(parts.io.into_inner()).await;
            }
        }
        None => {}
    }
}

/// What hyper refused before there was a request.
fn count(counters: &SideCounters, error: &hyper::Error) {
    // hyper has no other name for it.
    if error.is_parse() && error.to_string() == "URI too long" {
        counters.refused(Reason::UriTooLong);
    } else if error.is_parse_too_large() {
        counters.refused(Reason::HeadersTooLarge);
    } else if error.is_parse() {
        counters.refused(Reason::BadRequest);
    }
    tracing::debug!(%error, "a connection ended early");
}

async fn say_too_slow(mut io: Observed) {
    const ANSWER: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\
        content-length: 0\r\nproxy-status: regent; details=\"timeout\"\r\n\r\n";
    // Whoever was too slow to ask may be gone; nothing is owed.
    let _ = tokio::time::timeout(LINGER, async {
        io.write_all(ANSWER).await?;
        io.shutdown().await
    })
    .await;
}

fn sweep_all(worker: &Worker, bounds: &Bounds) {
    let now = worker.clock.boot();
    worker.counters.beat(now);
    worker.log.settle(now);
    let view = worker.view();
    let longest = view.policy.request_timeout;
    worker.each_connection(|conn| {
        let signal = &conn.signal;
        let age = signal.age(now);
        let is_over = conn.ends_at.get().is_some_and(|end| now >= end);
        if is_over && matches!(signal.phase(), Phase::Busy | Phase::Tunnel) {
            conn.end();
            return;
        }
        let limit = match signal.phase() {
            Phase::Idle => bounds.idle_timeout,
            Phase::Handshake if age > bounds.header_timeout => {
                worker
                    .counters
                    .of(conn.role.side())
                    .refused(Reason::Timeout);
                conn.tell(Command::Close);
                return;
            }
            Phase::Handshake => return,
            Phase::Head => bounds.header_timeout,
            Phase::Linger => LINGER,
            Phase::Tunnel => return,
            Phase::Busy => {
                if signal.end_is_due() {
                    conn.wake();
                }
                match longest {
                    // The answer that says so goes out first, where none has begun.
                    Some(longest) => longest + SWEEP,
                    None => return,
                }
            }
        };
        if age > limit {
            conn.tell(Command::Close);
        }
    });
    view.pools.iter().for_each(|pool| pool.sweep(now));
}
