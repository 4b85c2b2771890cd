//! What a data thread owns: its view of the policy and the token, its pools, its connections.
//!
//! - A view is immutable and exchanged whole; a request keeps the one that it began with.
//! - One mirror task copies what the control plane publishes; requests read a `Rc`, no lock.
//! - Every connection is registered: the sweeper reads its phase, the drain waits for it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::Either;
use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use slab::Slab;
use tokio::sync::{Notify, Semaphore, watch};

use super::admit::is_never_forwarded;
use super::body::Body;
use super::conn::{Command, Conn, Opened};
use super::deliver::Answer;
use super::exchange::{Exchange, Log};
use super::forward_auth;
use super::framing::Violation;
use super::inbound;
use super::load::Load;
use super::outbound;
use super::pool::Pool;
use super::pseudo::{self, Fault};
use super::respond::{Refusal, is_grpc, refuse, without_body};
use super::signal::Phase;
use super::streams::Stream;
use super::verdict::{self, Apart, Verdict};
use super::{Policy, Role, Upstream};
use crate::clock::{Boot, Clock};
use crate::jwt::cache::Cache;
use crate::jwt::keys::{self, Snapshot};
use crate::jwt::list;
use crate::jwt::revoked::Revoked;
use crate::net::Net;
use crate::reason::Reason;
use crate::telemetry::counters::{Counters, Side};
use crate::token;

/// Signatures verified while the loop does not turn: 0.1 ms of RS256.
const IN_A_ROW: u32 = 4;

/// What a request sees of the world.
#[derive(Debug)]
pub struct View {
    /// The policy.
    pub policy: Arc<Policy>,
    /// One pool for each of the policy's upstreams.
    pub pools: Vec<Rc<Pool>>,
    /// The token plane's last word; `None` where no route needs a token.
    pub token: Option<Arc<token::State>>,
    /// The issuers' keys; `None` where inbound does not run.
    pub keys: Option<Arc<Snapshot>>,
    /// Which tokens are taken back; `None` where no list is asked for.
    pub revocations: Option<Arc<list::State<Revoked>>>,
}

impl View {
    /// A policy, with what its planes say now.
    fn of(policy: Arc<Policy>, pools: Vec<Rc<Pool>>) -> View {
        View {
            token: policy.token().map(token::Handle::state),
            keys: policy.keys().map(keys::Handle::snapshot),
            revocations: policy.revocations().map(list::Handle::state),
            pools,
            policy,
        }
    }
}

/// A data thread's own things.
pub struct Worker {
    /// Where connections come from.
    pub net: Arc<dyn Net>,
    /// The clock.
    pub clock: Clock,
    /// This thread's counters.
    pub counters: Arc<Counters>,
    view: RefCell<Rc<View>>,
    conns: RefCell<Slab<Rc<Conn>>>,
    /// Those of the connections that speak HTTP/2.
    streams: RefCell<Slab<Rc<Conn>>>,
    /// A connection ended.
    pub freed: Notify,
    /// A new policy is in the view.
    pub adopted: Notify,
    /// Verdicts on tokens.
    pub verdicts: RefCell<Cache<Rc<Verdict>>>,
    /// What is said of refusals.
    pub log: Log,
    /// TLS handshakes under way, the oldest first.
    handshakes: RefCell<BTreeMap<u64, Rc<Conn>>>,
    /// The number of the next one.
    handshake: Cell<u64>,
    /// Where slow signatures are verified.
    pub apart: Apart,
    /// Whose turn it is to verify a signature.
    turns: Semaphore,
    queued: Rc<Cell<usize>>,
    /// Signatures verified since the loop last turned for them.
    in_a_row: Cell<u32>,
    draining: Cell<bool>,
    waiting: Rc<Cell<usize>>,
    /// By the place of the issuer.
    waiting_for_keys: RefCell<Vec<Rc<Cell<usize>>>>,
    /// Its connections, as whoever hands it more sees them.
    pub load: Arc<Load>,
    /// Of an exchange over HTTP/2 with an upstream. Bytes.
    window: u32,
    /// Streams beyond the first of each connection.
    beyond: Cell<usize>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

impl Worker {
    /// A worker that begins with this policy. Each exchange over HTTP/2 with an upstream has a window of
    /// so many bytes.
    #[must_use]
    pub fn new(
        net: Arc<dyn Net>,
        clock: Clock,
        counters: Arc<Counters>,
        policy: Arc<Policy>,
        load: Arc<Load>,
        window: u32,
    ) -> Rc<Worker> {
        let pools = policy.upstreams.iter().map(|_| Pool::new(window)).collect();
        let view = View::of(policy, pools);
        Rc::new(Worker {
            net,
            clock,
            counters,
            view: RefCell::new(Rc::new(view)),
            conns: RefCell::default(),
            streams: RefCell::default(),
            freed: Notify::new(),
            adopted: Notify::new(),
            verdicts: RefCell::default(),
            log: Log::default(),
            handshakes: RefCell::default(),
            handshake: Cell::new(0),
            apart: Apart::default(),
            turns: Semaphore::new(1),
            queued: Rc::default(),
            in_a_row: Cell::new(0),
            draining: Cell::new(false),
            waiting: Rc::default(),
            waiting_for_keys: RefCell::default(),
            load,
            window,
            beyond: Cell::new(0),
        })
    }

