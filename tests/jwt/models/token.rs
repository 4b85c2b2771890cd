//! A second reader of tokens. What the program takes this one takes too, and they read the same in
//! it; what it refuses this one refuses, for the same reason.

use std::sync::LazyLock;

use regent::compact::{Jws, MOST_BYTES, UnverifiedClaims, peek};
use regent::jwt::key_set::KeySet;
use regent::jwt::verifier::verify_signature_only;
use regent::reason::Reason;
use serde_json::Value;

use super::base64url::{letters, octets};
use super::json::{Json, Kind, read};

/// A token, taken apart.
struct Token {
    header: Vec<u8>,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// The one token that the key below signed: RFC 8037 appendix A.4.
pub(crate) const GENUINE: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";

static KEY: LazyLock<KeySet> = LazyLock::new(|| {
    let jwk = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    KeySet::from_any(jwk.as_bytes()).expect("the standard's key")
});

/// Reads an input twice and compares: as a token, and where it has two lines and more, as the header,
/// the claims and the signature of one.
///
/// # Panics
/// The two readings differ.
pub(crate) fn judge(input: &[u8]) {
    compare(input);
    let parts: Vec<_> = input
        .splitn(3, |byte| *byte == b'\n')
        .map(letters)
        .collect();
    if parts.len() == 3 {
        compare(parts.join(".").as_bytes());
    }
}

/// Reads a token twice and compares. Whether it was taken.
///
/// # Panics
/// The two readings differ.
pub(crate) fn compare(token: &[u8]) -> bool {
    let model = apart(token).and_then(|apart| {
        let header = object(&apart.header)?;
        header_of(&header)?;
        Ok(apart)
    });
    let model = match token.len() > MOST_BYTES {
        true => Err(Reason::TokenTooLarge),
        false => model,
    };
    let verdict = verify_signature_only(token, &KEY, &mut ());
    assert_eq!(verdict.is_ok(), token == GENUINE.as_bytes());
    let jws = match (Jws::parse(token), &model) {
        (Ok(jws), Ok(model)) => {
            agree(token, &jws, model);
            Some(jws)
        }
        (Err(malformed), Err(reason)) => {
            assert_eq!(malformed.reason, *reason);
            assert_eq!(verdict.map_err(|refused| refused.reason), Err(*reason));
            None
        }
        (jws, model) => panic!("{jws:?}, and {:?}", model.as_ref().err()),
    };
    let peeked = peek(std::str::from_utf8(token).unwrap_or_default());
    assert_eq!(
        peeked.ok(),
        apart(token).ok().and_then(|apart| unverified(&apart))
    );
    jws.is_some()
}

/// The same is read in a token that both take, and it has no other spelling.
fn agree(token: &[u8], jws: &Jws<'_>, model: &Token) {
    let spelling = [&model.header, &model.payload, &model.signature].map(letters);
    assert_eq!(spelling.join(".").as_bytes(), token);
    let input = [
        jws.signing_input(),
        b".",
        letters(&model.signature).as_bytes(),
    ]
    .concat();
    assert_eq!(input, token);
    match jws.signature() {
        Ok(signature) => assert_eq!(signature, model.signature),
        Err(_) => assert!(model.signature.is_empty()),
    }
    let header = object(&model.header).unwrap_or_else(|reason| panic!("{reason:?}"));
    let text = |name| header.get(name).and_then(Json::as_text);
    assert_eq!(text("alg"), Some(&*jws.header.alg));
    assert_eq!(text("kid"), jws.header.kid.as_deref());
    assert_eq!(text("typ"), jws.header.typ.as_deref());
    for (name, has) in [
        ("cty", jws.header.has_cty),
        ("zip", jws.header.has_zip),
        ("enc", jws.header.has_enc),
        ("crit", jws.header.has_crit),
    ] {
        assert_eq!(header.get(name).is_some(), has, "{name}");
    }
    match (jws.claims(), object(&model.payload)) {
        (Ok(claims), Ok(model)) => assert!(model.is(&Value::Object(claims))),
        (Err(malformed), Err(reason)) => assert_eq!(malformed.reason, reason),
        (claims, model) => panic!("{claims:?}, and {:?}", model.err()),
    }
}

fn apart(token: &[u8]) -> Result<Token, Reason> {
    let parts: Vec<_> = token.split(|byte| *byte == b'.').collect();
    let [header, payload, signature] = parts[..] else {
        return Err(Reason::MalformedToken);
    };
    let octets = |part| octets(part).ok_or(Reason::MalformedToken);
    // A header with a member twice is told first.
    let header = octets(header)?;
    if let Err(Reason::DuplicateMember) = object(&header) {
        return Err(Reason::DuplicateMember);
    }
    Ok(Token {
        header,
        payload: octets(payload)?,
        signature: octets(signature)?,
    })
}

/// `alg` is there, and it and the other two are texts.
fn header_of(header: &Json<'_>) -> Result<(), Reason> {
    let is_text = |name| {
        header
            .get(name)
            .is_none_or(|value| value.as_text().is_some())
    };
    let is_good = header.get("alg").is_some() && ["alg", "kid", "typ"].into_iter().all(is_text);
    is_good.then_some(()).ok_or(Reason::MalformedToken)
}

fn object(text: &[u8]) -> Result<Json<'_>, Reason> {
    match read(text) {
        Ok(json) if matches!(json.kind, Kind::Object(_)) && json.is_holdable() => {
            match json.has_duplicate() {
                true => Err(Reason::DuplicateMember),
                false => Ok(json),
            }
        }
        _ => Err(Reason::MalformedToken),
    }
}

/// What the outbound side reads of its own token.
fn unverified(token: &Token) -> Option<UnverifiedClaims> {
    object(&token.header).ok()?;
    let claims = object(&token.payload).ok()?;
    let given = |name| claims.get(name).filter(|value| value.text != "null");
    let time = |name| match given(name) {
        None => Some(None),
        Some(value) if matches!(value.kind, Kind::Number) => {
            // By the same reader of numbers: it may be off in the last place, and a floor is not.
            let seconds: f64 = serde_json::from_str(value.text).ok()?;
            #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
            let whole = seconds.floor() as i64;
            (0.0..1e11).contains(&seconds).then_some(Some(whole))
        }
        Some(_) => None,
    };
    let text = |name| match &claims.get(name)?.kind {
        Kind::Text(text) => text.clone(),
        Kind::Number => {
            let number: serde_json::Number = serde_json::from_str(claims.get(name)?.text).ok()?;
            Some(number.to_string())
        }
        _ => None,
    };
    let token_type = given("token_type");
    if token_type.is_some_and(|value| value.as_text().is_none()) || token.signature.is_empty() {
        return None;
    }
    Some(UnverifiedClaims {
        exp: time("exp")?,
        iat: time("iat")?,
        token_type: token_type.and_then(Json::as_text).map(str::to_owned),
        user_id: text("user_id"),
        username: text("username"),
        iss: text("iss"),
    })
}
