//! One function from a request to what is sent back, for sockets and in process alike.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, DATE, LOCATION};
use http::{HeaderValue, Method, Request, Response, StatusCode};

use super::{Body, Call, KEYS, Kind, LOG_LIMIT, Part, Region, State, auth, echo, workload};
use crate::secret::Digest;

const AUTH: &str = "/console/api/auth";

/// A request's body, read to its end. It may hold tokens, so `Debug` says its length alone.
#[derive(Clone, Default)]
pub struct Received {
    /// Its beginning, whole where it is not longer than what a server keeps.
    pub bytes: Bytes,
    /// How long all of it was. Bytes.
    pub length: u64,
}

impl std::fmt::Debug for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Received({} bytes)", self.length)
    }
}

impl From<Bytes> for Received {
    fn from(bytes: Bytes) -> Received {
        let length = bytes.len() as u64;
        Received { bytes, length }
    }
}

/// What a request gets.
#[derive(Debug)]
pub enum Reply {
    /// An answer.
    Answer(Response<Body>),
    /// The connection closes without one.
    Close,
    /// Nothing, for ever.
    Silence,
}

/// What one endpoint says, with the token that it was asked about.
pub(super) struct Said {
    pub(super) answer: Response<Body>,
    pub(super) token: Option<Digest>,
}

impl Region {
    /// Does what the request asks, and says what it gets after which time. Outages are the
    /// transport's business; faults and latency are in here.
    pub fn answer(&self, request: &Request<Received>) -> (Duration, Reply) {
        self.answer_as(Part::Region, request)
    }

    pub(super) fn answer_as(&self, part: Part, request: &Request<Received>) -> (Duration, Reply) {
        let at = self.0.clock.boot();
        let now = self.0.clock.unix();
        let kind = match part {
            Part::Region => kind_of(request.uri().path()),
            Part::Workload => Kind::Api,
            Part::Echo => Kind::Echo,
        };
        let mut state = self.state();
        let latency = state.settings.latency;
        let mut token = None;
        let reply = {
            let fault = state.next_fault(kind);
            let mut real = || {
                let said = self.said(&mut state, kind, request, now);
                token = said.token;
                said.answer
            };
            match fault {
                Some(fault) => fault.reply(real),
                None => Reply::Answer(real()),
            }
        };
        let reply = finished(reply, request.method(), now);
        let number = self.0.call_count.borrow().saturating_add(1);
        let status = match &reply {
            Reply::Answer(answer) => Some(answer.status()),
            Reply::Close | Reply::Silence => None,
        };
        state.log(Call {
            number,
            kind,
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            status,
            at,
            token: token.or_else(|| bearer(request)),
            header_names: request.headers().keys().cloned().collect(),
        });
        // Under the lock, so that numbers stay in the order of the log.
        self.0.call_count.send_replace(number);
        (latency, reply)
    }

    fn said(&self, state: &mut State, kind: Kind, request: &Request<Received>, now: i64) -> Said {
        let key = &self.0.key;
        match kind {
            Kind::Login => auth::login(state, key, request, now),
            Kind::Refresh => auth::refresh(state, key, request, now),
            Kind::Verify => auth::verify(state, key, request, now),
            Kind::Astray => Said {
                answer: astray(request),
                token: None,
            },
            Kind::Api => Said {
                answer: workload::answer(state, key, request, now),
                token: None,
            },
            Kind::Keys => Said {
                answer: key_set(key.public_key_set()),
                token: None,
            },
            Kind::Echo => Said {
                answer: echo::answer(request),
                token: None,
            },
        }
    }
}

impl State {
    fn next_fault(&mut self, kind: Kind) -> Option<super::Fault> {
        let at = self.faults.iter().position(|planned| match planned.kind {
            Some(wanted) => wanted == kind,
            None => ![Kind::Api, Kind::Keys, Kind::Echo].contains(&kind),
        })?;
        let planned = &mut self.faults[at];
        let fault = planned.fault.clone();
        planned.left = planned.left.saturating_sub(1);
        if planned.left == 0 {
            self.faults.remove(at);
        }
        Some(fault)
    }

    fn log(&mut self, call: Call) {
        *self.counts.entry(call.kind).or_default() += 1;
        if self.calls.len() == LOG_LIMIT {
            self.calls.pop_front();
        }
        self.calls.push_back(call);
    }
}

fn kind_of(path: &str) -> Kind {
    if path == KEYS {
        return Kind::Keys;
    }
    let Some(rest) = path.strip_prefix(AUTH) else {
        return Kind::Api;
    };
    match rest {
        "/" => Kind::Login,
        "/refresh/" => Kind::Refresh,
        "/verify/" => Kind::Verify,
        "" => Kind::Astray,
        _ if rest.starts_with('/') => Kind::Astray,
        _ => Kind::Api,
    }
}

fn key_set(json: String) -> Response<Body> {
    let mut answer = Response::new(Body::from(json));
    let media_type = HeaderValue::from_static("application/jwk-set+json");
    answer.headers_mut().insert(CONTENT_TYPE, media_type);
    answer
}

/// Django's `APPEND_SLASH`: a redirect, which costs a POST its body, or a page that says 404.
fn astray(request: &Request<Received>) -> Response<Body> {
    let path = request.uri().path();
    let with_slash = format!("{path}/");
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    let mut answer = Response::new(Body::Whole(Bytes::new()));
    answer.headers_mut().insert(CONTENT_TYPE, html);
    if kind_of(&with_slash) == Kind::Astray {
        *answer.status_mut() = StatusCode::NOT_FOUND;
        *answer.body_mut() = Body::Whole(django_page(
            "Not Found",
            "The requested resource was not found on this server.",
        ));
        return answer;
    }
    *answer.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let location = match request.uri().query() {
        Some(query) => format!("{with_slash}?{query}"),
        None => with_slash,
    };
    if let Ok(location) = HeaderValue::from_str(&location) {
        answer.headers_mut().insert(LOCATION, location);
    }
    answer
}

/// What Django says without `DEBUG`.
pub(super) fn django_page(title: &str, text: &str) -> Bytes {
    format!(
        "\n<!doctype html>\n<html lang=\"en\">\n<head>\n  <title>{title}</title>\n</head>\n\
         <body>\n  <h1>{title}</h1><p>{text}</p>\n</body>\n</html>\n"
    )
    .into()
}

/// Adds what a server adds: the date, by the region's own clock, and no body on HEAD.
fn finished(reply: Reply, method: &Method, now: i64) -> Reply {
    let Reply::Answer(mut answer) = reply else {
        return reply;
    };
    let date = UNIX_EPOCH + Duration::from_secs(u64::try_from(now).unwrap_or(0));
    if !answer.headers().contains_key(DATE)
        && let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(date))
    {
        answer.headers_mut().insert(DATE, date);
    }
    if method == Method::HEAD {
        *answer.body_mut() = Body::Whole(Bytes::new());
    }
    Reply::Answer(answer)
}

fn bearer(request: &Request<Received>) -> Option<Digest> {
    let value = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let token = value.strip_prefix("Bearer ")?;
    Some(Digest::of(token.as_bytes()))
}
