//! The way down: what is in flight ends well, and nothing else holds it up.

use std::time::Duration;

use http::Method;
use regent::app::Exit;
use regent::demo::region::Outage;
use regent::lifecycle::Stage;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::world::{OUTBOUND, Setup, Side, World};

const AT_ONCE: Duration = Duration::from_secs(1);

fn drain(delay: &str, timeout: &str) -> Setup {
    Setup {
        sets: vec![
            format!("drain.delay={delay}"),
            format!("drain.timeout={timeout}"),
        ],
        ..Setup::default()
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn with_nothing_in_flight_it_ends_at_once() {
    let world = World::start(Setup::default()).await;
    let mut idle = world.client().await;
    assert_eq!(idle.get("/").await.status, 200);
    // One that was opened ahead of time, and has not asked for anything.
    let address = OUTBOUND.parse().expect("an address");
    let mut silent = world.net.dial(address).expect("it listens");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = tokio::time::Instant::now();
    assert_eq!(world.stop().await, Exit::Stopped);
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).await.expect("closed");
    assert!(rest.is_empty());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_is_in_flight_is_finished() {
    let mut world = World::start(Setup::default()).await;
    assert_eq!(world.get("/").await.status, 200);
    world.upstream(Side::A).hold(true);
    let mut client = world.client().await;
    let request = tokio::task::spawn_local(async move { client.get("/slow").await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.admin(Method::POST, "/quit").await.status, 200);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(!world.running.is_finished());
    // Nobody new comes in.
    assert!(
        world
            .net
            .dial(OUTBOUND.parse().expect("an address"))
            .is_err()
    );
    let began = tokio::time::Instant::now();
    world.upstream(Side::A).hold(false);
    let answer = request.await.expect("no panic");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["connection"], "close");
    assert_eq!(world.ended().await, Exit::Stopped);
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_request_whose_head_is_still_coming_is_answered() {
    let world = World::start(Setup::default()).await;
    assert_eq!(world.get("/").await.status, 200);
    let address = OUTBOUND.parse().expect("an address");
    let mut slow = world.net.dial(address).expect("it listens");
    let sent = slow.write_all(b"GET /whoami HTTP/1.1\r\nhost: loc").await;
    sent.expect("open");
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.remote.stop.advance(Stage::Drain);
    tokio::time::sleep(Duration::from_secs(3)).await;
    slow.write_all(b"alhost\r\n\r\n").await.expect("still open");
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn it_serves_on_through_the_delay_and_says_that_it_is_not_ready() {
    let mut world = World::start(drain("5s", "25s")).await;
    assert_eq!(world.get("/").await.status, 200);
    assert_eq!(world.probe("/readyz").await, 200);
    let began = tokio::time::Instant::now();
    world.remote.stop.advance(Stage::Drain);
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(world.get("/").await.status, 200);
        let ready = world.admin(Method::GET, "/readyz").await;
        assert_eq!(ready.status, 503);
        assert_eq!(ready.json()["why"], serde_json::json!(["draining"]));
        assert_eq!(world.probe("/livez").await, 200);
    }
    assert_eq!(world.ended().await, Exit::Stopped);
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(5), "{took:?}");
    assert!(took < Duration::from_secs(5) + AT_ONCE, "{took:?}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_does_not_end_is_cut_when_the_time_is_over() {
    let mut world = World::start(drain("0s", "7s")).await;
    assert_eq!(world.get("/").await.status, 200);
    world.upstream(Side::A).hold(true);
    let mut client = world.client().await;
    let request = tokio::task::spawn_local(async move { client.try_get("/never").await.is_err() });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = tokio::time::Instant::now();
    world.remote.stop.advance(Stage::Drain);
    assert_eq!(world.ended().await, Exit::Stopped);
    let took = began.elapsed().as_secs_f64();
    assert!((7.0..8.0).contains(&took), "{took}");
    assert!(request.await.expect("no panic"), "it had no answer");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_second_signal_cuts_short() {
    for setup in [drain("60s", "60s"), drain("0s", "60s")] {
        let mut world = World::start(setup).await;
        assert_eq!(world.get("/").await.status, 200);
        world.upstream(Side::A).hold(true);
        let mut client = world.client().await;
        let request =
            tokio::task::spawn_local(async move { client.try_get("/never").await.is_err() });
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.remote.stop.advance(Stage::Drain);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let began = tokio::time::Instant::now();
        world.remote.stop.advance(Stage::Abort);
        assert_eq!(world.ended().await, Exit::Stopped);
        assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
        drop(request);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_rotating_refresh_under_way_is_finished_and_stored_first() {
    let mut world = World::start(Setup::default()).await;
    assert_eq!(world.get("/").await.status, 200);
    let latency = Duration::from_secs(5);
    world
        .region(Side::A)
        .change(|settings| settings.latency = latency);
    let asked = world.asked(Side::A).len();
    while world.asked(Side::A).len() == asked {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    world.remote.stop.advance(Stage::Drain);
    assert_eq!(world.ended().await, Exit::Stopped);
    let state = world
        .token_file(Side::A)
        .with_file_name("refresh-token-A.state");
    let state = std::fs::read_to_string(state).expect("it rotates");
    let state: serde_json::Value = serde_json::from_str(&state).expect("JSON");
    assert_eq!(state["rotation"], world.refreshes());
    // What is stored is what the region takes.
    let stored = state["refresh_token"].as_str().expect("a token");
    let region = world.region(Side::A);
    region.change(|settings| settings.latency = Duration::ZERO);
    let url = "http://127.0.0.1:9001/console/api/auth/verify/";
    let answer = tower::ServiceExt::oneshot(
        region.service(),
        regent::fetch::Request {
            method: Method::POST,
            url: url.parse().expect("a URL"),
            headers: http::HeaderMap::new(),
            form: vec![("token", regent::secret::Secret::from(stored))],
            public_only: false,
        },
    );
    assert_eq!(answer.await.expect("an answer").status, 200);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_region_that_does_not_answer_holds_it_up_no_longer_than_its_call() {
    let world = World::start(Setup::default()).await;
    assert_eq!(world.get("/").await.status, 200);
    world.region(Side::A).down(Outage::Silent);
    let asked = world.asked(Side::A).len();
    while world.asked(Side::A).len() == asked {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let began = tokio::time::Instant::now();
    assert_eq!(world.stop().await, Exit::Stopped);
    assert!(
        began.elapsed() <= Duration::from_secs(11),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_reload_during_the_way_down_is_told_so_at_once() {
    let world = World::start(drain("5s", "25s")).await;
    assert_eq!(world.get("/").await.status, 200);
    world.remote.stop.advance(Stage::Drain);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = tokio::time::Instant::now();
    let refused = world.reload(Side::B, &[]).await.expect_err("too late");
    assert_eq!(refused[0].to_string(), "the sidecar is stopping");
    assert!(began.elapsed() < AT_ONCE);
}
