//! Where a rotated refresh token lives; the only place that writes one.
//!
//! - The document remembers by digest which source token it grew from: it counts only while that
//!   is still what the source holds, so an operator's new token wins over old state.
//! - A file that the config names is shared by the rungs: each keeps its own token in it.
//! - Of several copies (a folder that was read-only for a while, a write that a crash cut off
//!   before its rename, memory that could not be written) the one rotated most often is the truth.
//! - What could not be written stays in memory, is said, and is tried again at every poll. A file
//!   is never emptied.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Counters;
use super::exchange::LOCK_PATIENCE;
use super::source::Rung;
use crate::config::{Credential, StateAt};
use crate::files::atomic::{self, lock_of};
use crate::files::lock::NoLock;
use crate::files::{self, Layer, Lock, Staged};
use crate::secret::{Digest, Secret};

mod document;

/// A rotated refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The token.
    pub token: Secret,
    /// The source token that it grew from.
    pub grew_from: Digest,
    /// How many rotations ago.
    pub rotation: u64,
    /// Whose it is, where the token says so.
    pub user_id: Option<String>,
}

/// The refresh token to use now.
#[derive(Clone, Debug)]
pub struct Current {
    /// The token.
    pub token: Secret,
    /// 0 for the source's own.
    pub rotation: u64,
}

/// The rotated token of one rung.
#[derive(Debug)]
pub struct Store {
    pub(super) files: Arc<dyn Layer>,
    counters: Arc<Counters>,
    region: String,
    at: At,
    /// Other rungs may keep theirs in the same file.
    shared: bool,
    held: Option<Held>,
    /// What is held is newer than what is on the disk.
    unsaved: bool,
    /// Whether the region rotates, as far as its answers told.
    pub(super) rotates: Option<bool>,
    /// A token whose last refresh had no answer, in this process.
    pub(super) unanswered: Option<Digest>,
    /// What is wrong, for the log (once) and the status.
    trouble: Option<String>,
    pub(super) lock_trouble: Option<String>,
}

#[derive(Debug)]
enum At {
    File(PathBuf),
    Memory,
    /// Beside the source where that folder can be written, else in our own folder under a name
    /// that the source token gives.
    Default {
        beside: Option<PathBuf>,
        home: Option<PathBuf>,
    },
}

impl Store {
    /// The store of one rung, as the config wants it. Nothing is read or written yet.
    #[must_use]
    pub fn new(
        credential: &Credential,
        rung: Rung,
        region: Option<&url::Url>,
        files: Arc<dyn Layer>,
        counters: Arc<Counters>,
    ) -> Store {
        let state = |path: &PathBuf| files::beside(path, ".state");
        let at = match (&credential.state, rung) {
            (_, Rung::AccessTokenFile | Rung::Password) | (Some(StateAt::Memory), _) => At::Memory,
            (Some(StateAt::File(path)), _) => At::File(path.clone()),
            (None, Rung::LoginFile) => match &credential.login_file {
                Some(path) => At::File(state(path)),
                None => At::Memory,
            },
            (None, Rung::RefreshTokenFile) => At::Default {
                beside: credential.refresh_token_file.as_ref().map(state),
                home: credential.state_home.clone(),
            },
            (None, Rung::RefreshTokenEnv | Rung::CoreConf) => At::Default {
                beside: None,
                home: credential.state_home.clone(),
            },
        };
        Store {
            files,
            counters,
            region: region
                .map_or("", |region| region.as_str().trim_end_matches('/'))
                .to_owned(),
            shared: matches!(&credential.state, Some(StateAt::File(_))),
            at,
            held: None,
            unsaved: false,
            rotates: None,
            unanswered: None,
            trouble: None,
            lock_trouble: None,
        }
    }

    /// Takes over what another store of the same region held. Its place may have been another, so
    /// that what it held is written again.
    pub(super) fn inherit(&mut self, before: Store) {
        if before.region != self.region {
            return;
        }
        self.unsaved = before.held.is_some();
        self.held = before.held;
        self.rotates = before.rotates;
        self.unanswered = before.unanswered;
    }

    /// Where state could be, the preferred place first.
    fn places(&self, source: Digest) -> Vec<PathBuf> {
        match &self.at {
            At::File(path) => vec![path.clone()],
            At::Memory => Vec::new(),
            At::Default { beside, home } => {
                let named = home
                    .as_ref()
                    .map(|home| home.join(format!("{}.json", &source.to_string()[..32])));
                beside.clone().into_iter().chain(named).collect()
            }
        }
    }

    /// Where state can be written, as far as the folders tell; the preferred place first.
    #[must_use]
    pub fn writable(&self, source: Digest) -> Vec<PathBuf> {
        let mut places = self.places(source);
        // What the config names is tried whatever the folder looks like, and said if it fails.
        if !matches!(self.at, At::File(_)) {
            places.retain(|path| self.files.writable(files::folder_of(path)));
        }
        places
    }

    /// Waits until no other process refreshes the token of this source. Locks nothing for longer than a
    /// look, and makes no lock file.
    pub async fn others_are_done(&self, source: Digest) {
        for place in self.places(source) {
            let lock = lock_of(&place);
            if lock.exists() {
                // Where that cannot be told, there is nothing to wait for.
                let _ = Lock::take(&*self.files, &lock, LOCK_PATIENCE).await;
            }
        }
    }

    /// The refresh token to use while the source holds `source`.
    #[must_use]
    pub fn current(&self, source: &Secret) -> Current {
        let digest = source.digest();
        let on_disk = self
            .places(digest)
            .into_iter()
            .filter_map(|path| self.read(&path, digest));
        let newest = on_disk
            .chain(self.held.clone())
            .filter(|held| held.grew_from == digest)
            // The last of equals: memory before the disk.
            .max_by_key(|held| held.rotation);
        match newest {
            Some(held) => Current {
                token: held.token,
                rotation: held.rotation,
            },
            None => Current {
                token: source.clone(),
                rotation: 0,
            },
        }
    }

