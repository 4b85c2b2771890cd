//! The answers are those that simplejwt 5.5.1 on Django 5.2 gave to the same calls.

use std::sync::OnceLock;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE};
use http::{Method, Request, Response};
use serde_json::json;
use url::Url;

use super::*;
use crate::fetch;

mod answers;
mod faults;
mod sockets;
mod tokens;

const NOW: i64 = 1_800_000_000;
const LOGIN: &str = "/console/api/auth/";
const REFRESH: &str = "/console/api/auth/refresh/";
const VERIFY: &str = "/console/api/auth/verify/";
const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// Making a key is the slow part, and which one it is makes no difference.
fn key() -> SigningKey {
    static KEY: OnceLock<SigningKey> = OnceLock::new();
    let make = || SigningKey::generate().expect("a machine that can make a key");
    KEY.get_or_init(make).clone()
}

fn region() -> (Region, Clock) {
    let clock = Clock::manual(NOW);
    let region = Region::new(key(), Settings::default(), clock.clone());
    (region, clock)
}

fn request(method: &str, target: &str, media_type: &str, body: &str) -> Request<Received> {
    let body = Received::from(Bytes::copy_from_slice(body.as_bytes()));
    let request = Request::builder().method(method).uri(target);
    let request = request.header(CONTENT_TYPE, media_type).body(body);
    request.expect("a request that a test wrote")
}

fn ask(region: &Region, request: &Request<Received>) -> Response<String> {
    let (latency, reply) = region.answer(request);
    assert_eq!(latency, Duration::ZERO);
    let Reply::Answer(answer) = reply else {
        panic!("no answer: {reply:?}");
    };
    answer.map(|body| match body {
        Body::Whole(bytes) => String::from_utf8(bytes.to_vec()).expect("text"),
        other => panic!("not whole: {other:?}"),
    })
}

fn post(region: &Region, target: &str, media_type: &str, body: &str) -> (u16, String) {
    let answer = ask(region, &request("POST", target, media_type, body));
    (answer.status().as_u16(), answer.into_body())
}

fn refresh(region: &Region, token: &Secret) -> (u16, String) {
    post(
        region,
        REFRESH,
        FORM,
        &format!("refresh={}", token.expose()),
    )
}

/// A refresh that must work, and the refresh token that came with it.
fn rotated(region: &Region, token: &Secret) -> Secret {
    let (status, body) = refresh(region, token);
    assert_eq!(status, 200, "{body}");
    tokens(&body).1.expect("rotation is on")
}

fn tokens(body: &str) -> (Secret, Option<Secret>) {
    let value: Value = serde_json::from_str(body).expect("JSON");
    let field = |name: &str| value[name].as_str().map(Secret::from);
    (field("access").expect("an access token"), field("refresh"))
}

fn call_api(region: &Region, authorization: &str) -> (u16, String) {
    let mut call = request("GET", "/x?y=1", "text/plain", "");
    let value = authorization.parse().expect("a header's value");
    call.headers_mut().insert(AUTHORIZATION, value);
    let answer = ask(region, &call);
    (answer.status().as_u16(), answer.into_body())
}

fn with_bearer(region: &Region, token: &Secret) -> (u16, String) {
    call_api(region, &format!("Bearer {}", token.expose()))
}

fn alice(region: &Region) -> Secret {
    let issued = region.issue_refresh("alice@example.com");
    issued.expect("alice is a user of every region")
}

fn alice_access(region: &Region) -> Secret {
    let issued = region.issue_access("alice@example.com");
    issued.expect("alice is a user of every region")
}

/// Claims as simplejwt would write them, changed by `change`.
fn odd(region: &Region, change: impl FnOnce(&mut Map<String, Value>)) -> Secret {
    let mut claims = json!({
        "token_type": "refresh", "exp": NOW + 100, "iat": NOW, "jti": "j1", "user_id": "1",
        "iss": "iss.my_company.com",
    });
    change(claims.as_object_mut().expect("an object"));
    region.sign(&claims)
}
