//! Connections as they arrive, and what to do when none can.
//!
//! A connection that belongs to no runtime ([`Accepted`]) may be handed to another thread. Where
//! descriptors or memory are short, nobody tries again before a moment has passed
//! ([`Shortage`]); an error that speaks of one connection pauses nothing.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use tokio::net::{TcpListener, UnixListener};
use tokio::time::Instant;

use super::{Io, MemoryListener, Stream};

/// A connection that no runtime has.
pub enum Accepted {
    /// TCP.
    Tcp(std::net::TcpStream),
    /// A Unix socket's.
    Unix(std::os::unix::net::UnixStream),
    /// Anything that needs none: a test's pipe.
    Boxed(Box<dyn Stream>),
}

impl std::fmt::Debug for Accepted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Accepted")
    }
}

impl Accepted {
    /// Takes it from the runtime that accepted it.
    ///
    /// # Errors
    /// The system's.
    pub fn from(io: Io) -> io::Result<Accepted> {
        Ok(match io {
            Io::Tcp(stream) => Accepted::Tcp(stream.into_std()?),
            Io::Unix(stream) => Accepted::Unix(stream.into_std()?),
            Io::Tls(stream) => Accepted::Boxed(stream),
            Io::Boxed(stream) => Accepted::Boxed(stream),
        })
    }

    /// Ties it to the runtime that this is called on.
    ///
    /// # Errors
    /// The system's.
    pub fn start(self) -> io::Result<Io> {
        Ok(match self {
            Accepted::Tcp(stream) => Io::Tcp(tokio::net::TcpStream::from_std(stream)?),
            Accepted::Unix(stream) => Io::Unix(tokio::net::UnixStream::from_std(stream)?),
            Accepted::Boxed(stream) => Io::Boxed(stream),
        })
    }
}

/// A listener at work.
#[derive(Debug)]
pub enum Accept {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
    /// A test's pipe.
    Memory(MemoryListener),
}

impl Accept {
    /// The next connection.
    ///
    /// # Errors
    /// The system's; a pipe's when nobody can connect any more.
    pub async fn accept(&mut self) -> io::Result<Io> {
        match self {
            Accept::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // It fails where the caller has left already, which the first read tells.
                let _ = stream.set_nodelay(true);
                Ok(Io::Tcp(stream))
            }
            Accept::Unix(listener) => Ok(Io::Unix(listener.accept().await?.0)),
            Accept::Memory(MemoryListener(pipes)) => match pipes.recv().await {
                Some(pipe) => Ok(Io::Boxed(Box::new(pipe))),
                None => Err(io::ErrorKind::BrokenPipe.into()),
            },
        }
    }

    /// Whether somebody stands in the queue.
    #[must_use]
    pub fn has_queue(&self) -> bool {
        match self {
            Accept::Tcp(listener) => is_readable(listener),
            Accept::Unix(listener) => is_readable(listener),
            Accept::Memory(MemoryListener(pipes)) => !pipes.is_empty(),
        }
    }

    /// One that stands in the queue already, though the runtime may not have heard of it.
    ///
    /// # Errors
    /// The system's.
    pub fn queued(&mut self) -> io::Result<Option<Accepted>> {
        let accepted = match self {
            Accept::Tcp(listener) => accept(listener).map(|socket| {
                let stream = std::net::TcpStream::from(socket);
                let _ = stream.set_nodelay(true);
                Accepted::Tcp(stream)
            }),
            Accept::Unix(listener) => accept(listener).map(|socket| Accepted::Unix(socket.into())),
            Accept::Memory(MemoryListener(pipes)) => {
                let pipe = pipes.try_recv().ok();
                return Ok(pipe.map(|pipe| Accepted::Boxed(Box::new(pipe))));
            }
        };
        match accepted {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            accepted => accepted.map(Some),
        }
    }
}

