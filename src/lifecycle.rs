//! Latches for readiness, and the way down.
//!
//! A start is a set of named latches; the probe lists those that are still shut. A stop is a
//! sequence that only moves forward: serve, drain (not ready, still serving), finish (no new
//! connections, what is in flight ends), abort.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// Named conditions that must hold once before the start counts as done.
#[derive(Clone, Debug, Default)]
pub struct Latches(Arc<Mutex<Vec<Latch>>>);

/// One condition; once open it stays open.
#[derive(Clone, Debug)]
pub struct Latch {
    name: &'static str,
    open: Arc<AtomicBool>,
}

impl Latches {
    /// Adds a shut latch.
    #[must_use]
    pub fn latch(&self, name: &'static str) -> Latch {
        let latch = Latch {
            name,
            open: Arc::default(),
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(latch.clone());
        latch
    }

    /// The names of those that are still shut.
    #[must_use]
    pub fn shut(&self) -> Vec<&'static str> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let shut = all.iter().filter(|latch| !latch.open.load(Relaxed));
        shut.map(|latch| latch.name).collect()
    }
}

impl Latch {
    /// Opens it.
    pub fn open(&self) {
        self.open.store(true, Relaxed);
    }
}

/// How far down we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Serving.
    Serve,
    /// Not ready any more, still serving; answers say `Connection: close`.
    Drain,
    /// No new connections; what is in flight ends.
    Finish,
    /// Out of time.
    Abort,
}

/// The stage, set by whoever may and watched by everybody.
#[derive(Clone, Debug)]
pub struct Stop(Arc<watch::Sender<Stage>>);

impl Default for Stop {
    fn default() -> Self {
        Stop(Arc::new(watch::Sender::new(Stage::Serve)))
    }
}

impl Stop {
    /// Moves on to `stage`; never back.
    pub fn advance(&self, stage: Stage) {
        self.0.send_if_modified(|now| {
            let further = stage > *now;
            if further {
                *now = stage;
            }
            further
        });
    }

    /// Where we are.
    #[must_use]
    pub fn stage(&self) -> Stage {
        *self.0.borrow()
    }

    /// Ends when `stage` or a later one is reached.
    pub async fn reached(&self, stage: Stage) {
        let mut watch = self.0.subscribe();
        // The sender is ours and lives as long as we do, so waiting cannot fail.
        let _ = watch.wait_for(|now| *now >= stage).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latches_say_what_is_missing() {
        let latches = Latches::default();
        let config = latches.latch("config");
        let token = latches.latch("access_token");
        config.open();
        assert_eq!(latches.shut(), ["access_token"]);
        token.open();
        assert!(latches.shut().is_empty());
    }

    #[tokio::test]
    async fn a_stop_never_goes_back() {
        let stop = Stop::default();
        stop.advance(Stage::Finish);
        stop.advance(Stage::Drain);
        assert_eq!(stop.stage(), Stage::Finish);
        stop.reached(Stage::Drain).await;
    }
}
