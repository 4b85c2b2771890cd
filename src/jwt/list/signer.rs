//! Whose signature a list must have.

use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Boot;
use crate::jwt::algorithm::Algorithms;
use crate::jwt::{keys, verifier};
use crate::reason::Reason;

/// The header's `typ` of a list's signature: no token is one, and none is a token.
pub const SIGNATURE_TYP: &str = "regent-federation+jws";

/// An issuer that signs lists: its keys as they are now, whichever policy is in force.
#[derive(Clone, Debug, Default)]
pub struct Signer(pub(super) Arc<Mutex<Option<Signs>>>);

#[derive(Clone, Debug)]
pub(super) struct Signs {
    algorithms: Algorithms,
    keys: keys::Handle,
    place: usize,
}

impl Signer {
    /// From here on it is this issuer of these.
    pub fn set(&self, algorithms: Algorithms, keys: keys::Handle, place: usize) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Signs {
            algorithms,
            keys,
            place,
        });
    }

    /// Whether it signed the document.
    pub(super) fn verify(
        &self,
        document: &[u8],
        signature: &[u8],
        now: Boot,
    ) -> Result<(), String> {
        let signs = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let no_keys = || "the keys that its signature is by are not there yet".to_owned();
        let signs = signs.ok_or_else(no_keys)?;
        let keys = signs.keys.snapshot();
        let keys = keys.issuers.get(signs.place);
        let set = keys.and_then(|keys| keys.usable(now)).ok_or_else(no_keys)?;
        let signature = signature.trim_ascii();
        verifier::verify_detached(signature, document, SIGNATURE_TYP, signs.algorithms, set)
            .map_err(|rejection| match rejection.reason {
                Reason::BadSignature | Reason::UnknownKey => {
                    "its signature is by none of the keys that it may be by".to_owned()
                }
                _ => format!("its signature is not taken: {}", rejection.why),
            })
    }
}
