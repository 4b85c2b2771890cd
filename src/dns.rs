//! Names to addresses, on the control plane.
//!
//! - All lookups run in one task; data threads read what it published and never ask themselves.
//! - An answer is fresh for its TTL, 5 s at the least and 300 s at the most. For a minute more it is
//!   handed out while a new one is fetched; after that one waits for the new one, and the old one is
//!   what is left where there is none.
//! - Nobody asks for a name twice at once, nor again within a second of an answer.
//! - IP literals and `localhost` (RFC 6761 section 6.3) need no resolver.

mod system;

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::clock::{Boot, Clock};

pub use system::System;

/// The shortest time that an answer is fresh.
pub const TTL_MIN: Duration = Duration::from_secs(5);
/// The longest time that an answer is fresh.
pub const TTL_MAX: Duration = Duration::from_secs(300);
/// For how long after its time an answer is still handed out at once.
pub const STALE: Duration = Duration::from_secs(60);
/// The least time from an answer, good or bad, to the next lookup of the same name.
pub const COOLDOWN: Duration = Duration::from_secs(1);
/// The longest that one lookup may take.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(15);
/// The most addresses of a name that are kept.
const ADDRESSES_MAX: usize = 16;

/// Why there is no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The name server says that there is no such name.
    NoSuchName {
        /// The name.
        host: String,
    },
    /// The name is there and has no address.
    NoAddress {
        /// The name.
        host: String,
    },
    /// No answer in time.
    Timeout {
        /// The name.
        host: String,
    },
    /// `/etc/resolv.conf` names no server to ask.
    NoServer {
        /// The name.
        host: String,
    },
    /// The lookup failed otherwise.
    Failed {
        /// The name.
        host: String,
        /// How.
        why: String,
    },
    /// The task is gone: the process is ending.
    Stopped,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::NoSuchName { host } => {
                write!(f, "the name {host:?} does not exist: is it spelled right?")
            }
            Error::NoAddress { host } => write!(f, "the name {host:?} has no address"),
            Error::Timeout { host } => {
                write!(f, "the name server did not answer for {host:?} in time")
            }
            Error::NoServer { host } => write!(
                f,
                "{host:?} cannot be looked up: /etc/resolv.conf names no name server"
            ),
            Error::Failed { host, why } => write!(f, "the lookup of {host:?} failed: {why}"),
            Error::Stopped => f.write_str("the resolver has stopped"),
        }
    }
}

impl std::error::Error for Error {}

/// A good answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Addresses of both families, in the order to try them in each family.
    pub addresses: Vec<IpAddr>,
    /// How long they hold, as the server says.
    pub ttl: Duration,
}

/// What a lookup ends in.
pub type Answer = Pin<Box<dyn Future<Output = Result<Found, Error>> + Send>>;

/// Who answers for names: the system, or a test.
pub trait Lookup: Send + Sync + 'static {
    /// Looks up both families of `host`, which is neither a literal nor `localhost`.
    fn lookup(&self, host: &str) -> Answer;
}

/// The readers' end. Cheap to clone.
#[derive(Clone)]
pub struct Resolver(Arc<Shared>);

struct Shared {
    /// The names of the config, so it stays small; locked when a [`Name`] is made, never later.
    entries: Mutex<HashMap<(String, u16), Arc<Entry>>>,
    asks: mpsc::UnboundedSender<Arc<Entry>>,
    clock: Clock,
}

struct Entry {
    host: String,
    port: u16,
    published: watch::Sender<Published>,
    pending: AtomicBool,
}

#[derive(Clone, Debug, Default)]
struct Published {
    /// Lookups that ended, either way.
    lookups: u64,
    /// When the last one did.
    ended: Boot,
    addresses: Option<Arc<[SocketAddr]>>,
    fresh_until: Boot,
    /// What the last lookup failed with.
    error: Option<Error>,
}

