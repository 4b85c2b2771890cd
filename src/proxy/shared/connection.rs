//! One HTTP/2 connection, and the task that drives it.
//!
//! - It has room for one exchange before the upstream has said its settings, then for as many as
//!   those allow, [`STREAMS`] at the most.
//! - It takes no more once the upstream has said GOAWAY, has refused the only stream on it, or has sent
//!   nearly as many empty frames as h2 bears.
//! - Unused for [`IDLE`], or left by all after that, it ends with a GOAWAY of our own.
//! - It ends where the upstream has lost its [`Pulse`].
//! - Windows are fixed. That of the connection is as large as those of all its streams together: a
//!   caller who does not read what came for it holds up nobody else.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Error, SendStream};
use http::Request;
use tokio::sync::oneshot;

use super::failed::{closed, refusal, silent};
use super::flight::{Flight, Lead};
use super::pulse::{Beat, Pulse};
use super::tap::{Silence, Tap, Tapped};
use crate::clock::Boot;
use crate::net::Io;
use crate::proxy::Upstream;
use crate::proxy::pool::IDLE;
use crate::proxy::respond::Refusal;

/// Exchanges on one connection at a time.
const STREAMS: u32 = 100;
/// What may wait to be sent for one of them. Bytes.
const SEND_BUFFER: usize = 256 << 10;
/// The head of an answer. Bytes, as RFC 9113 section 6.5.2 counts them.
const HEAD: u32 = 64 << 10;
/// How long the end of a connection may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// A connection's sending end.
#[derive(Debug)]
pub struct Connection {
    requests: RefCell<SendRequest<Bytes>>,
    tap: Rc<Tap>,
    /// It takes no more.
    is_over: Cell<bool>,
    active: Cell<usize>,
    /// Fewer than the upstream's settings allow, where it has refused more.
    most: Cell<usize>,
    unused_since: Cell<Option<Boot>>,
    pulse: Pulse,
    /// Dropped with the last reference: its task says farewell.
    _in_use: oneshot::Sender<Infallible>,
}

/// A place for one exchange on a connection; given back when dropped.
#[derive(Debug)]
pub struct Slot(Rc<Connection>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get() - 1);
    }
}

impl Slot {
    /// The connection.
    #[must_use]
    pub fn connection(&self) -> &Rc<Connection> {
        &self.0
    }

    /// The upstream refused the stream: there are to be fewer of them.
    pub fn refused(&self) {
        match self.0.active.get() - 1 {
            0 => self.0.is_over.set(true),
            others => self.0.most.set(self.0.most.get().min(others)),
        }
    }
}

impl Connection {
    /// Opens an HTTP/2 connection over `io`; its task is spawned. Whoever waits for it goes on when the
    /// upstream has said its settings, and fails if it has not in the time that connecting may take.
    /// `window` is what may come for each exchange before it is read, in bytes.
    ///
    /// # Errors
    /// The connection broke at once.
    pub async fn open(
        io: Io,
        upstream: &Upstream,
        lead: Lead,
        window: u32,
    ) -> Result<Rc<Connection>, Refusal> {
        let tap = Rc::new(Tap::default());
        let opened = h2::client::Builder::new()
            .enable_push(false)
            .initial_max_send_streams(1)
            .initial_window_size(window)
            .initial_connection_window_size(STREAMS * window)
            .max_header_list_size(HEAD)
            .max_send_buffer_size(SEND_BUFFER)
            // It counts over the connection's whole life, and ends the exchanges of all.
            .max_local_error_reset_streams(None)
            .max_concurrent_reset_streams(STREAMS as usize)
            .handshake(Tapped::new(io, Rc::clone(&tap)))
            .await;
        let (requests, connection) = match opened {
            Ok(opened) => opened,
            Err(error) => return Err(lead.fail(refusal(&upstream.origin, &error))),
        };
        let (in_use, unused) = oneshot::channel();
        let begun = Begun {
            tap: Rc::clone(&tap),
            flight: lead.hand_over(),
            origin: upstream.origin.clone(),
            limit: upstream.connect_timeout,
        };
        tokio::task::spawn_local(drive(connection, begun, unused));
        Ok(Rc::new(Connection {
            requests: RefCell::new(requests),
            tap,
            is_over: Cell::new(false),
            active: Cell::new(0),
            most: Cell::new(STREAMS as usize),
            unused_since: Cell::new(None),
            pulse: Pulse::default(),
            _in_use: in_use,
        }))
    }

