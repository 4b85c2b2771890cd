//! A new config while it runs: coherent, all or nothing, and without a failed request.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use http::Method;
use regent::config::Problem;
use regent::demo::region::{Fault, Kind, Outage, Region, User};
use regent::secret::Digest;
use tokio::task::JoinHandle;

use crate::world::{ADMIN, OUTBOUND, Setup, Side, World};

/// Callers that ask on and on, each on a connection of its own, until told to stop.
struct Load {
    stop: Rc<Cell<bool>>,
    callers: Vec<JoinHandle<usize>>,
}

impl Load {
    async fn on(world: &World) -> Load {
        let stop = Rc::new(Cell::new(false));
        let mut callers = Vec::new();
        for at in 0..8 {
            let mut client = world.client().await;
            let stop = Rc::clone(&stop);
            callers.push(tokio::task::spawn_local(async move {
                let mut requests = 0;
                while !stop.get() {
                    let answer = client.get("/load").await;
                    assert_eq!(answer.status, 200, "{answer:?}");
                    requests += 1;
                    tokio::time::sleep(Duration::from_millis(3 + at)).await;
                }
                requests
            }));
        }
        Load { stop, callers }
    }

    /// How many requests there were; every one succeeded.
    async fn end(self) -> usize {
        self.stop.set(true);
        let mut requests = 0;
        for caller in self.callers {
            requests += caller.await.expect("no failed request");
        }
        requests
    }
}

/// Neither region nor its workload has ever seen a token of the other's.
fn nothing_crossed(world: &World) {
    for side in [Side::A, Side::B] {
        let seen = world.upstream(side).seen();
        // A region takes its own tokens alone: it knows them by its signature.
        let foreign: Vec<_> = seen.iter().filter(|seen| seen.status != 200).collect();
        assert!(foreign.is_empty(), "{side:?}: {foreign:?}");
        let calls = world.region(side).calls();
        let refused = calls.iter().filter(|call| call.kind != Kind::Api);
        let refused: Vec<_> = refused
            .filter(|call| call.status.is_none_or(|status| !status.is_success()))
            .collect();
        assert!(refused.is_empty(), "{side:?}: {refused:?}");
    }
    let theirs = world.upstream(Side::B).tokens();
    let common = |token: &Digest| theirs.contains(token);
    assert!(!world.upstream(Side::A).tokens().iter().any(common));
}

