//! The tour against a stand-in for the sidecar: it must hold for one that does its job, and fail
//! for each one that does not.

use std::rc::Rc;
use std::sync::{Arc, Mutex};

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
use crate::clock::Boot;
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
    workload: SocketAddr,
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
            let answer = forward(self.workload, request.uri().path(), &token).await;
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

async fn forward(workload: SocketAddr, path: &str, token: &Secret) -> Response<Bytes> {
    let client = call::get_as(workload, path, Some(token)).await;
    client.expect("the workload is always up")
}

/// A sidecar as `app` would start it.
async fn stand_in(flaw: Flaw, region: &Region, loaded: Loaded) -> Result<Sidecar, String> {
    let config = loaded.config;
    let upstream = config
        .outbound
        .as_ref()
        .and_then(|side| side.upstream.as_ref());
    let port = upstream.and_then(Url::port).expect("the workload's port");
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.map_err(|error| error.to_string())?;
    let outbound = listener.local_addr().map_err(|error| error.to_string())?;
    let token_file = config.region.credential.refresh_token_file.expect("named");
    let refresh = std::fs::read_to_string(token_file).expect("alice's token");
    let stand_in = Arc::new(StandIn {
        flaw,
        service: region.service(),
        workload: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        clock: Clock::system(),
        tokens: tokio::sync::Mutex::new(Tokens {
            refresh: Secret::new(refresh),
            access: None,
            failed: false,
        }),
    });
    let mut running = JoinSet::new();
    running.spawn(async move {
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
        admin: None,
        stop: Box::pin(async move { running.shutdown().await }),
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

async fn tour_at(pace: tour::Pace, flaw: Flaw) -> (bool, String) {
    let pace = tour::Pace {
        access_lifetime: ACCESS_LIFETIME,
        ..pace
    };
    let region = new_region(ACCESS_LIFETIME).expect("a region");
    let transcript = Transcript::default();
    let mut say = Say::new(transcript.clone());
    let region_of_stand_in = Rc::new(region.clone());
    let start = async move |config| stand_in(flaw, &region_of_stand_in, config).await;
    let never = std::future::pending();
    let held = whole(Some(pace), &region, &mut say, start, never).await;
    (held.expect("the demo runs"), transcript.text())
}

#[tokio::test]
async fn the_tour_holds_for_a_sidecar_that_does_its_job() {
    all_steps_held(tour_at(tour::Pace::default(), Flaw::None).await);
}

#[tokio::test]
async fn the_tour_holds_for_regent() {
    let pace = tour::Pace::default();
    let region = new_region(pace.access_lifetime).expect("a region");
    let transcript = Transcript::default();
    let mut say = Say::new(transcript.clone());
    let never = std::future::pending();
    let held = whole(Some(pace), &region, &mut say, sidecar::start, never).await;
    all_steps_held((held.expect("the demo runs"), transcript.text()));
}

fn all_steps_held((held, text): (bool, String)) {
    assert!(held, "{text}");
    assert_eq!(text.matches("   ok: ").count(), 4, "{text}");
    assert!(!text.contains("FAILED") && !text.contains("eyJ"), "{text}");
    let longest = text.lines().map(|line| line.chars().count()).max();
    assert!(longest <= Some(80), "{longest:?} columns:\n{text}");
}

#[tokio::test]
async fn the_tour_fails_at_the_step_that_a_sidecar_gets_wrong() {
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
        fails(pace, Flaw::NeverRefreshes, "2."),
        fails(pace, Flaw::PassesTheUnauthorizedOn, "3."),
        fails(pace, Flaw::SendsExpiredTokens, "4."),
        fails(pace, Flaw::HidesThatItSendsExpiredTokens, "4."),
        fails(pace, Flaw::SaysNotWhenToComeBack, "4."),
        fails(no_return, Flaw::StaysDown, "4."),
    );
}

/// The step that `number` begins must fail, and be the last one.
async fn fails(pace: tour::Pace, flaw: Flaw, number: &str) {
    let (held, text) = tour_at(pace, flaw).await;
    assert!(!held, "{text}");
    assert_eq!(text.matches("FAILED").count(), 1, "{text}");
    let (before, _) = text.split_once("FAILED").expect("a failed step");
    let step = before
        .lines()
        .rev()
        .find(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    assert!(step.is_some_and(|step| step.starts_with(number)), "{text}");
}

#[tokio::test]
async fn the_region_alone_says_how_to_log_in() {
    let region = new_region(ACCESS_LIFETIME).expect("a region");
    let transcript = Transcript::default();
    let mut say = Say::new(transcript.clone());
    let ended = region_only(true, &region, &mut say, std::future::pending()).await;
    assert!(ended.expect("it ran"));
    let text = transcript.text();
    assert!(
        text.contains("regent login --region http://127.0.0.1:"),
        "{text}"
    );
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
}
