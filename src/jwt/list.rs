//! A list that is read again and again, from a file or a URL: issuers, or tokens that were revoked.
//!
//! 1. What was good stays in use until another good one comes, however long that takes; never half of
//!    one.
//! 2. A file is looked at every few seconds. A URL is fetched in the second half of `refresh`, with
//!    its ETag; after failures with back-off. A redirect is a failure.
//! 3. Where the list must be signed, its signature stands beside it, under the same name with `.sig`
//!    at its end, and is verified before the list is read.
//! 4. A list that says what it said before is no new one: its epoch stays.
//!
//! What a list says is its reader's business.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::watch;
use url::Url;

use self::read::Read;
use super::keys::Failure;
use crate::backoff;
use crate::clock::{Boot, Clock};
use crate::config::inbound::List;
use crate::fetch;
use crate::files::Layer;
use crate::secret::Digest;

mod read;
mod signer;
#[cfg(test)]
mod tests;

pub use signer::{SIGNATURE_TYP, Signer};

/// The most that a list may have. Bytes.
pub const BODY_LIMIT: usize = 1 << 20;
/// How often a file is looked at, and the longest that one timer runs.
const POLL: Duration = Duration::from_secs(5);

/// Where a list is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file.
    File(PathBuf),
    /// A document.
    Url(Url),
}

/// A list, and how it is read.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its table in the config.
    pub table: &'static str,
    /// Where it is.
    pub place: Place,
    /// How often it is fetched.
    pub refresh: Duration,
    /// The way to its URL.
    pub fetch: Option<fetch::Service>,
    /// Whose signature it must have.
    pub signer: Option<Signer>,
}

/// How lists are fetched.
#[must_use]
pub fn fetch_settings(side: &List, ca_setting: &'static str) -> fetch::Settings {
    fetch::Settings {
        ca_file: side.ca_file.clone(),
        proxy: side.proxy.clone(),
        ca_setting,
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

/// A list, as it is now.
#[derive(Debug)]
pub struct State<T> {
    /// The last good one; `None`: there has been none yet.
    pub list: Option<Arc<T>>,
    /// Counts the lists that differ; 0 as long as there is none.
    pub epoch: u64,
    /// What went wrong last, for people; `None`: nothing.
    pub trouble: Option<String>,
    /// Counts every attempt that ended, good or bad.
    pub attempts: u64,
    /// When the next attempt is due.
    pub next_attempt_at: Boot,
    /// What the list was read from.
    digest: Option<Digest>,
    etag: Option<HeaderValue>,
}

impl<T> Clone for State<T> {
    fn clone(&self) -> State<T> {
        State {
            list: self.list.clone(),
            trouble: self.trouble.clone(),
            etag: self.etag.clone(),
            ..*self
        }
    }
}

/// The readers' end. Cheap to clone.
#[derive(Debug)]
pub struct Handle<T> {
    place: Arc<Place>,
    published: watch::Receiver<Arc<State<T>>>,
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Handle<T> {
        Handle {
            place: Arc::clone(&self.place),
            published: self.published.clone(),
        }
    }
}

impl<T> Handle<T> {
    /// The present state.
    #[must_use]
    pub fn state(&self) -> Arc<State<T>> {
        Arc::clone(&self.published.borrow())
    }

    /// Every later one too.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<State<T>>> {
        self.published.clone()
    }

    /// Where the list is.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }
}

/// Reads a list; `Err` says in one line why it is none.
pub type Parse<T> = fn(&[u8]) -> Result<T, String>;

/// What reads the list again; to be spawned.
pub struct Task<T> {
    settings: Settings,
    parse: Parse<T>,
    clock: Clock,
    files: Arc<dyn Layer>,
    dice: fastrand::Rng,
    failures: u32,
    due: Boot,
    /// Names what was refused last, so that it is not judged at every look.
    refused: Option<Digest>,
    published: watch::Sender<Arc<State<T>>>,
}

impl<T> std::fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task")
            .field("place", &self.settings.place)
            .finish_non_exhaustive()
    }
}

/// A list. What `before` has read stays in use until there is something newer; where it read from
/// another place, as one that is to be replaced. A file is read at once.
///
/// # Errors
/// A file that `before` does not read is not there, or holds no list.
pub fn new<T>(
    settings: Settings,
    parse: Parse<T>,
    deps: Deps,
    before: Option<&Handle<T>>,
) -> Result<(Handle<T>, Task<T>), String> {
    let now = deps.clock.boot();
    let old = before.map(Handle::state);
    let goes_on = before.is_some_and(|before| *before.place == settings.place);
    let state = match &old {
        Some(old) if goes_on => State::clone(old),
        _ => State {
            list: old.as_ref().and_then(|old| old.list.clone()),
            epoch: old.as_ref().map_or(0, |old| old.epoch),
            trouble: Some("it has not been read yet".to_owned()),
            attempts: 0,
            next_attempt_at: now,
            digest: None,
            etag: None,
        },
    };
    let due = state.next_attempt_at.min(now + settings.refresh);
    let place = Arc::new(settings.place.clone());
    let (sender, published) = watch::channel(Arc::new(state));
    let mut task = Task {
        settings,
        parse,
        clock: deps.clock,
        files: deps.files,
        dice: deps.dice,
        failures: 0,
        refused: None,
        due,
        published: sender,
    };
    if !goes_on && let Place::File(path) = &*place {
        let read = task.file(path)?;
        let list = (task.parse)(&read.document).map_err(|why| task.named(&why))?;
        // Whether the signature is good is known once keys are.
        if task.settings.signer.is_none() {
            task.take(list, &read);
        }
    }
    Ok((Handle { place, published }, task))
}

