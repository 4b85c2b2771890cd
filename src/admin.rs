//! The admin listener: probes for a kubelet, quit and reload for people and Jobs.
//!
//! - `/livez`: every data thread answers. It depends on no region.
//! - `/startupz`: every latch is open; what is missing is listed.
//! - `/readyz`: as `/startupz` until then; after that 503 only where every request would fail.
//!   Anything else that is wrong is `degraded` in a 200.
//! - `/status`, a page for people, and `/status.json`; `/config`, as `regent check` prints it.
//! - Web pages are refused as on the outbound listener; peers that are not loopback get the probes
//!   and the metrics alone.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderName, HeaderValue, Request, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::{AbortHandle, spawn_local};
use tower::ServiceExt as _;

use crate::clock::{Boot, Clock};
use crate::config::Loaded;
use crate::lifecycle::{Latches, Stage, Stop};
use crate::net::{Io, Listener, Shortage};
use crate::proxy::Policy;
use crate::proxy::guard::Guard;
use crate::proxy::headers::Seen;
use crate::proxy::respond::{PROXY_STATUS, Refusal, problem_json, proxy_status};
use crate::reason::Reason;
use crate::telemetry::counters::Counters;

mod metrics;
mod page;
mod probes;
mod status;
#[cfg(test)]
mod tests;

pub use probes::Verdict;

/// From the first byte of a request's head, or the end of the answer before it, to the head's last.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// This build's version.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// And what it was built from.
const COMMIT: &str = match option_env!("REGENT_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// The config in force, and what became of reading it again.
#[derive(Clone, Debug)]
pub struct Configured {
    /// What was read, with its origins.
    pub loaded: Arc<Loaded>,
    /// When it was taken. Seconds since the epoch.
    pub since_unix_s: i64,
    /// Reloads that were taken.
    pub taken: u64,
    /// Reloads that were refused.
    pub refused: u64,
    /// Why the last reload was refused, by lines; none where it was taken.
    pub problems: Vec<String>,
}

impl Configured {
    /// At the start.
    #[must_use]
    pub fn new(loaded: Arc<Loaded>, since_unix_s: i64) -> Configured {
        Configured {
            loaded,
            since_unix_s,
            taken: 0,
            refused: 0,
            problems: Vec::new(),
        }
    }
}

/// Reads the config again and takes it.
pub trait Reload: Send + Sync {
    /// `Err` holds a line for each problem.
    fn reload(
        &self,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), Vec<String>>> + Send + '_>>;
}

/// What the admin listener looks at.
#[derive(Clone)]
pub struct Board {
    /// What the start waits for.
    pub latches: Latches,
    /// How far down we are, and the way to ask for it.
    pub stop: Stop,
    /// The policy in force.
    pub policies: watch::Receiver<Arc<Policy>>,
    /// One for each data thread.
    pub counters: Arc<[Arc<Counters>]>,
    /// The clock.
    pub clock: Clock,
    /// When we started.
    pub since: Boot,
    /// The config in force.
    pub config: watch::Receiver<Configured>,
    /// For `POST /reload`.
    pub reload: Arc<dyn Reload>,
    /// The most connections. Beyond these the oldest one goes, so that whoever holds many open keeps
    /// no probe out.
    pub connections: usize,
}

impl std::fmt::Debug for Board {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Board")
    }
}

/// Serves until the process ends.
pub async fn run(listener: Listener, board: Board) {
    let mut accept = match listener.start() {
        Ok(accept) => accept,
        Err(error) => {
            tracing::error!(%error, "the admin listener cannot be used");
            return;
        }
    };
    let most = board.connections;
    let router = router(board);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    let mut shortage = Shortage::default();
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let io = match accept.accept().await {
            Ok(io) => io,
            Err(error) => {
                shortage.met(&error);
                shortage.over().await;
                continue;
            }
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() >= most
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        open.push_back(spawn_local(serve(http.clone(), io, router.clone())).abort_handle());
    }
}

