//! The tour must hold for a sidecar that does its job, and fail for each one that does not.
//!
//! Outbound's mistakes are a stand-in's, in front of Regent's own inbound; inbound's are made by
//! changing Regent's config.

use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tower::ServiceExt as _;
use url::Url;

use super::*;
use crate::clock::{Boot, Clock};
use crate::config::Config;
use crate::config::inbound::{Inbound, InboundAuthorization, Rule};
use crate::fetch;
use crate::secret::Secret;

/// Shorter than the tour's own; a machine that sleeps through it gets further tries.
const ACCESS_LIFETIME: Duration = Duration::from_secs(4);

/// What a stand-in gets wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    NeverLogsIn,
    NeverRefreshes,
    PassesTheUnauthorizedOn,
    SendsExpiredTokens,
    HidesThatItSendsExpiredTokens,
    SaysNotWhenToComeBack,
    StaysDown,
}

struct StandIn {
    flaw: Flaw,
    service: fetch::Service,
    inbound: SocketAddr,
    api: SocketAddr,
    clock: Clock,
    tokens: tokio::sync::Mutex<Tokens>,
}

struct Tokens {
    refresh: Secret,
    access: Option<(Secret, Boot)>,
    failed: bool,
}

impl StandIn {
    async fn refresh(&self, tokens: &mut Tokens) {
        if tokens.failed && self.flaw == Flaw::StaysDown {
            return;
        }
        let request = fetch::Request {
            method: Method::POST,
            url: Url::parse("http://region/console/api/auth/refresh/").expect("a URL"),
            headers: http::HeaderMap::new(),
            form: vec![("refresh", tokens.refresh.clone())],
            public_only: false,
        };
        let sent = self.clock.boot();
        let Ok(answer) = self.service.clone().oneshot(request).await else {
            tokens.failed = true;
            return;
        };
        let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        let field = |name: &str| Secret::from(body[name].as_str().expect("a token"));
        tokens.refresh = field("refresh");
        tokens.access = Some((field("access"), sent + ACCESS_LIFETIME));
    }

    fn sends_expired(&self) -> bool {
        let hides = self.flaw == Flaw::HidesThatItSendsExpiredTokens;
        hides || self.flaw == Flaw::SendsExpiredTokens
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let mut tokens = self.tokens.lock().await;
        let now = self.clock.boot();
        let due = match &tokens.access {
            None => self.flaw != Flaw::NeverLogsIn,
            Some((_, expires)) => {
                self.flaw != Flaw::NeverRefreshes
                    && expires.since(now) < ACCESS_LIFETIME.mul_f32(0.6)
            }
        };
        if due {
            self.refresh(&mut tokens).await;
        }
        for replay in [false, true] {
            let usable = tokens.access.clone().filter(|(_, expires)| {
                self.sends_expired() || now + Duration::from_secs(1) < *expires
            });
            let Some((token, _)) = usable else {
                break;
            };
            let path = request.uri().path();
            let to = if path.starts_with("/api") {
                self.api
            } else {
                self.inbound
            };
            let get = call::Get::new(to, path).with_token(&token);
            let answer = get.send().await.expect("both are always up");
            let refused = answer.status() == StatusCode::UNAUTHORIZED;
            if refused && replay && self.flaw == Flaw::HidesThatItSendsExpiredTokens {
                break;
            }
            if !refused || replay || self.flaw == Flaw::PassesTheUnauthorizedOn {
                return answer.map(Full::new);
            }
            self.refresh(&mut tokens).await;
        }
        let mut answer = Response::builder().status(503);
        if self.flaw != Flaw::SaysNotWhenToComeBack {
            answer = answer.header("retry-after", "1");
        }
        let body = r#"{"reason":"no_access_token","detail":"the region is away"}"#;
        answer.body(Full::from(body)).expect("an answer")
    }
}

