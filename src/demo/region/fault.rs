//! What can go wrong with a region, on purpose.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode};

use super::Body;
use super::answer::Reply;

/// What a call meets instead of its answer. Only [`Fault::Cut`], [`Fault::Slow`] and
/// [`Fault::Lost`] let the region do what was asked; after the others a refresh token is unspent.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status, with this body and these headers.
    Status(u16, String, Vec<(&'static str, String)>),
    /// A firewall's page: 200, HTML, no tokens.
    Html,
    /// 200 and JSON that breaks off.
    Garbage,
    /// 200, and a body that does not end.
    Endless,
    /// No answer; the connection stays open.
    Hang,
    /// The connection closes; nothing was done.
    Drop,
    /// The region does it, then the connection closes: the answer is lost.
    Cut,
    /// The region does it, then somebody on the way answers with this status and an HTML page.
    Lost(u16),
    /// The region does it; the answer's body comes with a byte a second.
    Slow,
}

/// How a region is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// Connections are refused.
    Refuse,
    /// Connections are taken, and nothing is answered.
    Silent,
}

const PAGE: &str = "<!doctype html>\n<html><head><title>Gateway</title></head>\
    <body><h1>Please sign in to the network</h1></body></html>\n";

impl Fault {
    /// What is sent, given what the region would send. `real` does what was asked.
    pub(super) fn reply(self, real: impl FnOnce() -> Response<Body>) -> Reply {
        match self {
            Fault::Status(status, body, headers) => {
                let mut answer = page(status, "application/json", body);
                for (name, value) in headers {
                    let value = HeaderValue::from_str(&value).ok();
                    if let (Ok(name), Some(value)) = (HeaderName::try_from(name), value) {
                        answer.headers_mut().insert(name, value);
                    }
                }
                Reply::Answer(answer)
            }
            Fault::Html => Reply::Answer(page(200, "text/html; charset=utf-8", PAGE)),
            Fault::Garbage => Reply::Answer(page(200, "application/json", "{\"access\":\"eyJ")),
            Fault::Endless => Reply::Answer(
                page(200, "application/json", "").map(|_| Body::Spaces { left: None }),
            ),
            Fault::Hang => Reply::Silence,
            Fault::Drop => Reply::Close,
            Fault::Cut => {
                real();
                Reply::Close
            }
            Fault::Lost(status) => {
                real();
                Reply::Answer(page(status, "text/html; charset=utf-8", PAGE))
            }
            Fault::Slow => Reply::Answer(real().map(|body| match body {
                Body::Whole(bytes) => Body::Paced {
                    chunks: bytes.chunks(1).map(Bytes::copy_from_slice).collect(),
                    every: Duration::from_secs(1),
                },
                other => other,
            })),
        }
    }
}

fn page(status: u16, media_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut answer = Response::new(Body::Whole(body.into()));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    answer.headers_mut().insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static(media_type),
    );
    answer
}