async fn serve(http: http1::Builder, io: Io, router: Router) {
    let peer = ConnectInfo(io.peer());
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request)
    });
    if let Err(error) = http.serve_connection(TokioIo::new(io), service).await {
        tracing::debug!(%error, "an admin connection ended early");
    }
}

fn router(board: Board) -> Router {
    let guard = Arc::new(Guard::new(
        &["localhost", "127.0.0.1", "[::1]"].map(str::to_owned),
        &[],
    ));
    let private = Router::new()
        .route("/status", get(page))
        .route("/status.json", get(status))
        .route("/config", get(config))
        .route("/quit", post(quit))
        .route("/reload", post(reload))
        .layer(middleware::from_fn(loopback_only));
    Router::new()
        .route("/livez", get(livez))
        .route("/startupz", get(startupz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics::answer))
        .merge(private)
        .layer(middleware::from_fn_with_state(guard, no_web_pages))
        .with_state(board)
}

async fn no_web_pages(
    State(guard): State<Arc<Guard>>,
    request: Request<Body>,
    next: Next,
) -> Response {
    let headers = request.headers();
    let seen = Seen::scan(headers);
    let judged = guard.judge(request.uri(), request.version(), headers, seen);
    let judged = match judged {
        // A kubelet calls by the pod's address.
        Err((Reason::HostNotAllowed, _)) if !is_loopback(&request) => {
            guard.judge_page(headers, seen)
        }
        judged => judged,
    };
    match judged {
        Ok(()) => next.run(request).await,
        Err((reason @ Reason::HostNotAllowed, _)) => refused(
            reason,
            "the Host header names another host; call http://localhost or http://127.0.0.1",
        ),
        Err((reason @ Reason::CrossSiteRequest, _)) => refused(
            reason,
            "a web page of another origin made this request, and none may",
        ),
        Err((reason, why)) => refused(reason, why),
    }
}

async fn loopback_only(request: Request<Body>, next: Next) -> Response {
    if is_loopback(&request) {
        return next.run(request).await;
    }
    refused(
        Reason::HostNotAllowed,
        "only programs in this pod or on this machine may ask for this",
    )
}

fn is_loopback(request: &Request<Body>) -> bool {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    peer.is_some_and(|peer| peer.0.ip().to_canonical().is_loopback())
}

fn refused(reason: Reason, why: &'static str) -> Response {
    let body = problem_json(reason, reason.status(), why);
    let said = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        ),
        (PROXY_STATUS, proxy_status(&Refusal::new(reason, why))),
    ];
    (reason.status(), FRESH, said, body).into_response()
}

/// No copy of an answer is any good.
const FRESH: [(HeaderName, &str); 1] = [(header::CACHE_CONTROL, "no-store")];

fn answer(verdict: Verdict) -> Response {
    let status = if verdict.ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, FRESH, Json(verdict.body)).into_response()
}

async fn page(State(board): State<Board>) -> Response {
    (FRESH, page::HEADERS, page::render(&board.status())).into_response()
}

async fn status(State(board): State<Board>) -> Response {
    (FRESH, Json(board.status())).into_response()
}

async fn config(State(board): State<Board>) -> Response {
    let loaded = Arc::clone(&board.config.borrow().loaded);
    (FRESH, loaded.render()).into_response()
}

async fn livez(State(board): State<Board>) -> Response {
    answer(board.live())
}

async fn startupz(State(board): State<Board>) -> Response {
    answer(board.started())
}

async fn readyz(State(board): State<Board>) -> Response {
    answer(board.ready())
}

async fn quit(State(board): State<Board>) -> Response {
    tracing::info!("asked to quit");
    board.stop.advance(Stage::Drain);
    let body = json!({ "draining": true });
    answer(Verdict { ok: true, body })
}

async fn reload(State(board): State<Board>) -> Response {
    match board.reload.reload().await {
        Ok(()) => {
            let body = json!({ "reloaded": true });
            answer(Verdict { ok: true, body })
        }
        Err(problems) => {
            let body = Json(json!({ "reloaded": false, "problems": problems }));
            (StatusCode::UNPROCESSABLE_ENTITY, body).into_response()
        }
    }
}
