//! Verification of tokens, without a server around it.

mod keys;
mod signer;
