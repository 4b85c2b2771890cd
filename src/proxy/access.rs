//! The line of the log that each request is with `log.access`, and what is kept for it.
//!
//! - Nothing of it is there where the setting is off.
//! - Of a request it has the method, the path and the id, the beginning of each; never a query or any
//!   other header. Its caller's name comes from a verified token.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::conn::Conn;
use super::headers::{REQUEST_ID, request_id};
use super::identity::{ISSUER, USER};
use super::verdict::Verdict;
use crate::reason::Reason;

/// What a line shows of a word of the caller's. Bytes.
const SHOWN: usize = 512;

/// What is kept of a request for its line.
#[derive(Debug)]
pub struct Access {
    request_id: HeaderValue,
    /// Who called, though it may be refused.
    verdict: Option<Rc<Verdict>>,
    /// Of the answer's body.
    bytes: u64,
}

impl Access {
    /// Begins with the head, which gets its id here where it has none.
    pub fn begin(headers: &mut HeaderMap) -> Access {
        let id = headers.entry(REQUEST_ID).or_insert_with(request_id);
        Access {
            request_id: id.clone(),
            verdict: None,
            bytes: 0,
        }
    }

    /// The token is good.
    pub fn verified(&mut self, verdict: &Rc<Verdict>) {
        self.verdict = Some(Rc::clone(verdict));
    }

    /// So much more of the answer is on its way.
    pub fn sent(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// Writes the line.
    pub fn write(
        &self,
        conn: &Conn,
        (method, path): (&str, &str),
        status: Option<StatusCode>,
        reason: Option<Reason>,
        took: Duration,
    ) {
        let told = |name: &HeaderName| {
            let headers = &self.verdict.as_ref()?.headers;
            let (_, value) = headers.iter().find(|(known, _)| known == name)?;
            std::str::from_utf8(value.as_bytes()).ok()
        };
        let id = self.request_id.to_str().ok().map(begin);
        // Microseconds are as exact as it is counted.
        let duration_ms = took.as_micros() as f64 / 1000.0;
        tracing::info!(
            target: "regent::access",
            side = conn.role.side().name(), peer = conn.peer().to_str().ok(),
            method = %shown(method), path = %shown(path),
            status = status.map_or(0, |status| status.as_u16()),
            reason = reason.map(Reason::word), duration_ms, answer.bytes = self.bytes,
            request.id = id, user = told(&USER), issuer.name = told(&ISSUER), "request"
        );
    }
}

/// The beginning of a method or path, where nothing breaks a line or hides in it: what no URI has is
/// percent-encoded, as it should have come.
pub fn shown(text: &str) -> Cow<'_, str> {
    let text = begin(text);
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        match byte.is_ascii_graphic() {
            true => encoded.push(char::from(byte)),
            false => encoded += &format!("%{byte:02X}"),
        }
    }
    Cow::Owned(encoded)
}

fn begin(text: &str) -> &str {
    &text[..text.floor_char_boundary(SHOWN)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_uri_has_is_encoded_and_what_is_long_is_cut() {
        for (text, expected) in [
            ("/a/b%20c;d=\"{e}\"", "/a/b%20c;d=\"{e}\""),
            ("/\u{fc}", "/%C3%BC"),
            ("/\u{85} \u{9b}\n\u{7f}", "/%C2%85%20%C2%9B%0A%7F"),
        ] {
            assert_eq!(shown(text), expected);
        }
        assert_eq!(shown(&"x".repeat(SHOWN + 1)).len(), SHOWN);
        // Between two characters.
        assert_eq!(shown(&"\u{2028}".repeat(SHOWN)).len(), SHOWN / 3 * 9);
    }
}
