//! The whole sidecar in process: paused over pipes for all that waits, and on real threads and
//! sockets for what threads can get wrong.

#![cfg(feature = "demo")]

mod client;
mod lifetimes;
mod outage;
mod recovery;
mod reload;
mod shutdown;
mod start;
mod state;
mod threads;
mod upstream;
mod waiting;
mod world;
