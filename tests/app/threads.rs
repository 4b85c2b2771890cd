//! Several data threads on real sockets and in real time: what they share stays one, and callers are
//! spread evenly over them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use regent::app::{self, Deps, Exit, Remote};
use regent::clock::{Boot, Clock};
use regent::config::Listen;
use regent::config::load::load;
use regent::config::{Environment, Sources};
use regent::demo::region::{Kind, Part, Region, Settings};
use regent::lifecycle::Stage;
use regent::net::{Io, Listener, Local, Net, System};
use regent::telemetry::counters;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::task::{JoinSet, spawn_local};

use crate::client::Client;
use crate::world::{Side, key};

/// A sidecar on threads of its own, and its region on the test's.
struct Threads {
    region: Region,
    at: SocketAddr,
    remote: Remote,
    running: JoinHandle<Result<Exit, app::Error>>,
    _folder: TempDir,
}

impl Threads {
    fn start(latency: Duration) -> Threads {
        Threads::start_many(2, latency, Arc::new(System))
    }

    fn start_many(count: usize, latency: Duration, net: Arc<dyn Net>) -> Threads {
        let settings = Settings {
            access_lifetime: Duration::from_secs(86_400),
            latency,
            ..Settings::default()
        };
        let region = Region::new(key(Side::A), settings, Clock::system());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let serve = |part| {
            let server = region.bind(any, part).expect("a port");
            let address = server.address();
            spawn_local(server.run());
            address
        };
        let (login, workload) = (serve(Part::Region), serve(Part::Workload));
        let folder = tempfile::tempdir().expect("a folder");
        let token = region.issue_refresh("alice@example.com").expect("alice");
        let token_file = folder.path().join("refresh-token");
        std::fs::write(&token_file, token.expose()).expect("written");
        let text = format!(
            "threads = {count}\n[region]\nurl = \"http://{login}\"\n\
             [region.credential]\nrefresh_token_file = {:?}\n\
             [outbound]\nlisten = \"127.0.0.1:0\"\nupstream = \"http://{workload}\"\n\
             [admin]\nlisten = \"127.0.0.1:0\"\n",
            token_file.display().to_string(),
        );
        let config = folder.path().join("regent.toml");
        std::fs::write(&config, text).expect("written");
        let loaded = load(&Sources {
            files: vec![config],
            sets: Vec::new(),
            env: Environment::default(),
            terminal: false,
        });
        let (tell, told) = std::sync::mpsc::channel();
        let run = move || {
            let deps = Deps {
                net,
                ..Deps::system()
            };
            let bound = app::build(loaded.expect("a good config"), deps)?;
            let at = bound.outbound.as_ref().and_then(|at| at.tcp());
            tell.send((at, bound.remote.clone()))
                .expect("it is awaited");
            bound.run()
        };
        let running = std::thread::spawn(run);
        let (at, remote) = told.recv().expect("it starts");
        Threads {
            region,
            at: at.expect("a TCP address"),
            remote,
            running,
            _folder: folder,
        }
    }

    async fn client(&self) -> Client {
        Client::over(TcpStream::connect(self.at).await.expect("it listens")).await
    }

    /// Connections, of which each thread has as many as any other.
    async fn clients(&self, count: usize) -> Vec<Client> {
        let mut clients = Vec::new();
        for _ in 0..count {
            clients.push(self.client().await);
        }
        let each = count / self.remote.counters.len();
        self.until(|open| open.iter().all(|open| *open == each as u64))
            .await;
        clients
    }

