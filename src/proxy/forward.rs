//! One sending of a request to an upstream: over a pooled connection, a shared one or a new one.
//!
//! - A request that was never written goes over another connection, whatever its method.
//! - One that the upstream says it did nothing with (RFC 9113 section 8.7) is sent once more, whatever
//!   its method, where nothing of its body is lost.
//! - One that may have been written is sent again only over a fresh connection, once, and only where
//!   that does no harm: the pooled connection closed before an answer, and the method is idempotent
//!   with nothing of its body lost (RFC 9110 section 9.2.2).

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, Uri};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::bearer::Bearer;
use super::conn::Conn;
use super::dial::dial;
use super::download::{Download, Own};
use super::headers::{Seen, ask_for_trailers, frame, wants_trailers};
use super::pool::Pool;
use super::respond::{Refusal, is_grpc};
use super::tunnel;
use super::upload::{Fault, Kept, RequestBody, Upload};
use super::wire::{Broken, Wire};
use super::{Protocol, Upstream};
use crate::net::Net;
use crate::reason::Reason;
use carrier::Carried;

mod carrier;

/// What is kept of a body for an upstream that takes a request and does nothing with it. Bytes.
const RESEND: u64 = 64 << 10;

/// An upstream's answer: its head, and what is still to come.
pub type Answer = Response<Download>;

/// What of a request's body may be kept, and how much may come. Bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Kept for a replay; 0: nothing.
    pub replay: u64,
    /// The largest body.
    pub body: Option<u64>,
}

/// A request as the upstream gets it.
#[derive(Debug)]
pub struct Prepared {
    /// Its head.
    pub head: Parts,
    /// Its body, where it has one.
    pub upload: Option<Rc<Upload>>,
    /// The upgrade that it asks for.
    pub wish: Option<tunnel::Wish>,
}

impl Prepared {
    /// Lets `rewrite` change the head, and frames the request anew.
    ///
    /// # Errors
    /// `uri_too_long` where the upstream's prefix does not fit.
    pub fn new(
        upstream: &Upstream,
        conn: &Conn,
        request: Request<Incoming>,
        seen: Seen,
        limits: Limits,
        rewrite: impl FnOnce(&mut Parts),
    ) -> Result<Prepared, Refusal> {
        let (mut parts, incoming) = request.into_parts();
        let has_body = !http_body::Body::is_end_stream(&incoming);
        let wish = tunnel::wish(&mut parts, seen, has_body);
        let trailers = wants_trailers(&parts.headers, parts.version, seen);
        rewrite(&mut parts);
        if parts.uri.scheme().is_some() || !upstream.prefix.is_empty() {
            parts.uri = target(&parts.uri, &upstream.prefix).ok_or_else(|| {
                Refusal::new(Reason::UriTooLong, "the request's target is too long")
            })?;
        }
        if let Some(wish) = &wish {
            tunnel::announce(&mut parts.headers, wish.protocol.clone());
        } else if trailers {
            ask_for_trailers(&mut parts.headers);
        }
        let upload = has_body.then(|| {
            let kept = Kept {
                replay: limits.replay,
                resend: match upstream.protocol {
                    Protocol::H1 => 0,
                    Protocol::H2 | Protocol::Either => RESEND,
                },
            };
            Upload::new(incoming, kept, limits.body, Arc::clone(&conn.signal))
        });
        // What a call of gRPC sends may wait for what it was sent.
        if let Some(upload) = &upload
            && !(parts.version == http::Version::HTTP_2 && is_grpc(&parts.headers))
        {
            conn.uploads(upload);
        }
        parts.version = http::Version::HTTP_11;
        let length = upload.as_ref().map_or(Some(0), |upload| upload.length());
        frame(&mut parts.headers, length, seen.has(Seen::CONTENT_LENGTH));
        Ok(Prepared {
            head: parts,
            upload,
            wish,
        })
    }
}

/// The target in origin-form, with the upstream's own prefix before it.
fn target(uri: &Uri, prefix: &str) -> Option<Uri> {
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let path = if path == "*" {
        // It is asked of the server, and is no path (RFC 9112 section 3.2.4).
        path.to_owned()
    } else if path.starts_with('?') {
        format!("{prefix}/{path}")
    } else {
        format!("{prefix}{path}")
    };
    PathAndQuery::from_maybe_shared(bytes::Bytes::from(path))
        .ok()
        .map(Uri::from)
}

/// What every sending of one request has in common.
#[derive(Clone, Copy)]
pub struct Sending<'a> {
    /// Where to.
    pub upstream: &'a Upstream,
    /// Its idle connections.
    pub pool: &'a Rc<Pool>,
    /// The request's body, where it has one.
    pub upload: Option<&'a Rc<Upload>>,
    /// Its token, where it has one of ours.
    pub bearer: Option<Bearer<'a>>,
}

