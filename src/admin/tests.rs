//! The probes as functions of the board, and who may ask for what.

use axum::body::Body;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use super::*;
use crate::clock::Boot;
use crate::config::load::{Environment, Sources, load};
use crate::proxy::guard;
use crate::proxy::outbound::{Outbound, Route};
use crate::proxy::paths::{Entry, Paths};
use crate::secret::Secret;
use crate::telemetry::counters::Side;
use crate::token::{Handle, Phase, State as TokenState, Token, Wishes};

/// A board, and the ends of it that the app holds.
struct Case {
    board: Board,
    tokens: watch::Sender<Arc<TokenState>>,
    _wishes: Arc<Wishes>,
    policies: watch::Sender<Arc<Policy>>,
    configured: watch::Sender<Configured>,
}

struct Refuses;

impl Reload for Refuses {
    fn reload(
        &self,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), Vec<String>>> + Send + '_>> {
        Box::pin(async { Err(vec!["regent.toml:1:1: is wrong".to_owned()]) })
    }
}

impl Case {
    fn new() -> Case {
        let clock = Clock::manual(1_700_000_000);
        let (handle, tokens, wishes) = Handle::new(TokenState {
            token: None,
            attempts: 0,
            phase: Phase::Working,
            force_allowed_at: Boot::default(),
            degraded: Vec::new(),
        });
        let (policies, policy) = watch::channel(Arc::new(policy(handle, Vec::new())));
        let latches = Latches::default();
        latches.latch("config").open();
        let sources = Sources::discover(
            Vec::new(),
            vec!["region.url=https://region.example".to_owned()],
            Environment::default(),
            false,
        );
        let loaded = load(&sources).expect("a good config");
        let (configured, config) = watch::channel(Configured::new(Arc::new(loaded), clock.unix()));
        let board = Board {
            latches,
            stop: Stop::default(),
            policies: policy,
            counters: Arc::new([Arc::default(), Arc::default()]),
            since: clock.boot(),
            clock,
            config,
            reload: Arc::new(Refuses),
            connections: 32,
        };
        Case {
            board,
            tokens,
            _wishes: wishes,
            policies,
            configured,
        }
    }

    /// The token plane says this; the token, where there is one, is good for so long.
    fn token(&self, good_for: Option<Duration>, phase: Phase, degraded: &[&str]) {
        let secret = Secret::from("canary-access");
        let token = good_for.map(|good_for| {
            Arc::new(Token {
                bearer: secret.bearer().expect("a plain word"),
                secret: secret.clone(),
                expires_at: self.board.clock.boot() + good_for,
                generation: 1,
                user: "alice".to_owned(),
            })
        });
        self.tokens.send_replace(Arc::new(TokenState {
            token,
            attempts: 1,
            phase,
            force_allowed_at: Boot::default(),
            degraded: degraded.iter().map(|text| (*text).to_owned()).collect(),
        }));
    }

    async fn ask(&self, method: Method, path: &str, peer: &str, headers: &[(&str, &str)]) -> Got {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::empty()).expect("a request");
        let peer: SocketAddr = peer.parse().expect("an address");
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = router(self.board.clone()).oneshot(request).await;
        let answer = answer.expect("a router never fails");
        let status = answer.status().as_u16();
        let headers = answer.headers().clone();
        let body = answer.into_body().collect().await.expect("whole");
        Got {
            status,
            headers,
            body: String::from_utf8(body.to_bytes().to_vec()).expect("text"),
        }
    }
}

