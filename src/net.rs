//! Byte streams: one [`Io`] type on both sides, and the [`Net`] they come from.
//!
//! The planes are plain futures over [`Net`]: [`System`] gives sockets, [`Memory`] gives pipes, so
//! that a whole sidecar runs in one paused runtime in tests.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::{RecvFlags, sockopt};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, DuplexStream, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;

use crate::config::Listen;
pub use accept::{Accept, Accepted, Shortage, is_shortage};
pub use secured::Secured;

mod accept;
pub mod proxy_protocol;
mod secured;

/// Unsent bytes that a socket takes where they are few. Bytes.
const UNSENT: u32 = 128 * 1024;

/// Connections that the kernel holds ready for us.
const BACKLOG: i32 = 1024;

/// A stream with something on top: TLS, or a test's pipe.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection's bytes, whatever carries them.
pub enum Io {
    /// A TCP connection.
    Tcp(TcpStream),
    /// A Unix socket's.
    Unix(UnixStream),
    /// TLS of a caller, on one of these.
    Tls(Box<Secured>),
    /// Anything else: TLS of an upstream, a test's pipe.
    Boxed(Box<dyn Stream>),
}

impl std::fmt::Debug for Io {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Io::Tcp(_) => "Tcp",
            Io::Unix(_) => "Unix",
            Io::Tls(_) => "Tls",
            Io::Boxed(_) => "Boxed",
        })
    }
}

macro_rules! each {
    ($io:expr, $inner:ident => $call:expr) => {
        match $io.get_mut() {
            Io::Tcp($inner) => $call,
            Io::Unix($inner) => $call,
            Io::Tls($inner) => $call,
            Io::Boxed($inner) => $call,
        }
    };
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, io => Pin::new(io).poll_read(cx, buf))
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, io => Pin::new(io).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, io => Pin::new(io).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Io::Tcp(io) => io.is_write_vectored(),
            Io::Unix(io) => io.is_write_vectored(),
            Io::Tls(io) => io.is_write_vectored(),
            Io::Boxed(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => Pin::new(io).poll_shutdown(cx))
    }
}

/// A future that stays on its thread.
pub type Local<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Where listeners and connections come from.
pub trait Net: Send + Sync {
    /// Binds a listener.
    ///
    /// # Errors
    /// The system's.
    fn bind(&self, at: &Listen) -> io::Result<Listener>;

    /// Connects to an address.
    fn connect<'a>(&'a self, to: SocketAddr) -> Local<'a, io::Result<Io>>;

    /// Connects to a Unix socket; where there are none, it cannot.
    fn connect_unix<'a>(&'a self, _to: &'a Path) -> Local<'a, io::Result<Io>> {
        Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
    }
}

/// A bound listener, not yet tied to a runtime.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// A Unix socket, and its file.
    Unix(std::os::unix::net::UnixListener, PathBuf),
    /// A test's pipe.
    Memory(SocketAddr, MemoryListener),
}

impl Listener {
    /// Where it listens, for people: `127.0.0.1:8080` or `unix:/run/regent/outbound.sock`.
    #[must_use]
    pub fn address(&self) -> Address {
        match self {
            Listener::Tcp(listener) => listener
                .local_addr()
                .map_or_else(|_| Address::Unix(PathBuf::new()), Address::Tcp),
            Listener::Unix(_, path) => Address::Unix(path.clone()),
            Listener::Memory(address, _) => Address::Tcp(*address),
        }
    }

    /// Ties the listener to the runtime that it is called on.
    ///
    /// # Errors
    /// The system's.
    pub fn start(self) -> io::Result<Accept> {
        Ok(match self {
            Listener::Tcp(listener) => Accept::Tcp(tokio::net::TcpListener::from_std(listener)?),
            Listener::Unix(listener, _) => {
                Accept::Unix(tokio::net::UnixListener::from_std(listener)?)
            }
            Listener::Memory(_, listener) => Accept::Memory(listener),
        })
    }
}

