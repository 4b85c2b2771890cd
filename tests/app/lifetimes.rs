//! Tokens of any lifetime, and clocks that do as they like.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::world::{Setup, Side, World};

/// Requests over several lifetimes: all succeed, no ended token is sent, and refreshes are as rare
/// as the contract has them.
async fn lives(lifetime: Duration, rounds: u32) {
    for seed in 1..=3 {
        let setup = Setup {
            lifetime,
            seed,
            ..Setup::default()
        };
        let world = World::start(setup).await;
        let began = world.clock.boot();
        let mut client = world.client().await;
        while world.clock.boot().since(began) < lifetime * rounds {
            let answer = client.get("/").await;
            assert_eq!(answer.status, 200, "{lifetime:?}");
            tokio::time::sleep(lifetime / 40).await;
        }
        let seen = world.upstream(Side::A).seen();
        assert!(seen.iter().all(|seen| seen.status == 200), "{lifetime:?}");
        let asked = world.asked(Side::A);
        let gaps: Vec<Duration> = asked
            .windows(2)
            .map(|pair| pair[1].since(pair[0]))
            .collect();
        assert!(!gaps.is_empty(), "{lifetime:?}: no refresh at all");
        let usable = lifetime - Duration::from_secs(1);
        for (at, gap) in gaps.iter().enumerate() {
            let least = if at == 0 { 0.1 } else { 0.5 };
            let fraction = gap.as_secs_f64() / usable.as_secs_f64();
            assert!(
                (least - 0.01..0.92).contains(&fraction),
                "{lifetime:?}: {fraction}"
            );
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn tokens_of_two_seconds_never_fail_a_request() {
    lives(Duration::from_secs(2), 20).await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn tokens_of_minutes_never_fail_a_request() {
    for seconds in [5, 60, 300] {
        lives(Duration::from_secs(seconds), 10).await;
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn tokens_of_an_hour_never_fail_a_request() {
    lives(Duration::from_secs(3600), 2).await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_token_of_a_day_is_not_asked_for_twice_in_its_first_tenth() {
    let day = Duration::from_secs(86_400);
    let setup = Setup {
        lifetime: day,
        ..Setup::default()
    };
    let world = World::start(setup).await;
    for _ in 0..80 {
        assert_eq!(world.get("/").await.status, 200);
        tokio::time::sleep(day / 1000).await;
    }
    assert_eq!(world.asked(Side::A).len(), 1);
    // Most of a day asleep, and it is time.
    world.suspend(day * 9 / 10);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.asked(Side::A).len(), 2);
    assert_eq!(world.get("/").await.status, 200);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_laptop_that_slept_refreshes_once_and_every_queued_request_succeeds() {
    let world = World::start(Setup::default()).await;
    assert_eq!(world.get("/").await.status, 200);
    let before = world.refreshes();
    let latency = Duration::from_millis(100);
    world
        .region(Side::A)
        .change(|settings| settings.latency = latency);
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(world.client().await);
    }
    world.suspend(Duration::from_secs(3600));
    let mut requests = JoinSet::new();
    for mut client in clients {
        requests.spawn_local(async move { client.get("/").await.status });
    }
    let statuses = requests.join_all().await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(world.refreshes(), before + 1);
    let seen = world.upstream(Side::A).seen();
    assert!(seen.iter().all(|seen| seen.status == 200), "no ended token");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_wall_clock_that_is_wrong_by_years_changes_nothing() {
    for by in [-400_000_000, -3600, 3600, 400_000_000] {
        let world = World::start(Setup::default()).await;
        assert_eq!(world.get("/").await.status, 200);
        world.clock.shift_wall(by);
        let before = world.asked(Side::A).len();
        for _ in 0..60 {
            assert_eq!(world.get("/").await.status, 200, "{by}");
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        let asked = world.asked(Side::A).len() - before;
        assert!((5..=11).contains(&asked), "{by}: {asked} in five lifetimes");
    }
}
