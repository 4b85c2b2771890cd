//! One sending of a request to an upstream: over a pooled connection or a new one.
//!
//! - A request that was never written goes over another connection, whatever its method.
//! - One that may have been written is sent again only over a fresh connection, once, and only where
//!   that does no harm: the pooled connection closed before an answer, and the method is idempotent
//!   with nothing of its body lost (RFC 9110 section 9.2.2).

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::Upstream;
use super::bearer::Bearer;
use super::conn::Conn;
use super::dial::dial;
use super::framing::{Answers, Asked};
use super::headers::{Seen, frame};
use super::last_words::{self, LastWords};
use super::pool::{Lease, Pool, Sender};
use super::respond::Refusal;
use super::tunnel;
use super::upload::{Fault, RequestBody, Upload};
use crate::net::Net;
use crate::reason::Reason;

/// An upstream's answer to its head, and the connection that the rest comes over.
pub type Answer = (Response<Incoming>, Lease);

/// A request's head, kept for a second sending in a buffer that its connection uses again.
#[derive(Debug, Default)]
pub struct Saved {
    method: Method,
    uri: Uri,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Saved {
    /// Keeps the head of `request`. Values are counted references: nothing is copied.
    pub fn keep<B>(&mut self, request: &Request<B>) {
        self.method = request.method().clone();
        self.uri = request.uri().clone();
        self.headers.clear();
        let headers = request.headers().iter();
        self.headers
            .extend(headers.map(|(name, value)| (name.clone(), value.clone())));
    }

    /// Forgets the values, and keeps the room.
    pub fn clear(&mut self) {
        self.headers.clear();
    }

    /// The request again.
    #[must_use]
    pub fn request(&self, body: RequestBody) -> Request<RequestBody> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        for (name, value) in &self.headers {
            request.headers_mut().append(name.clone(), value.clone());
        }
        request
    }

    fn is_idempotent(&self) -> bool {
        [
            Method::GET,
            Method::HEAD,
            Method::OPTIONS,
            Method::PUT,
            Method::DELETE,
        ]
        .contains(&self.method)
    }
}

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
    request: Request<RequestBody>,
    upload: Option<Rc<Upload>>,
    wish: Option<tunnel::Wish>,
}

/// What is left of a request while it is sent.
#[derive(Debug)]
pub struct Pending {
    /// Its head.
    pub saved: Saved,
    /// Its body, where it has one.
    pub upload: Option<Rc<Upload>>,
    wish: Option<tunnel::Wish>,
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
        rewrite(&mut parts);
        if parts.uri.scheme().is_some() || !upstream.prefix.is_empty() {
            parts.uri = target(&parts.uri, &upstream.prefix).ok_or_else(|| {
                Refusal::new(Reason::UriTooLong, "the request's target is too long")
            })?;
        }
        parts.version = http::Version::HTTP_11;
        if let Some(wish) = &wish {
            tunnel::announce(&mut parts.headers, wish.protocol.clone());
        }
        let upload = has_body.then(|| {
            let signal = Arc::clone(&conn.signal);
            Upload::new(incoming, limits.replay, limits.body, signal)
        });
        let length = upload.as_ref().map_or(Some(0), |upload| upload.length());
        frame(&mut parts.headers, length, seen.has(Seen::CONTENT_LENGTH));
        let body = upload
            .as_ref()
            .map_or_else(RequestBody::empty, Upload::sending);
        Ok(Prepared {
            request: Request::from_parts(parts, body),
            upload,
            wish,
        })
    }

    /// The request, and what stays of it in the room that its connection has for that.
    #[must_use]
    pub fn send_from(self, conn: &Conn) -> (Request<RequestBody>, Pending) {
        let mut saved = conn.saved.take();
        saved.keep(&self.request);
        let pending = Pending {
            saved,
            upload: self.upload,
            wish: self.wish,
        };
        (self.request, pending)
    }
}

impl Pending {
    /// Gives the room back; what is left is the wish for an upgrade.
    #[must_use]
    pub fn end(mut self, conn: &Conn) -> Option<tunnel::Wish> {
        self.saved.clear();
        conn.saved.replace(self.saved);
        self.wish
    }
}

