//! One request from its head to the end of its answer: what is counted and what is logged of it.
//!
//! - A refusal is a line of the log, ten in a second of one reason at the most, with the beginning of its
//!   path; whatever is more is counted in the next one, or in one of its own. With `log.access` every
//!   request is a line ([`Access`]).
//! - No line has a query, which may hold a secret.

use std::cell::Cell;
use std::rc::Rc;

use http::{Method, Request, StatusCode, Uri};
use hyper::body::Incoming;

use super::access::{Access, shown};
use super::conn::Conn;
use super::forward_auth::Original;
use super::respond::Refusal;
use super::signal::Phase;
use super::worker::Worker;
use crate::clock::Boot;
use crate::reason::Reason;
use crate::telemetry::counters::SideCounters;

/// Lines on refusals of one reason in a second, of one data thread.
const LINES: u32 = 10;

/// One request. Counted when dropped.
#[derive(Debug)]
pub struct Exchange {
    worker: Rc<Worker>,
    conn: Rc<Conn>,
    started: Boot,
    status: Option<StatusCode>,
    reason: Option<Reason>,
}

/// What a line says of a request. Where another proxy asks, it is what that one was asked for. It
/// stays with the connection: futures that hold less are moved faster.
#[derive(Debug, Default)]
pub enum Asked {
    /// No request has come.
    #[default]
    Nothing,
    /// Of the request itself.
    Here(Method, Uri),
    /// Of the one that it asks about.
    There(Rc<Original>),
}

impl Asked {
    fn method(&self) -> &Method {
        match self {
            Asked::Nothing => &Method::GET,
            Asked::Here(method, _) => method,
            Asked::There(original) => &original.method,
        }
    }

    fn path(&self) -> &str {
        match self {
            Asked::Nothing => "",
            Asked::Here(_, uri) => uri.path(),
            Asked::There(original) => &original.path,
        }
    }
}

impl Exchange {
    /// Begins with the head. With `is_logged` every request is a line.
    #[must_use]
    pub fn new(
        worker: &Rc<Worker>,
        conn: &Rc<Conn>,
        started: Boot,
        request: &mut Request<Incoming>,
        is_logged: bool,
    ) -> Exchange {
        if is_logged {
            let access = Access::begin(request.headers_mut());
            conn.access.replace(Some(Box::new(access)));
        }
        let (method, uri) = (request.method().clone(), request.uri().clone());
        conn.asked.replace(Asked::Here(method, uri));
        Exchange {
            worker: Rc::clone(worker),
            conn: Rc::clone(conn),
            started,
            status: None,
            reason: None,
        }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Boot {
        self.worker.clock.boot()
    }

    fn counters(&self) -> &SideCounters {
        self.worker.counters.of(self.conn.role.side())
    }

    /// The answer broke off.
    pub fn upstream_broke_off(&self, reason: Reason) {
        self.counters().upstream_failed(reason);
        if let Some(stream) = self.conn.as_stream() {
            stream.spoiled();
        }
    }

    /// The caller was given a piece of the answer, or has come for the next one.
    pub fn waits(&self, waits: bool) {
        if let Some(stream) = self.conn.as_stream() {
            stream.waits(waits);
        }
    }

    /// A piece of the answer is on its way.
    pub fn sent(&self, bytes: usize) {
        self.conn.logs(|access| access.sent(bytes));
    }

    /// The last of the answer is on its way.
    pub fn ended(&self) {
        if let Some(stream) = self.conn.as_stream() {
            stream.answered();
        }
    }

    /// Where the request came in.
    #[must_use]
    pub fn conn(&self) -> &Conn {
        &self.conn
    }

    /// The answer's head is known.
    pub fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// It was refused.
    pub fn refused(&mut self, refusal: &Refusal) {
        let reason = refusal.reason;
        self.reason = Some(reason);
        self.counters().refused(reason);
        if matches!(
            reason,
            Reason::UpstreamUnreachable
                | Reason::UpstreamTls
                | Reason::UpstreamProtocol
                | Reason::UpstreamTimeout
        ) {
            self.counters().upstream_failed(reason);
        }
        let asked = self.conn.asked.borrow();
        let asked = (asked.method(), asked.path());
        let log = &self.worker.log;
        log.refused(self.now(), &self.conn, refusal, asked, true);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let now = self.now();
        let took = now.since(self.started);
        self.counters().request(self.status, took);
        let was_tunnel = self.conn.signal.phase() == Phase::Tunnel;
        self.conn.signal.answered(now);
        if was_tunnel {
            self.worker.close(&self.conn);
        } else if self.conn.signal.end_now() {
            self.conn.wake();
        }
        if let Some(access) = self.conn.access.take() {
            let asked = self.conn.asked.borrow();
            let asked = (asked.method().as_str(), asked.path());
            access.write(&self.conn, asked, self.status, self.reason, took);
        }
        // It shares the bytes of the head, which the next one is to be read into.
        self.conn.asked.take();
    }
}

/// The lines on refusals of a data thread, each reason by itself: a flood of one hides no other.
#[derive(Debug)]
pub struct Log([Line; Reason::ALL.len()]);

impl Default for Log {
    fn default() -> Log {
        Log(std::array::from_fn(|_| Line::default()))
    }
}

#[derive(Debug, Default)]
struct Line {
    second: Cell<u64>,
    said: Cell<u32>,
    unsaid: Cell<u64>,
}

fn second_of(now: Boot) -> u64 {
    now.as_nanos() / 1_000_000_000
}

impl Log {
    /// Whether one more line of this reason may be written now; and how many were not since the last
    /// one.
    pub fn may_say(&self, now: Boot, reason: Reason) -> Option<u64> {
        let line = &self.0[reason as usize];
        if line.second.replace(second_of(now)) != second_of(now) {
            line.said.set(0);
        }
        if line.said.get() >= LINES {
            line.unsaid.set(line.unsaid.get() + 1);
            return None;
        }
        line.said.set(line.said.get() + 1);
        Some(line.unsaid.take())
    }

