//! Files that hold secrets: whole reads, atomic writes, and a lock that processes share.
//!
//! - A read is whole, bounded, and of a regular file; changes are found by content, because a
//!   mounted Secret changes by a swap of symbolic links that no watch on the file survives.
//! - A write is made beside, with its room reserved before anything depends on it, and renamed:
//!   a crash leaves the old content or the new one, whole. What is written is 0600 under any umask.
//! - The lock is `flock` on a file of its own that is never renamed.
//!
//! Every step goes through [`Layer`], so that tests can fail or stop at each in turn.

use std::ffi::OsString;
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, FallocateFlags, OFlags};
use zeroize::Zeroizing;

pub mod atomic;
#[cfg(test)]
pub(crate) mod faulty;
pub mod lock;

pub use atomic::Staged;
pub use lock::Lock;

/// The largest file that is read: a token is at most 16 KiB. Bytes.
pub const READ_LIMIT: usize = 64 * 1024;

/// A step that failed, and on which file. No content is in it.
#[derive(Debug)]
pub struct Error {
    /// What was tried, as it stands after "cannot".
    pub step: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// The system's word.
    pub source: io::Error,
}

impl Error {
    pub(crate) fn new(step: &'static str, path: &Path, source: io::Error) -> Error {
        Error {
            step,
            path: path.to_owned(),
            source,
        }
    }

    /// Whether the file, or a folder on the way to it, is not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Error { step, path, source } = self;
        write!(f, "cannot {step} \"{}\": {source}", path.display())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// A way in which others on the machine can get at a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposed {
    /// Its permission bits let them.
    Mode(u32),
    /// They can put another file in its place: the permission bits of its folder.
    Folder(u32),
    /// It is of another user, who is not root.
    Owner(u32),
}

impl Exposed {
    /// What is wrong with the file that people know as `name`, and what to do.
    #[must_use]
    pub fn warning(self, name: &str) -> String {
        match self {
            Exposed::Mode(mode) => format!(
                "others on this machine can get at {name}: its mode is {mode:04o}; `chmod 600` it"
            ),
            Exposed::Folder(mode) => format!(
                "others on this machine can replace {name}: the mode of its folder is {mode:04o}; \
                 `chmod o-w` the folder"
            ),
            Exposed::Owner(user) => format!(
                "another user (uid {user}) owns {name} and can change it; `chown` it to the user \
                 that regent runs as"
            ),
        }
    }
}

/// The steps that files are made of: the system's, or a test's that fails at any of them.
pub trait Layer: fmt::Debug + Send + Sync {
    /// The whole content of a regular file of at most `limit` bytes.
    ///
    /// # Errors
    /// The system's, or `InvalidData` for a longer file or one that is not regular.
    fn read(&self, path: &Path, limit: usize) -> io::Result<Zeroizing<Vec<u8>>>;
    /// In which ways others can get at a secret. Nothing of a file that is not there.
    fn exposed(&self, path: &Path) -> Vec<Exposed>;
    /// Whether a file could be made in `folder`, which may have to be made itself.
    fn writable(&self, folder: &Path) -> bool;
    /// Makes a folder and those above it, 0700.
    ///
    /// # Errors
    /// The system's.
    fn make_folder(&self, folder: &Path) -> io::Result<()>;
    /// The names in a folder.
    ///
    /// # Errors
    /// The system's.
    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>>;
    /// Makes a new file, 0600.
    ///
    /// # Errors
    /// The system's.
    fn create(&self, path: &Path) -> io::Result<File>;
    /// Reserves room, so that writing `len` bytes cannot run out of it.
    ///
    /// # Errors
    /// The system's.
    fn allocate(&self, file: &File, len: u64) -> io::Result<()>;
    /// Makes `bytes` the whole content.
    ///
    /// # Errors
    /// The system's.
    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()>;
    /// Brings content to the disk.
    ///
    /// # Errors
    /// The system's.
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Renames over what is there.
    ///
    /// # Errors
    /// The system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Brings a folder's names to the disk.
    ///
    /// # Errors
    /// The system's.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// The system's.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Opens a lock file, made 0600 where it is not there.
    ///
    /// # Errors
    /// The system's.
    fn open_lock(&self, path: &Path) -> io::Result<File>;
    /// One try at the lock, without waiting.
    ///
    /// # Errors
    /// `WouldBlock` where another holds it.
    fn try_lock(&self, file: &File) -> Result<(), TryLockError>;
    /// Whether the open file is still what `path` names.
    ///
    /// # Errors
    /// The system's.
    fn is_current(&self, file: &File, path: &Path) -> io::Result<bool>;
}