fn is_readable(listener: &impl AsFd) -> bool {
    let mut queue = [PollFd::new(listener, PollFlags::IN)];
    matches!(poll(&mut queue, Some(&Timespec::default())), Ok(1..))
}

fn accept(listener: impl AsFd) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(rustix::net::accept_with(listener, flags)?)
}

/// Whether an accept failed for the sake of the one connection that it was to give (accept(2)): the
/// next one may be sound.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::CONNABORTED
                | Errno::INTR
                | Errno::PROTO
                | Errno::PERM
                | Errno::NOPROTOOPT
                | Errno::OPNOTSUPP
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NONET
                | Errno::TIMEDOUT
        )
    )
}

/// Whether it is this machine that has no descriptors or no memory left.
#[must_use]
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}

/// A time without new connections, for want of descriptors or memory: whoever calls waits in the
/// system's queue.
#[derive(Debug, Default)]
pub struct Shortage {
    until: Option<Instant>,
    said: Option<Instant>,
    unsaid: u64,
}

impl Shortage {
    /// How long nobody tries: descriptors come back when connections end.
    const PAUSE: Duration = Duration::from_millis(250);
    /// One line of the log in this time.
    const SAID: Duration = Duration::from_secs(60);

    /// An accept failed. What is short is said, and waited for.
    pub fn met(&mut self, error: &io::Error) {
        if is_of_one_connection(error) {
            tracing::debug!(%error, "a connection ended before it was accepted");
            return;
        }
        let now = Instant::now();
        self.until = Some(now + Shortage::PAUSE);
        if self.said.is_some_and(|said| now - said < Shortage::SAID) {
            self.unsaid += 1;
            return;
        }
        self.said = Some(now);
        let unsaid = std::mem::take(&mut self.unsaid);
        tracing::warn!(%error, unsaid, "no connection can be accepted: callers wait in the queue");
    }

    /// Done when it may be tried again: at once, where nothing is short.
    pub async fn over(&mut self) {
        if let Some(until) = self.until {
            tokio::time::sleep_until(until).await;
            self.until = None;
        }
    }

    /// Something came back: it may be tried again.
    pub fn ended(&mut self) {
        self.until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(errno: Errno) -> io::Error {
        errno.into()
    }

    #[tokio::test(start_paused = true)]
    async fn a_shortage_pauses_for_a_moment_and_a_broken_connection_does_not() {
        let mut shortage = Shortage::default();
        let began = Instant::now();
        for errno in [Errno::CONNABORTED, Errno::PROTO, Errno::HOSTUNREACH] {
            shortage.met(&error(errno));
            shortage.over().await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS] {
            let began = Instant::now();
            assert!(is_shortage(&error(errno)));
            shortage.met(&error(errno));
            shortage.over().await;
            assert!(began.elapsed() >= Shortage::PAUSE, "{errno}");
        }
        let began = Instant::now();
        shortage.met(&error(Errno::MFILE));
        shortage.ended();
        shortage.over().await;
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shortage_is_one_line_a_minute() {
        let mut shortage = Shortage::default();
        let mut lines = 0;
        for _ in 0..480 {
            let before = shortage.said;
            shortage.met(&error(Errno::MFILE));
            lines += usize::from(shortage.said != before);
            shortage.over().await;
        }
        assert_eq!(lines, 2, "two minutes");
    }

    #[tokio::test]
    async fn what_stands_in_the_queue_is_taken_without_a_turn_of_the_runtime() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        listener.set_nonblocking(true).expect("a socket");
        let at = listener.local_addr().expect("bound");
        let mut accept = super::super::Listener::Tcp(listener)
            .start()
            .expect("started");
        assert!(accept.queued().expect("nobody called").is_none());
        assert!(!accept.has_queue());
        let _caller = std::net::TcpStream::connect(at).expect("it listens");
        assert!(accept.has_queue());
        assert!(accept.queued().expect("a connection").is_some());
        assert!(!accept.has_queue());
        assert!(accept.queued().expect("no other").is_none());
    }
}
