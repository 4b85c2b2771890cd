//! A sidecar, its regions and their workloads on one paused runtime, over pipes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use regent::app::{self, Deps, Exit, Remote};
use regent::clock::{Boot, Clock};
use regent::config::load::load;
use regent::config::{Environment, Listen, Loaded, Problem, Sources};
use regent::demo::region::{Kind, Region, Settings, SigningKey};
use regent::fetch;
use regent::lifecycle::Stage;
use regent::net::{Io, Listener, Local, Memory, Net};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tower::ServiceExt as _;

use crate::client::{Answer, Client};
use crate::upstream::Upstream;

pub(crate) const OUTBOUND: &str = "127.0.0.1:8080";
pub(crate) const ADMIN: &str = "127.0.0.1:9180";
pub(crate) const UNIX: i64 = 1_750_000_000;

/// One of the two regions, and its workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Side {
    A,
    B,
}

impl Side {
    fn region_port(self) -> u16 {
        match self {
            Side::A => 9001,
            Side::B => 9002,
        }
    }

    pub(crate) fn upstream(self) -> SocketAddr {
        let port = match self {
            Side::A => 9101,
            Side::B => 9102,
        };
        SocketAddr::from(([127, 0, 0, 1], port))
    }
}

/// Keys are dear, and nothing here is about them: one for each region.
pub(crate) fn key(side: Side) -> SigningKey {
    static KEYS: [OnceLock<SigningKey>; 2] = [OnceLock::new(), OnceLock::new()];
    let make = || SigningKey::generate().expect("a machine that makes keys");
    KEYS[side as usize].get_or_init(make).clone()
}

/// How a world begins.
pub(crate) struct Setup {
    pub(crate) lifetime: Duration,
    /// `key=value`, as with `--set`.
    pub(crate) sets: Vec<String>,
    pub(crate) seed: u64,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            lifetime: Duration::from_secs(60),
            sets: Vec::new(),
            seed: 1,
        }
    }
}

/// Pipes that take their time to connect.
struct Far(Memory, watch::Receiver<Duration>);

impl Net for Far {
    fn bind(&self, at: &Listen) -> io::Result<Listener> {
        self.0.bind(at)
    }

    fn connect<'a>(&'a self, to: SocketAddr) -> Local<'a, io::Result<Io>> {
        Box::pin(async move {
            let takes = *self.1.borrow();
            tokio::time::sleep(takes).await;
            self.0.connect(to).await
        })
    }
}

pub(crate) struct World {
    /// The sidecar's.
    pub(crate) clock: Clock,
    /// The regions'.
    theirs: Clock,
    pub(crate) net: Memory,
    /// How long the sidecar's connections to upstreams take.
    pub(crate) connecting: watch::Sender<Duration>,
    pub(crate) folder: TempDir,
    pub(crate) remote: Remote,
    pub(crate) running: JoinHandle<Exit>,
    sides: HashMap<Side, (Region, Upstream)>,
    sets: Vec<String>,
    fetch: fetch::Service,
    /// When the sidecar asked which region's port.
    asked: Arc<Mutex<Vec<(Boot, u16)>>>,
    /// What `POST /reload` reads.
    rereads: Rc<RefCell<Option<Sources>>>,
}

impl World {
    /// With regions A and B up, and a sidecar that is configured for A.
    pub(crate) async fn start(setup: Setup) -> World {
        World::start_with(setup, |_| {}).await
    }

