//! What the bytes of one HTTP/2 connection tell: how many were sent, whether the upstream has said its
//! settings, which is the first thing that it must say (RFC 9113 section 3.4), and whether h2 would
//! soon have enough of it.
//!
//! The end is told a turn after the last bytes: h2 forgets that an answer was whole when the connection
//! ends before the request does, and so whoever waits for it must have seen it by then.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::Io;
use crate::proxy::heads::{Event, Frame, Heads};
use crate::proxy::wire::is_close;

/// Empty DATA frames that do not end a stream, of the 100 after which h2 ends a connection.
const EMPTY: u32 = 50;

/// How an upstream fell silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// It never said its settings.
    FromTheStart,
    /// It answered nothing any more, and no PING.
    Gone,
}

/// What a connection's bytes have told so far.
#[derive(Default)]
pub struct Tap {
    written: Cell<u64>,
    read: Cell<u64>,
    frames: RefCell<Heads>,
    has_settings: Cell<bool>,
    empty: Cell<u32>,
    silence: Cell<Option<Silence>>,
    /// The task that drives the connection.
    task: Cell<Option<Waker>>,
    /// It is to ask whether the upstream is still there.
    is_curious: Cell<bool>,
    /// Bytes came in the same turn.
    is_fresh: Cell<bool>,
    /// The error that ends it, which the system tells once.
    error: Cell<Option<io::ErrorKind>>,
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tap").finish_non_exhaustive()
    }
}

impl Tap {
    /// Bytes that the system took to send.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written.get()
    }

    /// Bytes that came.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.read.get()
    }

    /// The upstream said nothing in time.
    pub fn fall_silent(&self, silence: Silence) {
        self.silence.set(Some(silence));
    }

    /// Whether it did not.
    #[must_use]
    pub fn silence(&self) -> Option<Silence> {
        self.silence.get()
    }

    /// Lets the connection's task look around.
    pub fn wake(&self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// The task that drives the connection is this one.
    pub fn driven_by(&self, task: &Waker) {
        self.task.set(Some(task.clone()));
    }

    /// Asks the upstream whether it is still there.
    pub fn ask(&self) {
        self.is_curious.set(true);
        self.wake();
    }

    /// Whether that is to be done.
    #[must_use]
    pub fn is_curious(&self) -> bool {
        self.is_curious.take()
    }

    /// Whether the first frame has come, to its end.
    #[must_use]
    pub fn has_settings(&self) -> bool {
        self.has_settings.get()
    }

    /// Whether h2 would soon end the connection for what it has counted since its begin.
    #[must_use]
    pub fn is_worn(&self) -> bool {
        self.empty.get() >= EMPTY
    }

    fn see(&self, bytes: &[u8]) -> io::Result<()> {
        self.read.set(self.read.get() + bytes.len() as u64);
        let mut is_sound = true;
        self.frames.borrow_mut().scan(bytes, |event| match event {
            Event::Begins(frame) if !self.has_settings.get() => {
                is_sound &= (frame.kind, frame.flags, frame.stream) == (Frame::SETTINGS, 0, 0);
            }
            Event::Begins(_) => {}
            Event::Ends(frame) => {
                self.has_settings.set(true);
                self.empty
                    .set(self.empty.get() + u32::from(frame.is_empty_data()));
            }
        });
        match is_sound {
            true => Ok(()),
            false => {
                let why = "what came first is no HTTP/2 settings; where it speaks HTTP/1.1, set upstream_protocol = \"h1\"";
                Err(io::Error::new(io::ErrorKind::InvalidData, why))
            }
        }
    }
}

/// The bytes of a connection, read along.
///
/// A server may answer early and close. An error of a write is therefore kept back: what was to be
/// written goes nowhere, and the reading side decides.
#[derive(Debug)]
pub(super) struct Tapped {
    io: Io,
    tap: Rc<Tap>,
    is_deaf: bool,
}

impl Tapped {
    /// Tells `tap` what goes over `io`.
    #[must_use]
    pub(super) fn new(io: Io, tap: Rc<Tap>) -> Tapped {
        Tapped {
            io,
            tap,
            is_deaf: false,
        }
    }

    /// Keeps back an error that says no more than that the other side has closed.
    fn keep_back<T>(&mut self, instead: T, result: io::Result<T>) -> io::Result<T> {
        match result {
            Err(error) if is_close(&error) => {
                self.is_deaf = true;
                Ok(instead)
            }
            other => other,
        }
    }

    fn wrote(&mut self, all: usize, written: io::Result<usize>) -> io::Result<usize> {
        if let Ok(written) = written {
            self.tap
                .written
                .set(self.tap.written.get() + written as u64);
        }
        self.keep_back(all, written)
    }
}

impl AsyncRead for Tapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(error) = self.tap.error.get() {
            return Poll::Ready(Err(error.into()));
        }
        let before = buf.filled().len();
        let Poll::Ready(read) = Pin::new(&mut self.io).poll_read(cx, buf) else {
            self.tap.is_fresh.set(false);
            return Poll::Pending;
        };
        let came = &buf.filled()[before..];
        if !came.is_empty() {
            self.tap.is_fresh.set(true);
            return Poll::Ready(self.tap.see(came));
        }
        if !self.tap.is_fresh.take() {
            return Poll::Ready(read);
        }
        self.tap.error.set(read.err().map(|error| error.kind()));
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_deaf {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf));
        Poll::Ready(self.wrote(buf.len(), written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum();
        if self.is_deaf {
            return Poll::Ready(Ok(length));
        }
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs));
        Poll::Ready(self.wrote(length, written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_deaf {
            return Poll::Ready(Ok(()));
        }
        let flushed = ready!(Pin::new(&mut self.io).poll_flush(cx));
        Poll::Ready(self.keep_back((), flushed))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_deaf {
            return Poll::Ready(Ok(()));
        }
        let shut = ready!(Pin::new(&mut self.io).poll_shutdown(cx));
        Poll::Ready(self.keep_back((), shut))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &[u8] = &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1];

    #[test]
    fn settings_have_come_when_the_whole_first_frame_has_in_whatever_pieces() {
        for step in 1..=FIRST.len() {
            let tap = Tap::default();
            for (at, piece) in FIRST.chunks(step).enumerate() {
                assert!(!tap.has_settings(), "{step} {at}");
                tap.see(piece).expect("sound");
            }
            assert!(tap.has_settings(), "{step}");
            tap.see(b"anything").expect("not looked at");
        }
    }

    #[test]
    fn what_is_no_settings_frame_is_not_taken_for_http_2() {
        for first in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            &[0, 0, 0, 4, 1, 0, 0, 0, 0],
            &[0, 0, 0, 4, 0, 0, 0, 0, 1],
            &[0, 0, 0, 1, 0, 0, 0, 0, 0],
        ] {
            let seen = Tap::default().see(first);
            let error = seen.expect_err("no HTTP/2");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }
}
