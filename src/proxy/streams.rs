//! What the streams of one HTTP/2 connection have in common, and what makes a [`Conn`] one of them.
//!
//! Frames that ask for nothing cost the connection's [`Patience`]: it ends with it. Answers and what
//! they carry restore it, and so does every sweep. So it is floods that end, and no peer that is alive
//! in its own way: one that pings for days, that takes a download in small windows, or that thinks
//! better of every second request.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::conn::Conn;
use crate::clock::Boot;

/// Signatures of one connection in the queue at a time.
const VERIFYING: usize = 8;
/// A request that is given up sooner was hardly meant.
const HASTY: Duration = Duration::from_millis(10);

/// How many frames that ask for nothing are still borne.
#[derive(Debug)]
pub struct Patience(Cell<i32>);

impl Default for Patience {
    fn default() -> Patience {
        Patience(Cell::new(Patience::FULL))
    }
}

impl Patience {
    /// What there is at first, and at most.
    pub const FULL: i32 = 4096;
    /// What a sweep restores: about a thousand in a second.
    const SWEEP: i32 = 256;
    /// What a whole answer restores: as much as a hasty request costs.
    pub const ANSWER: i32 = 16;

    /// Something came that asked for nothing.
    pub fn spend(&self, cost: i32) {
        self.0.set(self.0.get().saturating_sub(cost));
    }

    /// Something of use was done.
    pub fn earn(&self, gain: i32) {
        let now = self.0.get();
        // What is over stays over.
        if now >= 0 {
            self.0.set(now.saturating_add(gain).min(Patience::FULL));
        }
    }

    /// A sweep came by.
    pub fn rest(&self) {
        self.earn(Patience::SWEEP);
    }

    /// Whether it has come to its end.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.get() < 0
    }
}

/// What the streams of a connection share.
#[derive(Debug)]
pub struct Streams {
    /// How much is borne.
    pub patience: Patience,
    /// Exchanges that do not wait for the caller to take what they have.
    working: Cell<usize>,
    /// Exchanges.
    open: Cell<usize>,
    /// Exchanges since the connection's begin.
    begun: Cell<u64>,
    verifying: Semaphore,
    /// The first sweep that saw nothing go on but what waits for the caller, since that last took
    /// something.
    stands_since: Cell<Option<Boot>>,
}

impl Default for Streams {
    fn default() -> Streams {
        Streams {
            patience: Patience::default(),
            working: Cell::new(0),
            open: Cell::new(0),
            begun: Cell::new(0),
            verifying: Semaphore::new(VERIFYING),
            stands_since: Cell::new(None),
        }
    }
}

impl Streams {
    /// How many exchanges there are.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.get()
    }

    /// The caller took a piece of an answer.
    pub fn moves(&self) {
        self.stands_since.set(None);
    }

    /// A sweep came by. How long nothing has gone on but what waits for the caller, which takes nothing,
    /// whatever it sends.
    pub fn stands_for(&self, now: Boot) -> Duration {
        let since = match self.working.get() {
            0 => Some(self.stands_since.get().unwrap_or(now)),
            _ => None,
        };
        self.stands_since.set(since);
        since.map_or(Duration::ZERO, |since| now.since(since))
    }

    /// How many there were, with those that there are.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.begun.get()
    }

    fn begin(&self) {
        self.open.set(self.open.get() + 1);
        self.begun.set(self.begun.get() + 1);
        self.working.set(self.working.get() + 1);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The caller has given it up, unless something else is said.
    GivenUp,
    /// The answer was whole.
    Answered,
    /// It ended early, and the caller had no part in it.
    Spoiled,
}

/// What makes a [`Conn`] a stream.
#[derive(Debug)]
pub struct Stream {
    parent: Rc<Conn>,
    begun: Boot,
    outcome: Cell<Outcome>,
    /// The caller has not taken yet what it was given last.
    waits: Cell<bool>,
}

impl Stream {
    pub(super) fn new(parent: Rc<Conn>, begun: Boot) -> Stream {
        if let Some(streams) = parent.streams() {
            streams.begin();
        }
        Stream {
            parent,
            begun,
            outcome: Cell::new(Outcome::GivenUp),
            waits: Cell::new(false),
        }
    }

    /// The connection that it came over.
    #[must_use]
    pub fn parent(&self) -> &Rc<Conn> {
        &self.parent
    }

    /// The answer was whole.
    pub fn answered(&self) {
        self.outcome.set(Outcome::Answered);
    }

    /// What ends it early is nothing that the caller did.
    pub fn spoiled(&self) {
        if self.outcome.get() == Outcome::GivenUp {
            self.outcome.set(Outcome::Spoiled);
        }
    }

