//! JWS compact serialisation: a strict split, and a look at the claims without judging them.
//!
//! No signature is checked here: the outbound side reads tokens that the region itself handed out,
//! and needs only their times and whose they are (`region.md`, RFC 7515 section 3.1).

pub mod strict;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

/// Not a compact JWS with a claims object. The text says what is wrong and never quotes the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

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

/// Reads the claims of a compact JWS.
///
/// # Errors
/// [`Malformed`] unless there are three parts of canonical base64url, of which the first two are
/// JSON objects, with no claim twice and the times being numbers that a date can have.
pub fn peek(token: &str) -> Result<UnverifiedClaims, Malformed> {
    let mut parts = token.split('.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Malformed("a token has three parts with dots between them"));
    };
    serde_json::from_slice::<serde_json::Map<String, Value>>(&decode(header)?)
        .map_err(|_| Malformed("the token's header is no JSON object"))?;
    let wire: Wire = serde_json::from_slice(&decode(payload)?)
        .map_err(|_| Malformed("the token's claims are no JSON object of a token's shape"))?;
    if signature.is_empty() {
        return Err(Malformed("the token has no signature"));
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

fn decode(part: &str) -> Result<Zeroizing<Vec<u8>>, Malformed> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map(Zeroizing::new)
        .map_err(|_| Malformed("a part of the token is not base64url"))
}

/// A NumericDate (RFC 7519 section 2) in whole seconds. Beyond the year 5138 it is milliseconds or
/// nonsense.
fn seconds(value: f64) -> Result<i64, Malformed> {
    if !(0.0..1e11).contains(&value) {
        return Err(Malformed(
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
