//! The region's key and its claims: what simplejwt puts into a token, and how PyJWT judges one.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;

use super::{State, User};
use crate::secret::Secret;

/// What PyJWT writes: no `kid`.
const HEADER: &str = r#"{"alg":"RS256","typ":"JWT"}"#;

/// The machine could not make an RSA key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUnavailable;

impl std::fmt::Display for KeyUnavailable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cannot make an RSA key, is the system out of random numbers?")
    }
}

impl std::error::Error for KeyUnavailable {}

/// A 2048-bit RSA key, in memory alone. Cheap to clone, so that tests can share one.
#[derive(Clone)]
pub struct SigningKey(Arc<Keys>);

struct Keys {
    signing: EncodingKey,
    verifying: DecodingKey,
    public_pem: String,
    public_key_set: String,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey([redacted])")
    }
}

impl SigningKey {
    /// Makes a new key; takes a tenth of a second or so.
    ///
    /// # Errors
    /// [`KeyUnavailable`] where the cryptography library fails to.
    pub fn generate() -> Result<SigningKey, KeyUnavailable> {
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyUnavailable)?;
        let private = pair.as_der().map_err(|_| KeyUnavailable)?;
        let public = pair.public_key();
        let public_der = public.as_der().map_err(|_| KeyUnavailable)?;
        let private = pem("PRIVATE KEY", private.as_ref());
        let signing = EncodingKey::from_rsa_pem(private.as_bytes()).map_err(|_| KeyUnavailable)?;
        Ok(SigningKey(Arc::new(Keys {
            public_key_set: key_set(&signing).ok_or(KeyUnavailable)?,
            signing,
            verifying: DecodingKey::from_rsa_der(public.as_ref()),
            public_pem: pem("PUBLIC KEY", public_der.as_ref()),
        })))
    }

    pub(super) fn public_pem(&self) -> String {
        self.0.public_pem.clone()
    }

    pub(super) fn public_key_set(&self) -> String {
        self.0.public_key_set.clone()
    }

    pub(super) fn sign(&self, claims: &impl Serialize) -> Secret {
        let claims = serde_json::to_vec(claims).expect("claims are plain JSON values");
        let message = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(HEADER),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &self.0.signing, Algorithm::RS256)
                .expect("a key of this kind signs any message");
        Secret::new(format!("{message}.{signature}"))
    }

    /// The claims of a token of ours that is within its time, in PyJWT's order of checks.
    pub(super) fn verified(
        &self,
        token: &str,
        issuer: Option<&str>,
        now: i64,
    ) -> Result<Claims, &'static str> {
        const INVALID: &str = "Token is invalid";
        let (message, signature) = token.rsplit_once('.').ok_or(INVALID)?;
        let header: Value = part(message.split('.').next()).ok_or(INVALID)?;
        if header["alg"] != "RS256" {
            return Err(INVALID);
        }
        let (key, message) = (&self.0.verifying, message.as_bytes());
        match jsonwebtoken::crypto::verify(signature, message, key, Algorithm::RS256) {
            Ok(true) => {}
            Ok(false) | Err(_) => return Err(INVALID),
        }
        let claims = claims_of(token).ok_or(INVALID)?;
        if claims.iat.is_some_and(|iat| iat > now) || claims.nbf.is_some_and(|nbf| nbf > now) {
            return Err(INVALID);
        }
        if claims.exp.is_some_and(|exp| exp <= now) {
            return Err("Token is expired");
        }
        if issuer.is_some() && claims.iss.as_deref() != issuer {
            return Err(INVALID);
        }
        Ok(claims)
    }
}

/// The claims, in the order in which simplejwt writes them.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Claims {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iat: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
}

impl State {
    /// What a login hands out.
    pub(super) fn new_refresh(&self, user: &User, now: i64) -> Claims {
        Claims {
            token_type: Some("refresh".to_owned()),
            exp: Some(after(now, self.settings.refresh_lifetime)),
            iat: Some(now),
            nbf: None,
            jti: Some(new_jti()),
            user_id: Some(user.user_id.clone()),
            username: Some(user.username.clone()),
            email: Some(user.email.clone()),
            extra: (self.settings.extra_claims.iter().chain(&user.claims))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            iss: self.settings.issuer.clone(),
        }
    }

    /// The same token with a new `jti` and new times: what rotation hands out.
    pub(super) fn rotated(&self, refresh: &Claims, now: i64) -> Claims {
        Claims {
            exp: Some(after(now, self.settings.refresh_lifetime)),
            iat: Some(now),
            jti: Some(new_jti()),
            iss: self.settings.issuer.clone(),
            ..refresh.clone()
        }
    }

    /// An access token, which takes all other claims over from its refresh token.
    pub(super) fn new_access(&mut self, refresh: &Claims, now: i64) -> Claims {
        let exp = after(now, self.settings.access_lifetime);
        let jti = new_jti();
        if self.outstanding.len().is_multiple_of(1024) {
            self.outstanding.retain(|_, exp| *exp > now);
        }
        self.outstanding.insert(jti.clone(), exp);
        Claims {
            token_type: Some("access".to_owned()),
            exp: Some(exp),
            iat: Some(now),
            jti: Some(jti),
            iss: self.settings.issuer.clone(),
            ..refresh.clone()
        }
    }
}

/// The claims as they stand, unverified; `None` where they are not of a token's shape.
pub(super) fn claims_of(token: &str) -> Option<Claims> {
    part(token.split('.').nth(1))
}

fn part<T: serde::de::DeserializeOwned>(encoded: Option<&str>) -> Option<T> {
    let bytes = URL_SAFE_NO_PAD.decode(encoded?).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn after(now: i64, lifetime: Duration) -> i64 {
    now.saturating_add(i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX))
}

/// What Python's `uuid4().hex` is: 32 hexadecimal digits, version 4 (RFC 9562 section 5.4).
fn new_jti() -> String {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random numbers do not end");
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    format!("{:032x}", u128::from_be_bytes(bytes))
}

/// A JWK set of one (RFC 7517 section 5), named by its thumbprint (RFC 7638).
fn key_set(key: &EncodingKey) -> Option<String> {
    let mut jwk = Jwk::from_encoding_key(key, Algorithm::RS256).ok()?;
    jwk.common.public_key_use = Some(PublicKeyUse::Signature);
    jwk.common.key_id = Some(jwk.thumbprint(ThumbprintHash::SHA256).ok()?);
    serde_json::to_string(&JwkSet { keys: vec![jwk] }).ok()
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len())
        .step_by(64)
        .map(|at| &text[at..text.len().min(at + 64)])
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}
