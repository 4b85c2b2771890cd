//! The token plane against a fake region without grace, over paused time and real files.

mod commands;
mod fake;
mod faults;
mod fleet;
mod ladder;
mod log;
mod rotation;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use self::fake::Fake;
use super::{Deps, Handle, Now, Phase, Settings, State};
use crate::clock::Clock;
use crate::config::Credential;
use crate::files::Layer;
use crate::files::faulty::Faulty;

const REGION: &str = "https://region.example";

/// A region, a folder, and what runs on them.
struct Bench {
    clock: Clock,
    region: Arc<Fake>,
    folder: tempfile::TempDir,
    running: JoinSet<()>,
    credential: Credential,
    seed: u64,
}

/// One sidecar.
struct Side {
    handle: Handle,
    clock: Clock,
    stop: Option<oneshot::Sender<()>>,
    abort: tokio::task::AbortHandle,
}

impl Bench {
    /// A region, and a refresh token of alice's in a file.
    fn new() -> Bench {
        let clock = Clock::manual(fake::START);
        let region = Arc::new(Fake::new(clock.clone()));
        let folder = tempfile::tempdir().expect("a folder");
        let source = folder.path().join("token");
        std::fs::write(&source, format!("{}\n", region.issue("alice"))).expect("written");
        Bench {
            clock,
            region,
            credential: Credential {
                refresh_token_file: Some(source),
                ..Credential::default()
            },
            folder,
            running: JoinSet::new(),
            seed: 1,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).expect("written");
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.folder.path())
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

    fn start(&mut self) -> Side {
        self.start_on(Arc::new(Faulty::new()))
    }

    fn start_on(&mut self, files: Arc<dyn Layer>) -> Side {
        self.seed += 1;
        let (handle, task) = super::new(
            Settings {
                region: Some(REGION.parse().expect("a URL")),
                credential: self.credential.clone(),
            },
            Deps {
                login: Arc::clone(&self.region) as _,
                clock: self.clock.clone(),
                files,
                dice: fastrand::Rng::with_seed(self.seed),
            },
        );
        let (stop, stopped) = oneshot::channel::<()>();
        let abort = self.running.spawn(async move {
            task.run(stopped).await;
        });
        Side {
            handle,
            clock: self.clock.clone(),
            stop: Some(stop),
            abort,
        }
    }
}

impl Side {
    /// Waits until the state is as wanted, for ten minutes at the most.
    async fn until(&self, what: &str, wanted: impl Fn(&State) -> bool) -> Arc<State> {
        let mut watch = self.handle.watch();
        let found = tokio::time::timeout(
            Duration::from_secs(600),
            watch.wait_for(|state| wanted(state)),
        )
        .await;
        match found {
            Ok(Ok(state)) => Arc::clone(&state),
            Ok(Err(_)) => panic!("the task ended while waiting for: {what}"),
            Err(_) => panic!("never came: {what}; state: {:?}", self.handle.state()),
        }
    }

    async fn until_generation(&self, generation: u64) -> Arc<State> {
        self.until("a token", |state| {
            state
                .token
                .as_ref()
                .is_some_and(|token| token.generation >= generation)
        })
        .await
    }

    async fn until_parked(&self) -> String {
        let state = self
            .until("parked", |state| {
                matches!(state.phase, Phase::Parked { .. })
            })
            .await;
        match &state.phase {
            Phase::Parked { why } => why.clone(),
            _ => unreachable!("waited for it"),
        }
    }

    fn now(&self) -> Now {
        self.handle.state().at(self.clock.boot())
    }

    fn is_ready(&self) -> bool {
        matches!(self.now(), Now::Ready(_))
    }

    /// What a request does: the token at once, or after a wait of ten seconds at the most.
    async fn request(&self) -> Result<Arc<super::Token>, String> {
        let mut watch = self.handle.watch();
        let end = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            let state = Arc::clone(&watch.borrow_and_update());
            match state.at(self.clock.boot()) {
                Now::Ready(token) => return Ok(token),
                Now::Unavailable(after) => return Err(format!("unavailable for {after:?}")),
                Now::Refused => return Err("refused".to_owned()),
                Now::Wait => {
                    self.handle.demand();
                    if tokio::time::timeout_at(end, watch.changed()).await.is_err() {
                        return Err("waited too long".to_owned());
                    }
                }
            }
        }
    }

    /// Asks it to stop and waits for it.
    async fn stop(mut self) {
        drop(self.stop.take());
        while !self.abort.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// `kill -9`.
    async fn kill(self) {
        self.abort.abort();
        while !self.abort.is_finished() {
            tokio::task::yield_now().await;
        }
    }
}

async fn sleep_s(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).expect("there").mode() & 0o777
}