    /// Says what was left unsaid, once the flood of it is over.
    pub fn settle(&self, now: Boot) {
        for (line, reason) in self.0.iter().zip(Reason::ALL) {
            if line.unsaid.get() > 0 && line.second.get() != second_of(now) {
                let unsaid = line.unsaid.take();
                tracing::info!(reason = reason.word(), unsaid, "more of these were refused");
            }
        }
    }

    /// A request was refused, or would have been.
    pub fn refused(
        &self,
        now: Boot,
        conn: &Conn,
        refusal: &Refusal,
        (method, path): (&Method, &str),
        enforced: bool,
    ) {
        if !tracing::enabled!(tracing::Level::INFO) {
            return;
        }
        let Some(unsaid) = self.may_say(now, refusal.reason) else {
            return;
        };
        let what = match enforced {
            true => "refused",
            false => "would be refused, but for inbound.insecure_shadow_mode",
        };
        tracing::info!(
            side = conn.role.side().name(), reason = refusal.reason.word(),
            peer = conn.peer().to_str().ok(), method = %shown(method.as_str()), path = %shown(path),
            detail = %refusal.detail, unsaid, "{what}"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_of_refusals_is_ten_lines_a_second_and_none_is_forgotten() {
        let log = Log::default();
        let at = |ms| Boot::default() + Duration::from_millis(ms);
        let flood = || log.may_say(at(1500), Reason::MissingToken);
        let said: Vec<_> = (0..25).filter_map(|_| flood()).collect();
        assert_eq!(said, [0; 10]);
        assert_eq!(log.may_say(at(1999), Reason::MissingToken), None);
        assert_eq!(log.may_say(at(1999), Reason::BadSignature), Some(0));
        log.settle(at(1999));
        assert_eq!(log.may_say(at(2000), Reason::MissingToken), Some(16));
        assert_eq!(log.may_say(at(2000), Reason::MissingToken), Some(0));
        for _ in 0..10 {
            let _ = log.may_say(at(2000), Reason::MissingToken);
        }
        log.settle(at(3000));
        assert_eq!(log.may_say(at(3000), Reason::MissingToken), Some(0));
    }
}
