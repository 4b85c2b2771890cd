//! A lock that processes share: `flock` on a file of its own.
//!
//! Non-blocking tries with a deadline, so that a stuck holder never blocks the control plane. The
//! file may be removed by its holder, and only by it: whoever locked a file that its path no longer
//! names tries again. What it holds is a note of the holder's that outlives a crash.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use zeroize::Zeroizing;

use super::{Error, Layer, folder_of};

/// The time between two tries.
const AGAIN: Duration = Duration::from_millis(50);

/// Why there is no lock.
#[derive(Debug)]
pub enum NoLock {
    /// Another process held it until the deadline.
    Busy,
    /// This file system has no locks.
    Unsupported(Error),
    /// The lock file cannot be made or opened.
    Unwritable(Error),
    /// No descriptor or memory to open it with: as passing as `Busy`.
    Exhausted(Error),
}

/// The lock, held until it is dropped.
#[derive(Debug)]
pub struct Lock<'a> {
    files: &'a dyn Layer,
    file: File,
    path: PathBuf,
}

impl<'a> Lock<'a> {
    /// Takes the lock, trying for `patience`.
    ///
    /// # Errors
    /// [`NoLock`], which the caller tells apart: `Busy` and `Exhausted` forbid going on.
    pub async fn take(
        files: &'a dyn Layer,
        path: &Path,
        patience: Duration,
    ) -> Result<Lock<'a>, NoLock> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let none = match Lock::try_take(files, path) {
                Ok(Some(lock)) => return Ok(lock),
                Ok(None) => NoLock::Busy,
                Err(exhausted @ NoLock::Exhausted(_)) => exhausted,
                Err(other) => return Err(other),
            };
            if tokio::time::Instant::now() + AGAIN > deadline {
                return Err(none);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// One try, without waiting: `None` where another process holds it.
    ///
    /// # Errors
    /// Any [`NoLock`] but `Busy`.
    pub fn try_take(files: &'a dyn Layer, path: &Path) -> Result<Option<Lock<'a>>, NoLock> {
        let unwritable = |error: io::Error| {
            let errno = error.raw_os_error().map(Errno::from_raw_os_error);
            let error = Error::new("open the lock file", path, error);
            match errno {
                Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => NoLock::Exhausted(error),
                _ => NoLock::Unwritable(error),
            }
        };
        if !folder_of(path).is_dir() {
            files.make_folder(folder_of(path)).map_err(unwritable)?;
        }
        let file = files.open_lock(path).map_err(unwritable)?;
        match files.try_lock(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => {
                let error = Error::new("lock", path, error);
                let errno = error.source.raw_os_error().map(Errno::from_raw_os_error);
                return Err(match errno {
                    Some(Errno::OPNOTSUPP | Errno::NOLCK | Errno::NOSYS | Errno::INVAL) => {
                        NoLock::Unsupported(error)
                    }
                    _ => NoLock::Unwritable(error),
                });
            }
        }
        match files.is_current(&file, path) {
            Ok(true) => Ok(Some(Lock {
                files,
                file,
                path: path.to_owned(),
            })),
            // Removed by its last holder between our opening and our locking it.
            Ok(false) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unwritable(error)),
        }
    }

    /// The note that the last holder left.
    ///
    /// # Errors
    /// The system's.
    pub fn note(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        super::read(self.files, &self.path)
    }

    /// Leaves a note, durably.
    ///
    /// # Errors
    /// The system's.
    pub fn leave(&self, note: &[u8]) -> Result<(), Error> {
        self.files
            .write(&self.file, note)
            .and_then(|()| self.files.sync(&self.file))
            .map_err(|error| Error::new("write", &self.path, error))
    }

    /// Takes the note away. That need not last: a note that is back after a power cut, or that
    /// cannot be taken away, names a token that nobody uses any more.
    pub fn clear(&self) {
        let _ = self.files.write(&self.file, b"");
    }

    /// Removes the lock file and lets go.
    pub fn remove(self) {
        // One that stays is harmless: it is empty or says what happened.
        let _ = self.files.remove(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::OsFiles;

    #[tokio::test(start_paused = true)]
    async fn one_holder_at_a_time_and_the_wait_has_an_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.lock");
        let lock = Lock::take(&OsFiles, &path, Duration::ZERO)
            .await
            .expect("free");
        let start = tokio::time::Instant::now();
        let second = Lock::take(&OsFiles, &path, Duration::from_secs(12)).await;
        assert!(matches!(second, Err(NoLock::Busy)));
        assert!(start.elapsed() <= Duration::from_secs(12));
        drop(lock);
        Lock::take(&OsFiles, &path, Duration::ZERO)
            .await
            .expect("free again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_note_outlives_its_holder() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.lock");
        let lock = Lock::take(&OsFiles, &path, Duration::ZERO)
            .await
            .expect("free");
        lock.leave(b"refreshing").expect("written");
        drop(lock);
        let lock = Lock::take(&OsFiles, &path, Duration::ZERO)
            .await
            .expect("free");
        assert_eq!(&lock.note().expect("there")[..], b"refreshing");
        lock.clear();
        assert!(lock.note().expect("there").is_empty());
    }

    #[test]
    fn a_lock_on_a_removed_file_is_no_lock() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.lock");
        let first = Lock::try_take(&OsFiles, &path)
            .expect("works")
            .expect("free");
        // A second process opened the file before the first removed it.
        let opened = OsFiles.open_lock(&path).expect("opened");
        first.remove();
        let second = Lock::try_take(&OsFiles, &path)
            .expect("works")
            .expect("free");
        OsFiles.try_lock(&opened).expect("the old file is free");
        assert!(!OsFiles.is_current(&opened, &path).expect("works"));
        assert!(Lock::try_take(&OsFiles, &path).expect("works").is_none());
        drop(second);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_told_apart_from_a_busy_lock() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        std::fs::write(&file, "").expect("written");
        let result = Lock::try_take(&OsFiles, &file.join("state.lock"));
        assert!(matches!(result, Err(NoLock::Unwritable(_))));
    }
}