/// A sidecar as `app` would start it: Regent's own inbound, and the stand-in before it.
async fn stand_in(flaw: Flaw, region: &Region, mut loaded: Loaded) -> Result<Sidecar, String> {
    let outbound = loaded.config.outbound.take();
    let mut routes = outbound.iter().flat_map(|side| &side.routes);
    let api = routes.find_map(|route| route.upstream.as_ref()?.port());
    let api = api.expect("the API's port");
    let config = loaded.config.clone();
    let running = sidecar::run(loaded).await?;
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.map_err(|error| error.to_string())?;
    let outbound = listener.local_addr().map_err(|error| error.to_string())?;
    let token_file = config.region.credential.refresh_token_file.expect("named");
    let refresh = std::fs::read_to_string(token_file).expect("alice's token");
    let stand_in = Arc::new(StandIn {
        flaw,
        service: region.service(),
        inbound: running.inbound.expect("inbound is in the config"),
        api: SocketAddr::from((Ipv4Addr::LOCALHOST, api)),
        clock: Clock::system(),
        tokens: tokio::sync::Mutex::new(Tokens {
            refresh: Secret::new(refresh),
            access: None,
            failed: false,
        }),
    });
    let mut accepting = JoinSet::new();
    accepting.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            let service = service_fn(|request| {
                let stand_in = Arc::clone(&stand_in);
                async move { Ok::<_, std::convert::Infallible>(stand_in.answer(request).await) }
            });
            let server = hyper::server::conn::http1::Builder::new();
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        }
    });
    Ok(Sidecar {
        outbound,
        inbound: running.inbound.expect("inbound is in the config"),
        admin: running.admin.expect("admin is in every config"),
        stop: Box::pin(async move {
            accepting.shutdown().await;
            running.stop.await;
        }),
    })
}

#[derive(Clone, Default)]
struct Transcript(Arc<Mutex<Vec<u8>>>);

impl Write for Transcript {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Transcript {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no panic").clone()).expect("text")
    }
}

/// Making keys is slow, and would stall the tours that run beside it.
fn regions(access_lifetime: Duration) -> Regions {
    static KEYS: OnceLock<[SigningKey; 3]> = OnceLock::new();
    let make = |_| SigningKey::generate().expect("a machine that can make a key");
    let keys = KEYS.get_or_init(|| [0, 1, 2].map(make));
    Regions::with(keys.clone(), access_lifetime)
}

async fn tour_of(pace: tour::Pace, regions: &Regions, start: impl Start) -> (bool, String) {
    let transcript = Transcript::default();
    let mut say = Say::new(transcript.clone());
    let never = std::future::pending();
    let held = whole(Some(pace), regions, &mut say, start, never).await;
    (held.expect("the demo runs"), transcript.text())
}

async fn tour_at(pace: tour::Pace, flaw: Flaw) -> (bool, String) {
    let pace = tour::Pace {
        access_lifetime: ACCESS_LIFETIME,
        ..pace
    };
    let regions = regions(ACCESS_LIFETIME);
    let home = Rc::new(regions.home.clone());
    let start = async move |loaded| stand_in(flaw, &home, loaded).await;
    tour_of(pace, &regions, start).await
}

#[tokio::test]
async fn the_tour_holds_for_a_sidecar_that_does_its_job() {
    all_steps_held(&tour_at(tour::Pace::default(), Flaw::None).await);
}

#[tokio::test]
async fn the_tour_holds_for_regent() {
    let pace = tour::Pace::default();
    let regions = regions(pace.access_lifetime);
    all_steps_held(&tour_of(pace, &regions, sidecar::start).await);
}

fn all_steps_held((held, text): &(bool, String)) {
    assert!(*held, "{text}");
    assert_eq!(text.matches("   ok: ").count(), 7, "{text}");
    assert!(!text.contains("FAILED") && !text.contains("eyJ"), "{text}");
    fits_a_page(text);
}

fn fits_a_page(text: &str) {
    let longest = text.lines().map(|line| line.chars().count()).max();
    assert!(longest <= Some(80), "{longest:?} columns:\n{text}");
}

