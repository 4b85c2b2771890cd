//! The token plane: one fresh access token from a ladder of credentials.
//!
//! The control plane owns every call to the region; data threads read [`State`] from a watch
//! channel and leave a note where they need something ([`Handle::demand`], [`Handle::force`]).
//!
//! 1. A token is used until its expiry while the region is away, and never after.
//! 2. One refresh at a time. A caller that leaves cancels nothing.
//! 3. A failure never destroys a token that is still good.
//! 4. A rotated refresh token is on disk before the access token that came with it is published.
//! 5. It never ends by itself: a refused login parks, and wakes when a source changes or at a
//!    reload.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::{Notify, watch};

use crate::clock::{Boot, Clock};
use crate::config::Credential;
use crate::files::{Layer, OsFiles};
use crate::region::{self, Tokens};
use crate::secret::Secret;

pub mod ask;
pub mod cache;
mod climb;
pub mod exchange;
pub mod login_file;
pub mod schedule;
pub mod source;
pub mod state;

#[cfg(test)]
mod tests;

pub use cache::{Kept, Task};

/// The least time between two refreshes that upstream 401s ask for.
pub const FORCE_COOLDOWN: Duration = Duration::from_secs(30);

/// What a [`Login`] returns.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, region::Error>> + Send + 'a>>;

/// The calls that tokens come from: a region, or a test's fake.
pub trait Login: Send + Sync {
    /// Logs in with a password.
    fn log_in<'a>(&'a self, email: &'a str, password: &'a Secret) -> Answer<'a, Tokens>;
    /// Spends a refresh token.
    fn refresh<'a>(&'a self, token: &'a Secret) -> Answer<'a, Tokens>;
    /// Asks whether a token is good, and spends nothing.
    fn verify<'a>(&'a self, token: &'a Secret) -> Answer<'a, ()>;
}

/// Whom to log in to, and with what.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The region's URL; `None` only where no rung asks it.
    pub region: Option<url::Url>,
    /// The ladder.
    pub credential: Credential,
}

/// What the token plane works with.
pub struct Deps {
    /// The region.
    pub login: Arc<dyn Login>,
    /// The clock.
    pub clock: Clock,
    /// The files.
    pub files: Arc<dyn Layer>,
    /// The dice of the schedule.
    pub dice: fastrand::Rng,
}

impl Deps {
    /// The system's files and random dice.
    #[must_use]
    pub fn system(login: Arc<dyn Login>, clock: Clock) -> Deps {
        Deps {
            login,
            clock,
            files: Arc::new(OsFiles),
            dice: fastrand::Rng::new(),
        }
    }
}

/// The readers' end, and the task to spawn.
#[must_use]
pub fn new(settings: Settings, deps: Deps) -> (Handle, Task) {
    let (handle, sender, wishes) = Handle::new(State {
        token: None,
        attempts: 0,
        phase: Phase::Working,
        force_allowed_at: Boot::default(),
        degraded: Vec::new(),
    });
    let counters = Arc::clone(&handle.counters);
    (handle, Task::new(settings, deps, sender, wishes, counters))
}

/// As [`new`], for the same region as `before`: its token serves until there is another, and its
/// numbers go on.
#[must_use]
pub fn follow(settings: Settings, deps: Deps, before: &Handle) -> (Handle, Task) {
    let old = before.state();
    let (mut handle, sender, wishes) = Handle::new(State {
        token: old.token.clone(),
        attempts: 0,
        phase: Phase::Working,
        force_allowed_at: old.force_allowed_at,
        degraded: Vec::new(),
    });
    handle.counters = Arc::clone(&before.counters);
    handle.counters.login_refused.store(false, Relaxed);
    let counters = Arc::clone(&handle.counters);
    (handle, Task::new(settings, deps, sender, wishes, counters))
}