    /// The present view.
    #[must_use]
    pub fn view(&self) -> Rc<View> {
        Rc::clone(&self.view.borrow())
    }

    /// Copies what the control plane publishes, and acknowledges each policy's epoch. Never ends.
    pub async fn mirror(
        self: Rc<Worker>,
        mut policies: watch::Receiver<Arc<Policy>>,
        seen: watch::Sender<u64>,
    ) -> Infallible {
        loop {
            let policy = Arc::clone(&policies.borrow_and_update());
            let mut tokens = policy.token().map(token::Handle::watch);
            let mut keys = policy.keys().map(keys::Handle::watch);
            let mut revocations = policy.revocations().map(list::Handle::watch);
            self.adopt(&policy);
            seen.send_replace(policy.epoch);
            loop {
                self.refresh(
                    latest(&mut tokens),
                    latest(&mut keys),
                    latest(&mut revocations),
                );
                tokio::select! {
                    changed = policies.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => std::future::pending().await,
                    },
                    () = next(&mut tokens) => {}
                    () = next(&mut keys) => {}
                    () = next(&mut revocations) => {}
                }
            }
        }
    }

    /// Takes a new policy; the pools of upstreams that it shares with the old one stay.
    fn adopt(&self, policy: &Arc<Policy>) {
        let old = self.view();
        let pool_of = |upstream: &Arc<Upstream>| {
            let same = |before: &Arc<Upstream>| Arc::ptr_eq(before, upstream);
            let at = old.policy.upstreams.iter().position(same);
            at.map_or_else(|| Pool::new(self.window), |at| Rc::clone(&old.pools[at]))
        };
        let pools = policy.upstreams.iter().map(pool_of).collect();
        let view = View::of(Arc::clone(policy), pools);
        self.view.replace(Rc::new(view));
        // Verdicts were reached under the old policy.
        self.verdicts.borrow_mut().clear();
        self.adopted.notify_waiters();
    }

    fn refresh(
        &self,
        token: Option<Arc<token::State>>,
        keys: Option<Arc<Snapshot>>,
        revocations: Option<Arc<list::State<Revoked>>>,
    ) {
        let old = self.view();
        let view = View {
            policy: Arc::clone(&old.policy),
            pools: old.pools.clone(),
            token,
            keys,
            revocations,
        };
        self.view.replace(Rc::new(view));
    }

    /// From here on, answers say `Connection: close`.
    pub fn drain(&self) {
        self.draining.set(true);
    }

    /// Whether the way down has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// A place among those that wait for another plane; `None` where too many wait already.
    #[must_use]
    pub fn wait(&self) -> Option<Waiting> {
        Waiting::in_line(&self.waiting, 4096)
    }

