//! The wrapper around a stream that HTTP/2 is spoken on: by the heads of the frames it knows what the
//! connection is doing, and when enough is enough.
//!
//! h2 judges what frames say, and limits what one of them may cost. This counts what it lets pass for
//! ever: frames that are in order and ask for nothing. They cost the connection's
//! [`Patience`]; without any left, the caller is told to calm down.
//!
//! - A head that has begun and does not end is in the phase of one, whatever else is open. A PING is no
//!   head; it says that somebody is there.
//! - A stream is open until its last byte is out, not until h2 has it.
//! - h2 counts some things over a connection's whole life. One that lives for days is told to go before
//!   such a limit cuts it.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::LINGER;
use crate::net::Io;
use crate::proxy::conn::{Command, Conn};
use crate::proxy::heads::{Event, Frame, Heads};
use crate::proxy::signal::Phase;
use crate::proxy::streams::Patience;
use crate::reason::Reason;
use crate::telemetry::counters::Counters;

/// The client's preface (RFC 9113 section 3.4). Bytes.
const PREFACE: usize = 24;
/// Resets for the caller's faults, of the 1024 after which h2 ends a connection.
const RESETS: u32 = 512;
/// Empty DATA frames that do not end a stream, of the 100 that h2 takes.
const EMPTY: u32 = 50;
const DISCARD: u64 = 256 * 1024;
/// What the head of a request costs that comes after the end was told.
const PASSED_OVER: i32 = 4;

/// Why a connection ends (RFC 9113 section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Code {
    NoError = 0,
    ProtocolError = 1,
    InternalError = 2,
    StreamClosed = 5,
    RefusedStream = 7,
    Cancel = 8,
    EnhanceYourCalm = 11,
}

/// The stream; hyper has one handle of it, and the connection's task another.
#[derive(Clone, Debug)]
pub(super) struct Frames(Rc<RefCell<Inner>>);

#[derive(Debug)]
struct Inner {
    io: Io,
    conn: Rc<Conn>,
    counters: Arc<Counters>,
    /// What was read before it was known to be HTTP/2.
    early: Bytes,
    /// Of the preface, still to come. Bytes.
    preface: usize,
    incoming: Heads,
    outgoing: Heads,
    seen: Seen,
    /// The caller had room for nothing more.
    is_stuck: bool,
}

/// What the frames have said so far.
#[derive(Debug, Default)]
struct Seen {
    is_in_head: bool,
    /// The open streams, in order.
    open: Vec<u32>,
    /// The newest stream.
    newest: u32,
    /// Heads of requests.
    heads: u64,
    /// Of these, the ones that h2 refused before there was a request.
    unborn: u64,
    resets: u32,
    empty: u32,
    /// What h2 said at its end.
    farewell: Option<u32>,
    /// The last stream that it takes then.
    last: Option<u32>,
}

impl Frames {
    /// Follows `io`, of which `early` was read already.
    pub(super) fn new(io: Io, early: Bytes, conn: Rc<Conn>, counters: Arc<Counters>) -> Frames {
        Frames(Rc::new(RefCell::new(Inner {
            io,
            conn,
            counters,
            early,
            preface: PREFACE,
            incoming: Heads::default(),
            outgoing: Heads::default(),
            seen: Seen::default(),
            is_stuck: false,
        })))
    }

    /// Whether anything came by now, in the socket too.
    pub(super) fn has_begun(&self) -> bool {
        let mut inner = self.0.borrow_mut();
        if inner.preface < PREFACE || !inner.early.is_empty() {
            return true;
        }
        let mut room = [0; 4096];
        let mut found = ReadBuf::new(&mut room);
        if inner.io.read_now(&mut found) {
            inner.early = Bytes::copy_from_slice(found.filled());
            return true;
        }
        inner.io.is_midway()
    }

    /// The error that h2 told the caller of at its end.
    pub(super) fn told(&self) -> Option<u32> {
        let told = self.0.borrow().seen.farewell;
        told.filter(|code| *code != Code::NoError as u32)
    }

    /// Whether the caller has used up the connection's patience.
    pub(super) fn is_enough(&self) -> bool {
        self.0.borrow().is_enough()
    }