    /// As [`World::start`], with the regions changed first.
    pub(crate) async fn start_with(setup: Setup, prepare: impl FnOnce(&Region)) -> World {
        let (clock, theirs) = (Clock::manual(UNIX), Clock::manual(UNIX));
        let net = Memory::default();
        let connecting = watch::Sender::new(Duration::ZERO);
        let folder = tempfile::tempdir().expect("a folder");
        let mut sides = HashMap::new();
        for side in [Side::A, Side::B] {
            let settings = Settings {
                access_lifetime: setup.lifetime,
                refresh_lifetime: Duration::from_secs(30 * 86_400),
                ..Settings::default()
            };
            let region = Region::new(key(side), settings, theirs.clone());
            let upstream = Upstream::new(region.clone());
            let listener = net.bind(&Listen::Tcp(side.upstream()));
            upstream.serve(listener.expect("pipes"));
            let token = region.issue_refresh("alice@example.com").expect("alice");
            let path = token_file(&folder, side);
            std::fs::write(path, token.expose()).expect("written");
            sides.insert(side, (region, upstream));
        }
        prepare(&sides[&Side::A].0);
        let asked = Arc::default();
        let fetch = by_port(&sides, &asked, &clock);
        let rereads = Rc::new(RefCell::new(None::<Sources>));
        let sources = Rc::clone(&rereads);
        let deps = Deps {
            net: Arc::new(Far(net.clone(), connecting.subscribe())),
            clock: clock.clone(),
            fetch: Some(fetch.clone()),
            dice: fastrand::Rng::with_seed(setup.seed),
            reread: Some(Box::new(move || {
                load(sources.borrow().as_ref().expect("the test set it"))
            })),
            ..Deps::system()
        };
        let loaded = config(&folder, Side::A, &setup.sets).expect("a good config");
        let bound = app::build(loaded, deps).unwrap_or_else(|error| panic!("{error}"));
        let remote = bound.remote.clone();
        World {
            clock,
            theirs,
            net,
            connecting,
            folder,
            remote,
            running: tokio::task::spawn_local(bound.run_here()),
            sides,
            sets: setup.sets,
            fetch,
            asked,
            rereads,
        }
    }

    pub(crate) fn region(&self, side: Side) -> &Region {
        &self.sides[&side].0
    }

    pub(crate) fn upstream(&self, side: Side) -> &Upstream {
        &self.sides[&side].1
    }

    /// The config that points at a side, with these keys set beside those of the start.
    pub(crate) fn config(&self, side: Side, more: &[&str]) -> Result<Loaded, Vec<Problem>> {
        let more = more.iter().map(|set| (*set).to_owned());
        let sets: Vec<String> = self.sets.iter().cloned().chain(more).collect();
        config(&self.folder, side, &sets)
    }

    pub(crate) async fn reload(&self, side: Side, more: &[&str]) -> Result<(), Vec<Problem>> {
        let loaded = self.config(side, more).expect("a good config");
        self.remote.reload(loaded).await
    }

    /// What the next `POST /reload` reads.
    pub(crate) fn write_config(&self, text: &str) -> PathBuf {
        let path = self.folder.path().join("changed.toml");
        std::fs::write(&path, text).expect("written");
        self.rereads.replace(Some(sources(path.clone(), &[])));
        path
    }

    pub(crate) fn token_file(&self, side: Side) -> PathBuf {
        token_file(&self.folder, side)
    }

    pub(crate) async fn client(&self) -> Client {
        let at = OUTBOUND.parse().expect("an address");
        Client::over(self.net.dial(at).expect("it listens")).await
    }

