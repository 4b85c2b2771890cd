//! Whether an upstream that says nothing is still there.
//!
//! A connection whose other end is gone without a word takes new requests for as long as the system
//! tries to deliver the first one, which is a quarter of an hour. So the upstream is asked by a PING
//! where nothing came for [`QUIET`] though somebody waits for it, and is gone where nothing comes for as
//! long again. Servers of gRPC end connections that ask more often than every five minutes while nothing
//! but that goes over them: we do not.

use std::cell::Cell;
use std::time::Duration;

use crate::clock::Boot;

/// How long nothing comes before it is asked, and before it is taken for gone.
pub(super) const QUIET: Duration = Duration::from_secs(10);
/// Between two questions with nothing but an answer to the first one between them.
const RARELY: Duration = Duration::from_secs(310);
/// The frame of an answer. Bytes.
const PONG: u64 = 17;

/// What a look at a connection comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Nothing is to be done.
    Fine,
    /// It is to be asked.
    Ask,
    /// It is gone.
    Gone,
}

/// What was seen of a connection so far. Bytes are counted from its beginning.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    read: Cell<u64>,
    quiet_since: Cell<Option<Boot>>,
    /// When it was asked, if that is not answered.
    asked_at: Cell<Option<Boot>>,
    /// When it was last asked, and what was read by then.
    last_asked: Cell<Option<(Boot, u64)>>,
}

impl Pulse {
    /// Looks at a connection in use, over which so much came.
    pub(super) fn look(&self, now: Boot, read: u64) -> Beat {
        if read != self.read.replace(read) {
            self.rest();
        }
        let quiet_since = self.quiet_since.get().unwrap_or(now);
        self.quiet_since.set(Some(quiet_since));
        if let Some(asked) = self.asked_at.get() {
            return match now.since(asked) >= QUIET {
                true => Beat::Gone,
                false => Beat::Fine,
            };
        }
        let last = self.last_asked.get();
        let may_ask = last.is_none_or(|(at, then)| read > then + PONG || now.since(at) >= RARELY);
        if now.since(quiet_since) < QUIET || !may_ask {
            return Beat::Fine;
        }
        self.asked_at.set(Some(now));
        self.last_asked.set(Some((now, read)));
        Beat::Ask
    }

    /// Nobody waits for anything.
    pub(super) fn rest(&self) {
        self.quiet_since.set(None);
        self.asked_at.set(None);
    }
}

#[cfg(test)]
mod tests {
    use super::Beat::{Ask, Fine, Gone};
    use super::*;

    fn at(seconds: u64) -> Boot {
        Boot::default() + Duration::from_secs(seconds)
    }

    #[test]
    fn who_is_silent_is_asked_and_then_gone() {
        let pulse = Pulse::default();
        for (now, read, beat) in [
            (0, 100, Fine),
            (9, 100, Fine),
            (9, 101, Fine),
            (18, 101, Fine),
            (19, 101, Ask),
            (28, 101, Fine),
            (29, 101, Gone),
        ] {
            assert_eq!(pulse.look(at(now), read), beat, "{now}");
        }
    }

    #[test]
    fn who_answers_is_asked_again_after_minutes_or_when_more_than_that_came() {
        let pulse = Pulse::default();
        for (now, read, beat) in [
            (0, 100, Fine),
            (10, 100, Ask),
            (11, 117, Fine),
            (319, 117, Fine),
            (320, 117, Ask),
            (321, 134, Fine),
            // More than an answer, and then silence again.
            (330, 200, Fine),
            (339, 200, Fine),
            (340, 200, Ask),
        ] {
            assert_eq!(pulse.look(at(now), read), beat, "{now}");
        }
    }

    #[test]
    fn a_connection_that_nobody_used_was_not_silent() {
        let pulse = Pulse::default();
        pulse.look(at(0), 100);
        pulse.rest();
        assert_eq!(pulse.look(at(1000), 100), Fine);
        assert_eq!(pulse.look(at(1010), 100), Ask);
    }
}
