//! A region that is away, refuses or lies; clocks that are wrong; crowds.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::task::JoinSet;

use super::fake::Mood;
use super::{Bench, sleep_s};
use crate::backoff;
use crate::token::{FORCE_COOLDOWN, Now, Phase};

const DOWN: Mood = Mood::Down { retry_after: None };

#[tokio::test(start_paused = true)]
async fn a_valid_token_is_used_while_the_region_is_away_and_never_after_its_end() {
    for mood in [DOWN, Mood::Silent] {
        let mut bench = Bench::new();
        let side = bench.start();
        let end = side
            .until_generation(1)
            .await
            .token
            .as_ref()
            .expect("there")
            .expires_at;
        bench.region.set(mood.clone());
        while bench.clock.boot() + Duration::from_millis(100) < end {
            assert!(side.is_ready(), "{mood:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(bench.region.calls() > 3, "it keeps trying");
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!side.is_ready(), "never after its end");
        bench.region.set(Mood::Up);
        let state = side.until_generation(2).await;
        assert_eq!(state.phase, Phase::Working);
        assert!(bench.clock.boot().since(end) <= backoff::CAP);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_token_back_off_answers_at_once_with_the_next_attempt() {
    let mut bench = Bench::new();
    bench.region.set(DOWN);
    let side = bench.start();
    let mut answered_at_once = 0;
    for _ in 0..6_000 {
        sleep_ms(100).await;
        match side.now() {
            Now::Unavailable(after) => {
                assert!(after <= backoff::CAP);
                answered_at_once += 1;
            }
            Now::Wait => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(answered_at_once > 5_900, "no pile-up: {answered_at_once}");
    assert!(
        (10..60).contains(&bench.region.calls()),
        "{}",
        bench.region.calls()
    );
    assert_eq!(
        side.handle.counters().refresh_transient.load(Relaxed),
        bench.region.calls() as u64
    );
    bench.region.set(Mood::Up);
    side.until_generation(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_start_while_the_region_is_away_ends_when_it_is_back() {
    let mut bench = Bench::new();
    bench.region.set(Mood::Silent);
    let side = bench.start();
    sleep_s(30).await;
    assert!(side.handle.state().token.is_none());
    assert!(side.handle.state().attempts >= 1, "the first attempt ended");
    bench.region.set(Mood::Up);
    side.until_generation(1).await;
    assert!(side.request().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_obeyed_and_the_valid_token_used_meanwhile() {
    let mut bench = Bench::new();
    bench.region.with().lifetime_s = 60;
    let side = bench.start();
    let state = side.until_generation(1).await;
    let end = state.token.as_ref().expect("there").expires_at;
    bench.region.set(Mood::Down {
        retry_after: Some(Duration::from_secs(30)),
    });
    let state = side
        .until("back-off", |state| {
            matches!(state.phase, Phase::BackingOff { .. })
        })
        .await;
    let Phase::BackingOff { retry_at, .. } = state.phase else {
        unreachable!("waited for it")
    };
    assert!(retry_at.since(bench.clock.boot()) >= Duration::from_secs(30));
    let calls = bench.region.calls();
    bench.region.set(Mood::Up);
    // Neither demand, nor a 401, nor a new token in the file brings it forward.
    for _ in 0..29 {
        assert_eq!(side.is_ready(), bench.clock.boot() < end);
        side.handle.demand();
        side.handle.force(1);
        bench.write("token", &bench.region.issue("alice"));
        sleep_s(1).await;
    }
    assert_eq!(bench.region.calls(), calls);
    side.until_generation(2).await;
}

#[tokio::test(start_paused = true)]
async fn a_parked_login_that_asks_again_obeys_retry_after() {
    let mut bench = Bench::new();
    bench.region.revoke_all();
    let side = bench.start();
    side.until_parked().await;
    bench.region.set(Mood::Down {
        retry_after: Some(Duration::from_secs(600)),
    });
    while bench.region.calls() < 2 {
        sleep_s(1).await;
    }
    bench.region.set(Mood::Up);
    let asked = bench.region.with().calls[1];
    // Neither a new token in the file nor a reload brings it forward.
    bench.write("token", &bench.region.issue("alice"));
    while bench.clock.boot() < asked + Duration::from_secs(599) {
        assert!(matches!(side.now(), Now::Refused));
        side.handle.demand();
        side.handle.reloaded();
        sleep_s(1).await;
    }
    assert_eq!(bench.region.calls(), 2);
    sleep_s(5).await;
    assert!(side.is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_dead_refresh_token_parks_and_the_valid_access_token_serves_to_its_end() {
    let mut bench = Bench::new();
    let side = bench.start();
    let end = side
        .until_generation(1)
        .await
        .token
        .as_ref()
        .expect("there")
        .expires_at;
    bench.region.revoke_all();
    let why = side.until_parked().await;
    assert!(
        why.contains("token_not_valid") && why.contains("put a new refresh token"),
        "{why}"
    );
    assert!(side.handle.counters().login_refused.load(Relaxed));
    assert!(side.is_ready(), "a failure never destroys a good token");
    let calls = bench.region.calls();
    while bench.clock.boot() < end {
        sleep_ms(100).await;
    }
    assert!(matches!(side.now(), Now::Refused));
    sleep_s(3_000).await;
    let more = bench.region.calls() - calls;
    assert!((9..=11).contains(&more), "once in five minutes: {more}");
    assert!(
        matches!(side.now(), Now::Refused),
        "answered at once all the time"
    );
    // Readers that keep asking change nothing.
    for _ in 0..200 {
        assert!(side.request().await.is_err());
        side.handle.demand();
        side.handle.force(1);
        sleep_ms(100).await;
    }
    assert!(bench.region.calls() - calls <= more + 1);
}

#[tokio::test(start_paused = true)]
async fn a_parked_login_asks_again_and_recovers_by_itself() {
    let mut bench = Bench::new();
    let token = std::fs::read_to_string(bench.path("token")).expect("there");
    bench.region.revoke_all();
    let side = bench.start();
    side.until_parked().await;
    bench.region.set(DOWN);
    sleep_s(400).await;
    assert!(
        matches!(side.now(), Now::Refused),
        "an outage does not unpark"
    );
    assert_eq!(bench.region.calls(), 2, "nor does it hammer");
    bench.region.set(Mood::Up);
    bench
        .region
        .with()
        .live
        .insert(token.trim().to_owned(), "alice".to_owned());
    sleep_s(301).await;
    assert!(side.is_ready());
    assert!(!side.handle.counters().login_refused.load(Relaxed));
}

#[tokio::test(start_paused = true)]
async fn a_replaced_token_file_is_picked_up_within_five_seconds_even_when_parked() {
    let mut bench = Bench::new();
    bench.region.revoke_all();
    let side = bench.start();
    side.until_parked().await;
    let fresh = bench.region.issue("alice");
    // In pieces first, as a copy that is under way looks.
    bench.write("token", &fresh[..fresh.len() / 3]);
    sleep_s(10).await;
    assert_eq!(bench.region.calls(), 1, "half a token is not asked about");
    bench.write("token", &format!("  {fresh}\n"));
    sleep_s(4).await;
    assert!(side.is_ready());
    // And while healthy, by rename.
    let next = bench.region.issue("alice");
    bench.write("new", &next);
    bench.region.with().live.retain(|token, _| *token == next);
    std::fs::rename(bench.path("new"), bench.path("token")).expect("renamed");
    sleep_s(4).await;
    assert_eq!(
        side.handle
            .state()
            .token
            .as_ref()
            .expect("there")
            .generation,
        2
    );
    assert!(side.handle.state().degraded.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_token_file_that_is_written_in_pieces_is_picked_up_once_it_is_whole() {
    let mut bench = Bench::new();
    let side = bench.start();
    side.until_generation(1).await;
    let fresh = bench.region.issue("alice");
    bench.write("token", &fresh[..fresh.len() / 2]);
    for _ in 0..100 {
        assert!(side.is_ready());
        sleep_ms(100).await;
    }
    assert_eq!(bench.region.calls(), 1, "half a token is not asked about");
    bench.region.with().live.retain(|token, _| *token == fresh);
    bench.write("token", &fresh);
    for _ in 0..50 {
        assert!(side.is_ready());
        sleep_ms(100).await;
    }
    let state = side.handle.state();
    assert_eq!(state.token.as_ref().expect("there").generation, 2);
    assert_eq!((bench.region.calls(), &*state.degraded), (2, &[][..]));
}

#[tokio::test(start_paused = true)]
async fn a_new_token_in_the_file_does_not_wait_for_a_back_off_to_end() {
    let mut bench = Bench::new();
    bench.region.set(DOWN);
    let side = bench.start();
    let far = |phase: &Phase, now| match phase {
        Phase::BackingOff { retry_at, .. } => retry_at.since(now) > Duration::from_secs(30),
        _ => false,
    };
    while !far(&side.handle.state().phase, bench.clock.boot()) {
        sleep_s(1).await;
    }
    bench.region.set(Mood::Up);
    sleep_s(5).await;
    assert!(!side.is_ready(), "by itself it waits");
    bench.write("token", &bench.region.issue("alice"));
    sleep_s(5).await;
    assert!(side.is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_mounted_secret_that_is_swapped_by_its_links_is_picked_up() {
    use std::os::unix::fs::symlink;
    let mut bench = Bench::new();
    for name in ["..1", "..2"] {
        std::fs::create_dir(bench.path(name)).expect("made");
        std::fs::write(bench.path(name).join("secret"), bench.region.issue("alice"))
            .expect("written");
    }
    symlink("..1", bench.path("..data")).expect("linked");
    symlink("..data/secret", bench.path("secret")).expect("linked");
    bench.credential.refresh_token_file = Some(bench.path("secret"));
    let side = bench.start();
    side.until_generation(1).await;
    symlink("..2", bench.path("..new")).expect("linked");
    std::fs::rename(bench.path("..new"), bench.path("..data")).expect("swapped");
    sleep_s(4).await;
    assert_eq!(
        side.handle
            .state()
            .token
            .as_ref()
            .expect("there")
            .generation,
        2
    );
}

#[tokio::test(start_paused = true)]
async fn a_token_file_that_is_deleted_or_emptied_at_run_time_costs_nothing() {
    for empty in [false, true] {
        let mut bench = Bench::new();
        bench.region.with().lifetime_s = 10;
        let side = bench.start();
        side.until_generation(1).await;
        match empty {
            true => bench.write("token", ""),
            false => std::fs::remove_file(bench.path("token")).expect("removed"),
        }
        let state = side.until_generation(5).await;
        assert_eq!(state.phase, Phase::Working);
        assert!(
            format!("{:?}", state.degraded).contains("refresh_token_file"),
            "{state:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_waiters_make_one_refresh_and_one_that_leaves_cancels_nothing() {
    let mut bench = Bench::new();
    let side = bench.start();
    side.until_generation(1).await;
    bench.clock.suspend(Duration::from_secs(400));
    bench.region.with().latency = Duration::from_secs(2);
    let calls = bench.region.calls();
    let mut crowd = JoinSet::new();
    let first = {
        let handle = side.handle.clone();
        crowd.spawn(async move {
            let mut watch = handle.watch();
            handle.demand();
            watch.changed().await.expect("it lives");
        })
    };
    tokio::task::yield_now().await;
    for _ in 0..1_000 {
        let (handle, clock) = (side.handle.clone(), side.clock.clone());
        crowd.spawn(async move {
            let mut watch = handle.watch();
            loop {
                let state = std::sync::Arc::clone(&watch.borrow_and_update());
                match state.at(clock.boot()) {
                    Now::Ready(_) => return,
                    Now::Wait => {}
                    other => panic!("{other:?}"),
                }
                handle.demand();
                watch.changed().await.expect("it lives");
            }
        });
    }
    sleep_ms(500).await;
    first.abort();
    let start = tokio::time::Instant::now();
    while let Some(ended) = crowd.join_next().await {
        if let Err(error) = ended {
            assert!(error.is_cancelled(), "{error}");
        }
    }
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(bench.region.calls(), calls + 1);
    sleep_s(2).await;
    assert_eq!(bench.region.calls(), calls + 1, "nor one after");
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_upstream_401s_forces_one_refresh_in_thirty_seconds() {
    let mut bench = Bench::new();
    let side = bench.start();
    side.until_generation(1).await;
    let calls = bench.region.calls();
    let start = tokio::time::Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        let generation = side
            .handle
            .state()
            .token
            .as_ref()
            .expect("there")
            .generation;
        for _ in 0..20 {
            side.handle.force(generation);
        }
        sleep_ms(10).await;
    }
    // Two forced ones, at 0 and 30 s; a scheduled one cannot fall in between.
    let forced = bench.region.calls() - calls;
    assert!((2..=3).contains(&forced), "{forced}");
    let state = side.handle.state();
    assert!(state.force_allowed_at.since(bench.clock.boot()) <= FORCE_COOLDOWN);
}

#[tokio::test(start_paused = true)]
async fn a_401_of_an_older_token_forces_nothing() {
    let mut bench = Bench::new();
    let side = bench.start();
    side.until_generation(1).await;
    side.handle.force(1);
    side.until_generation(2).await;
    let calls = bench.region.calls();
    sleep_s(31).await;
    side.handle.force(1);
    sleep_ms(500).await;
    assert_eq!(bench.region.calls(), calls);
}

#[tokio::test(start_paused = true)]
async fn a_forced_refresh_that_fails_keeps_the_token_and_wakes_the_waiter() {
    let mut bench = Bench::new();
    let side = bench.start();
    let before = side.until_generation(1).await.attempts;
    bench.region.set(DOWN);
    side.handle.force(1);
    side.until("an end", |state| state.attempts > before).await;
    assert!(side.is_ready());
    let before = side.handle.state().attempts;
    sleep_s(31).await;
    // In back-off a 401 asks for nothing, but its waiter hears of it.
    side.handle.force(1);
    side.until("an end", |state| state.attempts > before).await;
}

#[tokio::test(start_paused = true)]
async fn after_a_laptops_sleep_one_refresh_serves_all() {
    let mut bench = Bench::new();
    let side = bench.start();
    side.until_generation(1).await;
    for night in 2..6 {
        bench.clock.suspend(Duration::from_secs(8 * 3600));
        assert!(!side.is_ready(), "the old token is over");
        assert!(side.request().await.is_ok());
        assert_eq!(bench.region.calls(), night);
        sleep_s(10).await;
        assert_eq!(bench.region.calls(), night);
    }
    // Without any request it wakes by itself, within a few seconds.
    bench.clock.suspend(Duration::from_secs(8 * 3600));
    sleep_s(4).await;
    assert!(side.is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_wrong_or_jumping_local_clock_neither_loops_nor_overruns() {
    for shift in [86_400, -86_400, 40 * 365 * 86_400] {
        let mut bench = Bench::new();
        bench.clock.shift_wall(shift);
        let side = bench.start();
        side.until_generation(1).await;
        assert_eq!(side.handle.counters().clock_skew_s.load(Relaxed), -shift);
        bench.clock.shift_wall(-2 * shift);
        let end = side
            .handle
            .state()
            .token
            .as_ref()
            .expect("there")
            .expires_at;
        bench.region.set(DOWN);
        while bench.clock.boot() + Duration::from_secs(1) < end {
            assert!(side.is_ready(), "{shift}");
            sleep_s(1).await;
        }
        sleep_s(1).await;
        assert!(!side.is_ready(), "{shift}");
        bench.region.set(Mood::Up);
        side.until_generation(2).await;
        let calls = bench.region.calls();
        sleep_s(3_000).await;
        let more = bench.region.calls() - calls;
        assert!((10..=21).contains(&more), "{shift}: {more}");
    }
}

#[tokio::test(start_paused = true)]
async fn answers_without_a_token_that_can_be_used_make_no_loop() {
    for mood in [Mood::HandsOutOver, Mood::HandsOutUseless, Mood::Tokenless] {
        for password in [false, true] {
            let mut bench = Bench::new();
            bench.region.with().rotates = true;
            if password {
                bench.write("password", "wonderland");
                let mut known = bench.region.with();
                known
                    .passwords
                    .insert("alice".to_owned(), "wonderland".to_owned());
                bench.credential = crate::config::Credential {
                    email: Some("alice".to_owned()),
                    password_file: Some(bench.path("password")),
                    ..crate::config::Credential::default()
                };
            }
            bench.region.set(mood.clone());
            let side = bench.start();
            // A caller that asks all the time does not hurry it.
            for _ in 0..6_000 {
                side.handle.demand();
                sleep_ms(100).await;
            }
            assert!(side.handle.state().token.is_none());
            let calls = bench.region.with().calls.clone();
            assert!(
                (5..=120).contains(&calls.len()),
                "{mood:?}: {}",
                calls.len()
            );
            for pair in calls.windows(2) {
                let gap = pair[1].since(pair[0]);
                assert!(
                    gap >= crate::token::schedule::USELESS_FLOOR,
                    "{mood:?}: {gap:?}"
                );
            }
            // What rotated with them was kept all the same.
            bench.region.set(Mood::Up);
            side.until_generation(1).await;
            side.stop().await;
            bench.start().until_generation(1).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn lifetimes_from_two_seconds_to_a_day_have_no_gap_and_scale() {
    for (lifetime_s, rounds) in [(2, 200), (5, 100), (60, 50), (300, 50), (86_400, 3)] {
        let mut bench = Bench::new();
        bench.region.with().lifetime_s = lifetime_s;
        let side = bench.start();
        side.until_generation(1).await;
        let start = bench.clock.boot();
        let step = Duration::from_millis(u64::try_from(lifetime_s).expect("positive") * 10);
        while bench.region.calls() < rounds {
            assert!(side.is_ready(), "{lifetime_s} s");
            tokio::time::sleep(step).await;
        }
        let each = bench.clock.boot().since(start).as_secs_f64()
            / f64::from(u32::try_from(rounds).expect("small"));
        #[expect(clippy::cast_precision_loss, reason = "a day of seconds")]
        let usable = (lifetime_s - 1) as f64;
        assert!(
            (if rounds < 20 { 0.1..0.95 } else { 0.5..0.95 }).contains(&(each / usable)),
            "{lifetime_s} s: every {each} s"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_numbers_for_the_metrics_are_true() {
    let mut bench = Bench::new();
    let side = bench.start();
    side.until_generation(1).await;
    let counters = side.handle.counters();
    assert_eq!(counters.refresh_ok.load(Relaxed), 1);
    assert_eq!(
        counters.token_expiry_unix_s.load(Relaxed),
        super::fake::START + 300
    );
    assert_eq!(
        counters.refresh_token_expiry_unix_s.load(Relaxed),
        super::fake::START + 30 * 86_400
    );
    bench.region.revoke_all();
    side.until_parked().await;
    assert_eq!(counters.refresh_refused.load(Relaxed), 1);
}

async fn sleep_ms(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}
