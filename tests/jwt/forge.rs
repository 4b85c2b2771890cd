//! Tokens, good ones and others.

use serde_json::{Map, Value, json};

use crate::signer::{KEYS, Signer, b64};
use crate::world::{HOME, NARROW, OIDC, STRICT, WEST};

/// A token in the making.
#[derive(Clone)]
pub(crate) struct Forge {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    raw_header: Option<Vec<u8>>,
    raw_payload: Option<Vec<u8>>,
    signer: &'static Signer,
}

impl Forge {
    fn new(header: Value, claims: Value, signer: &'static Signer) -> Forge {
        let object = |value| match value {
            Value::Object(object) => object,
            other => panic!("{other} is no object"),
        };
        Forge {
            header: object(header),
            claims: object(claims),
            raw_header: None,
            raw_payload: None,
            signer,
        }
    }

    /// A region's token, as simplejwt makes it.
    pub(crate) fn home(now: i64) -> Forge {
        let claims = json!({
            "token_type": "access", "exp": now + 300, "iat": now, "jti": "9c", "user_id": 1,
            "iss": HOME, "username": "alice", "role": "user",
        });
        Forge::new(json!({"alg": "RS256", "typ": "JWT"}), claims, &KEYS.rsa)
    }

    /// An OpenID provider's access token (RFC 9068), signed with the key of this name.
    pub(crate) fn oidc(now: i64, kid: &str) -> Forge {
        let (alg, signer) = match kid {
            "k2" => ("ES256", &KEYS.p256),
            "k3" => ("ES384", &KEYS.p384),
            "k4" => ("EdDSA", &KEYS.ed25519),
            _ => ("RS256", &KEYS.rsa),
        };
        let claims = json!({
            "iss": OIDC, "sub": "u", "aud": ["me", "x"], "client_id": "c", "exp": now + 300,
            "iat": now, "jti": "1", "scope": "openid read",
        });
        Forge::new(
            json!({"alg": alg, "typ": "at+jwt", "kid": kid}),
            claims,
            signer,
        )
    }

    /// A token of the other provider.
    pub(crate) fn west(now: i64) -> Forge {
        let claims = json!({"iss": WEST, "exp": now + 300, "user_id": 1, "token_type": "access"});
        let header = json!({"alg": "ES256", "kid": "k2"});
        Forge::new(header, claims, &KEYS.p256_other)
    }

    /// A token that has what its issuer requires.
    pub(crate) fn strict(now: i64) -> Forge {
        let claims = json!({
            "iss": STRICT, "exp": now + 300, "token_type": "access", "role": "admin",
            "realm_access": {"roles": ["x", "model"]}, "scope": "write read",
        });
        Forge::new(json!({"alg": "RS256"}), claims, &KEYS.rsa_other)
    }

    /// A token of the issuer whose key is for one algorithm.
    pub(crate) fn narrow(now: i64) -> Forge {
        let claims = json!({"iss": NARROW, "exp": now + 300, "token_type": "access"});
        Forge::new(json!({"alg": "RS256", "kid": "n"}), claims, &KEYS.rsa)
    }

    /// With this claim.
    pub(crate) fn claim(mut self, name: &str, value: impl Into<Value>) -> Forge {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// Without this claim.
    pub(crate) fn without(mut self, name: &str) -> Forge {
        self.claims.remove(name).expect("it was there");
        self
    }

    /// With this member of the header.
    pub(crate) fn header(mut self, name: &str, value: impl Into<Value>) -> Forge {
        self.header.insert(name.to_owned(), value.into());
        self
    }

    /// Without this member of the header.
    pub(crate) fn headless(mut self, name: &str) -> Forge {
        self.header.remove(name).expect("it was there");
        self
    }

    /// With these bytes as its header.
    pub(crate) fn raw_header(mut self, bytes: impl AsRef<[u8]>) -> Forge {
        self.raw_header = Some(bytes.as_ref().to_vec());
        self
    }

    /// With these bytes as its payload.
    pub(crate) fn raw_payload(mut self, bytes: impl AsRef<[u8]>) -> Forge {
        self.raw_payload = Some(bytes.as_ref().to_vec());
        self
    }

    /// With `text` before the first member of the claims.
    pub(crate) fn first_claim(self, text: &str) -> Forge {
        let claims = json!(self.claims).to_string();
        self.raw_payload(claims.replacen('{', &format!("{{{text},"), 1))
    }

    /// With `text` before the first member of the header.
    pub(crate) fn first_header(self, text: &str) -> Forge {
        let header = json!(self.header).to_string();
        self.raw_header(header.replacen('{', &format!("{{{text},"), 1))
    }

    /// Signed by somebody else.
    pub(crate) fn by(mut self, signer: &'static Signer) -> Forge {
        self.signer = signer;
        self
    }

    /// The header's bytes.
    pub(crate) fn header_bytes(&self) -> Vec<u8> {
        let plain = || json!(self.header).to_string().into_bytes();
        self.raw_header.clone().unwrap_or_else(plain)
    }

    /// The payload's bytes.
    pub(crate) fn payload_bytes(&self) -> Vec<u8> {
        let plain = || json!(self.claims).to_string().into_bytes();
        self.raw_payload.clone().unwrap_or_else(plain)
    }

    /// What is signed.
    pub(crate) fn input(&self) -> String {
        format!("{}.{}", b64(self.header_bytes()), b64(self.payload_bytes()))
    }

    /// The signature over any input, by the algorithm that the header names.
    pub(crate) fn sign(&self, input: &str) -> Vec<u8> {
        let alg = self.header["alg"].as_str().unwrap_or_default();
        self.signer.sign(alg, input.as_bytes())
    }

    /// Signs an input and puts the two together.
    pub(crate) fn seal(&self, input: &str) -> String {
        format!("{input}.{}", b64(self.sign(input)))
    }

    /// The token with a signature of this many bytes and values.
    pub(crate) fn with_signature(&self, signature: impl AsRef<[u8]>) -> String {
        format!("{}.{}", self.input(), b64(signature))
    }

    /// The token.
    pub(crate) fn token(&self) -> String {
        self.seal(&self.input())
    }
}
