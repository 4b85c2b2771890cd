//! The way of an outbound request: guard, route, token, head, forward, answer.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::body::Body;
use super::forward::{self, Bearer, Sending};
use super::headers::{Seen, frame, strip_forwarded, strip_hop_by_hop};
use super::location;
use super::paths::{Match, ambiguous};
use super::respond::Refusal;
use super::tunnel;
use super::upload::{RequestBody, Upload};
use super::worker::{Conn, View, Worker};
use super::{Policy, Route, Upstream};
use crate::clock::Boot;
use crate::reason::Reason;
use crate::token::{Now, Token};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const LOOP: HeaderName = HeaderName::from_static("x-regent-hop");

/// What comes of a request.
#[derive(Debug)]
pub enum Answer {
    /// An answer.
    Plain(Response<Body>),
    /// A 101, and the two ends of the tunnel: downstream and upstream.
    Tunnel(Response<Body>, Box<(OnUpgrade, OnUpgrade)>),
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
    started: Boot,
) -> Result<Answer, Refusal> {
    let seen = Seen::scan(request.headers());
    let mut now = started;
    let (route, token) = loop {
        let policy = &*view.policy;
        let route = judge(policy, &request, seen)?;
        let keeps_its_own = policy.keep_authorization && seen.has(Seen::AUTHORIZATION);
        if !route.token || keeps_its_own {
            break (route, None);
        }
        match token_for(worker, &view, now).await? {
            Some(token) => break (route, Some(token)),
            // A reload while it waited: nothing was sent, so it is a request of the new policy.
            None => view = worker.view(),
        }
        now = worker.clock.boot();
    };
    let policy = &*view.policy;
    let upstream = &*policy.upstreams[route.upstream];
    let prepared = prepare(policy, upstream, conn, request, seen, token.as_deref())?;
    let mut saved = conn.saved.take();
    saved.keep(&prepared.request);
    let sending = Sending {
        upstream,
        pool: &view.pools[route.upstream],
        saved: &saved,
        upload: prepared.upload.as_ref(),
        bearer: token
            .as_deref()
            .and_then(|token| bearer(worker, policy, token)),
    };
    let answer = exchange(worker, policy, &sending, prepared.request, token.as_deref()).await;
    saved.clear();
    conn.saved.replace(saved);
    deliver(answer?, upstream, &prepared.host, prepared.wish)
}

/// A request as the upstream gets it, and what its answer needs.
struct Prepared {
    request: Request<RequestBody>,
    upload: Option<Rc<Upload>>,
    /// The Host that the caller used.
    host: HeaderValue,
    wish: Option<tunnel::Wish>,
}

fn prepare(
    policy: &Policy,
    upstream: &Upstream,
    conn: &Conn,
    request: Request<Incoming>,
    seen: Seen,
    token: Option<&Token>,
) -> Result<Prepared, Refusal> {
    let (mut parts, incoming) = request.into_parts();
    let has_body = !http_body::Body::is_end_stream(&incoming);
    let wish = tunnel::wish(&mut parts, seen, has_body);
    let host = rewrite(policy, upstream, &mut parts, seen, token)?;
    if let Some(wish) = &wish {
        tunnel::announce(&mut parts.headers, wish.protocol.clone());
    }
    let upload = has_body.then(|| {
        let replays = token.is_some() && policy.retry_unauthorized;
        let limit = if replays { policy.replay_limit } else { 0 };
        Upload::new(incoming, limit, policy.body_limit, Arc::clone(&conn.signal))
    });
    let length = upload.as_ref().map_or(Some(0), |upload| upload.length());
    frame(&mut parts.headers, length, seen.has(Seen::CONTENT_LENGTH));
    let body = upload
        .as_ref()
        .map_or_else(RequestBody::empty, Upload::sending);
    Ok(Prepared {
        request: Request::from_parts(parts, body),
        upload,
        host,
        wish,
    })
}

/// Sends, and where the upstream says 401 to our token, once more with a newer one.
async fn exchange(
    worker: &Worker,
    policy: &Policy,
    sending: &Sending<'_>,
    request: Request<RequestBody>,
    token: Option<&Token>,
) -> Result<forward::Answer, Refusal> {
    let (response, lease) = sending.send(&*worker.net, request).await?;
    if response.status() != StatusCode::UNAUTHORIZED || !policy.retry_unauthorized {
        return Ok((response, lease));
    }
    let Some(token) = token else {
        return Ok((response, lease));
    };
    if !sending.is_replayable() {
        // Nothing to wait for, but the next request shall not meet the same.
        if let Some(handle) = &policy.token {
            handle.force(token.generation);
        }
        return Ok((response, lease));
    }
    // The 401 stays unread until there is something better.
    let fresh = Box::pin(newer_token(worker, policy, token.generation)).await;
    let Some(fresh) = fresh.filter(|_| sending.is_replayable()) else {
        return Ok((response, lease));
    };
    lease.supersede();
    drop(response);
    let mut request = sending.again();
    request
        .headers_mut()
        .insert(AUTHORIZATION, fresh.bearer.clone());
    let bearer = bearer(worker, policy, &fresh);
    let again = Sending { bearer, ..*sending };
    let answer = Box::pin(again.send(&*worker.net, request)).await?;
    if answer.0.status() != StatusCode::UNAUTHORIZED {
        worker.counters.recovered();
    }
    Ok(answer)
}

