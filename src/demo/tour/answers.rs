//! What an answer must be for a step to hold.

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{Response, StatusCode};
use serde_json::Value;

use crate::reason::Reason;

/// The body, or null.
pub(super) fn json(answer: &Response<Bytes>) -> Value {
    serde_json::from_slice(answer.body()).unwrap_or_default()
}

/// A JSON body in a line; of a refusal, the word and the text.
pub(super) fn summary(body: &Value) -> String {
    match (body["reason"].as_str(), body["detail"].as_str()) {
        (Some(reason), Some(detail)) => format!("{reason}: {detail}"),
        _ => body.to_string(),
    }
}

/// A 200 that says this user of this issuer.
pub(super) fn says(
    answer: &Response<Bytes>,
    user: Option<&str>,
    issuer: Option<&str>,
) -> Result<(), String> {
    succeeded(answer)?;
    let body = json(answer);
    let is = |name: &str, wanted: Option<&str>| body[name].as_str() == wanted;
    if is("user", user) && is("issuer", issuer) {
        return Ok(());
    }
    let wanted = user.unwrap_or("nobody");
    Err(format!("answered, but not as {wanted}: {body}"))
}

/// The same of alice.
pub(super) fn as_alice(answer: &Response<Bytes>) -> Result<(), String> {
    says(answer, Some("alice"), Some("home"))
}

pub(super) fn succeeded(answer: &Response<Bytes>) -> Result<(), String> {
    match answer.status() {
        StatusCode::OK => Ok(()),
        status => Err(format!("answered {status}: {}", summary(&json(answer)))),
    }
}

/// The contract's refusal for this reason.
pub(super) fn refused(answer: &Response<Bytes>, reason: Reason) -> Result<(), String> {
    let body = json(answer);
    if answer.status() == reason.status() && body["reason"] == reason.word() {
        return Ok(());
    }
    let wanted = reason.word();
    let (status, text) = (answer.status(), summary(&body));
    Err(format!("answered {status}, not {wanted}: {text}"))
}

/// The contract's answer where there is no valid token for the moment.
pub(super) fn refused_for_now(answer: &Response<Bytes>) -> Result<(), String> {
    refused(answer, Reason::NoAccessToken)?;
    match answer.headers().contains_key(RETRY_AFTER) {
        true => Ok(()),
        false => Err("answered without Retry-After".to_owned()),
    }
}
