//! Header rules: what is removed on the way, and what is noticed while looking.
//!
//! - Hop-by-hop fields go first, with what `Connection` names (RFC 9110 section 7.6.1); `Connection`
//!   cannot name a field that frames or routes the message. What we inject comes after.
//! - One pass over the names finds all that later steps ask for, so that an ordinary request costs
//!   one look at each of its names.

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Version};

use crate::config::inbound::fold;

/// Which fields of interest a message has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen(u16);

impl Seen {
    /// `Connection`.
    pub const CONNECTION: Seen = Seen(1);
    /// Any other hop-by-hop field.
    pub const HOP: Seen = Seen(1 << 1);
    /// `Forwarded`, `X-Forwarded-*` and their kin.
    pub const FORWARDED: Seen = Seen(1 << 2);
    /// `Origin` or `Sec-Fetch-Site`: a browser's.
    pub const BROWSER: Seen = Seen(1 << 3);
    /// `Expect`.
    pub const EXPECT: Seen = Seen(1 << 4);
    /// `Upgrade`.
    pub const UPGRADE: Seen = Seen(1 << 5);
    /// `X-Request-Id`.
    pub const REQUEST_ID: Seen = Seen(1 << 6);
    /// `X-Regent-Hop`.
    pub const LOOP: Seen = Seen(1 << 7);
    /// `Authorization`.
    pub const AUTHORIZATION: Seen = Seen(1 << 8);
    /// `Content-Length`.
    pub const CONTENT_LENGTH: Seen = Seen(1 << 9);
    /// `Location` or `Content-Location`.
    pub const LOCATION: Seen = Seen(1 << 10);

    /// Looks once at every name.
    #[must_use]
    pub fn scan(headers: &HeaderMap) -> Seen {
        let bits = headers.keys().fold(0, |bits, name| bits | class(name).0);
        Seen(bits)
    }

    /// Whether any of these was there.
    #[must_use]
    pub fn has(self, other: Seen) -> bool {
        self.0 & other.0 != 0
    }
}

fn class(name: &HeaderName) -> Seen {
    match name.as_str() {
        "connection" => Seen::CONNECTION,
        "upgrade" => Seen(Seen::UPGRADE.0 | Seen::HOP.0),
        "keep-alive"
        | "te"
        | "trailer"
        | "transfer-encoding"
        | "proxy-connection"
        | "proxy-authorization"
        | "proxy-authenticate"
        | "http2-settings" => Seen::HOP,
        "origin" | "sec-fetch-site" => Seen::BROWSER,
        "expect" => Seen::EXPECT,
        "x-request-id" => Seen::REQUEST_ID,
        "x-regent-hop" => Seen::LOOP,
        "authorization" => Seen::AUTHORIZATION,
        "content-length" => Seen::CONTENT_LENGTH,
        "location" | "content-location" => Seen::LOCATION,
        other if is_forwarded(other) => Seen::FORWARDED,
        _ => Seen::default(),
    }
}

/// By their class, as servers fold names: `x_real_ip` is one too.
fn is_forwarded(name: &str) -> bool {
    if !name.starts_with(['x', 'f']) {
        return false;
    }
    let begins = |prefix: &str| {
        let head = name.as_bytes().get(..prefix.len());
        head.is_some_and(|head| head.iter().map(|byte| fold(*byte)).eq(prefix.bytes()))
    };
    let is = |whole: &str| name.len() == whole.len() && begins(whole);
    begins("x-forwarded")
        || is("forwarded")
        || is("x-real-ip")
        || is("x-original-url")
        || is("x-original-uri")
        || is("x-original-method")
        || is("x-rewrite-url")
}

/// Hop-by-hop whether `Connection` names them or not.
const HOP_BY_HOP: [HeaderName; 9] = [
    HeaderName::from_static("keep-alive"),
    TE,
    TRANSFER_ENCODING,
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHORIZATION,
    PROXY_AUTHENTICATE,
    HeaderName::from_static("http2-settings"),
    UPGRADE,
    // The last: an answer keeps it, for its trailers pass.
    TRAILER,
];

