//! STUB: the signatures are fixed, the bodies are to be written.

use std::sync::Arc;

use super::Rejection;
use super::issuers::{Claims, Issuers};
use super::key_set::KeySet;
use super::keys::Snapshot;
use crate::clock::Boot;

/// The present, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Milliseconds since the epoch: what `exp`, `nbf` and `iat` are held against.
    pub unix_ms: i64,
    /// What the age of keys is held against.
    pub boot: Boot,
}

/// A token that was verified.
#[derive(Debug)]
pub struct Verified {
    /// The place of its issuer.
    pub issuer: usize,
    /// Its claims.
    pub claims: Claims,
    /// From here on it is expired, leeway included. Milliseconds since the epoch.
    pub ends_unix_ms: i64,
    /// The keys that it was verified with.
    pub set: Arc<KeySet>,
}

/// Verifies a token.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn verify(
    _token: &[u8],
    _issuers: &Issuers,
    _keys: &Snapshot,
    _now: Now,
    _trace: &mut impl Trace,
) -> Result<Verified, Rejection> {
    unimplemented!()
}

/// Is told each step of a verification; `()` listens to none.
pub trait Trace {}
impl Trace for () {}
