//! What a request of either side must be before anything else is asked: of a method that is forwarded,
//! with a path for a target, new here, and not too long. How it is framed, `framing` has judged.
//!
//! Who may call, and what for, is the sides' own business.

use http::header::EXPECT;
use http::{HeaderName, HeaderValue, Method, Request};
use hyper::body::Incoming;

use super::Policy;
use super::headers::Seen;
use super::respond::Refusal;
use crate::reason::Reason;

/// Where a request says which listeners it went through.
pub const LOOP: HeaderName = HeaderName::from_static("x-regent-hop");

/// Judges a request's head; `hop` is its listener's own mark.
///
/// # Errors
/// `bad_request`, `method_not_allowed`, `ambiguous_path`, `loop_detected`, `expectation_failed`,
/// `too_large`.
pub fn admit(
    policy: &Policy,
    hop: &HeaderValue,
    request: &Request<Incoming>,
    seen: Seen,
) -> Result<(), Refusal> {
    let headers = request.headers();
    admit_target(request.method(), request.uri().path())?;
    if seen.has(Seen::LOOP) && headers.get_all(&LOOP).iter().any(|their| their == hop) {
        return Err(Refusal::new(
            Reason::LoopDetected,
            "this request has been here before: its upstream leads back to this listener",
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
    check_length(policy, request.body())
}

/// Judges a request's method. A listener asks this first: the target of CONNECT is no path, and its
/// Host may be another one than ours.
///
/// # Errors
/// `method_not_allowed`.
pub fn admit_method(method: &Method) -> Result<(), Refusal> {
    match is_never_forwarded(method) {
        true => Err(Refusal {
            allow: Some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS".to_owned()),
            ..Refusal::new(Reason::MethodNotAllowed, "this method is never forwarded")
        }),
        false => Ok(()),
    }
}

/// Judges what a request asks for, as far as no config has a say in it.
///
/// # Errors
/// `method_not_allowed`, `bad_request`, `ambiguous_path`.
pub fn admit_target(method: &Method, path: &str) -> Result<(), Refusal> {
    admit_method(method)?;
    let asterisk = path == "*" && *method == Method::OPTIONS;
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
    Ok(())
}

/// What follows CONNECT may have been meant for a tunnel, and who sends the others probes.
#[must_use]
pub fn is_never_forwarded(method: &Method) -> bool {
    [Method::CONNECT, Method::TRACE].contains(method) || *method == "TRACK"
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
