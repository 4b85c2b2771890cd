//! Who may call an unauthenticated listener on loopback: programs of this machine, not web pages.
//!
//! A web page can make a browser send requests to `localhost`: under its own name for us (DNS
//! rebinding), or openly (cross-site requests, WebSockets). So the Host must be one of ours, and
//! what a browser says of the page must be too. Nothing here trusts a header to *allow* more.

use http::header::ORIGIN;
use http::uri::Uri;
use http::{HeaderMap, HeaderValue, Version};

use super::headers::{Seen, one_host};
use crate::reason::Reason;

/// The names and origins that may call.
#[derive(Clone, Debug)]
pub struct Guard {
    hosts: Vec<String>,
    origins: Vec<String>,
}

/// Refused: the reason, and what to do about it.
pub type Refused = (Reason, &'static str);

impl Guard {
    /// Host names without ports, and origins, in any case.
    #[must_use]
    pub fn new(hosts: &[String], origins: &[String]) -> Guard {
        let lower = |all: &[String]| all.iter().map(|one| one.to_ascii_lowercase()).collect();
        Guard {
            hosts: lower(hosts),
            origins: lower(origins),
        }
    }

    /// Judges a request's head.
    ///
    /// # Errors
    /// `bad_request` for a Host that is missing, doubled or disagrees with the target,
    /// `host_not_allowed`, `cross_site_request`.
    pub fn judge(
        &self,
        uri: &Uri,
        version: Version,
        headers: &HeaderMap,
        seen: Seen,
    ) -> Result<(), Refused> {
        let host = host(uri, version, headers).map_err(|why| (Reason::BadRequest, why))?;
        if !self.allows_host(host.as_bytes()) {
            return Err((
                Reason::HostNotAllowed,
                "the Host header names a host that is not in outbound.hosts; call http://localhost, or add the name there",
            ));
        }
        self.judge_page(headers, seen)
    }

    /// Judges what a browser says of the page that made a request.
    ///
    /// # Errors
    /// `cross_site_request`.
    pub fn judge_page(&self, headers: &HeaderMap, seen: Seen) -> Result<(), Refused> {
        if seen.has(Seen::BROWSER) && !self.allows_page(headers) {
            return Err((
                Reason::CrossSiteRequest,
                "a web page of another origin made this request; add its origin to outbound.allow_origins if it may",
            ));
        }
        Ok(())
    }

    fn allows_host(&self, host: &[u8]) -> bool {
        let Some(name) = without_port(host) else {
            return false;
        };
        self.hosts
            .iter()
            .any(|ours| name.eq_ignore_ascii_case(ours.as_bytes()))
    }

    fn allows_page(&self, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all(ORIGIN).iter();
        let origin = origins.next();
        if origins.next().is_some() {
            return false;
        }
        if origin.is_some_and(|origin| self.is_listed(origin)) {
            return true;
        }
        let cross = headers.get_all("sec-fetch-site").iter().any(|site| {
            !site.as_bytes().eq_ignore_ascii_case(b"same-origin")
                && !site.as_bytes().eq_ignore_ascii_case(b"none")
        });
        !cross && origin.is_none_or(|origin| self.is_our_own(origin))
    }

    fn is_listed(&self, origin: &HeaderValue) -> bool {
        let origin = origin.as_bytes();
        self.origins
            .iter()
            .any(|ours| origin.eq_ignore_ascii_case(ours.as_bytes()))
    }

    fn is_our_own(&self, origin: &HeaderValue) -> bool {
        let origin = origin.as_bytes();
        let host = origin
            .strip_prefix(b"http://")
            .or_else(|| origin.strip_prefix(b"https://"));
        host.is_some_and(|host| self.allows_host(host))
    }
}

/// The one Host that a request names (RFC 9112 section 3.2).
///
/// # Errors
/// There is none, there are several, or the target in absolute-form names another one.
pub fn host<'h>(
    uri: &Uri,
    version: Version,
    headers: &'h HeaderMap,
) -> Result<&'h HeaderValue, &'static str> {
    let host = one_host(headers)?;
    if version < Version::HTTP_10 {
        return Err("HTTP/0.9 is not spoken here");
    }
    if let Some(authority) = uri.authority() {
        let same = host
            .as_bytes()
            .eq_ignore_ascii_case(authority.as_str().as_bytes());
        if !same || uri.scheme_str() != Some("http") {
            return Err("the request's target names another host than its Host header");
        }
    }
    Ok(host)
}

