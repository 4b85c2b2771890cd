//! The way of an inbound request: rule, one Bearer, verdict, identity headers, forward, answer.
//!
//! - Nothing is forwarded but what was verified, or what a rule lets pass without a token; a token
//!   that comes is verified all the same.
//! - A caller's words decide nothing before that: no forwarded header, no look-alike of ours.

use std::borrow::Cow;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, EXPECT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request};
use hyper::body::Incoming;
use ipnet::IpNet;
use memchr::memchr;

use super::Policy;
use super::admit::{LOOP, admit, admit_method};
use super::conn::Conn;
use super::deliver::{Answer, deliver};
use super::forward::{Limits, Prepared, Sending};
use super::guard;
use super::headers::{REQUEST_ID, Seen, request_id, say_who_called, strip_hop_by_hop};
use super::identity::{Identity, Names};
use super::paths::{Match, Paths, TWO_WAYS, ambiguous};
use super::respond::Refusal;
use super::verdict::{self, Verdict};
use super::worker::{Begun, View, Worker};
use crate::jwt::federation::Federation;
use crate::jwt::issuers::{Claims, Issuers, Requirement};
use crate::jwt::keys;
use crate::jwt::list;
use crate::jwt::revoked::Revoked;
use crate::reason::Reason;
use crate::telemetry::counters::Side;
use crate::tls;

/// The inbound side of one configuration.
#[derive(Clone, Debug)]
pub struct Inbound {
    /// The workload: an index into `Policy::upstreams`. `None` where `forward_auth` alone listens.
    pub upstream: Option<usize>,
    /// Whose connections begin with a PROXY protocol header.
    pub announcers: Arc<[IpNet]>,
    /// TLS towards callers, where they are to speak it.
    pub tls: Option<tls::server::Handle>,
    /// Whose tokens are taken.
    pub issuers: Arc<Issuers>,
    /// How their claims become headers, in the issuers' order.
    pub identities: Arc<[Identity]>,
    /// Their keys, in the issuers' order.
    pub keys: keys::Handle,
    /// Where more issuers come from; those of the list come after those of the config.
    pub federation: Option<Federation>,
    /// Which tokens are taken back.
    pub revocations: Option<list::Handle<Revoked>>,
    /// The place of the issuer called `home`, where there is one.
    pub home: Option<usize>,
    /// What paths need, where a valid token is not what they need.
    pub rules: Paths<Rule>,
    /// What no caller may send.
    pub names: Names,
    /// This listener's own mark in `X-Regent-Hop`.
    pub hop: HeaderValue,
    /// The verified header passes.
    pub forward_authorization: bool,
    /// Answers tell the reason.
    pub reveal_reasons: bool,
    /// Refusals are logged and counted, not enforced.
    pub shadow: bool,
    /// Streams end with the token.
    pub ends_with_token: bool,
}

/// What the requests of some paths need.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its place in the config.
    pub place: usize,
    /// No token is needed.
    pub anonymous: bool,
    /// What the claims must be.
    pub claims: Vec<Requirement>,
}

/// What a caller wants to do: its request's own words, or a proxy's that asks for it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Without its query.
    pub path: &'a str,
    /// Its method.
    pub method: &'a Method,
}

impl Inbound {
    /// The rule for a request; `None`: a valid token is all it needs.
    ///
    /// # Errors
    /// Where there are rules, a path that a server may read as another one.
    pub fn rule(&self, asked: Asked<'_>) -> Result<Option<&Rule>, Refusal> {
        if self.rules.is_empty() {
            return Ok(None);
        }
        if let Some(why) = ambiguous(asked.path) {
            return Err(Refusal::new(Reason::AmbiguousPath, why));
        }
        Ok(match self.rules.find(asked.path, asked.method) {
            Match::Found(rule) => Some(rule),
            Match::TwoWays => return Err(Refusal::new(Reason::AmbiguousPath, TWO_WAYS)),
            Match::NoPath | Match::NoMethod(_) => None,
        })
    }

    /// The names in a list of revoked tokens that no issuer has: each is a hole.
    #[must_use]
    pub fn revoked_of_nobody(&self, revoked: &Revoked) -> Vec<String> {
        let issuers: HashSet<&str> = self.issuers.names().map(|(name, _)| name).collect();
        let unknown = revoked.issuers().filter(|name| !issuers.contains(name));
        let mut unknown: Vec<String> = unknown
            .map(|name| name.chars().take(64).collect())
            .collect();
        unknown.sort_unstable();
        unknown
    }

    /// Which rules these claims meet, by their place.
    #[must_use]
    pub fn rules_met(&self, claims: &Claims) -> Box<[bool]> {
        let mut rules: Vec<(usize, bool)> = (self.rules.values())
            .map(|rule| {
                (
                    rule.place,
                    rule.claims.iter().all(|claim| claim.is_met(claims)),
                )
            })
            .collect();
        rules.sort_unstable();
        rules.into_iter().map(|(_, met)| met).collect()
    }