/// The system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsFiles;

impl Layer for OsFiles {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
        // Without NONBLOCK, opening a named pipe waits for a writer.
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(invalid("it is not a regular file"));
        }
        // One allocation, so that no half-grown copy of a secret is left behind unwiped.
        let mut content = Zeroizing::new(vec![0; limit + 1]);
        let mut read = 0;
        while read <= limit {
            match file.read(&mut content[read..])? {
                0 => {
                    content.truncate(read);
                    return Ok(content);
                }
                more => read += more,
            }
        }
        Err(invalid("it is too large for what it should hold"))
    }

    fn exposed(&self, path: &Path) -> Vec<Exposed> {
        const TMPFS: i64 = 0x0102_1994;
        let Ok(metadata) = std::fs::metadata(path) else {
            return Vec::new();
        };
        let mode = metadata.mode() & 0o777;
        // A mounted Secret is a tmpfs of the pod's own, 0644 or 0440 by Kubernetes' choice.
        #[allow(clippy::useless_conversion, reason = "the type differs by target")]
        let mounted =
            rustix::fs::statfs(path).is_ok_and(|system| i64::from(system.f_type) == TMPFS);
        let worrying = if mounted { 0o022 } else { 0o077 };
        let folder = std::fs::metadata(folder_of(path)).map_or(0, |folder| folder.mode());
        let us = rustix::process::geteuid().as_raw();
        [
            (mode & worrying != 0).then_some(Exposed::Mode(mode)),
            anybody_replaces(folder).then_some(Exposed::Folder(folder & 0o7777)),
            is_strange(metadata.uid(), us).then_some(Exposed::Owner(metadata.uid())),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn writable(&self, folder: &Path) -> bool {
        let Some(existing) = folder.ancestors().find(|above| above.exists()) else {
            return false;
        };
        existing.is_dir()
            && rustix::fs::access(existing, Access::WRITE_OK | Access::EXEC_OK).is_ok()
    }

    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        std::fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect()
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        Ok(file)
    }

    fn allocate(&self, file: &File, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, len) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                let zeros = vec![0; usize::try_from(len).map_err(io::Error::other)?];
                file.write_all_at(&zeros, 0)?;
                file.sync_data()
            }
            Err(error) => Err(error.into()),
        }
    }

    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, 0)?;
        file.set_len(bytes.len() as u64)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn open_lock(&self, path: &Path) -> io::Result<File> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        if file.metadata()?.mode() & 0o777 != 0o600 {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        Ok(file)
    }

    fn try_lock(&self, file: &File) -> Result<(), TryLockError> {
        file.try_lock()
    }

    fn is_current(&self, file: &File, path: &Path) -> io::Result<bool> {
        let (ours, named) = (file.metadata()?, std::fs::metadata(path)?);
        Ok(ours.ino() == named.ino() && ours.dev() == named.dev())
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Reads a whole file.
///
/// # Errors
/// Where it is missing, unreadable, not regular, or above [`READ_LIMIT`].
pub fn read(files: &dyn Layer, path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    files
        .read(path, READ_LIMIT)
        .map_err(|error| Error::new("read", path, error))
}

/// Removes a file; one that is not there is fine. Says whether there was one.
///
/// # Errors
/// Any other failure.
pub fn remove(files: &dyn Layer, path: &Path) -> Result<bool, Error> {
    match files.remove(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::new("remove", path, error)),
    }
}

/// Whether a folder of this mode lets everybody rename what is another's in it.
fn anybody_replaces(folder: u32) -> bool {
    const STICKY: u32 = 0o1000;
    folder & 0o002 != 0 && folder & STICKY == 0
}

