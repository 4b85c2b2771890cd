//! One downstream connection: what its task is told, and what is to end.
//!
//! It is registered with its [`Worker`] from the accept to the end: the sweeper reads its phase, the
//! drain waits for it. A stream of HTTP/2 is one too, beneath the connection that it came over: so its
//! exchange is begun, told and ended like any other.

use std::cell::{Cell, OnceCell, Ref, RefCell};
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::Notify;

use super::Role;
use super::access::Access;
use super::exchange::Asked;
use super::signal::{Phase, Signal};
use super::streams::{Stream, Streams};
use super::upload::Upload;
use super::worker::Worker;
use crate::clock::Boot;

/// What a connection's task is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Go on.
    Run,
    /// End when the present request is answered.
    Drain,
    /// End now.
    Close,
}

/// A connection's place in the registry. Given back when dropped, but for a tunnel, which keeps it
/// until its own end.
#[derive(Debug)]
pub struct Opened(pub(super) Rc<Worker>, pub(super) Rc<Conn>);

impl Opened {
    /// The connection.
    #[must_use]
    pub fn conn(&self) -> &Rc<Conn> {
        &self.1
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if self.1.signal.phase() != Phase::Tunnel {
            self.0.close(&self.1);
        }
    }
}

/// What HTTP/2 adds.
#[derive(Debug)]
enum Http2 {
    Connection(Streams),
    Stream(Stream),
}

/// One downstream connection, or one stream of it.
#[derive(Debug)]
pub struct Conn {
    key: Cell<Option<usize>>,
    /// Where it came in.
    pub role: Role,
    /// The caller's address.
    peer: RefCell<HeaderValue>,
    /// It begins with a header that says who calls.
    pub announces: bool,
    /// When what is under way ends, whatever it is.
    pub ends_at: Cell<Option<Boot>>,
    /// Sweeps since then.
    overdue: Cell<u8>,
    /// What is under way is to end, or was cut.
    over: Notify,
    /// Shared with its bytes.
    pub signal: Arc<Signal>,
    command: Cell<Command>,
    waker: OnceCell<Waker>,
    /// Empty for HTTP/1.1.
    http2: OnceCell<Box<Http2>>,
    /// What the request at hand is about, for the log.
    pub(super) asked: RefCell<Asked>,
    /// What is kept of it for its line, where every request is one.
    pub(super) access: RefCell<Option<Box<Access>>>,
    /// The body that the caller is to send, where it may not idle. Held by those who send it on: hyper
    /// goes by its end.
    upload: RefCell<Weak<Upload>>,
}

impl Conn {
    /// One that has just been accepted, at this place of the registry.
    pub(super) fn new(key: usize, role: Role, peer: IpAddr, announces: bool, now: Boot) -> Conn {
        Conn {
            announces,
            ..Conn::at(key, role, address(peer), now)
        }
    }

    /// A stream of `parent` that has just been opened, at this place of the registry.
    pub(super) fn stream(key: usize, parent: &Rc<Conn>, now: Boot) -> Conn {
        let stream = Http2::Stream(Stream::new(Rc::clone(parent), now));
        Conn {
            http2: OnceCell::from(Box::new(stream)),
            ..Conn::at(key, parent.role, parent.peer().clone(), now)
        }
    }

    fn at(key: usize, role: Role, peer: HeaderValue, now: Boot) -> Conn {
        Conn {
            role,
            peer: RefCell::new(peer),
            announces: false,
            ends_at: Cell::new(None),
            overdue: Cell::new(0),
            over: Notify::new(),
            key: Cell::new(Some(key)),
            signal: Arc::new(Signal::new(now)),
            command: Cell::new(Command::Run),
            waker: OnceCell::new(),
            http2: OnceCell::new(),
            asked: RefCell::default(),
            access: RefCell::default(),
            upload: RefCell::default(),
        }
    }

