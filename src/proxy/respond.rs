//! The only place that turns a refusal into an answer.
//!
//! `application/problem+json` (RFC 9457) with the reason, which stands in `Proxy-Status` (RFC 9209)
//! too; a gRPC call gets a trailers-only answer with the matching `grpc-status`.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::body::Body;
use super::framing::Violation;
use crate::reason::Reason;

/// RFC 9209.
pub const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// Why Regent answers itself, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// From the closed list.
    pub reason: Reason,
    /// The reason's own, but where whoever asks takes no other than some.
    pub status: StatusCode,
    /// The cause and the next step, in one line; no secret in it.
    pub detail: Cow<'static, str>,
    /// When trying again may help.
    pub retry_after: Option<Duration>,
    /// The methods of a 405.
    pub allow: Option<String>,
    /// Whether the caller is told the reason.
    pub reveal: bool,
}

impl Refusal {
    /// A refusal with nothing but its reason and detail.
    #[must_use]
    pub fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal {
            reason,
            status: reason.status(),
            detail: detail.into(),
            retry_after: None,
            allow: None,
            reveal: true,
        }
    }

    /// With a time after which trying again may help.
    #[must_use]
    pub fn retry_after(self, after: Duration) -> Refusal {
        Refusal {
            retry_after: Some(after),
            ..self
        }
    }
}

impl From<Violation> for Refusal {
    fn from(violation: Violation) -> Refusal {
        Refusal::new(violation.reason(), violation.text())
    }
}

