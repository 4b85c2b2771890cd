//! The verdict on a token: reached once, by its signature, and then read from the cache as long as it
//! holds.
//!
//! - It holds while the policy is the same, the issuer's keys are the very ones that it was reached
//!   with and not too old, and the token has not ended. All of that is read off the thread's own view.
//! - One signature per turn of the loop: whoever needs one queues, so that a flood of forged tokens
//!   cannot starve requests whose verdict is known. Too many in the queue are `overloaded`.
//! - Where an issuer has keys whose signatures take long, all of it happens on a thread of its own.
//! - Where a list says which tokens are taken back, a verdict carries the epoch of the list that it was
//!   held against: each list is asked once for each token.
//! - An unknown `kid` asks for the issuer's keys at most once in its cool-down; during it the answer
//!   is given here, without crossing planes.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::Policy;
use super::conn::Conn;
use super::inbound::Inbound;
use super::respond::Refusal;
use super::worker::{View, Worker};
use crate::jwt::Rejection;
use crate::jwt::key_set::KeySet;
use crate::jwt::keys::Snapshot;
use crate::jwt::list;
use crate::jwt::revoked::{Revoked, Subject};
use crate::jwt::verifier::{self, Now, Verified};
use crate::reason::Reason;

mod apart;

pub use apart::Apart;

/// How long a request waits for keys that an unknown `kid` asked for: as long as a fetch may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a verified token comes to under one policy.
#[derive(Debug)]
pub struct Verdict {
    /// The policy that it was reached under: a reload may come while a token waits for its turn.
    epoch: u64,
    /// The place of its issuer.
    issuer: usize,
    /// The keys that it was reached with.
    set: Arc<KeySet>,
    /// What a list of revoked tokens knows it by; `None` where there is no list.
    subject: Option<Box<Subject>>,
    /// The epoch of the last list that does not have it; 0: of none.
    cleared: Cell<u64>,
    /// The end of the token, leeway included. Milliseconds since the epoch.
    pub ends_unix_ms: i64,
    /// The identity headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Which rules the claims meet, by their place.
    meets: Box<[bool]>,
}

impl Verdict {
    /// Whether the claims meet this rule.
    #[must_use]
    pub fn meets(&self, rule: usize) -> bool {
        self.meets.get(rule).copied().unwrap_or(false)
    }

    /// Holds it against a list that it has not been held against; whether the list does not have it.
    fn clear(&self, inbound: &Inbound, revocations: Option<&list::State<Revoked>>) -> bool {
        let issuer = inbound.issuers.all().get(self.issuer);
        let (Some(state), Some(issuer), Some(subject)) = (revocations, issuer, &self.subject)
        else {
            return false;
        };
        let is_clear = state
            .list
            .as_ref()
            .is_some_and(|list| !list.has(&issuer.name, subject));
        if is_clear {
            self.cleared.set(state.epoch);
        }
        is_clear
    }

    fn holds(&self, epoch: u64, keys: &Snapshot, now: Now) -> bool {
        if self.epoch != epoch {
            return false;
        }
        let issuer = keys.issuers.get(self.issuer);
        let set = issuer.and_then(|keys| keys.usable(now.boot));
        now.unix_ms < self.ends_unix_ms && set.is_some_and(|set| Arc::ptr_eq(set, &self.set))
    }
}

/// The present by both clocks.
#[must_use]
pub fn now(worker: &Worker) -> Now {
    Now {
        unix_ms: worker.clock.unix_ms(),
        boot: worker.clock.boot(),
    }
}

/// The verdict on a token.
///
/// # Errors
/// Why the token is refused, or why that cannot be said now.
pub async fn judge(
    worker: &Worker,
    conn: &Conn,
    view: &View,
    inbound: &Inbound,
    token: &[u8],
) -> Result<Rc<Verdict>, Refusal> {
    let Some(keys) = &view.keys else {
        return Err(Refusal::new(Reason::InternalError, "no issuers here"));
    };
    let revocations = view.revocations.as_deref();
    if let Some(unread) = revocations.filter(|state| state.list.is_none()) {
        let refusal = inbound.refuse(Reason::IssuerKeysUnavailable, UNREAD);
        let next = unread.next_attempt_at.since(worker.clock.boot());
        return Err(refusal.retry_after(next));
    }
    let verdict = match known(worker, view.policy.epoch, keys, token) {
        Some(verdict) => verdict,
        None => Box::pin(reach(worker, conn, &view.policy, keys, inbound, token)).await?,
    };
    let epoch = revocations.map_or(0, |state| state.epoch);
    match verdict.cleared.get() == epoch || verdict.clear(inbound, revocations) {
        true => Ok(verdict),
        false => Err(inbound.refuse(Reason::Revoked, REVOKED)),
    }
}

/// What is told of a token that is taken back.
pub const REVOKED: &str = "the token has been revoked";

/// What is told of every token while that is not known of any.
pub const UNREAD: &str = "the list of revoked tokens has not been read yet";

fn known(worker: &Worker, epoch: u64, keys: &Snapshot, token: &[u8]) -> Option<Rc<Verdict>> {
    let verdicts = worker.verdicts.borrow();
    let verdict = verdicts.find(token)?;
    let holds = verdict.holds(epoch, keys, now(worker));
    holds.then(|| Rc::clone(verdict))
}