    /// As much of a refusal as callers are told. Where the workload is, is not theirs to know.
    #[must_use]
    pub fn told(&self, refusal: Refusal) -> Refusal {
        let detail = match refusal.reason {
            Reason::UpstreamUnreachable
            | Reason::UpstreamTls
            | Reason::UpstreamProtocol
            | Reason::UpstreamTimeout => {
                Cow::Borrowed("the service behind did not answer as it should")
            }
            _ => refusal.detail,
        };
        Refusal {
            detail,
            reveal: refusal.reveal && self.reveal_reasons,
            ..refusal
        }
    }

    /// A refusal of a token or for want of one, as much of it as callers are told.
    #[must_use]
    pub fn refuse(&self, reason: Reason, text: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal {
            reveal: self.reveal_reasons,
            ..Refusal::new(reason, text)
        }
    }
}

/// Judges a request, forwards it with its caller's identity and brings back the answer.
///
/// # Errors
/// A refusal, with the reason that the caller is told.
pub async fn handle(
    worker: &Rc<Worker>,
    conn: &Conn,
    view: Rc<View>,
    request: Request<Incoming>,
    begun: Begun,
) -> Result<Answer, Refusal> {
    begun.approved()?;
    let policy = &*view.policy;
    let inbound = side(policy)?;
    let place = inbound.upstream.ok_or_else(|| {
        let text = "this config has no inbound.upstream";
        Refusal::new(Reason::InternalError, text)
    })?;
    admit_method(request.method())?;
    let seen = Seen::scan(request.headers());
    check_host(&request)?;
    admit(policy, &inbound.hop, &request, seen)?;
    let asked = Asked {
        path: request.uri().path(),
        method: request.method(),
    };
    let verdict = judge(worker, conn, &view, inbound, asked, request.headers(), seen).await?;
    let ends_at = (verdict.as_ref().filter(|_| inbound.ends_with_token)).map(|verdict| {
        let left = verdict.ends_unix_ms - worker.clock.unix_ms();
        worker.clock.boot() + Duration::from_millis(u64::try_from(left).unwrap_or(0))
    });
    let upstream = &*policy.upstreams[place];
    let limits = Limits {
        replay: 0,
        body: policy.body_limit,
    };
    let mut prepared = Prepared::new(upstream, conn, request, seen, limits, |parts| {
        rewrite(inbound, conn, parts, seen, verdict.as_deref());
    })?;
    let sending = Sending {
        upstream,
        pool: &view.pools[place],
        upload: prepared.upload.as_ref(),
        bearer: None,
    };
    let answer = sending.send(&*worker.net, &mut prepared.head).await;
    // Not before there is an answer: whoever is refused tries again, and the workload may be at it.
    conn.ends_at.set(ends_at.filter(|_| answer.is_ok()));
    deliver(answer?, upstream, None, prepared.wish)
}

/// The inbound side, which a listener of it cannot be without.
///
/// # Errors
/// `internal_error`.
pub fn side(policy: &Policy) -> Result<&Inbound, Refusal> {
    policy.inbound.as_ref().ok_or_else(|| {
        let text = "this config has no inbound side";
        Refusal::new(Reason::InternalError, text)
    })
}

/// The one Host, which names a host.
///
/// # Errors
/// `bad_request`.
pub fn check_host(request: &Request<Incoming>) -> Result<(), Refusal> {
    let host = guard::host(request.uri(), request.version(), request.headers());
    match host {
        Ok(host) if guard::is_host(host.as_bytes()) => Ok(()),
        Ok(_) => {
            let text = "the Host header is no host";
            Err(Refusal::new(Reason::BadRequest, text))
        }
        Err(why) => Err(Refusal::new(Reason::BadRequest, why)),
    }
}

/// The verdict that lets a caller pass with the token in these headers; `None` where it passes
/// without an identity, by a rule or in the shadow mode.
///
/// # Errors
/// Why it does not pass, or why that cannot be said now.
pub async fn judge(
    worker: &Worker,
    conn: &Conn,
    view: &View,
    inbound: &Inbound,
    asked: Asked<'_>,
    headers: &HeaderMap,
    seen: Seen,
) -> Result<Option<Rc<Verdict>>, Refusal> {
    match pass(worker, conn, view, inbound, asked, headers, seen).await {
        Err(refusal) if inbound.shadow && refusal.reason.is_about_the_caller() => {
            worker.counters.of(Side::Inbound).shadowed(refusal.reason);
            let now = worker.clock.boot();
            let asked = (asked.method, asked.path);
            worker.log.refused(now, conn, &refusal, asked, false);
            Ok(None)
        }
        judged => judged,
    }
}

