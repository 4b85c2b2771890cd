//! Which rung is taken, and which is not.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::fake::Mood;
use super::{Bench, REGION, sleep_s};
use crate::cli::token::print;
use crate::config::Credential;
use crate::files::OsFiles;
use crate::secret::Secret;
use crate::token::Settings;
use crate::token::ask::{Verdict, ask};
use crate::token::login_file::Stored;
use crate::token::source::{Ladder, Rung, stored_region_url};
use crate::token::{Now, Phase};

impl Bench {
    fn empty() -> Bench {
        let mut bench = Bench::new();
        bench.credential = Credential::default();
        bench
    }

    fn store_login(&self, name: &str, region: &str, token: &str) {
        let stored = Stored {
            region: region.parse().expect("a URL"),
            email: None,
            user: None,
            refresh_token: Secret::from(token),
        };
        std::fs::write(self.path(name), &stored.content()[..]).expect("written");
    }

    fn store_core_conf(&self, region: &str, token: &str) {
        self.write(
            "core.conf",
            &format!(
                "[k8s]\ndefault_region_key = alice@region.example\n\n[k8s_config_0]\n\
                 host_url = {region}\nemail = alice@example.com\nusername = alice\n\
                 refresh_token = {token}\ncluster_name =\nregion_name =\n"
            ),
        );
    }

    fn user(&self, side: &super::Side) -> String {
        side.handle
            .state()
            .token
            .as_ref()
            .expect("a token")
            .user
            .clone()
    }
}

