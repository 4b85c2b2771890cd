//! Claims in a config: their names, the values that they are held against, and the headers that they
//! go into.
//!
//! - A value keeps its type: the string "1" is not the number 1.
//! - A header that frames, routes or names the caller otherwise is never an identity header, and no
//!   two are one name to a CGI or WSGI server.

use http::HeaderName;
use serde_json::{Number, Value};

use super::IdentityHeader;
use crate::config::read::Reader;
use crate::config::tree;
use crate::config::value::{Given, Wrong, quoted};

/// What a region adds to tokens for itself. It is a digest of a secret, and never sent on.
const NEVER_SENT: &str = "hash_password";

/// Headers with a meaning of their own; the folded form counts.
const RESERVED: &[&str] = &[
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "cookie2",
    "date",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "origin",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-real-ip",
    "x-regent-hop",
    "x-regent-issuer",
    "x-request-id",
    "x-rewrite-url",
];

const RESERVED_PREFIXES: [&str; 3] = ["x-forwarded", "proxy-", "sec-"];

/// A map of headers to claims.
pub(super) fn identity_headers(reader: &mut Reader<'_>, path: &str) -> Option<Vec<IdentityHeader>> {
    let pairs = reader.map(path, header, |given| {
        let text = given.text()?;
        name(text)?;
        sendable(text)?;
        Ok(text.to_owned())
    })?;
    let mut headers: Vec<IdentityHeader> = Vec::new();
    for (header, claim) in pairs {
        let same = |other: &&IdentityHeader| folded(&other.header) == folded(&header);
        if let Some(other) = headers.iter().find(same) {
            let text = format!(
                "{} and {} are one name to a CGI or WSGI server; remove one of them",
                quoted(&other.header),
                quoted(&header)
            );
            reader.conflict(path, &text);
        }
        headers.push(IdentityHeader { header, claim });
    }
    Some(headers)
}

/// What is no letter or digit may all become `_` on the way into a program's environment (RFC 3875
/// section 4.1.18 for CGI; PHP and WSGI servers fold more than `-`): names that are the same folded are
/// the same to some server.
#[must_use]
pub fn fold(byte: u8) -> u8 {
    match byte.is_ascii_alphanumeric() {
        true => byte.to_ascii_lowercase(),
        false => b'-',
    }
}

fn folded(header: &str) -> String {
    header.bytes().map(|byte| char::from(fold(byte))).collect()
}

fn header(text: &str) -> Result<String, Wrong> {
    let shown = quoted(text);
    let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
        return Err(format!(
            "{shown} is no header's name; write one such as \"x-regent-user\""
        ));
    };
    let folded = folded(text);
    if RESERVED.contains(&&*folded) || RESERVED_PREFIXES.iter().any(|p| folded.starts_with(p)) {
        return Err(format!(
            "{shown} has a meaning of its own and cannot carry an identity; write another, such as \"x-regent-user\""
        ));
    }
    Ok(name.as_str().to_owned())
}

/// A claim's name, or a JSON pointer (RFC 6901) where it begins with `/`.
pub(super) fn name(text: &str) -> Result<String, Wrong> {
    if text.is_empty() {
        return Err("a claim without a name; write one such as \"role\"".to_owned());
    }
    let escapes = text.split('~').skip(1);
    if text.starts_with('/')
        && escapes
            .into_iter()
            .any(|rest| !rest.starts_with(['0', '1']))
    {
        return Err(format!(
            "{} is no JSON pointer: \"~\" is written \"~0\" in one, and \"/\" in a name \"~1\"",
            quoted(text)
        ));
    }
    Ok(text.to_owned())
}

fn sendable(claim: &str) -> Result<(), Wrong> {
    let unescaped = |part: &str| part.replace("~1", "/").replace("~0", "~");
    let is_sent = match claim.starts_with('/') {
        true => claim.split('/').all(|part| unescaped(part) != NEVER_SENT),
        false => claim != NEVER_SENT,
    };
    match is_sent {
        true => Ok(()),
        false => Err(format!(
            "{} is never sent on: it is made from a password; write another claim, such as \"username\"",
            quoted(claim)
        )),
    }
}

