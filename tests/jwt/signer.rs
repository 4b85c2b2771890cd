//! Keys that sign, made once for all tests: making RSA keys is slow.

use std::sync::LazyLock;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256,
    RSA_PSS_SHA384, RSA_PSS_SHA512, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa};
use serde_json::{Value, json};

/// A key pair.
pub(crate) enum Signer {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// The key pairs of the tests.
pub(crate) struct Keys {
    pub(crate) rsa: Signer,
    /// Another one of the same kind.
    pub(crate) rsa_other: Signer,
    pub(crate) p256: Signer,
    pub(crate) p256_other: Signer,
    pub(crate) p384: Signer,
    pub(crate) ed25519: Signer,
}

pub(crate) static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys {
    rsa: Signer::rsa(),
    rsa_other: Signer::rsa(),
    p256: Signer::p256(),
    p256_other: Signer::p256(),
    p384: Signer::P384(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).expect("a key")),
    ed25519: Signer::Ed25519(Ed25519KeyPair::generate().expect("a key")),
});

pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// From hexadecimal.
pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal"))
        .collect()
}

impl Signer {
    fn rsa() -> Signer {
        Signer::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"))
    }

    fn p256() -> Signer {
        Signer::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"))
    }

    /// The signature of a message. `algorithm` matters for RSA alone.
    pub(crate) fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Signer::Rsa(pair) => {
                let padding: &'static dyn aws_lc_rs::signature::RsaEncoding = match algorithm {
                    "RS384" => &RSA_PKCS1_SHA384,
                    "RS512" => &RSA_PKCS1_SHA512,
                    "PS256" => &RSA_PSS_SHA256,
                    "PS384" => &RSA_PSS_SHA384,
                    "PS512" => &RSA_PSS_SHA512,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut signature)
                    .expect("RSA signs");
                signature
            }
            Signer::P256(pair) | Signer::P384(pair) => {
                let signature = pair.sign(&random, message).expect("ECDSA signs");
                signature.as_ref().to_vec()
            }
            Signer::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// The public half as a JWK without any optional member.
    pub(crate) fn jwk(&self) -> Value {
        match self {
            Signer::Rsa(_) => {
                let (n, e) = self.modulus_and_exponent();
                json!({"kty": "RSA", "n": b64(n), "e": b64(e)})
            }
            Signer::P256(pair) | Signer::P384(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({"kty": "EC", "crv": curve, "x": b64(x), "y": b64(y)})
            }
            Signer::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key())})
            }
        }
    }

    /// The public half of a 2,048 bit RSA key.
    pub(crate) fn modulus_and_exponent(&self) -> (Vec<u8>, Vec<u8>) {
        let der = self.pkcs1();
        // SEQUENCE and INTEGER with two length bytes each, the zero of the sign, 256 bytes.
        (der[9..265].to_vec(), der[267..].to_vec())
    }

    /// The public half in PKCS#1.
    pub(crate) fn pkcs1(&self) -> Vec<u8> {
        match self {
            Signer::Rsa(pair) => pair.public_key().as_ref().to_vec(),
            _ => panic!("PKCS#1 is RSA's"),
        }
    }

    /// The public half as SPKI.
    pub(crate) fn spki(&self) -> Vec<u8> {
        match self {
            Signer::Rsa(pair) => pair.public_key().as_der(),
            Signer::P256(pair) | Signer::P384(pair) => pair.public_key().as_der(),
            Signer::Ed25519(pair) => pair.public_key().as_der(),
        }
        .expect("a public key has a DER form")
        .as_ref()
        .to_vec()
    }

    /// The private half of an RSA key.
    pub(crate) fn pkcs8(&self) -> Vec<u8> {
        let Signer::Rsa(pair) = self else {
            panic!("RSA alone");
        };
        let der: Pkcs8V1Der<'_> = pair.as_der().expect("a private key has a DER form");
        der.as_ref().to_vec()
    }

    /// A certificate of this RSA key and that of its authority, as `x5c` has them (RFC 7515 section
    /// 4.1.6).
    pub(crate) fn x5c(&self) -> Value {
        let key = rcgen::KeyPair::try_from(self.pkcs8()).expect("the same key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = rcgen::KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, authority).expect("an authority");
        let params = CertificateParams::new(vec!["issuer.example".to_owned()]).expect("a name");
        let leaf = params.signed_by(&key, &authority).expect("a certificate");
        json!([
            STANDARD.encode(leaf.der()),
            STANDARD.encode(authority.der())
        ])
    }

    /// The public half in PEM.
    pub(crate) fn pem(&self) -> String {
        pem("PUBLIC KEY", &self.spki())
    }
}

/// A PEM block.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).expect("base64 is ASCII"))
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}