struct Got {
    status: u16,
    headers: http::HeaderMap,
    body: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

fn policy(token: Handle, routes: Vec<Entry<Route>>) -> Policy {
    let outbound = Outbound {
        guard: guard::Guard::new(&[], &[]),
        routes: Paths::new(routes),
        default: Route {
            upstream: 0,
            token: true,
        },
        token: Some(token),
        hop: http::HeaderValue::from_static("hop"),
        keep_authorization: false,
        token_wait: Duration::from_secs(10),
        retry_unauthorized: true,
        replay_limit: 0,
    };
    Policy {
        epoch: 1,
        upstreams: Vec::new(),
        outbound: Some(outbound),
        inbound: None,
        body_limit: None,
        request_timeout: None,
        access_log: false,
    }
}

fn backing_off(case: &Case) -> Phase {
    Phase::BackingOff {
        retry_at: case.board.clock.boot() + Duration::from_secs(9),
        why: "no answer from the region".to_owned(),
    }
}

const LOOPBACK: &str = "127.0.0.1:40000";
const KUBELET: &str = "10.1.2.3:40000";
const LOCAL: [(&str, &str); 1] = [("host", "localhost:9180")];

#[tokio::test(start_paused = true)]
async fn a_start_lists_the_latches_that_are_still_shut() {
    let case = Case::new();
    let latch = case.board.latches.latch("access_token");
    for verdict in [case.board.started(), case.board.ready()] {
        assert!(!verdict.ok);
        assert_eq!(
            verdict.body["waiting_for"],
            serde_json::json!(["access_token"])
        );
    }
    case.token(Some(Duration::from_secs(60)), Phase::Working, &[]);
    latch.open();
    assert!(case.board.started().ok);
    assert!(case.board.ready().ok);
}

#[tokio::test(start_paused = true)]
async fn a_region_that_is_away_is_degraded_while_the_token_lasts_and_the_reason_after_that() {
    let case = Case::new();
    let told = ["no new access token: no answer from the region"];
    let phase = backing_off(&case);
    case.token(Some(Duration::from_secs(60)), phase.clone(), &told);
    let verdict = case.board.ready();
    assert!(verdict.ok);
    assert_eq!(verdict.body["degraded"], serde_json::json!(told));
    assert_eq!(verdict.body["why"], serde_json::json!([]));

    tokio::time::advance(Duration::from_secs(60)).await;
    let verdict = case.board.ready();
    assert!(!verdict.ok, "the token ended a moment ago");
    assert_eq!(
        verdict.body["why"],
        serde_json::json!(["no answer from the region"])
    );
    assert_eq!(verdict.body["degraded"], serde_json::json!([]), "said once");
    assert!(case.board.started().ok, "it has started all the same");
}

#[tokio::test(start_paused = true)]
async fn a_refused_login_is_the_reason_and_other_troubles_stay_listed() {
    let case = Case::new();
    let phase = Phase::Parked {
        why: "Token is blacklisted; put a new refresh token into that file".to_owned(),
    };
    let told = [
        "the rotated refresh token is in memory only",
        "no login works: Token is blacklisted; put a new refresh token into that file",
    ];
    case.token(None, phase, &told);
    let verdict = case.board.ready();
    assert!(!verdict.ok);
    let why = verdict.body["why"].to_string();
    assert!(why.contains("Token is blacklisted"), "{why}");
    assert_eq!(verdict.body["degraded"], serde_json::json!([told[0]]));
}

#[tokio::test(start_paused = true)]
async fn requests_that_need_no_token_keep_it_ready_without_one() {
    let case = Case::new();
    let handle = case
        .policies
        .borrow()
        .token()
        .cloned()
        .expect("there is one");
    let open = Entry {
        path: "/public".to_owned(),
        exact: false,
        methods: Vec::new(),
        value: Route {
            upstream: 0,
            token: false,
        },
    };
    case.policies
        .send_replace(Arc::new(policy(handle, vec![open])));
    case.token(None, backing_off(&case), &[]);
    let verdict = case.board.ready();
    assert!(verdict.ok);
    let degraded = verdict.body["degraded"].to_string();
    assert!(degraded.contains("no answer from the region"), "{degraded}");
}

#[tokio::test(start_paused = true)]
async fn draining_is_not_ready_and_alive() {
    let case = Case::new();
    case.token(Some(Duration::from_secs(60)), Phase::Working, &[]);
    case.board.stop.advance(Stage::Drain);
    let verdict = case.board.ready();
    assert!(!verdict.ok);
    assert_eq!(verdict.body["why"], serde_json::json!(["draining"]));
    assert!(case.board.live().ok);
}

#[tokio::test(start_paused = true)]
async fn a_data_thread_that_has_not_swept_for_long_is_not_alive() {
    let case = Case::new();
    tokio::time::advance(Duration::from_secs(10)).await;
    assert!(case.board.live().ok);
    case.board.counters[0].beat(case.board.clock.boot());
    tokio::time::advance(Duration::from_millis(1)).await;
    let verdict = case.board.live();
    assert!(!verdict.ok);
    assert_eq!(verdict.body["stuck_data_threads"], 1, "the other has swept");
    case.board.counters[1].beat(case.board.clock.boot());
    assert!(case.board.live().ok);
}

#[tokio::test(start_paused = true)]
async fn peers_that_are_not_loopback_get_the_probes_and_the_metrics_alone() {
    let case = Case::new();
    let pod = [("host", "10.1.2.4:9180")];
    for path in ["/livez", "/startupz", "/metrics"] {
        let got = case.ask(Method::GET, path, KUBELET, &pod).await;
        assert_eq!(got.status, 200, "{path}");
    }
    let got = case.ask(Method::GET, "/readyz", KUBELET, &pod).await;
    assert_eq!(got.status, 503, "answered, and there is no token yet");
    assert!(got.json()["reason"].is_null());
    let says_it_is_near = [
        LOCAL[0],
        ("x-forwarded-for", "127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("forwarded", "for=127.0.0.1"),
    ];
    let private = [
        (Method::POST, "/quit"),
        (Method::POST, "/reload"),
        (Method::GET, "/status"),
        (Method::GET, "/status.json"),
        (Method::GET, "/config"),
    ];
    for (method, path) in private {
        for headers in [&pod[..], &LOCAL, &says_it_is_near] {
            let got = case.ask(method.clone(), path, KUBELET, headers).await;
            assert_eq!(got.status, 403, "{path}");
            assert_eq!(got.json()["reason"], "host_not_allowed");
        }
    }
    assert_eq!(case.board.stop.stage(), Stage::Serve);
    for peer in [LOOPBACK, "[::1]:9", "[::ffff:127.0.0.1]:9"] {
        let case = Case::new();
        let got = case.ask(Method::POST, "/quit", peer, &LOCAL).await;
        assert_eq!(got.status, 200, "{peer}");
        assert_eq!(case.board.stop.stage(), Stage::Drain);
    }
}

#[tokio::test(start_paused = true)]
async fn web_pages_are_refused_whatever_they_ask_for() {
    let local = LOCAL[0];
    for (headers, status, reason) in [
        (
            &[("host", "evil.example:9180")][..],
            403,
            "host_not_allowed",
        ),
        (&[], 400, "bad_request"),
        (&[local, local], 400, "bad_request"),
        (
            &[local, ("origin", "https://evil.example")],
            403,
            "cross_site_request",
        ),
        (&[local, ("origin", "null")], 403, "cross_site_request"),
        (
            &[local, ("sec-fetch-site", "cross-site")],
            403,
            "cross_site_request",
        ),
        (
            &[local, ("sec-fetch-site", "same-site")],
            403,
            "cross_site_request",
        ),
    ] {
        let case = Case::new();
        for (method, path) in [
            (Method::POST, "/quit"),
            (Method::POST, "/reload"),
            (Method::GET, "/readyz"),
            (Method::GET, "/metrics"),
            (Method::GET, "/status.json"),
            (Method::GET, "/config"),
        ] {
            let got = case.ask(method, path, LOOPBACK, headers).await;
            assert_eq!(got.status, status, "{path} {headers:?}");
            assert_eq!(got.json()["reason"], reason, "{path} {headers:?}");
        }
        assert_eq!(case.board.stop.stage(), Stage::Serve);
    }
}

#[tokio::test(start_paused = true)]
async fn a_web_page_gets_no_further_by_the_name_of_a_pod() {
    let case = Case::new();
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let headers = [("host", "10.1.2.4:9180"), (name, value)];
        let got = case.ask(Method::GET, "/metrics", KUBELET, &headers).await;
        assert_eq!(got.status, 403, "{name}");
        assert_eq!(got.json()["reason"], "cross_site_request");
        assert_eq!(
            got.headers["proxy-status"],
            "regent; details=\"cross_site_request\""
        );
        assert_eq!(got.headers["cache-control"], "no-store");
        let detail = got.json()["detail"].to_string();
        assert!(!detail.contains("outbound"), "{detail}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_changes_something_takes_post_alone() {
    let case = Case::new();
    for path in ["/quit", "/reload"] {
        let got = case.ask(Method::GET, path, LOOPBACK, &LOCAL).await;
        assert_eq!(got.status, 405, "{path}");
    }
    assert_eq!(case.board.stop.stage(), Stage::Serve);
    let got = case.ask(Method::GET, "/nothing", LOOPBACK, &LOCAL).await;
    assert_eq!(got.status, 404);
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_is_refused_says_every_problem() {
    let case = Case::new();
    let got = case.ask(Method::POST, "/reload", LOOPBACK, &LOCAL).await;
    assert_eq!(got.status, 422);
    assert_eq!(got.json()["problems"][0], "regent.toml:1:1: is wrong");
}

#[tokio::test(start_paused = true)]
async fn metrics_count_by_reason_and_hold_no_token() {
    let case = Case::new();
    case.token(Some(Duration::from_secs(60)), Phase::Working, &[]);
    case.board.counters[0]
        .of(Side::Outbound)
        .refused(Reason::NoAccessToken);
    case.board.counters[1]
        .of(Side::Outbound)
        .refused(Reason::NoAccessToken);
    case.board.counters[1].of(Side::Outbound).connections(3);
    let got = case.ask(Method::GET, "/metrics", LOOPBACK, &LOCAL).await;
    for line in [
        "regent_refused_total{side=\"outbound\",reason=\"no_access_token\",enforced=\"true\"} 2",
        "regent_refused_total{side=\"outbound\",reason=\"login_refused\",enforced=\"true\"} 0",
        "regent_connections{side=\"outbound\"} 3",
        "regent_login_refused 0",
    ] {
        let found = got.body.lines().any(|found| found == line);
        assert!(found, "{line}\n{}", got.body);
    }
    assert!(!got.body.contains("canary"));
}

#[tokio::test(start_paused = true)]
async fn the_status_names_the_state_in_a_word_and_what_goes_with_it() {
    let case = Case::new();
    let latch = case.board.latches.latch("access_token");
    assert_eq!(case.board.status()["state"], "starting");
    latch.open();
    case.token(Some(Duration::from_secs(60)), Phase::Working, &[]);
    tokio::time::advance(Duration::from_secs(10)).await;
    let status = case.board.status();
    assert_eq!(status["state"], "ready");
    assert_eq!(status["uptime_s"], 10);
    let login = &status["outbound"]["login"];
    assert_eq!(login["user"], "alice");
    assert_eq!(login["token_expires_in_s"], 50);
    assert_eq!(login["state"], "logged in");
    assert_eq!(status.get("inbound"), None, "it does not run");

    let told = "no new access token: no answer from the region";
    case.token(Some(Duration::from_secs(60)), backing_off(&case), &[told]);
    let status = case.board.status();
    assert_eq!(status["state"], "degraded");
    assert_eq!(status["degraded"][0], told);
    assert_eq!(status["outbound"]["login"]["next_attempt_in_s"], 9);

    tokio::time::advance(Duration::from_secs(60)).await;
    let status = case.board.status();
    assert_eq!(status["state"], "not ready");
    assert_eq!(status["outbound"]["login"]["user"], Value::Null);
    let why = "Token is blacklisted".to_owned();
    let latch = case.board.latches.latch("issuer_keys");
    case.token(None, Phase::Parked { why }, &[]);
    let status = case.board.status();
    assert_eq!(status["state"], "not ready", "it waits in vain");
    assert_eq!(status["outbound"]["login"]["state"], "refused");
    latch.open();
    case.board.stop.advance(Stage::Drain);
    assert_eq!(case.board.status()["state"], "draining");
}

#[tokio::test(start_paused = true)]
async fn the_pages_hold_no_token() {
    let case = Case::new();
    case.token(Some(Duration::from_secs(60)), Phase::Working, &[]);
    for (path, word) in [
        ("/status", "<h1>Regent is ready</h1>"),
        ("/status.json", "\"user\":\"alice\""),
        ("/config", "https://region.example"),
    ] {
        let got = case.ask(Method::GET, path, LOOPBACK, &LOCAL).await;
        assert_eq!(got.status, 200, "{path}");
        assert!(got.body.contains(word), "{path}: {}", got.body);
        assert!(!got.body.contains("canary"), "{path}: {}", got.body);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_reload_is_degraded_until_one_is_taken() {
    let case = Case::new();
    case.token(Some(Duration::from_secs(60)), Phase::Working, &[]);
    case.configured.send_modify(|config| {
        config.refused += 1;
        config.problems = ["a.toml:1:1: is wrong", "a.toml:2:1: so is this"]
            .map(str::to_owned)
            .to_vec();
    });
    let verdict = case.board.ready();
    assert!(verdict.ok);
    let degraded = verdict.body["degraded"].to_string();
    assert!(degraded.contains("reload was refused"), "{degraded}");
    assert!(
        !degraded.contains("a.toml"),
        "for whoever is on this machine"
    );
    let status = case.board.status();
    assert_eq!(
        status["config"]["last_refused_for"][1],
        "a.toml:2:1: so is this"
    );
    case.configured
        .send_modify(|config| config.problems.clear());
    assert_eq!(case.board.ready().body["degraded"], serde_json::json!([]));
}

/// Over pipes: what a connection may cost.
mod connections {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;
    use crate::config::Listen;
    use crate::net::{Memory, Net as _};

    fn serving(case: &Case) -> impl Fn() -> DuplexStream + use<> {
        let at: SocketAddr = "127.0.0.1:9180".parse().expect("an address");
        let net = Memory::default();
        let listener = net.bind(&Listen::Tcp(at)).expect("pipes");
        spawn_local(run(listener, case.board.clone()));
        move || net.dial(at).expect("it listens")
    }

    async fn ask(io: &mut DuplexStream) -> String {
        let head = b"GET /startupz HTTP/1.1\r\nhost: localhost\r\n\r\n";
        io.write_all(head).await.expect("open");
        let mut answer = vec![0; 4096];
        let read = io.read(&mut answer).await.expect("an answer");
        String::from_utf8_lossy(&answer[..read]).into_owned()
    }

    /// Reads to the end; how long that took.
    async fn end(io: &mut DuplexStream) -> Duration {
        let began = tokio::time::Instant::now();
        let mut rest = Vec::new();
        let read = io.read_to_end(&mut rest);
        let read = tokio::time::timeout(Duration::from_secs(600), read).await;
        read.expect("it ends").expect("in order");
        began.elapsed()
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn a_head_that_does_not_come_ends_the_connection() {
        let dial = serving(&Case::new());
        let (mut silent, mut slow, mut idle) = (dial(), dial(), dial());
        slow.write_all(b"GET /livez HTTP/1.1\r\nhost")
            .await
            .expect("open");
        assert!(ask(&mut idle).await.starts_with("HTTP/1.1 200"));
        for io in [&mut silent, &mut slow, &mut idle] {
            assert!(end(io).await <= HEADER_TIMEOUT);
        }
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn many_open_connections_keep_no_probe_out() {
        let case = Case::new();
        let most = case.board.connections;
        let dial = serving(&case);
        let mut held: Vec<_> = (0..4 * most).map(|_| dial()).collect();
        let mut probe = dial();
        let answer = tokio::time::timeout(Duration::from_secs(1), ask(&mut probe)).await;
        assert!(answer.expect("at once").starts_with("HTTP/1.1 200"));
        // All but the newest are gone, before any timeout.
        let (newest, gone) = (held.split_off(3 * most + 1), held);
        for mut io in gone {
            assert_eq!(end(&mut io).await, Duration::ZERO);
        }
        assert_eq!(newest.len() + 1, most);
        for mut io in newest {
            assert!(ask(&mut io).await.starts_with("HTTP/1.1 200"));
        }
    }
}