/// What `Connection` cannot take away: it would change where the message goes or where it ends, or
/// hide from the workload what the proxies before us said of the caller.
fn is_protected(name: &str) -> bool {
    matches!(
        name,
        "host"
            | "content-length"
            | "cookie"
            | "set-cookie"
            | "content-type"
            | "x-forwarded-for"
            | "x-forwarded-proto"
            | "x-forwarded-host"
            | "x-request-id"
            | "x-regent-hop"
    )
}

/// Names a request in logs.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// 128 random bits in hexadecimal: to find a request again, not to guard anything.
#[must_use]
pub fn request_id() -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    /// The two digits of every byte.
    const PAIRS: [[u8; 2]; 256] = {
        let mut pairs = [[0; 2]; 256];
        let mut byte = 0;
        while byte < 256 {
            pairs[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15]];
            byte += 1;
        }
        pairs
    };
    let mut text = [0; 32];
    for (pair, byte) in text
        .as_chunks_mut()
        .0
        .iter_mut()
        .zip(fastrand::u128(..).to_le_bytes())
    {
        *pair = PAIRS[usize::from(byte)];
    }
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("0"))
}

/// Removes the hop-by-hop fields and what `Connection` names.
pub fn strip_hop_by_hop(headers: &mut HeaderMap, seen: Seen) {
    strip(headers, seen, &HOP_BY_HOP);
}

/// The same for an answer, which goes on saying what trailers it has.
pub fn strip_answer(headers: &mut HeaderMap, seen: Seen) {
    let [all @ .., _trailer] = &HOP_BY_HOP;
    strip(headers, seen, all);
}

fn strip(headers: &mut HeaderMap, seen: Seen, names: &[HeaderName]) {
    if seen.has(Seen::CONNECTION) {
        strip_named(headers);
    }
    if seen.has(Seen::HOP) {
        for name in names {
            headers.remove(name);
        }
    }
}

/// Leaves of an answer's trailers what a recipient may add to the head that it has acted on already:
/// nothing that frames, routes, authenticates or says what the content is (RFC 9110 section 6.5.1).
#[must_use]
pub fn keep_trailers(trailers: HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::with_capacity(trailers.len());
    let mut last = None;
    for (name, value) in trailers {
        last = name.or(last);
        if let Some(name) = last.as_ref().filter(|name| !is_for_the_head(name)) {
            kept.append(name, value);
        }
    }
    kept
}

fn is_for_the_head(name: &HeaderName) -> bool {
    let text = name.as_str();
    class(name) != Seen::default()
        || text.starts_with("x-regent-")
        || matches!(
            text,
            "host"
                | "cookie"
                | "set-cookie"
                | "www-authenticate"
                | "authentication-info"
                | "content-type"
                | "content-encoding"
                | "content-range"
                | "age"
                | "cache-control"
                | "date"
                | "expires"
                | "max-forwards"
                | "pragma"
                | "range"
                | "retry-after"
                | "vary"
        )
}

fn strip_named(headers: &mut HeaderMap) {
    let mut named: Vec<HeaderName> = Vec::new();
    for value in headers.get_all(CONNECTION) {
        // What nearly all say.
        if value == "keep-alive" || value == "close" {
            continue;
        }
        let tokens = value.as_bytes().split(|byte| *byte == b',');
        let names = tokens.filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok());
        named.extend(names.filter(|name| !is_protected(name.as_str())));
    }
    headers.remove(CONNECTION);
    for name in named {
        headers.remove(name);
    }
}

