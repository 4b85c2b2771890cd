//! An immutable set of public keys.
//!
//! - Keys are judged here, when they are loaded, and never again: kind, size, curve, point, `use`,
//!   `key_ops`, `alg`. What is in a set may verify.
//! - PEM is a person's file: anything odd in it is an error. A JWK set is an issuer's: an odd member
//!   is left out with its reason, and costs no other.
//! - No secret is ever taken: no symmetric key, no private one.

use std::fmt;

use super::algorithm::{Algorithm, Algorithms};
use crate::secret::Digest;

mod der;
mod jwk;
mod key;
mod pem;

pub use key::Key;

/// Larger documents are refused unread.
pub const MOST_BYTES: usize = 256 * 1024;

/// So many keys are tried for one token. Each costs a signature.
pub const MOST_CANDIDATES: usize = 4;

/// An immutable set of keys.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<Key>,
    /// Members that were left out, and why, each in one line.
    pub ignored: Vec<String>,
    digest: Digest,
    is_slow: bool,
}

/// Why there is no key set: one line, with the next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyError(pub String);

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for KeyError {}

/// How the keys to try were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// By the token's `kid`.
    ByKid,
    /// The token names a `kid`; the keys have none, as in a PEM.
    WithoutKid,
    /// The token names none: all keys of the algorithm.
    ByAlgorithm,
}

impl KeySet {
    /// From PEM: one or several `PUBLIC KEY` (SPKI) or `RSA PUBLIC KEY` (PKCS#1) blocks.
    ///
    /// # Errors
    /// No usable key, or something that does not belong there, such as a private key.
    pub fn from_pem(pem: &[u8]) -> Result<KeySet, KeyError> {
        within_bounds(pem)?;
        let keys = pem::keys(pem)?;
        // Without a `kid` there is no telling which to try.
        let is_crowded = |algorithm| {
            keys.iter()
                .filter(|key| key.algorithms.has(algorithm))
                .count()
                > MOST_CANDIDATES
        };
        if Algorithm::ALL.into_iter().any(is_crowded) {
            return Err(KeyError(format!(
                "it has more than {MOST_CANDIDATES} keys of one kind, and keys in PEM have no \
                 names to choose by; give them as a JWK set in which each has a \"kid\""
            )));
        }
        Ok(KeySet::new(keys, Vec::new()))
    }

    /// From a JWK set (RFC 7517 section 5); members that cannot be used are left out.
    ///
    /// # Errors
    /// Not a set, more than 64 members or 256 KiB, or no usable key in it.
    pub fn from_jwks(json: &[u8]) -> Result<KeySet, KeyError> {
        within_bounds(json)?;
        KeySet::judged(&jwk::members(json).map_err(KeyError)?)
    }

    /// From PEM, a JWK set, or one JWK, told apart by their first byte and their members.
    ///
    /// # Errors
    /// As [`KeySet::from_pem`] and [`KeySet::from_jwks`].
    pub fn from_any(bytes: &[u8]) -> Result<KeySet, KeyError> {
        within_bounds(bytes)?;
        if !bytes.trim_ascii_start().starts_with(b"{") {
            return KeySet::from_pem(bytes);
        }
        match jwk::single(bytes) {
            Some(key) => KeySet::judged(&[key]),
            None => KeySet::from_jwks(bytes),
        }
    }

    fn judged(members: &[jwk::Member]) -> Result<KeySet, KeyError> {
        let mut keys = Vec::new();
        let mut ignored = Vec::new();
        for (place, member) in (1..).zip(members) {
            match jwk::judge(member) {
                Ok(key) => keys.push(key),
                Err(why) => ignored.push(format!("key {place}{}: {why}", jwk::name(member))),
            }
        }
        if !keys.is_empty() {
            return Ok(KeySet::new(keys, ignored));
        }
        Err(KeyError(match ignored.as_slice() {
            [] => "there is no key in the JWK set".to_owned(),
            [only] => format!("no key of the JWK set can be used: {only}"),
            [first, others @ ..] => format!(
                "no key of the JWK set can be used: {first} (and {} more)",
                others.len()
            ),
        }))
    }

    fn new(keys: Vec<Key>, ignored: Vec<String>) -> KeySet {
        let mut digests: Vec<_> = keys.iter().map(Key::digest).collect();
        digests.sort_unstable();
        let all: String = digests.iter().map(Digest::to_string).collect();
        let is_slow = keys.iter().any(Key::is_slow);
        KeySet {
            keys,
            ignored,
            digest: Digest::of(all.as_bytes()),
            is_slow,
        }
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Whether some key of it is for one of these algorithms.
    #[must_use]
    pub fn serves(&self, algorithms: Algorithms) -> bool {
        let fits = |key: &Key| !key.algorithms.both(algorithms).is_empty();
        self.keys.iter().any(fits)
    }

    /// What to write as the algorithms of an issuer that has these keys: `algorithms = ["ES256"]`.
    #[must_use]
    pub fn advice(&self) -> String {
        let of = |key: &Key| {
            let has = |algorithm: &Algorithm| key.algorithms.has(*algorithm);
            Algorithm::ALL.into_iter().filter(has).collect::<Vec<_>>()
        };
        let each: Vec<_> = self.keys.iter().map(of).collect();
        let is_sure = each.iter().all(|all| all.len() == 1);
        let is_usual = |one: &Algorithm| each.iter().any(|all| all.first() == Some(one));
        let usual = Algorithm::ALL.into_iter().filter(is_usual);
        let usual: Vec<_> = usual.map(|one| format!("\"{}\"", one.name())).collect();
        let usual = format!("algorithms = [{}]", usual.join(", "));
        match is_sure {
            true => format!("write {usual}"),
            false => format!("write what it signs with, such as {usual}"),
        }
    }

    /// Of the key material, names and uses, in whatever order: two sets with the same one verify
    /// the same tokens.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether a key of it takes long: see [`Key::is_slow`].
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.is_slow
    }

    /// How the keys for a token with this `kid` are found; `None`: it names a key that is not here.
    #[must_use]
    pub fn found(&self, kid: Option<&str>) -> Option<Found> {
        let Some(kid) = kid else {
            return Some(Found::ByAlgorithm);
        };
        if self.keys.iter().any(|key| key.kid.as_deref() == Some(kid)) {
            Some(Found::ByKid)
        } else if self.keys.iter().any(|key| key.kid.is_none()) {
            Some(Found::WithoutKid)
        } else {
            None
        }
    }

    /// The keys that may have signed a token with this `kid` and algorithm, at most
    /// [`MOST_CANDIDATES`]. Several keys with one `kid` are all candidates: issuers make mistakes,
    /// and a signature decides.
    pub fn candidates(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &Key> {
        let found = self.found(kid);
        self.keys
            .iter()
            .filter(move |key| match found {
                Some(Found::ByKid) => key.kid.as_deref() == kid,
                Some(Found::WithoutKid) => key.kid.is_none(),
                Some(Found::ByAlgorithm) => true,
                None => false,
            })
            .filter(move |key| key.algorithms.has(algorithm))
            .take(MOST_CANDIDATES)
    }
}

fn within_bounds(bytes: &[u8]) -> Result<(), KeyError> {
    if bytes.len() <= MOST_BYTES {
        return Ok(());
    }
    Err(KeyError(format!(
        "it has more than {} KiB; keys need less",
        MOST_BYTES / 1024
    )))
}
