//! One public key: judged when it is made, parsed once, and asked often.
//!
//! - RSA: 2,048 to 8,192 bits, an odd modulus, an odd exponent from 3 to 2^32 - 1 (65,537 as a rule).
//! - EC: P-256 and P-384, the point on its curve, in its uncompressed form.
//! - Ed25519: not one of the points of small order, with which anybody can sign. A key that is no
//!   point at all is taken, and verifies nothing.
//! - Each algorithm has its own parsed form in the library, so that a signature costs no parsing.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
    RsaPublicKeyComponents, VerificationAlgorithm,
};

use crate::jwt::algorithm::{Algorithm, Algorithms};
use crate::secret::Digest;

/// A curve of RFC 7518 section 6.2.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
}

impl Curve {
    /// The octets of a coordinate.
    pub(super) fn size(self) -> usize {
        match self {
            Curve::P256 => 32,
            Curve::P384 => 48,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Curve::P256 => "P-256",
            Curve::P384 => "P-384",
        }
    }
}

/// One public key that was judged usable.
pub struct Key {
    /// Its `kid`, where it has one.
    pub kid: Option<Box<str>>,
    /// What it may verify: its family, narrowed by its JWK's `alg`.
    pub algorithms: Algorithms,
    kind: Kind,
    parsed: Vec<(Algorithm, ParsedPublicKey)>,
    material: Digest,
}

#[derive(Clone, Copy)]
enum Kind {
    Rsa { bits: usize },
    Ec(Curve),
    Ed25519,
}

const RSA: [(Algorithm, &RsaParameters); 6] = [
    (Algorithm::Rs256, &RSA_PKCS1_2048_8192_SHA256),
    (Algorithm::Rs384, &RSA_PKCS1_2048_8192_SHA384),
    (Algorithm::Rs512, &RSA_PKCS1_2048_8192_SHA512),
    (Algorithm::Ps256, &RSA_PSS_2048_8192_SHA256),
    (Algorithm::Ps384, &RSA_PSS_2048_8192_SHA384),
    (Algorithm::Ps512, &RSA_PSS_2048_8192_SHA512),
];

impl Key {
    /// From a modulus and an exponent, both big-endian.
    pub(super) fn rsa(
        kid: Option<Box<str>>,
        modulus: &[u8],
        exponent: &[u8],
    ) -> Result<Key, String> {
        let modulus = without_zeros(modulus);
        let exponent = without_zeros(exponent);
        let bits = bits(modulus);
        if !(2_048..=8_192).contains(&bits) {
            return Err(format!(
                "its RSA modulus has {bits} bits; use a key of 2048 to 8192 bits"
            ));
        }
        let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
        if !is_odd(modulus) {
            return Err("its RSA modulus is even, which none is".to_owned());
        }
        if !is_odd(exponent) || exponent == [1] || exponent.len() > 4 {
            return Err(
                "its RSA exponent must be odd and from 3 to 4294967295; 65537 is usual".to_owned(),
            );
        }
        let components = RsaPublicKeyComponents {
            n: modulus,
            e: exponent,
        };
        let parsed = RSA
            .into_iter()
            .map(|(algorithm, rules)| {
                Some((algorithm, components.to_parsed_public_key(rules).ok()?))
            })
            .collect::<Option<Vec<_>>>()
            .ok_or("it is no RSA key")?;
        let material = material(b"RSA", &[modulus, exponent]);
        Ok(Key::new(kid, Kind::Rsa { bits }, parsed, material))
    }

    /// From a point as SEC 1 section 2.3.3 writes it, uncompressed.
    pub(super) fn ec(kid: Option<Box<str>>, curve: Curve, point: &[u8]) -> Result<Key, String> {
        if point.first() != Some(&4) || point.len() != 1 + 2 * curve.size() {
            return Err(
                "its point is not in the uncompressed form; write it again with \
                 `openssl ec -pubin -in FILE -conv_form uncompressed`"
                    .to_owned(),
            );
        }
        let (algorithm, rules) = match curve {
            Curve::P256 => (Algorithm::Es256, &ECDSA_P256_SHA256_FIXED),
            Curve::P384 => (Algorithm::Es384, &ECDSA_P384_SHA384_FIXED),
        };
        let parsed = ParsedPublicKey::new(rules, point)
            .map_err(|_| format!("its point is not on the curve {}", curve.name()))?;
        let material = material(curve.name().as_bytes(), &[point]);
        Ok(Key::new(
            kid,
            Kind::Ec(curve),
            vec![(algorithm, parsed)],
            material,
        ))
    }

