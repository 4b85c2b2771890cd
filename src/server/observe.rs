//! The wrapper around every accepted stream: it tells the connection's [`Signal`] what its bytes do.
//!
//! - Every byte up to a tunnel passes the strict reading of [`framing`](crate::proxy::framing)
//!   before hyper sees it. What breaks it within a body is withheld, and an error takes its place.
//! - A request line that alone is longer than a head may be ends the reading: hyper has no answer of
//!   its own for that, so whoever serves the connection gives one.
//! - The first bytes after an idle time begin a head.
//! - Before a drain closes what is idle, the socket itself is asked for a request.
//! - Where the caller has no room for what it is sent, the sweeper counts for how long.
//! - The end of the caller's bytes is held back while its request is being answered: it may have
//!   closed its sending half only, and hyper would take that for a disconnect.
//! - After an answer that came before the end of its request, or was the last one, the close
//!   discards what still comes, up to 256 KiB: a reset would take the answer from the caller.
//! - Where a connection without TLS begins as HTTP/2 does, hyper is told of an error, and gives the
//!   stream back as it is.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::Io;
use crate::proxy::framing::Requests;
use crate::proxy::signal::{Phase, Signal};

const DISCARD: usize = 256 * 1024;
/// How a connection of HTTP/2 begins, as far as nothing of HTTP/1.1 does (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2";

/// An observed stream.
#[derive(Debug)]
pub struct Observed {
    io: Io,
    signal: Arc<Signal>,
    requests: Requests,
    /// A body is broken, and all before the break was passed on.
    is_broken: bool,
    is_shut: bool,
    /// The most bytes of a head.
    limit: usize,
    /// The request line alone has more.
    is_too_long: bool,
    /// The caller had room for nothing more.
    is_stuck: bool,
    discarded: usize,
    /// So many bytes came, and all are the preface's; `None` once they are not.
    preface: Option<u8>,
    /// What was read and withheld since the preface is known for one.
    withheld: Option<Box<[u8]>>,
}

impl Observed {
    /// Observes `io`, on which a head has `limit` bytes at most. With TLS, what is spoken has been
    /// agreed on.
    #[must_use]
    pub fn new(io: Io, signal: Arc<Signal>, limit: usize) -> Observed {
        Observed {
            preface: (!matches!(io, Io::Tls(_))).then_some(0),
            withheld: None,
            io,
            signal,
            requests: Requests::default(),
            is_broken: false,
            is_shut: false,
            limit,
            is_too_long: false,
            is_stuck: false,
            discarded: 0,
        }
    }

    /// The stream, and what was read of it last, where HTTP/2 is spoken on it.
    pub(super) fn into_http2(self) -> Option<(Io, Box<[u8]>)> {
        Some((self.io, self.withheld?))
    }

    /// Whether the reading ended for a request line that is too long. The answer to it is the
    /// connection's last, and written by whoever asks this.
    pub(super) fn is_too_long(&mut self) -> bool {
        let is_too_long = std::mem::take(&mut self.is_too_long);
        if is_too_long {
            self.signal.last_answer();
        }
        is_too_long
    }

    /// Whether the connection begins as HTTP/2 does, with these bytes behind those that came before.
    fn is_http2(&mut self, bytes: &[u8]) -> bool {
        let Some(came) = self.preface else {
            return false;
        };
        let rest = &PREFACE[usize::from(came)..];
        let more = rest.len().min(bytes.len());
        self.preface = (rest[..more] == bytes[..more]).then(|| came + more as u8);
        self.preface.is_some() && more == rest.len()
    }

    /// Bytes come. What is left of a body may follow an early answer, and is no head.
    fn arrived(&self) {
        if !self.requests.is_in_body() {
            self.signal.arrived();
        }
    }

    /// Reads what arrived behind `before`, and takes back what must not be seen.
    fn judge(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> io::Result<()> {
        if self.is_http2(&buf.filled()[before..]) {
            self.withheld = Some(buf.filled()[before..].into());
            buf.set_filled(before);
            return Err(io::ErrorKind::Unsupported.into());
        }
        let passed = self.requests.scan(&buf.filled()[before..]);
        self.signal.read(
            self.requests.approved(),
            self.requests.violation(),
            self.requests.is_in_head(),
        );
        // Not while something else is still being written: that would be cut, and hyper says
        // something of its own.
        let is_alone = self.signal.phase() == Phase::Head && !self.is_stuck;
        if self.requests.has_line_over(self.limit) && is_alone {
            self.is_too_long = true;
            buf.set_filled(before);
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        buf.set_filled(before + passed.bytes);
        self.is_broken = passed.ends;
        if passed.bytes == 0 {
            return Err(self.broken());
        }
        Ok(())
    }

    fn broken(&self) -> io::Error {
        match self.requests.violation() {
            Some(violation) => io::Error::new(io::ErrorKind::InvalidData, violation),
            None => io::ErrorKind::InvalidData.into(),
        }
    }

    /// Tells whether the caller had room.
    fn wrote<T>(&mut self, written: Poll<T>) -> Poll<T> {
        if written.is_pending() != self.is_stuck {
            self.is_stuck = !self.is_stuck;
            match self.is_stuck {
                true => self.signal.sticks(),
                false => self.signal.moves(),
            }
        }
        written
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut room = [0; 4096];
        while self.discarded < DISCARD {
            let mut buf = ReadBuf::new(&mut room);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
            match buf.filled().len() {
                0 => break,
                read => self.discarded += read,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Observed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_broken {
            return Poll::Ready(Err(self.broken()));
        }
        let before = buf.filled().len();
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Pending if self.signal.looks() => {
                if !self.io.read_now(buf) {
                    if self.io.is_midway() {
                        // A request may be in it.
                        self.arrived();
                    }
                    return Poll::Pending;
                }
            }
            // Many a caller ends without TLS's close; between two requests that cuts none.
            Poll::Ready(Err(error))
                if error.kind() == io::ErrorKind::UnexpectedEof && self.requests.is_between() => {}
            read => ready!(read)?,
        }
        if buf.filled().len() > before {
            self.arrived();
            if self.signal.phase() != Phase::Tunnel {
                return Poll::Ready(self.judge(buf, before));
            }
        } else if buf.remaining() > 0 && !self.signal.may_end() {
            // The connection's task is woken when the answer is out, or by the sweeper.
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Observed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        if flushed.is_pending() && self.is_stuck {
            // TLS goes on with what it holds whenever there is room: this was one of these times.
            self.signal.sticks();
        }
        self.wrote(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper gives these back as they are.
        if self.withheld.is_some() || self.is_too_long {
            return Poll::Ready(Ok(()));
        }
        if !self.is_shut {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            self.is_shut = true;
        }
        if self.signal.closing() {
            return self.poll_discard(cx);
        }
        Poll::Ready(Ok(()))
    }
}
