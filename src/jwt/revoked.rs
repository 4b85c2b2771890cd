//! Tokens that were taken back before their end, as a list has them.
//!
//! - Values are compared by type and exactly, as claims are: `7` is not `"7"`, and `1` is `1.0`. A
//!   claim that is a list is found by any of its elements.
//! - A token that does not say when it was issued counts as issued before any moment.
//! - Looking one up costs the same however long the list is.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::issuers::Claims;
use super::verifier::unix_ms;
use crate::config::inbound::Fault;
use crate::config::inbound::revocations::{self, What};

/// All that is revoked.
#[derive(Debug, Default)]
pub struct Revoked {
    by_issuer: HashMap<String, Tokens>,
    /// The entries that cannot be taken.
    pub faults: Vec<Fault>,
}

/// What is revoked of one issuer.
#[derive(Debug, Default)]
struct Tokens {
    jtis: HashSet<Scalar>,
    users: HashSet<Scalar>,
    /// Milliseconds since the epoch.
    issued_before: Option<i64>,
}

/// A string or a number, so that equal ones are one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Scalar {
    Text(String),
    Integer(i128),
    /// A number's bits, of one that is no integer or beyond where all of them are floats.
    Float(u64),
}

impl Scalar {
    fn of(value: &Value) -> Option<Scalar> {
        /// Beyond this not every integer is a float.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        let number = match value {
            Value::String(text) => return Some(Scalar::Text(text.clone())),
            value => value.as_number()?,
        };
        let integer = number.as_i64().map(i128::from);
        if let Some(integer) = integer.or(number.as_u64().map(i128::from)) {
            return Some(Scalar::Integer(integer));
        }
        let float = number.as_f64()?;
        Some(match float.fract() == 0.0 && float.abs() < EXACT {
            #[expect(clippy::cast_possible_truncation, reason = "it is a small integer")]
            true => Scalar::Integer(float as i128),
            false => Scalar::Float(float.to_bits()),
        })
    }
}

/// What a token is known by to a list.
#[derive(Debug)]
pub struct Subject {
    jtis: Box<[Scalar]>,
    users: Box<[Scalar]>,
    /// Milliseconds since the epoch.
    issued_at: Option<i64>,
}

impl Subject {
    /// Of a token with these claims.
    #[must_use]
    pub fn of(claims: &Claims) -> Subject {
        let scalars = |name: &str| match claims.get(name) {
            Some(Value::Array(items)) => items.iter().filter_map(Scalar::of).collect(),
            found => found.and_then(Scalar::of).into_iter().collect(),
        };
        Subject {
            jtis: scalars("jti"),
            users: scalars("user_id"),
            issued_at: claims.get("iat").and_then(unix_ms),
        }
    }
}

/// Entries that are told one by one.
const MOST_LINES: usize = 10;

impl Revoked {
    /// Reads a list.
    ///
    /// # Errors
    /// It is no list of revocations.
    pub fn read(document: &[u8]) -> Result<Revoked, String> {
        let mut revoked = Revoked::default();
        for entry in revocations::read(document)? {
            let entry = match entry {
                Ok(entry) => entry,
                Err(fault) => {
                    revoked.faults.push(fault);
                    continue;
                }
            };
            let tokens = revoked.by_issuer.entry(entry.issuer).or_default();
            match entry.what {
                What::Jti(value) => tokens.jtis.extend(Scalar::of(&value)),
                What::UserId(value) => tokens.users.extend(Scalar::of(&value)),
                What::IssuedBefore(second) => {
                    let moment = second.saturating_mul(1000);
                    tokens.issued_before = tokens.issued_before.max(Some(moment));
                }
            }
        }
        for fault in revoked.faults.iter().take(MOST_LINES) {
            tracing::warn!("inbound.revocations: an entry of the list cannot be taken: {fault}");
        }
        if let more @ 1.. = revoked.faults.len().saturating_sub(MOST_LINES) {
            tracing::warn!("inbound.revocations: nor can {more} more entries of the list");
        }
        Ok(revoked)
    }

