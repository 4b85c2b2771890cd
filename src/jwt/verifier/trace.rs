//! What a verification tells of itself while it runs.
//!
//! A request listens to nothing: [`Trace`] of `()` does nothing, and each step only borrows, so that
//! nothing is left of it once compiled. `regent explain` prints the steps.

use std::time::Duration;

use serde_json::Value;

use crate::compact::Header;
use crate::jwt::Rejection;
use crate::jwt::algorithm::{Algorithm, Algorithms};
use crate::jwt::issuers::{Claims, Issuer, Issuers, Requirement};
use crate::jwt::key_set::{Found, Key, KeySet};
use crate::reason::Reason;

/// Is told each step of a verification; `()` listens to none.
pub trait Trace {
    /// The next step. The last one is always [`Step::Done`].
    fn step(&mut self, step: Step<'_>);
}

impl Trace for () {
    #[inline]
    fn step(&mut self, _: Step<'_>) {}
}

/// A step of a verification, in the order in which they come.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// The token has three parts and a header.
    Header {
        /// The whole token's length.
        bytes: usize,
        /// The header.
        header: &'a Header,
    },
    /// The claims, which nobody has vouched for yet.
    UnverifiedClaims(&'a Claims),
    /// The issuer that the token names was looked for.
    Issuer {
        /// `iss`.
        iss: Option<&'a str>,
        /// Its place and its rules; `None`: it is not configured.
        found: Option<(usize, &'a Issuer)>,
        /// Those that are.
        configured: &'a Issuers,
    },
    /// The algorithm is a known one; whether the issuer may use it.
    Algorithm {
        /// The token's.
        algorithm: Algorithm,
        /// The issuer's.
        allowed: Algorithms,
        /// Whether it is one of them.
        is_allowed: bool,
    },
    /// The rest of the header was looked at: the member that is not an access token's.
    HeaderMembers(Result<(), &'static str>),
    /// Keys to try were looked for.
    Keys {
        /// The set; `None`: there is none that may be used.
        set: Option<&'a KeySet>,
        /// The token's.
        kid: Option<&'a str>,
        /// How they were found; `None`: the `kid` names none.
        found: Option<Found>,
    },
    /// A key was tried.
    Key {
        /// The key.
        key: &'a Key,
        /// Whether the signature is its.
        is_good: bool,
    },
    /// A claim was held against a rule.
    Check {
        /// Its name.
        claim: &'a str,
        /// Its value; `None`: the token has none.
        value: Option<&'a Value>,
        /// The rule.
        rule: Rule<'a>,
        /// Whether the rule is met.
        outcome: Result<(), Reason>,
    },
    /// The end.
    Done(Result<(), &'a Rejection>),
}

/// What a claim is held against. Points in time are milliseconds since the epoch.
#[derive(Clone, Copy, Debug)]
pub enum Rule<'a> {
    /// Must be a number of seconds since the epoch; whether it must be there at all.
    Time {
        /// Whether it must be there.
        is_required: bool,
    },
    /// Must be text.
    Text,
    /// Must be text or a list of texts.
    Texts,
    /// Must be there.
    Present,
    /// Must not be there.
    Absent,
    /// Must be after this point.
    After(i64),
    /// Must not be after this point.
    NotAfter(i64),
    /// `exp` must not be further than this from a point.
    Within {
        /// The most.
        most: Duration,
        /// The point.
        of: i64,
        /// What the point is: `now` or `iat`.
        point: &'static str,
    },
    /// Must be, or as a list hold, one of these.
    OneOf(&'a [String]),
    /// No `token_type` is needed: the header's `typ` says that it is an access token.
    SaidByHeader,
    /// Must be what the config requires.
    Required(&'a Requirement),
}
