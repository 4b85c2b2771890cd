//! One refresh of a token that other processes may share: lock, read again, note, call, persist.
//!
//! The lock is held over the call, and without it a shared token is never spent. Before the call
//! the lock file says durably which token is being spent; the note goes when the outcome is on the
//! disk. So after a crash, or an answer that never arrived, a refusal can be told truly from one
//! that merely came.
//!
//! Where the region does not rotate there is nothing to share: after the first answer has shown
//! that, nothing is locked or written any more.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::Login;
use super::schedule::USELESS_FLOOR;
use super::source::{Ladder, Offer};
use super::state::{Current, Held, Store};
use crate::clock::{Boot, Clock};
use crate::compact;
use crate::files::atomic::{leftovers, lock_of};
use crate::files::lock::NoLock;
use crate::files::{self, Layer, Lock};
use crate::region::{Error, Tokens};
use crate::secret::{Digest, Secret};

/// How long to wait for another process that holds the lock: its call ends within 10 s.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(12);
/// No call takes longer; `fetch` ends them at 10 s.
pub const CALL_LIMIT: Duration = Duration::from_secs(12);

/// How a refresh ended.
#[derive(Debug)]
pub enum Ended {
    /// With tokens; a rotated refresh token is already kept.
    Granted {
        /// The answer.
        tokens: Tokens,
        /// When the call was sent.
        sent: Boot,
        /// The refresh token to use from here on.
        refresh: Secret,
        /// Whether it is a new one.
        rotated: bool,
    },
    /// In passing.
    Transient {
        /// What happened.
        what: String,
        /// The server's word on when to come back.
        retry_after: Option<Duration>,
        /// Asking sooner is of no use.
        floor: Duration,
    },
    /// For good.
    Refused {
        /// The token that is dead.
        token: Digest,
        /// What happened, and what that means.
        what: String,
    },
    /// Not asked: the token is another user's.
    OtherUser {
        /// The token.
        token: Digest,
        /// Whose, and what to do.
        what: String,
    },
    /// The source changed meanwhile: look at the ladder again.
    Changed,
}

/// Refreshes with what rung `at` holds. `spending` is true while a call that must not be abandoned
/// is under way; `only_user` is whom the token must belong to.
pub async fn refresh(
    store: &mut Store,
    ladder: &mut Ladder,
    at: usize,
    login: &dyn Login,
    clock: &Clock,
    only_user: Option<&str>,
    spending: &AtomicBool,
) -> Ended {
    let Some(source) = refresh_token(ladder, at) else {
        return Ended::Changed;
    };
    let files = Arc::clone(&store.files);
    let places = store.writable(source.digest());
    let shared = match store.rotates {
        Some(false) => &[],
        _ => &places[..],
    };
    let (lock, locked) = match lock_first(store, &*files, shared).await {
        Ok(locked) => locked,
        Err(ended) => return ended,
    };
    // Another process, or the operator, may have been here while we waited.
    ladder.reread(at);
    if refresh_token(ladder, at).as_ref() != Some(&source) {
        return Ended::Changed;
    }
    if lock.is_some() {
        recover(store, &*files, shared, locked, source.digest());
    }
    let current = store.current(&source);
    let digest = current.token.digest();
    if let Err(what) = check_user(&current.token, only_user) {
        return Ended::OtherUser {
            token: digest,
            what,
        };
    }
    let noted = lock.as_ref().and_then(noted);
    // A place that is full is found out before the token is spent: the next one may do.
    let staged = shared.iter().skip(locked).find_map(|place| {
        let staged = store.stage(&*files, place, &current);
        let staged = staged
            .inspect_err(|error| tracing::debug!("no room for the next refresh token: {error}"));
        Some((place, staged.ok()?))
    });
    let (place, staged) = match staged {
        Some((place, staged)) => (Some(place), Some(staged)),
        None => (places.first(), None),
    };
    let place = place.map(PathBuf::as_path);
    if let Some(lock) = &lock
        && let Err(error) = lock.leave(digest.to_string().as_bytes())
    {
        tracing::debug!("the note of this refresh is not stored: {error}");
    }

    spending.store(store.rotates != Some(false), Relaxed);
    let sent = clock.boot();
    let answer = tokio::time::timeout(CALL_LIMIT, login.refresh(&current.token)).await;
    let ended = match answer {
        Ok(Ok(tokens)) => {
            store.unanswered = None;
            let successor = tokens.refresh.clone().filter(|new| *new != current.token);
            let rotated = successor.is_some();
            match successor {
                Some(new) => {
                    store.keep(held(new, &source, &current), place, staged);
                }
                None => {
                    drop(staged);
                    if store.rotates.is_none() && current.rotation == 0 {
                        store.rotates = Some(false);
                    }
                }
            }
            settle(store, lock);
            Ended::Granted {
                refresh: tokens.refresh.clone().unwrap_or(current.token),
                tokens,
                sent,
                rotated,
            }
        }
        Ok(Err(Error::Refused { code, what })) => {
            let lost = noted == Some(digest) || store.unanswered == Some(digest);
            if let (Some(lock), false) = (&lock, lost) {
                lock.clear();
            }
            let lost = match lost {
                true => {
                    "; an earlier refresh of this very token was begun and the region's answer was \
                     lost before it could be stored: where the region rotates refresh tokens, the \
                     token was replaced then, and a new login is needed"
                }
                false => "",
            };
            Ended::Refused {
                token: digest,
                what: format!("the region refused it ({code}): {what}{lost}"),
            }
        }
        Ok(Err(Error::Useless { what, refresh })) => {
            match refresh {
                Some(new) => {
                    store.unanswered = None;
                    store.keep(held(new, &source, &current), place, staged);
                    settle(store, lock);
                }
                // Whether the region acted on it is not known: the note stays.
                None => store.unanswered = Some(digest),
            }
            Ended::Transient {
                what,
                retry_after: None,
                floor: USELESS_FLOOR,
            }
        }
        // Nor here.
        Ok(Err(Error::Transient { what, retry_after })) => {
            store.unanswered = Some(digest);
            Ended::Transient {
                what,
                retry_after,
                floor: Duration::ZERO,
            }
        }
        Err(_) => {
            store.unanswered = Some(digest);
            Ended::Transient {
                what: format!("no answer within {} s", CALL_LIMIT.as_secs()),
                retry_after: None,
                floor: Duration::ZERO,
            }
        }
    };
    spending.store(false, Relaxed);
    ended
}

