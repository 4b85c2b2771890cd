//! A request's head as HTTP/2 has it (RFC 9113 section 8.3.1), made of the one for HTTP/1.1.

use http::header::{CONNECTION, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Uri, Version};

use crate::proxy::Upstream;

/// The same request: Host becomes `:authority`, and what frames a message of HTTP/1.1 goes. `None`
/// where no URI can be made of it.
pub(super) fn of(parts: &Parts, upstream: &Upstream) -> Option<Request<()>> {
    let mut headers = parts.headers.clone();
    // A Host that no URI can hold was judged already, and means the upstream here.
    let authority = |host: &HeaderValue| Authority::try_from(host.as_bytes()).ok();
    let host = headers.remove(HOST);
    let asked = host.filter(|host| !host.as_bytes().contains(&b'@'));
    let asked = asked.as_ref().and_then(authority);
    headers.remove(CONNECTION);
    headers.remove(TRANSFER_ENCODING);
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(match upstream.tls {
        Some(_) => Scheme::HTTPS,
        None => Scheme::HTTP,
    });
    uri.authority = Some(asked.or_else(|| authority(&upstream.host))?);
    let path = parts.uri.path_and_query().cloned();
    uri.path_and_query = Some(path.unwrap_or(PathAndQuery::from_static("/")));
    let mut request = Request::new(());
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = Uri::from_parts(uri).ok()?;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = headers;
    Some(request)
}
