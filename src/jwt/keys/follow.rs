//! What keeps one issuer's keys fresh, as long as the key plane runs.
//!
//! 1. A failure never destroys keys that are still good.
//! 2. One fetch at a time; who asks while one is under way waits for that one.
//! 3. The cool-down counts from the start of the last attempt, whatever asked for it and whatever
//!    came of it, and is published when the attempt ends: who asks before joins it.
//! 4. A set of the same material stays the same `Arc`, so that cached verdicts stay good.
//!
//! It sleeps in pieces of a few seconds: deadlines are on a clock that runs through a laptop's
//! sleep, timers are not.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::remote::{self, Failure, Known};
use super::schedule::{self, POLL};
use super::{BODY_LIMIT, Desk, Keys, Settings, Snapshot, Source};
use crate::backoff;
use crate::clock::{Boot, Clock};
use crate::files::Layer;
use crate::jwt::key_set::KeySet;
use crate::secret::Digest;

/// What is known of an issuer; a reload takes it over.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// What readers see.
    pub(super) keys: Keys,
    known: Known,
    good_at: Option<Boot>,
    started: Option<Boot>,
    failures: u32,
    due: Boot,
    /// The content that was judged last, of a file.
    content: Option<Digest>,
}

impl Kept {
    /// Of an issuer that nothing is known of yet.
    pub(super) fn new(settings: &Settings, now: Boot) -> Kept {
        let is_remote = settings.is_remote();
        let set = match &settings.source {
            Source::Fixed(set) => Some(Arc::clone(set)),
            _ => None,
        };
        Kept {
            keys: Keys {
                set,
                stale_at: None,
                fetch_allowed_at: is_remote.then_some(now),
                next_attempt_at: now,
                attempts: 0,
                trouble: is_remote.then(|| "they have not been fetched yet".to_owned()),
            },
            known: Known::default(),
            good_at: None,
            started: None,
            failures: 0,
            due: now,
            content: None,
        }
    }

    pub(super) fn good_at(&self) -> Option<Boot> {
        self.good_at
    }

    /// What stays true under other intervals.
    pub(super) fn under(mut self, settings: &Settings) -> Kept {
        if settings.is_remote() {
            self.keys.stale_at = self.good_at.map(|at| at + settings.max_stale);
            if let Some(started) = self.started
                && self.failures == 0
            {
                self.due = self.due.min(started + settings.refresh);
            }
            self.keys.next_attempt_at = self.due;
        }
        self
    }
}

/// One issuer's place at work.
pub(super) struct Follower {
    /// Its place among the issuers.
    pub(super) at: usize,
    /// All issuers.
    pub(super) desks: Arc<[Desk]>,
    /// Where a reload took the keys from: the plane before may run on for a moment.
    pub(super) before: Option<(Arc<[Desk]>, usize)>,
    pub(super) clock: Clock,
    pub(super) files: Arc<dyn Layer>,
    pub(super) dice: fastrand::Rng,
    pub(super) published: Arc<watch::Sender<Arc<Snapshot>>>,
}

impl Follower {
    fn desk(&self) -> &Desk {
        &self.desks[self.at]
    }

    fn settings(&self) -> &Settings {
        &self.desk().settings
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.desk().kept()
    }

    /// Never ends.
    pub(super) async fn follow(mut self) {
        self.catch_up();
        if !self.settings().is_remote() {
            loop {
                self.read();
                tokio::time::sleep(POLL).await;
            }
        }
        loop {
            let now = self.clock.boot();
            let (due, allowed) = {
                let kept = self.kept();
                (kept.due, kept.keys.fetch_allowed_at)
            };
            // A wish that comes too early is dropped: nobody waits for it.
            let wanted = self.desk().take_wish() && allowed.is_some_and(|at| now >= at);
            if wanted || now >= due {
                self.attempt().await;
                continue;
            }
            tokio::select! {
                () = self.desk().wake.notified() => {}
                () = tokio::time::sleep(due.since(now).min(POLL)) => {}
            }
        }
    }

