//! Hundreds of sidecars that start, and wait, together: they part, and they come back apart.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;

use super::fake::{self, Fake, Mood};
use super::{REGION, sleep_s};
use crate::clock::{Boot, Clock};
use crate::config::Credential;
use crate::files::OsFiles;
use crate::secret::Secret;
use crate::token::{self, Answer, Deps, Login, Settings};

const DOWN: Mood = Mood::Down { retry_after: None };
/// What of a token's 300 s is used. Seconds.
const USABLE: f64 = 299.0;

/// One sidecar's way to the region, with a log of its own.
struct Line {
    region: Arc<Fake>,
    clock: Clock,
    calls: Mutex<Vec<Boot>>,
}

impl Login for Line {
    fn log_in<'a>(&'a self, email: &'a str, password: &'a Secret) -> Answer<'a, token::Tokens> {
        self.region.log_in(email, password)
    }

    fn refresh<'a>(&'a self, token: &'a Secret) -> Answer<'a, token::Tokens> {
        let mut calls = self.calls.lock().expect("no panic");
        calls.push(self.clock.boot());
        self.region.refresh(token)
    }

    fn verify<'a>(&'a self, token: &'a Secret) -> Answer<'a, ()> {
        self.region.verify(token)
    }
}

/// Sidecars with a login in their environment: nothing is read from the disk.
struct Fleet {
    clock: Clock,
    region: Arc<Fake>,
    lines: Vec<Arc<Line>>,
    _running: JoinSet<()>,
}

impl Fleet {
    fn start(sides: usize) -> Fleet {
        let clock = Clock::manual(fake::START);
        let region = Arc::new(Fake::new(clock.clone()));
        let token = Secret::new(region.issue("alice"));
        let mut dice = fastrand::Rng::with_seed(1);
        let mut running = JoinSet::new();
        let lines = (0..sides).map(|_| {
            let line = Arc::new(Line {
                region: Arc::clone(&region),
                clock: clock.clone(),
                calls: Mutex::default(),
            });
            let settings = Settings {
                region: Some(REGION.parse().expect("a URL")),
                credential: Credential {
                    refresh_token_env: Some(("TOKEN".to_owned(), Some(token.clone()))),
                    ..Credential::default()
                },
            };
            let deps = Deps {
                login: Arc::clone(&line) as _,
                clock: clock.clone(),
                files: Arc::new(OsFiles),
                dice: dice.fork(),
            };
            let (handle, task) = token::new(settings, deps);
            running.spawn(async move {
                let _handle = handle;
                task.run(std::future::pending::<()>()).await;
            });
            line
        });
        Fleet {
            lines: lines.collect(),
            clock,
            region,
            _running: running,
        }
    }

    /// Each one's calls after `from`, in seconds after it.
    fn calls_after(&self, from: Boot) -> Vec<Vec<f64>> {
        let of = |line: &Arc<Line>| {
            let calls = line.calls.lock().expect("no panic");
            let later = calls.iter().filter(|call| **call > from);
            later.map(|call| call.since(from).as_secs_f64()).collect()
        };
        self.lines.iter().map(of).collect()
    }
}

/// The earliest, the latest, and what the fullest ten seconds hold, as a multiple of the mean.
fn spread(times: &[f64]) -> (f64, f64, f64) {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    let (first, last) = (times[0], times[times.len() - 1]);
    let within = |from: f64| {
        times
            .iter()
            .filter(|at| (from..from + 10.0).contains(*at))
            .count()
    };
    let fullest = times.iter().map(|from| within(*from)).max().unwrap_or(0);
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let peak = fullest as f64 * (last - first) / (10.0 * times.len() as f64);
    (first, last, peak)
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_starts_together_does_not_refresh_together() {
    let fleet = Fleet::start(300);
    let start = fleet.clock.boot();
    sleep_s(1_000).await;
    // All of them have logged in at the start; what follows is on the schedule.
    assert!(fleet.region.calls() > 2 * 300);
    let calls = fleet.calls_after(start + Duration::from_secs(1));
    let firsts: Vec<f64> = calls
        .iter()
        .map(|calls| (calls[0] + 1.0) / USABLE)
        .collect();
    assert!(firsts.iter().all(|first| (0.099..0.901).contains(first)));
    let (earliest, latest, _) = spread(&firsts);
    assert!(earliest < 0.15 && latest > 0.85, "{earliest} {latest}");
    for round in 0..3 {
        let at: Vec<f64> = calls.iter().map(|calls| calls[round]).collect();
        let (earliest, latest, peak) = spread(&at);
        assert!(latest - earliest > 0.5 * USABLE, "round {round}");
        assert!(peak <= 3.0, "round {round}: {peak} times the mean");
    }
    let later = calls.iter().flat_map(|calls| calls.windows(2));
    let gaps: Vec<f64> = later.map(|pair| (pair[1] - pair[0]) / USABLE).collect();
    assert!(gaps.iter().all(|gap| (0.499..0.901).contains(gap)));
    let (shortest, longest, _) = spread(&gaps);
    assert!(shortest < 0.52 && longest > 0.88, "{shortest} {longest}");
}

#[tokio::test(start_paused = true)]
async fn a_fleet_comes_back_apart_from_an_outage_and_backs_off_anew_at_the_next() {
    let fleet = Fleet::start(100);
    sleep_s(10).await;
    fleet.region.set(DOWN);
    sleep_s(3_600).await;
    let back = fleet.clock.boot();
    fleet.region.set(Mood::Up);
    sleep_s(150).await;
    let returns: Vec<f64> = fleet
        .calls_after(back)
        .iter()
        .map(|calls| calls[0])
        .collect();
    let (earliest, latest, peak) = spread(&returns);
    let cap = crate::backoff::CAP.as_secs_f64();
    assert!(
        latest <= cap && latest - earliest > 0.7 * cap,
        "{earliest} {latest}"
    );
    assert!(peak <= 3.0, "{peak} times the mean");

    // What went before is forgotten: the first wait is below a second again.
    sleep_s(600).await;
    let down = fleet.clock.boot();
    fleet.region.set(DOWN);
    sleep_s(290).await;
    for calls in fleet.calls_after(down + Duration::from_millis(10)) {
        let wait = calls[1] - calls[0];
        assert!(wait < 1.1, "{wait} s after the first failure");
    }
}

#[test]
fn no_two_processes_throw_the_same_dice() {
    let clock = Clock::system();
    let region: Arc<dyn Login> = Arc::new(Line {
        region: Arc::new(Fake::new(clock.clone())),
        clock: clock.clone(),
        calls: Mutex::default(),
    });
    let mut thrown: Vec<u64> = (0..100)
        .map(|_| {
            Deps::system(Arc::clone(&region), clock.clone())
                .dice
                .u64(..)
        })
        .collect();
    thrown.sort_unstable();
    thrown.dedup();
    assert_eq!(thrown.len(), 100);
}