    /// Whether a token of the issuer of this name is revoked.
    #[must_use]
    pub fn has(&self, issuer: &str, subject: &Subject) -> bool {
        let Some(tokens) = self.by_issuer.get(issuer) else {
            return false;
        };
        let is_old = (tokens.issued_before)
            .is_some_and(|moment| subject.issued_at.is_none_or(|issued_at| issued_at < moment));
        is_old
            || subject.jtis.iter().any(|jti| tokens.jtis.contains(jti))
            || subject.users.iter().any(|user| tokens.users.contains(user))
    }

    /// The names of all issuers in it.
    pub fn issuers(&self) -> impl Iterator<Item = &str> {
        self.by_issuer.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::issuers::Requirement;
    use proptest::prelude::*;
    use serde_json::json;

    fn claims(value: &Value) -> Claims {
        value.as_object().expect("claims").clone()
    }

    fn has(entries: &Value, claims_of: &Value) -> bool {
        let document = json!({ "revoked": entries }).to_string();
        let revoked = Revoked::read(document.as_bytes()).expect("a list");
        assert!(!revoked.has("other", &Subject::of(&claims(claims_of))));
        revoked.has("home", &Subject::of(&claims(claims_of)))
    }

    #[test]
    fn a_token_is_found_by_type_and_exactly() {
        let jti = |value: Value| json!([{ "issuer": "home", "jti": value }]);
        let user = |value: Value| json!([{ "issuer": "home", "user_id": value }]);
        let before = json!([
            { "issuer": "home", "issued_before": 900 }, { "issuer": "home", "issued_before": 1000 },
            { "issuer": "home", "issued_before": 10 },
        ]);
        for (entries, claims, is_revoked) in [
            (jti(json!("9c")), json!({ "jti": "9c" }), true),
            (jti(json!("9c")), json!({ "jti": "9C" }), false),
            (jti(json!("9c")), json!({ "jti": "9c " }), false),
            (jti(json!("9c")), json!({ "user_id": "9c" }), false),
            (jti(json!("9c")), json!({}), false),
            (jti(json!(7)), json!({ "jti": "7" }), false),
            (user(json!(7)), json!({ "user_id": 7 }), true),
            (user(json!(7)), json!({ "user_id": 7.0 }), true),
            (user(json!(7)), json!({ "user_id": "7" }), false),
            (user(json!("7")), json!({ "user_id": 7 }), false),
            (user(json!(7)), json!({ "user_id": [1, 7] }), true),
            (user(json!(7)), json!({ "user_id": { "a": 7 } }), false),
            (user(json!(u64::MAX)), json!({ "user_id": u64::MAX }), true),
            (
                user(json!(u64::MAX)),
                json!({ "user_id": u64::MAX - 1 }),
                false,
            ),
            (before.clone(), json!({ "iat": 999.999 }), true),
            (before.clone(), json!({ "iat": 1000 }), false),
            (before.clone(), json!({ "iat": 999 }), true),
            (before, json!({}), true),
            (json!([]), json!({ "jti": "9c" }), false),
            (
                json!([{ "issuer": "home" }, { "issuer": "home", "jti": "9c" }]),
                json!({ "jti": "9c" }),
                true,
            ),
        ] {
            assert_eq!(has(&entries, &claims), is_revoked, "{entries} {claims}");
        }
    }

    fn scalar() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-3_i64..3).prop_map(Value::from),
            (-6_i32..6).prop_map(|half| json!(f64::from(half) / 2.0)),
            any::<f64>().prop_map(|float| json!(float)),
            prop_oneof![Just(9_007_199_254_740_992_u64), Just(9_007_199_254_740_991)]
                .prop_map(|whole| json!(whole)),
            prop_oneof![Just(9_007_199_254_740_992.0), Just(9_007_199_254_740_991.0)]
                .prop_map(|whole: f64| json!(whole)),
            "[0-3]".prop_map(Value::from),
        ]
    }

    proptest! {
        /// One rule for what a claim is, here and where claims are required.
        #[test]
        fn values_are_the_same_where_required_claims_are(one in scalar(), other in scalar()) {
            let required = Requirement::new("c".to_owned(), vec![one.clone()]);
            let is_met = required.is_met(&claims(&json!({ "c": other })));
            let is_same = Scalar::of(&one).is_some() && Scalar::of(&one) == Scalar::of(&other);
            prop_assert_eq!(is_same, is_met && !one.is_null());
        }
    }
}