    /// Takes what the plane before has learned since this one was made.
    fn catch_up(&mut self) {
        let Some((desks, at)) = self.before.take() else {
            return;
        };
        let newer = desks[at].kept().clone();
        if newer.keys.attempts > self.kept().keys.attempts {
            let newer = newer.under(self.settings());
            self.settle(newer);
        }
    }

    /// One fetch, where the keys come over the network: files were read already.
    pub(super) async fn once(&mut self) {
        if self.settings().is_remote() {
            self.attempt().await;
        }
    }

    /// One fetch, and what comes of it published.
    async fn attempt(&mut self) {
        let lane = self.settings().lane.clone();
        let _place = match &lane {
            // It is never closed.
            Some(lane) => lane.acquire().await.ok(),
            None => None,
        };
        let started = self.clock.boot();
        let mut kept = self.kept().clone();
        let found = remote::fetch(self.settings(), &self.clock, &mut kept.known).await;
        let now = self.clock.boot();
        kept.started = Some(started);
        kept.keys.attempts += 1;
        let not_before = match found {
            Ok(set) => self.good(&mut kept, set, started, now),
            Err(failure) => self.bad(&mut kept, failure, now),
        };
        let allowed = (started + self.settings().cooldown).max(not_before);
        kept.keys.fetch_allowed_at = Some(allowed);
        kept.keys.next_attempt_at = kept.due;
        // Those who asked meanwhile have their answer. Before it is published: who asks for more
        // after that is heard.
        self.desk().take_wish();
        self.settle(kept);
    }

    fn good(&mut self, kept: &mut Kept, set: Option<KeySet>, started: Boot, now: Boot) -> Boot {
        let settings = self.settings();
        self.desk().counters.fetches_ok.fetch_add(1, Relaxed);
        if std::mem::take(&mut kept.failures) > 0 {
            tracing::info!(
                issuer.name = settings.name,
                "the keys of issuer \"{}\" can be fetched again",
                settings.name
            );
        }
        kept.keys.trouble = None;
        kept.keys.stale_at = Some(now + settings.max_stale);
        kept.good_at = Some(now);
        if let Some(set) = set {
            take(settings, kept, set);
        }
        let (refresh, fresh) = (settings.refresh, kept.known.fresh);
        let wait = schedule::refresh_after(refresh, fresh, self.dice.f64());
        kept.due = (started + wait).max(now + backoff::FLOOR);
        Boot::default()
    }

    fn bad(&mut self, kept: &mut Kept, failure: Failure, now: Boot) -> Boot {
        let Failure { why, retry_after } = failure;
        self.desk().counters.fetches_failed.fetch_add(1, Relaxed);
        kept.failures = kept.failures.saturating_add(1);
        let wait = backoff::wait(kept.failures, retry_after, self.dice.f64());
        kept.due = now + wait;
        let rest = match (kept.keys.usable(now), kept.good_at) {
            (Some(_), Some(at)) => {
                format!("those of {} s ago stay in use", now.since(at).as_secs())
            }
            (None, Some(_)) => "the last ones are older than jwks_max_stale: its tokens are \
                                answered with 503"
                .to_owned(),
            (_, None) => "until then its tokens are answered with 503".to_owned(),
        };
        let name = &self.settings().name;
        tracing::warn!(
            issuer.name = name,
            retry.after_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            retry.failures = kept.failures,
            "the keys of issuer \"{name}\" cannot be fetched: {why}; {rest}"
        );
        kept.keys.trouble = Some(why);
        now + retry_after.unwrap_or_default()
    }

