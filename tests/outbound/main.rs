//! The outbound side as its two neighbours meet it: raw callers before it, a scripted upstream
//! behind it, bytes in and bytes out.
//!
//! Sockets on port 0 where sockets matter, pipes and paused time where something waits.

#![cfg(feature = "demo")]

mod differential;
mod drain;
mod framing;
mod framing_any;
mod guard;
mod h2;
mod headers;
mod limits;
mod memory;
mod panics;
mod pool;
mod proxy;
mod recovery;
mod recovery_any;
mod stalls;
mod streaming;
mod support;
mod threads;
mod tls;
mod upgrade;

#[path = "../fuzz/seeds.rs"]
mod seeds;