    /// What a file holds for this region.
    fn read_all(&self, path: &Path) -> Vec<Held> {
        let content = files::read(&*self.files, path);
        content.map_or(Vec::new(), |content| {
            document::parse(&content, &self.region)
        })
    }

    /// What a file holds that grew from `source`.
    fn read(&self, path: &Path, source: Digest) -> Option<Held> {
        let mut all = self.read_all(path).into_iter();
        all.find(|held| held.grew_from == source)
    }

    /// A document with `held`, and with what other rungs have at `place`.
    fn content(&self, held: &Held, place: &Path) -> zeroize::Zeroizing<Vec<u8>> {
        let others = match self.shared {
            true => document::beside(held, self.read_all(place)),
            false => Vec::new(),
        };
        document::content(&self.region, held, &others)
    }

    /// Under the lock: finishes a write that a crash cut off before its rename, sweeps the rest.
    pub(super) fn recover(&self, place: &Path, source: Digest) {
        let leftovers = atomic::leftovers(&*self.files, place);
        let whole = leftovers.iter().flat_map(|path| self.read_all(path));
        let mut whole: Vec<_> = whole
            .filter(|held| self.shared || held.grew_from == source)
            .collect();
        whole.sort_by_key(|held| held.rotation);
        for held in whole {
            let there = self.read(place, held.grew_from);
            if there.is_some_and(|there| there.rotation >= held.rotation) {
                continue;
            }
            tracing::info!(
                state.file = %place.display(),
                "a refresh token that an interrupted run had not finished storing is taken over"
            );
            if let Err(error) = atomic::write(&*self.files, place, &self.content(&held, place)) {
                tracing::warn!("{error}");
                return;
            }
        }
        for path in leftovers {
            let _ = files::remove(&*self.files, &path);
        }
    }

    /// Room for the next document, reserved before the token is spent.
    pub(super) fn stage<'a>(
        &self,
        files: &'a dyn Layer,
        place: &Path,
        current: &Current,
    ) -> Result<Staged<'a>, files::Error> {
        // A successor is about as long as what it follows; four times covers new claims.
        let own = 4 * current.token.expose().len() + 4096;
        let others = match self.shared {
            true => files::read(files, place).map_or(0, |content| content.len()),
            false => 0,
        };
        Staged::new(files, place, (own + others) as u64)
    }

    /// Keeps a rotated token: in memory at once, and on the disk before this returns where it can.
    pub(super) fn keep(&mut self, held: Held, place: Option<&Path>, staged: Option<Staged<'_>>) {
        self.rotates = Some(true);
        self.held = Some(held.clone());
        self.unsaved = true;
        let Some(place) = place else {
            self.say(
                "the region rotates refresh tokens, and there is no lasting place for them: \
                 a restart will be locked out; set `region.credential.state` to a file in a folder \
                 that can be written and that outlives a restart"
                    .to_owned(),
            );
            return;
        };
        let content = self.content(&held, place);
        let written = match staged {
            Some(staged) => staged.commit(&content),
            None => atomic::write(&*self.files, place, &content),
        };
        self.written(written);
    }

    /// Whether a rotated token waits to be written.
    #[must_use]
    pub fn is_unsaved(&self) -> bool {
        self.unsaved
    }

    /// Tries again to write what could not be written. Waits for nothing.
    pub fn save_again(&mut self) {
        let (true, Some(held)) = (self.unsaved, self.held.clone()) else {
            return;
        };
        let places = self.writable(held.grew_from);
        let Some(first) = places.first() else {
            return;
        };
        let files = Arc::clone(&self.files);
        // No lock to be had is no reason to leave the token in memory alone; a busy one is.
        let lock = match Lock::try_take(&*files, &lock_of(first)) {
            Ok(None) | Err(NoLock::Exhausted(_)) => return,
            Ok(Some(lock)) => Some(lock),
            Err(_) => None,
        };
        let newer = |place: &PathBuf| {
            self.read(place, held.grew_from)
                .is_some_and(|disk| disk.rotation > held.rotation)
        };
        if places.iter().any(newer) {
            self.unsaved = false;
            self.trouble = None;
            return;
        }
        let mut written = Ok(());
        for place in &places {
            match atomic::write(&*files, place, &self.content(&held, place)) {
                Ok(()) => {
                    written = Ok(());
                    break;
                }
                // What is wrong with the preferred place is what is told.
                Err(error) if written.is_ok() => written = Err(error),
                Err(_) => {}
            }
        }
        self.written(written);
        if let (false, Some(lock)) = (self.unsaved, lock) {
            lock.clear();
        }
    }

    fn written(&mut self, result: Result<(), files::Error>) {
        match result {
            Ok(()) => {
                self.unsaved = false;
                if self.trouble.take().is_some() {
                    tracing::info!("the rotated refresh token is stored again");
                }
            }
            Err(error) => {
                self.counters.state_write_failures.fetch_add(1, Relaxed);
                self.say(format!(
                    "the rotated refresh token is in memory only: {error}; \
                     until it can be written, a restart will need a new login"
                ));
            }
        }
    }

    /// Says something once, and keeps it for the status.
    fn say(&mut self, trouble: String) {
        if self.trouble.as_ref() != Some(&trouble) {
            tracing::error!("{trouble}");
            self.trouble = Some(trouble);
        }
    }

    /// What is wrong at the moment.
    pub fn troubles(&self) -> impl Iterator<Item = &String> {
        self.trouble.iter().chain(&self.lock_trouble)
    }
}
