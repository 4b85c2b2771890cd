//! What is written to the log, and what never is.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use super::fake::Mood;
use super::{Bench, sleep_s};
use crate::config::Credential;
use crate::files::faulty::{Fault, Faulty};
use crate::telemetry::kept::Kept;

#[tokio::test(start_paused = true)]
async fn no_token_or_password_is_logged_in_any_flow() {
    let (log, _guard) = Kept::new();
    let mut bench = Bench::new();
    bench.region.with().rotates = true;
    bench.region.with().lifetime_s = 5;
    bench.write("password", "canary-password");
    bench.credential.email = Some("alice".to_owned());
    bench.credential.password_file = Some(bench.path("password"));
    let password = ("alice".to_owned(), "canary-password".to_owned());
    bench.region.with().passwords.extend([password]);
    let files = Arc::new(Faulty::new());
    let side = bench.start_on(Arc::clone(&files) as _);
    side.until_generation(3).await;
    files.arm(0, Fault::Broken(rustix::io::Errno::NOSPC.raw_os_error()));
    sleep_s(20).await;
    bench.region.set(Mood::Down { retry_after: None });
    sleep_s(20).await;
    files.heal();
    bench.region.set(Mood::LosesAnswers);
    sleep_s(20).await;
    bench.region.set(Mood::Up);
    sleep_s(200).await;
    bench.region.with().passwords.clear();
    bench.region.revoke_all();
    side.until_parked().await;
    bench.write("token", "canary-half");
    sleep_s(400).await;
    let mut said = log.text();
    said.push_str(&format!("{:?} {:?}", side.handle, side.handle.state()));
    assert!(said.lines().count() > 10, "something was logged:\n{said}");
    assert!(!said.contains("canary"), "{said}");
    for token in &bench.region.with().minted {
        for part in token.split('.').skip(1).filter(|part| part.len() > 20) {
            assert!(!said.contains(part));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_that_ends_soon_is_warned_of_once() {
    for (rotates, warned) in [(false, 1), (true, 0)] {
        let (log, _guard) = Kept::new();
        let mut bench = Bench::empty_of_credentials();
        {
            let mut region = bench.region.with();
            region.rotates = rotates;
            region.lifetime_s = 5;
            region.refresh_lifetime_s = 3_600;
        }
        bench.write("token", &bench.region.issue("alice"));
        bench.credential.refresh_token_file = Some(bench.path("token"));
        bench.start().until_generation(10).await;
        assert_eq!(
            log.lines_with("the refresh token ends soon"),
            warned,
            "{}",
            log.text()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_lasting_trouble_is_said_once() {
    let (log, _guard) = Kept::new();
    let mut bench = Bench::new();
    bench.region.with().rotates = true;
    bench.region.with().lifetime_s = 5;
    bench.credential.state = Some(crate::config::StateAt::Memory);
    let side = bench.start();
    side.until_generation(10).await;
    assert_eq!(log.lines_with("no lasting place"), 1);
    std::fs::remove_file(bench.path("token")).expect("removed");
    sleep_s(30).await;
    assert_eq!(log.lines_with("stays in use"), 1, "{}", log.text());
    bench.region.revoke_all();
    side.until_parked().await;
    sleep_s(1_000).await;
    assert_eq!(log.lines_with("no login works"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_in_the_environment_is_taken_with_a_warning() {
    let (log, _guard) = Kept::new();
    let mut bench = Bench::empty_of_credentials();
    let token = bench.region.issue("alice");
    bench.credential.refresh_token_env =
        Some(("PRT_TOKEN".to_owned(), Some(token.as_str().into())));
    bench.start().until_generation(1).await;
    assert_eq!(log.lines_with("a file is the better place"), 1);
}

#[tokio::test(start_paused = true)]
async fn each_credential_file_that_others_can_get_at_is_warned_of_once() {
    for (file, folder, gotten_at, replaced) in [
        (0o600, 0o700, 0, 0),
        (0o640, 0o700, 1, 0),
        (0o644, 0o700, 1, 0),
        (0o666, 0o700, 1, 0),
        (0o600, 0o777, 0, 1),
        (0o644, 0o777, 1, 1),
    ] {
        let (log, _guard) = Kept::new();
        let mut bench = Bench::new();
        // In a tmpfs, which a mounted Secret is, others may read.
        let builder = tempfile::Builder::new();
        bench.folder = builder.tempdir_in(".").expect("a folder");
        bench.write("token", &bench.region.issue("alice"));
        bench.write("password", "wonderland");
        bench.credential = Credential {
            refresh_token_file: Some(bench.path("token")),
            email: Some("alice".to_owned()),
            password_file: Some(bench.path("password")),
            ..Credential::default()
        };
        let set = |path, mode| {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(path, permissions).expect("set");
        };
        set(bench.path("token"), file);
        set(bench.path("password"), file);
        set(bench.folder.path().to_owned(), folder);
        let side = bench.start();
        side.until_generation(1).await;
        sleep_s(30).await;
        for (way, times) in [("get at", gotten_at), ("replace", replaced)] {
            for name in ["refresh_token_file", "password_file"] {
                let line = format!("others on this machine can {way} {name}");
                assert_eq!(log.lines_with(&line), times, "{file:o} {folder:o}: {line}");
            }
        }
        assert_eq!(log.lines_with("others on"), 2 * (gotten_at + replaced));
    }
}

impl Bench {
    fn empty_of_credentials() -> Bench {
        let mut bench = Bench::new();
        bench.credential = Credential::default();
        bench
    }
}