/// Numbers for the metrics, written by the token plane alone.
#[derive(Debug, Default)]
pub struct Counters {
    /// Refreshes and logins that brought a token.
    pub refresh_ok: AtomicU64,
    /// Those that failed in passing.
    pub refresh_transient: AtomicU64,
    /// Those that the region refused.
    pub refresh_refused: AtomicU64,
    /// A rotated refresh token could not be written, each time it was tried.
    pub state_write_failures: AtomicU64,
    /// Every rung is refused.
    pub login_refused: AtomicBool,
    /// When the access token ends, by the region's clock. Seconds since the epoch, 0 for none.
    pub token_expiry_unix_s: AtomicI64,
    /// When the refresh token ends, by the region's clock. Seconds since the epoch, 0 for unknown.
    pub refresh_token_expiry_unix_s: AtomicI64,
    /// The region's clock less ours. Seconds.
    pub clock_skew_s: AtomicI64,
}

/// A published access token.
#[derive(Debug)]
pub struct Token {
    /// The token itself, for `regent token`.
    pub secret: Secret,
    /// `Bearer <token>`, ready to be sent, marked sensitive.
    pub bearer: HeaderValue,
    /// It is never sent at or after this.
    pub expires_at: Boot,
    /// Counts up with every token; names the one that an upstream refused.
    pub generation: u64,
    /// Whose it is, for people: the username, else the user id.
    pub user: String,
}

/// What the token plane is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A call is under way, or one is about to start at the first demand: worth waiting for.
    Working,
    /// The last call failed in passing; the next is at `retry_at`.
    BackingOff {
        /// The next attempt.
        retry_at: Boot,
        /// What failed, for people; no secret in it.
        why: String,
    },
    /// Every rung was refused: a person must act.
    Parked {
        /// What the region said, and what to do; no secret in it.
        why: String,
    },
}

/// What data threads see.
#[derive(Clone, Debug)]
pub struct State {
    /// The last good token; look at its expiry before use.
    pub token: Option<Arc<Token>>,
    /// Counts attempts that ended, in either way, so that waiters wake for failures too.
    pub attempts: u64,
    /// What is going on.
    pub phase: Phase,
    /// A 401 may force a refresh from here on.
    pub force_allowed_at: Boot,
    /// What is wrong though requests succeed, for `/readyz` and the status; no secret in it.
    pub degraded: Vec<String>,
}

/// What a request that needs a token does now.
#[derive(Debug)]
pub enum Now {
    /// Send this one.
    Ready(Arc<Token>),
    /// Wait for the next [`State`].
    Wait,
    /// Passing: answer `no_access_token` with this as `Retry-After`.
    Unavailable(Duration),
    /// Final: answer `login_refused`.
    Refused,
}

impl State {
    /// What a request that needs a token does at `now`.
    #[must_use]
    pub fn at(&self, now: Boot) -> Now {
        if let Some(token) = &self.token
            && now < token.expires_at
        {
            return Now::Ready(Arc::clone(token));
        }
        match &self.phase {
            Phase::Working => Now::Wait,
            Phase::BackingOff { retry_at, .. } if now < *retry_at => {
                Now::Unavailable(retry_at.since(now))
            }
            Phase::BackingOff { .. } => Now::Wait,
            Phase::Parked { .. } => Now::Refused,
        }
    }
}

impl State {
    /// What is wrong beside `why`, which some of it ends in.
    pub fn degraded_beside(&self, why: Option<&str>) -> impl Iterator<Item = &String> {
        let is_told = move |line: &String| why.is_some_and(|why| line.ends_with(why));
        self.degraded.iter().filter(move |line| !is_told(line))
    }

    /// Whether the last attempt failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.phase != Phase::Working
    }

    /// Why there is no token, for people; no secret in it.
    #[must_use]
    pub fn why(&self) -> String {
        match &self.phase {
            Phase::Working => "the region has not answered yet".to_owned(),
            Phase::BackingOff { why, .. } | Phase::Parked { why } => why.clone(),
        }
    }
}

