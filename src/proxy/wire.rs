//! One connection to an upstream that speaks HTTP/1.1: a request goes out, its answer comes in.
//!
//! There is no task behind it: whoever waits for the answer drives both directions, so that a request
//! costs no channel and no other task's turn. Only an upload that its answer has overtaken goes on in a
//! task of its own.
//!
//! - A server may answer early and close (a 401 or 413 to a long upload). An error of a write is
//!   therefore kept back: what was to be written goes nowhere, and the reading side decides.
//! - The system tells a reset once. After a write that failed, the end of the bytes counts as a break:
//!   an answer that only the close delimits is never taken for whole.
//! - What came while nobody had asked ends the connection.

use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use http::request::Parts;
use tokio::io::AsyncReadExt as _;
use tokio::task::unconstrained;

use super::framing::{Answers, Head, Piece, Violation};
use super::shared;
use super::upload::RequestBody;
use crate::net::Io;
use crate::reason::Reason;
pub use sending::{Sending, Sent};
pub use switched::Switched;

mod sending;
mod switched;

/// What is read at once, at the least and at the most. Bytes.
const STEP: usize = 8 * 1024;
const STEP_MOST: usize = 256 * 1024;
/// The same at the most, where a caller may hold many answers at once. Bytes.
const STEP_OF_MANY: usize = 64 * 1024;
/// What all connections of a thread read at once, as long as each has [`STEP`]. Whoever does not take
/// what was read makes it stay here. Bytes.
const STEPS: usize = 16 * 1024 * 1024;

thread_local! {
    /// The connections of this thread.
    static OPEN: Cell<usize> = const { Cell::new(0) };
}

/// One of this thread's.
#[derive(Debug)]
struct Open;

impl Open {
    fn new() -> Open {
        OPEN.set(OPEN.get() + 1);
        Open
    }

    /// What one of them may read at once. Bytes.
    fn step() -> usize {
        (STEPS / OPEN.get().max(1)).clamp(STEP, STEP_MOST)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        OPEN.set(OPEN.get() - 1);
    }
}

/// Why there is no answer, or no more of it.
#[derive(Debug)]
pub enum Broken {
    /// The other side closed before anything of an answer came.
    Closed,
    /// It closed in the middle of an answer.
    BrokeOff,
    /// The system's word.
    Io(io::Error),
    /// What it sent is not sound HTTP/1.1.
    Unsound(Violation),
    /// The request's body cannot go on.
    Stopped,
    /// Over HTTP/2: its stream, or its connection, ended so.
    Stream(h2::Error),
}

impl Broken {
    /// Whose fault it is.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Broken::Unsound(_) => Reason::UpstreamProtocol,
            Broken::Stream(error) if shared::is_violation(error) => Reason::UpstreamProtocol,
            _ => Reason::UpstreamUnreachable,
        }
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Broken::Closed => f.write_str("the upstream closed the connection before it answered"),
            Broken::BrokeOff => f.write_str("the upstream closed the connection within its answer"),
            Broken::Io(error) => write!(f, "the connection to the upstream broke: {error}"),
            Broken::Unsound(violation) => {
                write!(f, "the upstream's answer is unsound: {violation}")
            }
            Broken::Stopped => f.write_str("the request's body was stopped"),
            Broken::Stream(error) => write!(f, "the upstream's stream broke: {error}"),
        }
    }
}

// Without a source: what an upstream's stream was reset with is no word to a caller's.
impl std::error::Error for Broken {}

/// Whether the other side closed or reset the connection.
#[must_use]
pub fn is_close(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected
            | io::ErrorKind::UnexpectedEof
    )
}

/// The bytes, for both directions.
#[derive(Debug)]
struct Line {
    io: RefCell<Io>,
    /// A write failed: the other side does not listen any more.
    is_deaf: Cell<bool>,
}

/// A connection. Dropped, it closes.
#[derive(Debug)]
pub struct Wire {
    line: Rc<Line>,
    came: BytesMut,
    step: usize,
    /// What `step` may become.
    step_most: usize,
    answers: Answers,
    /// Another request may follow the present answer.
    keeps_alive: bool,
    /// Room for the heads of requests.
    room: Vec<u8>,
    _open: Open,
}

impl Wire {
    /// A connection that nothing was sent over yet.
    #[must_use]
    pub fn new(io: Io) -> Box<Wire> {
        Box::new(Wire {
            line: Rc::new(Line {
                io: RefCell::new(io),
                is_deaf: Cell::new(false),
            }),
            came: BytesMut::new(),
            step: STEP,
            step_most: STEP_MOST,
            answers: Answers::default(),
            keeps_alive: false,
            room: Vec::new(),
            _open: Open::new(),
        })
    }