impl<T> Task<T> {
    /// Ends when nobody holds a [`Handle`] any more.
    pub async fn run(mut self) {
        loop {
            let now = self.clock.boot();
            let mut wait = POLL;
            match &self.settings.place {
                Place::File(path) => {
                    let read = self.file(path);
                    self.look(read);
                }
                Place::Url(_) if now >= self.due => {
                    self.fetch().await;
                    continue;
                }
                Place::Url(_) => wait = self.due.since(now).min(POLL),
            }
            tokio::select! {
                () = self.published.closed() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// One look, for commands.
    pub async fn once(&mut self) {
        match &self.settings.place {
            Place::File(path) => {
                let read = self.file(path);
                self.look(read);
            }
            Place::Url(_) => self.fetch().await,
        }
    }

    /// Takes what a file holds, where it is another list.
    fn look(&mut self, read: Result<Read, String>) {
        let is_known = |read: &Read| self.state().digest == Some(read.digest());
        let known = read.as_ref().is_ok_and(is_known);
        let digest = read.as_ref().ok().map(Read::digest);
        // A signature may be good with the keys of now.
        if digest.is_some() && digest == self.refused && self.settings.signer.is_none() {
            return;
        }
        let judged = match read {
            Ok(_) if known => Ok(None),
            Ok(read) => self.judge(&read).map(|list| Some((list, read))),
            Err(why) => Err(why),
        };
        self.refused = digest.filter(|_| judged.is_err());
        let next = self.clock.boot() + POLL;
        self.settle(judged, next);
    }

    async fn fetch(&mut self) {
        let Place::Url(url) = self.settings.place.clone() else {
            return;
        };
        let started = self.clock.boot();
        let fetched = self.fetched(&url).await;
        let now = self.clock.boot();
        let (judged, retry_after) = match fetched {
            Ok(None) => (Ok(None), None),
            Ok(Some(read)) if self.state().digest == Some(read.digest()) => (Ok(None), None),
            Ok(Some(read)) => (self.judge(&read).map(|list| Some((list, read))), None),
            Err(Failure { why, retry_after }) => (Err(why), retry_after),
        };
        self.due = if judged.is_ok() {
            self.failures = 0;
            let refresh = self.settings.refresh;
            let wait = refresh / 2 + (refresh / 2).mul_f64(self.dice.f64());
            (started + wait).max(now + backoff::FLOOR)
        } else {
            self.failures = self.failures.saturating_add(1);
            now + backoff::wait(self.failures, retry_after, self.dice.f64())
        };
        let due = self.due;
        self.settle(judged, due);
    }

    fn state(&self) -> Arc<State<T>> {
        Arc::clone(&self.published.borrow())
    }

    /// Publishes a list that is another one.
    fn take(&mut self, list: T, read: &Read) {
        self.published.send_modify(|state| {
            let state = Arc::make_mut(state);
            state.list = Some(Arc::new(list));
            state.epoch += 1;
            state.digest = Some(read.digest());
            state.etag.clone_from(&read.etag);
            state.trouble = None;
        });
    }

    /// What an attempt came to; `Ok(None)`: the list that is in use.
    fn settle(&mut self, judged: Result<Option<(T, Read)>, String>, next: Boot) {
        let table = self.settings.table;
        let before = self.state();
        let is_new = matches!(judged, Ok(Some(_)));
        let trouble = match judged {
            Ok(None) => None,
            Ok(Some((list, read))) => {
                self.take(list, &read);
                tracing::info!("{table}: a new list is in use");
                None
            }
            Err(why) => Some(why),
        };
        match (&before.trouble, &trouble) {
            (Some(_), None) if before.list.is_some() => {
                tracing::info!("{table}: the list can be read again");
            }
            (was, Some(why)) if was.as_ref() != Some(why) => {
                let rest = match before.list {
                    Some(_) => "the last good one stays in use",
                    None => "there is none until then",
                };
                tracing::warn!("{table}: the list cannot be taken: {why}; {rest}");
            }
            _ => {}
        }
        if !is_new
            && before.attempts > 0
            && matches!(self.settings.place, Place::File(_))
            && before.trouble == trouble
        {
            // Nobody need hear of every look at a file.
            return;
        }
        self.published.send_modify(|state| {
            let state = Arc::make_mut(state);
            state.trouble = trouble;
            state.attempts += 1;
            state.next_attempt_at = next;
        });
    }
}
