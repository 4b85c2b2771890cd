//! `Location` and `Content-Location`: what points to the upstream's own origin points to the
//! listener instead, so that a program that follows it comes back through us and needs no token.
//! What points elsewhere is handed back as it is, and never followed. So is what lies outside the
//! upstream's prefix: no path of the listener leads there.

use http::header::{CONTENT_LOCATION, LOCATION};
use http::{HeaderMap, HeaderValue};

/// Rewrites both fields. `host` is the Host that the caller used for us.
pub fn rewrite(headers: &mut HeaderMap, origin: &str, prefix: &str, host: &HeaderValue) {
    for name in [LOCATION, CONTENT_LOCATION] {
        let Some(value) = headers.get(&name).and_then(|value| value.to_str().ok()) else {
            continue;
        };
        if let Some(ours) = through_us(value, origin, prefix, host) {
            headers.insert(name, ours);
        }
    }
}

fn through_us(value: &str, origin: &str, prefix: &str, host: &HeaderValue) -> Option<HeaderValue> {
    let (path, absolute) = match path_at(value, origin) {
        Some(path) => (path, true),
        None if value.starts_with('/') && !value.starts_with("//") => (value, false),
        None => return None,
    };
    let path = match path.strip_prefix(prefix) {
        Some(rest) if rest.is_empty() || rest.starts_with(['/', '?', '#']) => rest,
        _ => return None,
    };
    if !absolute && prefix.is_empty() {
        return None;
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    let ours = if absolute {
        format!("http://{}{slash}{path}", host.to_str().ok()?)
    } else {
        format!("{slash}{path}")
    };
    HeaderValue::from_str(&ours).ok()
}

/// What follows the origin, where the value begins with it (scheme and host in any case, the
/// scheme's own port written out or not) and it ends there: `https://region.evil` does not begin
/// with `https://region`.
fn path_at<'a>(value: &'a str, origin: &str) -> Option<&'a str> {
    let default_port = match origin.starts_with("https:") {
        true => ":443",
        false => ":80",
    };
    let origin = if value.starts_with("//") {
        &origin[origin.find("//")?..]
    } else {
        origin
    };
    let (head, path) = value.split_at_checked(origin.len())?;
    let path = path.strip_prefix(default_port).unwrap_or(path);
    let ends = path.is_empty() || path.starts_with(['/', '?', '#']);
    (ends && head.eq_ignore_ascii_case(origin)).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_upstreams_own_origin_comes_back_to_us() {
        let host = HeaderValue::from_static("localhost:8080");
        for (prefix, value, expected) in [
            (
                "",
                "https://region.example/a?b",
                "http://localhost:8080/a?b",
            ),
            ("", "HTTPS://Region.example", "http://localhost:8080/"),
            ("", "//region.example/a", "http://localhost:8080/a"),
            ("", "https://region.example?x", "http://localhost:8080/?x"),
            (
                "",
                "https://region.example:443/a",
                "http://localhost:8080/a",
            ),
            ("", "//region.example:443", "http://localhost:8080/"),
            (
                "",
                "https://region.example:4430/a",
                "https://region.example:4430/a",
            ),
            (
                "",
                "https://region.example:80/a",
                "https://region.example:80/a",
            ),
            ("", "/a", "/a"),
            ("", "a/b", "a/b"),
            (
                "",
                "https://region.example.evil/a",
                "https://region.example.evil/a",
            ),
            (
                "",
                "https://region.example:444/a",
                "https://region.example:444/a",
            ),
            (
                "",
                "https://region.example@evil/a",
                "https://region.example@evil/a",
            ),
            ("", "http://region.example/a", "http://region.example/a"),
            ("", "//evil/a", "//evil/a"),
            (
                "/p",
                "https://region.example/p/a",
                "http://localhost:8080/a",
            ),
            ("/p", "/p/a", "/a"),
            ("/p", "/p", "/"),
            ("/p", "/px/a", "/px/a"),
            ("/p", "https://region.example/q", "https://region.example/q"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, HeaderValue::from_static(value));
            headers.insert(CONTENT_LOCATION, HeaderValue::from_static(value));
            rewrite(&mut headers, "https://region.example", prefix, &host);
            assert_eq!(headers[LOCATION], expected, "{prefix} {value}");
            assert_eq!(headers[CONTENT_LOCATION], expected, "{prefix} {value}");
        }
    }
    #[test]
    fn the_port_of_the_origins_own_scheme_may_be_written_out() {
        let host = HeaderValue::from_static("localhost:8080");
        for (origin, value, expected) in [
            (
                "http://[::1]",
                "http://[::1]:80/a",
                Some("http://localhost:8080/a"),
            ),
            ("http://r.example", "http://r.example:443/a", None),
            ("http://r.example:81", "http://r.example/a", None),
            ("http://r.example:81", "http://r.example:80/a", None),
        ] {
            let ours = through_us(value, origin, "", &host);
            let ours = ours.as_ref().map(|ours| ours.to_str().expect("text"));
            assert_eq!(ours, expected, "{origin} {value}");
        }
    }
}
