//! Two data threads on real sockets and in real time: what they share stays one.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

use regent::app::{self, Deps, Exit, Remote};
use regent::clock::Clock;
use regent::config::load::load;
use regent::config::{Environment, Sources};
use regent::demo::region::{Kind, Part, Region, Settings};
use regent::lifecycle::Stage;
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
            "threads = 2\n[region]\nurl = \"http://{login}\"\n\
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
            let bound = app::build(loaded.expect("a good config"), Deps::system())?;
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

    /// Connections of which each thread has some.
    async fn clients(&self) -> Vec<Client> {
        let mut clients = Vec::new();
        let counters = &self.remote.counters;
        let all_have = || {
            counters
                .iter()
                .all(|each| each.of(counters::Side::Outbound).connections.load(Relaxed) >= 20)
        };
        while clients.len() < 200 || !all_have() {
            assert!(clients.len() < 1000, "one thread takes all");
            let stream = TcpStream::connect(self.at).await.expect("it listens");
            clients.push(Client::over(stream).await);
        }
        clients
    }

    async fn end(self) {
        self.remote.stop.advance(Stage::Drain);
        let ended = tokio::task::spawn_blocking(|| self.running.join());
        let exit = ended.await.expect("no panic").expect("no panic");
        assert_eq!(exit.expect("it ran"), Exit::Stopped);
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
    let clients = threads.clients().await;
    let (statuses, clients) = burst(clients).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(threads.region.count(Kind::Refresh), 1);
    drop(clients);
    threads.end().await;
}

#[tokio::test(flavor = "local")]
async fn a_token_that_is_revoked_under_both_threads_costs_one_refresh() {
    let threads = Threads::start(Duration::ZERO);
    let clients = threads.clients().await;
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