#[tokio::test(start_paused = true)]
async fn rungs_are_tried_in_the_order_of_the_contract() {
    let mut bench = Bench::empty();
    bench.credential = Credential {
        refresh_token_file: Some(bench.path("file")),
        refresh_token_env: Some((
            "PRT_TOKEN".to_owned(),
            Some(bench.region.issue("env").as_str().into()),
        )),
        login_file: Some(bench.path("login.json")),
        core_conf: Some(bench.path("core.conf")),
        access_token_file: Some(bench.path("access")),
        email: Some("password".to_owned()),
        password_file: Some(bench.path("password")),
        allow_identity_change: true,
        ..Credential::default()
    };
    bench.write("file", &bench.region.issue("file"));
    bench.store_login("login.json", REGION, &bench.region.issue("login"));
    bench.store_core_conf(REGION, &bench.region.issue("core"));
    bench.write("access", &bench.region.access("access", 300));
    bench.write("password", "open sesame\n");
    bench
        .region
        .with()
        .passwords
        .insert("password".to_owned(), "open sesame".to_owned());
    let ladder = Ladder::new(
        &bench.credential,
        Some(&REGION.parse().expect("a URL")),
        std::sync::Arc::new(OsFiles),
    );
    let rungs: Vec<_> = ladder.sources.iter().map(|source| source.rung).collect();
    assert_eq!(
        rungs,
        [
            Rung::RefreshTokenFile,
            Rung::RefreshTokenEnv,
            Rung::LoginFile,
            Rung::CoreConf,
            Rung::AccessTokenFile,
            Rung::Password
        ]
    );
    // One after the other dies, and the next takes over.
    let side = bench.start();
    let mut generation = 1;
    for user in ["file", "env", "login", "core", "access"] {
        side.until_generation(generation).await;
        assert_eq!(bench.user(&side), user);
        bench.region.with().live.retain(|_, whose| whose != user);
        if user != "access" {
            side.handle.force(generation);
        }
        generation += 1;
        sleep_s(31).await;
    }
    // The access token's time is up: the last rung.
    side.until_generation(generation).await;
    assert_eq!(bench.user(&side), "password");
    assert_eq!(bench.region.with().logins, 1);
    let state = side.handle.state();
    assert!(
        format!("{:?}", state.degraded).contains("refresh_token_file"),
        "standing in for a refused rung is said: {state:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_variable_holds_a_refresh_or_an_access_token() {
    let mut bench = Bench::empty();
    let refresh = bench.region.issue("alice");
    bench.credential.refresh_token_env = Some((
        "PRT_TOKEN".to_owned(),
        Some(format!(" {refresh}\n").as_str().into()),
    ));
    let side = bench.start();
    side.until_generation(3).await;
    side.stop().await;

    let access = bench.region.access("alice", 60);
    let calls = bench.region.calls();
    bench.credential.refresh_token_env =
        Some(("PRT_TOKEN".to_owned(), Some(access.as_str().into())));
    let side = bench.start();
    side.until_generation(1).await;
    sleep_s(58).await;
    assert!(side.is_ready());
    sleep_s(2).await;
    assert!(matches!(side.now(), Now::Refused), "nobody refreshes it");
    assert!(
        side.until_parked()
            .await
            .contains("restart with a new token")
    );
    assert_eq!(bench.region.calls(), calls, "the region is not asked");
}

#[tokio::test(start_paused = true)]
async fn an_access_token_file_is_read_again_when_its_owner_refreshes_it() {
    let mut bench = Bench::empty();
    bench.credential.access_token_file = Some(bench.path("access"));
    bench.write("access", &bench.region.access("alice", 60));
    let side = bench.start();
    for generation in 1..=10 {
        side.until_generation(generation).await;
        sleep_s(40).await;
        assert!(side.is_ready());
        bench.write("access", &bench.region.access("alice", 60));
        sleep_s(4).await;
    }
    // Its owner is late: a passing fault, answered at once.
    sleep_s(61).await;
    for _ in 0..100 {
        assert!(matches!(side.now(), Now::Unavailable(_) | Now::Wait));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let why = format!("{:?}", side.handle.state().phase);
    assert!(why.contains("access_token_file"), "{why}");
    bench.write("access", &bench.region.access("alice", 60));
    sleep_s(4).await;
    assert!(side.is_ready());
    assert_eq!(bench.region.calls(), 0);
    // A 401 cannot force what only its owner can do; the waiter is not left waiting.
    let before = side.handle.state();
    side.handle
        .force(before.token.as_ref().expect("there").generation);
    side.until("an end", |state| state.attempts > before.attempts)
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_token_in_the_wrong_place_is_refused_with_the_right_one_named() {
    let mut bench = Bench::empty();
    bench.credential.refresh_token_file = Some(bench.path("a"));
    bench.credential.access_token_file = Some(bench.path("b"));
    bench.write("a", &bench.region.access("alice", 60));
    bench.write("b", &bench.region.issue("alice"));
    let side = bench.start();
    let why = side.until_parked().await;
    assert!(why.contains("name it in `access_token_file`"), "{why}");
    assert!(why.contains("name it in `refresh_token_file`"), "{why}");
    assert_eq!(bench.region.calls(), 0);
}

/// The cause and the next step, on every surface: none of it was the region's doing.
#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_file_is_told_with_its_name_and_what_to_do() {
    type Set = fn(&mut Credential, std::path::PathBuf);
    let rungs: [(Set, [&str; 2]); 3] = [
        (
            |credential, path| credential.refresh_token_file = Some(path),
            ["refresh_token_file", "put a refresh token there"],
        ),
        (
            |credential, path| credential.access_token_file = Some(path),
            ["access_token_file", "whoever should write an access token"],
        ),
        (
            |credential, path| {
                credential.email = Some("alice@example.com".to_owned());
                credential.password_file = Some(path);
            },
            ["password_file", "put the password there"],
        ),
    ];
    for (set, [key, step]) in rungs {
        for (content, cause) in [
            (None, "there is no such file"),
            (Some(&b""[..]), "it is empty"),
            (Some(b"\xff"), "it is not UTF-8 text"),
            (Some(b"rubbish"), "it holds no whole token"),
        ] {
            if (key, content) == ("password_file", Some(b"rubbish")) {
                continue;
            }
            let mut bench = Bench::empty();
            let path = bench.path("it");
            set(&mut bench.credential, path.clone());
            if let Some(content) = content {
                std::fs::write(&path, content).expect("written");
            }
            let why = bench.start().until_parked().await;
            let begin = format!("{key} \"{}\": {cause}", path.display());
            assert!(why.starts_with(&begin), "{begin}: {why}");
            let or = why.ends_with(", or correct the path");
            assert!(why.contains(step) && or == content.is_none(), "{why}");
            assert_eq!(bench.region.calls(), 0);
            let asked = ask(&bench.settings(), &bench.deps()).await;
            assert_eq!(asked.lines.join("\n"), why, "check says the same");
            let mut said = Vec::new();
            let failure = print(bench.settings(), bench.deps(), false, |line| {
                said.push(line.clone());
            })
            .await
            .expect_err("nothing to log in with");
            assert_eq!((failure.what, said), (why, Vec::new()), "once");
        }
    }
    let mut bench = Bench::empty();
    bench.credential.refresh_token_file = Some(bench.path("folder"));
    std::fs::create_dir(bench.path("folder")).expect("made");
    let why = bench.start().until_parked().await;
    let end = "folder\": it cannot be read: it is not a regular file; name another file";
    assert!(why.ends_with(end), "{why}");
}

#[tokio::test(start_paused = true)]
async fn an_access_token_file_alone_needs_no_region_and_asks_none() {
    let mut bench = Bench::empty();
    bench.credential.access_token_file = Some(bench.path("access"));
    bench.write("access", &bench.region.access("alice", 60));
    bench.region.set(Mood::Down { retry_after: None });
    let nowhere = || Settings {
        region: None,
        ..bench.settings()
    };
    for settings in [nowhere(), bench.settings()] {
        let asked = ask(&settings, &bench.deps()).await;
        assert_eq!(asked.verdict, Verdict::Good, "{asked:?}");
        let end = "; the token expires at Thu, 09 Oct 2025 08:54:20 GMT";
        assert!(asked.lines[0].ends_with(end), "{asked:?}");
    }
    let text = print(nowhere(), bench.deps(), false, |_| {}).await;
    assert!(text.is_ok(), "{text:?}");
    sleep_s(60).await;
    let asked = ask(&nowhere(), &bench.deps()).await;
    assert_eq!(asked.verdict, Verdict::Refused);
    assert!(asked.lines[0].contains("is over; see why"), "{asked:?}");
    assert_eq!(bench.region.with().verifies, 0);
    // Beside another rung it is asked about as before.
    bench.write("access", &bench.region.access("alice", 60));
    bench.credential.refresh_token_file = Some(bench.path("none"));
    ask(&bench.settings(), &bench.deps()).await;
    assert_eq!(bench.region.with().verifies, 1);
}

#[tokio::test(start_paused = true)]
async fn a_login_to_another_region_is_never_sent_to_this_one() {
    let mut bench = Bench::empty();
    bench.credential.login_file = Some(bench.path("login.json"));
    bench.credential.core_conf = Some(bench.path("core.conf"));
    bench.store_login(
        "login.json",
        "https://other.example",
        &bench.region.issue("alice"),
    );
    bench.store_core_conf("https://other.example", &bench.region.issue("alice"));
    let side = bench.start();
    let why = side.until_parked().await;
    assert!(
        why.contains("https://other.example") && why.contains("regent login"),
        "{why}"
    );
    assert_eq!(bench.region.calls(), 0);
    // The same with another spelling of this region's URL is this region.
    bench.store_login(
        "login.json",
        "https://REGION.example:443/",
        &bench.region.issue("alice"),
    );
    sleep_s(4).await;
    assert!(side.is_ready());
}

#[tokio::test(start_paused = true)]
async fn another_user_is_refused_unless_allowed() {
    for allowed in [false, true] {
        let mut bench = Bench::new();
        bench.credential.allow_identity_change = allowed;
        let side = bench.start();
        side.until_generation(1).await;
        let calls = bench.region.calls();
        bench.write("token", &bench.region.issue("mallory"));
        sleep_s(10).await;
        if allowed {
            assert_eq!(bench.user(&side), "mallory");
            continue;
        }
        assert_eq!(bench.user(&side), "alice");
        assert_eq!(bench.region.calls(), calls, "not even asked");
        let why = side.until_parked().await;
        assert!(
            why.contains("mallory-id") && why.contains("alice-id"),
            "{why}"
        );
        bench.write("token", &bench.region.issue("alice"));
        sleep_s(4).await;
        assert_eq!(side.handle.state().phase, Phase::Working);
    }
}

#[tokio::test(start_paused = true)]
async fn using_the_sdks_token_where_the_region_rotates_is_said_with_the_remedy() {
    let mut bench = Bench::empty();
    bench.region.with().rotates = true;
    bench.credential.core_conf = Some(bench.path("core.conf"));
    bench.credential.state_home = Some(bench.path("home"));
    bench.store_core_conf(REGION, &bench.region.issue("alice"));
    let before = std::fs::read(bench.path("core.conf")).expect("there");
    let side = bench.start();
    let state = side.until_generation(3).await;
    assert!(
        format!("{:?}", state.degraded).contains("run `regent login`"),
        "{state:?}"
    );
    assert_eq!(
        std::fs::read(bench.path("core.conf")).expect("there"),
        before,
        "read only"
    );
    side.stop().await;
    bench.start().until_generation(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_login_file_rotates_beside_itself() {
    let mut bench = Bench::empty();
    bench.region.with().rotates = true;
    bench.credential.login_file = Some(bench.path("login.json"));
    bench.store_login("login.json", REGION, &bench.region.issue("alice"));
    let side = bench.start();
    side.until_generation(3).await;
    side.stop().await;
    assert!(bench.path("login.json.state").exists());
    // A new login wins over what the old one had grown into.
    bench.region.revoke_all();
    bench.store_login("login.json", REGION, &bench.region.issue("alice"));
    bench.start().until_generation(2).await;
}

#[tokio::test(start_paused = true)]
async fn a_password_logs_in_again_when_its_refresh_token_is_over() {
    let mut bench = Bench::empty();
    bench.region.with().rotates = true;
    bench
        .region
        .with()
        .passwords
        .insert("alice".to_owned(), "sesame".to_owned());
    bench.credential.email = Some("alice".to_owned());
    bench.credential.password_file = Some(bench.path("password"));
    bench.write("password", "sesame\n");
    let side = bench.start();
    side.until_generation(3).await;
    assert_eq!(bench.region.with().logins, 1, "between logins it refreshes");
    bench.region.revoke_all();
    side.until_generation(4).await;
    assert_eq!(bench.region.with().logins, 2);
    assert_eq!(side.handle.counters().refresh_refused.load(Relaxed), 0);
    assert_eq!(
        bench.names(),
        ["password", "token"],
        "nothing of it is stored"
    );
    // A changed password parks, and the new one in the file wakes it.
    bench
        .region
        .with()
        .passwords
        .insert("alice".to_owned(), "other".to_owned());
    bench.region.revoke_all();
    let why = side.until_parked().await;
    assert!(why.contains("no_active_account"), "{why}");
    bench.write("password", "other");
    sleep_s(4).await;
    assert_eq!(side.handle.state().phase, Phase::Working);
}

#[tokio::test(start_paused = true)]
async fn no_credential_at_all_parks_and_wakes_when_one_appears() {
    let mut bench = Bench::empty();
    bench.credential.login_file = Some(bench.path("deep/login.json"));
    let side = bench.start();
    let why = side.until_parked().await;
    assert!(
        why.contains("there is no such file") && why.contains("regent login"),
        "{why}"
    );
    std::fs::create_dir(bench.path("deep")).expect("made");
    bench.store_login("deep/login.json", REGION, &bench.region.issue("alice"));
    sleep_s(4).await;
    assert!(side.is_ready());
    // Nor is there one where nothing is configured.
    bench.credential = Credential::default();
    assert!(bench.start().until_parked().await.contains("regent login"));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_no_token_is_never_quoted() {
    let mut bench = Bench::empty();
    bench.credential.refresh_token_file = Some(bench.path("file"));
    for content in [
        &b"canary-canary"[..],
        b"canary.canary.canary",
        b"\xffcanary",
        &[b'c'; 100_000],
    ] {
        std::fs::write(bench.path("file"), content).expect("written");
        let side = bench.start();
        let why = side.until_parked().await;
        assert!(!why.contains("canary"), "{why}");
        assert_eq!(bench.region.calls(), 0);
    }
}

#[test]
fn the_region_comes_from_the_login_then_from_core_conf() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut credential = Credential {
        login_file: Some(folder.path().join("login.json")),
        core_conf: Some(folder.path().join("core.conf")),
        ..Credential::default()
    };
    assert_eq!(stored_region_url(&credential, &OsFiles), None);
    std::fs::write(
        folder.path().join("core.conf"),
        "[k8s]\ndefault_region_key = a@b.example\n[k8s_config_0]\nhost_url = https://b.example\n\
         email = a@b.c\nusername = a\nrefresh_token = x.y.z\n",
    )
    .expect("written");
    let found = stored_region_url(&credential, &OsFiles).expect("one");
    assert_eq!(found.host_str(), Some("b.example"));
    let stored = Stored {
        region: REGION.parse().expect("a URL"),
        email: None,
        user: None,
        refresh_token: Secret::from("x"),
    };
    std::fs::write(folder.path().join("login.json"), &stored.content()[..]).expect("written");
    let found = stored_region_url(&credential, &OsFiles).expect("one");
    assert_eq!(found.host_str(), Some("region.example"));
    credential.login_file = None;
    assert!(stored_region_url(&credential, &OsFiles).is_some());
}
