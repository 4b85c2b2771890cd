//! The HTTP/2 connections to one upstream, of one data thread: many exchanges share each.
//!
//! - A request takes the oldest connection with room, so that what a burst opened can go again.
//! - Where there is none, one request dials, and up to a hundred others wait for its connection: this
//!   is so where HTTP/2 is sure to be spoken, because the config says so or TLS picked it last.
//! - Before that each request dials for itself, as with HTTP/1.1, where waiting for another one's
//!   handshake would only cost time. The first connection to be HTTP/2 ends the dialing of all others.
//!
//! HTTP/2 is spoken by the h2 crate and not by hyper's client, which cannot reset the stream of a
//! caller who left while its body had no room, and takes a reset by CANCEL or NO_ERROR for the end of
//! an answer.

use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use h2::RecvStream;
use http::Response;
use http::request::Parts;
use tokio::sync::Notify;

use super::framing::INTERIM;
use super::upload::RequestBody;
use super::{Protocol, Upstream};
use crate::clock::Boot;

pub use connection::{Connection, Slot};
pub use failed::{Failed, Fate, is_violation};
pub use flight::{Flight, Lead, Seat};
pub use pump::Pump;

mod connection;
mod failed;
mod flight;
mod head;
mod pulse;
mod pump;
mod tap;

/// Those who wait for one connection: as many as nearly all servers have room for.
const USUAL: usize = 100;

/// The connections, and those on their way.
#[derive(Debug)]
pub struct Shared {
    /// What may come for each exchange before it is read. Bytes.
    pub window: u32,
    connections: RefCell<Vec<Rc<Connection>>>,
    flights: RefCell<Vec<Rc<Flight>>>,
    picked: Cell<Option<Protocol>>,
    changed: Notify,
}

impl Shared {
    /// None yet.
    #[must_use]
    pub fn new(window: u32) -> Shared {
        Shared {
            window,
            connections: RefCell::default(),
            flights: RefCell::default(),
            picked: Cell::default(),
            changed: Notify::new(),
        }
    }

    /// Whether HTTP/2 is what TLS picked last.
    #[must_use]
    pub fn is_picked(&self) -> bool {
        self.picked.get() == Some(Protocol::H2)
    }

    /// TLS has picked this.
    pub fn pick(&self, protocol: Protocol) {
        self.picked.set(Some(protocol));
        if protocol == Protocol::H2 {
            self.changed.notify_waiters();
        }
    }

    /// Done when it has picked HTTP/2.
    pub async fn picked(&self) {
        self.changed.notified().await;
    }

    /// A place on a connection; after one that failed, on the newest of the others.
    #[must_use]
    pub fn place(&self, failed: Option<&Rc<Connection>>) -> Option<Slot> {
        let connections = self.connections.borrow();
        match failed {
            None => connections.iter().find_map(Connection::place),
            Some(failed) => {
                let mut others = connections.iter().rev();
                let is_other = |other: &&Rc<Connection>| !Rc::ptr_eq(other, failed);
                let others = others.by_ref().filter(is_other);
                others.map(Connection::place).find_map(|place| place)
            }
        }
    }

    /// Takes a connection up, and the first place on it.
    #[must_use]
    pub fn add(&self, connection: Rc<Connection>) -> Option<Slot> {
        let place = connection.place();
        self.connections.borrow_mut().push(connection);
        place
    }

    /// A seat on a connection that is on its way.
    #[must_use]
    pub fn seat(&self) -> Option<Seat> {
        let mut flights = self.flights.borrow_mut();
        flights.retain(|flight| flight.is_under_way());
        flights.iter().find_map(|flight| flight.seat(USUAL))
    }

    /// Leads one more.
    #[must_use]
    pub fn lead(&self) -> Lead {
        let flight = Rc::new(Flight::default());
        self.flights.borrow_mut().push(Rc::clone(&flight));
        Lead::new(flight)
    }

    /// Closes what was unused for too long, and what is gone without a word; forgets what takes no more.
    pub fn sweep(&self, now: Boot) {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| connection.stays(now));
    }
}

/// An answer to its head, and what is still to be sent of the request.
pub type Answer = (Response<RecvStream>, Option<Pump>);

/// One exchange, up to the head of its answer. Dropped before that, it resets its stream.
///
/// # Errors
/// What became of the request.
pub async fn exchange(
    slot: &Slot,
    upstream: &Upstream,
    head: &Parts,
    body: RequestBody,
) -> Result<Answer, Failed> {
    let connection = slot.connection();
    let before = connection.tap().written();
    let is_whole = http_body::Body::is_end_stream(&body);
    let head = head::of(head, upstream).ok_or_else(Failed::nowhere)?;
    let (mut response, stream) = connection.send(head, is_whole).map_err(|error| {
        let failed = Failed::untaken(error);
        if failed.fate == Fate::Unsent {
            connection.retire();
        }
        failed
    })?;
    let mut pump = (!is_whole).then(|| Pump::new(body, stream));
    let mut interim = 0;
    let answered = poll_fn(|cx| {
        if pump.as_mut().is_some_and(|pump| pump.poll(cx).is_ready()) {
            pump = None;
        }
        while let Poll::Ready(Some(Ok(_))) = response.poll_informational(cx) {
            interim += 1;
            if interim > INTERIM {
                return Poll::Ready(Err(Failed::interim()));
            }
        }
        Pin::new(&mut response).poll(cx).map_err(|error| {
            let failed = Failed::of(error, connection.tap().written() > before);
            match connection.tap().silence() {
                Some(silence) => failed.silent(silence),
                None => failed,
            }
        })
    });
    match answered.await {
        Ok(response) => Ok((response, pump)),
        Err(failed) => {
            match failed.fate {
                Fate::Unprocessed if failed.is_reset() => slot.refused(),
                Fate::Lost => {}
                _ => connection.retire(),
            }
            Err(failed)
        }
    }
}
