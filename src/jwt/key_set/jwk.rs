//! JWKs (RFC 7517), judged one by one: what a key says of itself is believed only where it narrows.
//!
//! A member that cannot be used is left out with its reason, and costs no other. That holds for
//! members that are no object or cannot be read, kinds that are not known, symmetric and private keys.

use std::cell::Cell;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{DeserializeSeed, IgnoredAny};
use serde_json::{Map, Value};

use super::key::{Curve, Key, shortened};
use crate::compact::strict::Tree;
use crate::jwt::algorithm::Algorithm;

/// Members beyond these refuse the whole set.
pub(super) const MOST: usize = 64;

/// A member of a set.
pub(super) struct Member {
    /// `None`: it is JSON that cannot be held.
    value: Option<Value>,
    /// Whether something stands twice in it.
    has_duplicate: bool,
}

impl Member {
    fn of(json: &str) -> Member {
        let has_duplicate = Cell::new(false);
        let mut reader = serde_json::Deserializer::from_str(json);
        let value = Tree::new(&has_duplicate).deserialize(&mut reader);
        Member {
            value: value.and_then(|value| reader.end().map(|()| value)).ok(),
            has_duplicate: has_duplicate.get(),
        }
    }
}

/// The members of a set, unjudged.
pub(super) fn members(json: &[u8]) -> Result<Vec<Member>, String> {
    let text = std::str::from_utf8(json)
        .map_err(|_| "this is no JWK set: it is not UTF-8; write it again as such")?;
    // Of serde_json's words only the place is taken: they may quote the document.
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| {
        format!(
            "this is no JWK set: line {}, column {}",
            error.line(),
            error.column()
        )
    })?;
    let text = text.trim_start();
    let mut keys = None;
    let mut items = inside(text, '{');
    while let (Some(name), Some(value)) = (items.next(), items.next()) {
        let is_keys = serde_json::from_str::<String>(name).is_ok_and(|name| name == "keys");
        if is_keys && keys.replace(value).is_some() {
            return Err("this is no JWK set: it has two lists \"keys\"; keep one".to_owned());
        }
    }
    let list = keys.filter(|value| value.starts_with('[')).ok_or(
        "this is no JWK set: it has no list \"keys\"; one key alone stands in a \
         set as {\"keys\": [KEY]}",
    )?;
    let members: Vec<_> = inside(list, '[').take(MOST + 1).map(Member::of).collect();
    if members.len() > MOST {
        return Err(format!(
            "it has more than {MOST} keys; no issuer needs so many"
        ));
    }
    Ok(members)
}

/// The text of each value in a list, or of each name and value in an object, by the bracket that it
/// begins with. It is known to be JSON. Each is read apart, so that what cannot be held in one costs
/// no other.
fn inside(json: &str, bracket: char) -> impl Iterator<Item = &str> {
    let mut rest = json.strip_prefix(bracket).unwrap_or_default();
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n', ',', ':']);
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<IgnoredAny>();
        // At the closing bracket there is none.
        values.next()?.ok()?;
        let (value, after) = rest.split_at(values.byte_offset());
        rest = after;
        Some(value)
    })
}

/// The key that a member is, or why it is none that can be used.
pub(super) fn judge(member: &Member) -> Result<Key, String> {
    let jwk = match &member.value {
        Some(Value::Object(jwk)) => jwk,
        Some(_) => return Err("it is no object".to_owned()),
        None => {
            return Err(
                "it cannot be read: a number is too large, a character is half there, \
                 or it has too many levels"
                    .to_owned(),
            );
        }
    };
    if member.has_duplicate {
        return Err("a member of it stands twice".to_owned());
    }
    if ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"]
        .iter()
        .any(|name| jwk.contains_key(*name))
    {
        return Err("it holds a secret: only public keys verify".to_owned());
    }
    judge_use(jwk)?;
    let kid: Option<Box<str>> = text(jwk, "kid")?.map(Into::into);
    let key = match text(jwk, "kty")? {
        Some("RSA") => Key::rsa(kid, &octets(jwk, "n")?, &octets(jwk, "e")?)?,
        Some("EC") => ec(kid, jwk)?,
        Some("OKP") if text(jwk, "crv")? == Some("Ed25519") => {
            Key::ed25519(kid, &octets(jwk, "x")?)?
        }
        Some("OKP") => return Err("its \"crv\" is not Ed25519".to_owned()),
        Some("oct") => return Err("it is symmetric: only public keys verify".to_owned()),
        _ => return Err("its \"kty\" is none of RSA, EC and OKP".to_owned()),
    };
    match text(jwk, "alg")? {
        None => Ok(key),
        Some(name) => Algorithm::named(name)
            .and_then(|algorithm| key.narrowed(algorithm))
            .ok_or_else(|| "its \"alg\" is none that its kind of key can sign".to_owned()),
    }
}

/// RFC 7517 sections 4.2 and 4.3.
fn judge_use(jwk: &Map<String, Value>) -> Result<(), String> {
    if text(jwk, "use")?.is_some_and(|usage| usage != "sig") {
        return Err("its \"use\" is not \"sig\"".to_owned());
    }
    let may_verify = match jwk.get("key_ops") {
        None => true,
        Some(Value::Array(ops)) => {
            ops.iter().all(Value::is_string) && ops.iter().any(|op| op == "verify")
        }
        Some(_) => false,
    };
    if may_verify {
        Ok(())
    } else {
        Err("its \"key_ops\" have no \"verify\"".to_owned())
    }
}

fn ec(kid: Option<Box<str>>, jwk: &Map<String, Value>) -> Result<Key, String> {
    let curve = match text(jwk, "crv")? {
        Some("P-256") => Curve::P256,
        Some("P-384") => Curve::P384,
        _ => return Err("its \"crv\" is neither P-256 nor P-384".to_owned()),
    };
    let mut point = vec![4];
    for name in ["x", "y"] {
        let coordinate = octets(jwk, name)?;
        // RFC 7518 section 6.2.1.2: the full size, leading zeros included.
        if coordinate.len() != curve.size() {
            return Err(format!("its {name:?} is not as long as its curve's"));
        }
        point.extend_from_slice(&coordinate);
    }
    Key::ec(kid, curve, &point)
}

fn text<'a>(jwk: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, String> {
    match jwk.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("its {name:?} is no string")),
    }
}

fn octets(jwk: &Map<String, Value>, name: &str) -> Result<Vec<u8>, String> {
    let text = text(jwk, name)?.ok_or_else(|| format!("it has no {name:?}"))?;
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| format!("its {name:?} is not base64url"))
}

/// The JWK that a document is, where it is one key and no set.
pub(super) fn single(json: &[u8]) -> Option<Member> {
    let member = Member::of(std::str::from_utf8(json).ok()?);
    let value = member.value.as_ref()?;
    (value.get("keys").is_none() && value.get("kty").is_some()).then_some(member)
}

/// ` (kid "x")`, for people.
pub(super) fn name(member: &Member) -> String {
    match member.value.as_ref().map(|value| &value["kid"]) {
        Some(Value::String(kid)) => format!(" (kid {:?})", shortened(kid)),
        _ => String::new(),
    }
}
