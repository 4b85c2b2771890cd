//! A request's body on its way up.
//!
//! - While it streams it is recorded, up to what is to be [`Kept`]. A replay is the recorded part
//!   followed by what is still to come, so the body need not have ended, only not overflowed.
//! - The live body sits in a slot that all sendings of one request share; the newest sending owns
//!   it, an older one ends in an error.
//! - It remembers whose fault an end was: a caller's broken chunk is no upstream failure.
//! - [`Upload::abort`] ends it from outside, once nobody waits for what it uploads any more.
//! - It tells the caller's connection where the body ends.
//! - It knows since which sweep it waits for its caller, and ends where nothing comes for too long. A
//!   caller need send nothing while its answer goes on.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::signal::Signal;
use crate::clock::Boot;

/// What is kept of a body as it came: each piece holds the buffer that it was read into.
const PIECES: usize = 16;

/// Why a body ended early, where the caller is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It broke off, or its chunks are malformed.
    Broken,
    /// It is longer than `limits.body_bytes`.
    TooLarge,
    /// Nothing of it came for `limits.idle_timeout`.
    Slow,
}

/// Whether the caller is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    /// It is not.
    No,
    /// It is, for no longer than since the last sweep.
    Lately,
    /// The first sweep that saw it was then.
    Since(Boot),
}

/// What a sending ends in when its body cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the request's body was stopped")
    }
}

impl std::error::Error for Stopped {}

/// How much of a body is kept. Bytes; 0: nothing.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// For a replay after an answer.
    pub replay: u64,
    /// For another sending where the upstream did nothing with the first one.
    pub resend: u64,
}

/// One request's body, shared by its sendings.
#[derive(Debug)]
pub struct Upload(RefCell<Inner>);

#[derive(Debug)]
struct Inner {
    live: Incoming,
    signal: Arc<Signal>,
    length: Option<u64>,
    /// What came so far, while it can be replayed: the first pieces, and then all others in one.
    recorded: Vec<Bytes>,
    rest: Vec<u8>,
    received: u64,
    kept: Kept,
    body_limit: Option<u64>,
    overflowed: bool,
    ended: bool,
    ended_at: Option<Instant>,
    fault: Option<Fault>,
    /// The sending that owns the live body.
    owner: u32,
    aborted: bool,
    waiting: Option<Waker>,
    awaited: Awaited,
    /// The answer has begun.
    is_answered: bool,
}

impl Upload {
    /// A body of which this is kept, and which may have `body_limit` bytes.
    #[must_use]
    pub fn new(
        live: Incoming,
        kept: Kept,
        body_limit: Option<u64>,
        signal: Arc<Signal>,
    ) -> Rc<Upload> {
        let length = live.size_hint().exact();
        Rc::new(Upload(RefCell::new(Inner {
            live,
            signal,
            length,
            recorded: Vec::new(),
            rest: Vec::new(),
            received: 0,
            body_limit,
            // What is known to be too long for a replay is not kept for one.
            overflowed: kept.resend == 0
                && (kept.replay == 0 || length.is_some_and(|length| length > kept.replay)),
            kept,
            ended: false,
            ended_at: None,
            fault: None,
            owner: 0,
            aborted: false,
            waiting: None,
            awaited: Awaited::No,
            is_answered: false,
        })))
    }