/// A bound address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP, with the port that was really taken.
    Tcp(SocketAddr),
    /// A Unix socket's path.
    Unix(PathBuf),
}

impl Address {
    /// The TCP address, where it is one.
    #[must_use]
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Address::Tcp(address) => Some(*address),
            Address::Unix(_) => None,
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "http://{address}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Io {
    /// The address of a TCP peer; whoever can reach anything else is on this machine.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        match self {
            // One that has left already is nobody's neighbour.
            Io::Tcp(stream) => {
                let gone = SocketAddr::from(([0, 0, 0, 0], 0));
                stream.peer_addr().unwrap_or(gone)
            }
            Io::Tls(stream) => stream.beneath().peer(),
            Io::Unix(_) | Io::Boxed(_) => SocketAddr::from(([127, 0, 0, 1], 0)),
        }
    }

    /// From here on the socket takes few bytes ahead of what it can send. Without that the system takes
    /// megabytes for a reader that takes none of them, and our cgroup pays; with it, large answers cost a
    /// fifth more (measured).
    pub fn holds_little(&self) {
        if let Io::Tcp(stream) = self {
            // Best effort: what it takes is the system's to say.
            let _ = SockRef::from(stream).set_tcp_notsent_lowat(UNSENT);
        }
    }

    /// Reads what is in the socket already, though the runtime has not heard of it yet. Whether
    /// that was anything.
    pub fn read_now(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let read = match self {
            Io::Tcp(stream) => {
                rustix::net::recv(stream, buf.initialize_unfilled(), RecvFlags::DONTWAIT)
            }
            Io::Unix(stream) => {
                rustix::net::recv(stream, buf.initialize_unfilled(), RecvFlags::DONTWAIT)
            }
            Io::Tls(stream) => return stream.read_now(buf),
            Io::Boxed(_) => return false,
        };
        // An end or an error is told the usual way.
        let read = read.map_or(0, |(read, _)| read);
        buf.advance(read);
        read > 0
    }

    /// The protocol that was agreed on with a caller's TLS (ALPN).
    #[must_use]
    pub fn protocol(&self) -> Option<&[u8]> {
        match self {
            Io::Tls(stream) => stream.protocol(),
            _ => None,
        }
    }

    /// Whether something has begun to come that cannot be read before it is whole: a record of TLS.
    #[must_use]
    pub fn is_midway(&self) -> bool {
        matches!(self, Io::Tls(stream) if stream.is_midway())
    }

    /// The first bytes, as many as have come and have room, once any has; they stay to be read. None at
    /// the end, or where that cannot be told.
    ///
    /// # Errors
    /// The system's.
    pub async fn first_bytes<'a>(&self, room: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let there = self.peek(room).await?.unwrap_or(0);
        Ok(&room[..there])
    }

    /// What is there, once anything is; it stays to be read. 0 at the end; `None` where that cannot be
    /// told.
    async fn peek(&self, room: &mut [u8]) -> io::Result<Option<usize>> {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let there = match self {
            Io::Tcp(stream) => {
                let peek = || Ok(rustix::net::recv(stream, &mut *room, flags)?.0);
                stream.async_io(Interest::READABLE, peek).await?
            }
            Io::Unix(stream) => {
                let peek = || Ok(rustix::net::recv(stream, &mut *room, flags)?.0);
                stream.async_io(Interest::READABLE, peek).await?
            }
            Io::Tls(_) | Io::Boxed(_) => return Ok(None),
        };
        Ok(Some(there))
    }

    /// Reads what is there, up to the first `last` with it and at most `most` bytes. What is behind that
    /// stays to be read. How much it was; 0 at the end.
    ///
    /// # Errors
    /// The system's.
    pub async fn read_through(
        &mut self,
        last: u8,
        most: usize,
        into: &mut Vec<u8>,
    ) -> io::Result<usize> {
        let mut room = [0; 512];
        let most = most.min(room.len());
        let take = match self.peek(&mut room[..most]).await? {
            Some(there) => {
                let end = room[..there].iter().position(|byte| *byte == last);
                end.map_or(there, |end| end + 1)
            }
            None => most.min(1),
        };
        let read = self.read(&mut room[..take]).await?;
        into.extend_from_slice(&room[..read]);
        Ok(read)
    }
}

