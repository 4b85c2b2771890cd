//! Just enough DER to take a public key out of a PEM block: SPKI (RFC 5280 section 4.1.2.7) and
//! PKCS#1 (RFC 8017 appendix A.1.1). Strict: definite minimal lengths, nothing left over.

use super::key::{Curve, Key};

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_ID: u8 = 0x06;
const NULL: u8 = 0x05;

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

const DAMAGED: &str =
    "it is damaged; write the public key again with `openssl pkey -in PRIVATE.pem -pubout`";

/// The key in the bytes of a `PUBLIC KEY` block.
pub(super) fn spki(der: &[u8]) -> Result<Key, String> {
    let (algorithm, parameters, key) = spki_parts(der).ok_or(DAMAGED)?;
    match (algorithm, parameters) {
        (RSA, []) => pkcs1(key),
        (RSA, parameters) if whole(parameters, NULL) == Some(&[]) => pkcs1(key),
        (RSA_PSS, _) => Err(
            "it is bound to RSA-PSS, which is not supported; make a plain RSA key, \
             which may sign PS256 too"
                .to_owned(),
        ),
        (EC, parameters) => match whole(parameters, OBJECT_ID) {
            Some(P256) => Key::ec(None, Curve::P256, key),
            Some(P384) => Key::ec(None, Curve::P384, key),
            _ => Err("its curve is not supported; use P-256 or P-384".to_owned()),
        },
        (ED25519, []) => Key::ed25519(None, key),
        _ => Err(
            "it is of a kind that is not supported; use RSA, P-256, P-384 or Ed25519".to_owned(),
        ),
    }
}

/// The key in the bytes of an `RSA PUBLIC KEY` block.
pub(super) fn pkcs1(der: &[u8]) -> Result<Key, String> {
    let (modulus, exponent) = pkcs1_parts(der).ok_or(DAMAGED)?;
    Key::rsa(None, modulus, exponent)
}

fn spki_parts(der: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let outer = whole(der, SEQUENCE)?;
    let (identifier, rest) = next(outer, SEQUENCE)?;
    let (algorithm, parameters) = next(identifier, OBJECT_ID)?;
    // The first byte counts unused bits: a key has none.
    let (0, key) = whole(rest, BIT_STRING)?.split_first()? else {
        return None;
    };
    Some((algorithm, parameters, key))
}

fn pkcs1_parts(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (modulus, rest) = next(whole(der, SEQUENCE)?, INTEGER)?;
    Some((positive(modulus)?, positive(whole(rest, INTEGER)?)?))
}

/// The octets of a positive INTEGER, without the zero that keeps its sign.
fn positive(integer: &[u8]) -> Option<&[u8]> {
    match integer {
        [0, rest @ ..] if rest.first().is_some_and(|byte| *byte >= 0x80) => Some(rest),
        [first, ..] if (1..0x80).contains(first) => Some(integer),
        _ => None,
    }
}

/// The content of the one element that the bytes are.
fn whole(der: &[u8], tag: u8) -> Option<&[u8]> {
    next(der, tag).and_then(|(content, rest)| rest.is_empty().then_some(content))
}

/// The content of the first element, and what follows it.
fn next(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = der.split_first()?;
    if *first != tag {
        return None;
    }
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match *length {
        short @ ..=0x7f => (usize::from(short), rest),
        0x81 => {
            let (length, rest) = rest.split_first()?;
            (usize::from(*length).checked_sub(0x80)? + 0x80, rest)
        }
        0x82 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            let length = usize::from(u16::from_be_bytes(*length));
            (length.checked_sub(0x100)? + 0x100, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}