    /// The length that the caller gave, where it did. Bytes.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.0.borrow().length
    }

    /// A sending of the whole body; earlier ones end.
    #[must_use]
    pub fn sending(self: &Rc<Upload>) -> RequestBody {
        let (owner, waiting) = {
            let mut inner = self.0.borrow_mut();
            inner.owner += 1;
            (inner.owner, inner.waiting.take())
        };
        // An earlier sending that waits must learn that it is over, or its connection stays.
        if let Some(waker) = waiting {
            waker.wake();
        }
        RequestBody(Some(Sending {
            owner,
            upload: Rc::clone(self),
            next: 0,
            sent: 0,
        }))
    }

    /// Whether all that came so far is still here, and no more than a replay may have.
    #[must_use]
    pub fn is_replayable(&self) -> bool {
        let inner = self.0.borrow();
        let known = inner.length.unwrap_or(0).max(inner.received);
        inner.is_sound() && !inner.overflowed && known <= inner.kept.replay
    }

    /// Whether all that came so far is still here, which nothing is too.
    #[must_use]
    pub fn is_resendable(&self) -> bool {
        let inner = self.0.borrow();
        inner.is_sound() && (!inner.overflowed || inner.received == 0)
    }

    /// When the whole body had come.
    #[must_use]
    pub fn ended_at(&self) -> Option<Instant> {
        self.0.borrow().ended_at
    }

    /// The caller's fault, where there is one.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        self.0.borrow().fault
    }

    /// The answer has begun, or goes on: whoever takes it may have nothing to send meanwhile.
    pub fn answered(&self) {
        let mut inner = self.0.borrow_mut();
        inner.is_answered = true;
        if inner.awaited != Awaited::No {
            inner.awaited = Awaited::Lately;
        }
    }

    /// A sweep came by. Where the caller has sent nothing for `limit` though it was waited for, the body
    /// ends as its fault; whether that comes too late for an answer, and the caller is to be cut.
    #[must_use]
    pub fn sweep(&self, now: Boot, limit: Duration) -> bool {
        let waiting = {
            let mut inner = self.0.borrow_mut();
            match inner.awaited {
                _ if inner.aborted => return false,
                Awaited::No => return false,
                Awaited::Lately => {
                    inner.awaited = Awaited::Since(now);
                    return false;
                }
                Awaited::Since(since) if now.since(since) <= limit => return false,
                Awaited::Since(_) if inner.is_answered => return true,
                Awaited::Since(_) => {}
            }
            inner.awaited = Awaited::No;
            inner.fault = Some(Fault::Slow);
            inner.waiting.take()
        };
        if let Some(waker) = waiting {
            waker.wake();
        }
        false
    }

    /// Ends whatever sending is under way.
    pub fn abort(&self) {
        let waiting = {
            let mut inner = self.0.borrow_mut();
            inner.aborted = true;
            inner.forget();
            inner.waiting.take()
        };
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

/// What hyper sends: nothing, or one sending of an [`Upload`].
#[derive(Debug)]
pub struct RequestBody(Option<Sending>);

impl RequestBody {
    /// No body.
    #[must_use]
    pub fn empty() -> RequestBody {
        RequestBody(None)
    }
}

#[derive(Debug)]
struct Sending {
    upload: Rc<Upload>,
    owner: u32,
    /// The next recorded piece to send.
    next: usize,
    /// What of the rest was sent. Bytes.
    sent: usize,
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = Stopped;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Stopped>>> {
        let Some(sending) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let mut inner = sending.upload.0.borrow_mut();
        if inner.aborted || inner.owner != sending.owner || inner.fault.is_some() {
            return Poll::Ready(Some(Err(Stopped)));
        }
        if let Some(piece) = inner.recorded.get(sending.next) {
            sending.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(piece.clone()))));
        }
        if let Some(rest) = inner.rest.get(sending.sent..)
            && !rest.is_empty()
        {
            let rest = Bytes::copy_from_slice(rest);
            sending.sent += rest.len();
            return Poll::Ready(Some(Ok(Frame::data(rest))));
        }
        let frame = inner.poll_live(cx);
        (sending.next, sending.sent) = (inner.recorded.len(), inner.rest.len());
        frame
    }

    fn is_end_stream(&self) -> bool {
        let Some(sending) = &self.0 else {
            return true;
        };
        let inner = sending.upload.0.borrow();
        let is_sent = sending.next >= inner.recorded.len() && sending.sent >= inner.rest.len();
        inner.ended && is_sent
    }

    fn size_hint(&self) -> SizeHint {
        let Some(sending) = &self.0 else {
            return SizeHint::with_exact(0);
        };
        // Asked once, before the first frame: the length of the whole.
        let length = sending.upload.length();
        length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Inner {
    fn poll_live(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Stopped>>> {
        let data = loop {
            let frame = match Pin::new(&mut self.live).poll_frame(cx) {
                Poll::Pending => {
                    self.waiting = Some(cx.waker().clone());
                    if self.awaited == Awaited::No {
                        self.awaited = Awaited::Lately;
                    }
                    return Poll::Pending;
                }
                Poll::Ready(None) => {
                    self.end();
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(_))) => return self.fail(Fault::Broken),
                Poll::Ready(Some(Ok(frame))) => frame,
            };
            // A caller's trailers are dropped: they could never have been judged with the head.
            if let Ok(data) = frame.into_data() {
                break data;
            }
        };
        self.awaited = Awaited::No;
        self.received = self.received.saturating_add(data.len() as u64);
        if self.body_limit.is_some_and(|limit| self.received > limit) {
            return self.fail(Fault::TooLarge);
        }
        if self.live.is_end_stream() {
            self.end();
        }
        self.record(&data);
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_sound(&self) -> bool {
        self.fault.is_none() && !self.aborted
    }

    fn end(&mut self) {
        if !self.ended {
            self.ended = true;
            self.awaited = Awaited::No;
            self.ended_at = Some(Instant::now());
            self.signal.body_ended();
        }
    }

    fn record(&mut self, data: &Bytes) {
        if self.overflowed {
            return;
        }
        if self.received > self.kept.replay.max(self.kept.resend) {
            self.overflowed = true;
            self.forget();
        } else if self.recorded.len() < PIECES {
            self.recorded.push(data.clone());
        } else {
            self.rest.extend_from_slice(data);
        }
    }

    fn forget(&mut self) {
        (self.recorded, self.rest) = (Vec::new(), Vec::new());
    }

    fn fail(&mut self, fault: Fault) -> Poll<Option<Result<Frame<Bytes>, Stopped>>> {
        self.fault = Some(fault);
        Poll::Ready(Some(Err(Stopped)))
    }
}