/// The slow way: by the signature.
async fn reach(
    worker: &Worker,
    conn: &Conn,
    policy: &Arc<Policy>,
    keys: &Arc<Snapshot>,
    inbound: &Inbound,
    token: &[u8],
) -> Result<Rc<Verdict>, Refusal> {
    let mut keys = Arc::clone(keys);
    let mut has_asked = false;
    loop {
        let place = match conn.as_stream() {
            Some(stream) => stream.verifying().await,
            None => None,
        };
        let turn = worker.turn().await?;
        // Somebody before us in the queue may have had the same token.
        if let Some(verdict) = known(worker, policy.epoch, &keys, token) {
            return Ok(verdict);
        }
        let now = now(worker);
        let apart = match keys.is_slow {
            true => worker.apart.verify(policy, &keys, token, now).await,
            false => None,
        };
        let verified = match apart {
            Some(verified) => verified,
            None => {
                let verified = verifier::verify(token, &inbound.issuers, &keys, now, &mut ());
                // The loop turns before the next ones in the queue have their turn.
                if worker.has_verified_some() {
                    tokio::task::yield_now().await;
                }
                verified
            }
        };
        drop((turn, place));
        let rejection = match verified {
            Ok(verified) => return keep(worker, policy.epoch, inbound, token, verified),
            Err(rejection) => rejection,
        };
        if rejection.reason == Reason::UnknownKey
            && !has_asked
            && let Some(issuer) = rejection.issuer
            && let Some(newer) = newer_keys(worker, inbound, &keys, issuer, now).await?
        {
            keys = newer;
            has_asked = true;
            continue;
        }
        return Err(refusal(inbound, &keys, rejection, now));
    }
}

fn keep(
    worker: &Worker,
    epoch: u64,
    inbound: &Inbound,
    token: &[u8],
    verified: Verified,
) -> Result<Rc<Verdict>, Refusal> {
    let identity = inbound
        .identities
        .get(verified.issuer)
        .ok_or_else(|| Refusal::new(Reason::InternalError, "an issuer without identity headers"))?;
    let headers = identity.headers(&verified.claims).map_err(|_| {
        let text = "a claim that is an identity header cannot be a header's value";
        inbound.refuse(Reason::UnsafeClaim, text)
    })?;
    let verdict = Rc::new(Verdict {
        epoch,
        issuer: verified.issuer,
        set: verified.set,
        subject: (inbound.revocations.is_some()).then(|| Box::new(Subject::of(&verified.claims))),
        cleared: Cell::new(0),
        ends_unix_ms: verified.ends_unix_ms,
        headers,
        meets: inbound.rules_met(&verified.claims),
    });
    let mut verdicts = worker.verdicts.borrow_mut();
    verdicts.keep(token, Rc::clone(&verdict));
    Ok(verdict)
}

/// The keys after a fetch that this token asked for; `None` where none may be asked for now.
async fn newer_keys(
    worker: &Worker,
    inbound: &Inbound,
    keys: &Snapshot,
    issuer: usize,
    now: Now,
) -> Result<Option<Arc<Snapshot>>, Refusal> {
    let Some(known) = keys.issuers.get(issuer) else {
        return Ok(None);
    };
    let mut published = inbound.keys.watch();
    let attempts = |snapshot: &Snapshot| snapshot.issuers.get(issuer).map(|keys| keys.attempts);
    let before = Some(known.attempts);
    if attempts(&published.borrow()) == before {
        if known.fetch_allowed_at.is_none_or(|at| now.boot < at) {
            return Ok(None);
        }
        let Some(_place) = worker.wait_for_keys(issuer) else {
            return Err(overloaded("too many requests wait for an issuer's keys"));
        };
        inbound.keys.demand(issuer);
        let fetched = published.wait_for(|snapshot| attempts(snapshot) != before);
        let fetched = tokio::time::timeout(PATIENCE, fetched).await;
        if !fetched.is_ok_and(|fetched| fetched.is_ok()) {
            // Whether the key is unknown is not known yet; or a reload took the keys elsewhere.
            let text = "the issuer's keys are being fetched, and that takes long";
            let refusal = inbound.refuse(Reason::IssuerKeysUnavailable, text);
            return Err(refusal.retry_after(Duration::from_secs(1)));
        }
    }
    let newer = Arc::clone(&published.borrow());
    Ok(Some(newer))
}

fn refusal(inbound: &Inbound, keys: &Snapshot, rejection: Rejection, now: Now) -> Refusal {
    if rejection.reason == Reason::UnknownIssuer
        && let Some(federation) = &inbound.federation
        && federation.epoch == 0
    {
        // It may well be in the list.
        let text =
            "the issuer is none of the config's, and the list of issuers has not been read yet";
        let refusal = inbound.refuse(Reason::IssuerKeysUnavailable, text);
        let next = federation.list.state().next_attempt_at;
        return refusal.retry_after(next.since(now.boot));
    }
    let refusal = inbound.refuse(rejection.reason, rejection.why);
    match rejection.issuer.and_then(|issuer| keys.issuers.get(issuer)) {
        Some(keys) if rejection.reason == Reason::IssuerKeysUnavailable => {
            refusal.retry_after(keys.next_attempt_at.since(now.boot))
        }
        _ => refusal,
    }
}

pub(super) fn overloaded(text: &'static str) -> Refusal {
    Refusal::new(Reason::Overloaded, text).retry_after(Duration::from_secs(1))
}