    /// Reads a file of keys again; what changed is published.
    pub(super) fn read(&mut self) {
        let mut kept = self.kept().clone();
        let (path, is_pem) = match &self.settings().source {
            Source::PemFile(path) => (path, true),
            Source::JwksFile(path) => (path, false),
            _ => return,
        };
        let judged = match content(&*self.files, path) {
            // A file that says what it said is not judged again, good or bad.
            Ok((digest, _)) if kept.content == Some(digest) => match kept.keys.trouble {
                None => Ok(None),
                Some(_) => return,
            },
            Ok((digest, bytes)) => {
                kept.content = Some(digest);
                let set = match is_pem {
                    true => KeySet::from_pem(&bytes),
                    false => KeySet::from_jwks(&bytes),
                };
                set.map(Some).map_err(|error| error.0)
            }
            Err(why) => {
                kept.content = None;
                Err(why)
            }
        };
        let settings = self.settings();
        match judged {
            Ok(set) => {
                if kept.keys.trouble.take().is_some() {
                    tracing::info!(
                        issuer.name = settings.name,
                        "the keys of issuer \"{}\" can be read again",
                        settings.name
                    );
                }
                kept.good_at = Some(self.clock.boot());
                if let Some(set) = set {
                    take(settings, &mut kept, set);
                }
            }
            Err(why) => {
                let trouble = format!("\"{}\": {why}", path.display());
                if kept.keys.trouble.as_ref() != Some(&trouble) {
                    let rest = match kept.keys.set {
                        Some(_) => "what was read there before stays in use",
                        None => "until then its tokens are answered with 503",
                    };
                    tracing::warn!(
                        issuer.name = settings.name,
                        "the keys of issuer \"{}\" cannot be read from {trouble}; {rest}",
                        settings.name
                    );
                }
                kept.keys.trouble = Some(trouble);
            }
        }
        self.settle(kept);
    }

    /// Keeps what is known now, and publishes it where readers see a difference.
    fn settle(&self, kept: Kept) {
        let counters = &self.desk().counters;
        counters.note(&kept.keys, kept.good_at);
        let keys = kept.keys.clone();
        *self.kept() = kept;
        self.published.send_if_modified(|snapshot| {
            let differs = !is_same(&snapshot.issuers[self.at], &keys);
            if differs {
                let snapshot = Arc::make_mut(snapshot);
                snapshot.issuers[self.at] = keys;
                snapshot.weigh();
            }
            differs
        });
    }
}

impl Desk {
    pub(super) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_wish(&self) -> bool {
        self.wanted.swap(false, Relaxed)
    }
}

/// Puts a set in the place of the one before, unless it is the same.
fn take(settings: &Settings, kept: &mut Kept, set: KeySet) {
    let before = kept.keys.set.as_ref().map(|set| set.digest());
    if before == Some(set.digest()) {
        return;
    }
    tracing::info!(
        issuer.name = settings.name,
        keys.count = set.keys().len(),
        keys.ignored = set.ignored.len(),
        "the keys of issuer \"{}\" are now {}",
        settings.name,
        described(&set)
    );
    kept.keys.set = Some(Arc::new(set));
}

/// The `kid`s, and what was left out: a few of each, for they are the issuer's words.
fn described(set: &KeySet) -> String {
    let kids = set.keys().iter().map(|key| match &key.kid {
        Some(kid) => format!("{:?}", kid.chars().take(64).collect::<String>()),
        None => "one without a kid".to_owned(),
    });
    let mut text = few(kids);
    if !set.ignored.is_empty() {
        let ignored = set
            .ignored
            .iter()
            .map(|why| why.chars().take(200).collect());
        text.push_str(&format!("; left out: {}", few(ignored)));
    }
    text
}

fn few(texts: impl ExactSizeIterator<Item = String>) -> String {
    const FEW: usize = 8;
    let more = texts.len().saturating_sub(FEW);
    let mut text = texts.take(FEW).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

fn content(
    files: &dyn Layer,
    path: &Path,
) -> Result<(Digest, zeroize::Zeroizing<Vec<u8>>), String> {
    let bytes = files
        .read(path, BODY_LIMIT)
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => "it is not there".to_owned(),
            _ => format!("it cannot be read: {error}"),
        })?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err("it is empty".to_owned());
    }
    Ok((Digest::of(&bytes), bytes))
}

fn is_same(one: &Keys, other: &Keys) -> bool {
    let set = |keys: &Keys| keys.set.as_ref().map(Arc::as_ptr);
    set(one) == set(other)
        && one.stale_at == other.stale_at
        && one.fetch_allowed_at == other.fetch_allowed_at
        && one.next_attempt_at == other.next_attempt_at
        && one.attempts == other.attempts
        && one.trouble == other.trouble
}
