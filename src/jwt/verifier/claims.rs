//! The rules for claims, once the signature is known to be the issuer's.
//!
//! In this order, the first that is broken being the reason:
//!
//! 1. Types: a claim that is there with another type than its own is malformed, never missing.
//! 2. What kind of token it is. Before the times, so that a refresh token, which lives long, is
//!    called what it is. `at_hash`, `c_hash` (ID tokens) and `events` (security events, logout
//!    tokens) are never an access token's, whatever `token_type` says: an identity provider may be
//!    set up to put a fixed `token_type` into everything it signs. A `nonce` alone says nothing:
//!    some put it into access tokens.
//! 3. Bound tokens: `cnf` wants a proof that nobody here asks for.
//! 4. Times, then lifetime, with saturating arithmetic on milliseconds.
//! 5. Audience, then what the config requires.

use std::time::Duration;

use serde_json::Value;

use super::trace::{Rule, Step, Trace};
use crate::jwt::Rejection;
use crate::jwt::issuers::{Claims, Issuer};
use crate::reason::Reason;

/// Claims that are held against an issuer's rules.
pub(super) struct Judge<'a, T> {
    pub(super) issuer: &'a Issuer,
    pub(super) claims: &'a Claims,
    /// Whether the header's `typ` says that this is an access token (RFC 9068 section 2.1).
    pub(super) is_typed: bool,
    /// Milliseconds since the epoch.
    pub(super) now: i64,
    pub(super) trace: &'a mut T,
}

#[derive(Clone, Copy)]
struct Times {
    exp: i64,
    nbf: Option<i64>,
    iat: Option<i64>,
}

impl<'a, T: Trace> Judge<'a, T> {
    /// From when on the token is expired, leeway included.
    pub(super) fn ends(&mut self) -> Result<i64, Rejection> {
        let times = self.types()?;
        self.kind()?;
        self.times(times)?;
        self.lifetime(times)?;
        self.audience()?;
        self.required()?;
        Ok(times.exp.saturating_add(self.leeway()))
    }

    fn types(&mut self) -> Result<Times, Rejection> {
        const EXP: &str = "exp is no number of seconds since the epoch";
        if self.claims.get("exp").is_none() {
            let rule = Rule::Time { is_required: true };
            self.check("exp", rule, false, Reason::MissingClaim, "there is no exp")?;
        }
        let exp = self.time("exp", true, EXP)?.unwrap_or_default();
        let nbf = self.time("nbf", false, "nbf is no number of seconds since the epoch")?;
        let iat = self.time("iat", false, "iat is no number of seconds since the epoch")?;
        if let Some(kind) = self.claims.get("token_type") {
            self.check(
                "token_type",
                Rule::Text,
                kind.is_string(),
                Reason::MalformedClaim,
                "token_type is no string",
            )?;
        }
        if let Some(audience) = self.claims.get("aud")
            && !self.issuer.audiences.is_empty()
        {
            let is_good = match audience {
                Value::String(_) => true,
                Value::Array(list) => list.iter().all(Value::is_string),
                _ => false,
            };
            let why = "aud is neither a string nor a list of strings";
            self.check("aud", Rule::Texts, is_good, Reason::MalformedClaim, why)?;
        }
        Ok(Times { exp, nbf, iat })
    }

    fn time(
        &mut self,
        claim: &'static str,
        is_required: bool,
        why: &'static str,
    ) -> Result<Option<i64>, Rejection> {
        let Some(value) = self.claims.get(claim) else {
            return Ok(None);
        };
        let time = unix_ms(value);
        let rule = Rule::Time { is_required };
        self.check(claim, rule, time.is_some(), Reason::MalformedClaim, why)?;
        Ok(time)
    }

    fn kind(&mut self) -> Result<(), Rejection> {
        for (claim, why) in [
            (
                "at_hash",
                "at_hash is an ID token's, this is no access token",
            ),
            ("c_hash", "c_hash is an ID token's, this is no access token"),
            (
                "events",
                "events are a security event's, this is no access token",
            ),
        ] {
            if self.claims.contains_key(claim) {
                self.check(claim, Rule::Absent, false, Reason::WrongTokenType, why)?;
            }
        }
        let kind = self.claims.get("token_type").and_then(Value::as_str);
        if kind.is_none() {
            let rule = if self.is_typed {
                Rule::SaidByHeader
            } else {
                Rule::Present
            };
            let why = "there is no token_type, and the header's typ is not at+jwt: the issuer must write one of them";
            let (reason, claim) = (Reason::MissingClaim, "token_type");
            self.check(claim, rule, self.is_typed, reason, why)?;
        }
        let types = &self.issuer.token_types;
        let is_accepted = types.iter().any(|one| one == kind.unwrap_or("access"));
        let why = "the token's token_type is another than this issuer's may have here: send the access token";
        let rule = Rule::OneOf(types);
        self.check("token_type", rule, is_accepted, Reason::WrongTokenType, why)?;
        if self.claims.contains_key("cnf") {
            let why = "the token is bound to a key (cnf), and nothing here proves that key";
            self.check("cnf", Rule::Absent, false, Reason::BoundToken, why)?;
        }
        Ok(())
    }