    /// A place, where there is room. The first one is there before the upstream has said anything.
    #[must_use]
    pub fn place(self: &Rc<Connection>) -> Option<Slot> {
        if self.is_over() {
            return None;
        }
        let mut requests = self.requests.borrow_mut();
        match requests.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => {
                self.is_over.set(true);
                return None;
            }
            Poll::Pending => return None,
        }
        let most = requests.current_max_send_streams().min(self.most.get());
        let active = self.active.get();
        (active < most).then(|| {
            self.active.set(active + 1);
            self.unused_since.set(None);
            Slot(Rc::clone(self))
        })
    }

    /// Begins an exchange.
    ///
    /// # Errors
    /// Nothing was sent.
    pub fn send(
        &self,
        head: Request<()>,
        is_whole: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), Error> {
        // A handle of its own: one that has opened a stream too many takes no other until it has room.
        let mut requests = self.requests.borrow().clone();
        requests.send_request(head, is_whole)
    }

    /// It takes no more.
    pub fn retire(&self) {
        self.is_over.set(true);
    }

    /// Whether it takes no more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over.get() || self.tap.is_worn()
    }

    /// What its bytes tell.
    #[must_use]
    pub fn tap(&self) -> &Tap {
        &self.tap
    }

    /// Whether it is of use, or unused for a short time only.
    #[must_use]
    pub fn stays(&self, now: Boot) -> bool {
        if self.active.get() > 0 {
            self.feel_pulse(now);
            return true;
        }
        self.pulse.rest();
        let since = self.unused_since.get().unwrap_or(now);
        self.unused_since.set(Some(since));
        !self.is_over() && now.since(since) < IDLE
    }

    fn feel_pulse(&self, now: Boot) {
        if !self.tap.has_settings() {
            return;
        }
        match self.pulse.look(now, self.tap.read()) {
            Beat::Fine => {}
            Beat::Ask => self.tap.ask(),
            Beat::Gone => {
                self.retire();
                self.tap.fall_silent(Silence::Gone);
                self.tap.wake();
            }
        }
    }
}

/// What a connection's task is told.
struct Begun {
    tap: Rc<Tap>,
    flight: Rc<Flight>,
    origin: String,
    limit: Duration,
}

/// How a connection's task comes to its end.
enum End {
    /// It ended.
    Ended(Result<(), Error>),
    /// The upstream has said nothing in time.
    Silent(Silence),
    /// Nobody uses it any more.
    Unused,
}

async fn drive(
    connection: h2::client::Connection<Tapped>,
    begun: Begun,
    unused: oneshot::Receiver<Infallible>,
) {
    let (tap, origin) = (&begun.tap, &begun.origin);
    let mut connection = pin!(connection);
    let mut unused = pin!(unused);
    let mut pings = connection.ping_pong();
    let mut landing = Some(Box::pin(tokio::time::sleep(begun.limit)));
    let end = poll_fn(|cx| {
        tap.driven_by(cx.waker());
        if let Some(silence) = tap.silence() {
            return Poll::Ready(End::Silent(silence));
        }
        if let Some(pings) = &mut pings {
            // An answer counts as anything does that comes.
            let _ = pings.poll_pong(cx);
            if tap.is_curious() {
                let _ = pings.send_ping(h2::Ping::opaque());
            }
        }
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(End::Ended(ended));
        }
        if tap.has_settings() {
            landing = None;
            begun.flight.land(Ok(()));
        }
        let deadline = landing.as_mut();
        if deadline.is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(End::Silent(Silence::FromTheStart));
        }
        unused.as_mut().poll(cx).map(|_| End::Unused)
    });
    // How it ended is told to those who wait for answers, and here to those who wait for room.
    match end.await {
        End::Ended(Ok(())) => begun.flight.land(Err(closed(origin))),
        End::Ended(Err(error)) => begun.flight.land(Err(refusal(origin, &error))),
        End::Silent(silence) => {
            tap.fall_silent(silence);
            begun.flight.land(Err(silent(origin, silence)));
        }
        End::Unused => {
            let _ = tokio::time::timeout(FAREWELL, connection).await;
            begun.flight.land(Err(closed(origin)));
        }
    }
}
