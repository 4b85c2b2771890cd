//! STUB: the signatures are fixed, the bodies are to be written.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use url::Url;

use super::key_set::KeySet;
use crate::clock::{Boot, Clock};
use crate::fetch;
use crate::files::Layer;

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
}

/// The readers' end. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    published: watch::Receiver<Arc<Snapshot>>,
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
    pub fn demand(&self, _issuer: usize) {}
}

/// What keeps the keys fresh; to be spawned.
#[derive(Debug)]
pub struct Task {
    _published: watch::Sender<Arc<Snapshot>>,
}

impl Task {
    /// Runs until `stopped` ends.
    pub async fn run(self, stopped: oneshot::Receiver<()>) {
        let _ = stopped.await;
    }
}

/// A key plane. Issuers that `before` has with the same source keep their keys.
#[must_use]
pub fn new(_settings: Vec<Settings>, _deps: Deps, _before: Option<&Handle>) -> (Handle, Task) {
    let (sender, published) = watch::channel(Arc::default());
    (Handle { published }, Task { _published: sender })
}
