//! The deadlines of every connection, looked at together: no request has a timer of its own.

use super::{Bounds, LINGER, SWEEP};
use crate::clock::Boot;
use crate::proxy::conn::{Command, Conn};
use crate::proxy::signal::Phase;
use crate::proxy::worker::Worker;
use crate::reason::Reason;

/// Enforces what is due.
pub(super) fn all(worker: &Worker, bounds: &Bounds) {
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
                if conn.is_stalled(now, bounds.idle_timeout) {
                    say_stalled(worker, conn, now);
                    conn.tell(Command::Close);
                    return;
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

/// A caller is cut: it neither takes its answer nor sends what is left of its request.
fn say_stalled(worker: &Worker, conn: &Conn, now: Boot) {
    if let Some(unsaid) = worker.log.may_say(now, Reason::Timeout) {
        tracing::info!(
            side = conn.role.side().name(),
            peer = conn.peer().to_str().ok(),
            unsaid,
            "a caller was cut that had stopped in the middle of its answer (limits.idle_timeout)"
        );
    }
}