impl Published {
    fn cooling(&self, now: Boot) -> bool {
        self.lookups > 0 && now < self.ended + COOLDOWN
    }
}

impl Resolver {
    /// A handle, and the task that does the lookups; nothing is looked up where it does not run.
    pub fn new(
        lookup: Arc<dyn Lookup>,
        clock: Clock,
    ) -> (Resolver, impl Future<Output = ()> + Send + 'static) {
        let (asks, asked) = mpsc::unbounded_channel();
        let task = run(lookup, asked, clock.clone());
        let resolver = Resolver(Arc::new(Shared {
            entries: Mutex::default(),
            asks,
            clock,
        }));
        (resolver, task)
    }

    /// A handle on `host`: a name, an IP literal (in brackets or not), or `localhost`. Asks for
    /// nothing yet.
    #[must_use]
    pub fn name(&self, host: &str, port: u16) -> Name {
        if let Some(addresses) = literal(host, port) {
            return Name(Kind::Literal(addresses));
        }
        let host = host.to_ascii_lowercase();
        let mut entries = self
            .0
            .entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let entry = entries.entry((host, port)).or_insert_with_key(|(host, _)| {
            Arc::new(Entry {
                host: host.clone(),
                port,
                published: watch::Sender::new(Published::default()),
                pending: AtomicBool::new(false),
            })
        });
        Name(Kind::Looked(Arc::clone(entry), self.clone()))
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}

/// One host and port. Cheap to clone.
#[derive(Clone)]
pub struct Name(Kind);

#[derive(Clone)]
enum Kind {
    Literal(Arc<[SocketAddr]>),
    Looked(Arc<Entry>, Resolver),
}

impl Name {
    /// The addresses as published, the first to try first; asks for new ones in the background
    /// where they are past their time. `None`: wait for [`Name::resolved`].
    #[must_use]
    pub fn addresses(&self) -> Option<Arc<[SocketAddr]>> {
        let (entry, resolver) = match &self.0 {
            Kind::Literal(addresses) => return Some(Arc::clone(addresses)),
            Kind::Looked(entry, resolver) => (entry, resolver),
        };
        let now = resolver.0.clock.boot();
        let published = entry.published.borrow();
        let addresses = published.addresses.as_ref()?;
        if now < published.fresh_until {
            return Some(Arc::clone(addresses));
        }
        if !published.cooling(now) {
            resolver.ask(entry);
        }
        (now < published.fresh_until + STALE).then(|| Arc::clone(addresses))
    }

    /// Fresh addresses, waiting for a lookup where need be; old ones where that fails.
    ///
    /// # Errors
    /// What the lookup failed with, where nothing is known.
    pub async fn resolved(&self) -> Result<Arc<[SocketAddr]>, Error> {
        let (entry, resolver) = match &self.0 {
            Kind::Literal(addresses) => return Ok(Arc::clone(addresses)),
            Kind::Looked(entry, resolver) => (entry, resolver),
        };
        let mut receiver = entry.published.subscribe();
        let now = resolver.0.clock.boot();
        let seen = {
            let published = receiver.borrow_and_update();
            let fresh = now < published.fresh_until && published.addresses.is_some();
            if fresh || published.cooling(now) {
                return published.outcome();
            }
            published.lookups
        };
        resolver.ask(entry);
        tokio::select! {
            done = receiver.wait_for(|published| published.lookups != seen) => {
                done.map_err(|_| Error::Stopped)?.outcome()
            }
            () = resolver.0.asks.closed() => Err(Error::Stopped),
        }
    }

    /// No connection to any of the addresses: they count as old from now on, and are asked for
    /// again.
    pub fn failed(&self) {
        let Kind::Looked(entry, resolver) = &self.0 else {
            return;
        };
        let now = resolver.0.clock.boot();
        if entry.published.borrow().cooling(now) {
            return;
        }
        entry.published.send_if_modified(|published| {
            published.fresh_until = published.fresh_until.min(now);
            false
        });
        resolver.ask(entry);
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Kind::Literal(addresses) => f.debug_tuple("Name").field(addresses).finish(),
            Kind::Looked(entry, _) => write!(f, "Name({}:{})", entry.host, entry.port),
        }
    }
}

