//! Keys over time: the control plane keeps each issuer's keys fresh, and publishes them.
//!
//! 1. Keys that were good stay in use while the issuer is away, up to `jwks_max_stale`.
//! 2. An unknown `kid` costs an issuer at most one fetch per cool-down, however many tokens name it.
//! 3. A key that the issuer withdrew is gone with the next refresh: within `jwks_refresh`, which the
//!    issuer's `Cache-Control` can only shorten.
//! 4. Issuers are followed apart: a slow one harms no other.
//! 5. A file that is broken, emptied or deleted costs nothing that was read before.
//!
//! What a key set is, and which keys are fit for use, is [`super::key_set`]'s business.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use url::Url;

use self::follow::{Follower, Kept};

pub(super) use self::remote::{ETAG_LIMIT, Failure, expect_ok};
pub use super::key_set::KeyError;
use super::key_set::KeySet;
use crate::clock::{Boot, Clock};
use crate::config::Proxy;
use crate::fetch;
use crate::files::Layer;

mod follow;
mod remote;
mod schedule;
#[cfg(test)]
mod tests;

/// The most that a JWK set may have, from a file or over the network. Bytes.
pub const BODY_LIMIT: usize = 256 * 1024;

/// Where an issuer's keys come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// They stand in the config.
    Fixed(Arc<KeySet>),
    /// A PEM file, read again when it changes.
    PemFile(PathBuf),
    /// A file with a JWK set, read again when it changes.
    JwksFile(PathBuf),
    /// A JWK set.
    JwksUrl(Url),
    /// A discovery document (OpenID Connect Discovery 1.0 section 4), which names the JWK set.
    DiscoveryUrl(Url),
}

/// One issuer, as far as its keys go.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name in the config.
    pub name: String,
    /// Its `iss`: what a discovery document must say.
    pub issuer: String,
    /// Where its keys come from.
    pub source: Source,
    /// `jwks_refresh`.
    pub refresh: Duration,
    /// `jwks_cooldown`.
    pub cooldown: Duration,
    /// `jwks_max_stale`.
    pub max_stale: Duration,
    /// A discovery document may name a plain `http://` JWK set that is not on loopback.
    pub insecure_http: bool,
    /// The issuer's own way out, so that a slow one harms no other.
    pub fetch: Option<fetch::Service>,
    /// Where its keys are is not the config's word: only public addresses are connected to.
    pub public_only: bool,
    /// Those that share it wait for each other, so that a thousand issuers are not a thousand calls
    /// at once. The wait is no part of a call's time.
    pub lane: Option<Arc<Semaphore>>,
}

impl Settings {
    /// Whether its keys come over the network.
    fn is_remote(&self) -> bool {
        matches!(self.source, Source::JwksUrl(_) | Source::DiscoveryUrl(_))
    }

    /// Whether the other one's keys are good for this one.
    fn is_same_issuer(&self, other: &Settings) -> bool {
        let is_same_source = match (&self.source, &other.source) {
            (Source::Fixed(one), Source::Fixed(other)) => one.digest() == other.digest(),
            (Source::PemFile(one), Source::PemFile(other))
            | (Source::JwksFile(one), Source::JwksFile(other)) => one == other,
            (Source::JwksUrl(one), Source::JwksUrl(other))
            | (Source::DiscoveryUrl(one), Source::DiscoveryUrl(other)) => one == other,
            _ => false,
        };
        is_same_source
            && self.name == other.name
            && self.issuer == other.issuer
            && self.insecure_http == other.insecure_http
            && self.public_only == other.public_only
    }
}

/// How keys are fetched: as everything else is, but for larger bodies.
#[must_use]
pub fn fetch_settings(ca_file: Option<PathBuf>, proxy: Option<Proxy>) -> fetch::Settings {
    fetch::Settings {
        ca_file,
        proxy,
        ca_setting: "the issuer's ca_file",
        body_limit: BODY_LIMIT,
        ..fetch::Settings::default()
    }
}

