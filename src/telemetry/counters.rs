//! Counters of one data thread: written by it alone, read by anybody.
//!
//! A single writer needs no read-modify-write: a relaxed load and a relaxed store do.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::StatusCode;

use crate::clock::Boot;
use crate::reason::Reason;

/// Upper bounds of the duration histogram. Microseconds.
pub const BUCKETS_US: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
    5_000_000, 30_000_000,
];

/// Which half of the job a request is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Programs that know nothing of tokens.
    Outbound,
    /// Callers that bring one.
    Inbound,
}

impl Side {
    /// Both.
    pub const ALL: [Side; 2] = [Side::Outbound, Side::Inbound];

    /// As labels have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Side::Outbound => "outbound",
            Side::Inbound => "inbound",
        }
    }
}

/// What one data thread counts.
#[derive(Debug, Default)]
pub struct Counters {
    sides: [SideCounters; 2],
    /// When the thread last swept: it is alive. Nanoseconds since boot.
    pub heartbeat: AtomicU64,
}

impl Counters {
    /// Those of one side.
    #[must_use]
    pub fn of(&self, side: Side) -> &SideCounters {
        &self.sides[side as usize]
    }

    /// The thread is alive.
    pub fn beat(&self, now: Boot) {
        self.heartbeat.store(now.as_nanos(), Relaxed);
    }
}

/// What one data thread counts of one side.
#[derive(Debug)]
pub struct SideCounters {
    /// Requests by status class; index 0 holds those that ended without an answer.
    pub requests: [AtomicU64; 6],
    /// Own answers, by [`Reason`].
    pub refused: [AtomicU64; Reason::ALL.len()],
    /// What would have been refused, by [`Reason`], but for `inbound.insecure_shadow_mode`.
    pub shadowed: [AtomicU64; Reason::ALL.len()],
    /// Upstream failures, by [`Reason`]; those that broke off an answer too.
    pub upstream_failures: [AtomicU64; Reason::ALL.len()],
    /// Upstream 401s that a fresh token and a replay turned into another answer.
    pub unauthorized_recovered: AtomicU64,
    /// Connections that are open.
    pub connections: AtomicU64,
    /// Requests by duration; the last one holds what is beyond every bound.
    pub durations: [AtomicU64; BUCKETS_US.len() + 1],
    /// The sum of all durations. Microseconds.
    pub duration_us: AtomicU64,
}

impl Default for SideCounters {
    fn default() -> Self {
        SideCounters {
            requests: Default::default(),
            refused: [const { AtomicU64::new(0) }; Reason::ALL.len()],
            shadowed: [const { AtomicU64::new(0) }; Reason::ALL.len()],
            upstream_failures: [const { AtomicU64::new(0) }; Reason::ALL.len()],
            unauthorized_recovered: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            durations: Default::default(),
            duration_us: AtomicU64::new(0),
        }
    }
}

fn add(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(by), Relaxed);
}

impl SideCounters {
    /// A request ended; `None` where its caller left before the answer.
    pub fn request(&self, status: Option<StatusCode>, took: Duration) {
        let class = status.map_or(0, |status| usize::from(status.as_u16() / 100).min(5));
        add(&self.requests[class], 1);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_US.partition_point(|bound| *bound < us);
        add(&self.durations[bucket], 1);
        add(&self.duration_us, us);
    }

    /// Regent answered itself.
    pub fn refused(&self, reason: Reason) {
        add(&self.refused[reason as usize], 1);
    }

    /// Regent would have answered itself, but for the shadow mode.
    pub fn shadowed(&self, reason: Reason) {
        add(&self.shadowed[reason as usize], 1);
    }

    /// An upstream failed.
    pub fn upstream_failed(&self, reason: Reason) {
        add(&self.upstream_failures[reason as usize], 1);
    }

    /// A 401 was turned into another answer.
    pub fn recovered(&self) {
        add(&self.unauthorized_recovered, 1);
    }

    /// A connection opened or closed.
    pub fn connections(&self, open: usize) {
        self.connections.store(open as u64, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_once_in_its_class_and_bucket() {
        let counters = SideCounters::default();
        counters.request(Some(StatusCode::NOT_FOUND), Duration::from_micros(100));
        counters.request(None, Duration::from_secs(3600));
        assert_eq!(counters.requests[4].load(Relaxed), 1);
        assert_eq!(counters.requests[0].load(Relaxed), 1);
        assert_eq!(counters.durations[0].load(Relaxed), 1);
        assert_eq!(counters.durations[BUCKETS_US.len()].load(Relaxed), 1);
    }
}
