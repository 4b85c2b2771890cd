//! `regent logout`: removes what `regent login` stored.

use std::path::{Path, PathBuf};

use super::login::{Failure, default_store, no_store};
use super::{Exit, say};
use crate::app::local_runtime;
use crate::files::atomic::{leftovers, lock_of};
use crate::files::{self, Layer, Lock, OsFiles};
use crate::token::exchange::LOCK_PATIENCE;

/// Arguments of `regent logout`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Where it is stored [default: $XDG_STATE_HOME/regent/login.json]
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
}

/// Removes it.
#[must_use]
pub fn run(args: &Args) -> Exit {
    let Some(store) = args.store.clone().or_else(default_store) else {
        return no_store().say();
    };
    let runtime = match local_runtime() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::new(Exit::Failed, error).say(),
    };
    match runtime.block_on(log_out(&store, &OsFiles)) {
        Ok(true) => say(format_args!(
            "logged out; {} is removed. A sidecar that runs stays logged in until it is stopped \
             (regent quit)",
            store.display()
        )),
        Ok(false) => say(format_args!("there was no login at {}", store.display())),
        Err(failure) => return failure.say(),
    }
    Exit::Done
}

/// Removes a stored login, what it has grown into, and their lock. Says whether there was one.
///
/// # Errors
/// A file that is there and cannot be removed (exit code 1).
pub async fn log_out(store: &Path, files: &dyn Layer) -> Result<bool, Failure> {
    let failed = |error| Failure::new(Exit::Failed, error);
    let state = files::beside(store, ".state");
    let stored = files::remove(files, store).map_err(failed)?;
    // A sidecar in the middle of a refresh writes its outcome first. Where the lock cannot be had,
    // what it writes afterwards has no source any more and counts for nothing.
    let lock = match files::folder_of(store).is_dir() {
        true => Lock::take(files, &lock_of(&state), LOCK_PATIENCE)
            .await
            .ok(),
        false => None,
    };
    let rotated = files::remove(files, &state).map_err(failed)?;
    if let Some(lock) = lock {
        for path in leftovers(files, &state)
            .iter()
            .chain(&leftovers(files, store))
        {
            let _ = files::remove(files, path);
        }
        lock.remove();
    }
    Ok(stored || rotated)
}
