//! Issuers that rotate, lie, hang and go away, on paused time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::*;
use crate::clock::Clock;
use crate::files::OsFiles;
use fake::{Origin, START};

mod discovery;
mod fake;
mod fetching;
mod files;
mod flood;
mod lane;
mod log;
mod outage;
mod reload;
mod sockets;

/// A key plane at work; it ends with the value.
struct Plane {
    handle: Handle,
    clock: Clock,
    running: JoinSet<()>,
    stop: Option<oneshot::Sender<()>>,
}

fn deps(clock: &Clock, seed: u64) -> Deps {
    Deps {
        clock: clock.clone(),
        files: Arc::new(OsFiles),
        dice: fastrand::Rng::with_seed(seed),
    }
}

impl Plane {
    fn start(settings: Vec<Settings>, clock: &Clock) -> Plane {
        Plane::after(settings, clock, None)
    }

    fn after(settings: Vec<Settings>, clock: &Clock, before: Option<&Handle>) -> Plane {
        let (handle, task) = new(settings, deps(clock, 7), before);
        Plane::run(handle, task, clock)
    }

    fn run(handle: Handle, task: Task, clock: &Clock) -> Plane {
        let mut running = JoinSet::new();
        let (stop, stopped) = oneshot::channel();
        running.spawn(task.run(stopped));
        Plane {
            handle,
            clock: clock.clone(),
            running,
            stop: Some(stop),
        }
    }

    fn keys(&self, at: usize) -> Keys {
        self.handle.snapshot().issuers[at].clone()
    }

    /// The `kid`s that are good now.
    fn kids(&self, at: usize) -> Vec<String> {
        kids(&self.keys(at), self.clock.boot())
    }

    async fn until_attempts(&self, at: usize, attempts: u64) -> Keys {
        let mut watch = self.handle.watch();
        let snapshot = watch
            .wait_for(|snapshot| snapshot.issuers[at].attempts >= attempts)
            .await
            .expect("the plane runs");
        snapshot.issuers[at].clone()
    }
}

fn kids(keys: &Keys, now: Boot) -> Vec<String> {
    let set = keys.usable(now);
    let kids = set.into_iter().flat_map(|set| set.keys());
    kids.filter_map(|key| key.kid.as_deref().map(str::to_owned))
        .collect()
}

async fn sleep_s(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn clock() -> Clock {
    Clock::manual(START)
}

/// An issuer as the defaults of the config have it.
fn settings(name: &str, source: Source, fetch: Option<fetch::Service>) -> Settings {
    Settings {
        name: name.to_owned(),
        issuer: format!("https://{name}.example"),
        source,
        refresh: Duration::from_secs(300),
        cooldown: Duration::from_secs(30),
        max_stale: Duration::from_secs(24 * 3600),
        insecure_http: false,
        fetch,
        public_only: false,
        lane: None,
    }
}

fn url(text: &str) -> Url {
    text.parse().expect("a URL")
}

/// An issuer with a JWK set at an address of its own.
fn by_url(name: &str, origin: &Arc<Origin>) -> Settings {
    let source = Source::JwksUrl(url(&format!("https://{name}.example/jwks")));
    settings(name, source, Some(origin.service()))
}

/// An issuer with a discovery document.
fn by_discovery(name: &str, origin: &Arc<Origin>) -> Settings {
    let source = Source::DiscoveryUrl(url(&format!("https://{name}.example")));
    settings(name, source, Some(origin.service()))
}