async fn pass(
    worker: &Worker,
    conn: &Conn,
    view: &View,
    inbound: &Inbound,
    asked: Asked<'_>,
    headers: &HeaderMap,
    seen: Seen,
) -> Result<Option<Rc<Verdict>>, Refusal> {
    let rule = inbound.rule(asked)?;
    let anonymous = rule.is_some_and(|rule| rule.anonymous);
    let token = match bearer(headers, seen) {
        Ok(token) => token,
        // A scheme that is none of ours proves nothing here, and is not passed on.
        Err(Reason::MissingToken | Reason::UnsupportedScheme) if anonymous => return Ok(None),
        Err(reason) => return Err(inbound.refuse(reason, told(reason))),
    };
    let verdict = verdict::judge(worker, conn, view, inbound, token).await?;
    conn.logs(|access| access.verified(&verdict));
    match rule {
        Some(rule) if !verdict.meets(rule.place) => Err(inbound.refuse(
            Reason::ClaimsNotMet,
            "the token is valid, but its claims are not those that this path needs",
        )),
        _ => Ok(Some(verdict)),
    }
}

/// The one Bearer token (RFC 6750 section 2.1), whatever the scheme's case.
///
/// # Errors
/// The reason why there is none, or not one.
pub fn bearer(headers: &HeaderMap, seen: Seen) -> Result<&[u8], Reason> {
    if !seen.has(Seen::AUTHORIZATION) {
        return Err(Reason::MissingToken);
    }
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (all.next(), all.next()) else {
        return Err(Reason::MultipleTokens);
    };
    let value = value.as_bytes();
    let ends = value.iter().position(|byte| !byte.is_ascii_alphanumeric());
    let (scheme, rest) = value.split_at(ends.unwrap_or(value.len()));
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Err(Reason::UnsupportedScheme);
    }
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    let token = &rest[spaces..];
    match (spaces, token) {
        _ if memchr(b',', token).is_some() => Err(Reason::MultipleTokens),
        (0, _) | (_, []) => Err(Reason::MalformedToken),
        (_, token) => Ok(token),
    }
}

/// What a caller without one Bearer token is told.
#[must_use]
pub fn told(reason: Reason) -> &'static str {
    match reason {
        Reason::MissingToken => {
            "this path needs an access token: send it as Authorization: Bearer TOKEN"
        }
        Reason::UnsupportedScheme => {
            "only the Bearer scheme is understood: send Authorization: Bearer TOKEN"
        }
        Reason::MultipleTokens => "send one credential, not several",
        _ => "what follows Bearer is no token",
    }
}

/// Makes the head that the workload gets: hop-by-hop first, then what callers may not say, then what
/// we say.
fn rewrite(
    inbound: &Inbound,
    conn: &Conn,
    parts: &mut Parts,
    seen: Seen,
    verdict: Option<&Verdict>,
) {
    let headers = &mut parts.headers;
    strip_hop_by_hop(headers, seen);
    inbound.names.strip(headers);
    say_who_called(headers, seen, &conn.peer());
    if seen.has(Seen::EXPECT) {
        headers.remove(EXPECT);
    }
    if seen.has(Seen::AUTHORIZATION) && !(inbound.forward_authorization && verdict.is_some()) {
        headers.remove(AUTHORIZATION);
    }
    if !seen.has(Seen::REQUEST_ID) {
        headers.insert(REQUEST_ID, request_id());
    }
    headers.append(LOOP, inbound.hop.clone());
    if let Some(verdict) = verdict {
        for (name, value) in &verdict.headers {
            headers.insert(name.clone(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Result<String, Reason> {
        let mut headers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_str(value).expect("a value");
            headers.append(AUTHORIZATION, value);
        }
        let token = bearer(&headers, Seen::scan(&headers))?;
        Ok(String::from_utf8(token.to_vec()).expect("text"))
    }

    #[test]
    fn one_bearer_token_is_read_and_nothing_else() {
        for value in ["Bearer t", "bearer t", "BEARER t", "Bearer  t"] {
            assert_eq!(read(&[value]).as_deref(), Ok("t"), "{value}");
        }
        for (values, reason) in [
            (&[][..], Reason::MissingToken),
            (&["Basic dTpw"], Reason::UnsupportedScheme),
            (&["Negotiate x"], Reason::UnsupportedScheme),
            (&["Bearerx t"], Reason::UnsupportedScheme),
            (&["t"], Reason::UnsupportedScheme),
            (&["Bearer"], Reason::MalformedToken),
            (&["Bearer "], Reason::MalformedToken),
            (&["Bearer\tt"], Reason::MalformedToken),
            (&["Bearer=t"], Reason::MalformedToken),
            (&["Bearer a, Bearer b"], Reason::MultipleTokens),
            (&["Bearer,"], Reason::MultipleTokens),
            (&["Bearer a", "Bearer a"], Reason::MultipleTokens),
            (&["Basic dTpw", "Bearer a"], Reason::MultipleTokens),
        ] {
            assert_eq!(read(values), Err(reason), "{values:?}");
        }
    }
}
