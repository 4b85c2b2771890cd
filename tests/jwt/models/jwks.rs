//! A second judge of JWK sets: which members are keys that may verify, and what each may verify. Both
//! must name the same keys, and no member may make a difference to another.

use std::collections::BTreeSet;

use regent::jwt::algorithm::Algorithm;
use regent::jwt::key_set::{Key, KeySet, MOST_BYTES, MOST_CANDIDATES};

use super::base64url::{letters, octets};
use super::field::{is_of_small_order, is_on_curve};
use super::json::{Fault, Json, Kind, read};

/// RFC 7515 appendix A.2.
const MODULUS: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";

/// What bytes that no JSON has stand for in an input: what chance would never find.
fn expanded(input: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for byte in input {
        match byte {
            0xf6 => text.extend(letters([0xff; 1024]).bytes()),
            0xf7 => text.extend(letters([0xff; 128]).bytes()),
            0xf8 => text.extend(MODULUS.bytes()),
            // RFC 7515 appendix A.3.
            0xf9 => text.extend(b"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"),
            0xfa => text.extend(b"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"),
            0xfb => {
                text.extend(b"ZglrT33GgZ_BlVl4PGSmzvbT_42cHu7booIqXQ1QrESJvRNVor0ThBa5cXYMNbMC")
            }
            0xfc => {
                text.extend(b"b11nyIpOhMbz1dGd4fC04v-xyykG_ogaRMlurDLBcNhSptaHh9HqCfb43LyyyGc2")
            }
            // RFC 8037 appendix A.2.
            0xfd => text.extend(b"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"),
            // Of order 8.
            0xfe => text.extend(b"JuiVj8KyJ7BFw_SJ8u-Y8NXfrAXTxjM5sTgCiG1T_AU"),
            _ => text.push(*byte),
        }
    }
    text
}

/// What the model makes of a member.
struct Fit<'a> {
    kid: Option<&'a str>,
    kind: String,
    algorithms: Vec<Algorithm>,
}

/// Judges an input twice and compares.
///
/// # Panics
/// The two judgements differ, or one member makes a difference to another.
pub(crate) fn judge(input: &[u8]) {
    compare(&expanded(input));
}

/// Judges a document twice and compares. How many keys it has.
///
/// # Panics
/// The two judgements differ, or one member makes a difference to another.
pub(crate) fn compare(json: &[u8]) -> usize {
    let found = KeySet::from_jwks(json);
    let again = KeySet::from_jwks(json);
    assert_eq!(format!("{found:?}"), format!("{again:?}"));
    if let Err(error) = &found {
        is_one_line(&error.0);
    }
    if let Ok(set) = KeySet::from_any(json) {
        holds(&set);
    }
    let members = match read(json) {
        Err(Fault::TooDeep) => return 0,
        Err(Fault::NoJson) => Vec::new(),
        Ok(document) => members(document),
    };
    let fits: Vec<_> = members.iter().filter_map(fit).collect();
    let Ok(set) = found else {
        let is_too_much = members.len() > 64 || json.len() > MOST_BYTES;
        assert!(fits.is_empty() || is_too_much, "{found:?}");
        return 0;
    };
    holds(&set);
    assert!(members.len() <= 64 && json.len() <= MOST_BYTES);
    assert_eq!(set.keys().len() + set.ignored.len(), members.len());
    assert_eq!(set.keys().len(), fits.len(), "{:?}", set.ignored);
    for (key, fit) in set.keys().iter().zip(&fits) {
        assert_eq!(key.kid.as_deref(), fit.kid);
        assert!(
            key.describe().starts_with(&fit.kind),
            "{key:?}, {}",
            fit.kind
        );
        for algorithm in Algorithm::ALL {
            assert_eq!(
                key.algorithms.has(algorithm),
                fit.algorithms.contains(&algorithm)
            );
        }
    }
    alone(&set, &members);
    fits.len()
}