/// Whether this is a host and perhaps a port (RFC 9110 section 7.2), whatever its name.
#[must_use]
pub fn is_host(host: &[u8]) -> bool {
    let is_name = |name: &[u8]| {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
        match name {
            [b'[', literal @ .., b']'] => {
                !literal.is_empty() && (literal.iter()).all(|byte| plain(byte) || *byte == b':')
            }
            _ => !name.is_empty() && name.iter().all(plain),
        }
    };
    without_port(host).is_some_and(is_name)
}

/// `localhost:8080` to `localhost`, `[::1]:8080` to `[::1]`; `None` for what is no host and port.
fn without_port(host: &[u8]) -> Option<&[u8]> {
    let name_ends = if host.starts_with(b"[") {
        host.iter().position(|byte| *byte == b']')? + 1
    } else {
        host.iter()
            .position(|byte| *byte == b':')
            .unwrap_or(host.len())
    };
    let (name, port) = host.split_at(name_ends);
    let is_port = match port {
        [] => true,
        [b':', digits @ ..] => is_port_number(digits),
        _ => false,
    };
    is_port.then_some(name)
}

fn is_port_number(digits: &[u8]) -> bool {
    let number = digits.iter().try_fold(0_u32, |number, digit| {
        let digit = digit.wrapping_sub(b'0');
        (digit < 10).then(|| number.saturating_mul(10) + u32::from(digit))
    });
    !digits.is_empty() && number.is_some_and(|number| number <= 65_535)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(pairs: &[(&'static str, &'static str)], uri: &str) -> Result<(), Reason> {
        let hosts = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned);
        let guard = Guard::new(&hosts, &["http://localhost:3000".to_owned()]);
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let seen = Seen::scan(&headers);
        let uri = uri.parse().expect("a target");
        guard
            .judge(&uri, Version::HTTP_11, &headers, seen)
            .map_err(|(reason, _)| reason)
    }

    #[test]
    fn only_our_own_host_names_are_served() {
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:65535",
        ] {
            assert_eq!(judge(&[("host", host)], "/"), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "127.0.0.1.evil.com",
            "localhost.evil",
            "localhost.",
            "[::ffff:127.0.0.1]",
            "localhost:99999",
            "localhost:",
            "localhost:+80",
            "u@localhost",
            "localhost/x",
            "localhost,evil",
            "",
            "[::1",
        ] {
            assert_eq!(
                judge(&[("host", host)], "/"),
                Err(Reason::HostNotAllowed),
                "{host}"
            );
        }
    }

    #[test]
    fn no_host_two_hosts_and_a_target_that_disagrees_are_bad_requests() {
        let bad = Err(Reason::BadRequest);
        assert_eq!(judge(&[], "/"), bad);
        assert_eq!(
            judge(&[("host", "localhost"), ("host", "localhost")], "/"),
            bad
        );
        for target in [
            "http://169.254.169.254/",
            "https://localhost/",
            "http://u@localhost/",
            "http://localhost:81/",
        ] {
            assert_eq!(judge(&[("host", "localhost")], target), bad, "{target}");
        }
        assert_eq!(
            judge(&[("host", "localhost")], "http://LOCALHOST/x"),
            Ok(())
        );
    }

    #[test]
    fn web_pages_of_other_origins_are_refused() {
        let cross = Err(Reason::CrossSiteRequest);
        let local = ("host", "localhost");
        for headers in [
            &[local, ("origin", "https://evil.example")][..],
            &[local, ("origin", "null")],
            &[local, ("origin", "http://localhost.evil")],
            &[local, ("sec-fetch-site", "cross-site")],
            &[local, ("sec-fetch-site", "same-site")],
            &[
                local,
                ("sec-fetch-site", "same-site"),
                ("origin", "http://localhost:9999"),
            ],
            &[
                local,
                ("sec-fetch-site", "none"),
                ("sec-fetch-site", "cross-site"),
            ],
            &[
                local,
                ("origin", "http://localhost:3000"),
                ("origin", "https://evil"),
            ],
        ] {
            assert_eq!(judge(headers, "/"), cross, "{headers:?}");
        }
        for headers in [
            &[local, ("sec-fetch-site", "none")][..],
            &[
                local,
                ("sec-fetch-site", "same-origin"),
                ("origin", "http://localhost:8080"),
            ],
            &[
                local,
                ("sec-fetch-site", "same-site"),
                ("origin", "http://localhost:3000"),
            ],
            &[local, ("origin", "http://127.0.0.1:8080")],
        ] {
            assert_eq!(judge(headers, "/"), Ok(()), "{headers:?}");
        }
    }
}
