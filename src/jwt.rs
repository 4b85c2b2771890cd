//! Whose token is this, and may it pass.
//!
//! - A token names its issuer; that issuer alone decides algorithms, keys, audiences, token types,
//!   lifetimes and required claims. Nothing that the token says chooses its own rules.
//! - The signature is checked before the claims. Malformed is never missing.
//! - [`list`] reads lists of issuers and of revoked tokens again and again.
//! - [`key_set`] judges keys when they are loaded; [`keys`] keeps them fresh, on the control plane;
//!   [`verifier`] is pure, and the same for a request and for `regent explain`.

use std::borrow::Cow;

use crate::reason::Reason;

pub mod algorithm;
pub mod cache;
pub mod federation;
pub mod issuers;
pub mod key_set;
pub mod keys;
pub mod list;
pub mod revoked;
pub mod verifier;

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// From the closed list.
    pub reason: Reason,
    /// The cause in one line, for logs and `explain`; no value of the token in it.
    pub why: Cow<'static, str>,
    /// The issuer that the token names, where it is a known one: its place among the issuers.
    pub issuer: Option<usize>,
}
