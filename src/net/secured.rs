//! TLS of a caller, once it is agreed on.
//!
//! Two things matter here that TLS hides: whether a record has begun to come, for a request may be in
//! it, and whether a caller that ends without saying so may have ended in the middle of one.

use std::io::{self, Read as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Io;

/// An encrypted stream.
#[derive(Debug)]
pub struct Secured(TlsStream<Raw>);

/// What is beneath it.
#[derive(Debug)]
struct Raw {
    io: Io,
    /// Bytes came, of which nobody has seen what they say.
    is_midway: bool,
}

impl Secured {
    /// Shakes hands.
    ///
    /// # Errors
    /// rustls' word, or the system's.
    pub async fn agree(acceptor: TlsAcceptor, io: Io) -> io::Result<Secured> {
        let raw = Raw {
            io,
            is_midway: false,
        };
        let mut stream = acceptor.accept(raw).await?;
        stream.get_mut().0.is_midway = false;
        Ok(Secured(stream))
    }

    /// The protocol that was agreed on with it (ALPN).
    pub(super) fn protocol(&self) -> Option<&[u8]> {
        self.0.get_ref().1.alpn_protocol()
    }

    /// What carries it.
    pub(super) fn beneath(&self) -> &Io {
        &self.0.get_ref().0.io
    }

    /// Whether a record has begun to come, and is not whole yet.
    pub(super) fn is_midway(&self) -> bool {
        self.0.get_ref().0.is_midway
    }

    /// [`Io::read_now`], through TLS.
    pub(super) fn read_now(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let (raw, session) = self.0.get_mut();
        loop {
            let mut room = [0; 4096];
            let mut found = ReadBuf::new(&mut room);
            if !raw.io.read_now(&mut found) {
                return false;
            }
            raw.is_midway = true;
            let mut bytes = found.filled();
            while !bytes.is_empty() {
                // What is wrong with them is told with the next read.
                if session.read_tls(&mut bytes).is_err() || session.process_new_packets().is_err() {
                    return false;
                }
            }
            let read = session.reader().read(buf.initialize_unfilled());
            if let Ok(read @ 1..) = read {
                buf.advance(read);
                raw.is_midway = false;
                return true;
            }
        }
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.0).poll_read(cx, buf));
        if buf.filled().len() > before {
            self.0.get_mut().0.is_midway = false;
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl AsyncRead for Raw {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        self.is_midway |= buf.filled().len() > before;
        Poll::Ready(read)
    }
}

impl AsyncWrite for Raw {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
