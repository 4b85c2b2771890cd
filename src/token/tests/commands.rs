//! `login`, `logout`, `token` and the question of `check --online`, against the fake region.

use std::sync::Arc;

use super::fake::Mood;
use super::{Bench, REGION, mode, sleep_s};
use crate::cli::Exit;
use crate::cli::login::{Failure, Given, log_in};
use crate::cli::logout::log_out;
use crate::cli::token::print;
use crate::config::Credential;
use crate::files::OsFiles;
use crate::files::faulty::{Fault, Faulty, STEPS_OF_A_WRITE};
use crate::secret::Secret;
use crate::token::ask::{Verdict, ask};
use crate::token::login_file::Stored;
use crate::token::{Deps, Settings};

impl Bench {
    fn logging_in() -> Bench {
        let mut bench = Bench::new();
        std::fs::remove_file(bench.path("token")).expect("removed");
        bench.credential = Credential {
            login_file: Some(bench.path("login.json")),
            ..Credential::default()
        };
        let password = ("alice@example.com".to_owned(), "sesame".to_owned());
        bench.region.with().passwords.extend([password]);
        bench
    }

    async fn log_in(&self, given: Given) -> Result<Stored, Failure> {
        let url = REGION.parse().expect("a URL");
        let store = self.path("login.json");
        log_in(
            &url,
            Some("alice@example.com"),
            given,
            &store,
            &*self.region,
            &OsFiles,
        )
        .await
    }

    pub(super) fn settings(&self) -> Settings {
        Settings {
            region: Some(REGION.parse().expect("a URL")),
            credential: self.credential.clone(),
        }
    }

    pub(super) fn deps(&self) -> Deps {
        Deps {
            login: Arc::clone(&self.region) as _,
            clock: self.clock.clone(),
            files: Arc::new(Faulty::new()),
            dice: fastrand::Rng::with_seed(3),
        }
    }

    async fn print(&self) -> Result<String, Failure> {
        let text = print(self.settings(), self.deps(), false, |_| {}).await;
        text.map(|text| text.trim().to_owned())
    }
}

fn password(text: &str) -> Given {
    Given::Password(Secret::from(text))
}