/// Whether a request is a gRPC call.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// The answer. `close` where the request's body is left unread.
#[must_use]
pub fn refuse(refusal: &Refusal, grpc: bool, close: bool) -> Response<Body> {
    let mut response = if grpc {
        trailers_only(refusal)
    } else {
        problem(refusal)
    };
    let headers = response.headers_mut();
    headers.insert(PROXY_STATUS, proxy_status(refusal));
    if let Some(challenge) = challenge(refusal) {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(after) = refusal.retry_after {
        // Whole seconds, rounded up: never earlier than it makes sense.
        let seconds = u64::try_from(after.as_millis().div_ceil(1000)).unwrap_or(u64::MAX);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    if let Some(allow) = &refusal.allow
        && let Ok(allow) = HeaderValue::from_str(allow)
    {
        headers.insert(ALLOW, allow);
    }
    if close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Leaves the head of an answer to HEAD, with the length that its body would have had (RFC 9110
/// section 8.6). Over HTTP/2 hyper sends what there is.
pub fn without_body(response: &mut Response<Body>) {
    let body = std::mem::replace(response.body_mut(), Body::empty());
    if let Some(length) = http_body::Body::size_hint(&body).exact() {
        let length = HeaderValue::from(length);
        response.headers_mut().insert(CONTENT_LENGTH, length);
    }
}

/// The problem document, a line of JSON.
#[must_use]
pub fn problem_json(reason: Reason, status: StatusCode, detail: &str) -> String {
    let document = serde_json::json!({
        "type": "about:blank",
        "status": status.as_u16(),
        "title": reason.title(),
        "detail": detail,
        "reason": reason.word(),
    });
    format!("{document}\n")
}

/// The problem document for a caller who is not told the reason.
fn veiled_json(status: StatusCode) -> String {
    let document = serde_json::json!({
        "type": "about:blank",
        "status": status.as_u16(),
        "title": status.canonical_reason().unwrap_or("Refused"),
    });
    format!("{document}\n")
}

fn document(refusal: &Refusal) -> String {
    match refusal.reveal {
        true => problem_json(refusal.reason, refusal.status, &refusal.detail),
        false => veiled_json(refusal.status),
    }
}

/// A refusal for where there is no HTTP library: its status, its `Proxy-Status` and its body.
#[must_use]
pub fn in_words(refusal: &Refusal) -> (StatusCode, String, String) {
    let told = proxy_status(refusal);
    let told = told.to_str().unwrap_or("regent").to_owned();
    (refusal.status, told, document(refusal))
}

fn problem(refusal: &Refusal) -> Response<Body> {
    let status = refusal.status;
    let document = document(refusal);
    let mut response = Response::new(Body::full(Bytes::from(document)));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    response
}

fn trailers_only(refusal: &Refusal) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", grpc_status(refusal.status));
    headers.insert(
        "grpc-message",
        HeaderValue::from_static(match refusal.reveal {
            true => refusal.reason.word(),
            false => "refused",
        }),
    );
    response
}

/// The gRPC status for an HTTP status (gRPC's own table, `doc/http-grpc-status-mapping.md`).
fn grpc_status(status: StatusCode) -> HeaderValue {
    HeaderValue::from_static(match status.as_u16() {
        400 | 431 => "13",
        401 => "16",
        403 => "7",
        404 | 405 => "12",
        429 | 502..=504 => "14",
        408 => "4",
        413 => "8",
        _ => "2",
    })
}

/// What `Proxy-Status` says of a refusal.
#[must_use]
pub fn proxy_status(refusal: &Refusal) -> HeaderValue {
    let plain = HeaderValue::from_static("regent");
    if !refusal.reveal {
        return plain;
    }
    let text = format!("regent; details=\"{}\"", refusal.reason.word());
    HeaderValue::from_str(&text).unwrap_or(plain)
}

/// What a caller must bring (RFC 6750 section 3).
fn challenge(refusal: &Refusal) -> Option<HeaderValue> {
    let error = match (refusal.reason, refusal.status) {
        (Reason::MissingToken | Reason::UnsupportedScheme, _) => None,
        (Reason::MultipleTokens, _) => Some("invalid_request"),
        (Reason::ClaimsNotMet, _) => Some("insufficient_scope"),
        (_, StatusCode::UNAUTHORIZED) => Some("invalid_token"),
        _ => return None,
    };
    let mut text = "Bearer realm=\"regent\"".to_owned();
    if let Some(error) = error {
        text += &format!(", error=\"{error}\"");
        if refusal.reveal {
            text += &format!(", error_description=\"{}\"", refusal.reason.word());
        }
    }
    HeaderValue::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn every_reason_makes_a_whole_answer() {
        for reason in Reason::ALL {
            let refusal = Refusal::new(*reason, "because of \"x\"\n");
            let response = refuse(&refusal, false, true);
            assert_eq!(response.status(), reason.status());
            let status = response.headers()[PROXY_STATUS].to_str().expect("text");
            assert_eq!(status, format!("regent; details=\"{}\"", reason.word()));
            assert_eq!(response.headers()[CONNECTION], "close");
            let body = response
                .into_body()
                .collect()
                .await
                .expect("whole")
                .to_bytes();
            let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!(body["type"], "about:blank");
            assert_eq!(body["reason"], reason.word());
            assert_eq!(body["status"], reason.status().as_u16());
            assert_eq!(body["detail"], "because of \"x\"\n");
        }
    }

    #[test]
    fn a_caller_is_told_what_to_bring() {
        let realm = "Bearer realm=\"regent\"";
        for (reason, more) in [
            (Reason::MissingToken, Some("")),
            (Reason::UnsupportedScheme, Some("")),
            (
                Reason::MultipleTokens,
                Some(", error=\"invalid_request\", error_description=\"multiple_tokens\""),
            ),
            (
                Reason::Expired,
                Some(", error=\"invalid_token\", error_description=\"expired\""),
            ),
            (
                Reason::ClaimsNotMet,
                Some(", error=\"insufficient_scope\", error_description=\"claims_not_met\""),
            ),
            (Reason::IssuerKeysUnavailable, None),
            (Reason::HostNotAllowed, None),
        ] {
            let response = refuse(&Refusal::new(reason, "x"), false, false);
            let told = response.headers().get(WWW_AUTHENTICATE);
            let told = told.map(|value| value.to_str().expect("text").to_owned());
            assert_eq!(
                told,
                more.map(|more| format!("{realm}{more}")),
                "{reason:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_veiled_refusal_tells_no_reason_anywhere() {
        for grpc in [false, true] {
            let refusal = Refusal {
                reveal: false,
                ..Refusal::new(Reason::Expired, "it is expired")
            };
            let response = refuse(&refusal, grpc, false);
            let (parts, body) = response.into_parts();
            assert!(!format!("{parts:?}").contains("expired"), "{parts:?}");
            let body = body.collect().await.expect("whole").to_bytes();
            assert!(
                !String::from_utf8_lossy(&body).contains("expired"),
                "{body:?}"
            );
            let challenge = "Bearer realm=\"regent\", error=\"invalid_token\"";
            assert_eq!(parts.headers[WWW_AUTHENTICATE], challenge);
        }
    }

    #[test]
    fn retry_after_is_rounded_up_and_never_zero() {
        for (ms, seconds) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (90_000, "90")] {
            let refusal =
                Refusal::new(Reason::NoAccessToken, "x").retry_after(Duration::from_millis(ms));
            assert_eq!(
                refuse(&refusal, false, false).headers()[RETRY_AFTER],
                seconds
            );
        }
    }

    #[test]
    fn a_grpc_call_gets_its_own_kind_of_answer() {
        let response = refuse(&Refusal::new(Reason::NoAccessToken, "x"), true, false);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["grpc-message"], "no_access_token");
    }
}
