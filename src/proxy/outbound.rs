//! The way of an outbound request: guard, route, token, head, forward, answer.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, EXPECT, HOST};
use http::request::Parts;
use http::{HeaderValue, Request, StatusCode};
use hyper::body::Incoming;

use super::admit::{LOOP, admit, admit_method};
use super::bearer::{Bearer, Source};
use super::conn::Conn;
use super::deliver::{Answer, deliver};
use super::forward::{self, Prepared, Sending};
use super::guard::Guard;
use super::headers::{REQUEST_ID, Seen, request_id, strip_forwarded, strip_hop_by_hop};
use super::paths::{Match, Paths, TWO_WAYS, ambiguous};
use super::respond::Refusal;
use super::worker::{Begun, View, Worker};
use super::{Policy, Upstream};
use crate::clock::Boot;
use crate::reason::Reason;
use crate::telemetry::counters::Side;
use crate::token::{self, Now, Token};

/// The outbound side of one configuration.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// Who may call.
    pub guard: Guard,
    /// Empty: everything takes `default`.
    pub routes: Paths<Route>,
    /// Where requests go without routes.
    pub default: Route,
    /// The token plane of the region that this policy belongs to; `None` where no route needs one.
    pub token: Option<token::Handle>,
    /// This listener's own mark in `X-Regent-Hop`.
    pub hop: HeaderValue,
    /// A client's own Authorization passes.
    pub keep_authorization: bool,
    /// How long a request waits for a token that is under way.
    pub token_wait: Duration,
    /// One forced refresh and one replay on an upstream 401.
    pub retry_unauthorized: bool,
    /// The largest body that is kept for a replay. Bytes.
    pub replay_limit: u64,
}

impl Outbound {
    /// Whether some requests are forwarded without a token.
    #[must_use]
    pub fn serves_without_token(&self) -> bool {
        self.routes.values().any(|route| !route.token)
    }
}

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// An index into `Policy::upstreams`.
    pub upstream: usize,
    /// Whether it gets the access token.
    pub token: bool,
}

/// Judges a request, forwards it and brings back the answer.
///
/// # Errors
/// A refusal, with the reason that the caller is told.
pub async fn handle(
    worker: &Rc<Worker>,
    conn: &Conn,
    mut view: Rc<View>,
    request: Request<Incoming>,
    begun: Begun,
) -> Result<Answer, Refusal> {
    let mut now = begun.approved()?;
    admit_method(request.method())?;
    let seen = Seen::scan(request.headers());
    let (route, token) = loop {
        let outbound = side(&view.policy)?;
        let route = judge(&view.policy, outbound, &request, seen)?;
        let keeps_its_own = outbound.keep_authorization && seen.has(Seen::AUTHORIZATION);
        if !route.token || keeps_its_own {
            break (route, None);
        }
        match token_for(worker, &view, outbound, now).await? {
            Some(token) => break (route, Some(token)),
            // A reload while it waited: nothing was sent, so it is a request of the new policy.
            None => view = worker.view(),
        }
        now = worker.clock.boot();
    };
    let policy = &*view.policy;
    let outbound = side(policy)?;
    let upstream = &*policy.upstreams[route.upstream];
    let replays = token.is_some() && outbound.retry_unauthorized;
    let limits = forward::Limits {
        replay: if replays { outbound.replay_limit } else { 0 },
        body: policy.body_limit,
    };
    let mut host = None;
    let mut prepared = Prepared::new(upstream, conn, request, seen, limits, |parts| {
        host = rewrite(outbound, upstream, parts, seen, token.as_deref());
    })?;
    let sending = Sending {
        upstream,
        pool: &view.pools[route.upstream],
        upload: prepared.upload.as_ref(),
        bearer: match &token {
            Some(token) => Some(Bearer {
                expires_at: token.expires_at,
                source: source(worker, policy, outbound)?,
            }),
            None => None,
        },
    };
    let head = &mut prepared.head;
    let answer = exchange(worker, outbound, &sending, head, token.as_deref()).await?;
    deliver(answer, upstream, host.as_ref(), prepared.wish)
}

fn side(policy: &Policy) -> Result<&Outbound, Refusal> {
    policy
        .outbound
        .as_ref()
        .ok_or_else(|| Refusal::new(Reason::InternalError, "this config has no outbound side"))
}

