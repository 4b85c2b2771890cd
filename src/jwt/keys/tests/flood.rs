//! Tokens that name keys which nobody has.

use super::*;
use fake::{Call, Mood};

fn gaps(calls: &[Call]) -> Vec<Duration> {
    calls
        .windows(2)
        .map(|pair| pair[1].at.since(pair[0].at))
        .collect()
}

/// Asks as often as a data thread would that does not look at the cool-down itself.
async fn flood(plane: &Plane, seconds: u64) {
    for _ in 0..seconds * 1000 {
        plane.handle.demand(0);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_kids_makes_one_fetch_in_a_cool_down() {
    let clock = clock();
    let origin = Origin::new("west", &clock);
    let plane = Plane::start(vec![by_url("west", &origin)], &clock);
    flood(&plane, 60).await;
    let calls = origin.calls();
    assert_eq!(calls.len(), 2, "at once, and after 30 s: {calls:?}");
    flood(&plane, 31).await;
    let gaps = gaps(&origin.calls());
    assert_eq!(gaps.len(), 3);
    let cooldown = Duration::from_secs(30);
    assert!(gaps.iter().all(|gap| *gap >= cooldown), "{gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn a_demand_after_the_cool_down_is_heard_at_once() {
    let clock = clock();
    let origin = Origin::new("west", &clock);
    let plane = Plane::start(vec![by_url("west", &origin)], &clock);
    let first = plane.until_attempts(0, 1).await;
    let started = origin.calls()[0].at;
    let allowed = first.fetch_allowed_at.expect("a remote source");
    assert_eq!(allowed, started + Duration::from_secs(30));
    // A wish that came too early is not kept for later.
    plane.handle.demand(0);
    sleep_s(60).await;
    assert_eq!(origin.calls().len(), 1);
    origin.with().keys = fake::one("second");
    let asked = clock.boot();
    plane.handle.demand(0);
    plane.until_attempts(0, 2).await;
    assert_eq!(clock.boot().since(asked), Duration::from_millis(20));
    assert_eq!(plane.kids(0), ["second"]);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_cold_requests_make_one_discovery_and_one_fetch() {
    let clock = clock();
    let origin = Origin::new("west", &clock);
    origin.with().latency = Duration::from_secs(2);
    let plane = Plane::start(vec![by_discovery("west", &origin)], &clock);
    let mut crowd = JoinSet::new();
    for at in 0..1_000 {
        let handle = plane.handle.clone();
        crowd.spawn(async move {
            tokio::time::sleep(Duration::from_millis(at)).await;
            handle.demand(0);
            let mut watch = handle.watch();
            let found = watch.wait_for(|snapshot| snapshot.issuers[0].set.is_some());
            assert_eq!(found.await.expect("the plane runs").issuers[0].attempts, 1);
        });
    }
    assert_eq!(crowd.join_all().await.len(), 1_000);
    sleep_s(20).await;
    assert_eq!(origin.counts(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn who_asks_during_a_fetch_that_outlasts_the_cool_down_shares_it() {
    let clock = clock();
    let origin = Origin::new("west", &clock);
    let mut settings = by_url("west", &origin);
    settings.cooldown = Duration::from_secs(2);
    let plane = Plane::start(vec![settings], &clock);
    plane.until_attempts(0, 1).await;
    sleep_s(3).await;
    origin.with().latency = Duration::from_secs(8);
    flood(&plane, 8).await;
    let end = plane.until_attempts(0, 2).await;
    // Until it ends it may be joined; then the cool-down is over already.
    assert!(end.fetch_allowed_at.expect("a remote source") < clock.boot());
    sleep_s(20).await;
    assert_eq!(origin.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_failed_counts_for_the_cool_down_too() {
    let clock = clock();
    let origin = Origin::new("west", &clock);
    let plane = Plane::start(vec![by_url("west", &origin)], &clock);
    plane.until_attempts(0, 1).await;
    sleep_s(40).await;
    // The server's own word is longer than the cool-down, and holds.
    origin.says(503, &[("retry-after", "100")], "");
    plane.handle.demand(0);
    let failed = plane.until_attempts(0, 2).await;
    let at = origin.calls()[1].at;
    let wait = |until: Boot| until.since(at).as_secs();
    assert_eq!(wait(failed.fetch_allowed_at.expect("remote")), 100);
    assert!((100..=101).contains(&wait(failed.next_attempt_at)));
    flood(&plane, 99).await;
    assert_eq!(origin.calls().len(), 2);
    // Without such a word the back-off asks sooner, a demand does not.
    origin.set(Mood::Fails(fetch::Error::Connect("refused".into())));
    let failed = plane.until_attempts(0, 3).await;
    let at = origin.calls()[2].at;
    let allowed = failed.fetch_allowed_at.expect("remote");
    assert_eq!(allowed, at + Duration::from_secs(30));
    assert!(failed.next_attempt_at < allowed);
}

#[tokio::test(start_paused = true)]
async fn a_background_refresh_counts_for_the_cool_down_too() {
    let clock = clock();
    let origin = Origin::new("west", &clock);
    let plane = Plane::start(vec![by_url("west", &origin)], &clock);
    plane.until_attempts(0, 2).await;
    let before = origin.calls().len();
    flood(&plane, 29).await;
    assert_eq!(origin.calls().len(), before);
    flood(&plane, 2).await;
    assert_eq!(origin.calls().len(), before + 1);
}
