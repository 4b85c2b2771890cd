//! Verification of tokens, without a server around it.

mod anything;
mod cases;
mod forge;
mod keys;
mod models;
#[cfg(feature = "demo")]
mod oracle;
mod refusals;
mod signer;
mod vectors;
mod world;

#[path = "../fuzz/seeds.rs"]
mod seeds;
