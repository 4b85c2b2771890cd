//! Writing a file whole or not at all.
//!
//! [`Staged::new`] makes the temporary file beside the target and reserves its room, before
//! anything is done that cannot be undone; [`Staged::commit`] writes, brings to the disk and
//! renames. One that is dropped leaves nothing; one that a crash left is found by [`leftovers`].

use std::fs::File;
use std::path::{Path, PathBuf};

use super::{Error, Layer, beside, folder_of};

const ENDING: &str = ".tmp";

/// A temporary file beside its target, with its room reserved.
#[derive(Debug)]
pub struct Staged<'a> {
    files: &'a dyn Layer,
    file: File,
    beside: PathBuf,
    target: PathBuf,
    renamed: bool,
}

impl<'a> Staged<'a> {
    /// Makes the temporary file, 0600, with room for `room` bytes; makes the folder where needed.
    ///
    /// # Errors
    /// Where it cannot be made or there is no room: known before anything was spent.
    pub fn new(files: &'a dyn Layer, target: &Path, room: u64) -> Result<Staged<'a>, Error> {
        let folder = folder_of(target);
        let path = folder.join(format!(
            "{}{:016x}{ENDING}",
            prefix(target),
            fastrand::u64(..)
        ));
        if !folder.is_dir() {
            files
                .make_folder(folder)
                .map_err(|error| Error::new("make the folder", folder, error))?;
        }
        let file = files
            .create(&path)
            .map_err(|error| Error::new("create", &path, error))?;
        let staged = Staged {
            files,
            file,
            beside: path,
            target: target.to_owned(),
            renamed: false,
        };
        files
            .allocate(&staged.file, room)
            .map_err(|error| Error::new("reserve room for", target, error))?;
        Ok(staged)
    }

    /// Makes `bytes` the target's content, durably.
    ///
    /// # Errors
    /// Where a step failed. After a failed rename or before it the target is as it was; where only
    /// the folder could not be brought to the disk it is new, but may be lost with the power.
    pub fn commit(mut self, bytes: &[u8]) -> Result<(), Error> {
        self.files
            .write(&self.file, bytes)
            .map_err(|error| Error::new("write", &self.target, error))?;
        self.files
            .sync(&self.file)
            .map_err(|error| Error::new("bring to the disk", &self.target, error))?;
        self.files
            .rename(&self.beside, &self.target)
            .map_err(|error| Error::new("rename the new file to", &self.target, error))?;
        self.renamed = true;
        let folder = folder_of(&self.target);
        self.files
            .sync_folder(folder)
            .map_err(|error| Error::new("bring the folder to the disk", folder, error))
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if !self.renamed {
            // Nothing more can be done where this fails: the next holder of the lock sweeps it.
            let _ = self.files.remove(&self.beside);
        }
    }
}

/// Writes a whole file in one go, 0600.
///
/// # Errors
/// As [`Staged::new`] and [`Staged::commit`].
pub fn write(files: &dyn Layer, target: &Path, bytes: &[u8]) -> Result<(), Error> {
    Staged::new(files, target, bytes.len() as u64)?.commit(bytes)
}

/// Temporary files of `target` that a crash left. Ask only under the target's lock: otherwise
/// another process may be writing one.
#[must_use]
pub fn leftovers(files: &dyn Layer, target: &Path) -> Vec<PathBuf> {
    let folder = folder_of(target);
    let prefix = prefix(target);
    let names = files.list(folder).unwrap_or_default();
    names
        .iter()
        .filter(|name| {
            name.to_str()
                .and_then(|name| name.strip_prefix(prefix.as_str())?.strip_suffix(ENDING))
                .is_some_and(|middle| {
                    middle.len() == 16 && middle.bytes().all(|byte| byte.is_ascii_hexdigit())
                })
        })
        .map(|name| folder.join(name))
        .collect()
}

/// `.NAME.` for a target called NAME.
fn prefix(target: &Path) -> String {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    format!(".{name}.")
}

/// The lock file of a target.
#[must_use]
pub fn lock_of(target: &Path) -> PathBuf {
    beside(target, ".lock")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::files::OsFiles;
    use crate::files::faulty::{Fault, Faulty, STEPS_OF_A_WRITE};

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .expect("a folder")
            .map(|entry| {
                entry
                    .expect("a name")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_written_file_is_private_whatever_the_umask() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/er/state");
        // The umask is the process's own: 0 lets every bit through, so what is not asked for shows.
        let before = rustix::process::umask(rustix::fs::Mode::empty());
        let done = write(&OsFiles, &path, b"one");
        rustix::process::umask(before);
        done.expect("written");
        write(&OsFiles, &path, b"two!").expect("written again");
        assert_eq!(std::fs::read(&path).expect("there"), b"two!");
        let mode = |path: &Path| std::fs::metadata(path).expect("there").mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(folder_of(&path)), 0o700);
        assert_eq!(names(folder_of(&path)), ["state"]);
    }

    #[test]
    fn a_failure_at_any_step_leaves_the_old_content_and_no_litter() {
        for errno in [libc_errno::ENOSPC, libc_errno::EROFS, libc_errno::EACCES] {
            for at in 0..STEPS_OF_A_WRITE {
                let folder = tempfile::tempdir().expect("a folder");
                let path = folder.path().join("state");
                std::fs::write(&path, "old").expect("written");
                let files = Faulty::new();
                files.arm(at, Fault::Fails(errno));
                let error = write(&files, &path, b"new").expect_err("a fault");
                assert_eq!(error.source.raw_os_error(), Some(errno), "step {at}");
                let content = std::fs::read(&path).expect("whole");
                // Only the last step, the folder's sync, comes after the rename.
                let expected = if at + 1 == STEPS_OF_A_WRITE {
                    "new"
                } else {
                    "old"
                };
                assert_eq!(content, expected.as_bytes(), "step {at}");
                assert_eq!(names(folder.path()), ["state"], "step {at}");
            }
        }
    }

    #[test]
    fn a_crash_at_any_step_leaves_old_or_new_and_litter_is_found() {
        for at in 0..STEPS_OF_A_WRITE {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("state");
            std::fs::write(&path, "old").expect("written");
            let files = Faulty::new();
            files.arm(at, Fault::Crashes);
            write(&files, &path, b"new").expect_err("a crash");
            let content = std::fs::read(&path).expect("whole");
            assert!(content == b"old" || content == b"new", "step {at}");
            for litter in leftovers(&OsFiles, &path) {
                std::fs::remove_file(litter).expect("removed");
            }
            assert_eq!(names(folder.path()), ["state"], "step {at}");
        }
    }

    #[test]
    fn only_our_own_litter_is_litter() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state");
        for name in [
            ".state.0123456789abcdef.tmp",
            ".state.x.tmp",
            ".other.0123456789abcdef.tmp",
        ] {
            std::fs::write(folder.path().join(name), "").expect("written");
        }
        assert_eq!(
            leftovers(&OsFiles, &path),
            [folder.path().join(".state.0123456789abcdef.tmp")]
        );
    }

    mod libc_errno {
        pub(super) const EACCES: i32 = rustix::io::Errno::ACCESS.raw_os_error();
        pub(super) const EROFS: i32 = rustix::io::Errno::ROFS.raw_os_error();
        pub(super) const ENOSPC: i32 = rustix::io::Errno::NOSPC.raw_os_error();
    }
}