    /// Closes, once hyper has let go of it. With `code` the caller is told so, where no frame is cut by
    /// it. What it still sends after an error is discarded for a while: a reset would take that from it.
    pub(super) async fn close(self, code: Option<Code>) {
        let Ok(inner) = Rc::try_unwrap(self.0) else {
            return;
        };
        let Inner {
            mut io,
            outgoing,
            seen,
            ..
        } = inner.into_inner();
        let closing = async {
            if let Some(code) = code
                && outgoing.is_between()
            {
                io.write_all(&goaway(seen.newest, code)).await?;
            }
            io.shutdown().await?;
            if code != Some(Code::NoError) {
                tokio::io::copy(&mut io.take(DISCARD), &mut tokio::io::sink()).await?;
            }
            io::Result::Ok(())
        };
        let _ = tokio::time::timeout(LINGER, closing).await;
    }
}

fn goaway(newest: u32, code: Code) -> [u8; 17] {
    let mut frame = [
        0,
        0,
        8,
        Frame::GOAWAY,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    frame[9..13].copy_from_slice(&newest.to_be_bytes());
    frame[13..].copy_from_slice(&(code as u32).to_be_bytes());
    frame
}

/// What a caller's frame costs: most are a line of work, SETTINGS go over every stream, and who opens
/// a window by a few bytes asks for frames of a few bytes.
fn cost(frame: Frame) -> i32 {
    const SMALL: u32 = 16;
    match frame.kind {
        Frame::DATA if frame.is_empty_data() => 1,
        Frame::DATA | Frame::HEADERS => 0,
        Frame::SETTINGS if frame.flags & 1 == 0 => 8,
        Frame::WINDOW_UPDATE if frame.words[0] & 0x7fff_ffff < SMALL => 4,
        _ => 1,
    }
}

const NO_ERROR: u32 = Code::NoError as u32;
const INTERNAL_ERROR: u32 = Code::InternalError as u32;
const STREAM_CLOSED: u32 = Code::StreamClosed as u32;
const REFUSED_STREAM: u32 = Code::RefusedStream as u32;
const CANCEL: u32 = Code::Cancel as u32;

/// What a reset of ours costs the caller: nothing where it is not its fault.
fn cost_of_reset(code: u32) -> i32 {
    match code {
        NO_ERROR | INTERNAL_ERROR | CANCEL => 0,
        // What was on its way when we answered early.
        STREAM_CLOSED => 1,
        // Before our SETTINGS come, nobody knows how many may be opened.
        REFUSED_STREAM => 4,
        _ => Patience::ANSWER,
    }
}

/// Why h2 refused a head with a reset of this code.
fn refused_by_reset(code: u32) -> Option<Reason> {
    match code {
        NO_ERROR | INTERNAL_ERROR | CANCEL | STREAM_CLOSED => None,
        REFUSED_STREAM => Some(Reason::Overloaded),
        _ => Some(Reason::BadRequest),
    }
}

/// What a frame of ours restores: somebody takes what we have.
fn gain(frame: Frame) -> i32 {
    match frame.kind {
        Frame::DATA => 2 + i32::try_from(frame.length / 32).unwrap_or(i32::MAX / 2),
        _ => 0,
    }
}

impl Seen {
    /// A frame of the caller's.
    fn came(&mut self, event: Event, patience: &Patience) {
        match event {
            Event::Begins(frame) if frame.kind == Frame::HEADERS => {
                self.is_in_head = true;
                if self.last.is_some_and(|last| frame.stream > last) {
                    patience.spend(PASSED_OVER);
                } else if frame.stream > self.newest {
                    self.newest = frame.stream;
                    self.heads += 1;
                    self.open.push(frame.stream);
                } else {
                    // Trailers; or for a stream that was reset, and passed over too.
                    patience.spend(1);
                }
            }
            Event::Begins(_) => {}
            Event::Ends(frame) => {
                patience.spend(cost(frame));
                if frame.ends_head() {
                    self.is_in_head = false;
                }
                match frame.kind {
                    Frame::RST_STREAM => self.ended(frame.stream),
                    Frame::DATA if frame.is_empty_data() => self.empty += 1,
                    _ => {}
                }
            }
        }
    }

    /// A frame of ours is out. Why h2 refused a head with it that became no request; there were `begun`
    /// of these so far.
    fn went(&mut self, event: Event, patience: &Patience, begun: u64) -> Option<Reason> {
        let Event::Ends(frame) = event else {
            return None;
        };
        patience.earn(gain(frame));
        if frame.ends_stream() {
            self.ended(frame.stream);
        }
        let refused = match frame.kind {
            Frame::GOAWAY => {
                let [last, why] = frame.words;
                (self.last, self.farewell) = (Some(last), Some(why));
                return None;
            }
            Frame::RST_STREAM => {
                self.ended(frame.stream);
                let cost = cost_of_reset(frame.words[0]);
                patience.spend(cost);
                self.resets += u32::from(cost > 0);
                refused_by_reset(frame.words[0])?
            }
            // Its 431 has nothing but the status; all of ours have more.
            Frame::HEADERS if frame.ends_stream() && frame.length <= 5 => Reason::HeadersTooLarge,
            _ => return None,
        };
        if self.heads == begun + self.unborn {
            return None;
        }
        self.unborn += 1;
        if refused == Reason::HeadersTooLarge {
            patience.spend(Patience::ANSWER);
        }
        Some(refused)
    }

    fn ended(&mut self, stream: u32) {
        if let Ok(at) = self.open.binary_search(&stream) {
            self.open.remove(at);
        }
    }

    /// Whether h2 would soon end the connection for what it has counted since its begin.
    fn is_worn(&self) -> bool {
        self.resets >= RESETS || self.empty >= EMPTY
    }
}

impl Inner {
    fn is_enough(&self) -> bool {
        let streams = self.conn.streams();
        streams.is_some_and(|streams| streams.patience.is_over())
    }

    fn came(&mut self, bytes: &[u8]) {
        let preface = self.preface.min(bytes.len());
        self.preface -= preface;
        let Some(streams) = self.conn.streams() else {
            return;
        };
        let mut ended = false;
        let seen = &mut self.seen;
        self.incoming.scan(&bytes[preface..], |event| {
            ended |= matches!(event, Event::Ends(_));
            seen.came(event, &streams.patience);
        });
        self.settle(ended);
    }

    fn went(&mut self, bytes: &[u8]) {
        let Some(streams) = self.conn.streams() else {
            return;
        };
        let mut ended = false;
        let counters = self.counters.of(self.conn.role.side());
        let seen = &mut self.seen;
        self.outgoing.scan(bytes, |event| {
            ended |= matches!(event, Event::Ends(_));
            if event.carries() {
                streams.moves();
            }
            if let Some(reason) = seen.went(event, &streams.patience, streams.begun()) {
                counters.refused(reason);
            }
        });
        self.settle(ended);
    }

    /// Tells whether the caller had room.
    fn wrote<T>(&mut self, written: Poll<T>) -> Poll<T> {
        if written.is_pending() != self.is_stuck {
            self.is_stuck = !self.is_stuck;
            match self.is_stuck {
                true => self.conn.signal.sticks(),
                false => self.conn.signal.moves(),
            }
        }
        written
    }

    /// Says what the connection does; with `moved`, that it does it now.
    fn settle(&mut self, moved: bool) {
        if self.preface == PREFACE {
            // Nothing has come; our SETTINGS change nothing.
            return;
        }
        let signal = &self.conn.signal;
        let phase = match self.seen.open.is_empty() {
            _ if self.preface > 0 || self.seen.is_in_head => Phase::Head,
            true => Phase::Idle,
            false => Phase::Streams,
        };
        // Whoever was told to go has its moment once.
        let lasts = moved && phase == Phase::Idle && self.conn.told() == Command::Run;
        if phase != signal.phase() || lasts {
            signal.enter(phase);
        }
        if self.seen.is_worn() && self.conn.told() == Command::Run {
            self.conn.tell(Command::Drain);
        }
    }
}

impl AsyncRead for Frames {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        let inner = &mut *inner;
        let before = buf.filled().len();
        if inner.early.is_empty() {
            ready!(Pin::new(&mut inner.io).poll_read(cx, buf))?;
        } else {
            let here = inner.early.len().min(buf.remaining());
            buf.put_slice(&inner.early.split_to(here));
        }
        let came = &buf.filled()[before..];
        if !came.is_empty() {
            inner.came(came);
        }
        match inner.is_enough() {
            true => Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into())),
            false => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Frames {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.0.borrow_mut();
        let written = Pin::new(&mut inner.io).poll_write(cx, buf);
        let written = ready!(inner.wrote(written))?;
        inner.went(&buf[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.0.borrow_mut();
        let written = Pin::new(&mut inner.io).poll_write_vectored(cx, bufs);
        let written = ready!(inner.wrote(written))?;
        let mut left = written;
        for buf in bufs {
            let here = left.min(buf.len());
            inner.went(&buf[..here]);
            left -= here;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.0.borrow().io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        let flushed = Pin::new(&mut inner.io).poll_flush(cx);
        if flushed.is_pending() && inner.is_stuck {
            // As in `Observed`: TLS has written something.
            inner.conn.signal.sticks();
        }
        inner.wrote(flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().io).poll_shutdown(cx)
    }
}