impl Sending<'_> {
    /// Whether the whole request can be sent again after it was answered.
    #[must_use]
    pub fn is_replayable(&self) -> bool {
        self.upload.is_none_or(|upload| upload.is_replayable())
    }

    /// Whether it can where it was not.
    fn is_resendable(&self) -> bool {
        self.upload.is_none_or(|upload| upload.is_resendable())
    }

    /// The body from its beginning; an earlier sending of it ends.
    fn body(&self) -> RequestBody {
        self.upload.map_or_else(RequestBody::empty, Upload::sending)
    }

    /// Sends the request with this head and waits for the head of the answer.
    ///
    /// # Errors
    /// An `upstream_...` reason, the caller's own fault with its body, or no token any more.
    pub async fn send(&self, net: &dyn Net, head: &mut Parts) -> Result<Answer, Refusal> {
        let mut pooled = match self.is_shared(head) {
            false => self.pool.take(),
            true => None,
        };
        let mut unsent = None;
        let mut is_again = false;
        loop {
            let was_pooled = pooled.is_some();
            let mut wire = match pooled {
                Some(wire) => wire,
                // Rare and large: not a part of every request's future.
                None if is_again => Box::pin(self.connected(net, head)).await?,
                None => match Box::pin(self.carried(net, head)).await? {
                    Carried::Alone(wire) => wire,
                    Carried::Answered(answer) => return Ok(answer),
                },
            };
            let mut sending = match unsent.take() {
                None => wire.request(head, self.body()),
                Some(unsent) => wire.request_again(unsent, head),
            };
            let exchange = wire.exchange(&mut sending);
            let answered = match self.upstream.response_timeout {
                None => exchange.await,
                Some(limit) => Box::pin(self.in_time(limit, exchange)).await?,
            };
            let error = match answered {
                Ok(head) => {
                    return Ok(Own::begin(head, wire, self.pool, self.upload, sending));
                }
                Err(error) => error,
            };
            let was_idle = was_pooled && matches!(error, Broken::Closed);
            if was_idle && !sending.has_begun() {
                unsent = Some(sending);
            } else if !(was_idle && is_idempotent(&head.method) && self.is_resendable()) {
                return Err(failed(self.upstream, self.upload, &error));
            }
            pooled = None;
            is_again = true;
        }
    }

    /// A new connection of HTTP/1.1; the head is as it may be sent by then.
    async fn connected(&self, net: &dyn Net, head: &mut Parts) -> Result<Box<Wire>, Refusal> {
        let (io, _) = dial(net, self.upstream, Protocol::H1).await?;
        if let Some(bearer) = self.bearer {
            bearer.judge(&mut head.headers).await?;
        }
        Ok(Wire::new(io))
    }

    async fn in_time<T>(
        &self,
        limit: Duration,
        sent: impl Future<Output = T>,
    ) -> Result<T, Refusal> {
        let mut sent = std::pin::pin!(sent);
        let mut deadline = Instant::now() + limit;
        loop {
            if let Ok(sent) = tokio::time::timeout_at(deadline, &mut sent).await {
                return Ok(sent);
            }
            // The upstream's time begins when it has the whole request.
            let since = match self.upload {
                None => break,
                Some(upload) => upload.ended_at().unwrap_or_else(Instant::now),
            };
            if since + limit <= deadline {
                break;
            }
            deadline = since + limit;
        }
        if let Some(upload) = self.upload {
            upload.abort();
        }
        let origin = &self.upstream.origin;
        let text = format!("{origin} did not answer within {limit:?} (limits.response_timeout)");
        Err(Refusal::new(Reason::UpstreamTimeout, text))
    }
}

fn is_idempotent(method: &Method) -> bool {
    [
        Method::GET,
        Method::HEAD,
        Method::OPTIONS,
        Method::PUT,
        Method::DELETE,
    ]
    .contains(method)
}

/// The caller's own fault with its body.
fn fault(upload: Option<&Rc<Upload>>) -> Option<Refusal> {
    let (reason, text) = match upload?.fault()? {
        Fault::TooLarge => (
            Reason::TooLarge,
            "the request's body is larger than limits.body_bytes",
        ),
        Fault::Broken => (
            Reason::BadRequest,
            "the request's body broke off or its chunks are malformed",
        ),
        Fault::Slow => (
            Reason::Timeout,
            "nothing of the request's body came for limits.idle_timeout",
        ),
    };
    Some(Refusal::new(reason, text))
}

fn failed(upstream: &Upstream, upload: Option<&Rc<Upload>>, error: &Broken) -> Refusal {
    if let Some(refusal) = fault(upload) {
        return refusal;
    }
    let origin = &upstream.origin;
    if let Broken::Unsound(violation) = error {
        let text = format!("what {origin} answered is not sound HTTP/1.1: {violation}");
        return Refusal::new(Reason::UpstreamProtocol, text);
    }
    let text = format!("{origin} closed the connection before it answered");
    Refusal::new(Reason::UpstreamUnreachable, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_stands_before_every_path_and_before_nothing_else() {
        for (prefix, asked, expected) in [
            ("", "http://a/b?c", "/b?c"),
            ("", "http://a?c", "/?c"),
            ("/p", "/b?c", "/p/b?c"),
            ("/p", "http://a", "/p/"),
            ("/p", "http://a?c", "/p/?c"),
            ("/p", "*", "*"),
        ] {
            let target = target(&Uri::from_static(asked), prefix).expect("it is short");
            assert_eq!(target.to_string(), expected, "{prefix} {asked}");
        }
    }
}
