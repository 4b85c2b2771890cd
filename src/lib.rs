//! Regent is an authenticating reverse proxy sidecar for Practicus AI regions.
//!
//! Imports go downwards only, `token` and `jwt` never see each other, and `tests/layers.rs` holds
//! the tree to this table:
//!
//! | layer | modules |
//! |---|---|
//! | 0 | [`clock`], [`backoff`], [`secret`], [`reason`], [`compact`] |
//! | 1 | [`config`], [`files`], [`tls`], [`dns`], [`net`], [`lifecycle`], [`telemetry`] |
//! | 2 | [`fetch`] |
//! | 3 | [`region`] |
//! | 4 | [`token`], [`jwt`] |
//! | 5 | [`proxy`] |
//! | 6 | [`server`], [`admin`] |
//! | 7 | [`app`] |
//! | 8 | [`cli`], `demo` |

pub mod admin;
pub mod app;
pub mod backoff;
pub mod cli;
pub mod clock;
pub mod compact;
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
pub mod dns;
pub mod fetch;
pub mod files;
pub mod jwt;
pub mod lifecycle;
pub mod net;
pub mod proxy;
pub mod reason;
pub mod region;
pub mod secret;
pub mod server;
pub mod telemetry;
pub mod tls;
pub mod token;