    /// A request to be sent over it, framed as its head says.
    #[must_use]
    pub fn request(&mut self, parts: &Parts, body: RequestBody) -> Sending {
        Sending::new(
            Rc::clone(&self.line),
            std::mem::take(&mut self.room),
            parts,
            body,
        )
    }

    /// A request of which another connection took nothing.
    #[must_use]
    pub fn request_again(&self, mut unsent: Sending, parts: &Parts) -> Sending {
        unsent.restart(self, parts);
        unsent
    }

    /// Sends and waits for the head of the answer.
    ///
    /// # Errors
    /// There is none.
    pub async fn exchange(&mut self, sending: &mut Sending) -> Result<Head, Broken> {
        self.answers.ask(sending.is_head());
        let head = poll_fn(|cx| {
            match sending.poll(cx) {
                Poll::Ready(Sent::Stopped) => return Poll::Ready(Err(Broken::Stopped)),
                Poll::Ready(Sent::Whole | Sent::Deaf) | Poll::Pending => {}
            }
            self.poll_head(cx)
        })
        .await?;
        self.keeps_alive = head.keeps_alive;
        if sending.has_ended() {
            self.room = sending.take_room();
        }
        Ok(head)
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, Broken>> {
        loop {
            // A first read holds whole heads, but for rare ones.
            if !self.came.is_empty()
                && let Some(head) = self.answers.head(&mut self.came).map_err(Broken::Unsound)?
            {
                return Poll::Ready(Ok(head));
            }
            match ready!(self.poll_fill(cx)) {
                Ok(1..) => {}
                Ok(0) if self.came.is_empty() => return Poll::Ready(Err(Broken::Closed)),
                Ok(0) => return Poll::Ready(Err(Broken::BrokeOff)),
                Err(error) if is_close(&error) && self.came.is_empty() => {
                    return Poll::Ready(Err(Broken::Closed));
                }
                Err(error) => return Poll::Ready(Err(Broken::Io(error))),
            }
        }
    }

    /// The next piece of the answer; `None` after the last one.
    ///
    /// # Errors
    /// The answer is not whole.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Piece>, Broken>> {
        loop {
            let piece = self.answers.piece(&mut self.came);
            if let Some(piece) = piece.map_err(Broken::Unsound)? {
                return Poll::Ready(Ok(Some(piece)));
            }
            if self.answers.has_ended() {
                return Poll::Ready(Ok(None));
            }
            match ready!(self.poll_fill(cx)) {
                Ok(1..) => {}
                Ok(0) if self.answers.is_open() && !self.line.is_deaf.get() => {
                    return Poll::Ready(Ok(None));
                }
                Ok(0) => return Poll::Ready(Err(Broken::BrokeOff)),
                Err(error) => return Poll::Ready(Err(Broken::Io(error))),
            }
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.came.reserve(self.step);
        let room = self.came.capacity() - self.came.len();
        let read = {
            let mut io = self.line.io.borrow_mut();
            let reading = pin!(io.read_buf(&mut self.came));
            ready!(reading.poll(cx))?
        };
        if read == room {
            self.step = (self.step * 2).min(Open::step()).min(self.step_most);
        }
        Poll::Ready(Ok(read))
    }

    /// How much of the answer is still to come, where that is known. Bytes.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        self.answers.left()
    }

    /// Whether the answer is whole, and another request may follow it.
    #[must_use]
    pub fn may_go_on(&self) -> bool {
        self.keeps_alive
            && self.answers.has_ended()
            && self.came.is_empty()
            && !self.line.is_deaf.get()
    }

    /// Reads the present answer in smaller steps: its caller may hold many at once.
    pub fn be_modest(&mut self) {
        self.step_most = STEP_OF_MANY;
    }

    /// Gives back room that an idle connection does not need.
    pub fn rest(&mut self) {
        self.step_most = STEP_MOST;
        if self.step > STEP {
            self.step = STEP;
            self.came = BytesMut::new();
        }
    }

    /// Whether an idle connection is still open and silent.
    #[must_use]
    pub fn is_open(&mut self) -> bool {
        // Whatever this task has read in its turn: else a connection that is closed looks silent.
        let filling = pin!(unconstrained(poll_fn(|cx| self.poll_fill(cx))));
        let mut cx = Context::from_waker(Waker::noop());
        filling.poll(&mut cx).is_pending()
    }

    /// The bytes behind a 101; `None` while an upload holds the connection.
    #[must_use]
    pub fn switch(self) -> Option<Switched> {
        let line = Rc::into_inner(self.line)?;
        Some(Switched::new(line.io.into_inner(), self.came.freeze()))
    }
}

#[cfg(test)]
mod tests;