#[tokio::test]
async fn the_tour_fails_at_the_step_that_outbound_gets_wrong() {
    let pace = tour::Pace::default();
    let soon = Duration::from_secs(1);
    let no_login = tour::Pace {
        patience: soon,
        ..pace
    };
    let no_return = tour::Pace {
        backoff_patience: soon,
        ..pace
    };
    // At the same time, since they wait for the most part.
    tokio::join!(
        fails(no_login, Flaw::NeverLogsIn, "1."),
        fails(pace, Flaw::NeverRefreshes, "5."),
        fails(pace, Flaw::PassesTheUnauthorizedOn, "6."),
        fails(pace, Flaw::SendsExpiredTokens, "7."),
        fails(pace, Flaw::HidesThatItSendsExpiredTokens, "7."),
        fails(pace, Flaw::SaysNotWhenToComeBack, "7."),
        fails(no_return, Flaw::StaysDown, "7."),
    );
}

/// The step that `number` begins must fail, and be the last one.
async fn fails(pace: tour::Pace, flaw: Flaw, number: &str) {
    ends_at(number, &tour_at(pace, flaw).await);
}

fn ends_at(number: &str, (held, text): &(bool, String)) {
    assert!(!held, "{text}");
    assert_eq!(text.matches("FAILED").count(), 1, "{text}");
    let (before, _) = text.split_once("FAILED").expect("a failed step");
    let step = before
        .lines()
        .rev()
        .find(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    let is_it = step.is_some_and(|step| step.starts_with(number));
    assert!(is_it, "not at {number}\n{text}");
}

#[tokio::test]
async fn the_tour_fails_at_the_step_that_inbound_gets_wrong() {
    tokio::join!(
        fails_with("1.", |config| inbound(config).rules = vec![open("/")]),
        fails_with("1.", |config| inbound(config).insecure_shadow_mode = true),
        fails_with("1.", |config| inbound(config).identity_headers.clear()),
        fails_with("1.", |config| {
            inbound(config).authorization = InboundAuthorization::Forward;
        }),
        fails_with("2.", |config| {
            let types = &mut inbound(config).issuers[0].token_types;
            types.push("refresh".to_owned());
        }),
        fails_with("3.", |config| inbound(config).issuers.truncate(1)),
        fails_with("3.", |config| {
            inbound(config).issuers[1].allow_unqualified_identity = true;
        }),
        fails_with("4.", |config| inbound(config).rules.clear()),
        fails_with("4.", |config| {
            inbound(config).rules = vec![open("/healthz")];
        }),
    );
}

fn inbound(config: &mut Config) -> &mut Inbound {
    config.inbound.as_mut().expect("the demo has an inbound")
}

/// Needs no token there.
fn open(path: &str) -> Rule {
    Rule {
        path: path.to_owned(),
        exact: false,
        methods: Vec::new(),
        anonymous: true,
        claims: Vec::new(),
    }
}

/// The step that `number` begins must fail for Regent with its config spoilt.
async fn fails_with(number: &str, spoil: impl Fn(&mut Config)) {
    let pace = tour::Pace::default();
    let start = async |mut loaded: Loaded| {
        spoil(&mut loaded.config);
        sidecar::start(loaded).await
    };
    let regions = regions(pace.access_lifetime);
    ends_at(number, &tour_of(pace, &regions, start).await);
}

/// What the demo says where no tour is asked for, until it is stopped.
#[tokio::test]
async fn the_demo_prints_what_to_try() {
    let transcript = Transcript::default();
    let mut say = Say::new(transcript.clone());
    let regions = regions(ACCESS_LIFETIME);
    let heard = transcript.clone();
    let until_said = async move {
        while !heard.text().contains("Ctrl-C ends it") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let ended = whole(None, &regions, &mut say, sidecar::start, until_said).await;
    assert!(ended.expect("it ran"));
    let text = transcript.text();
    fits_a_page(&text);
    for part in [
        "login http://127.0.0.1:",
        "regent explain",
        "/healthz",
        "/admin",
    ] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
    assert!(!text.contains("eyJ"), "{text}");
}

#[tokio::test]
async fn the_region_alone_says_how_to_log_in() {
    let region = regions(ACCESS_LIFETIME).home;
    let transcript = Transcript::default();
    let mut say = Say::new(transcript.clone());
    let ended = region_only(true, &region, &mut say, std::future::pending()).await;
    assert!(ended.expect("it ran"));
    let text = transcript.text();
    assert!(
        text.contains("regent login --region http://127.0.0.1:"),
        "{text}"
    );
    fits_a_page(&text);
}
