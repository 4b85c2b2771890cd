//! A file layer for tests that fails, or stops for ever, at any step that changes the disk.
//!
//! It works on real files through [`OsFiles`], so that what a crash left is what a restart finds.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use zeroize::Zeroizing;

use super::{Layer, OsFiles};

/// create, allocate, write, sync, rename, sync the folder.
pub(crate) const STEPS_OF_A_WRITE: usize = 6;

/// What happens at the armed step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This step fails with an error number, the others work.
    Fails(i32),
    /// The process ends in the middle of this step: nothing happens from here on.
    Crashes,
    /// Every step from here on fails with an error number.
    Broken(i32),
}

#[derive(Debug, Default)]
struct Plan {
    /// Steps taken since the layer was made or armed.
    taken: usize,
    armed: Option<(usize, Fault)>,
    crashed: bool,
    /// The names of the steps, for messages.
    log: Vec<&'static str>,
}

/// The layer.
#[derive(Debug, Default)]
pub(crate) struct Faulty {
    plan: Mutex<Plan>,
    no_locks: std::sync::atomic::AtomicBool,
    /// This folder has no room for a new file.
    full: Mutex<Option<PathBuf>>,
}

enum Verdict {
    Go,
    Fail(io::Error),
    /// Does half of it.
    Half,
}

impl Faulty {
    pub(crate) fn new() -> Faulty {
        Faulty::default()
    }

    /// Arms a fault at the `at`th changing step from now.
    pub(crate) fn arm(&self, at: usize, fault: Fault) {
        let mut plan = self.plan.lock().expect("no test panics with it");
        plan.taken = 0;
        plan.armed = Some((at, fault));
    }

    /// Everything works again.
    pub(crate) fn heal(&self) {
        self.plan.lock().expect("no test panics with it").armed = None;
    }

    /// The file system loses its locks.
    pub(crate) fn without_locks(&self) {
        self.no_locks
            .store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// This folder has no room for a new file from here on.
    pub(crate) fn fill(&self, folder: &Path) {
        *self.full.lock().expect("no test panics with it") = Some(folder.to_owned());
    }

    /// Whether the armed crash happened.
    pub(crate) fn crashed(&self) -> bool {
        self.plan.lock().expect("no test panics with it").crashed
    }

    /// The names of the changing steps taken so far.
    pub(crate) fn log(&self) -> Vec<&'static str> {
        self.plan
            .lock()
            .expect("no test panics with it")
            .log
            .clone()
    }

    fn judge(&self, step: &'static str) -> Verdict {
        let mut plan = self.plan.lock().expect("no test panics with it");
        if plan.crashed {
            return Verdict::Fail(io::Error::other("the process is gone"));
        }
        let at = plan.taken;
        plan.taken += 1;
        plan.log.push(step);
        match plan.armed {
            Some((armed, Fault::Crashes)) if at == armed => {
                plan.crashed = true;
                Verdict::Half
            }
            Some((armed, Fault::Fails(errno))) if at == armed => {
                Verdict::Fail(io::Error::from_raw_os_error(errno))
            }
            Some((armed, Fault::Broken(errno))) if at >= armed => {
                Verdict::Fail(io::Error::from_raw_os_error(errno))
            }
            _ => Verdict::Go,
        }
    }

    fn step<T>(&self, name: &'static str, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self.judge(name) {
            Verdict::Go => act(),
            Verdict::Fail(error) => Err(error),
            Verdict::Half => Err(io::Error::other("the process ends here")),
        }
    }
}

impl Layer for Faulty {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
        OsFiles.read(path, limit)
    }

    fn exposed(&self, path: &Path) -> Option<u32> {
        OsFiles.exposed(path)
    }

    fn writable(&self, folder: &Path) -> bool {
        OsFiles.writable(folder)
    }

    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        self.step("make_folder", || OsFiles.make_folder(folder))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        OsFiles.list(folder)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        let full = self.full.lock().expect("no test panics with it");
        if full.is_some() && path.parent() == full.as_deref() {
            let errno = rustix::io::Errno::NOSPC.raw_os_error();
            return Err(io::Error::from_raw_os_error(errno));
        }
        self.step("create", || OsFiles.create(path))
    }

    fn allocate(&self, file: &File, len: u64) -> io::Result<()> {
        self.step("allocate", || OsFiles.allocate(file, len))
    }

    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        match self.judge("write") {
            Verdict::Go => OsFiles.write(file, bytes),
            Verdict::Fail(error) => Err(error),
            Verdict::Half => {
                OsFiles.write(file, &bytes[..bytes.len() / 2])?;
                Err(io::Error::other("the process ends here"))
            }
        }
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        // A process that ends needs no sync, and real ones would make tests take minutes.
        let _ = file;
        self.step("sync", || Ok(()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step("rename", || OsFiles.rename(from, to))
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let _ = folder;
        self.step("sync_folder", || Ok(()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        // Cleaning up after a fault is no step of its own, but nothing is done after a crash.
        if self.crashed() {
            return Err(io::Error::other("the process is gone"));
        }
        OsFiles.remove(path)
    }

    fn open_lock(&self, path: &Path) -> io::Result<File> {
        self.step("open_lock", || OsFiles.open_lock(path))
    }

    fn try_lock(&self, file: &File) -> Result<(), TryLockError> {
        if self.no_locks.load(std::sync::atomic::Ordering::Relaxed) {
            let errno = rustix::io::Errno::OPNOTSUPP.raw_os_error();
            return Err(TryLockError::Error(io::Error::from_raw_os_error(errno)));
        }
        OsFiles.try_lock(file)
    }

    fn is_current(&self, file: &File, path: &Path) -> io::Result<bool> {
        OsFiles.is_current(file, path)
    }
}
