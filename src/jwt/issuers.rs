//! Whom tokens may come from, and what each one's tokens must be.
//!
//! An issuer is found by the exact bytes of `iss`: no case folding, no slash more or less. Its rules
//! are the config's; a token has no say in them.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use super::algorithm::Algorithms;

mod requirement;

pub use requirement::Requirement;

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

/// All issuers, found by their exact `iss`.
#[derive(Debug)]
pub struct Issuers {
    all: Vec<Issuer>,
    by_issuer: HashMap<String, usize>,
}

impl Issuers {
    /// The issuers; two of them never have the same `iss` (the first would win).
    #[must_use]
    pub fn new(all: Vec<Issuer>) -> Issuers {
        let mut by_issuer = HashMap::with_capacity(all.len());
        for (place, issuer) in all.iter().enumerate() {
            by_issuer.entry(issuer.issuer.clone()).or_insert(place);
        }
        Issuers { all, by_issuer }
    }

    /// All of them, in their order.
    #[must_use]
    pub fn all(&self) -> &[Issuer] {
        &self.all
    }

    /// The issuer of tokens with this `iss`, and its place; `None`: of those that carry none. An
    /// `iss` that is there and empty is nobody's.
    #[must_use]
    pub fn find(&self, iss: Option<&str>) -> Option<(usize, &Issuer)> {
        let iss = match iss {
            Some("") => return None,
            Some(iss) => iss,
            None => "",
        };
        let place = *self.by_issuer.get(iss)?;
        Some((place, self.all.get(place)?))
    }

    /// Each one's name in the config and its `iss`, for messages.
    pub fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        self.all
            .iter()
            .map(|issuer| (issuer.name.as_str(), issuer.issuer.as_str()))
    }
}