impl Published {
    fn outcome(&self) -> Result<Arc<[SocketAddr]>, Error> {
        match (&self.addresses, &self.error) {
            (Some(addresses), _) => Ok(Arc::clone(addresses)),
            (None, Some(error)) => Err(error.clone()),
            (None, None) => Err(Error::Stopped),
        }
    }
}

impl Resolver {
    fn ask(&self, entry: &Arc<Entry>) {
        if !entry.pending.swap(true, Ordering::AcqRel) {
            // Without a task there is no answer, which those who wait learn by `closed`.
            let _ = self.0.asks.send(Arc::clone(entry));
        }
    }
}

async fn run(
    lookup: Arc<dyn Lookup>,
    mut asked: mpsc::UnboundedReceiver<Arc<Entry>>,
    clock: Clock,
) {
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            entry = asked.recv() => {
                let Some(entry) = entry else { return };
                let answer = lookup.lookup(&entry.host);
                running.spawn(answer_one(entry, answer, clock.clone()));
            }
            Some(_) = running.join_next() => {}
        }
    }
}

async fn answer_one(entry: Arc<Entry>, answer: Answer, clock: Clock) {
    let found = tokio::time::timeout(LOOKUP_TIMEOUT, answer)
        .await
        .unwrap_or_else(|_| {
            Err(Error::Timeout {
                host: entry.host.clone(),
            })
        })
        .and_then(|found| {
            if found.addresses.is_empty() {
                return Err(Error::NoAddress {
                    host: entry.host.clone(),
                });
            }
            Ok(found)
        });
    let now = clock.boot();
    // Cleared before the news: who reads them may ask again.
    entry.pending.store(false, Ordering::Release);
    entry.published.send_modify(|published| {
        published.lookups += 1;
        published.ended = now;
        match found {
            Ok(found) => {
                published.addresses = Some(in_order(found.addresses, entry.port));
                published.fresh_until = now + found.ttl.clamp(TTL_MIN, TTL_MAX);
                published.error = None;
            }
            Err(error) => published.error = Some(error),
        }
    });
}

/// Both families in turn, beginning with that of the first address (RFC 8305 section 4).
fn in_order(addresses: Vec<IpAddr>, port: u16) -> Arc<[SocketAddr]> {
    let first_is_v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (first, second): (Vec<IpAddr>, Vec<IpAddr>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut ordered: Vec<SocketAddr> = Vec::new();
    loop {
        let round = [first.next(), second.next()];
        if round == [None, None] {
            break;
        }
        for address in round.into_iter().flatten() {
            let address = SocketAddr::new(address, port);
            if !ordered.contains(&address) {
                ordered.push(address);
            }
        }
    }
    ordered.truncate(ADDRESSES_MAX);
    ordered.into()
}

/// Whether a host never leaves the machine: a loopback address, or `localhost`.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let is_loopback = |address: &SocketAddr| address.ip().to_canonical().is_loopback();
    literal(host, 0).is_some_and(|addresses| addresses.iter().all(is_loopback))
}

fn literal(host: &str, port: u16) -> Option<Arc<[SocketAddr]>> {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Some(Arc::new([SocketAddr::new(address, port)]));
    }
    let name = host.strip_suffix('.').unwrap_or(host).as_bytes();
    let local = name.eq_ignore_ascii_case(b"localhost")
        || name
            .len()
            .checked_sub(b".localhost".len())
            .is_some_and(|at| name[at..].eq_ignore_ascii_case(b".localhost"));
    local.then(|| {
        Arc::from([
            SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
        ])
    })
}

#[cfg(test)]
pub mod fake;
#[cfg(test)]
mod tests;