    /// One request on a connection of its own.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.client().await.get(path).await
    }

    pub(crate) async fn admin(&self, method: Method, path: &str) -> Answer {
        let at = ADMIN.parse().expect("an address");
        let mut client = Client::over(self.net.dial(at).expect("it listens")).await;
        let asked = client.send(method, path, &[], Bytes::new()).await;
        asked.expect("an answer")
    }

    /// The status of a probe.
    pub(crate) async fn probe(&self, path: &str) -> u16 {
        self.admin(Method::GET, path).await.status
    }

    /// When the sidecar asked a region for tokens, answered or not.
    pub(crate) fn asked(&self, side: Side) -> Vec<Boot> {
        let asked = self.asked.lock().expect("no panic");
        let mine = asked.iter().filter(|(_, port)| *port == side.region_port());
        mine.map(|(at, _)| *at).collect()
    }

    /// Refreshes that region A answered.
    pub(crate) fn refreshes(&self) -> u64 {
        self.region(Side::A).count(Kind::Refresh)
    }

    /// When the token that A handed out last must not be used any more: a second is margin.
    pub(crate) fn expiry(&self, lifetime: Duration) -> Boot {
        let calls = self.region(Side::A).calls();
        let good = |kind, status: Option<http::StatusCode>| {
            [Kind::Refresh, Kind::Login].contains(&kind)
                && status.is_some_and(|status| status.is_success())
        };
        let last = calls.iter().rev().find(|call| good(call.kind, call.status));
        last.expect("it has logged in").at + lifetime.saturating_sub(Duration::from_secs(1))
    }

    /// The laptop sleeps, and the world goes on.
    pub(crate) fn suspend(&self, by: Duration) {
        self.clock.suspend(by);
        self.theirs.suspend(by);
    }

    pub(crate) async fn sleep_until(&self, at: Boot) {
        let left = at.since(self.clock.boot());
        tokio::time::sleep(left).await;
    }

    /// Ends it, and starts another one in its place.
    pub(crate) async fn restart(&mut self) {
        self.remote.stop.advance(Stage::Drain);
        assert_eq!(self.ended().await, Exit::Stopped);
        let deps = Deps {
            net: Arc::new(self.net.clone()),
            clock: self.clock.clone(),
            fetch: Some(self.fetch.clone()),
            ..Deps::system()
        };
        let loaded = self.config(Side::A, &[]).expect("a good config");
        let bound = app::build(loaded, deps).unwrap_or_else(|error| panic!("{error}"));
        self.remote = bound.remote.clone();
        self.running = tokio::task::spawn_local(bound.run_here());
    }

    /// Asks it to end, and waits for that.
    pub(crate) async fn stop(mut self) -> Exit {
        self.remote.stop.advance(Stage::Drain);
        self.ended().await
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&mut self) -> Exit {
        (&mut self.running).await.expect("no panic")
    }
}

impl Drop for World {
    /// A sidecar that nobody asks any more would refresh through the rest of its test.
    fn drop(&mut self) {
        self.remote.stop.advance(Stage::Abort);
    }
}

fn token_file(folder: &TempDir, side: Side) -> PathBuf {
    folder.path().join(format!("refresh-token-{side:?}"))
}

pub(crate) fn config(
    folder: &TempDir,
    side: Side,
    sets: &[String],
) -> Result<Loaded, Vec<Problem>> {
    let path = folder.path().join(format!("regent-{side:?}.toml"));
    let text = format!(
        "[region]\nurl = \"http://127.0.0.1:{}\"\n\n\
         [region.credential]\nrefresh_token_file = {:?}\n\n\
         [outbound]\nlisten = \"{OUTBOUND}\"\nupstream = \"http://{}\"\n\n\
         [admin]\nlisten = \"{ADMIN}\"\n",
        side.region_port(),
        token_file(folder, side).display().to_string(),
        side.upstream(),
    );
    std::fs::write(&path, text).expect("written");
    load(&sources(path, sets))
}

fn sources(file: PathBuf, sets: &[String]) -> Sources {
    Sources {
        files: vec![file],
        sets: sets.to_vec(),
        env: Environment::default(),
        terminal: false,
    }
}

/// The regions in process, told apart by the port of the URL.
fn by_port(
    sides: &HashMap<Side, (Region, Upstream)>,
    asked: &Arc<Mutex<Vec<(Boot, u16)>>>,
    clock: &Clock,
) -> fetch::Service {
    let services: HashMap<u16, fetch::Service> = sides
        .iter()
        .map(|(side, (region, _))| (side.region_port(), region.service()))
        .collect();
    let (asked, clock) = (Arc::clone(asked), clock.clone());
    fetch::Service::new(tower::service_fn(move |request: fetch::Request| {
        let port = request.url.port().expect("the config has one");
        asked.lock().expect("no panic").push((clock.boot(), port));
        services[&port].clone().oneshot(request)
    }))
}
