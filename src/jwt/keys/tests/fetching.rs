//! An issuer that works: refreshes, ETags, caching, rotation.

use super::*;
use crate::jwt::algorithm::Algorithm;
use fake::{Pair, jwks};

#[tokio::test(start_paused = true)]
async fn the_first_fetch_is_at_once() {
    let clock = clock();
    let origin = Origin::new("west", &clock);
    let plane = Plane::start(vec![by_url("west", &origin)], &clock);
    let cold = plane.keys(0);
    assert!(cold.set.is_none() && cold.trouble.is_some());
    assert_eq!(cold.fetch_allowed_at, Some(clock.boot()));
    let began = clock.boot();
    let warm = plane.until_attempts(0, 1).await;
    assert_eq!(clock.boot().since(began), Duration::from_millis(20));
    assert_eq!(plane.kids(0), ["first"]);
    assert_eq!((warm.attempts, &warm.trouble), (1, &None));
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(warm.stale_at, Some(clock.boot() + day));
    let due = warm.next_attempt_at.since(began).as_secs();
    assert!((150..=300).contains(&due), "{due}");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_brings_the_same_keys_keeps_the_set() {
    let clock = clock();
    let origin = Origin::new("west", &clock);
    let plane = Plane::start(vec![by_url("west", &origin)], &clock);
    let first = plane.until_attempts(0, 1).await;
    let later = plane.until_attempts(0, 4).await;
    let (first_set, later_set) = (first.set.expect("there"), later.set.expect("there"));
    assert!(Arc::ptr_eq(&first_set, &later_set));
    assert!(later.stale_at > first.stale_at);
    // Written in another way, it is the same key.
    let spaced = origin.with().keys.replace(':', " : ");
    origin.with().keys = spaced;
    let spaced = plane.until_attempts(0, 5).await;
    assert!(Arc::ptr_eq(&spaced.set.expect("there"), &later_set));
    origin.with().keys = fake::one("first");
    let other = plane.until_attempts(0, 6).await;
    assert!(!Arc::ptr_eq(&other.set.expect("there"), &later_set));
}

#[tokio::test(start_paused = true)]
async fn an_etag_is_sent_back_and_a_304_counts_as_a_good_fetch() {
    let clock = clock();
    let origin = Origin::new("west", &clock);
    origin.with().etag = Some("\"one\"".to_owned());
    let plane = Plane::start(vec![by_url("west", &origin)], &clock);
    let first = plane.until_attempts(0, 1).await;
    let second = plane.until_attempts(0, 2).await;
    assert!(Arc::ptr_eq(
        first.set.as_ref().expect("there"),
        second.set.as_ref().expect("there")
    ));
    assert!(second.stale_at > first.stale_at && second.trouble.is_none());
    {
        let mut with = origin.with();
        with.etag = Some("\"two\"".to_owned());
        with.keys = fake::one("second");
    }
    plane.until_attempts(0, 3).await;
    assert_eq!(plane.kids(0), ["second"]);
    plane.until_attempts(0, 4).await;
    let sent: Vec<_> = origin.calls().into_iter().map(|call| call.etag).collect();
    let tag = |text: &str| Some(format!("\"{text}\""));
    assert_eq!(sent, [None, tag("one"), tag("one"), tag("two")]);
    let (_, counters) = plane.handle.counters().next().expect("one");
    assert_eq!(counters.fetches_ok.load(Relaxed), 4);
}

#[tokio::test(start_paused = true)]
async fn a_304_that_was_not_asked_for_is_an_error_and_wipes_nothing() {
    let clock = clock();
    let origin = Origin::new("west", &clock);
    origin.says(304, &[], "");
    let plane = Plane::start(vec![by_url("west", &origin)], &clock);
    let keys = plane.until_attempts(0, 1).await;
    let why = keys.trouble.expect("an error");
    assert!(keys.set.is_none() && why.contains("304"), "{why}");

    origin.set(fake::Mood::Up);
    sleep_s(5).await;
    assert_eq!(plane.kids(0), ["first"]);
    // The issuer gave no ETag, so nothing was asked that a 304 answers.
    origin.says(304, &[], "");
    sleep_s(300).await;
    assert!(plane.keys(0).trouble.is_some());
    assert_eq!(plane.kids(0), ["first"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_used_does_not_change_the_etag_of_the_keys_in_use() {
    let clock = clock();
    let origin = Origin::new("west", &clock);
    origin.with().etag = Some("\"one\"".to_owned());
    let plane = Plane::start(vec![by_url("west", &origin)], &clock);
    plane.until_attempts(0, 1).await;
    origin.says(200, &[("etag", "\"bad\"")], "{}");
    plane.until_attempts(0, 2).await;
    origin.set(fake::Mood::Up);
    let keys = plane.until_attempts(0, 3).await;
    assert_eq!(origin.calls()[2].etag.as_deref(), Some("\"one\""));
    assert_eq!(keys.trouble, None);
    assert_eq!(plane.kids(0), ["first"]);
}

#[tokio::test(start_paused = true)]
async fn cache_control_moves_the_next_fetch_within_bounds() {
    // The header; the least and the most between two fetches.
    for (value, least, most) in [
        ("max-age=0", 30.0, 30.1),
        ("no-store", 30.0, 30.1),
        ("max-age=-5", 30.0, 30.1),
        ("max-age=100", 50.0, 100.1),
        ("max-age=1000000000", 150.0, 300.1),
        ("public", 150.0, 300.1),
    ] {
        let clock = clock();
        let origin = Origin::new("west", &clock);
        origin.with().headers = vec![("cache-control", value.to_owned())];
        let plane = Plane::start(vec![by_url("west", &origin)], &clock);
        plane.until_attempts(0, 20).await;
        let calls = origin.calls();
        let gaps: Vec<f64> = calls
            .windows(2)
            .map(|pair| pair[1].at.since(pair[0].at).as_secs_f64())
            .collect();
        assert!(
            gaps.iter().all(|gap| (least..=most).contains(gap)),
            "{value}: {gaps:?}"
        );
        let spread = gaps.iter().copied().fold(0.0, f64::max)
            - gaps.iter().copied().fold(f64::MAX, f64::min);
        assert!(spread >= (most - least) / 2.0 - 0.1, "{value}: {gaps:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_304_without_a_word_on_caching_leaves_the_last_one_standing() {
    let clock = clock();
    let origin = Origin::new("west", &clock);
    {
        let mut with = origin.with();
        with.etag = Some("\"one\"".to_owned());
        with.headers = vec![("cache-control", "max-age=0".to_owned())];
    }
    let plane = Plane::start(vec![by_url("west", &origin)], &clock);
    plane.until_attempts(0, 1).await;
    origin.with().headers.clear();
    plane.until_attempts(0, 3).await;
    let calls = origin.calls();
    assert_eq!(calls[2].at.since(calls[1].at).as_secs(), 30);
}

/// Whether a signature is one of a key that is good now.
fn accepts(plane: &Plane, pair: &Pair) -> bool {
    let message = b"a message";
    let signature = pair.sign(message);
    let keys = plane.keys(0);
    let set = keys.usable(plane.clock.boot()).expect("keys");
    let mut candidates = set.keys().iter();
    let kid = Some(pair.kid.as_str());
    candidates
        .any(|key| key.kid.as_deref() == kid && key.verify(Algorithm::Es256, message, &signature))
}

#[tokio::test(start_paused = true)]
async fn a_rotation_with_overlap_refuses_no_key_and_a_withdrawn_one_is_gone_within_a_refresh() {
    let clock = clock();
    let origin = Origin::new("west", &clock);
    let mut old = Pair::new("0");
    origin.with().keys = jwks(&[&old]);
    let plane = Plane::start(vec![by_url("west", &origin)], &clock);
    plane.until_attempts(0, 1).await;
    let refresh = 301;
    for round in 1..=20 {
        let new = Pair::new(&round.to_string());
        origin.with().keys = jwks(&[&old, &new]);
        for _ in 0..refresh {
            assert!(accepts(&plane, &old), "round {round}");
            sleep_s(1).await;
        }
        assert!(accepts(&plane, &new) && accepts(&plane, &old));
        origin.with().keys = jwks(&[&new]);
        for _ in 0..refresh {
            assert!(accepts(&plane, &new), "round {round}");
            sleep_s(1).await;
        }
        assert!(!accepts(&plane, &old), "round {round}");
        assert_eq!(plane.kids(0), [new.kid.as_str()]);
        old = new;
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_issuer_harms_no_other() {
    let clock = clock();
    let (west, east) = (Origin::new("west", &clock), Origin::new("east", &clock));
    west.set(fake::Mood::Hangs);
    let both = vec![by_url("west", &west), by_url("east", &east)];
    let plane = Plane::start(both, &clock);
    let began = clock.boot();
    plane.until_attempts(1, 1).await;
    assert_eq!(clock.boot().since(began), Duration::from_millis(20));
    sleep_s(40).await;
    east.with().keys = fake::one("second");
    let began = clock.boot();
    plane.handle.demand(1);
    plane.until_attempts(1, 2).await;
    assert_eq!(clock.boot().since(began), Duration::from_millis(20));
    assert_eq!(plane.kids(1), ["second"]);
    assert!(plane.keys(0).set.is_none());
}

#[tokio::test(start_paused = true)]
async fn after_a_laptops_sleep_the_keys_are_fetched_again_within_seconds() {
    let clock = clock();
    let origin = Origin::new("west", &clock);
    let plane = Plane::start(vec![by_url("west", &origin)], &clock);
    plane.until_attempts(0, 1).await;
    clock.suspend(Duration::from_secs(3600));
    sleep_s(4).await;
    assert_eq!(plane.keys(0).attempts, 2);
}

#[tokio::test(start_paused = true)]
async fn one_look_fetches_every_issuer_once_and_says_what_failed() {
    let clock = clock();
    let (west, east) = (Origin::new("west", &clock), Origin::new("east", &clock));
    west.says(404, &[], "");
    let both = vec![by_url("west", &west), by_discovery("east", &east)];
    let began = clock.boot();
    let snapshot = fetch_once(both, deps(&clock, 1)).await;
    assert_eq!(clock.boot().since(began), Duration::from_millis(40));
    let why = snapshot.issuers[0].trouble.as_deref().expect("failed");
    assert!(
        why.contains("https://west.example/jwks answered 404"),
        "{why}"
    );
    assert!(snapshot.issuers[1].trouble.is_none());
    assert_eq!(kids(&snapshot.issuers[1], clock.boot()), ["first"]);
    sleep_s(1000).await;
    assert_eq!((west.counts(), east.counts()), ((0, 1), (1, 1)));
}

#[tokio::test(start_paused = true)]
async fn the_plane_ends_when_it_is_told_even_in_the_middle_of_a_fetch() {
    for drops in [true, false] {
        let clock = clock();
        let origin = Origin::new("west", &clock);
        origin.set(fake::Mood::Hangs);
        let mut plane = Plane::start(vec![by_url("west", &origin)], &clock);
        sleep_s(1).await;
        let stop = plane.stop.take().expect("not stopped yet");
        match drops {
            true => drop(stop),
            false => stop.send(()).expect("it runs"),
        }
        let began = clock.boot();
        plane
            .running
            .join_next()
            .await
            .expect("one")
            .expect("no panic");
        assert_eq!(clock.boot(), began);
        sleep_s(1000).await;
        assert_eq!(origin.calls().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn numbers_for_the_metrics_are_true() {
    let clock = clock();
    let origin = Origin::new("west", &clock);
    origin.with().keys = jwks(&[&Pair::new("a"), &Pair::new("b")]);
    let plane = Plane::start(vec![by_url("west", &origin)], &clock);
    let numbers = || {
        let (name, counters) = plane.handle.counters().next().expect("one");
        assert_eq!(name, "west");
        let age = counters.age(clock.boot()).map(|age| age.as_secs());
        let load = |number: &AtomicU64| number.load(Relaxed);
        (
            load(&counters.keys),
            load(&counters.fetches_ok),
            load(&counters.fetches_failed),
            age,
        )
    };
    assert_eq!(numbers(), (0, 0, 0, None));
    plane.until_attempts(0, 1).await;
    sleep_s(100).await;
    assert_eq!(numbers(), (2, 1, 0, Some(100)));
    origin.says(500, &[], "");
    plane.handle.demand(0);
    plane.until_attempts(0, 2).await;
    assert_eq!(numbers(), (2, 1, 1, Some(100)));
}