/// A set without its odd members, or in another order, is the same set; and each key is one alone.
fn alone(set: &KeySet, members: &[Json<'_>]) {
    let of = |members: &mut dyn Iterator<Item = &Json<'_>>| {
        let texts: Vec<_> = members.map(|member| member.text).collect();
        KeySet::from_jwks(format!(r#"{{"keys":[{}]}}"#, texts.join(",")).as_bytes())
    };
    let digest = |set: Result<KeySet, _>| set.ok().map(|set| set.digest());
    let is_good = |member: &&Json<'_>| of(&mut std::iter::once(*member)).is_ok();
    assert_eq!(members.iter().filter(is_good).count(), set.keys().len());
    let there = Some(set.digest());
    assert_eq!(digest(of(&mut members.iter().filter(is_good))), there);
    assert_eq!(digest(of(&mut members.iter().rev())), there);
}

/// What holds of every set, whatever it was made of.
fn holds(set: &KeySet) {
    assert!(!set.keys().is_empty());
    set.ignored.iter().for_each(|line| is_one_line(line));
    for key in set.keys() {
        let signs = |algorithm| key.verify(algorithm, b"text", &[0; 64]);
        assert!(
            !Algorithm::ALL.into_iter().any(signs),
            "anybody signs for {key:?}"
        );
    }
    let kids: BTreeSet<_> = set.keys().iter().map(|key| key.kid.as_deref()).collect();
    for kid in kids.into_iter().chain([None, Some("another")]) {
        for algorithm in Algorithm::ALL {
            let candidates: Vec<_> = set.candidates(kid, algorithm).collect();
            assert!(candidates.len() <= MOST_CANDIDATES);
            assert!(candidates.iter().all(|key| key.algorithms.has(algorithm)));
            // By its name, or by none: never by that of another.
            let is_named = |key: &&Key| key.kid.as_deref() == kid;
            let is_nameless = |key: &&Key| key.kid.is_none();
            let is_one_way = candidates.iter().all(is_named) || candidates.iter().all(is_nameless);
            assert!(kid.is_none() || is_one_way);
        }
    }
}

fn is_one_line(text: &str) {
    assert!(
        text.len() < 600 && !text.contains(char::is_control),
        "{text:?}"
    );
}

fn members(document: Json<'_>) -> Vec<Json<'_>> {
    let Kind::Object(all) = document.kind else {
        return Vec::new();
    };
    let named = |(name, value): (Option<String>, _)| (name? == "keys").then_some(value);
    let mut lists = all.into_iter().filter_map(named);
    match (lists.next().map(|list: Json<'_>| list.kind), lists.next()) {
        (Some(Kind::List(members)), None) => members,
        _ => Vec::new(),
    }
}

fn fit<'a>(member: &'a Json<'_>) -> Option<Fit<'a>> {
    const SECRETS: [&str; 9] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"];
    let is_object = matches!(member.kind, Kind::Object(_));
    let has_secret = SECRETS.iter().any(|name| member.get(name).is_some());
    if !is_object || !member.is_holdable() || member.has_duplicate() || has_secret {
        return None;
    }
    let text = |name| member.get(name).and_then(Json::as_text);
    let is_text = |name: &&str| {
        member
            .get(name)
            .is_none_or(|value| value.as_text().is_some())
    };
    let is_use_good = text("use").is_none_or(|usage| usage == "sig");
    if !is_use_good || !["kty", "use", "kid", "alg"].iter().all(is_text) {
        return None;
    }
    if let Some(operations) = member.get("key_ops") {
        let Kind::List(operations) = &operations.kind else {
            return None;
        };
        let operations: Option<Vec<_>> = operations.iter().map(Json::as_text).collect();
        operations.filter(|operations| operations.contains(&"verify"))?;
    }
    let number = |name| octets(text(name)?.as_bytes());
    let (kind, family) = match (text("kty")?, text("crv")) {
        ("RSA", _) => rsa(&number("n")?, &number("e")?)?,
        ("EC", Some("P-256")) => ec(&number("x")?, &number("y")?, 32, Algorithm::Es256)?,
        ("EC", Some("P-384")) => ec(&number("x")?, &number("y")?, 48, Algorithm::Es384)?,
        ("OKP", Some("Ed25519")) => {
            let point: [u8; 32] = number("x")?.try_into().ok()?;
            if is_of_small_order(&point) {
                return None;
            }
            ("Ed25519".to_owned(), vec![Algorithm::EdDsa])
        }
        _ => return None,
    };
    let is_allowed = |algorithm: &Algorithm| text("alg").is_none_or(|alg| alg == algorithm.name());
    let algorithms: Vec<_> = family.into_iter().filter(is_allowed).collect();
    let kid = text("kid");
    (!algorithms.is_empty()).then_some(Fit {
        kid,
        kind,
        algorithms,
    })
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<(String, Vec<Algorithm>)> {
    let bits = |number: &[u8]| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let first = number.get(zeros).copied().unwrap_or(0);
        (number.len() - zeros) * 8 - first.leading_zeros() as usize * usize::from(first > 0)
    };
    let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
    let is_good = (2_048..=8_192).contains(&bits(modulus))
        && is_odd(modulus)
        && is_odd(exponent)
        && (2..=32).contains(&bits(exponent));
    use Algorithm::{Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
    let family = vec![Rs256, Rs384, Rs512, Ps256, Ps384, Ps512];
    is_good.then(|| (format!("RSA, {} bits", bits(modulus)), family))
}

fn ec(x: &[u8], y: &[u8], size: usize, of: Algorithm) -> Option<(String, Vec<Algorithm>)> {
    let is_good = x.len() == size && y.len() == size && is_on_curve(x, y);
    is_good.then(|| (format!("EC, P-{}", size * 8), vec![of]))
}
