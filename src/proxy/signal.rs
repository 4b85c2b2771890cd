//! What a connection's bytes, its requests and its sweeper tell each other.
//!
//! The stream must be `Send`, so this is atomic, though one thread alone uses it.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::framing::Violation;
use crate::clock::Boot;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// TLS is not agreed on yet.
    Handshake,
    /// Between requests.
    Idle,
    /// A head has begun to arrive.
    Head,
    /// A request is being answered.
    Busy,
    /// Upgraded.
    Tunnel,
    /// Closing, with unread bytes being discarded.
    Linger,
    /// Streams of HTTP/2 are open on it.
    Streams,
}

/// The caller takes what it is sent.
const FREE: u64 = u64::MAX;

/// The state of one connection.
#[derive(Debug)]
pub struct Signal {
    phase: AtomicU8,
    /// When the phase began; 0 where the next sweep is to say so. Nanoseconds since boot.
    since: AtomicU64,
    /// [`FREE`], or when the caller had room for nothing more; 0 where the next sweep is to say so.
    /// Nanoseconds since boot.
    stuck: AtomicU64,
    /// There is a request whose body has not been read to its end.
    unread: AtomicBool,
    /// What still comes at the close is to be discarded.
    linger: AtomicBool,
    /// Sweeps since the caller closed its sending half while its request was being answered.
    eof: AtomicU8,
    /// That end is told now.
    eof_due: AtomicBool,
    /// The connection closes unless there is a request in its socket.
    last_look: AtomicBool,
    /// The heads that the bytes held so far, as the strict reading has it.
    approved: AtomicU64,
    /// The heads that hyper made a request of.
    yielded: AtomicU64,
    /// The number of the violation that ended the strict reading.
    violation: AtomicU8,
    /// Some of a head has come, and not all of it.
    in_head: AtomicBool,
}

impl Signal {
    /// A connection that has just been accepted.
    #[must_use]
    pub fn new(now: Boot) -> Signal {
        Signal {
            phase: AtomicU8::new(Phase::Idle as u8),
            since: AtomicU64::new(now.as_nanos()),
            stuck: AtomicU64::new(FREE),
            unread: AtomicBool::new(false),
            linger: AtomicBool::new(false),
            eof: AtomicU8::new(0),
            eof_due: AtomicBool::new(false),
            last_look: AtomicBool::new(false),
            approved: AtomicU64::new(0),
            yielded: AtomicU64::new(0),
            violation: AtomicU8::new(u8::MAX),
            in_head: AtomicBool::new(false),
        }
    }

    /// A new phase.
    pub fn set(&self, phase: Phase, now: Boot) {
        self.phase.store(phase as u8, Relaxed);
        self.since.store(now.as_nanos(), Relaxed);
    }

    /// A request has been answered. Some of the next head may have come with it.
    pub fn answered(&self, now: Boot) {
        let next = match self.in_head.load(Relaxed) {
            true => Phase::Head,
            false => Phase::Idle,
        };
        self.set(next, now);
    }

