//! JWKs (RFC 7517), judged one by one: what a key says of itself is believed only where it narrows.
//!
//! A member that cannot be used is left out with its reason, and costs no other. That holds for
//! members that are no object, kinds that are not known, symmetric and private keys.

use std::cell::Cell;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::key::{Curve, Key, shortened};
use crate::compact::strict::Tree;
use crate::jwt::algorithm::Algorithm;

/// Members beyond these refuse the whole set.
pub(super) const MOST: usize = 64;

/// A member of a set, and whether something stands twice in it.
pub(super) struct Member {
    pub(super) value: Value,
    pub(super) has_duplicate: bool,
}

/// The members of a set, unjudged.
pub(super) fn members(json: &[u8]) -> Result<Vec<Member>, String> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let members = serde::Deserializer::deserialize_map(&mut reader, Set)
        .and_then(|members| reader.end().map(|()| members));
    match members {
        Ok(Some(members)) if members.len() > MOST => Err(format!(
            "it has more than {MOST} keys; no issuer needs so many"
        )),
        Ok(Some(members)) => Ok(members),
        Ok(None) => Err(
            "this is no JWK set: it has no list \"keys\"; one key alone stands in a \
             set as {\"keys\": [KEY]}"
                .to_owned(),
        ),
        // Of serde_json's words only the place is taken: they may quote the document.
        Err(error) => Err(format!(
            "this is no JWK set: line {}, column {}",
            error.line(),
            error.column()
        )),
    }
}

struct Set;

impl<'de> Visitor<'de> for Set {
    type Value = Option<Vec<Member>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JWK set")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut keys = None;
        while let Some(name) = members.next_key::<String>()? {
            if name != "keys" {
                members.next_value::<IgnoredAny>()?;
            } else if keys.replace(members.next_value_seed(List)?).is_some() {
                return Err(A::Error::custom("two lists"));
            }
        }
        Ok(keys)
    }
}

struct List;

impl<'de> DeserializeSeed<'de> for List {
    type Value = Vec<Member>;
    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List {
    type Value = Vec<Member>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of keys")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while list.len() <= MOST {
            let has_duplicate = Cell::new(false);
            let Some(value) = items.next_element_seed(Tree::new(&has_duplicate))? else {
                return Ok(list);
            };
            list.push(Member {
                value,
                has_duplicate: has_duplicate.get(),
            });
        }
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(list)
    }
}

/// The key that a member is, or why it is none that can be used.
pub(super) fn judge(member: &Member) -> Result<Key, String> {
    let Value::Object(jwk) = &member.value else {
        return Err("it is no object".to_owned());
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
    let has_duplicate = Cell::new(false);
    let mut reader = serde_json::Deserializer::from_slice(json);
    let value = Tree::new(&has_duplicate).deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    let is_key = value.get("keys").is_none() && value.get("kty").is_some();
    is_key.then(|| Member {
        value,
        has_duplicate: has_duplicate.get(),
    })
}

/// ` (kid "x")`, for people.
pub(super) fn name(member: &Member) -> String {
    match &member.value["kid"] {
        Value::String(kid) => format!(" (kid {:?})", shortened(kid)),
        _ => String::new(),
    }
}
