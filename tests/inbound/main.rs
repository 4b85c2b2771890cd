//! The inbound side as its two neighbours meet it: callers with all sorts of tokens before it, a
//! recording workload behind it, bytes in and bytes out.
//!
//! Pipes and paused time where something waits, sockets where sockets matter. A refusal counts only
//! where the workload saw nothing of the request and one counter moved by one.

#![cfg(feature = "demo")]

mod announced;
mod announced_model;
mod answers;
mod both;
mod cache;
mod credentials;
mod federation;
mod flood;
mod forward_auth;
mod framing;
mod gate;
mod h2;
mod identity;
mod issuer;
mod keys;
mod lists;
mod log;
mod paths;
mod paths_model;
mod reload;
mod revocations;
mod rules;
mod setup;
mod spoofing;
mod start;
mod streams;
mod table;
mod threads;
mod tls;

#[path = "../outbound/support.rs"]
#[allow(dead_code, reason = "the outbound tests use the rest")]
mod support;

#[path = "../outbound/h2/frames.rs"]
#[allow(dead_code, reason = "the outbound tests use the rest")]
mod frames;

#[path = "../outbound/h2/server.rs"]
#[allow(dead_code, reason = "the outbound tests use the rest")]
mod h2_server;

#[path = "../fuzz/seeds.rs"]
mod seeds;

#[path = "../../src/telemetry/kept.rs"]
#[allow(dead_code, reason = "the tests of the modules use the rest")]
mod kept;

/// The tokens of the verifier's own tests.
#[path = "../jwt"]
#[allow(dead_code, reason = "the verifier's tests use the rest")]
mod jwt {
    pub(crate) mod cases;
    pub(crate) mod forge;
    pub(crate) mod signer;
    pub(crate) mod world;
}

use jwt::{cases, forge, signer, world};