    /// A phase that begins with the next sweep.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
        self.since.store(0, Relaxed);
    }

    /// The phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Handshake,
            1 => Phase::Idle,
            2 => Phase::Head,
            3 => Phase::Busy,
            4 => Phase::Tunnel,
            5 => Phase::Linger,
            _ => Phase::Streams,
        }
    }

    /// How long the phase has lasted, by the sweeps that saw it.
    pub fn age(&self, now: Boot) -> Duration {
        let since = self.since.load(Relaxed);
        if since == 0 {
            self.since.store(now.as_nanos(), Relaxed);
            return Duration::ZERO;
        }
        now.since(Boot::from_nanos(since))
    }

    /// The caller has room for nothing more at the moment.
    pub fn sticks(&self) {
        self.stuck.store(0, Relaxed);
    }

    /// It has taken something.
    pub fn moves(&self) {
        self.stuck.store(FREE, Relaxed);
    }

    /// How long it has had no room, by the sweeps that saw it.
    pub fn stuck_for(&self, now: Boot) -> Duration {
        match self.stuck.load(Relaxed) {
            FREE => Duration::ZERO,
            0 => {
                self.stuck.store(now.as_nanos(), Relaxed);
                Duration::ZERO
            }
            since => now.since(Boot::from_nanos(since)),
        }
    }

    /// What the strict reading of the bytes has come to.
    pub fn read(&self, approved: u64, violation: Option<Violation>, in_head: bool) {
        self.approved.store(approved, Relaxed);
        self.in_head.store(in_head, Relaxed);
        if let Some(violation) = violation {
            self.violation.store(violation as u8, Relaxed);
        }
    }

    /// hyper made a request of the next head. It may be served only if the strict reading had come
    /// to the end of the head of the same number: hyper reads ahead, so its bytes have passed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn next_head(&self) -> Result<(), Violation> {
        let yielded = self.yielded.load(Relaxed) + 1;
        self.yielded.store(yielded, Relaxed);
        if yielded <= self.approved.load(Relaxed) {
            return Ok(());
        }
        // Without a violation the two readings disagree: nothing is sound from here on.
        Err(self.violation().unwrap_or(Violation::Unasked))
    }

    /// What ended the strict reading.
    #[must_use]
    pub fn violation(&self) -> Option<Violation> {
        Violation::of(self.violation.load(Relaxed))
    }

    /// A request begins, and has a body or none.
    pub fn begins(&self, has_body: bool) {
        self.unread.store(has_body, Relaxed);
    }

    /// The request's body was read to its end.
    pub fn body_ended(&self) {
        self.unread.store(false, Relaxed);
    }

    /// Whether some of the request's body is still to be read.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        self.unread.load(Relaxed)
    }

    /// Bytes of a head arrived: the first ones begin its time.
    pub fn arrived(&self) {
        if self.phase() == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    /// The answer at hand is the last one: what the caller sent behind it is not read.
    pub fn last_answer(&self) {
        self.linger.store(true, Relaxed);
    }

    /// The close begins. Whether what still comes must be discarded: where something is left
    /// unread, a reset would take the answer from the caller.
    pub fn closing(&self) -> bool {
        let lingers = self.linger.load(Relaxed) || self.unread.load(Relaxed);
        if lingers && self.phase() != Phase::Linger {
            self.enter(Phase::Linger);
        }
        lingers
    }

    /// From here on, what is in the socket counts, not only what the runtime has heard of.
    pub fn look(&self) {
        self.last_look.store(true, Relaxed);
    }

    /// Whether it does.
    #[must_use]
    pub fn looks(&self) -> bool {
        self.last_look.load(Relaxed)
    }

    /// The end of the caller's bytes. Whether it may be told now: not while its request is being
    /// answered, for it may only have closed its sending half.
    #[must_use]
    pub fn may_end(&self) -> bool {
        let may = self.phase() != Phase::Busy || self.eof_due.load(Relaxed);
        if !may && self.eof.load(Relaxed) == 0 {
            self.eof.store(1, Relaxed);
        }
        may
    }

    /// Lets a held-back end be told. Whether there was one.
    pub fn end_now(&self) -> bool {
        let held = self.eof.load(Relaxed) > 0;
        self.eof_due.store(held, Relaxed);
        held
    }

    /// Counts a sweep over a held-back end; the second one lets it be told.
    pub fn end_is_due(&self) -> bool {
        match self.eof.load(Relaxed) {
            0 => false,
            1 => {
                self.eof.store(2, Relaxed);
                false
            }
            _ => !self.eof_due.load(Relaxed) && self.end_now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_during_a_request_is_held_back_for_two_sweeps() {
        let signal = Signal::new(Boot::default());
        signal.set(Phase::Busy, Boot::default());
        assert!(!signal.may_end());
        assert!(!signal.end_is_due());
        assert!(signal.end_is_due());
        assert!(signal.may_end());
        assert!(!signal.end_is_due(), "told once");
    }

    #[test]
    fn an_end_between_requests_is_told_at_once() {
        let signal = Signal::new(Boot::default());
        assert!(signal.may_end());
        assert!(!signal.end_now());
    }

    #[test]
    fn a_head_is_served_only_if_the_one_of_the_same_number_was_approved() {
        let signal = Signal::new(Boot::default());
        signal.read(2, None, false);
        assert_eq!(signal.next_head(), Ok(()));
        signal.read(2, Some(Violation::Fold), false);
        assert_eq!(signal.next_head(), Ok(()), "approved before the violation");
        assert_eq!(signal.next_head(), Err(Violation::Fold));
        assert_eq!(signal.next_head(), Err(Violation::Fold));
    }

    #[test]
    fn a_head_that_only_hyper_sees_is_not_served() {
        let signal = Signal::new(Boot::default());
        assert!(signal.next_head().is_err());
    }

    #[test]
    fn a_heads_time_begins_with_the_first_sweep_that_sees_it() {
        let at = |seconds| Boot::default() + Duration::from_secs(seconds);
        let signal = Signal::new(at(1));
        assert_eq!(signal.age(at(3)), Duration::from_secs(2));
        signal.arrived();
        assert_eq!(signal.phase(), Phase::Head);
        assert_eq!(signal.age(at(5)), Duration::ZERO);
        assert_eq!(signal.age(at(9)), Duration::from_secs(4));
    }
}
