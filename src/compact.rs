//! JWS compact serialisation: one strict reading of a token, and a look at claims without judging.
//!
//! - Three parts of canonical base64url without padding, of which the first is an object; 16 KiB at
//!   most, and what is longer is refused before anything is decoded.
//! - The second part must be an object only for [`Jws::claims`]: a signature may stand over anything.
//! - No object has a member twice, see [`strict`].
//! - No signature is checked here. The outbound side reads tokens that the region itself handed out,
//!   and needs only their times and whose they are (`region.md`, RFC 7515 section 3.1).

pub mod strict;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::reason::Reason;

/// A token that is longer is refused. The contract's.
pub const MOST_BYTES: usize = 16 * 1024;

/// Not a compact JWS with a claims object. The text says what is wrong and never quotes the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The word for it.
    pub reason: Reason,
    /// What is wrong.
    pub why: &'static str,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.why)
    }
}

impl std::error::Error for Malformed {}

fn malformed(why: &'static str) -> Malformed {
    Malformed {
        reason: Reason::MalformedToken,
        why,
    }
}

/// A token, taken apart and not judged.
#[derive(Debug)]
pub struct Jws<'a> {
    /// Its header.
    pub header: Header,
    signing_input: &'a [u8],
    payload: Zeroizing<Vec<u8>>,
    signature: Zeroizing<Vec<u8>>,
}

/// What a JOSE header says that matters here (RFC 7515 section 4.1). Members that bring their own
/// keys (`jwk`, `jku`, `x5c`, `x5u`) are never looked at: keys are the issuer's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The algorithm, as the token spells it.
    pub alg: String,
    /// The key.
    pub kid: Option<String>,
    /// What the whole is.
    pub typ: Option<String>,
    /// Whether there is a `cty`, in any form: what is inside is no claims object.
    pub has_cty: bool,
    /// Whether there is a `zip`, in any form.
    pub has_zip: bool,
    /// Whether there is an `enc`, in any form: JWE's.
    pub has_enc: bool,
    /// Whether there is a `crit`, in any form.
    pub has_crit: bool,
}

impl<'a> Jws<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`Malformed`]: too long, not three parts of base64url, or the header is none.
    pub fn parse(token: &'a [u8]) -> Result<Jws<'a>, Malformed> {
        if token.len() > MOST_BYTES {
            return Err(Malformed {
                reason: Reason::TokenTooLarge,
                why: "the token has more than 16 KiB",
            });
        }
        Jws::parse_of_any_length(token)
    }

    /// The same for what is no token of a caller's.
    ///
    /// # Errors
    /// [`Malformed`]: not three parts of base64url, or the header is none.
    pub fn parse_of_any_length(token: &'a [u8]) -> Result<Jws<'a>, Malformed> {
        let [header, payload, signature] = split(token)?;
        Ok(Jws {
            header: Header::of(object(&decode(header)?, NO_HEADER)?)?,
            signing_input: &token[..header.len() + 1 + payload.len()],
            payload: decode(payload)?,
            signature: decode(signature)?,
        })
    }

    /// What the signature is over.
    #[must_use]
    pub fn signing_input(&self) -> &'a [u8] {
        self.signing_input
    }

    /// The signature. That of `alg` `none` is empty (RFC 7518 section 3.6), so ask for the
    /// algorithm first where the reason matters.
    ///
    /// # Errors
    /// [`Malformed`]: it is empty.
    pub fn signature(&self) -> Result<&[u8], Malformed> {
        if self.signature.is_empty() {
            return Err(malformed(NO_SIGNATURE));
        }
        Ok(&self.signature)
    }

    /// Reads the payload as claims.
    ///
    /// # Errors
    /// [`Malformed`]: not an object, or a member stands twice.
    pub fn claims(&self) -> Result<Map<String, Value>, Malformed> {
        object(&self.payload, NO_CLAIMS)
    }
}

impl Header {
    fn of(mut members: Map<String, Value>) -> Result<Header, Malformed> {
        let alg = text_of(&mut members, "alg", "the header's alg is no string")?
            .ok_or(malformed("the header has no alg"))?;
        Ok(Header {
            alg,
            kid: text_of(&mut members, "kid", "the header's kid is no string")?,
            typ: text_of(&mut members, "typ", "the header's typ is no string")?,
            has_cty: members.contains_key("cty"),
            has_zip: members.contains_key("zip"),
            has_enc: members.contains_key("enc"),
            has_crit: members.contains_key("crit"),
        })
    }
}

fn text_of(
    members: &mut Map<String, Value>,
    name: &str,
    why: &'static str,
) -> Result<Option<String>, Malformed> {
    match members.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(malformed(why)),
    }
}

const NO_HEADER: &str = "the token's header is no JSON object";
const NO_CLAIMS: &str = "the token's claims are no JSON object";
const NO_SIGNATURE: &str = "the token has no signature";

fn object(json: &[u8], why: &'static str) -> Result<Map<String, Value>, Malformed> {
    strict::object(json).map_err(|trouble| match trouble {
        strict::Trouble::NoObject => malformed(why),
        strict::Trouble::Duplicate => Malformed {
            reason: Reason::DuplicateMember,
            why: "a member stands twice in the token",
        },
    })
}