#[tokio::test(start_paused = true)]
async fn login_stores_the_refresh_token_alone_for_run_and_token() {
    let mut bench = Bench::logging_in();
    bench.region.with().rotates = true;
    bench.log_in(password("sesame")).await.expect("logged in");
    let path = bench.path("login.json");
    assert_eq!(mode(&path), 0o600);
    let content = std::fs::read_to_string(&path).expect("there");
    let keys: Vec<_> = serde_json::from_str::<serde_json::Map<_, _>>(&content)
        .expect("an object")
        .into_iter()
        .map(|(key, _): (String, serde_json::Value)| key)
        .collect();
    assert_eq!(
        keys,
        ["email", "refresh_token", "region", "user", "version"]
    );
    assert!(!content.contains("sesame"));
    let side = bench.start();
    side.until_generation(1).await;
    assert!(bench.print().await.is_ok());
    // A second login does away with what the first had grown into.
    assert!(bench.path("login.json.state").exists());
    bench.log_in(password("sesame")).await.expect("logged in");
    assert!(!bench.path("login.json.state").exists());
    sleep_s(4).await;
    assert!(side.handle.state().degraded.is_empty());
    side.stop().await;
    bench.start().until_generation(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_login_says_why_and_leaves_no_partial_file() {
    let bench = Bench::logging_in();
    let failure = bench.log_in(password("wrong")).await.expect_err("refused");
    assert_eq!(failure.exit, Exit::Refused);
    assert!(failure.what.contains("no_active_account") && !failure.what.contains("wrong"));
    bench.region.set(Mood::Down { retry_after: None });
    let failure = bench.log_in(password("sesame")).await.expect_err("away");
    assert_eq!(failure.exit, Exit::Unreachable);
    assert!(bench.names().is_empty(), "{:?}", bench.names());
    // Nor does it harm the login that is there.
    bench.region.set(Mood::Up);
    bench.log_in(password("sesame")).await.expect("logged in");
    let before = std::fs::read(bench.path("login.json")).expect("there");
    bench.log_in(password("wrong")).await.expect_err("refused");
    assert_eq!(
        std::fs::read(bench.path("login.json")).expect("there"),
        before
    );
    assert_eq!(bench.names(), ["login.json"]);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_cannot_be_kept_leaves_nothing() {
    for at in 0..STEPS_OF_A_WRITE - 1 {
        let bench = Bench::logging_in();
        let files = Faulty::new();
        files.arm(at, Fault::Fails(rustix::io::Errno::NOSPC.raw_os_error()));
        let url = REGION.parse().expect("a URL");
        let store = bench.path("login.json");
        let given = password("sesame");
        let email = Some("alice@example.com");
        let ended = log_in(&url, email, given, &store, &*bench.region, &files).await;
        assert_eq!(ended.expect_err("no room").exit, Exit::Failed);
        assert!(bench.names().is_empty());
        // Without room to keep it, no login is made at all.
        assert_eq!(
            bench.region.with().logins,
            usize::from(at >= 2),
            "step {at}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_from_standard_input_is_checked_without_being_spent() {
    let bench = Bench::logging_in();
    bench.region.with().rotates = true;
    let token = bench.region.issue("alice");
    bench
        .log_in(Given::RefreshToken(Secret::from(token.as_str())))
        .await
        .expect("good");
    assert_eq!(bench.region.calls(), 0);
    assert!(bench.region.with().live.contains_key(&token));
    bench.region.revoke_all();
    let access = bench.region.access("alice", 300);
    for bad in [token.as_str(), access.as_str(), "canary"] {
        let given = Given::RefreshToken(Secret::from(bad));
        let failure = bench.log_in(given).await.expect_err("bad");
        assert_eq!(failure.exit, Exit::Refused);
        assert!(!failure.what.contains(bad), "never quoted");
    }
}

#[tokio::test(start_paused = true)]
async fn logout_removes_everything_and_is_fine_without_a_login() {
    let mut bench = Bench::logging_in();
    bench.region.with().rotates = true;
    bench.log_in(password("sesame")).await.expect("logged in");
    let side = bench.start();
    side.until_generation(2).await;
    side.stop().await;
    assert!(
        log_out(&bench.path("login.json"), &OsFiles)
            .await
            .expect("removed")
    );
    assert!(bench.names().is_empty(), "{:?}", bench.names());
    assert!(
        !log_out(&bench.path("login.json"), &OsFiles)
            .await
            .expect("fine")
    );
    assert!(
        !log_out(&bench.path("not/there.json"), &OsFiles)
            .await
            .expect("fine")
    );
}

#[tokio::test(start_paused = true)]
async fn the_token_command_never_costs_a_running_sidecar_its_token() {
    let mut bench = Bench::logging_in();
    bench.region.with().rotates = true;
    bench.region.with().lifetime_s = 2;
    bench.log_in(password("sesame")).await.expect("logged in");
    let side = bench.start();
    side.until_generation(1).await;
    for _ in 0..50 {
        assert!(bench.print().await.is_ok());
        let got = side.request().await;
        assert!(got.is_ok(), "{got:?}");
    }
    assert!(side.handle.state().degraded.is_empty());
    side.stop().await;
    assert!(bench.print().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_token_command_prints_what_scripts_need_and_ends_as_the_contract_says() {
    let bench = Bench::logging_in();
    let failure = bench.print().await.expect_err("no login");
    assert_eq!(failure.exit, Exit::Refused);
    assert!(failure.what.contains("regent login"), "{}", failure.what);
    bench.log_in(password("sesame")).await.expect("logged in");
    let quiet = |line: &String| panic!("nothing is wrong: {line}");
    let text = print(bench.settings(), bench.deps(), true, quiet)
        .await
        .expect("a token");
    let printed: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(printed["user"], "alice@example.com");
    assert_eq!(printed["expires_in_s"], 298);
    assert_eq!(printed["expires_at"], super::fake::START + 300);
    assert!(crate::compact::peek(printed["access_token"].as_str().expect("text")).is_ok());
    bench.region.set(Mood::Down { retry_after: None });
    assert_eq!(
        bench.print().await.expect_err("away").exit,
        Exit::Unreachable
    );
    bench.region.set(Mood::Up);
    bench.region.revoke_all();
    assert_eq!(bench.print().await.expect_err("dead").exit, Exit::Refused);
}

/// This process ends, and its memory with it: there is no later poll.
#[tokio::test(start_paused = true)]
async fn the_token_command_stores_a_rotated_token_at_last_or_says_that_it_is_lost() {
    let bench = Bench::logging_in();
    bench.region.with().rotates = true;
    bench.log_in(password("sesame")).await.expect("logged in");
    let broken = Fault::Broken(rustix::io::Errno::NOSPC.raw_os_error());
    // The lock, the room, the note: the next step is what writes the new token.
    let writing = 5;
    for (steps, fault, lost) in [
        (
            writing,
            Fault::Fails(rustix::io::Errno::IO.raw_os_error()),
            false,
        ),
        (0, broken, true),
    ] {
        let files = Arc::new(Faulty::new());
        files.arm(steps, fault);
        let deps = Deps {
            files: Arc::clone(&files) as _,
            ..bench.deps()
        };
        let mut lines = Vec::new();
        let told = |line: &String| lines.push(line.clone());
        let text = print(bench.settings(), deps, false, told).await;
        assert!(text.is_ok(), "{text:?}");
        let created = files.log().iter().filter(|step| **step == "create").count();
        assert!(created >= 2, "it tried once more: {:?}", files.log());
        let said = lines.iter().any(|line| line.contains("in memory only"));
        assert_eq!(said, lost, "{lines:?}");
        let asked = ask(&bench.settings(), &bench.deps()).await.verdict;
        assert_eq!(asked == Verdict::Refused, lost);
    }
}

#[tokio::test(start_paused = true)]
async fn asking_whether_the_login_is_good_spends_nothing() {
    let mut bench = Bench::logging_in();
    bench.region.with().rotates = true;
    assert_eq!(
        ask(&bench.settings(), &bench.deps()).await.verdict,
        Verdict::Refused
    );
    bench.log_in(password("sesame")).await.expect("logged in");
    let side = bench.start();
    side.until_generation(2).await;
    let calls = bench.region.calls();
    let before = bench.names();
    let asked = ask(&bench.settings(), &bench.deps()).await;
    assert_eq!(
        asked.verdict,
        Verdict::Good,
        "the state's token, not the spent one: {asked:?}"
    );
    assert_eq!((bench.region.calls(), bench.names()), (calls, before));
    bench.region.set(Mood::Down { retry_after: None });
    assert_eq!(
        ask(&bench.settings(), &bench.deps()).await.verdict,
        Verdict::Unreachable
    );
    bench.region.set(Mood::Up);
    bench.region.revoke_all();
    let asked = ask(&bench.settings(), &bench.deps()).await;
    assert_eq!(asked.verdict, Verdict::Refused);
    assert!(asked.lines[0].contains("token_not_valid") && asked.lines[0].contains("regent login"));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_a_sidecar_is_about_to_store_is_waited_for() {
    let mut bench = Bench::logging_in();
    bench.region.with().rotates = true;
    bench.log_in(password("sesame")).await.expect("logged in");
    let side = bench.start();
    side.until_generation(2).await;
    // The region has rotated, and its answer takes another 3 s.
    bench.region.with().latency = std::time::Duration::from_secs(6);
    let committed = bench.region.with().committed;
    while bench.region.with().committed == committed {
        sleep_s(1).await;
    }
    let asked = ask(&bench.settings(), &bench.deps()).await;
    assert_eq!(asked.verdict, Verdict::Good, "{asked:?}");
}
