//! The deadlines of every connection and of every stream, looked at together: no request has a timer of
//! its own.

use std::cmp::Reverse;
use std::rc::Rc;
use std::time::Duration;

use super::{Bounds, LINGER, SWEEP};
use crate::clock::Boot;
use crate::proxy::Role;
use crate::proxy::conn::{Command, Conn};
use crate::proxy::signal::Phase;
use crate::proxy::worker::Worker;
use crate::reason::Reason;

/// For so long a connection idles in peace, however many wait.
const SPARED: Duration = Duration::from_secs(5);

/// Enforces what is due.
pub(super) fn all(worker: &Worker, bounds: &Bounds) {
    let now = worker.clock.boot();
    worker.counters.beat(now);
    worker.log.settle(now);
    let view = worker.view();
    let mut sweep = Sweep {
        worker,
        bounds,
        now,
        longest: view.policy.request_timeout,
        crowd: Crowd::of(worker),
    };
    worker.each_connection(|conn| {
        if let Some(streams) = conn.streams() {
            streams.patience.rest();
        }
        sweep.look_at(conn);
    });
    worker.each_stream(|stream| sweep.look_at(stream));
    let crowd = sweep.crowd;
    crowd.make_room(worker, bounds.connections);
    // Each connection may be about to need another one behind it.
    let mut idle = bounds.upstreams.saturating_sub(worker.connections());
    for pool in &view.pools {
        pool.sweep(now);
        idle -= pool.keep(idle);
    }
}

struct Sweep<'a> {
    worker: &'a Worker,
    bounds: &'a Bounds,
    now: Boot,
    /// `limits.request_timeout`.
    longest: Option<Duration>,
    crowd: Crowd,
}

impl Sweep<'_> {
    fn look_at(&mut self, conn: &Rc<Conn>) {
        let (worker, bounds, now) = (self.worker, self.bounds, self.now);
        let signal = &conn.signal;
        let age = signal.age(now);
        let is_over = conn.ends_at.get().is_some_and(|end| now >= end);
        if is_over && matches!(signal.phase(), Phase::Busy | Phase::Tunnel) {
            conn.end();
            return;
        }
        let limit = match signal.phase() {
            // A stream that is about to end.
            Phase::Idle if conn.as_stream().is_some() => return,
            Phase::Idle => {
                self.crowd.idles(conn, age);
                return self.idles(conn, age);
            }
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
            Phase::Streams => {
                let stands = conn.streams().map(|streams| streams.stands_for(now));
                if signal.stuck_for(now).max(stands.unwrap_or_default()) > bounds.idle_timeout {
                    cut_stalled(worker, conn, now);
                }
                return;
            }
            Phase::Busy => {
                if signal.end_is_due() {
                    conn.wake();
                }
                if conn.is_stalled(now, bounds.idle_timeout) {
                    return cut_stalled(worker, conn, now);
                }
                match self.longest {
                    // The answer that says so goes out first, where none has begun.
                    Some(longest) => longest + SWEEP,
                    None => return,
                }
            }
        };
        if age > limit {
            conn.tell(Command::Close);
        }
    }

    /// A connection without a request. It answers what it has been sent by then; one of HTTP/2 is told
    /// first, and has a moment to say that.
    fn idles(&self, conn: &Conn, age: Duration) {
        let is_told = conn.told() == Command::Drain;
        let limit = self.bounds.idle_timeout;
        match conn.streams() {
            Some(_) if is_told && age > LINGER => conn.tell(Command::Close),
            None if is_told && age > limit => conn.tell(Command::Close),
            _ if !is_told && age > limit => conn.tell(Command::Drain),
            _ => {}
        }
    }
}

/// What idles, while somebody waits at the cap.
struct Crowd {
    is_wanted: [bool; Role::ALL.len()],
    idle: Vec<(Duration, Rc<Conn>)>,
}

impl Crowd {
    fn of(worker: &Worker) -> Crowd {
        Crowd {
            is_wanted: Role::ALL.map(|role| worker.load.room.is_wanted(role)),
            idle: Vec::new(),
        }
    }

    fn idles(&mut self, conn: &Rc<Conn>, age: Duration) {
        if age >= SPARED && self.is_wanted[conn.role as usize] {
            self.idle.push((age, Rc::clone(conn)));
        }
    }

    /// Ends those that have been idle for longest, in good order: a sixteenth of what there may be.
    fn make_room(mut self, worker: &Worker, most: usize) {
        self.idle.sort_unstable_by_key(|(age, _)| Reverse(*age));
        let mut left = [(most / 16).max(1); Role::ALL.len()];
        for (_, conn) in self.idle {
            let left = &mut left[conn.role as usize];
            if *left > 0 {
                *left -= 1;
                worker.load.room.want(conn.role, false);
                conn.tell(Command::Drain);
            }
        }
    }
}

/// A caller is cut: it neither takes its answer nor sends what is left of its request.
fn cut_stalled(worker: &Worker, conn: &Conn, now: Boot) {
    conn.tell(Command::Close);
    if let Some(unsaid) = worker.log.may_say(now, Reason::Timeout) {
        tracing::info!(
            side = conn.role.side().name(),
            peer = conn.peer().to_str().ok(),
            unsaid,
            "a caller was cut that had stopped in the middle of its answer (limits.idle_timeout)"
        );
    }
}