/// What comes from outside.
pub struct Deps {
    /// The clock.
    pub clock: Clock,
    /// Files.
    pub files: Arc<dyn Layer>,
    /// The dice of jitter.
    pub dice: fastrand::Rng,
}

/// One issuer's keys, as they are now.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The last good set.
    pub set: Option<Arc<KeySet>>,
    /// From here on the set is too old to be used; `None`: never.
    pub stale_at: Option<Boot>,
    /// From here on an unknown `kid` may ask for a fetch; `None`: no fetch would help.
    pub fetch_allowed_at: Option<Boot>,
    /// When the next attempt is due, for `Retry-After`.
    pub next_attempt_at: Boot,
    /// Counts every attempt that ended, good or bad.
    pub attempts: u64,
    /// What went wrong last, for people; `None`: nothing.
    pub trouble: Option<String>,
}

impl Keys {
    /// The set, where it is not too old.
    #[must_use]
    pub fn usable(&self, now: Boot) -> Option<&Arc<KeySet>> {
        let is_fresh = self.stale_at.is_none_or(|end| now < end);
        self.set.as_ref().filter(|_| is_fresh)
    }
}

/// The keys of all issuers, in the order of the settings.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// One for each issuer.
    pub issuers: Vec<Keys>,
    /// Whether signatures by some of them take long, see [`KeySet::is_slow`].
    pub is_slow: bool,
}

impl Snapshot {
    /// Of these keys.
    #[must_use]
    pub fn new(issuers: Vec<Keys>) -> Snapshot {
        let mut snapshot = Snapshot {
            issuers,
            is_slow: false,
        };
        snapshot.weigh();
        snapshot
    }

    fn weigh(&mut self) {
        let mut sets = self.issuers.iter().filter_map(|keys| keys.set.as_ref());
        self.is_slow = sets.any(|set| set.is_slow());
    }
}

/// Numbers of one issuer for the metrics, written by the key plane alone.
#[derive(Debug, Default)]
pub struct Counters {
    /// Fetches that brought keys, or the word that they have not changed.
    pub fetches_ok: AtomicU64,
    /// Fetches that did not.
    pub fetches_failed: AtomicU64,
    /// The keys of the last good set.
    pub keys: AtomicU64,
    /// When the keys were last fetched or read. Nanoseconds since boot, 0 for never.
    good_at: AtomicU64,
}

impl Counters {
    /// The time since the keys were last fetched or read; `None`: never, or they stand in the
    /// config.
    #[must_use]
    pub fn age(&self, now: Boot) -> Option<Duration> {
        let good_at = self.good_at.load(Relaxed);
        (good_at > 0).then(|| now.since(Boot::from_nanos(good_at)))
    }

    fn note(&self, keys: &Keys, good_at: Option<Boot>) {
        let count = keys.set.as_ref().map_or(0, |set| set.keys().len());
        self.keys.store(count as u64, Relaxed);
        self.good_at
            .store(good_at.map_or(0, Boot::as_nanos), Relaxed);
    }
}

/// What readers and the task share of one issuer.
#[derive(Debug)]
struct Desk {
    settings: Settings,
    kept: Mutex<Kept>,
    counters: Arc<Counters>,
    wanted: AtomicBool,
    wake: Notify,
}

/// The readers' end. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    published: watch::Receiver<Arc<Snapshot>>,
    desks: Arc<[Desk]>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.counters().map(|(name, _)| name);
        f.debug_set().entries(names).finish()
    }
}

impl Handle {
    /// The present keys.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.published.borrow())
    }

    /// Every later word too.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.published.clone()
    }

    /// A token names a key that this issuer's set does not have: fetch, where the cool-down lets it.
    /// [`Keys::attempts`] counts on when that is done, well or badly.
    pub fn demand(&self, issuer: usize) {
        if let Some(desk) = self.desks.get(issuer)
            && !desk.wanted.swap(true, Relaxed)
        {
            desk.wake.notify_one();
        }
    }

    /// What it was made of.
    pub fn settings(&self) -> impl Iterator<Item = &Settings> {
        self.desks.iter().map(|desk| &desk.settings)
    }

    /// The numbers of every issuer, with its name, in the order of the settings.
    pub fn counters(&self) -> impl Iterator<Item = (&str, &Counters)> {
        let desks = self.desks.iter();
        desks.map(|desk| (&*desk.settings.name, &*desk.counters))
    }
}

