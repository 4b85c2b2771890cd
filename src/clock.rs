//! The only clock.
//!
//! Two readings: [`Clock::boot`] runs through a laptop's sleep and never jumps (CLOCK_BOOTTIME),
//! and every deadline is counted on it; [`Clock::unix`] is the wall clock, which may be wrong, and
//! is used only where a token's own times are all there is. Waiting is tokio's business, so tests
//! can pause it: [`Clock::manual`] follows tokio's clock and can be set wrong or put to sleep.

use std::ops::Add;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A point on the clock that counts since boot, suspend included. Nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Boot(u64);

impl Boot {
    /// The time from `earlier` to `self`, or zero where `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Boot) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The point as nanoseconds since boot, for atomics and slabs.
    #[must_use]
    pub fn as_nanos(self) -> u64 {
        self.0
    }

    /// The point that [`Boot::as_nanos`] gave.
    #[must_use]
    pub fn from_nanos(nanos: u64) -> Boot {
        Boot(nanos)
    }

    /// `self - by`, or the moment of boot where that is earlier.
    #[must_use]
    pub fn saturating_sub(self, by: Duration) -> Boot {
        Boot(self.0.saturating_sub(nanos(by)))
    }
}

impl Add<Duration> for Boot {
    type Output = Boot;
    fn add(self, by: Duration) -> Boot {
        Boot(self.0.saturating_add(nanos(by)))
    }
}

fn nanos(by: Duration) -> u64 {
    u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)
}

/// Where times come from: the system, or a test's hand. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<Manual>>);

#[derive(Debug)]
struct Manual {
    origin: tokio::time::Instant,
    /// What the wall clock says is `wall_at_origin` plus what has passed. Milliseconds.
    wall_at_origin: AtomicI64,
    /// Sleep that tokio's clock did not see. Nanoseconds.
    suspended: AtomicU64,
}

impl Clock {
    /// The system's clocks.
    #[must_use]
    pub fn system() -> Clock {
        Clock(None)
    }

    /// A clock that follows tokio's (which tests pause) from `unix_s` seconds since the epoch.
    #[must_use]
    pub fn manual(unix_s: i64) -> Clock {
        Clock(Some(Arc::new(Manual {
            origin: tokio::time::Instant::now(),
            wall_at_origin: AtomicI64::new(unix_s.saturating_mul(1000)),
            suspended: AtomicU64::new(0),
        })))
    }

    /// Now, on the clock that deadlines are counted on.
    #[must_use]
    pub fn boot(&self) -> Boot {
        match &self.0 {
            None => {
                let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
                let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
                let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
                Boot(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
            }
            Some(manual) => {
                // An hour ahead, so that a test can look back.
                Boot(3_600_000_000_000)
                    + manual.origin.elapsed()
                    + Duration::from_nanos(manual.suspended.load(Relaxed))
            }
        }
    }

    /// Now, in milliseconds since the epoch, by a wall clock that may be wrong.
    #[must_use]
    pub fn unix_ms(&self) -> i64 {
        match &self.0 {
            None => {
                let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
                now.tv_sec
                    .saturating_mul(1000)
                    .saturating_add(now.tv_nsec / 1_000_000)
            }
            Some(manual) => {
                let passed = manual.origin.elapsed().as_millis();
                let slept = i64::try_from(manual.suspended.load(Relaxed) / 1_000_000).unwrap_or(0);
                manual
                    .wall_at_origin
                    .load(Relaxed)
                    .saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
                    .saturating_add(slept)
            }
        }
    }

    /// Now, in whole seconds since the epoch, by a wall clock that may be wrong.
    #[must_use]
    pub fn unix(&self) -> i64 {
        self.unix_ms().div_euclid(1000)
    }

    /// Moves a manual clock's wall time by `by` seconds; the system's clock is left alone.
    pub fn shift_wall(&self, by: i64) {
        if let Some(manual) = &self.0 {
            manual
                .wall_at_origin
                .fetch_add(by.saturating_mul(1000), Relaxed);
        }
    }

    /// Lets a manual clock sleep as a laptop does: time passes, tokio's timers do not see it.
    pub fn suspend(&self, by: Duration) {
        if let Some(manual) = &self.0 {
            manual.suspended.fetch_add(nanos(by), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_runs_forward() {
        let clock = Clock::system();
        let earlier = clock.boot();
        assert!(clock.boot() >= earlier);
        assert!(clock.unix() > 1_700_000_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_manual_clock_follows_paused_time_and_sleeps() {
        let clock = Clock::manual(1_000);
        let start = clock.boot();
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(clock.boot().since(start), Duration::from_secs(2));
        clock.suspend(Duration::from_secs(10));
        assert_eq!(clock.boot().since(start), Duration::from_secs(12));
        assert_eq!(clock.unix(), 1_012);
        clock.shift_wall(-5);
        assert_eq!(clock.unix(), 1_007);
    }
}
