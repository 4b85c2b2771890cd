//! STUB: the signatures are fixed, the bodies are to be written.

use super::algorithm::{Algorithm, Algorithms};
use crate::secret::Digest;

/// One public key that was judged usable.
#[derive(Debug)]
pub struct Key {
    /// Its `kid`, where it has one.
    pub kid: Option<Box<str>>,
    /// What it may verify: its family, narrowed by its JWK's `alg`.
    pub algorithms: Algorithms,
}

impl Key {
    /// Whether the signature is this key's.
    #[must_use]
    pub fn verify(&self, _algorithm: Algorithm, _message: &[u8], _signature: &[u8]) -> bool {
        false
    }
}

/// An immutable set of keys.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<Key>,
    /// Members that were left out, and why, each in one line.
    pub ignored: Vec<String>,
    digest: Digest,
}

/// Why there is no key set: one line, with the next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyError(pub String);

impl std::fmt::Display for KeyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl KeySet {
    /// From PEM: one or several `PUBLIC KEY` (SPKI) or `RSA PUBLIC KEY` (PKCS#1) blocks.
    ///
    /// # Errors
    /// No usable key, or something that does not belong there, such as a private key.
    pub fn from_pem(pem: &[u8]) -> Result<KeySet, KeyError> {
        Ok(KeySet {
            keys: Vec::new(),
            ignored: Vec::new(),
            digest: Digest::of(pem),
        })
    }

    /// From a JWK set (RFC 7517 section 5); members that cannot be used are left out.
    ///
    /// # Errors
    /// Not a set, more than 64 members, or no usable key in it.
    pub fn from_jwks(json: &[u8]) -> Result<KeySet, KeyError> {
        let keys = serde_json::from_slice::<serde_json::Value>(json)
            .ok()
            .and_then(|set| set["keys"].as_array().cloned())
            .filter(|keys| !keys.is_empty())
            .ok_or_else(|| KeyError("no JWK set".to_owned()))?;
        let keys = keys
            .iter()
            .map(|key| Key {
                kid: key["kid"].as_str().map(Into::into),
                algorithms: Algorithms::default(),
            })
            .collect();
        Ok(KeySet {
            keys,
            ignored: Vec::new(),
            digest: Digest::of(json),
        })
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Of the key material: two sets with the same one verify the same tokens.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }
}
