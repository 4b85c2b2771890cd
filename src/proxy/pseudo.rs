//! The head of a request over HTTP/2, told as HTTP/1.1 tells it (RFC 9113 section 8.3.1): what judges
//! and forwards requests knows one form only.
//!
//! - `:authority` becomes the Host, where there is none; where both are there they must agree.
//! - The crumbs of a cookie become one field again (section 8.2.3).
//! - A head has the same limits as over HTTP/1.1: as many fields, and as many bytes as it has there.
//!   And no name in it that would be refused there, for what it can be read as.

use http::header::{CONTENT_LENGTH, COOKIE, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};

use super::framing::{Violation, is_disguised};
use super::respond::Refusal;
use super::verdict::overloaded;
use crate::reason::Reason;

/// What hyper takes over HTTP/1.1.
pub const FIELDS: usize = 100;

/// Why a stream's request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It has more than [`FIELDS`].
    Fields,
    /// Its head has more bytes than it may have.
    Size,
    /// Its request line alone has.
    Line,
    /// `:authority` and the Host disagree.
    Hosts,
    /// Neither http nor https.
    Scheme,
    /// A name can be read as one that frames a message over HTTP/1.1.
    Disguised,
    /// There is no room for one more exchange.
    Crowded,
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Refusal {
        match fault {
            Fault::Fields => Refusal::new(
                Reason::HeadersTooLarge,
                "the request has more than 100 header fields",
            ),
            Fault::Size => Refusal::new(
                Reason::HeadersTooLarge,
                "the request's head is larger than limits.header_bytes",
            ),
            Fault::Line => Refusal::new(
                Reason::UriTooLong,
                "the request's target is longer than limits.header_bytes",
            ),
            Fault::Hosts => Refusal::new(
                Reason::BadRequest,
                "the request's :authority names another host than its Host header",
            ),
            Fault::Scheme => Refusal::new(
                Reason::BadRequest,
                "the request's :scheme is neither http nor https",
            ),
            Fault::Disguised => Violation::Disguised.into(),
            Fault::Crowded => overloaded("too many requests are under way"),
        }
    }
}

/// Rewrites a head that may have `limit` bytes.
///
/// # Errors
/// `bad_request`, `headers_too_large`, `uri_too_long`.
pub fn retell<B>(request: &mut Request<B>, limit: usize) -> Result<(), Fault> {
    let authority = request.uri().authority();
    let host = authority.and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    match request.uri().scheme_str() {
        None | Some("http" | "https") => {}
        Some(_) => return Err(Fault::Scheme),
    }
    if let Some(host) = host {
        let headers = request.headers_mut();
        match headers.get(HOST) {
            None => {
                headers.insert(HOST, host);
            }
            Some(other) if other.as_bytes().eq_ignore_ascii_case(host.as_bytes()) => {}
            Some(_) => return Err(Fault::Hosts),
        }
        // That of CONNECT is no path, and stays: the method is refused.
        if let Some(path) = request.uri().path_and_query() {
            *request.uri_mut() = Uri::from(path.clone());
        }
    }
    join_cookies(request.headers_mut());
    match () {
        () if request.headers().len() > FIELDS => Err(Fault::Fields),
        () if request.headers().keys().any(disguises) => Err(Fault::Disguised),
        () if length(request) <= limit => Ok(()),
        () if line(request) > limit => Err(Fault::Line),
        () => Err(Fault::Size),
    }
}

fn disguises(name: &HeaderName) -> bool {
    name != CONTENT_LENGTH && is_disguised(name.as_str())
}

fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    let (Some(_), Some(_)) = (crumbs.next(), crumbs.next()) else {
        return;
    };
    let crumbs: Vec<&[u8]> = (headers.get_all(COOKIE).iter())
        .map(HeaderValue::as_bytes)
        .collect();
    // Each is a value, and so is what stands between them.
    if let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, whole);
    }
}

/// The bytes of the head over HTTP/1.1, from the method to the empty line.
fn length<B>(request: &Request<B>) -> usize {
    let fields = request.headers().iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    line(request) + fields.sum::<usize>() + "\r\n".len()
}

/// Those of its first line.
fn line<B>(request: &Request<B>) -> usize {
    let target = request
        .uri()
        .path_and_query()
        .map_or(0, |path: &PathAndQuery| path.as_str().len());
    request.method().as_str().len() + target + "  HTTP/1.1\r\n".len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, fields: &[(&'static str, &'static str)]) -> Request<()> {
        let mut request = Request::new(());
        *request.uri_mut() = uri.parse().expect("a target");
        for (name, value) in fields {
            let value = HeaderValue::from_static(value);
            request.headers_mut().append(*name, value);
        }
        request
    }

    #[test]
    fn the_authority_is_the_host_and_the_target_a_path() {
        for (uri, fields) in [
            ("http://a.example:1/x?y", &[][..]),
            ("https://a.example:1/x?y", &[]),
            ("http://a.example:1/x?y", &[("host", "A.example:1")]),
            ("/x?y", &[("host", "a.example:1")]),
        ] {
            let mut request = request(uri, fields);
            assert_eq!(retell(&mut request, 1000), Ok(()));
            let hosts: Vec<_> = request.headers().get_all(HOST).iter().collect();
            assert_eq!(hosts.len(), 1, "{uri}");
            assert!(hosts[0].as_bytes().eq_ignore_ascii_case(b"a.example:1"));
            assert_eq!(request.uri(), "/x?y");
        }
    }

    #[test]
    fn an_authority_and_a_host_that_disagree_are_refused() {
        let fields = &[("host", "b.example")];
        let mut request = request("http://a.example/", fields);
        assert_eq!(retell(&mut request, 1000), Err(Fault::Hosts));
    }

    #[test]
    fn other_schemes_are_refused() {
        let mut request = request("ftp://a.example/", &[]);
        assert_eq!(retell(&mut request, 1000), Err(Fault::Scheme));
    }

    #[test]
    fn crumbs_are_one_cookie_again() {
        let crumbs = &[
            ("cookie", "a=1"),
            ("x", "y"),
            ("cookie", ""),
            ("cookie", "b=2"),
        ];
        let mut request = request("/", crumbs);
        assert_eq!(retell(&mut request, 1000), Ok(()));
        let cookies: Vec<_> = request.headers().get_all(COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; ; b=2"]);
        assert_eq!(request.headers().len(), 2);
    }

    #[test]
    fn a_head_has_as_many_bytes_as_over_http_1() {
        let wire = "GET /x?y HTTP/1.1\r\nhost: a.example\r\ncookie: a=1; b=2\r\n\r\n";
        let crumbs = &[("cookie", "a=1"), ("cookie", "b=2")];
        for (limit, expected) in [(wire.len(), Ok(())), (wire.len() - 1, Err(Fault::Size))] {
            let mut request = request("http://a.example/x?y", crumbs);
            assert_eq!(retell(&mut request, limit), expected);
        }
    }

    #[test]
    fn a_line_that_is_too_long_alone_is_told_from_a_head_that_is() {
        let line = "GET /x?y HTTP/1.1\r\n".len();
        for (limit, expected) in [(line, Fault::Size), (line - 1, Fault::Line)] {
            let mut request = request("http://a.example/x?y", &[]);
            assert_eq!(retell(&mut request, limit), Err(expected));
        }
    }

    #[test]
    fn a_head_has_as_many_fields_as_over_http_1() {
        for (fields, expected) in [(99, Ok(())), (100, Err(Fault::Fields))] {
            let mut request = request("http://a.example/", &vec![("x", "y"); fields]);
            assert_eq!(retell(&mut request, 10_000), expected, "and the Host");
        }
    }
}