/// What keeps the keys fresh; to be spawned.
pub struct Task {
    followers: Vec<Follower>,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task")
            .field("followers", &self.followers.len())
            .finish()
    }
}

impl Task {
    /// Runs until `stopped` ends. A fetch that is under way is left: it holds nothing.
    pub async fn run(self, stopped: oneshot::Receiver<()>) {
        let mut running = JoinSet::new();
        for follower in self.followers {
            running.spawn(follower.follow());
        }
        let panics = async {
            while let Some(ended) = running.join_next().await {
                if ended.is_err() {
                    tracing::error!("what follows an issuer's keys panicked: they grow old now");
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = stopped => {}
            () = panics => {}
        }
    }
}

/// A key plane. Issuers that `before` has with the same source keep their keys, and are not asked
/// again for the sake of a reload. Keys in the config and in files are there from the first snapshot
/// on: where [`Keys::set`] is `None` for one of those, [`Keys::trouble`] says what is wrong with it.
#[must_use]
pub fn new(settings: Vec<Settings>, deps: Deps, before: Option<&Handle>) -> (Handle, Task) {
    let now = deps.clock.boot();
    let mut taken = Vec::new();
    let old = before.map_or(&[][..], |before| &before.desks);
    let by_name: HashMap<&str, usize> = (old.iter().enumerate())
        .map(|(at, desk)| (&*desk.settings.name, at))
        .collect();
    let desks: Arc<[Desk]> = settings
        .into_iter()
        .map(|settings| {
            let known = before.and_then(|before| {
                let at = *by_name.get(&*settings.name)?;
                let is_same = before.desks[at].settings.is_same_issuer(&settings);
                is_same.then(|| (Arc::clone(&before.desks), at))
            });
            let desk = desk(settings, known.as_ref().map(|(desks, at)| &desks[*at]), now);
            taken.push(known);
            desk
        })
        .collect();
    let issuers = desks.iter().map(|desk| desk.kept().keys.clone()).collect();
    let (sender, published) = watch::channel(Arc::new(Snapshot::new(issuers)));
    let sender = Arc::new(sender);
    let Deps {
        clock,
        files,
        mut dice,
    } = deps;
    let mut followers = Vec::new();
    for (at, before) in taken.into_iter().enumerate() {
        if matches!(desks[at].settings.source, Source::Fixed(_)) {
            continue;
        }
        let mut follower = Follower {
            at,
            desks: Arc::clone(&desks),
            before,
            clock: clock.clone(),
            files: Arc::clone(&files),
            dice: dice.fork(),
            published: Arc::clone(&sender),
        };
        follower.read();
        followers.push(follower);
    }
    (Handle { published, desks }, Task { followers })
}

fn desk(settings: Settings, before: Option<&Desk>, now: Boot) -> Desk {
    let kept = match before {
        Some(before) => before.kept().clone().under(&settings),
        None => Kept::new(&settings, now),
    };
    let counters = match before {
        Some(before) => Arc::clone(&before.counters),
        None => Arc::default(),
    };
    counters.note(&kept.keys, kept.good_at());
    Desk {
        settings,
        kept: Mutex::new(kept),
        counters,
        wanted: AtomicBool::new(false),
        wake: Notify::new(),
    }
}

/// Every issuer's keys, got once and side by side, for `regent explain` and `check --online`. Where
/// it failed, [`Keys::trouble`] is the line that says why.
pub async fn fetch_once(settings: Vec<Settings>, deps: Deps) -> Arc<Snapshot> {
    let (handle, task) = new(settings, deps, None);
    let mut running = JoinSet::new();
    for mut follower in task.followers {
        running.spawn(async move { follower.once().await });
    }
    while running.join_next().await.is_some() {}
    handle.snapshot()
}