/// Removes what proxies before us say of the caller.
pub fn strip_forwarded(headers: &mut HeaderMap, seen: Seen) {
    if !seen.has(Seen::FORWARDED) {
        return;
    }
    let names: Vec<_> = headers
        .keys()
        .filter(|name| is_forwarded(name.as_str()))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

/// Removes what a caller may have made up about itself and others, and says who called: appends `peer`
/// to `X-Forwarded-For`. `X-Forwarded-Proto` and `-Host` pass; nothing here is ever decided by them.
pub fn say_who_called(headers: &mut HeaderMap, seen: Seen, peer: &HeaderValue) {
    const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
    if !seen.has(Seen::FORWARDED) {
        headers.insert(FOR, peer.clone());
        return;
    }
    let passes = |name: &str| {
        matches!(
            name,
            "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host"
        )
    };
    let made_up: Vec<_> = headers
        .keys()
        .filter(|name| is_forwarded(name.as_str()) && !passes(name.as_str()))
        .cloned()
        .collect();
    for name in made_up {
        headers.remove(name);
    }
    // One line, for servers that read the first one alone.
    let mut all: Vec<&[u8]> = headers
        .get_all(FOR)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    all.push(peer.as_bytes());
    let joined = HeaderValue::from_bytes(&all.join(&b", "[..]));
    headers.insert(FOR, joined.unwrap_or_else(|_| peer.clone()));
}

/// Whether `Connection` has this token.
#[must_use]
pub fn connection_has(headers: &HeaderMap, token: &str) -> bool {
    headers.get_all(CONNECTION).iter().any(|value| {
        let mut tokens = value.as_bytes().split(|byte| *byte == b',');
        tokens.any(|found| found.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    })
}

/// Whether whoever sent this can take trailers (RFC 9110 section 10.1.4). In HTTP/1.1 a `TE` that
/// `Connection` does not name may be that of somebody before.
#[must_use]
pub fn wants_trailers(headers: &HeaderMap, version: Version, seen: Seen) -> bool {
    seen.has(Seen::HOP)
        && (version == Version::HTTP_2 || connection_has(headers, "te"))
        && headers.get_all(TE).iter().any(|value| {
            let mut codings = value.as_bytes().split(|byte| *byte == b',');
            codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
        })
}

/// Says the same to the next one. In HTTP/2 the field alone says it.
pub fn ask_for_trailers(headers: &mut HeaderMap) {
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(CONNECTION, HeaderValue::from_static("te"));
}

/// Frames a message anew: the length where it is known, else chunks (RFC 9112 section 6). `had` is
/// whether the message had a length of its own, so that an empty POST keeps its `0`.
pub fn frame(headers: &mut HeaderMap, length: Option<u64>, had: bool) {
    match length {
        Some(0) if !had => {}
        Some(length) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        None => {
            headers.remove(CONTENT_LENGTH);
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
}

/// The one Host field.
///
/// # Errors
/// There is none, or there are several (RFC 9112 section 3.2).
pub fn one_host(headers: &HeaderMap) -> Result<&HeaderValue, &'static str> {
    let mut all = headers.get_all(HOST).iter();
    match (all.next(), all.next()) {
        (Some(host), None) => Ok(host),
        (None, _) => Err("the request has no Host header"),
        (Some(_), Some(_)) => Err("the request has more than one Host header"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).expect("a name"),
                HeaderValue::from_str(value).expect("a value"),
            );
        }
        headers
    }

    #[test]
    fn hop_by_hop_fields_and_what_connection_names_are_removed() {
        let mut headers = map(&[
            ("connection", "close, X-Secret"),
            ("Connection", "te"),
            ("x-secret", "1"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic eDp5"),
            ("http2-settings", "x"),
            ("upgrade", "h2c"),
            ("transfer-encoding", "chunked"),
            ("accept", "*/*"),
        ]);
        let seen = Seen::scan(&headers);
        strip_hop_by_hop(&mut headers, seen);
        assert_eq!(headers, map(&[("accept", "*/*")]));
    }

    #[test]
    fn an_answer_goes_on_saying_what_trailers_it_has() {
        let fields = &[("trailer", "x-sum"), ("trailer", "x"), ("te", "trailers")];
        let mut headers = map(fields);
        let seen = Seen::scan(&headers);
        strip_answer(&mut headers, seen);
        assert_eq!(headers, map(&fields[..2]));
    }

    #[test]
    fn trailers_that_frame_route_or_authenticate_are_dropped() {
        let kept = &[("grpc-status", "0"), ("x-sum", "1"), ("x-sum", "2")];
        let mut all = kept.to_vec();
        for name in [
            "Authorization",
            "Proxy-Authorization",
            "WWW-Authenticate",
            "Set-Cookie",
            "Content-Length",
            "Transfer-Encoding",
            "Trailer",
            "TE",
            "Host",
            "Connection",
            "Upgrade",
            "Location",
            "Content-Type",
            "Content-Encoding",
            "X-Forwarded-For",
            "X_Real_IP",
            "X-Regent-User",
            "X-Request-Id",
        ] {
            all.insert(1, (name, "x"));
            all.push((name, "x"));
        }
        assert_eq!(keep_trailers(map(&all)), map(kept));
    }

    #[test]
    fn connection_cannot_name_fields_that_frame_or_route() {
        let mut headers = map(&[
            ("connection", "host, Content-Length, cookie"),
            ("host", "a"),
            ("content-length", "1"),
            ("cookie", "c"),
        ]);
        let seen = Seen::scan(&headers);
        strip_hop_by_hop(&mut headers, seen);
        assert_eq!(headers.len(), 3);
    }

    #[test]
    fn what_proxies_say_of_the_caller_is_removed() {
        let mut headers = map(&[
            ("x-forwarded-for", "1.2.3.4"),
            ("X-Forwarded-Anything", "x"),
            ("forwarded", "for=x"),
            ("x-real-ip", "x"),
            ("x-other", "x"),
        ]);
        let seen = Seen::scan(&headers);
        strip_forwarded(&mut headers, seen);
        assert_eq!(headers, map(&[("x-other", "x")]));
    }

    #[test]
    fn the_workload_is_told_who_called_and_nothing_that_a_caller_made_up() {
        let peer = HeaderValue::from_static("10.0.0.9");
        let mut headers = map(&[
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "2.2.2.2"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "a.example"),
            ("x-forwarded-user", "mallory"),
            ("x_forwarded_for", "9.9.9.9"),
            ("x.real.ip", "9.9.9.9"),
            ("x_original_url", "/admin"),
            ("x-original-uri", "/admin"),
            ("x-original-method", "GET"),
            ("x-rewrite-url", "/admin"),
            ("forwarded", "for=9.9.9.9"),
            ("x-original-urls", "kept"),
        ]);
        let seen = Seen::scan(&headers);
        say_who_called(&mut headers, seen, &peer);
        let expected = map(&[
            ("x-forwarded-for", "1.1.1.1, 2.2.2.2, 10.0.0.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "a.example"),
            ("x-original-urls", "kept"),
        ]);
        assert_eq!(headers, expected);
        let mut bare = map(&[]);
        say_who_called(&mut bare, Seen::default(), &peer);
        assert_eq!(bare, map(&[("x-forwarded-for", "10.0.0.9")]));
    }

    #[test]
    fn bodies_are_framed_by_length_or_in_chunks() {
        for (length, had, name) in [
            (Some(3), false, Some("content-length")),
            (Some(0), true, Some("content-length")),
            (Some(0), false, None),
            (None, true, Some("transfer-encoding")),
        ] {
            let mut headers = map(if had { &[("content-length", "9")] } else { &[] });
            frame(&mut headers, length, had);
            assert_eq!(headers.keys().next().map(HeaderName::as_str), name);
            assert!(headers.len() <= 1);
        }
    }

    proptest! {
        #[test]
        fn nothing_hop_by_hop_survives_in_any_spelling(
            token in "[A-Za-z-]{1,12}",
            pad in "[ \t]{0,3}",
        ) {
            let value = format!("{pad}{token}{pad},close");
            let mut headers = map(&[("connection", &value), (&token, "x")]);
            let seen = Seen::scan(&headers);
            strip_hop_by_hop(&mut headers, seen);
            prop_assert!(!headers.contains_key("connection"));
            let lower = token.to_ascii_lowercase();
            if !is_protected(&lower) && lower != "close" {
                prop_assert!(!headers.contains_key(&lower));
            }
        }
    }
}