/// One scalar, or a list of them.
pub(super) fn values(given: &Given<'_>) -> Result<Vec<Value>, Wrong> {
    let Ok(items) = given.items() else {
        return Ok(vec![scalar(given)?]);
    };
    match items.is_empty() {
        true => {
            Err("is an empty list, which no token meets; name a value, or remove it".to_owned())
        }
        false => items.iter().map(scalar).collect(),
    }
}

/// A string, a number, true or false.
pub(super) fn scalar(given: &Given<'_>) -> Result<Value, Wrong> {
    let number = |text: &str, number: Option<Number>| {
        let wrong = || {
            format!(
                "{} is no number that can be compared exactly; write it in quotes if the claim is a string",
                quoted(text)
            )
        };
        number.map(Value::Number).ok_or_else(wrong)
    };
    match given.value() {
        tree::Value::Text(text) | tree::Value::Word(text) => Ok(Value::String(text.clone())),
        tree::Value::Bool(value) => Ok(Value::Bool(*value)),
        tree::Value::Integer(text) => number(text, integer(text)),
        tree::Value::Float(text) => {
            let float = text.replace('_', "").parse().ok();
            number(text, float.and_then(Number::from_f64))
        }
        _ => Err(given.mistyped("a string, a number, true or false")),
    }
}

/// As TOML and YAML write them: signs, and the bases 2, 8 and 16.
fn integer(text: &str) -> Option<Number> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, radix) = match digits.get(..2) {
        Some("0x") => (&digits[2..], 16),
        Some("0o") => (&digits[2..], 8),
        Some("0b") => (&digits[2..], 2),
        _ => (digits, 10),
    };
    let text = format!("{sign}{}", digits.replace('_', ""));
    let small = i64::from_str_radix(&text, radix).map(Number::from);
    small
        .or_else(|_| u64::from_str_radix(&text, radix).map(Number::from))
        .ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn integers_are_read_in_every_base() {
        let table = [
            ("0", Some(Number::from(0))),
            ("-7", Some(Number::from(-7))),
            ("+7", Some(Number::from(7))),
            ("007", Some(Number::from(7))),
            ("1_000", Some(Number::from(1000))),
            ("0xff", Some(Number::from(255))),
            ("0o17", Some(Number::from(15))),
            ("0b11", Some(Number::from(3))),
            ("-9223372036854775808", Some(Number::from(i64::MIN))),
            ("18446744073709551615", Some(Number::from(u64::MAX))),
            ("18446744073709551616", None),
            ("-9223372036854775809", None),
            ("0x", None),
            ("é", None),
            ("", None),
        ];
        for (text, number) in table {
            assert_eq!(integer(text), number, "{text:?}");
        }
    }

    #[test]
    fn a_pointer_has_its_escapes() {
        for (text, fits) in [
            ("role", true),
            ("a~b", true),
            ("https://example.com/role", true),
            ("/realm_access/roles", true),
            ("/a~0b~1c", true),
            ("/", true),
            ("/a~", false),
            ("/a~2", false),
            ("", false),
        ] {
            assert_eq!(name(text).is_ok(), fits, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_spelling_of_a_reserved_header_is_taken(
            index in 0..RESERVED.len(),
            upper in any::<u32>(),
            other in any::<u32>(),
        ) {
            let spelled: String = (RESERVED[index].chars().enumerate())
                .map(|(at, c)| match (c, upper >> at & 1, other >> at & 1) {
                    ('-', 0, 0) => '_',
                    ('-', 0, 1) => '.',
                    (c, 0, _) => c.to_ascii_uppercase(),
                    (c, _, _) => c,
                })
                .collect();
            prop_assert!(header(&spelled).is_err(), "{}", spelled);
        }

        #[test]
        fn no_text_breaks_the_parsers(text in "\\PC*") {
            let _ = (header(&text), name(&text), sendable(&text), integer(&text));
        }
    }
}
