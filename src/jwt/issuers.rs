//! STUB: the signatures are fixed, the bodies are to be written.

use std::time::Duration;

use serde_json::Value;

use super::algorithm::Algorithms;

/// The claims of a token.
pub type Claims = serde_json::Map<String, Value>;

/// One issuer and its rules.
#[derive(Debug)]
pub struct Issuer {
    /// Its name in the config.
    pub name: String,
    /// The exact `iss`; empty: tokens that carry none.
    pub issuer: String,
    /// What its tokens may be signed with.
    pub algorithms: Algorithms,
    /// Empty: not checked.
    pub audiences: Vec<String>,
    /// What `token_type` may be.
    pub token_types: Vec<String>,
    /// How far clocks may be apart.
    pub leeway: Duration,
    /// The longest `exp - now` (and `exp - iat`).
    pub max_lifetime: Duration,
    /// What the claims must be.
    pub required_claims: Vec<Requirement>,
}

/// A claim by its name, or by a JSON pointer.
#[must_use]
pub fn claim<'c>(claims: &'c Claims, name: &str) -> Option<&'c Value> {
    claims.get(name)
}

/// A claim that must have one of some values.
#[derive(Clone, Debug, PartialEq)]
pub struct Requirement {
    name: String,
    accepted: Vec<Value>,
}

impl Requirement {
    /// A claim's name, or a JSON pointer (RFC 6901) where it begins with `/`.
    #[must_use]
    pub fn new(name: String, accepted: Vec<Value>) -> Requirement {
        Requirement { name, accepted }
    }

    /// Whether the claims have it.
    #[must_use]
    pub fn is_met(&self, _claims: &Claims) -> bool {
        false
    }
}

/// All issuers, found by their exact `iss`.
#[derive(Debug)]
pub struct Issuers {
    all: Vec<Issuer>,
}

impl Issuers {
    /// The issuers; two of them never have the same `iss`.
    #[must_use]
    pub fn new(all: Vec<Issuer>) -> Issuers {
        Issuers { all }
    }

    /// All of them, in their order.
    #[must_use]
    pub fn all(&self) -> &[Issuer] {
        &self.all
    }
}