fn told(problems: Result<(), Vec<Problem>>) -> Vec<String> {
    let problems = problems.expect_err("it is refused");
    problems.iter().map(Problem::to_string).collect()
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_reload_under_load_sends_no_token_to_the_other_region_and_fails_no_request() {
    let world = World::start(Setup::default()).await;
    let load = Load::on(&world).await;
    for round in 0..20 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let side = if round % 2 == 0 { Side::B } else { Side::A };
        world.reload(side, &[]).await.expect("a good config");
        // From here on everything goes to the new upstream.
        let before = world.upstream(side).seen().len();
        assert_eq!(world.get("/after").await.status, 200);
        let seen = world.upstream(side).seen();
        assert!(seen[before..].iter().any(|seen| seen.path == "/after"));
    }
    let requests = load.end().await;
    let at_a = world.upstream(Side::A).seen().len();
    let at_b = world.upstream(Side::B).seen().len();
    assert!(at_a > 100 && at_b > 100, "{at_a} {at_b}");
    assert_eq!(requests + 20, at_a + at_b);
    nothing_crossed(&world);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn requests_that_wait_for_the_old_regions_token_get_the_new_ones() {
    let down = |region: &regent::demo::region::Region| region.down(Outage::Silent);
    let world = World::start_with(Setup::default(), down).await;
    let mut waiting = Vec::new();
    for _ in 0..10 {
        let mut client = world.client().await;
        waiting.push(tokio::task::spawn_local(async move {
            client.get("/waited").await.status
        }));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = tokio::time::Instant::now();
    world.reload(Side::B, &[]).await.expect("a good config");
    for request in waiting {
        assert_eq!(request.await.expect("no panic"), 200);
    }
    // Nobody waited for the call to the old region to end.
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(world.upstream(Side::B).seen().len(), 10);
    assert!(world.upstream(Side::A).seen().is_empty());
    nothing_crossed(&world);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_reload_before_the_first_token_still_opens_the_latch() {
    let down = |region: &regent::demo::region::Region| region.down(Outage::Refuse);
    let world = World::start_with(Setup::default(), down).await;
    assert_eq!(world.probe("/startupz").await, 503);
    world.reload(Side::B, &[]).await.expect("a good config");
    assert_eq!(world.get("/").await.status, 200);
    assert_eq!(world.probe("/startupz").await, 200);
    assert_eq!(world.probe("/readyz").await, 200);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_rotated_token_that_is_in_memory_alone_survives_a_reload() {
    let setup = Setup {
        sets: vec!["region.credential.state=memory".to_owned()],
        ..Setup::default()
    };
    let world = World::start(setup).await;
    assert_eq!(world.get("/").await.status, 200);
    let ca_file = world.folder.path().join("ca.pem");
    let ca = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    std::fs::write(&ca_file, ca.cert.pem()).expect("written");
    let ca_file = format!("region.ca_file={}", ca_file.display());
    for more in [&[&*ca_file][..], &[], &[&*ca_file]] {
        world.reload(Side::A, more).await.expect("a good config");
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(world.get("/").await.status, 200, "{more:?}");
    }
    nothing_crossed(&world);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_token_that_is_good_outlives_a_reload_of_the_same_region_that_is_away() {
    let world = World::start(Setup::default()).await;
    assert_eq!(world.get("/").await.status, 200);
    let expiry = world.expiry(Duration::from_secs(60));
    world.region(Side::A).down(Outage::Silent);
    for more in [
        "region.credential.state=memory",
        "region.credential.allow_identity_change=true",
    ] {
        world.reload(Side::A, &[more]).await.expect("a good config");
        let began = tokio::time::Instant::now();
        assert_eq!(world.get("/").await.status, 200);
        assert_eq!(began.elapsed(), Duration::ZERO);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    world.sleep_until(expiry).await;
    assert_eq!(world.get("/").await.status, 503, "and no longer");
    world.region(Side::A).up();
    tokio::time::sleep(Duration::from_secs(125)).await;
    assert_eq!(world.get("/").await.status, 200);
    nothing_crossed(&world);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_refresh_that_ends_after_the_reload_leaves_its_token_to_the_next_login() {
    let world = World::start(Setup::default()).await;
    assert_eq!(world.get("/").await.status, 200);
    let first = world.expiry(Duration::from_secs(60));
    let latency = Duration::from_secs(5);
    world
        .region(Side::A)
        .change(|settings| settings.latency = latency);
    let asked = world.asked(Side::A).len();
    while world.asked(Side::A).len() == asked {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let more = "region.credential.allow_identity_change=true";
    world.reload(Side::A, &[more]).await.expect("a good config");
    // The call that is under way ends well; that of the next login does not.
    world.region(Side::A).down(Outage::Refuse);
    world.sleep_until(first).await;
    assert_eq!(world.get("/").await.status, 200, "the second token");
    nothing_crossed(&world);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_reload_does_not_make_it_another_user() {
    let world = World::start(Setup::default()).await;
    assert_eq!(world.get("/").await.status, 200);
    let region = world.region(Side::A);
    let bob = User::new("2", "bob", "bob@example.com", "builder");
    region.change(|settings| settings.users.push(bob));
    let token = region.issue_refresh("bob@example.com").expect("bob");
    let file = world.folder.path().join("bobs");
    std::fs::write(&file, token.expose()).expect("written");
    let bobs = format!("region.credential.refresh_token_file={}", file.display());
    world
        .reload(Side::A, &[&bobs])
        .await
        .expect("a good config");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.get("/").await.status, 200, "as alice");
    let ready = world.admin(Method::GET, "/readyz").await.json().to_string();
    assert!(ready.contains("allow_identity_change"), "{ready}");
    let allow = "region.credential.allow_identity_change=true";
    world
        .reload(Side::A, &[&bobs, allow])
        .await
        .expect("a good config");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let ready = world.admin(Method::GET, "/readyz").await.json().to_string();
    assert!(!ready.contains("allow_identity_change"), "{ready}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_refresh_that_is_under_way_is_kept_by_the_login_that_follows() {
    let world = World::start(Setup::default()).await;
    assert_eq!(world.get("/").await.status, 200);
    let latency = Duration::from_secs(5);
    world
        .region(Side::A)
        .change(|settings| settings.latency = latency);
    let asked = world.asked(Side::A).len();
    while world.asked(Side::A).len() == asked {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Its answer rotates the token; the new token plane must not spend the old one.
    let more = "region.credential.allow_identity_change=true";
    world.reload(Side::A, &[more]).await.expect("a good config");
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(world.get("/").await.status, 200);
    nothing_crossed(&world);
}

/// Somebody else refreshes the token, and nothing but the upstream says whose it is.
#[tokio::test(flavor = "local", start_paused = true)]
async fn without_a_region_the_token_of_one_upstream_never_goes_to_the_next() {
    let world = World::start(Setup::default()).await;
    assert_eq!(world.get("/").await.status, 200);
    let asked = world.asked(Side::A).len();
    let file = world.folder.path().join("access-token");
    for side in [Side::A, Side::B, Side::A] {
        let token = world.region(side).issue_access("alice@example.com");
        std::fs::write(&file, token.expect("alice").expose()).expect("written");
        world.write_config(&format!(
            "[region.credential]\naccess_token_file = {file:?}\n\
             [outbound]\nlisten = \"{OUTBOUND}\"\nupstream = \"http://{}\"\n\
             [admin]\nlisten = \"{ADMIN}\"\n",
            side.upstream()
        ));
        let answer = world.admin(Method::POST, "/reload").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(world.get("/").await.status, 200, "{side:?}");
    }
    nothing_crossed(&world);
    let now = (world.asked(Side::A).len(), world.asked(Side::B).len());
    assert_eq!(now, (asked, 0), "no region is asked");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_reload_that_changes_nothing_of_the_login_asks_the_region_nothing() {
    let world = World::start(Setup::default()).await;
    assert_eq!(world.get("/").await.status, 200);
    let asked = world.asked(Side::A).len();
    for more in [
        &[][..],
        &["region.startup=require"],
        &["outbound.token_wait=3s", "drain.timeout=5s"],
        &["limits.body_bytes=1KiB", "log.access=true"],
    ] {
        world.reload(Side::A, more).await.expect("a good config");
        assert_eq!(world.get("/").await.status, 200);
    }
    assert_eq!(world.asked(Side::A).len(), asked);
    let mut client = world.client().await;
    let body = vec![b'x'; 1025];
    let answer = client.send(Method::POST, "/", &[], body).await;
    assert_eq!(answer.expect("an answer").reason(), "too_large");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_cannot_change_is_refused_by_its_place_and_nothing_else_is_taken() {
    let world = World::start(Setup::default()).await;
    assert_eq!(world.get("/").await.status, 200);
    for (more, key) in [
        ("outbound.listen=127.0.0.1:8090", "outbound.listen"),
        ("admin.listen=127.0.0.1:9190", "admin.listen"),
        ("threads=2", "threads"),
        ("limits.header_bytes=16KiB", "limits.header_bytes"),
        ("limits.connections=10", "limits.connections"),
        ("limits.header_timeout=1s", "limits.header_timeout"),
        ("limits.idle_timeout=1s", "limits.idle_timeout"),
        ("log.level=debug", "log.level"),
        ("log.format=text", "log.format"),
    ] {
        let told = told(world.reload(Side::B, &[more]).await);
        let word = "cannot change while running; restart to change it";
        assert_eq!(told, [format!("--set {key}: {key}: {word}")]);
    }
    assert_eq!(world.get("/").await.status, 200);
    assert!(
        world.asked(Side::B).is_empty(),
        "the region of a refused config"
    );
    assert!(world.upstream(Side::B).seen().is_empty());

    let path = world.write_config(
        "threads = 1\n[outbound]\nlisten = \"127.0.0.1:8080\"\n\
         upstream = \"http://127.0.0.1:9102\"\n[admin]\n  listen = \"127.0.0.1:1\"\n",
    );
    let answer = world.admin(Method::POST, "/reload").await;
    assert_eq!(answer.status, 422);
    let problem = answer.json()["problems"][0]
        .as_str()
        .expect("one")
        .to_owned();
    let place = format!("{}:6:12: admin.listen: cannot change", path.display());
    assert!(problem.starts_with(&place), "{problem}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_invalid_config_leaves_the_one_that_runs() {
    let world = World::start(Setup::default()).await;
    assert_eq!(world.get("/").await.status, 200);
    let load = Load::on(&world).await;
    for (text, place) in [
        ("[outbound]\nlistn = 1\n", ":2:1: "),
        ("this is no TOML", ":1:"),
        // Well formed, and no region to log in to.
        (
            "[outbound]\nlisten = \"127.0.0.1:8080\"\n[region]\nca_file = \"/nowhere.pem\"\n",
            "region.url",
        ),
    ] {
        world.write_config(text);
        let answer = world.admin(Method::POST, "/reload").await;
        assert_eq!(answer.status, 422, "{text}");
        let problems = answer.json()["problems"].to_string();
        assert!(problems.contains(place), "{problems}");
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(load.end().await > 50);
    assert_eq!(world.probe("/readyz").await, 200);
    nothing_crossed(&world);
    // Whoever changed the file and looked away is told all the same.
    let ready = world.admin(Method::GET, "/readyz").await.json();
    let degraded = ready["degraded"].to_string();
    assert!(degraded.contains("reload was refused"), "{degraded}");
    let metrics = world.admin(Method::GET, "/metrics").await;
    let refused = "regent_config_reload_total{result=\"refused\"} 3";
    assert!(metrics.text().contains(refused), "{}", metrics.text());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_admin_pages_speak_of_the_config_that_was_taken_last() {
    let world = World::start(Setup::default()).await;
    assert_eq!(world.get("/").await.status, 200);
    let before = world.admin(Method::GET, "/config").await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    let status = world.admin(Method::GET, "/status.json").await.json();
    assert_eq!(status["config"]["age_s"], 100);

    world
        .reload(Side::B, &["outbound.token_wait=7s"])
        .await
        .expect("a good config");
    let after = world.admin(Method::GET, "/config").await;
    for (config, wait) in [(before, "10s"), (after, "7s")] {
        let mut lines = config.text().lines();
        let line = lines.find(|line| line.starts_with("outbound.token_wait"));
        let line = line.expect("every key is told");
        assert!(line.contains(wait), "{line}");
    }
    let status = world.admin(Method::GET, "/status.json").await.json();
    assert_eq!(status["config"]["age_s"], 0);
    assert_eq!(status["config"]["reloads"], 1);
    let upstream = status["outbound"]["upstream"].to_string();
    assert!(upstream.contains(":9102"), "{upstream}");
    let metrics = world.admin(Method::GET, "/metrics").await;
    let taken = "regent_config_reload_total{result=\"ok\"} 1";
    assert!(metrics.text().contains(taken), "{}", metrics.text());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn post_reload_reads_the_config_again() {
    let world = World::start(Setup::default()).await;
    assert_eq!(world.get("/").await.status, 200);
    let token = world.token_file(Side::B);
    world.write_config(&format!(
        "[region]\nurl = \"http://127.0.0.1:9002\"\n\
         [region.credential]\nrefresh_token_file = {:?}\n\
         [outbound]\nupstream = \"http://127.0.0.1:9102\"\n",
        token.display().to_string(),
    ));
    let answer = world.admin(Method::POST, "/reload").await;
    assert_eq!(
        (answer.status, answer.json()["reloaded"].as_bool()),
        (200, Some(true))
    );
    assert_eq!(world.get("/").await.status, 200);
    assert_eq!(world.upstream(Side::B).seen().len(), 1);
    nothing_crossed(&world);
}

/// Without `region.url` the region is the one that `regent login` stored: that file may name
/// another one at any time.
#[tokio::test(flavor = "local", start_paused = true)]
async fn a_login_to_another_region_takes_its_tokens_and_its_upstream_together() {
    let world = World::start(Setup::default()).await;
    let login = world.folder.path().join("login.json");
    let store = |side: Side| {
        let port = if side == Side::A { 9001 } else { 9002 };
        let region = world.region(side);
        let token = region.issue_refresh("alice@example.com").expect("alice");
        let text = serde_json::json!({
            "version": 1, "region": format!("http://127.0.0.1:{port}"),
            "refresh_token": token.expose(),
        });
        std::fs::write(&login, text.to_string()).expect("written");
    };
    // The region's own API is the upstream: nothing in the config names either.
    let text = format!(
        "[region.credential]\nlogin_file = {:?}\n[outbound]\n",
        login.display().to_string()
    );
    store(Side::A);
    for side in [Side::A, Side::B] {
        let port = if side == Side::A { 9001 } else { 9002 };
        let at = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let listener = regent::net::Net::bind(&world.net, &regent::config::Listen::Tcp(at));
        world.upstream(side).serve(listener.expect("pipes"));
    }
    world.write_config(&text);
    assert_eq!(world.admin(Method::POST, "/reload").await.status, 200);
    assert_eq!(world.get("/").await.status, 200);
    store(Side::B);
    assert_eq!(world.admin(Method::POST, "/reload").await.status, 200);
    assert_eq!(world.get("/").await.status, 200);
    assert_eq!(world.upstream(Side::A).seen().len(), 1);
    assert_eq!(world.upstream(Side::B).seen().len(), 1);
    nothing_crossed(&world);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn routes_that_need_no_token_any_more_end_the_login() {
    let world = World::start(Setup::default()).await;
    assert_eq!(world.get("/").await.status, 200);
    let open = r#"outbound.routes=[{"path": "/", "token": "none"}]"#;
    world.reload(Side::A, &[open]).await.expect("a good config");
    let answer = world.get("/").await;
    assert_eq!(answer.status, 401, "no token was sent");
    assert_eq!(world.probe("/readyz").await, 200);
    let asked = world.asked(Side::A).len();
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(world.asked(Side::A).len(), asked);
    world.reload(Side::A, &[]).await.expect("a good config");
    assert_eq!(world.get("/").await.status, 200);
}

fn may_alice(region: &Region, active: bool) {
    region.change(|settings| settings.users[0].active = active);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_reload_wakes_a_parked_login_at_once() {
    let world = World::start_with(Setup::default(), |region| may_alice(region, false)).await;
    assert_eq!(world.get("/").await.reason(), "login_refused");
    tokio::time::sleep(Duration::from_secs(30)).await;
    may_alice(world.region(Side::A), true);
    assert_eq!(world.get("/").await.reason(), "login_refused");
    let asked = tokio::time::Instant::now();
    world.reload(Side::A, &[]).await.expect("a good config");
    assert_eq!(world.get("/").await.status, 200);
    assert!(asked.elapsed() < Duration::from_secs(1));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn many_reloads_ask_about_a_parked_login_once_in_five_seconds() {
    let world = World::start_with(Setup::default(), |region| may_alice(region, false)).await;
    assert_eq!(world.get("/").await.reason(), "login_refused");
    let before = world.asked(Side::A).len();
    for _ in 0..300 {
        world.reload(Side::A, &[]).await.expect("a good config");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let asked = world.asked(Side::A);
    assert!((5..=6).contains(&(asked.len() - before)), "{asked:?}");
    for pair in asked[before..].windows(2) {
        assert!(pair[1].since(pair[0]) >= Duration::from_secs(5));
    }
    // The last of them, which came too soon after another, is heeded all the same.
    may_alice(world.region(Side::A), true);
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(world.get("/").await.status, 200);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn no_reload_asks_before_the_regions_retry_after_is_over() {
    let world = World::start_with(Setup::default(), |region| may_alice(region, false)).await;
    assert_eq!(world.get("/").await.reason(), "login_refused");
    let region = world.region(Side::A);
    let told = vec![("retry-after", "120".to_owned())];
    let busy = Fault::Status(429, "{}".to_owned(), told);
    region.fail_next_of(Kind::Refresh, 1, busy);
    world.reload(Side::A, &[]).await.expect("a good config");
    assert_eq!(world.get("/").await.reason(), "no_access_token");
    may_alice(region, true);
    let asked = world.asked(Side::A).len();
    for _ in 0..119 {
        world.reload(Side::A, &[]).await.expect("a good config");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(world.asked(Side::A).len(), asked);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.get("/").await.status, 200);
}
