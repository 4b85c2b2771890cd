//! Requests that wait for a token: how long, and how many.

use std::time::Duration;

use regent::demo::region::{Outage, Region};
use tokio::task::JoinSet;

use crate::world::{Setup, Side, World};

fn silent(region: &Region) {
    region.down(Outage::Silent);
}

fn waiting(wait: &str) -> Setup {
    Setup {
        sets: vec![format!("outbound.token_wait={wait}")],
        ..Setup::default()
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_request_waits_for_a_token_as_long_as_the_config_says() {
    for (text, seconds) in [("0s", 0), ("2s", 2), ("7s", 7)] {
        let world = World::start_with(waiting(text), silent).await;
        let asked = tokio::time::Instant::now();
        let answer = world.get("/").await;
        assert_eq!((answer.status, &*answer.reason()), (503, "no_access_token"));
        assert!(answer.retry_after().is_some());
        let took = asked.elapsed().as_secs_f64();
        assert!((took - f64::from(seconds)).abs() < 0.1, "{text}: {took}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_failure_wakes_those_who_wait() {
    let world = World::start_with(waiting("60s"), silent).await;
    let asked = tokio::time::Instant::now();
    let answer = world.get("/").await;
    assert_eq!(answer.reason(), "no_access_token");
    // The call to the region ends at 10 s, and nothing better is to come before the back-off ends.
    let took = asked.elapsed().as_secs_f64();
    assert!((9.9..10.5).contains(&took), "{took}");
}

/// What one data thread lets wait.
const MOST: usize = 4096;

#[tokio::test(flavor = "local", start_paused = true)]
async fn too_many_who_wait_are_turned_away_at_once() {
    let world = World::start_with(waiting("9s"), silent).await;
    let mut requests = JoinSet::new();
    for _ in 0..MOST {
        let mut client = world.client().await;
        requests.spawn_local(async move { client.get("/").await.reason() });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = tokio::time::Instant::now();
    let answer = world.get("/").await;
    let bounded = "the descriptors of this machine bound connections below 4097";
    assert_eq!(answer.reason(), "overloaded", "{bounded}");
    assert_eq!(answer.status, 503);
    assert!(answer.retry_after().is_some());
    assert!(asked.elapsed() < Duration::from_millis(50));
    let reasons = requests.join_all().await;
    assert!(reasons.iter().all(|reason| reason == "no_access_token"));
    // Their places are free again.
    world.region(Side::A).up();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.get("/").await.status, 200);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_401_is_passed_on_at_once_where_too_many_wait_for_a_newer_token() {
    let setup = Setup {
        lifetime: Duration::from_secs(86_400),
        ..waiting("9s")
    };
    let world = World::start(setup).await;
    assert_eq!(world.get("/").await.status, 200);
    silent(world.region(Side::A));
    world.region(Side::A).revoke_all_access();
    let mut requests = JoinSet::new();
    for _ in 0..MOST {
        let mut client = world.client().await;
        requests.spawn_local(async move {
            let asked = tokio::time::Instant::now();
            (client.get("/").await.status, asked.elapsed())
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = tokio::time::Instant::now();
    assert_eq!(world.get("/").await.status, 401);
    assert!(asked.elapsed() < Duration::from_millis(50));
    for (status, took) in requests.join_all().await {
        assert_eq!(status, 401);
        assert!(took > Duration::from_secs(8), "it had a place: {took:?}");
    }
    // Their places are free again.
    world.region(Side::A).up();
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(world.get("/").await.status, 200);
}
