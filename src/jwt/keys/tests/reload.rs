//! A new config takes over what the one before knows.

use super::*;
use fake::{Mood, one};

fn fixed(body: &str) -> Source {
    Source::Fixed(Arc::new(KeySet::from_jwks(body.as_bytes()).expect("a set")))
}

#[tokio::test(start_paused = true)]
async fn the_same_issuer_keeps_its_keys_and_is_not_asked_again() {
    let clock = clock();
    let (west, east) = (Origin::new("west", &clock), Origin::new("east", &clock));
    west.with().etag = Some("\"one\"".to_owned());
    let old = Plane::start(vec![by_url("west", &west)], &clock);
    old.until_attempts(0, 1).await;
    let before = old.keys(0);
    west.set(Mood::Hangs);
    sleep_s(10).await;
    // Another one comes before it.
    let both = vec![by_discovery("east", &east), by_url("west", &west)];
    let (handle, task) = new(both, deps(&clock, 3), Some(&old.handle));
    let kept = handle.snapshot().issuers[1].clone();
    drop(old);
    let plane = Plane::run(handle, task, &clock);
    assert!(Arc::ptr_eq(
        kept.set.as_ref().expect("kept"),
        before.set.as_ref().expect("there")
    ));
    assert_eq!(kept.stale_at, before.stale_at);
    assert_eq!(kept.attempts, before.attempts);
    assert_eq!(kept.fetch_allowed_at, before.fetch_allowed_at);
    assert_eq!(kept.next_attempt_at, before.next_attempt_at);
    plane.until_attempts(0, 1).await;
    sleep_s(100).await;
    assert_eq!(west.calls().len(), 1);
    // Its numbers go on, and the ETag is known.
    west.set(Mood::Up);
    plane.until_attempts(1, 2).await;
    assert_eq!(west.calls()[1].etag.as_deref(), Some("\"one\""));
    assert!(Arc::ptr_eq(
        &plane.keys(1).set.expect("kept"),
        before.set.as_ref().expect("there")
    ));
    let (name, counters) = plane.handle.counters().nth(1).expect("two");
    assert_eq!((name, counters.fetches_ok.load(Relaxed)), ("west", 2));
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_is_another_now_keeps_nothing() {
    type Change = fn(&mut Settings);
    let changes: [(&str, Change); 5] = [
        ("name", |settings| settings.name = "other".to_owned()),
        ("iss", |settings| {
            settings.issuer = "https://other.example".to_owned()
        }),
        ("address", |settings| {
            settings.source = Source::JwksUrl(url("https://west.example/other"));
        }),
        ("kind", |settings| {
            settings.source = Source::DiscoveryUrl(url("https://west.example/jwks"));
        }),
        ("scheme", |settings| settings.insecure_http = true),
    ];
    for (what, change) in changes {
        let clock = clock();
        let west = Origin::new("west", &clock);
        let old = Plane::start(vec![by_url("west", &west)], &clock);
        old.until_attempts(0, 1).await;
        let mut settings = by_url("west", &west);
        change(&mut settings);
        let (handle, _task) = new(vec![settings], deps(&clock, 3), Some(&old.handle));
        let keys = handle.snapshot().issuers[0].clone();
        assert!(keys.set.is_none(), "{what}");
        assert_eq!(
            (keys.attempts, keys.next_attempt_at),
            (0, clock.boot()),
            "{what}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn keys_in_the_config_stay_the_same_set_while_they_are_the_same() {
    let clock = clock();
    let (body, other) = (one("a"), one("a"));
    let old = Plane::start(vec![settings("west", fixed(&body), None)], &clock);
    let before = old.keys(0).set.expect("fixed");
    for (body, is_kept) in [(&body, true), (&other, false)] {
        let settings = vec![settings("west", fixed(body), None)];
        let plane = Plane::after(settings, &clock, Some(&old.handle));
        let after = plane.keys(0).set.expect("fixed");
        assert_eq!(Arc::ptr_eq(&before, &after), is_kept);
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_broken_at_a_reload_keeps_its_keys() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("keys");
    std::fs::write(&path, one("a")).expect("written");
    let source = || settings("west", Source::JwksFile(path.clone()), None);
    let clock = clock();
    let old = Plane::start(vec![source()], &clock);
    let before = old.keys(0).set.expect("read");
    for (content, trouble) in [(None, false), (Some("broken"), true)] {
        if let Some(content) = content {
            std::fs::write(&path, content).expect("written");
        }
        let plane = Plane::after(vec![source()], &clock, Some(&old.handle));
        let keys = plane.keys(0);
        assert!(Arc::ptr_eq(&keys.set.expect("kept"), &before));
        assert_eq!(keys.trouble.is_some(), trouble);
    }
}

#[tokio::test(start_paused = true)]
async fn other_intervals_hold_from_the_reload_on() {
    let clock = clock();
    let west = Origin::new("west", &clock);
    let old = Plane::start(vec![by_url("west", &west)], &clock);
    old.until_attempts(0, 1).await;
    let good_at = clock.boot();
    let mut settings = by_url("west", &west);
    settings.refresh = Duration::from_secs(20);
    settings.max_stale = Duration::from_secs(60);
    let plane = Plane::after(vec![settings], &clock, Some(&old.handle));
    drop(old);
    let keys = plane.keys(0);
    assert_eq!(keys.stale_at, Some(good_at + Duration::from_secs(60)));
    sleep_s(21).await;
    assert_eq!(plane.keys(0).attempts, 2);
}

#[tokio::test(start_paused = true)]
async fn what_the_plane_before_learned_last_is_not_lost() {
    let clock = clock();
    let west = Origin::new("west", &clock);
    let old = Plane::start(vec![by_url("west", &west)], &clock);
    old.until_attempts(0, 1).await;
    let (handle, task) = new(
        vec![by_url("west", &west)],
        deps(&clock, 3),
        Some(&old.handle),
    );
    // A key is withdrawn while the new plane waits for its turn.
    sleep_s(40).await;
    west.with().keys = one("second");
    old.handle.demand(0);
    old.until_attempts(0, 2).await;
    drop(old);
    let plane = Plane::run(handle, task, &clock);
    sleep_s(1).await;
    assert_eq!(plane.kids(0), ["second"]);
    assert_eq!(plane.keys(0).attempts, 2);
    assert_eq!(west.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_plane_that_is_compiled_and_dropped_changes_nothing() {
    let clock = clock();
    let west = Origin::new("west", &clock);
    let plane = Plane::start(vec![by_url("west", &west)], &clock);
    plane.until_attempts(0, 1).await;
    let before = plane.handle.snapshot();
    drop(new(
        vec![by_url("west", &west)],
        deps(&clock, 3),
        Some(&plane.handle),
    ));
    sleep_s(40).await;
    assert!(Arc::ptr_eq(&plane.handle.snapshot(), &before));
    plane.handle.demand(0);
    plane.until_attempts(0, 2).await;
}