/// The target in origin-form, with the upstream's own prefix before it.
fn target(uri: &Uri, prefix: &str) -> Option<Uri> {
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let path = if path.starts_with('?') {
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
    /// The request's head.
    pub saved: &'a Saved,
    /// Its body, where it has one.
    pub upload: Option<&'a Rc<Upload>>,
    /// Its token, where it has one of ours.
    pub bearer: Option<Bearer<'a>>,
}

impl Sending<'_> {
    /// Whether the whole request can be sent again.
    #[must_use]
    pub fn is_replayable(&self) -> bool {
        self.upload.is_none_or(|upload| upload.is_replayable())
    }

    /// The request again; an earlier sending of its body ends.
    #[must_use]
    pub fn again(&self) -> Request<RequestBody> {
        let body = self.upload.map_or_else(RequestBody::empty, Upload::sending);
        self.saved.request(body)
    }

    /// Sends `request` and waits for the head of the answer.
    ///
    /// # Errors
    /// An `upstream_...` reason, the caller's own fault with its body, or no token any more.
    pub async fn send(
        &self,
        net: &dyn Net,
        mut request: Request<RequestBody>,
    ) -> Result<Answer, Refusal> {
        let mut fresh_only = false;
        loop {
            let pooled = if fresh_only { None } else { self.pool.take() };
            let was_pooled = pooled.is_some();
            let mut sender = match pooled {
                Some(sender) => sender,
                // Rare and large: not a part of every request's future.
                None => {
                    let (sender, judged) = Box::pin(self.connected(net, request)).await?;
                    request = judged;
                    sender
                }
            };
            let sent = match self.upstream.response_timeout {
                None => sender.send(request).await,
                Some(limit) => Box::pin(self.in_time(limit, sender.send(request))).await?,
            };
            let mut error = match sent {
                Ok(response) => {
                    let lease = Lease::new(sender, Rc::clone(self.pool), self.upload.cloned());
                    return Ok((response, lease));
                }
                Err(error) => error,
            };
            let unsent = error.take_message();
            let may_repeat = was_pooled
                && self.saved.is_idempotent()
                && self.is_replayable()
                && is_close(error.error());
            request = match unsent {
                Some(unsent) if was_pooled => unsent,
                None if may_repeat => {
                    fresh_only = true;
                    self.again()
                }
                _ => return Err(failed(self.upstream, self.upload, error.error())),
            };
        }
    }

    /// A new connection, and the request as it may be sent by then.
    async fn connected(
        &self,
        net: &dyn Net,
        mut request: Request<RequestBody>,
    ) -> Result<(Sender, Request<RequestBody>), Refusal> {
        let sender = connect(net, self.upstream).await?;
        if let Some(bearer) = self.bearer {
            bearer.judge(request.headers_mut()).await?;
        }
        Ok((sender, request))
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

async fn connect(net: &dyn Net, upstream: &Upstream) -> Result<Sender, Refusal> {
    let io = dial(net, upstream).await?;
    let asked = Arc::new(Asked::default());
    let answers = Answers::new(Arc::clone(&asked));
    let (sender, connection) = http1::Builder::new()
        .handshake(TokioIo::new(LastWords::new(io, answers)))
        .await
        .map_err(|error| failed(upstream, None, &error))?;
    let task = tokio::task::spawn_local(async move {
        // How it ended is told to whoever waits for its answer.
        let _ = connection.with_upgrades().await;
    });
    Ok(Sender::new(sender, asked, task))
}

/// Whether the other side closed the connection, as servers do with one that was idle for long.
fn is_close(error: &hyper::Error) -> bool {
    if error.is_incomplete_message() || error.is_canceled() {
        return true;
    }
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return last_words::is_close(io);
        }
        source = inner.source();
    }
    false
}

fn failed(upstream: &Upstream, upload: Option<&Rc<Upload>>, error: &hyper::Error) -> Refusal {
    match upload.and_then(|upload| upload.fault()) {
        Some(Fault::TooLarge) => {
            return Refusal::new(
                Reason::TooLarge,
                "the request's body is larger than limits.body_bytes",
            );
        }
        Some(Fault::Broken) => {
            return Refusal::new(
                Reason::BadRequest,
                "the request's body broke off or its chunks are malformed",
            );
        }
        None => {}
    }
    let origin = &upstream.origin;
    if let Some(violation) = last_words::violation(error) {
        let text = format!("what {origin} answered is not sound HTTP/1.1: {violation}");
        return Refusal::new(Reason::UpstreamProtocol, text);
    }
    if error.is_parse() {
        let text = format!("what {origin} answered is not HTTP/1.1");
        return Refusal::new(Reason::UpstreamProtocol, text);
    }
    let text = format!("{origin} closed the connection before it answered");
    Refusal::new(Reason::UpstreamUnreachable, text)
}
