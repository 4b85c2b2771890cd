//! Verification of tokens, without a server around it.

mod cases;
mod forge;
mod keys;
mod refusals;
mod signer;
mod world;