/// The lock of the first place where there can be one, and which that is.
async fn lock_first<'a>(
    store: &mut Store,
    files: &'a dyn Layer,
    places: &[PathBuf],
) -> Result<(Option<Lock<'a>>, usize), Ended> {
    for (at, place) in places.iter().enumerate() {
        match Lock::take(files, &lock_of(place), LOCK_PATIENCE).await {
            Ok(lock) => {
                store.lock_trouble = None;
                return Ok((Some(lock), at));
            }
            Err(NoLock::Busy) => {
                return Err(Ended::Transient {
                    what: format!(
                        "another process has been refreshing for over {} s; it holds \"{}\"",
                        LOCK_PATIENCE.as_secs(),
                        lock_of(place).display()
                    ),
                    retry_after: None,
                    floor: Duration::ZERO,
                });
            }
            Err(NoLock::Exhausted(error)) => {
                return Err(Ended::Transient {
                    what: error.to_string(),
                    retry_after: None,
                    floor: Duration::ZERO,
                });
            }
            Err(NoLock::Unsupported(error)) => {
                say_no_locks(store, &error);
                return Ok((None, at));
            }
            // Nothing can be written there: what that means is said when there is something to
            // write.
            Err(NoLock::Unwritable(error)) => {
                tracing::debug!("going on without the lock: {error}");
            }
        }
    }
    Ok((None, 0))
}

fn say_no_locks(store: &mut Store, error: &files::Error) {
    let trouble = format!(
        "this file system has no locks, so two processes that share this login can lock each \
         other out; keep to one, or move `region.credential.state`: {error}"
    );
    if store.lock_trouble.as_ref() != Some(&trouble) {
        tracing::error!("{trouble}");
        store.lock_trouble = Some(trouble);
    }
}

/// Finishes in every place what a crash cut off, each under its own lock.
fn recover(store: &Store, files: &dyn Layer, places: &[PathBuf], locked: usize, source: Digest) {
    for (at, place) in places.iter().enumerate() {
        if at == locked {
            store.recover(place, source);
        } else if !leftovers(files, place).is_empty()
            && let Ok(Some(_lock)) = Lock::try_take(files, &lock_of(place))
        {
            store.recover(place, source);
        }
    }
}

/// After an answer: the note goes, once nothing depends on it any more.
fn settle(store: &Store, lock: Option<Lock<'_>>) {
    let Some(lock) = lock else { return };
    if store.rotates == Some(false) {
        lock.remove();
    } else if !store.is_unsaved() {
        lock.clear();
    }
}

fn refresh_token(ladder: &Ladder, at: usize) -> Option<Secret> {
    match &ladder.sources[at].offer {
        Some(Offer::Refresh(token)) => Some(token.clone()),
        _ => None,
    }
}

/// The token that an earlier holder of the lock spent without storing the outcome.
fn noted(lock: &Lock<'_>) -> Option<Digest> {
    let note = lock.note().ok()?;
    std::str::from_utf8(&note).ok()?.parse().ok()
}

fn held(new: Secret, source: &Secret, current: &Current) -> Held {
    Held {
        user_id: compact::peek(new.expose())
            .ok()
            .and_then(|claims| claims.user_id),
        token: new,
        grew_from: source.digest(),
        rotation: current.rotation + 1,
    }
}

/// Whether a token is of the user that it must be of, as far as it says.
pub(super) fn check_user(token: &Secret, only_user: Option<&str>) -> Result<(), String> {
    let theirs = compact::peek(token.expose())
        .ok()
        .and_then(|claims| claims.user_id);
    match (only_user, theirs) {
        (Some(ours), Some(theirs)) if ours != theirs => Err(format!(
            "it is a login of user \"{theirs}\", and this process began as user \"{ours}\"; \
             restart to change over, or set `region.credential.allow_identity_change`"
        )),
        _ => Ok(()),
    }
}
