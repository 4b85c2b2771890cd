//! The protected API: an echo behind simplejwt's `JWTAuthentication`.
//!
//! A path that ends in `/whoami` names the user, `/events` is a stream of server-sent events, `/bytes/N` sends N
//! bytes, and every other path says what arrived, header names alone.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::answer::Received;
use super::auth;
use super::sign::{Claims, SigningKey};
use super::{Body, State};

/// How many events `/events` sends, and the pause between them.
const EVENTS: usize = 5;
const EVENT_PAUSE: Duration = Duration::from_millis(200);

pub(super) fn answer(
    state: &State,
    key: &SigningKey,
    request: &Request<Received>,
    now: i64,
) -> Response<Body> {
    let user = match authenticated(state, key, request, now) {
        Ok(user) => user,
        Err(body) => return unauthorized(&body),
    };
    let path = request.uri().path();
    if let Some(stream) = stream(path) {
        return stream;
    }
    let user = user.map_or(Value::Null, Value::from);
    let body = if path.ends_with("/whoami") {
        json!({ "user": user })
    } else {
        let names: Vec<&str> = request.headers().keys().map(|name| name.as_str()).collect();
        json!({
            "user": user,
            "method": request.method().as_str(),
            "path": request.uri().path_and_query().map_or("/", |target| target.as_str()),
            "headers": names,
            "body_bytes": request.body().length,
        })
    };
    ok("application/json", Body::from(body.to_string()))
}

/// What `/events` and `/bytes/N` send.
pub(super) fn stream(path: &str) -> Option<Response<Body>> {
    if path == "/events" {
        return Some(events());
    }
    let count = path.strip_prefix("/bytes/")?.parse().ok()?;
    let body = Body::Spaces { left: Some(count) };
    Some(ok("application/octet-stream", body))
}

/// The token's user, or the body of the 401.
fn authenticated(
    state: &State,
    key: &SigningKey,
    request: &Request<Received>,
    now: i64,
) -> Result<Option<String>, String> {
    let header = request.headers().get(AUTHORIZATION);
    let text = String::from_utf8_lossy(header.map_or(b"", HeaderValue::as_bytes));
    let mut parts = text.split_ascii_whitespace();
    if parts.next() != Some("Bearer") {
        return Err(r#"{"detail":"Authentication credentials were not provided."}"#.to_owned());
    }
    let (Some(token), None) = (parts.next(), parts.next()) else {
        return Err(concat!(
            r#"{"detail":"Authorization header must contain two space-delimited values","#,
            r#""code":"bad_authorization_header"}"#
        )
        .to_owned());
    };
    let claims = valid(state, key, token, now).map_err(|message| {
        format!(
            concat!(
                r#"{{"detail":"Given token not valid for any token type","#,
                r#""code":"token_not_valid","messages":[{{"token_class":"AccessToken","#,
                r#""token_type":"access","message":"{}"}}]}}"#
            ),
            message
        )
    })?;
    let Some(user_id) = &claims.user_id else {
        let detail = "Token contained no recognizable user identification";
        return Err(format!(
            r#"{{"detail":"{detail}","code":"token_not_valid"}}"#
        ));
    };
    match state.user_by_id(user_id) {
        None => Err(r#"{"detail":"User not found","code":"user_not_found"}"#.to_owned()),
        Some(user) if !user.active => {
            Err(r#"{"detail":"User is inactive","code":"user_inactive"}"#.to_owned())
        }
        Some(user) => Ok(Some(user.username.clone())),
    }
}

fn valid(state: &State, key: &SigningKey, token: &str, now: i64) -> Result<Claims, &'static str> {
    let claims = key.verified(token, state.settings.issuer.as_deref(), now)?;
    auth::of_type(&claims, "access")?;
    let revoked = claims
        .jti
        .as_ref()
        .is_some_and(|jti| state.revoked.contains(jti));
    if revoked || !state.settings.accept_access {
        return Err("Token is blacklisted");
    }
    Ok(claims)
}

fn events() -> Response<Body> {
    let event = |n| Bytes::from(format!("id: {n}\ndata: event {n} of {EVENTS}\n\n"));
    let body = Body::Paced {
        chunks: (1..=EVENTS).map(event).collect(),
        every: EVENT_PAUSE,
    };
    let mut answer = ok("text/event-stream", body);
    let no_store = HeaderValue::from_static("no-store");
    answer.headers_mut().insert(CACHE_CONTROL, no_store);
    answer
}

fn unauthorized(body: &str) -> Response<Body> {
    let mut answer = ok("application/json", Body::from(body.to_owned()));
    *answer.status_mut() = StatusCode::UNAUTHORIZED;
    let challenge = HeaderValue::from_static(r#"Bearer realm="api""#);
    answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    answer
}

pub(super) fn ok(media_type: &'static str, body: Body) -> Response<Body> {
    let mut answer = Response::new(body);
    let media_type = HeaderValue::from_static(media_type);
    answer.headers_mut().insert(CONTENT_TYPE, media_type);
    answer
}
