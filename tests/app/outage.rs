//! The region goes away: promises 3, 5 and 6 as a caller sees them.

use std::time::Duration;

use http::Method;
use regent::demo::region::{Fault, Kind, Outage};
use regent::secret::Digest;

use crate::world::{Setup, Side, World};

const LIFETIME: Duration = Duration::from_secs(60);

/// Asks often until the token ends: every request succeeds.
async fn all_succeed_until_expiry(world: &World) {
    let end = world.expiry(LIFETIME);
    let mut client = world.client().await;
    let mut requests = 0;
    while world.clock.boot() + Duration::from_millis(100) < end {
        assert_eq!(client.get("/whoami").await.status, 200);
        requests += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(requests > 10, "too few to tell: {requests}");
    world.sleep_until(end).await;
}

/// Every token that reached the upstream was good at that time.
fn nothing_expired_was_sent(world: &World) {
    let seen = world.upstream(Side::A).seen();
    assert!(seen.iter().all(|seen| seen.status == 200), "{seen:?}");
}

/// The pool is empty by then: the next request connects.
async fn idle_until_just_before_expiry(world: &World) {
    let second = Duration::from_secs(1);
    world
        .sleep_until(world.expiry(LIFETIME).saturating_sub(second))
        .await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_token_that_ends_while_the_upstream_is_connected_to_is_not_sent() {
    let world = World::start(Setup::default()).await;
    assert_eq!(world.get("/").await.status, 200);
    world.region(Side::A).down(Outage::Refuse);
    idle_until_just_before_expiry(&world).await;
    world.connecting.send_replace(Duration::from_secs(3));
    let answer = world.get("/late").await;
    assert_eq!((answer.status, &*answer.reason()), (503, "no_access_token"));
    assert!(answer.retry_after().is_some());
    assert_eq!(world.upstream(Side::A).seen().len(), 1);
    nothing_expired_was_sent(&world);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_refresh_that_is_under_way_is_waited_for_where_connecting_outlived_the_token() {
    let world = World::start(Setup::default()).await;
    while world.probe("/readyz").await != 200 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world
        .region(Side::A)
        .change(|settings| settings.latency = Duration::from_secs(5));
    world.connecting.send_replace(Duration::from_secs(3));
    let late = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.suspend(LIFETIME);
    };
    let (answer, ()) = tokio::join!(world.get("/late"), late);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(world.refreshes(), 2);
    nothing_expired_was_sent(&world);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_newer_token_is_taken_where_connecting_outlived_the_first() {
    let setup = Setup {
        sets: vec!["limits.connect_timeout=200s".to_owned()],
        ..Setup::default()
    };
    let world = World::start(setup).await;
    assert_eq!(world.get("/").await.status, 200);
    world.region(Side::A).down(Outage::Refuse);
    idle_until_just_before_expiry(&world).await;
    world.region(Side::A).up();
    world.connecting.send_replace(Duration::from_secs(150));
    assert_eq!(world.get("/late").await.status, 200);
    nothing_expired_was_sent(&world);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_region_that_is_down_fails_nothing_until_the_token_ends_and_is_told_at_once_after_that() {
    let world = World::start(Setup::default()).await;
    assert_eq!(world.get("/").await.status, 200);
    world.region(Side::A).down(Outage::Refuse);
    all_succeed_until_expiry(&world).await;
    assert_eq!(world.probe("/livez").await, 200);
    assert_eq!(world.probe("/startupz").await, 200, "it has started once");
    assert_eq!(world.probe("/readyz").await, 503);

    let forwarded = world.upstream(Side::A).seen().len();
    let mut client = world.client().await;
    for _ in 0..400 {
        let asked = tokio::time::Instant::now();
        let now = world.clock.boot();
        let answer = client.get("/whoami").await;
        assert_eq!((answer.status, &*answer.reason()), (503, "no_access_token"));
        let took = asked.elapsed();
        assert!(took < Duration::from_millis(50), "{took:?}");
        // The time that it tells is that of the next attempt, rounded up to a second.
        let told = Duration::from_secs(answer.retry_after().expect("it is passing"));
        let attempts = world.asked(Side::A).len();
        tokio::time::sleep(told).await;
        let next = world.asked(Side::A).get(attempts).copied();
        let next = next.expect("an attempt by then").since(now);
        let second = Duration::from_secs(1);
        assert!(
            next <= told && told - next <= second + took,
            "{next:?} {told:?}"
        );
        if world.clock.boot() > world.expiry(LIFETIME) + Duration::from_secs(1800) {
            break;
        }
    }
    let seen = world.upstream(Side::A).seen();
    assert_eq!(seen.len(), forwarded, "an ended token was sent");
    assert!(seen.iter().all(|seen| seen.status == 200), "by its clock");

    world.region(Side::A).up();
    tokio::time::sleep(Duration::from_secs(125)).await;
    assert_eq!(world.probe("/readyz").await, 200, "by itself");
    assert_eq!(world.get("/whoami").await.status, 200);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_region_that_never_answers_fails_nothing_until_the_token_ends() {
    let world = World::start(Setup::default()).await;
    assert_eq!(world.get("/").await.status, 200);
    world.region(Side::A).down(Outage::Silent);
    all_succeed_until_expiry(&world).await;
    let answer = world.get("/whoami").await;
    assert_eq!((answer.status, &*answer.reason()), (503, "no_access_token"));
    assert!(answer.retry_after().is_some());
    world.region(Side::A).up();
    tokio::time::sleep(Duration::from_secs(135)).await;
    assert_eq!(world.get("/whoami").await.status, 200);
    let seen = world.upstream(Side::A).seen();
    assert!(seen.iter().all(|seen| seen.status == 200), "by its clock");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_outage_is_asked_about_ever_more_rarely() {
    let world = World::start(Setup::default()).await;
    assert_eq!(world.get("/").await.status, 200);
    let before = world.asked(Side::A).len();
    world.region(Side::A).down(Outage::Refuse);
    // Under load: what waits does not hurry it.
    let until = world.clock.boot() + Duration::from_secs(2 * 3600);
    let mut client = world.client().await;
    while world.clock.boot() < until {
        let _ = client.get("/").await;
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    let attempts = world.asked(Side::A).len() - before;
    // A mean of a minute once the cap is reached.
    assert!((60..240).contains(&attempts), "{attempts} in two hours");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_dead_refresh_token_is_told_as_such_and_a_new_one_in_its_file_works() {
    let world = World::start(Setup::default()).await;
    assert_eq!(world.get("/").await.status, 200);
    let region = world.region(Side::A);
    // Every refresh token of alice's is refused, and the access token that is in use is not.
    let issued = world.token_file(Side::A);
    let state = std::fs::read_to_string(issued.with_file_name("refresh-token-A.state"));
    let state: serde_json::Value = serde_json::from_str(&state.expect("it rotates")).expect("JSON");
    region.revoke_refresh(state["refresh_token"].as_str().expect("the present one"));
    all_succeed_until_expiry(&world).await;

    let asked = tokio::time::Instant::now();
    let answer = world.get("/whoami").await;
    assert_eq!((answer.status, &*answer.reason()), (503, "login_refused"));
    assert_eq!(answer.retry_after(), None);
    assert!(asked.elapsed() < Duration::from_millis(50));
    assert_eq!(world.probe("/livez").await, 200);
    let ready = world.admin(Method::GET, "/readyz").await;
    assert_eq!(ready.status, 503);
    let why = ready.json()["why"].to_string();
    assert!(why.contains("Token is blacklisted"), "{why}");
    assert!(
        why.contains("put a new refresh token into that file"),
        "{why}"
    );

    // It asks again once in five minutes, whatever the load.
    let before = world.asked(Side::A).len();
    let mut client = world.client().await;
    for _ in 0..3600 {
        assert_eq!(client.get("/").await.reason(), "login_refused");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let attempts = world.asked(Side::A).len() - before;
    assert!((10..=14).contains(&attempts), "{attempts} in an hour");
    assert!(!world.running.is_finished());

    let token = region.issue_refresh("alice@example.com").expect("alice");
    std::fs::write(&issued, token.expose()).expect("written");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(world.get("/whoami").await.status, 200);
    assert_eq!(world.probe("/readyz").await, 200);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn every_refresh_token_is_spent_once() {
    let setup = Setup {
        lifetime: Duration::from_secs(5),
        ..Setup::default()
    };
    let world = World::start(setup).await;
    for _ in 0..600 {
        assert_eq!(world.get("/").await.status, 200);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let calls = world.region(Side::A).calls();
    let refreshes = calls.iter().filter(|call| call.kind == Kind::Refresh);
    let mut spent: Vec<Digest> = refreshes.filter_map(|call| call.token).collect();
    let count = spent.len();
    assert!(count > 50, "{count} refreshes");
    spent.sort_unstable();
    spent.dedup();
    assert_eq!(spent.len(), count);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_region_that_has_too_much_to_do_is_not_asked_before_it_says_and_callers_are_told() {
    let busy = |region: &regent::demo::region::Region| {
        let told = vec![("retry-after", "30".to_owned())];
        let busy = Fault::Status(429, "{}".to_owned(), told);
        region.fail_next_of(Kind::Refresh, 1, busy);
    };
    let world = World::start_with(Setup::default(), busy).await;
    let mut client = world.client().await;
    let answer = client.get("/").await;
    assert_eq!((answer.status, &*answer.reason()), (503, "no_access_token"));
    let asked = world.asked(Side::A);
    assert_eq!(asked.len(), 1);
    let over = asked[0] + Duration::from_secs(30);
    while world.clock.boot() < over {
        let left = over.since(world.clock.boot()).as_secs_f64().ceil();
        let answer = client.get("/").await;
        assert_eq!(answer.reason(), "no_access_token");
        let told = answer.retry_after().expect("it is passing");
        assert!(told >= left as u64, "{told} of {left}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(world.asked(Side::A).len(), 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(world.asked(Side::A).len(), 2);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn answers_that_make_no_sense_fail_nothing_until_the_token_ends() {
    let said = |body: &str| Fault::Status(200, body.to_owned(), Vec::new());
    for fault in [
        Fault::Html,
        Fault::Garbage,
        Fault::Endless,
        Fault::Lost(502),
        said(r#"{"access":null}"#),
        said(r#"{"access":1}"#),
        said(""),
    ] {
        // What is lost with an answer is another matter.
        let fixed = |region: &regent::demo::region::Region| {
            region.change(|settings| settings.rotate = false);
        };
        let world = World::start_with(Setup::default(), fixed).await;
        assert_eq!(world.get("/").await.status, 200);
        let region = world.region(Side::A);
        region.fail_next_of(Kind::Refresh, u32::MAX, fault.clone());
        all_succeed_until_expiry(&world).await;
        let answer = world.get("/whoami").await;
        assert_eq!(answer.reason(), "no_access_token", "{fault:?}");
        assert!(world.asked(Side::A).len() > 2, "{fault:?}");
        region.clear_faults();
        tokio::time::sleep(Duration::from_secs(125)).await;
        assert_eq!(world.get("/whoami").await.status, 200, "{fault:?}");
        let seen = world.upstream(Side::A).seen();
        assert!(seen.iter().all(|seen| seen.status == 200), "by its clock");
    }
}