/// The readers' end.
#[derive(Clone, Debug)]
pub struct Handle {
    state: watch::Receiver<Arc<State>>,
    wishes: Arc<Wishes>,
    counters: Arc<Counters>,
}

/// Notes that readers leave for the token plane, coalesced.
#[derive(Debug, Default)]
pub struct Wishes {
    /// The newest generation that an upstream refused.
    refused_generation: AtomicU64,
    /// The config was read again, and nothing of the login has changed in it.
    reloaded: AtomicBool,
    wake: Notify,
}

impl Wishes {
    /// The newest generation that an upstream refused, 0 for none.
    #[must_use]
    pub fn refused_generation(&self) -> u64 {
        self.refused_generation.load(Relaxed)
    }

    /// Whether the config was read again, and that has not been heeded yet.
    #[must_use]
    pub fn is_reloaded(&self) -> bool {
        self.reloaded.load(Relaxed)
    }

    /// A reload has been heeded.
    pub fn heeded_reload(&self) {
        self.reloaded.store(false, Relaxed);
    }

    /// Ends when a reader left a note.
    pub async fn noted(&self) {
        self.wake.notified().await;
    }
}

impl Handle {
    /// A handle, and what the token plane keeps.
    #[must_use]
    pub fn new(first: State) -> (Handle, watch::Sender<Arc<State>>, Arc<Wishes>) {
        let (sender, state) = watch::channel(Arc::new(first));
        let wishes = Arc::new(Wishes::default());
        let handle = Handle {
            state,
            wishes: Arc::clone(&wishes),
            counters: Arc::new(Counters::default()),
        };
        (handle, sender, wishes)
    }

    /// The state as it is now. Takes the channel's lock: not for the hot path.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.borrow())
    }

    /// A receiver of our own, for a mirror or a waiter.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.state.clone()
    }

    /// The numbers for the metrics.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Says that a request is waiting for a token.
    pub fn demand(&self) {
        self.wishes.wake.notify_one();
    }

    /// Says that an upstream refused the token of this generation.
    pub fn force(&self, generation: u64) {
        self.wishes
            .refused_generation
            .fetch_max(generation, Relaxed);
        self.wishes.wake.notify_one();
    }

    /// Says that the config was read again: what the region refused is worth asking about at once.
    pub fn reloaded(&self) {
        self.wishes.reloaded.store(true, Relaxed);
        self.wishes.wake.notify_one();
    }
}

/// Stands for the region where no rung asks it.
#[derive(Debug)]
pub struct NoRegion;

impl NoRegion {
    fn answer<T: Send + 'static>() -> Answer<'static, T> {
        let answer = Err(region::Error::Transient {
            what: "no region is known; set `region.url`".to_owned(),
            retry_after: None,
        });
        Box::pin(std::future::ready(answer))
    }
}

impl Login for NoRegion {
    fn log_in<'a>(&'a self, _: &'a str, _: &'a Secret) -> Answer<'a, Tokens> {
        NoRegion::answer()
    }

    fn refresh<'a>(&'a self, _: &'a Secret) -> Answer<'a, Tokens> {
        NoRegion::answer()
    }

    fn verify<'a>(&'a self, _: &'a Secret) -> Answer<'a, ()> {
        NoRegion::answer()
    }
}

impl Login for region::Region {
    fn log_in<'a>(&'a self, email: &'a str, password: &'a Secret) -> Answer<'a, Tokens> {
        Box::pin(region::Region::log_in(self, email, password))
    }

    fn refresh<'a>(&'a self, token: &'a Secret) -> Answer<'a, Tokens> {
        Box::pin(region::Region::refresh(self, token))
    }

    fn verify<'a>(&'a self, token: &'a Secret) -> Answer<'a, ()> {
        Box::pin(region::Region::verify(self, token))
    }
}
