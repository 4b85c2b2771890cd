//! The stream to an upstream: where it stops listening in the middle of a request, what it said
//! before that is still read.
//!
//! - A server may answer early and close (a 401 or 413 to a long upload). hyper ends a connection at
//!   the first error of a write, and the answer in the socket's buffer with it. So the error is kept
//!   back, what is written later goes nowhere, and the reading side decides.
//! - The system tells a reset once. After a write that failed, the end of the bytes therefore counts
//!   as a break: an answer that only the close delimits is never taken for whole.
//! - Answers pass the strict reading of [`framing`](super::framing): what breaks it is withheld, and
//!   an error takes its place, so that no such answer is ever taken for whole either.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::framing::{Answers, Violation};
use crate::net::Io;

/// A stream whose writing side may fail before its reading side.
#[derive(Debug)]
pub struct LastWords {
    io: Io,
    answers: Answers,
    /// An answer is broken, and all before the break was passed on.
    is_broken: bool,
    is_deaf: bool,
}

impl LastWords {
    /// Wraps a stream that these answers come over.
    #[must_use]
    pub fn new(io: Io, answers: Answers) -> LastWords {
        LastWords {
            io,
            answers,
            is_broken: false,
            is_deaf: false,
        }
    }

    /// Reads what arrived behind `before`, and takes back what must not be seen.
    fn judge(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> io::Result<()> {
        let passed = self.answers.scan(&buf.filled()[before..]);
        buf.set_filled(before + passed.bytes);
        self.is_broken = passed.ends;
        if passed.bytes == 0 {
            return Err(self.broken());
        }
        Ok(())
    }

    fn broken(&self) -> io::Error {
        match self.answers.violation() {
            Some(violation) => io::Error::new(io::ErrorKind::InvalidData, violation),
            None => io::ErrorKind::InvalidData.into(),
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
}

/// What was wrong with the answer, where that ended the stream.
#[must_use]
pub fn violation(error: &(dyn std::error::Error + 'static)) -> Option<Violation> {
    let mut next = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<io::Error>();
        if let Some(inner) = io.and_then(io::Error::get_ref) {
            return inner.downcast_ref().copied();
        }
        next = error.source();
    }
    None
}

/// Whether the other side closed or reset the connection.
#[must_use]
pub fn is_close(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected
    )
}

impl AsyncRead for LastWords {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_broken {
            return Poll::Ready(Err(self.broken()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            return Poll::Ready(self.judge(buf, before));
        }
        if self.is_deaf && buf.remaining() > 0 {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for LastWords {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_deaf {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf));
        Poll::Ready(self.keep_back(buf.len(), written))
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
        Poll::Ready(self.keep_back(length, written))
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
    use std::sync::Arc;

    use super::super::framing::Asked;
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn wrap(io: tokio::io::DuplexStream) -> LastWords {
        let asked = Arc::new(Asked::default());
        asked.begin(false);
        LastWords::new(Io::Boxed(Box::new(io)), Answers::new(asked))
    }

    #[tokio::test]
    async fn what_was_said_before_the_close_is_read_and_the_end_is_a_break() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut stream = wrap(ours);
        theirs.write_all(b"HTTP/1.1 413").await.expect("open");
        drop(theirs);
        stream.write_all(&[0; 1000]).await.expect("kept back");
        stream.flush().await.expect("kept back");
        let mut said = [0; 12];
        stream.read_exact(&mut said).await.expect("still there");
        assert_eq!(&said, b"HTTP/1.1 413");
        let end = stream.read(&mut said).await.expect_err("a break");
        assert_eq!(end.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn what_breaks_the_framing_is_an_error_in_its_place() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut stream = wrap(ours);
        theirs.write_all(b"HTTP/1.1 200 OK\nX").await.expect("open");
        let mut said = Vec::new();
        let end = stream.read_to_end(&mut said).await.expect_err("an error");
        assert_eq!(said, b"HTTP/1.1 200 OK");
        assert_eq!(violation(&end), Some(Violation::LineEnd));
        assert!(!is_close(&end), "no reason to send the request again");
    }

    #[tokio::test]
    async fn an_end_without_a_failed_write_is_an_end() {
        let (ours, theirs) = tokio::io::duplex(64);
        let mut stream = wrap(ours);
        drop(theirs);
        assert_eq!(stream.read(&mut [0; 3]).await.expect("an end"), 0);
    }
}
