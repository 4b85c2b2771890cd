//! `[inbound.forward_auth]`: another proxy asks whether its caller may pass. A yes is 200 with the
//! identity headers, which that proxy hands on; a no is a refusal, which it hands back.
//!
//! - The answer is the one that the proxy's own way gives to the same request: by the same rules, of
//!   the method and path that the caller asked for.
//! - Those are what follows `/verify` in the request's own target (Envoy), or, at `/verify` itself,
//!   what one pair of headers says (nginx, Traefik). Nothing is guessed: what is missing, doubled or
//!   contradicts itself is refused. Here alone are such headers believed.
//! - What is no request anywhere is 403 here: nginx takes no other no than 401 and 403.

use std::rc::Rc;

use http::header::{CACHE_CONTROL, CONNECTION};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;

use super::admit::admit_target;
use super::body::Body;
use super::conn::Conn;
use super::deliver::Answer;
use super::exchange;
use super::framing::Violation;
use super::framing::requests::Requests;
use super::guard;
use super::headers::Seen;
use super::inbound::{self, Asked};
use super::respond::Refusal;
use super::worker::{Begun, View, Worker};
use crate::reason::Reason;

/// The path of this listener.
const VERIFY: &str = "/verify";

/// The headers in which one kind of proxy says what it was asked for.
struct Telling {
    method: &'static str,
    /// Its names for the target.
    targets: &'static [&'static str],
}

const TELLINGS: [Telling; 2] = [
    Telling {
        method: "x-original-method",
        targets: &["x-original-uri", "x-original-url"],
    },
    Telling {
        method: "x-forwarded-method",
        targets: &["x-forwarded-uri"],
    },
];

/// What the other proxy was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Original {
    /// Its method.
    pub method: Method,
    /// Its path, without the query.
    pub path: String,
}

impl Original {
    /// Reads it from the request that asks.
    ///
    /// # Errors
    /// `no_route` for another path than ours, `bad_request` where it is not told, or not once.
    pub fn of(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Original, Refusal> {
        let below = (uri.path().strip_prefix(VERIFY))
            .filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let Some(below) = below else {
            let text = "another proxy asks here, at /verify or below it";
            return Err(Refusal::new(Reason::NoRoute, text));
        };
        let [first, second] = TELLINGS;
        match (below, first.read(headers)?, second.read(headers)?) {
            ("", None, None) => Err(untold(
                "the proxy does not say what it was asked for: it must set X-Original-URI and \
                 X-Original-Method (nginx) or X-Forwarded-Uri and X-Forwarded-Method (Traefik)",
            )),
            ("", Some(one), Some(other)) if one != other => Err(untold(
                "X-Original-* and X-Forwarded-* contradict each other: the proxy must remove those \
                 that it does not set",
            )),
            ("", Some(told), _) | ("", None, Some(told)) => Ok(told),
            (path, None, None) => Ok(Original {
                method: method.clone(),
                path: path.to_owned(),
            }),
            // A slash too many would have every request judged as one for "/".
            _ => Err(untold(
                "the proxy says what it was asked for both in the path after /verify and in \
                 X-Original-* or X-Forwarded-*: it must call /verify alone, or not send these",
            )),
        }
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            path: &self.path,
            method: &self.method,
        }
    }
}

impl Telling {
    /// `None`: this proxy says nothing.
    fn read(&self, headers: &HeaderMap) -> Result<Option<Original>, Refusal> {
        let once = |names: &[&'static str]| {
            let mut values = names.iter().flat_map(|name| headers.get_all(*name));
            match (values.next(), values.next()) {
                (value, None) => Ok(value),
                _ => Err(untold(
                    "the proxy says more than once what it was asked for",
                )),
            }
        };
        let method = once(&[self.method])?;
        let (method, target) = match (method, once(self.targets)?) {
            (None, None) => return Ok(None),
            (Some(method), Some(target)) => (method, target),
            // A guess could open a path: rules name methods.
            _ => {
                return Err(untold(
                    "the proxy says half of what it was asked for: it must set the method and the \
                     target, as X-Original-Method and X-Original-URI, or as X-Forwarded-Method and \
                     X-Forwarded-Uri",
                ));
            }
        };
        read(method.as_bytes(), target.as_bytes())
            .map(Some)
            .map_err(as_no)
    }
}

/// Reads what was asked for as the first line of a request is read, by the same code.
fn read(method: &[u8], target: &[u8]) -> Result<Original, Refusal> {
    let no_path = || untold("the target that was asked for is no path");
    let target = without_host(target).ok_or_else(no_path)?;
    let mut reading = Requests::default();
    reading.scan(&[method, b" ", target, b" HTTP/1.1\r\n\r\n"].concat());
    if reading.approved() == 0 {
        return Err(reading.violation().unwrap_or(Violation::Unasked).into());
    }
    let uri = Uri::try_from(target).map_err(|_| no_path())?;
    Ok(Original {
        method: Method::from_bytes(method).map_err(|_| Refusal::from(Violation::Method))?,
        path: uri.path().to_owned(),
    })
}

/// The target of a URL. Callers choose its host: one that is none could hide where the path begins.
fn without_host(target: &[u8]) -> Option<&[u8]> {
    let after = |scheme: &[u8]| target.strip_prefix(scheme);
    let path = match after(b"http://").or_else(|| after(b"https://")) {
        None => target,
        Some(rest) => {
            let begins = rest.iter().position(|byte| *byte == b'/')?;
            let (host, path) = rest.split_at(begins);
            guard::is_host(host).then_some(path)?
        }
    };
    matches!(path, [b'/', ..] | b"*").then_some(path)
}

fn untold(why: &'static str) -> Refusal {
    Refusal::new(Reason::BadRequest, why)
}

/// Judges what another proxy was asked for, and says so.
///
/// # Errors
/// The refusal that its caller is to get.
pub async fn handle(
    worker: &Rc<Worker>,
    conn: &Conn,
    view: Rc<View>,
    request: Request<Incoming>,
    begun: Begun,
) -> Result<Answer, Refusal> {
    begun.approved()?;
    let inbound = inbound::side(&view.policy)?;
    inbound::check_host(&request)?;
    let headers = request.headers();
    let original = Original::of(request.method(), request.uri(), headers)?;
    let original = Rc::new(original);
    conn.asked
        .replace(exchange::Asked::There(Rc::clone(&original)));
    let asked = original.asked();
    admit_target(asked.method, asked.path).map_err(as_no)?;
    let seen = Seen::scan(headers);
    let judged = inbound::judge(worker, conn, &view, inbound, asked, headers, seen).await;
    let verdict = judged.map_err(as_no)?;
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(verdict) = verdict {
        headers.extend(verdict.headers.iter().cloned());
    }
    // Nobody waits for a body that may never come.
    if !http_body::Body::is_end_stream(request.body()) && conn.as_stream().is_none() {
        conn.signal.last_answer();
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(Answer::Plain(response))
}

/// A refusal of the caller's own request in a status that every asking proxy takes for a no.
fn as_no(refusal: Refusal) -> Refusal {
    let is_no = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&refusal.status);
    match refusal.status.is_client_error() && !is_no {
        true => Refusal {
            status: StatusCode::FORBIDDEN,
            ..refusal
        },
        false => refusal,
    }
}
