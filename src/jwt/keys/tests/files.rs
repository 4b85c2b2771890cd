//! Keys in files that change under our feet.

use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;
use crate::telemetry::kept::Kept;
use fake::one;

fn jwks_file(path: &Path) -> Settings {
    settings("west", Source::JwksFile(path.to_owned()), None)
}

fn pem_file(path: &Path) -> Settings {
    settings("west", Source::PemFile(path.to_owned()), None)
}

/// A public and a private key in PEM.
fn pem() -> (String, String) {
    let pair = rcgen::KeyPair::generate().expect("a key");
    (pair.public_key_pem(), pair.serialize_pem())
}

fn set(plane: &Plane) -> Arc<KeySet> {
    plane.keys(0).set.expect("there are keys")
}

#[tokio::test(start_paused = true)]
async fn keys_in_files_and_in_the_config_are_there_from_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("keys");
    std::fs::write(&path, one("a")).expect("written");
    let fixed = Arc::new(KeySet::from_jwks(one("b").as_bytes()).expect("a set"));
    let clock = clock();
    let both = vec![
        jwks_file(&path),
        settings("east", Source::Fixed(Arc::clone(&fixed)), None),
    ];
    let (handle, task) = new(both, deps(&clock, 1), None);
    let snapshot = handle.snapshot();
    assert_eq!(kids(&snapshot.issuers[0], clock.boot()), ["a"]);
    assert!(Arc::ptr_eq(
        snapshot.issuers[1].usable(clock.boot()).expect("fixed"),
        &fixed
    ));
    for keys in &snapshot.issuers {
        assert_eq!(keys.stale_at, None);
        assert_eq!(keys.fetch_allowed_at, None, "no fetch would help");
        assert_eq!(keys.trouble, None);
    }
    let counts: Vec<_> = handle
        .counters()
        .map(|(_, counters)| counters.keys.load(Relaxed))
        .collect();
    assert_eq!(counts, [1, 1]);
    // Nothing that readers see changes while nothing happens.
    let plane = Plane::run(handle, task, &clock);
    let mut watch = plane.handle.watch();
    watch.mark_unchanged();
    plane.handle.demand(0);
    plane.handle.demand(1);
    plane.handle.demand(7);
    sleep_s(1000).await;
    assert!(!watch.has_changed().expect("the plane runs"));
    let ages: Vec<_> = plane
        .handle
        .counters()
        .map(|(_, counters)| counters.age(clock.boot()).map(|age| age.as_secs() <= 5))
        .collect();
    assert_eq!(ages, [Some(true), None]);
}

#[tokio::test(start_paused = true)]
async fn a_mounted_secret_that_is_swapped_by_its_links_is_picked_up_within_five_seconds() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    for (name, kid) in [("v1", "a"), ("v2", "b")] {
        std::fs::create_dir(path(name)).expect("made");
        std::fs::write(path(name).join("keys"), one(kid)).expect("written");
    }
    symlink("v1", path("..data")).expect("linked");
    symlink("..data/keys", path("keys")).expect("linked");
    let clock = clock();
    let plane = Plane::start(vec![jwks_file(&path("keys"))], &clock);
    sleep_s(60).await;
    assert_eq!(plane.kids(0), ["a"]);
    symlink("v2", path("..data_tmp")).expect("linked");
    std::fs::rename(path("..data_tmp"), path("..data")).expect("renamed");
    sleep_s(5).await;
    assert_eq!(plane.kids(0), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_pem_file_that_is_replaced_is_picked_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key.pem");
    std::fs::write(&path, pem().0).expect("written");
    let clock = clock();
    let plane = Plane::start(vec![pem_file(&path)], &clock);
    let first = set(&plane);
    // Written again with the same content: the same set.
    let same = std::fs::read(&path).expect("read");
    std::fs::write(folder.path().join("new"), same).expect("written");
    std::fs::rename(folder.path().join("new"), &path).expect("renamed");
    sleep_s(5).await;
    assert!(Arc::ptr_eq(&set(&plane), &first));
    std::fs::write(folder.path().join("new"), pem().0).expect("written");
    std::fs::rename(folder.path().join("new"), &path).expect("renamed");
    sleep_s(5).await;
    assert_ne!(set(&plane).digest(), first.digest());
}

#[tokio::test(start_paused = true)]
async fn a_broken_file_keeps_the_last_good_keys_and_is_said_once() {
    let (public, private) = pem();
    let truncated = &public[..public.len() / 2];
    let whole = one("second");
    let jwks = |body: &str| (false, Some(body.to_owned()));
    let pems = |body: &str| (true, Some(body.to_owned()));
    for ((is_pem, content), expected) in [
        (jwks(&whole[..whole.len() / 2]), ""),
        (jwks(""), "it is empty"),
        (jwks(" \n"), "it is empty"),
        (jwks("garbage"), ""),
        (jwks("{}"), ""),
        (jwks(r#"{"keys":[]}"#), ""),
        (
            jwks(&format!("{whole}{}", " ".repeat(BODY_LIMIT))),
            "too large",
        ),
        ((false, None), "it is not there"),
        (pems(truncated), ""),
        (pems(""), "it is empty"),
        (pems("garbage"), ""),
        (pems(&private), "private"),
        (pems(&format!("{public}{private}")), "private"),
        ((true, None), "it is not there"),
    ] {
        let (log, _guard) = Kept::new();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys");
        let good = if is_pem { public.clone() } else { one("first") };
        std::fs::write(&path, &good).expect("written");
        let clock = clock();
        let mut source = if is_pem {
            pem_file(&path)
        } else {
            jwks_file(&path)
        };
        source.max_stale = Duration::from_secs(60);
        let plane = Plane::start(vec![source], &clock);
        sleep_s(4).await;
        let first = set(&plane);
        match &content {
            Some(content) => std::fs::write(&path, content).expect("written"),
            None => std::fs::remove_file(&path).expect("removed"),
        }
        sleep_s(5).await;
        let why = plane.keys(0).trouble.expect("said");
        assert!(why.contains(expected), "{content:?}: {why}");
        assert!(why.contains(&path.display().to_string()), "{why}");
        // Beyond the limit of keys over the network.
        sleep_s(900).await;
        assert!(Arc::ptr_eq(&set(&plane), &first));
        assert!(plane.keys(0).usable(clock.boot()).is_some());
        let (_, counters) = plane.handle.counters().next().expect("one");
        let age = counters.age(clock.boot()).expect("it was read");
        assert!(age > Duration::from_secs(900), "the age tells");
        let said = log.text();
        assert_eq!(log.lines_with("stays in use"), 1, "{said}");
        for secret in private.lines().filter(|line| !line.starts_with('-')) {
            assert!(!said.contains(secret) && !why.contains(secret));
        }
        std::fs::write(&path, &good).expect("written");
        sleep_s(5).await;
        assert_eq!(plane.keys(0).trouble, None);
        assert!(Arc::ptr_eq(&set(&plane), &first));
        assert_eq!(log.lines_with("can be read again"), 1, "{}", log.text());
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_not_there_at_the_start_is_awaited() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("keys");
    let clock = clock();
    let plane = Plane::start(vec![jwks_file(&path)], &clock);
    let keys = plane.keys(0);
    assert!(keys.set.is_none());
    assert!(keys.trouble.expect("why").contains("it is not there"));
    sleep_s(60).await;
    std::fs::write(&path, one("late")).expect("written");
    sleep_s(5).await;
    assert_eq!(plane.kids(0), ["late"]);
    assert_eq!(plane.keys(0).trouble, None);
}