    /// The same for the keys of one issuer: one that hangs takes no place from another, or from
    /// outbound.
    #[must_use]
    pub fn wait_for_keys(&self, issuer: usize) -> Option<Waiting> {
        let mut waiting = self.waiting_for_keys.borrow_mut();
        if waiting.len() <= issuer {
            waiting.resize_with(issuer + 1, Rc::default);
        }
        Waiting::in_line(&waiting[issuer], 1024)
    }

    /// The turn to verify a signature, in the order in which it was asked for.
    ///
    /// # Errors
    /// `overloaded`: too many are in the queue already.
    pub async fn turn(&self) -> Result<impl Drop + '_, Refusal> {
        let full = || verdict::overloaded("too many tokens wait to be verified");
        let _place = Waiting::in_line(&self.queued, 1024).ok_or_else(full)?;
        // It is never closed.
        self.turns.acquire().await.map_err(|_| full())
    }

    /// Counts a signature. Whether the loop must turn before the next one: a turn costs as much as half
    /// a signature, and whoever needs none waits for as long as four of them take.
    pub fn has_verified_some(&self) -> bool {
        let verified = (self.in_a_row.get() + 1) % IN_A_ROW;
        self.in_a_row.set(verified);
        verified == 0
    }

    /// Registers a connection that its [`Load`] has counted.
    #[must_use]
    pub fn open(self: &Rc<Worker>, role: Role, peer: IpAddr) -> Opened {
        let announces = role == Role::Inbound && self.announces(peer);
        let mut conns = self.conns.borrow_mut();
        let entry = conns.vacant_entry();
        let now = self.clock.boot();
        let conn = Rc::new(Conn::new(entry.key(), role, peer, announces, now));
        entry.insert(Rc::clone(&conn));
        self.count_open(role);
        Opened(Rc::clone(self), conn)
    }

    /// Whether callers' connections from there begin with a PROXY protocol header.
    fn announces(&self, peer: IpAddr) -> bool {
        let view = self.view.borrow();
        let inbound = view.policy.inbound.as_ref();
        inbound.is_some_and(|inbound| {
            let peer = peer.to_canonical();
            let mut networks = inbound.announcers.iter();
            networks.any(|network| network.contains(&peer))
        })
    }

    pub(super) fn close(&self, conn: &Conn) {
        if let Some(stream) = conn.as_stream() {
            self.close_stream(conn, stream);
        } else if let Some(key) = conn.unregister() {
            let mut conns = self.conns.borrow_mut();
            conns.remove(key);
            self.load.closed(conn.role);
            self.count_open(conn.role);
            self.freed.notify_waiters();
        }
    }

    /// The connections that are registered.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.conns.borrow().len()
    }

    fn count_open(&self, role: Role) {
        let side = role.side();
        let same_side = Role::ALL.into_iter().filter(|other| other.side() == side);
        let all = same_side.map(|role| self.load.of(role)).sum();
        self.counters.of(side).connections(all);
    }

    /// Registers a stream of a connection that speaks HTTP/2.
    #[must_use]
    pub fn open_stream(self: &Rc<Worker>, parent: &Rc<Conn>) -> Opened {
        let mut streams = self.streams.borrow_mut();
        let entry = streams.vacant_entry();
        let conn = Rc::new(Conn::stream(entry.key(), parent, self.clock.boot()));
        entry.insert(Rc::clone(&conn));
        self.count_stream(parent, 1);
        Opened(Rc::clone(self), conn)
    }

    fn close_stream(&self, conn: &Conn, stream: &Stream) {
        if let Some(key) = conn.unregister() {
            self.streams.borrow_mut().remove(key);
            self.count_stream(stream.parent(), -1);
            if conn.is_over() {
                stream.spoiled();
            }
            stream.end(self.clock.boot());
        }
    }

    /// With `parent` as it is while the stream is open.
    fn count_stream(&self, parent: &Conn, by: isize) {
        if parent.streams().is_some_and(|streams| streams.open() > 1) {
            self.beyond.set(self.beyond.get().saturating_add_signed(by));
        }
    }

    /// Calls `each` for every stream.
    pub fn each_stream(&self, each: impl FnMut(&Rc<Conn>)) {
        self.streams
            .borrow()
            .iter()
            .map(|(_, conn)| conn)
            .for_each(each);
    }

    /// Begins one more TLS handshake, which ends with what this answers. Beyond `most`, the oldest
    /// is closed: whoever means it is done in a few round trips, so that a flood meets itself.
    pub fn begin_handshake(&self, conn: &Rc<Conn>, most: usize) -> impl Drop + '_ {
        struct UnderWay<'a>(&'a Worker, u64);
        impl Drop for UnderWay<'_> {
            fn drop(&mut self) {
                self.0.handshakes.borrow_mut().remove(&self.1);
            }
        }
        conn.signal.set(Phase::Handshake, self.clock.boot());
        let number = self.handshake.replace(self.handshake.get() + 1);
        let mut all = self.handshakes.borrow_mut();
        all.insert(number, Rc::clone(conn));
        if all.len() > most
            && let Some((_, oldest)) = all.pop_first()
        {
            self.counters
                .of(oldest.role.side())
                .refused(Reason::Overloaded);
            oldest.tell(Command::Close);
        }
        UnderWay(self, number)
    }

    /// Calls `each` for every connection.
    pub fn each_connection(&self, each: impl FnMut(&Rc<Conn>)) {
        self.conns
            .borrow()
            .iter()
            .map(|(_, conn)| conn)
            .for_each(each);
    }

    /// A request's head has come. Answers when, and whether its bytes were as they must be: that
    /// is known at this very moment, and not later.
    pub fn begin(&self, conn: &Conn, request: &Request<Incoming>) -> Begun {
        let now = self.clock.boot();
        let head = conn.signal.next_head().map_err(Unfit::Bytes);
        self.begin_at(now, conn, request.body());
        Begun { at: now, head }
    }

    /// The same for a stream, whose head is retold as HTTP/1.1 has it and may have as many bytes as
    /// there. A connection may have one of `exchanges`, and so may each stream beyond its first.
    pub fn begin_stream(
        &self,
        conn: &Conn,
        request: &mut Request<Incoming>,
        header_bytes: usize,
        exchanges: usize,
    ) -> Begun {
        let now = self.clock.boot();
        let head = match self.connections() + self.beyond.get() <= exchanges {
            true => pseudo::retell(request, header_bytes),
            false => Err(Fault::Crowded),
        };
        self.begin_at(now, conn, request.body());
        let head = head.map_err(Unfit::Head);
        Begun { at: now, head }
    }

    fn begin_at(&self, now: Boot, conn: &Conn, body: &Incoming) {
        conn.begin(now);
        let has_body = !http_body::Body::is_end_stream(body);
        conn.signal.begins(has_body);
    }

    /// Answers one request.
    ///
    /// # Errors
    /// Never: what goes wrong is an answer too.
    pub async fn answer(
        self: Rc<Worker>,
        conn: Rc<Conn>,
        mut request: Request<Incoming>,
        begun: Begun,
    ) -> Result<Response<Body>, Infallible> {
        let started = begun.at;
        let view = self.view();
        let is_logged = view.policy.access_log;
        let mut exchange = Exchange::new(&self, &conn, started, &mut request, is_logged);
        // A trailers-only answer is a 200, and a proxy that asks for leave takes that for a yes.
        let grpc = conn.role != Role::ForwardAuth && is_grpc(request.headers());
        let has_body = !http_body::Body::is_end_stream(request.body());
        let is_head = request.method() == Method::HEAD;
        let odd = is_never_forwarded(request.method());
        let theirs = Rc::clone(&view);
        let handled = pin!(match conn.role {
            Role::Outbound => {
                Either::Left(outbound::handle(&self, &conn, theirs, request, begun))
            }
            Role::Inbound => Either::Right(Either::Left(inbound::handle(
                &self, &conn, theirs, request, begun
            ))),
            Role::ForwardAuth => Either::Right(Either::Right(forward_auth::handle(
                &self, &conn, theirs, request, begun
            ))),
        });
        let handled = match view.policy.request_timeout {
            None => handled.await,
            Some(limit) => Box::pin(tokio::time::timeout(limit, handled))
                .await
                .unwrap_or_else(|_| Err(took_too_long(&conn))),
        };
        let mut response = match handled {
            Ok(Answer::Plain(response)) => response,
            Ok(Answer::Tunnel(response, tunnel)) => {
                exchange.answered(response.status());
                conn.signal.set(Phase::Tunnel, started);
                tokio::task::spawn_local(super::tunnel::run(*tunnel, exchange));
                return Ok(response);
            }
            Err(refusal) => {
                exchange.refused(&refusal);
                let refusal = match (conn.role.side(), &view.policy.inbound) {
                    (Side::Inbound, Some(inbound)) => inbound.told(refusal),
                    _ => refusal,
                };
                let malformed = begun.head.is_err() || refusal.reason == Reason::BadRequest;
                // What is left of a stream troubles no other.
                let last = (has_body || odd || malformed) && conn.as_stream().is_none();
                if last {
                    conn.signal.last_answer();
                }
                let mut response = refuse(&refusal, grpc, last);
                if is_head {
                    without_body(&mut response);
                }
                response
            }
        };
        if self.is_draining() {
            match conn.as_stream() {
                None => {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(CONNECTION, close);
                }
                Some(stream) => stream.parent().tell(Command::Drain),
            }
        }
        if has_body {
            conn.answers();
        }
        exchange.answered(response.status());
        response.body_mut().attach(exchange);
        Ok(response)
    }
}