    /// The caller was given a piece of the answer, or has come for the next one.
    pub fn waits(&self, waits: bool) {
        if self.waits.replace(waits) != waits
            && let Some(streams) = self.parent.streams()
        {
            let working = streams.working.get();
            streams.working.set(match waits {
                true => working - 1,
                false => working + 1,
            });
        }
    }

    /// One of few of the connection that have a signature in the queue: a connection fills it as
    /// little as many callers on connections of their own.
    pub async fn verifying(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.parent.streams()?.verifying.acquire().await.ok()
    }

    /// It has ended.
    pub(super) fn end(&self, now: Boot) {
        self.waits(false);
        let Some(streams) = self.parent.streams() else {
            return;
        };
        streams.open.set(streams.open.get() - 1);
        streams.working.set(streams.working.get() - 1);
        match self.outcome.get() {
            Outcome::Answered => streams.patience.earn(Patience::ANSWER),
            Outcome::Spoiled => {}
            Outcome::GivenUp if now.since(self.begun) < HASTY => {
                streams.patience.spend(Patience::ANSWER);
            }
            Outcome::GivenUp => streams.patience.spend(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Boot {
        Boot::default() + Duration::from_millis(ms)
    }

    fn connection() -> Rc<Conn> {
        let peer = std::net::Ipv4Addr::LOCALHOST.into();
        let conn = Conn::new(0, super::super::Role::Inbound, peer, false, at(0));
        conn.share();
        Rc::new(conn)
    }

    fn streams(conn: &Conn) -> &Streams {
        conn.streams().expect("it is shared")
    }

    #[test]
    fn patience_ends_with_a_flood_and_does_not_come_back() {
        let patience = Patience::default();
        for _ in 0..Patience::FULL {
            patience.spend(1);
        }
        assert!(!patience.is_over());
        patience.spend(1);
        assert!(patience.is_over());
        patience.earn(1000);
        patience.rest();
        assert!(patience.is_over());
    }

    #[test]
    fn a_thousand_frames_a_second_are_borne_for_ever() {
        let patience = Patience::default();
        for _ in 0..4 * 3600 {
            patience.spend(256);
            patience.rest();
        }
        assert!(!patience.is_over());
    }

    #[test]
    fn whoever_gives_up_every_second_request_is_borne_and_whoever_takes_no_answer_is_not() {
        let conn = connection();
        for round in 0..100_000 {
            let given_up = Stream::new(Rc::clone(&conn), at(round));
            given_up.end(at(round));
            let answered = Stream::new(Rc::clone(&conn), at(round));
            answered.answered();
            answered.spoiled();
            answered.end(at(round));
        }
        assert!(!streams(&conn).patience.is_over());
        let hasty = (0..1000).position(|_| {
            Stream::new(Rc::clone(&conn), at(0)).end(at(9));
            streams(&conn).patience.is_over()
        });
        assert_eq!(hasty, Some(256));
    }

    #[test]
    fn a_connection_stands_while_every_exchange_waits_for_a_caller_that_takes_nothing() {
        let conn = connection();
        let [one, other] = [0, 1].map(|_| Stream::new(Rc::clone(&conn), at(0)));
        let stands = |ms| streams(&conn).stands_for(at(ms)) > Duration::ZERO;
        one.waits(true);
        one.waits(true);
        assert!(!stands(1000) && !stands(2000), "one works");
        other.waits(true);
        assert!(!stands(3000), "for no longer than since this sweep");
        assert_eq!(streams(&conn).stands_for(at(5000)).as_secs(), 2);
        streams(&conn).moves();
        assert!(!stands(6000) && stands(7000));
        other.waits(false);
        assert!(!stands(8000));
        other.end(at(0));
        assert!(!stands(9000) && stands(10_000));
        one.end(at(0));
        assert_eq!(streams(&conn).open(), 0);
    }

    #[tokio::test]
    async fn one_connection_has_few_signatures_in_the_queue() {
        let [conn, other] = [connection(), connection()];
        let stream = |conn: &Rc<Conn>| Stream::new(Rc::clone(conn), at(0));
        let all: [Stream; VERIFYING + 1] = std::array::from_fn(|_| stream(&conn));
        let mut places = Vec::new();
        for one in &all[1..] {
            places.push(one.verifying().await);
        }
        let wait = Duration::from_millis(1);
        let next = tokio::time::timeout(wait, all[0].verifying());
        assert!(next.await.is_err());
        assert!(stream(&other).verifying().await.is_some());
        places.pop();
        assert!(all[0].verifying().await.is_some());
    }

    #[test]
    fn what_the_caller_has_no_part_in_costs_it_nothing() {
        let conn = connection();
        for _ in 0..100_000 {
            let stream = Stream::new(Rc::clone(&conn), at(0));
            stream.spoiled();
            stream.end(at(0));
        }
        assert!(!streams(&conn).patience.is_over());
    }
}