/// Sends, and where the upstream says 401 to our token, once more with a newer one.
async fn exchange(
    worker: &Worker,
    outbound: &Outbound,
    sending: &Sending<'_>,
    head: &mut Parts,
    token: Option<&Token>,
) -> Result<forward::Answer, Refusal> {
    let response = sending.send(&*worker.net, head).await?;
    if response.status() != StatusCode::UNAUTHORIZED || !outbound.retry_unauthorized {
        return Ok(response);
    }
    let (Some(token), Some(Bearer { source, .. })) = (token, sending.bearer) else {
        return Ok(response);
    };
    if !sending.is_replayable() {
        // Nothing to wait for, but the next request shall not meet the same.
        source.tokens.force(token.generation);
        return Ok(response);
    }
    // The 401 stays unread until there is something better.
    let fresh = Box::pin(source.newer(token.generation)).await;
    let Some(fresh) = fresh.filter(|_| sending.is_replayable()) else {
        return Ok(response);
    };
    response.into_body().supersede();
    head.headers.insert(AUTHORIZATION, fresh.bearer.clone());
    let bearer = Some(Bearer {
        expires_at: fresh.expires_at,
        source,
    });
    let again = Sending { bearer, ..*sending };
    let answer = Box::pin(again.send(&*worker.net, head)).await?;
    if answer.status() != StatusCode::UNAUTHORIZED {
        worker.counters.of(Side::Outbound).recovered();
    }
    Ok(answer)
}

/// Where the tokens of a policy come from.
fn source<'a>(
    worker: &'a Worker,
    policy: &Policy,
    outbound: &'a Outbound,
) -> Result<Source<'a>, Refusal> {
    Ok(Source {
        worker,
        tokens: outbound.token.as_ref().ok_or_else(no_token_plane)?,
        epoch: policy.epoch,
        patience: outbound.token_wait,
    })
}

fn no_token_plane() -> Refusal {
    Refusal::new(Reason::InternalError, "no token plane for this route")
}

/// Who calls, how, and whereto.
fn judge(
    policy: &Policy,
    outbound: &Outbound,
    request: &Request<Incoming>,
    seen: Seen,
) -> Result<Route, Refusal> {
    let (headers, method) = (request.headers(), request.method());
    outbound
        .guard
        .judge(request.uri(), request.version(), headers, seen)
        .map_err(|(reason, why)| Refusal::new(reason, why))?;
    admit(policy, &outbound.hop, request, seen)?;
    if outbound.routes.is_empty() {
        return Ok(outbound.default);
    }
    let path = request.uri().path();
    if let Some(why) = ambiguous(path) {
        return Err(Refusal::new(Reason::AmbiguousPath, why));
    }
    match outbound.routes.find(path, method) {
        Match::Found(route) => Ok(*route),
        Match::TwoWays => Err(Refusal::new(Reason::AmbiguousPath, TWO_WAYS)),
        Match::NoPath => Err(Refusal::new(
            Reason::NoRoute,
            "no entry of outbound.routes has this path",
        )),
        Match::NoMethod(allow) => Err(Refusal {
            allow: Some(allow),
            ..Refusal::new(
                Reason::MethodNotAllowed,
                "the entries of outbound.routes with this path have other methods",
            )
        }),
    }
}

/// The token for a request: at once where there is one, else as long as waiting makes sense. `None`:
/// the view is not the present one any more.
async fn token_for(
    worker: &Worker,
    view: &View,
    outbound: &Outbound,
    now: Boot,
) -> Result<Option<Arc<Token>>, Refusal> {
    let Some(state) = &view.token else {
        return Err(no_token_plane());
    };
    match state.at(now) {
        Now::Ready(token) => Ok(Some(token)),
        _ => {
            let source = source(worker, &view.policy, outbound)?;
            Box::pin(source.wait()).await
        }
    }
}

/// Makes the head that the upstream gets. Answers the Host that the caller used.
fn rewrite(
    outbound: &Outbound,
    upstream: &Upstream,
    parts: &mut Parts,
    seen: Seen,
    token: Option<&Token>,
) -> Option<HeaderValue> {
    let headers = &mut parts.headers;
    strip_hop_by_hop(headers, seen);
    strip_forwarded(headers, seen);
    if seen.has(Seen::EXPECT) {
        headers.remove(EXPECT);
    }
    let host = headers.insert(HOST, upstream.host.clone());
    if let Some(token) = token {
        headers.insert(AUTHORIZATION, token.bearer.clone());
    }
    if !seen.has(Seen::REQUEST_ID) {
        headers.insert(REQUEST_ID, request_id());
    }
    headers.append(LOOP, outbound.hop.clone());
    host
}
