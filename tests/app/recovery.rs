//! The upstream refuses the token: one forced refresh, one replay, and no storm.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::Method;

use regent::telemetry::counters;

use crate::world::{Setup, Side, World};

/// No refresh but those that are forced.
const DAY: Duration = Duration::from_secs(86_400);

async fn start() -> World {
    let setup = Setup {
        lifetime: DAY,
        ..Setup::default()
    };
    let world = World::start(setup).await;
    assert_eq!(world.get("/").await.status, 200);
    assert_eq!(world.refreshes(), 1);
    world
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_revoked_token_costs_one_refresh_and_no_request() {
    for (method, body) in [
        (Method::GET, Vec::new()),
        (Method::POST, vec![b'x'; 32 * 1024]),
    ] {
        let world = start().await;
        world.region(Side::A).revoke_all_access();
        let mut client = world.client().await;
        let answer = client.send(method, "/path", &[], body.clone()).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["body_bytes"], body.len());
        assert_eq!(world.refreshes(), 2);
        let statuses: Vec<u16> = world.upstream(Side::A).seen()[1..]
            .iter()
            .map(|seen| seen.status)
            .collect();
        assert_eq!(statuses, [401, 200]);
        let recovered = &world.remote.counters[0]
            .of(counters::Side::Outbound)
            .unauthorized_recovered;
        assert_eq!(recovered.load(Relaxed), 1);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn many_requests_with_one_revoked_token_share_one_refresh() {
    let world = start().await;
    world.region(Side::A).revoke_all_access();
    let latency = Duration::from_millis(100);
    world
        .region(Side::A)
        .change(|settings| settings.latency = latency);
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let mut client = world.client().await;
        requests.spawn_local(async move { client.get("/").await.status });
    }
    assert!(
        requests
            .join_all()
            .await
            .iter()
            .all(|status| *status == 200)
    );
    assert_eq!(world.refreshes(), 2);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_storm_of_401s_forces_one_refresh_in_30_s_and_passes_them_on() {
    let world = start().await;
    world
        .region(Side::A)
        .change(|settings| settings.accept_access = false);
    let began = world.clock.boot();
    let mut client = world.client().await;
    while world.clock.boot().since(began) < Duration::from_secs(95) {
        let answer = client.get("/").await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.json()["code"], "token_not_valid", "the region's own");
        assert!(!answer.headers.contains_key("proxy-status"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let asked = world.asked(Side::A);
    let forced: Vec<u64> = asked[1..]
        .iter()
        .map(|at| at.since(began).as_secs())
        .collect();
    assert_eq!(forced.len(), 4, "at 0, 30, 60 and 90 s: {forced:?}");
    for pair in forced.windows(2) {
        assert!(pair[1] - pair[0] >= 30, "{forced:?}");
    }
    world
        .region(Side::A)
        .change(|settings| settings.accept_access = true);
    assert_eq!(world.get("/").await.status, 200);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_401_while_the_region_is_down_is_passed_on_at_once() {
    let world = start().await;
    world.region(Side::A).revoke_all_access();
    world
        .region(Side::A)
        .down(regent::demo::region::Outage::Refuse);
    for _ in 0..50 {
        let asked = tokio::time::Instant::now();
        assert_eq!(world.get("/").await.status, 401);
        assert!(asked.elapsed() < Duration::from_millis(50));
    }
    // The token is what the region's own word says it is: good for a day.
    assert_eq!(world.probe("/readyz").await, 200);
}