/// The last word of a plane.
fn latest<T>(published: &mut Option<watch::Receiver<Arc<T>>>) -> Option<Arc<T>> {
    let published = published.as_mut()?;
    Some(Arc::clone(&published.borrow_and_update()))
}

/// Done when a plane says something new. One that is gone never does: a new policy brings the next.
async fn next<T>(published: &mut Option<watch::Receiver<Arc<T>>>) {
    if let Some(published) = published
        && published.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// When a request's head had come, and what it was like.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    at: Boot,
    head: Result<(), Unfit>,
}

/// Why a request is not looked at.
#[derive(Clone, Copy, Debug)]
enum Unfit {
    /// Its bytes were not as they must be: nothing after it on this connection can be told apart any
    /// more.
    Bytes(Violation),
    /// The head of a stream is not.
    Head(Fault),
}

impl Begun {
    /// When it had come.
    ///
    /// # Errors
    /// It is not fit to be looked at.
    pub fn approved(self) -> Result<Boot, Refusal> {
        match self.head {
            Ok(()) => Ok(self.at),
            Err(Unfit::Bytes(violation)) => Err(violation.into()),
            Err(Unfit::Head(fault)) => Err(fault.into()),
        }
    }
}

/// The caller's fault as long as its body has not come, the upstream's after that.
fn took_too_long(conn: &Conn) -> Refusal {
    let reason = match conn.signal.is_unread() {
        true => Reason::Timeout,
        false => Reason::UpstreamTimeout,
    };
    Refusal::new(
        reason,
        "the exchange took longer than limits.request_timeout",
    )
}

/// A place among those that wait; given back when dropped.
#[derive(Debug)]
pub struct Waiting(Rc<Cell<usize>>);

impl Waiting {
    fn in_line(waiting: &Rc<Cell<usize>>, most: usize) -> Option<Waiting> {
        let before = waiting.get();
        (before < most).then(|| {
            waiting.set(before + 1);
            Waiting(Rc::clone(waiting))
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, D, F>(_: impl Fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    /// hyper moves the future of every request once: what is rare and large is boxed inside.
    #[test]
    fn the_future_of_a_request_stays_small() {
        let size = size_of_future(Worker::answer);
        assert!(size <= 2400, "{size} bytes");
    }
}