fn bearer<'a>(worker: &'a Worker, policy: &'a Policy, token: &Token) -> Option<Bearer<'a>> {
    Some(Bearer {
        expires_at: token.expires_at,
        tokens: policy.token.as_ref()?,
        clock: &worker.clock,
    })
}

/// Who calls, how, and whereto.
fn judge(policy: &Policy, request: &Request<Incoming>, seen: Seen) -> Result<Route, Refusal> {
    let (headers, method) = (request.headers(), request.method());
    let refused = |(reason, why)| Refusal::new(reason, why);
    policy
        .guard
        .judge(request.uri(), request.version(), headers, seen)
        .map_err(refused)?;
    if seen.has(Seen::HOP) && !is_plainly_coded(headers) {
        return Err(Refusal::new(
            Reason::BadRequest,
            "Transfer-Encoding may only be \"chunked\"",
        ));
    }
    if [Method::CONNECT, Method::TRACE].contains(method) || *method == "TRACK" {
        return Err(Refusal {
            allow: Some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS".to_owned()),
            ..Refusal::new(Reason::MethodNotAllowed, "this method is never forwarded")
        });
    }
    let path = request.uri().path();
    let asterisk = path == "*" && *method == Method::OPTIONS && policy.routes.is_empty();
    if !path.starts_with('/') && !asterisk {
        return Err(Refusal::new(
            Reason::BadRequest,
            "the request's target is not a path",
        ));
    }
    if path.starts_with("//") || path.starts_with("/\\") {
        return Err(Refusal::new(
            Reason::AmbiguousPath,
            "the path begins with //, which can be read as another host",
        ));
    }
    if seen.has(Seen::LOOP) && headers.get_all(&LOOP).iter().any(|hop| *hop == policy.hop) {
        return Err(Refusal::new(
            Reason::LoopDetected,
            "this request has been here before: outbound.upstream leads back to this listener",
        ));
    }
    if seen.has(Seen::EXPECT) {
        let mut expected = headers.get_all(EXPECT).iter();
        let fine = expected.all(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        if !fine || headers.get_all(EXPECT).iter().count() > 1 {
            return Err(Refusal::new(
                Reason::ExpectationFailed,
                "only one Expect: 100-continue is understood",
            ));
        }
    }
    check_length(policy, request.body())?;
    if policy.routes.is_empty() {
        return Ok(policy.default);
    }
    if let Some(why) = ambiguous(path) {
        return Err(Refusal::new(Reason::AmbiguousPath, why));
    }
    match policy.routes.find(path, method) {
        Match::Found(route) => Ok(*route),
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

/// Whether there is no transfer coding but one `chunked`: the body is framed anew, so any other one
/// would be lost on the way (RFC 9112 section 6.1).
fn is_plainly_coded(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    codings.next().is_none_or(chunked) && codings.next().is_none()
}

fn check_length(policy: &Policy, body: &Incoming) -> Result<(), Refusal> {
    let length = http_body::Body::size_hint(body).exact();
    match (policy.body_limit, length) {
        (Some(limit), Some(length)) if length > limit => Err(Refusal::new(
            Reason::TooLarge,
            "the request's body is larger than limits.body_bytes",
        )),
        _ => Ok(()),
    }
}

/// The token for a request: at once where there is one, else as long as waiting makes sense. `None`:
/// the view is not the present one any more.
async fn token_for(worker: &Worker, view: &View, now: Boot) -> Result<Option<Arc<Token>>, Refusal> {
    let Some(state) = &view.token else {
        return Err(Refusal::new(
            Reason::InternalError,
            "no token plane for this route",
        ));
    };
    match state.at(now) {
        Now::Ready(token) => Ok(Some(token)),
        _ => Box::pin(wait_for_token(worker, &view.policy)).await,
    }
}

/// The slow way: watches the policy's own token plane until a reload comes.
async fn wait_for_token(worker: &Worker, policy: &Policy) -> Result<Option<Arc<Token>>, Refusal> {
    let Some(handle) = &policy.token else {
        return Err(Refusal::new(
            Reason::InternalError,
            "no token plane for this route",
        ));
    };
    let Some(_place) = worker.wait() else {
        let refusal = Refusal::new(Reason::Overloaded, "too many requests wait for a token");
        return Err(refusal.retry_after(Duration::from_secs(1)));
    };
    let deadline = tokio::time::Instant::now() + policy.token_wait;
    let mut states = handle.watch();
    loop {
        let reloaded = worker.adopted.notified();
        if worker.view().policy.epoch != policy.epoch {
            return Ok(None);
        }
        let state = Arc::clone(&states.borrow_and_update());
        match state.at(worker.clock.boot()) {
            Now::Ready(token) => return Ok(Some(token)),
            Now::Unavailable(after) => return Err(unavailable(&state.why(), after)),
            Now::Refused => return Err(login_refused(&state.why())),
            Now::Wait => handle.demand(),
        }
        let why = tokio::select! {
            changed = states.changed() => match changed {
                Ok(()) => continue,
                Err(_) => "the token plane has ended",
            },
            () = reloaded => continue,
            () = tokio::time::sleep_until(deadline) => {
                "the region has not answered yet (outbound.token_wait is over)"
            }
        };
        return Err(unavailable(why, Duration::from_secs(1)));
    }
}

fn unavailable(why: &str, after: Duration) -> Refusal {
    let text = format!("there is no valid access token: {why}");
    Refusal::new(Reason::NoAccessToken, text).retry_after(after)
}

fn login_refused(why: &str) -> Refusal {
    Refusal::new(Reason::LoginRefused, why.to_owned())
}

/// A token that is newer than the one an upstream refused, where one can be had: it is there
/// already, or one forced refresh brings it. During the cool-down the refusal is passed on at once.
async fn newer_token(worker: &Worker, policy: &Policy, refused: u64) -> Option<Arc<Token>> {
    let handle = policy.token.as_ref()?;
    let mut states = handle.watch();
    let first = Arc::clone(&states.borrow_and_update());
    let deadline = tokio::time::Instant::now() + policy.token_wait;
    let mut state = Arc::clone(&first);
    let mut forced = false;
    loop {
        let now = worker.clock.boot();
        match state.at(now) {
            Now::Ready(token) if token.generation > refused => return Some(token),
            _ if state.attempts > first.attempts => return None,
            _ if forced => {}
            _ if now < state.force_allowed_at => return None,
            _ => {
                handle.force(refused);
                forced = true;
            }
        }
        let changed = tokio::time::timeout_at(deadline, states.changed()).await;
        changed.ok()?.ok()?;
        state = Arc::clone(&states.borrow_and_update());
    }
}

/// Makes the head that the upstream gets. Answers the Host that the caller used.
fn rewrite(
    policy: &Policy,
    upstream: &Upstream,
    parts: &mut Parts,
    seen: Seen,
    token: Option<&Token>,
) -> Result<HeaderValue, Refusal> {
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
    headers.append(LOOP, policy.hop.clone());
    if parts.uri.scheme().is_some() || !upstream.prefix.is_empty() {
        parts.uri = target(&parts.uri, &upstream.prefix)
            .ok_or_else(|| Refusal::new(Reason::UriTooLong, "the request's target is too long"))?;
    }
    parts.version = http::Version::HTTP_11;
    Ok(host.unwrap_or_else(|| upstream.host.clone()))
}

/// The target in origin-form, with the upstream's own prefix before it.
fn target(uri: &Uri, prefix: &str) -> Option<Uri> {
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let path = if path.starts_with('?') {
        format!("{prefix}/{path}")
    } else {
        format!("{prefix}{path}")
    };
    PathAndQuery::from_maybe_shared(bytes::Bytes::from(path))
        .ok()
        .map(Uri::from)
}

/// 128 random bits in hexadecimal: to find a request again, not to guard anything.
fn request_id() -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let bits = fastrand::u128(..);
    let mut text = [0; 32];
    for (at, digit) in text.iter_mut().enumerate() {
        *digit = DIGITS[(bits >> (4 * at)) as usize & 15];
    }
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("0"))
}

/// Makes the answer that the caller gets.
fn deliver(
    (mut response, lease): forward::Answer,
    upstream: &Upstream,
    host: &HeaderValue,
    wish: Option<tunnel::Wish>,
) -> Result<Answer, Refusal> {
    let seen = Seen::scan(response.headers());
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(wish) = wish else {
            return Err(Refusal::new(
                Reason::UpstreamProtocol,
                format!(
                    "{} switched protocols, which nobody asked for",
                    upstream.origin
                ),
            ));
        };
        lease.detach();
        let above = hyper::upgrade::on(&mut response);
        strip_hop_by_hop(response.headers_mut(), seen);
        tunnel::announce(response.headers_mut(), wish.protocol);
        let (parts, _) = response.into_parts();
        let response = Response::from_parts(parts, Body::empty());
        return Ok(Answer::Tunnel(response, Box::new((wish.downstream, above))));
    }
    if seen.has(Seen::HOP) && response.headers().contains_key(TRANSFER_ENCODING) {
        // Chunks overrule a length (RFC 9112 section 6.3), which would cut the answer short.
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    strip_hop_by_hop(response.headers_mut(), seen);
    if seen.has(Seen::LOCATION) {
        location::rewrite(
            response.headers_mut(),
            &upstream.origin,
            &upstream.prefix,
            host,
        );
    }
    Ok(Answer::Plain(
        response.map(|incoming| Body::upstream(incoming, lease)),
    ))
}