    fn times(&mut self, times: Times) -> Result<(), Rejection> {
        if let Some(iat) = times.iat {
            let why = "iat is after exp";
            let rule = Rule::NotAfter(times.exp);
            self.check("iat", rule, iat <= times.exp, Reason::MalformedClaim, why)?;
        }
        let earliest = self.now.saturating_sub(self.leeway());
        let is_alive = times.exp > earliest;
        let rule = Rule::After(earliest);
        self.check(
            "exp",
            rule,
            is_alive,
            Reason::Expired,
            "the token is expired",
        )?;
        let latest = self.now.saturating_add(self.leeway());
        let rule = Rule::NotAfter(latest);
        if let Some(nbf) = times.nbf {
            let why = "the token is not valid yet";
            self.check("nbf", rule, nbf <= latest, Reason::NotYetValid, why)?;
        }
        if let Some(iat) = times.iat {
            let why = "the token was issued in the future; are the clocks right?";
            self.check("iat", rule, iat <= latest, Reason::IssuedInFuture, why)?;
        }
        Ok(())
    }

    fn lifetime(&mut self, times: Times) -> Result<(), Rejection> {
        const WHY: &str = "the token is valid for longer than max_lifetime";
        let most = self.issuer.max_lifetime;
        let points = [
            (
                Some(self.now),
                "now",
                most.saturating_add(self.issuer.leeway),
            ),
            (times.iat, "iat", most),
        ];
        for (of, point, most) in points {
            let Some(of) = of else { continue };
            let is_short = times.exp.saturating_sub(of) <= millis(most);
            let rule = Rule::Within { most, of, point };
            self.check("exp", rule, is_short, Reason::LifetimeTooLong, WHY)?;
        }
        Ok(())
    }

    fn audience(&mut self) -> Result<(), Rejection> {
        let audiences = self.issuer.audiences.as_slice();
        if audiences.is_empty() {
            return Ok(());
        }
        let rule = Rule::OneOf(audiences);
        let Some(audience) = self.claims.get("aud") else {
            let why = "there is no aud, and the issuer's audiences are configured";
            return self.check("aud", rule, false, Reason::MissingClaim, why);
        };
        let is_ours = |value: &Value| audiences.iter().any(|one| value == one);
        let is_met = match audience {
            Value::Array(list) => list.iter().any(is_ours),
            other => is_ours(other),
        };
        let why = "the token is for another audience";
        self.check("aud", rule, is_met, Reason::WrongAudience, why)
    }

    fn required(&mut self) -> Result<(), Rejection> {
        for requirement in &self.issuer.required_claims {
            let value = requirement.find(self.claims);
            let (reason, why) = match value {
                None => (Reason::MissingClaim, "a required claim is missing"),
                Some(_) => (
                    Reason::WrongClaim,
                    "a required claim has none of the values that the config names",
                ),
            };
            let is_met = requirement.is_met(self.claims);
            let rule = Rule::Required(requirement);
            self.told(requirement.name(), value, rule, is_met, reason, why)?;
        }
        Ok(())
    }

    fn leeway(&self) -> i64 {
        millis(self.issuer.leeway)
    }

    fn check(
        &mut self,
        claim: &'static str,
        rule: Rule<'_>,
        is_met: bool,
        reason: Reason,
        why: &'static str,
    ) -> Result<(), Rejection> {
        let claims: &'a Claims = self.claims;
        self.told(claim, claims.get(claim), rule, is_met, reason, why)
    }

    fn told(
        &mut self,
        claim: &str,
        value: Option<&Value>,
        rule: Rule<'_>,
        is_met: bool,
        reason: Reason,
        why: &'static str,
    ) -> Result<(), Rejection> {
        self.trace.step(Step::Check {
            claim,
            value,
            rule,
            outcome: if is_met { Ok(()) } else { Err(reason) },
        });
        if is_met {
            Ok(())
        } else {
            Err(super::refused(reason, why))
        }
    }
}

/// A NumericDate (RFC 7519 section 2) in milliseconds; what lies beyond all dates is the last one.
pub(in crate::jwt) fn unix_ms(value: &Value) -> Option<i64> {
    let number = value.as_number()?;
    if let Some(seconds) = number.as_u64() {
        return Some(i64::try_from(seconds).map_or(i64::MAX, |whole| whole.saturating_mul(1000)));
    }
    let seconds = number.as_f64().filter(|seconds| *seconds >= 0.0)?;
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
    Some((seconds * 1000.0) as i64)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