/// Whether the owner of a secret is neither us nor root, who can do everything anyway.
fn is_strange(owner: u32, us: u32) -> bool {
    owner != us && owner != 0
}

/// The folder that a file is in; `.` for a bare name.
#[must_use]
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// `path` with `suffix` after its name: `token` and `.state` give `token.state`.
#[must_use]
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_whole_and_bounded() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        std::fs::write(&path, vec![b'a'; READ_LIMIT]).expect("written");
        assert_eq!(read(&OsFiles, &path).expect("fits").len(), READ_LIMIT);
        std::fs::write(&path, vec![b'a'; READ_LIMIT + 1]).expect("written");
        let error = read(&OsFiles, &path).expect_err("one byte too long");
        assert!(error.to_string().contains("too large"), "{error}");
    }

    #[test]
    fn a_named_pipe_or_a_folder_does_not_hang_a_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .expect("a pipe");
        assert!(read(&OsFiles, &pipe).is_err());
        assert!(read(&OsFiles, folder.path()).is_err());
    }

    #[test]
    fn a_missing_file_is_told_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = read(&OsFiles, &folder.path().join("none")).expect_err("nothing there");
        assert!(error.is_missing());
        assert!(!remove(&OsFiles, &folder.path().join("none")).expect("fine"));
    }

    /// A token in a folder that is no tmpfs.
    fn token() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::Builder::new().tempdir_in(".").expect("a folder");
        let path = folder.path().join("token");
        std::fs::write(&path, "x").expect("written");
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("set");
        (folder, path)
    }

    #[test]
    fn a_token_file_that_others_can_read_is_noticed() {
        let (_folder, path) = token();
        for (mode, seen) in [
            (0o600, vec![]),
            (0o400, vec![]),
            (0o640, vec![Exposed::Mode(0o640)]),
            (0o644, vec![Exposed::Mode(0o644)]),
            (0o666, vec![Exposed::Mode(0o666)]),
        ] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("set");
            assert_eq!(OsFiles.exposed(&path), seen, "{mode:o}");
        }
        assert_eq!(OsFiles.exposed(&path.join("none")), []);
    }

    #[test]
    fn a_folder_in_which_anybody_can_replace_the_token_is_noticed() {
        let (folder, path) = token();
        for (mode, seen) in [
            (0o700, vec![]),
            (0o775, vec![]),
            (0o1777, vec![]),
            (0o777, vec![Exposed::Folder(0o777)]),
            (0o703, vec![Exposed::Folder(0o703)]),
        ] {
            let permissions = Permissions::from_mode(mode);
            std::fs::set_permissions(folder.path(), permissions).expect("set");
            assert_eq!(OsFiles.exposed(&path), seen, "{mode:o}");
        }
    }

    #[test]
    fn a_token_of_another_user_is_noticed() {
        for (owner, us, strange) in [
            (0, 0, false),
            (0, 1000, false),
            (1000, 1000, false),
            (1000, 0, true),
            (1000, 1001, true),
        ] {
            assert_eq!(is_strange(owner, us), strange, "{owner} {us}");
        }
        let (_folder, path) = token();
        // Only root can give a file away.
        if std::os::unix::fs::chown(&path, Some(12_345), None).is_ok() {
            assert_eq!(OsFiles.exposed(&path), [Exposed::Owner(12_345)]);
        }
    }

    #[test]
    fn room_can_be_asked_for_in_folders_that_are_not_there_yet() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(OsFiles.writable(&folder.path().join("a/b")));
        let file = folder.path().join("file");
        std::fs::write(&file, "").expect("written");
        assert!(!OsFiles.writable(&file.join("a")));
    }

    #[test]
    fn names_are_put_together() {
        assert_eq!(
            beside(Path::new("/a/token"), ".state"),
            Path::new("/a/token.state")
        );
        assert_eq!(folder_of(Path::new("token")), Path::new("."));
        assert_eq!(folder_of(Path::new("/a/token")), Path::new("/a"));
    }
}
