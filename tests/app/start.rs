//! The first token: one login whatever the load, and what a start does without a region.

use std::time::Duration;

use http::Method;
use regent::app::Exit;
use regent::demo::region::Outage;
use tokio::task::JoinSet;

use crate::world::{Setup, Side, World};

const LATENCY: Duration = Duration::from_millis(200);

fn slow() -> impl FnOnce(&regent::demo::region::Region) {
    |region| region.change(|settings| settings.latency = LATENCY)
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_thousand_first_requests_cost_one_refresh() {
    let world = World::start_with(Setup::default(), slow()).await;
    let mut requests = JoinSet::new();
    for _ in 0..1000 {
        let mut client = world.client().await;
        requests.spawn_local(async move { client.get("/whoami").await.status });
    }
    let statuses = requests.join_all().await;
    assert_eq!(statuses.len(), 1000);
    assert!(statuses.iter().all(|status| *status == 200));
    assert_eq!(world.refreshes(), 1);
    assert_eq!(world.asked(Side::A).len(), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_client_that_leaves_cancels_nothing() {
    let world = World::start_with(Setup::default(), slow()).await;
    let mut first = world.client().await;
    let left = tokio::time::timeout(Duration::from_millis(50), first.get("/")).await;
    assert!(left.is_err(), "there is no answer yet");
    drop(first);
    // The second one comes while the call of the first is under way.
    assert_eq!(world.get("/whoami").await.status, 200);
    assert_eq!(world.refreshes(), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_start_without_the_region_is_alive_not_ready_and_recovers() {
    let down = |region: &regent::demo::region::Region| region.down(Outage::Refuse);
    let world = World::start_with(Setup::default(), down).await;
    let answer = world.get("/").await;
    assert_eq!((answer.status, &*answer.reason()), (503, "no_access_token"));
    assert_eq!(world.probe("/livez").await, 200);
    let started = world.admin(Method::GET, "/startupz").await;
    assert_eq!(started.status, 503);
    let waiting = serde_json::json!(["access_token"]);
    assert_eq!(started.json()["waiting_for"], waiting);
    let ready = world.admin(Method::GET, "/readyz").await;
    assert_eq!(ready.status, 503);
    let why = ready.json()["why"].to_string();
    assert!(why.contains("connection refused"), "{why}");

    world.region(Side::A).up();
    // Nobody asks for it: it comes back by itself within the back-off's cap.
    tokio::time::sleep(Duration::from_secs(125)).await;
    assert_eq!(world.probe("/startupz").await, 200);
    assert_eq!(world.probe("/readyz").await, 200);
    assert_eq!(world.get("/whoami").await.status, 200);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn startup_require_ends_with_a_refused_login() {
    let setup = Setup {
        sets: vec!["region.startup=require".to_owned()],
        ..Setup::default()
    };
    let refuse = |region: &regent::demo::region::Region| {
        region.change(|settings| settings.users[0].active = false);
    };
    let mut world = World::start_with(setup, refuse).await;
    assert_eq!(world.ended().await, Exit::LoginRefused);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn startup_require_waits_for_a_region_that_is_away() {
    let setup = Setup {
        sets: vec!["region.startup=require".to_owned()],
        ..Setup::default()
    };
    let down = |region: &regent::demo::region::Region| region.down(Outage::Refuse);
    let world = World::start_with(setup, down).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(!world.running.is_finished());
    world.region(Side::A).up();
    tokio::time::sleep(Duration::from_secs(125)).await;
    assert_eq!(world.get("/").await.status, 200);
    // Once it has begun, a refused login parks.
    world
        .region(Side::A)
        .change(|settings| settings.users[0].active = false);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(world.get("/").await.reason(), "login_refused");
    assert!(!world.running.is_finished());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn startup_wait_goes_on_after_a_refused_login() {
    let refuse = |region: &regent::demo::region::Region| {
        region.change(|settings| settings.users[0].active = false);
    };
    let world = World::start_with(Setup::default(), refuse).await;
    assert_eq!(world.get("/").await.reason(), "login_refused");
    assert!(!world.running.is_finished());
    assert_eq!(world.stop().await, Exit::Stopped);
}

#[test]
fn no_two_sidecars_throw_the_same_dice() {
    let throw = || regent::app::Deps::system().dice.u64(..);
    assert_ne!(throw(), throw());
}

/// A route that fell away would hand its requests, with the token, to another route's upstream.
#[tokio::test(flavor = "local", start_paused = true)]
async fn an_upstream_that_no_certificate_can_name_is_told_at_its_key() {
    let world = World::start(Setup::default()).await;
    let told = "has a host that no certificate can name; write the host's own name";
    for (set, key) in [
        (
            "outbound.upstream=https://*.example.com",
            "outbound.upstream",
        ),
        (
            r#"outbound.routes=[{"path": "/", "token": "none"}, {"path": "/models", "upstream": "https://region-.example.com"}]"#,
            "outbound.routes[1].upstream",
        ),
    ] {
        let problems = world.reload(Side::A, &[set]).await.expect_err(set);
        assert_eq!(problems.len(), 1, "{problems:?}");
        let text = &problems[0].text;
        assert_eq!(*text, format!("{key}: {told}"));
    }
    assert_eq!(world.get("/").await.status, 200);
}

/// `region.url` is judged with the config; what a store names must not get round that.
#[tokio::test(flavor = "local", start_paused = true)]
async fn a_stored_region_in_the_clear_is_refused_unless_the_config_says_so() {
    let world = World::start(Setup::default()).await;
    let folder = world.folder.path();
    let token = world
        .region(Side::A)
        .issue_refresh("alice@example.com")
        .expect("alice");
    let stored = |url: &str| {
        let text = serde_json::json!({
            "version": 1, "region": url, "refresh_token": token.expose(),
        });
        std::fs::write(folder.join("login.json"), text.to_string()).expect("written");
        let text = format!(
            "[k8s]\ndefault_region_key = alice@{}\n[k8s_config_0]\nhost_url = {url}\n\
             email = alice@example.com\nusername = alice\nrefresh_token = {}\n",
            url.split_once("://").expect("a scheme").1,
            token.expose()
        );
        std::fs::write(folder.join("core.conf"), text).expect("written");
    };
    for (key, file) in [("login_file", "login.json"), ("core_conf", "core.conf")] {
        let config = |more: &str| {
            world.write_config(&format!(
                "[region]\n{more}[region.credential]\n{key} = {:?}\n",
                folder.join(file)
            ));
        };
        stored("http://region.example:9001");
        config("");
        let problems = world.remote.reread().await.expect_err(key);
        assert_eq!(problems.len(), 1, "{problems:?}");
        let text = &problems[0].text;
        assert!(
            text.starts_with("region.url: ") && text.contains("insecure_http"),
            "{text}"
        );
        config("insecure_http = true\n");
        world.remote.reread().await.expect(key);
        for url in ["https://region.example:9001", "http://127.0.0.1:9001"] {
            stored(url);
            config("");
            world.remote.reread().await.expect(key);
        }
    }
}