/// The system's sockets.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Net for System {
    fn bind(&self, at: &Listen) -> io::Result<Listener> {
        match at {
            Listen::Tcp(address) => {
                let listener = std::net::TcpListener::bind(address)?;
                // std asks for 128: too short for a burst.
                rustix::net::listen(&listener, BACKLOG)?;
                keep_alive(&listener)?;
                listener.set_nonblocking(true)?;
                Ok(Listener::Tcp(listener))
            }
            Listen::Unix { path, mode } => bind_unix(path, *mode),
        }
    }

    fn connect<'a>(&'a self, to: SocketAddr) -> Local<'a, io::Result<Io>> {
        Box::pin(async move {
            let stream = TcpStream::connect(to).await?;
            stream.set_nodelay(true)?;
            keep_alive(&stream)?;
            Ok(Io::Tcp(stream))
        })
    }

    fn connect_unix<'a>(&'a self, to: &'a Path) -> Local<'a, io::Result<Io>> {
        Box::pin(async move { Ok(Io::Unix(UnixStream::connect(to).await?)) })
    }
}

/// A peer that vanished is noticed within two minutes, however long its exchange may last. Accepted
/// connections have this from their listener.
fn keep_alive(socket: impl AsFd) -> io::Result<()> {
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(&socket, Duration::from_secs(10))?;
    sockopt::set_tcp_keepcnt(&socket, 6)?;
    Ok(())
}

/// Binds beside the path and renames, so that the socket never stands there with a wider mode. A
/// socket that nobody listens on any more is replaced; anything else at the path is left alone.
fn bind_unix(path: &Path, mode: u32) -> io::Result<Listener> {
    if let Ok(there) = std::fs::symlink_metadata(path) {
        let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        let connected = std::os::unix::net::UnixStream::connect(path);
        // A plain file refuses connections too.
        if !there.file_type().is_socket() || !connected.as_ref().is_err_and(refused) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    if beside.exists() {
        std::fs::remove_file(&beside)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(&beside)?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(mode))?;
    std::fs::rename(&beside, path)?;
    listener.set_nonblocking(true)?;
    Ok(Listener::Unix(listener, path.to_owned()))
}

/// The receiving end of [`Memory`].
#[derive(Debug)]
pub struct MemoryListener(mpsc::UnboundedReceiver<DuplexStream>);

/// Pipes in place of sockets: what is bound here can be connected to here, by its address.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<HashMap<SocketAddr, mpsc::UnboundedSender<DuplexStream>>>>);

impl Memory {
    const PIPE: usize = 64 * 1024;

    /// A connection to what is bound at `to`.
    ///
    /// # Errors
    /// `ConnectionRefused` where nothing is.
    pub fn dial(&self, to: SocketAddr) -> io::Result<DuplexStream> {
        let (ours, theirs) = tokio::io::duplex(Memory::PIPE);
        let bound = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bound
            .get(&to)
            .and_then(|listener| listener.send(theirs).ok())
            .ok_or(io::ErrorKind::ConnectionRefused)?;
        Ok(ours)
    }

    /// Nothing listens at `at` any more.
    pub fn unbind(&self, at: SocketAddr) {
        let mut bound = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bound.remove(&at);
    }
}

impl Net for Memory {
    fn bind(&self, at: &Listen) -> io::Result<Listener> {
        let Listen::Tcp(address) = at else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut bound = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bound.insert(*address, sender);
        Ok(Listener::Memory(*address, MemoryListener(receiver)))
    }

    fn connect<'a>(&'a self, to: SocketAddr) -> Local<'a, io::Result<Io>> {
        Box::pin(async move { Ok(Io::Boxed(Box::new(self.dial(to)?))) })
    }
}

#[cfg(test)]
mod tests;