/// A detached signature (RFC 7515 appendix F) with what it is over put back in.
///
/// # Errors
/// [`Malformed`]: not three parts of which the middle one is empty, or more than [`MOST_BYTES`].
pub fn attach(detached: &[u8], payload: &[u8]) -> Result<Vec<u8>, Malformed> {
    const NOT_DETACHED: &str = "a detached signature is HEADER..SIGNATURE, in base64url";
    if detached.len() > MOST_BYTES {
        return Err(malformed(NOT_DETACHED));
    }
    match split(detached) {
        Ok([header, [], signature]) => {
            let payload = URL_SAFE_NO_PAD.encode(payload);
            Ok([header, payload.as_bytes(), signature].join(&b'.'))
        }
        _ => Err(malformed(NOT_DETACHED)),
    }
}

fn split(token: &[u8]) -> Result<[&[u8]; 3], Malformed> {
    let mut dots = memchr::memchr_iter(b'.', token);
    match (dots.next(), dots.next(), dots.next()) {
        (Some(first), Some(second), None) => Ok([
            &token[..first],
            &token[first + 1..second],
            &token[second + 1..],
        ]),
        _ => Err(malformed("a token has three parts with dots between them")),
    }
}

/// Canonical alone: no padding, no bit set that means nothing.
fn decode(part: &[u8]) -> Result<Zeroizing<Vec<u8>>, Malformed> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map(Zeroizing::new)
        .map_err(|_| malformed("a part of the token is not base64url"))
}

/// What a token says of itself, unverified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnverifiedClaims {
    /// Seconds since the epoch.
    pub exp: Option<i64>,
    /// Seconds since the epoch.
    pub iat: Option<i64>,
    /// `access` or `refresh` in a region's tokens.
    pub token_type: Option<String>,
    /// The user, a string or a number on the wire.
    pub user_id: Option<String>,
    /// The user's name.
    pub username: Option<String>,
    /// The issuer.
    pub iss: Option<String>,
}

#[derive(Deserialize)]
struct Wire {
    exp: Option<f64>,
    iat: Option<f64>,
    token_type: Option<String>,
    user_id: Option<Value>,
    username: Option<Value>,
    iss: Option<Value>,
}

/// Reads the claims of a compact JWS, of any length: it came from where tokens are made.
///
/// # Errors
/// [`Malformed`] unless there are three parts of canonical base64url, of which the first two are
/// JSON objects, with no claim twice and the times being numbers that a date can have.
pub fn peek(token: &str) -> Result<UnverifiedClaims, Malformed> {
    let [header, payload, signature] = split(token.as_bytes())?;
    object(&decode(header)?, NO_HEADER)?;
    let claims = object(&decode(payload)?, NO_CLAIMS)?;
    let wire = Wire::deserialize(claims)
        .map_err(|_| malformed("the token's claims are no JSON object of a token's shape"))?;
    if signature.is_empty() {
        return Err(malformed(NO_SIGNATURE));
    }
    decode(signature)?;
    Ok(UnverifiedClaims {
        exp: wire.exp.map(seconds).transpose()?,
        iat: wire.iat.map(seconds).transpose()?,
        token_type: wire.token_type,
        user_id: text(wire.user_id),
        username: text(wire.username),
        iss: text(wire.iss),
    })
}

/// A NumericDate (RFC 7519 section 2) in whole seconds. Beyond the year 5138 it is milliseconds or
/// nonsense.
fn seconds(value: f64) -> Result<i64, Malformed> {
    if !(0.0..1e11).contains(&value) {
        return Err(malformed(
            "a time in the token is not in seconds since the epoch",
        ));
    }
    #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
    Ok(value.floor() as i64)
}

fn text(value: Option<Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.c2ln", part(r#"{"alg":"RS256"}"#), part(claims))
    }

    #[test]
    fn claims_of_a_region_are_read() {
        let claims = peek(&token(
            r#"{"exp":1700000300.9,"iat":1700000000,"token_type":"access","user_id":7,"x":[1]}"#,
        ))
        .expect("a token as a region makes it");
        assert_eq!(claims.exp, Some(1_700_000_300));
        assert_eq!(claims.user_id.as_deref(), Some("7"));
        assert_eq!(claims.token_type.as_deref(), Some("access"));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for claims in [
            r#"{"exp":"1700000300"}"#,
            r#"{"exp":1700000300000}"#,
            r#"{"exp":-1}"#,
            r#"{"exp":1,"exp":2}"#,
            "[]",
            "null",
            "{} {}",
        ] {
            assert!(peek(&token(claims)).is_err(), "{claims}");
        }
        for token in [
            "",
            "a.b",
            "a.b.c.d",
            "..",
            "e30.e30.",
            "e30=.e30.c2ln",
            "e31.e30.c2ln",
        ] {
            assert!(peek(token).is_err(), "{token}");
        }
    }

    #[test]
    fn the_error_never_quotes_the_token() {
        let error = peek("canary.canary.canary").expect_err("not base64url");
        assert!(!error.to_string().contains("canary"));
    }
}
