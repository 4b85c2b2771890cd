//! A connection on its way, and those who wait for it.
//!
//! It lands when the upstream has said its settings. Whoever waits goes on then, for the room there
//! is; where it fails, all of them fail, and none dials after it. One who led it and left takes nobody
//! along: the next one leads.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;

use tokio::sync::Notify;

use crate::proxy::respond::Refusal;

/// A connection on its way.
#[derive(Debug, Default)]
pub struct Flight {
    waiting: Cell<usize>,
    outcome: OnceCell<Result<(), Refusal>>,
    landed: Notify,
}

impl Flight {
    /// It is there, has failed, or was given up (which is told as `Ok`: look again). Once.
    pub fn land(&self, outcome: Result<(), Refusal>) {
        if self.outcome.set(outcome).is_ok() {
            self.landed.notify_waiters();
        }
    }

    /// Whether it is still on its way.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.outcome.get().is_none()
    }

    /// A seat, where there are fewer than `most` taken.
    #[must_use]
    pub fn seat(self: &Rc<Flight>, most: usize) -> Option<Seat> {
        (self.waiting.get() < most).then(|| {
            self.waiting.set(self.waiting.get() + 1);
            Seat(Rc::clone(self))
        })
    }
}

/// One who waits.
#[derive(Debug)]
pub struct Seat(Rc<Flight>);

impl Seat {
    /// Done when it has landed.
    ///
    /// # Errors
    /// It has failed, and why.
    pub async fn landed(self) -> Result<(), Refusal> {
        loop {
            let landed = self.0.landed.notified();
            if let Some(outcome) = self.0.outcome.get() {
                return outcome.clone();
            }
            landed.await;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}

/// The lead of a flight. Dropped, it gives the flight up.
#[derive(Debug)]
pub struct Lead(Option<Rc<Flight>>);

impl Lead {
    /// Of this flight.
    #[must_use]
    pub fn new(flight: Rc<Flight>) -> Lead {
        Lead(Some(flight))
    }

    /// The connection itself says from here on how it ends.
    #[must_use]
    pub fn hand_over(mut self) -> Rc<Flight> {
        self.0.take().unwrap_or_default()
    }

    /// It fails for all.
    #[must_use]
    pub fn fail(self, refusal: Refusal) -> Refusal {
        if let Some(flight) = &self.0 {
            flight.land(Err(refusal.clone()));
        }
        refusal
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if let Some(flight) = &self.0 {
            flight.land(Ok(()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Reason;

    async fn outcome(end: impl FnOnce(Lead)) -> Vec<Result<(), Refusal>> {
        let flight = Rc::new(Flight::default());
        let seats: Vec<_> = (0..3).map_while(|_| flight.seat(2)).collect();
        assert_eq!(seats.len(), 2, "no seat more than there is room");
        let lead = Lead::new(Rc::clone(&flight));
        let waiting = seats.into_iter().map(Seat::landed);
        let waiting = futures_util::future::join_all(waiting);
        let (outcome, ()) = tokio::join!(waiting, async { end(lead) });
        assert!(!flight.is_under_way());
        outcome
    }

    #[tokio::test]
    async fn a_failure_is_everybodys_and_one_who_leads_and_leaves_fails_nobody() {
        let refusal = || Refusal::new(Reason::UpstreamTimeout, "x");
        let failed = outcome(|lead| drop(lead.fail(refusal()))).await;
        assert_eq!(failed, [Err(refusal()), Err(refusal())]);
        assert_eq!(outcome(drop).await, [Ok(()), Ok(())]);
    }

    #[tokio::test]
    async fn who_hands_over_decides_nothing_any_more() {
        let flight = Lead::new(Rc::default()).hand_over();
        assert!(flight.is_under_way());
    }

    #[test]
    fn a_seat_is_free_again_when_its_holder_leaves() {
        let flight = Rc::new(Flight::default());
        let seat = flight.seat(1);
        assert!(flight.seat(1).is_none());
        drop(seat);
        assert!(flight.seat(1).is_some());
    }
}