    /// From the 32 octets of RFC 8032 section 5.1.5.
    pub(super) fn ed25519(kid: Option<Box<str>>, point: &[u8]) -> Result<Key, String> {
        let point: &[u8; 32] = point
            .try_into()
            .map_err(|_| "an Ed25519 key has 32 bytes, this one has not")?;
        if is_of_small_order(point) {
            return Err("its Ed25519 point is of small order: anybody can sign for it".to_owned());
        }
        let rules: &'static dyn VerificationAlgorithm = &ED25519;
        let parsed =
            ParsedPublicKey::new(rules, point).map_err(|_| "it is no Ed25519 key".to_owned())?;
        let material = material(b"Ed25519", &[point]);
        Ok(Key::new(
            kid,
            Kind::Ed25519,
            vec![(Algorithm::EdDsa, parsed)],
            material,
        ))
    }

    fn new(
        kid: Option<Box<str>>,
        kind: Kind,
        parsed: Vec<(Algorithm, ParsedPublicKey)>,
        material: Digest,
    ) -> Key {
        Key {
            kid,
            algorithms: parsed.iter().map(|(algorithm, _)| *algorithm).collect(),
            kind,
            parsed,
            material,
        }
    }

    /// The same key for this algorithm alone; `None` where it is of another family.
    pub(super) fn narrowed(mut self, to: Algorithm) -> Option<Key> {
        self.parsed.retain(|(algorithm, _)| *algorithm == to);
        self.algorithms = self.algorithms.both([to].into_iter().collect());
        (!self.parsed.is_empty()).then_some(self)
    }

    /// Whether the signature is this key's.
    #[must_use]
    pub fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        self.parsed
            .iter()
            .find(|(of, _)| *of == algorithm)
            .is_some_and(|(_, key)| key.verify_sig(message, signature).is_ok())
    }

    /// Whether a signature of its takes so long that nothing else should wait for it: more than
    /// 100 us, measured (P-384: 191, RSA of 8192 bits: 216, of 4096: 57).
    #[must_use]
    pub fn is_slow(&self) -> bool {
        match &self.kind {
            Kind::Rsa { bits } => *bits > 4096,
            _ => self.algorithms.has(Algorithm::Es384),
        }
    }

    /// For people: `RSA, 2048 bits, kid "x"`.
    #[must_use]
    pub fn describe(&self) -> String {
        let kind = match self.kind {
            Kind::Rsa { bits } => format!("RSA, {bits} bits"),
            Kind::Ec(curve) => format!("EC, {}", curve.name()),
            Kind::Ed25519 => "Ed25519".to_owned(),
        };
        match &self.kid {
            Some(kid) => format!("{kind}, kid {:?}", shortened(kid)),
            None => format!("{kind}, no kid"),
        }
    }

    /// What tells it from every other: the material, the name, and what it may verify.
    pub(super) fn digest(&self) -> Digest {
        let kid = self.kid.as_deref();
        let mut bytes = format!("{} {:?} {kid:?}", self.material, kid.map(str::len));
        for (algorithm, _) in &self.parsed {
            bytes.push(' ');
            bytes.push_str(algorithm.name());
        }
        Digest::of(bytes.as_bytes())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.describe())
    }
}

/// A name from outside, at a length that a log line can bear.
pub(super) fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(64)]
}

/// JWKs should have none (RFC 7518 section 2, Base64urlUInt), but what prints Java's `BigInteger`
/// puts one in front of the modulus.
fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

fn bits(number: &[u8]) -> usize {
    number
        .first()
        .map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

fn material(kind: &[u8], parts: &[&[u8]]) -> Digest {
    let mut bytes = kind.to_vec();
    for part in parts {
        bytes.extend_from_slice(&part.len().to_be_bytes());
        bytes.extend_from_slice(part);
    }
    Digest::of(&bytes)
}

/// The y coordinates of the eight points whose order divides 8, and of their spellings beyond the
/// prime; the sign of x makes no difference.
fn is_of_small_order(point: &[u8; 32]) -> bool {
    const ORDER_8: [[u8; 32]; 2] = [
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef,
            0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88,
            0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10,
            0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77,
            0x92, 0xac, 0x03, 0x7a,
        ],
    ];
    let mut y = *point;
    y[31] &= 0x7f;
    // Little-endian: 0 and 1, then p - 1, p and p + 1, with p = 2^255 - 19.
    let is_small = y[0] <= 1 && y[1..].iter().all(|byte| *byte == 0);
    let is_near_the_prime =
        (0xec..=0xee).contains(&y[0]) && y[1..31].iter().all(|byte| *byte == 0xff) && y[31] == 0x7f;
    is_small || is_near_the_prime || ORDER_8.contains(&y)
}