    /// Waits until the connections of each thread are so.
    async fn until(&self, holds: impl Fn(&[u64]) -> bool) {
        let open = || -> Vec<u64> {
            let threads = self.remote.counters.iter();
            let side = threads.map(|each| each.of(counters::Side::Outbound));
            side.map(|side| side.connections.load(Relaxed)).collect()
        };
        for _ in 0..6000 {
            if holds(&open()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{:?}", open());
    }

    async fn end(self) {
        self.remote.stop.advance(Stage::Drain);
        assert_eq!(self.ended().await, Exit::Stopped);
    }

    async fn ended(self) -> Exit {
        for _ in 0..6000 {
            if self.running.is_finished() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(self.running.is_finished(), "it goes on");
        self.running.join().expect("no panic").expect("it ran")
    }
}

/// One request on each at the same time; the statuses.
async fn burst(clients: Vec<Client>) -> (Vec<u16>, Vec<Client>) {
    let mut requests = JoinSet::new();
    for mut client in clients {
        requests.spawn_local(async move { (client.get("/whoami").await.status, client) });
    }
    requests.join_all().await.into_iter().unzip()
}

#[tokio::test(flavor = "local")]
async fn first_requests_on_both_threads_cost_one_refresh() {
    let threads = Threads::start(Duration::from_secs(1));
    let clients = threads.clients(80).await;
    let (statuses, clients) = burst(clients).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(threads.region.count(Kind::Refresh), 1);
    drop(clients);
    threads.end().await;
}

#[tokio::test(flavor = "local")]
async fn a_token_that_is_revoked_under_both_threads_costs_one_refresh() {
    let threads = Threads::start(Duration::ZERO);
    let clients = threads.clients(80).await;
    let (statuses, clients) = burst(clients).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(threads.region.count(Kind::Refresh), 1);
    threads.region.revoke_all_access();
    let latency = Duration::from_millis(200);
    threads.region.change(|settings| settings.latency = latency);
    let (statuses, clients) = burst(clients).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(threads.region.count(Kind::Refresh), 2);
    for counters in &*threads.remote.counters {
        assert!(
            counters
                .of(regent::telemetry::counters::Side::Outbound)
                .unauthorized_recovered
                .load(Relaxed)
                >= 20
        );
    }
    drop(clients);
    threads.end().await;
}

#[tokio::test(flavor = "local")]
async fn few_connections_are_spread_evenly_and_all_are_served() {
    for count in [2, 4] {
        let threads = Threads::start_many(count, Duration::ZERO, Arc::new(System));
        let mut clients = threads.clients(8).await;
        for client in &mut clients {
            assert_eq!(client.get("/whoami").await.status, 200);
        }
        // Whoever has lost some gets the next ones.
        clients.truncate(8 - count);
        threads
            .until(|open| open.iter().sum::<u64>() == 8 - count as u64)
            .await;
        for _ in 0..count {
            clients.push(threads.client().await);
        }
        threads
            .until(|open| open.iter().all(|open| *open == 8 / count as u64))
            .await;
        drop(clients);
        threads.end().await;
    }
}

/// Sockets, but that the first connection to an upstream holds its thread until it is let go.
#[derive(Default)]
struct Holding {
    held: Mutex<Option<bool>>,
    changed: Condvar,
}

impl Holding {
    fn hold(&self) {
        let mut held = self.held.lock().expect("no panic");
        if held.is_none() {
            *held = Some(true);
            while *held == Some(true) {
                held = self.changed.wait(held).expect("no panic");
            }
        }
    }

    fn let_go(&self) {
        *self.held.lock().expect("no panic") = Some(false);
        self.changed.notify_all();
    }
}

impl Net for Holding {
    fn bind(&self, at: &Listen) -> std::io::Result<Listener> {
        System.bind(at)
    }

    fn connect<'a>(&'a self, to: SocketAddr) -> Local<'a, std::io::Result<Io>> {
        self.hold();
        System.connect(to)
    }
}

#[tokio::test(flavor = "local")]
async fn a_thread_that_is_stuck_gets_no_connection() {
    let net = Arc::new(Holding::default());
    let threads = Threads::start_many(2, Duration::ZERO, net.clone());
    let mut first = threads.client().await;
    threads.until(|open| open.contains(&1)).await;
    let first = spawn_local(async move { first.get("/whoami").await.status });
    let clock = Clock::system();
    let beats = || {
        let beats = threads.remote.counters.iter();
        let beats = beats.map(|counters| counters.heartbeat.load(Relaxed));
        beats.filter(|beat| *beat > 0).map(Boot::from_nanos)
    };
    // That it is stuck is known by now.
    while !beats().any(|beat| clock.boot().since(beat) > Duration::from_secs(2)) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut others = Vec::new();
    for _ in 0..4 {
        others.push(threads.client().await);
    }
    threads.until(|open| open.contains(&4)).await;
    for other in &mut others {
        assert_eq!(other.get("/whoami").await.status, 200);
    }
    assert!(!first.is_finished());
    net.let_go();
    assert_eq!(first.await.expect("no panic"), 200);
    drop(others);
    threads.end().await;
}

/// Sockets, but that what accepts callers panics over their listener, where tokio is built with its
/// assertions: it may block.
#[derive(Default)]
struct Blocking(AtomicBool);

impl Net for Blocking {
    fn bind(&self, at: &Listen) -> std::io::Result<Listener> {
        let bound = System.bind(at)?;
        // The first one is outbound's.
        if let Listener::Tcp(listener) = &bound
            && !self.0.swap(true, Relaxed)
        {
            listener.set_nonblocking(false)?;
        }
        Ok(bound)
    }

    fn connect<'a>(&'a self, to: SocketAddr) -> Local<'a, std::io::Result<Io>> {
        System.connect(to)
    }
}

#[tokio::test(flavor = "local")]
#[cfg_attr(not(debug_assertions), ignore = "tokio asserts nothing there")]
async fn a_panic_of_a_whole_thread_ends_the_sidecar() {
    for count in [1, 2] {
        let net = Arc::new(Blocking::default());
        let threads = Threads::start_many(count, Duration::ZERO, net);
        assert_eq!(threads.ended().await, Exit::Failed, "{count}");
    }
}
