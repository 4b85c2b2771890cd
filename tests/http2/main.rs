//! HTTP/2 as callers speak it to both sides: through the h2 crate where requests matter, by hand-made
//! frames where these do.
//!
//! Pipes and paused time where something waits, sockets where sockets matter.

#![cfg(feature = "demo")]

mod caller;
mod deadlines;
mod drain;
mod early;
mod floods;
mod limits;
mod raw;
mod refusals;
mod requests;
mod trailers;
mod upstream;

#[path = "../inbound/gate.rs"]
#[allow(dead_code, unused_imports, reason = "the inbound tests use the rest")]
mod gate;

#[path = "../inbound/setup.rs"]
#[allow(dead_code, reason = "the inbound tests use the rest")]
mod setup;

#[path = "../outbound/support.rs"]
#[allow(dead_code, reason = "the outbound tests use the rest")]
mod support;

#[path = "../outbound/h2/frames.rs"]
#[allow(dead_code, reason = "the outbound tests use the rest")]
mod frames;

/// The tokens of the verifier's own tests.
#[path = "../jwt"]
#[allow(dead_code, reason = "the verifier's tests use the rest")]
mod jwt {
    pub(crate) mod forge;
    pub(crate) mod signer;
    pub(crate) mod world;
}

use jwt::{forge, signer, world};