    /// The caller's address, for `X-Forwarded-For` and the log.
    pub fn peer(&self) -> Ref<'_, HeaderValue> {
        self.peer.borrow()
    }

    /// Its peer speaks for this caller.
    pub fn is_for(&self, source: IpAddr) {
        self.peer.replace(address(source));
    }

    /// Its place in the registry, once.
    pub(super) fn unregister(&self) -> Option<usize> {
        self.key.take()
    }

    /// It turned out to be HTTP/2.
    pub fn share(&self) {
        let streams = Http2::Connection(Streams::default());
        self.http2.get_or_init(|| Box::new(streams));
    }

    /// What its streams have in common, where it speaks HTTP/2.
    #[must_use]
    pub fn streams(&self) -> Option<&Streams> {
        match self.http2.get()?.as_ref() {
            Http2::Connection(streams) => Some(streams),
            Http2::Stream(_) => None,
        }
    }

    /// What makes it a stream, where it is one.
    #[must_use]
    pub fn as_stream(&self) -> Option<&Stream> {
        match self.http2.get()?.as_ref() {
            Http2::Connection(_) => None,
            Http2::Stream(stream) => Some(stream),
        }
    }

    /// A request is under way from here on, and nothing ends it yet.
    pub(super) fn begin(&self, now: Boot) {
        self.signal.set(Phase::Busy, now);
        self.ends_at.set(None);
        self.overdue.set(0);
    }

    /// Where every request is a line, keeps something for that of the request at hand.
    pub(super) fn logs(&self, keep: impl FnOnce(&mut Access)) {
        if let Some(access) = &mut *self.access.borrow_mut() {
            keep(access);
        }
    }

    /// The request at hand has this body.
    pub fn uploads(&self, upload: &Rc<Upload>) {
        self.upload.replace(Rc::downgrade(upload));
    }

    /// The answer to a request with a body has begun.
    pub(super) fn answers(&self) {
        if let Some(upload) = self.upload.borrow().upgrade() {
            upload.answered();
        }
    }

    /// Whether the caller is to be cut: nothing came from it for `limit`, or it took nothing, though
    /// that is all that was waited for.
    #[must_use]
    pub fn is_stalled(&self, now: Boot, limit: Duration) -> bool {
        let upload = self.upload.borrow().upgrade();
        self.signal.stuck_for(now) > limit || upload.is_some_and(|upload| upload.sweep(now, limit))
    }

    /// What its task is to do; the task leaves its waker with the first call.
    pub fn command(&self, waker: &Waker) -> Command {
        self.waker.get_or_init(|| waker.clone());
        self.told()
    }

    /// What its task was told last.
    #[must_use]
    pub fn told(&self) -> Command {
        self.command.get()
    }

    /// Tells its task what to do. To end now is its last word.
    pub fn tell(&self, command: Command) {
        if !self.is_cut() {
            self.command.set(command);
        }
        if command == Command::Close {
            self.over.notify_one();
        }
        self.wake();
    }

    /// What is under way has come to its end: it may end in its own way, and is cut two sweeps later.
    pub fn end(&self) {
        self.overdue.set(self.overdue.get().saturating_add(1));
        match self.overdue.get() {
            1 | 2 => {
                self.over.notify_one();
                self.wake();
            }
            _ => self.tell(Command::Close),
        }
    }

    /// Whether what is under way must end.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.overdue.get() > 0 || self.is_cut()
    }

    /// Whether it ends now, in whatever state it is.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.command.get() == Command::Close
    }

    /// Done when [`Conn::is_over`] holds.
    pub async fn over(&self) {
        while !self.is_over() {
            self.over.notified().await;
        }
    }

    /// Done when [`Conn::is_cut`] holds.
    pub async fn cut(&self) {
        while !self.is_cut() {
            self.over.notified().await;
        }
    }

    /// Lets its task look around.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }
}

fn address(of: IpAddr) -> HeaderValue {
    let text = HeaderValue::from_str(&of.to_canonical().to_string());
    text.unwrap_or(HeaderValue::from_static("unknown"))
}
