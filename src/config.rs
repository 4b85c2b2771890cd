//! What the user wrote, read and typed: the values of the contract with their defaults.
//!
//! This module owns the shape; `config/load` (the only reader of environment and config files)
//! fills it, keeps where each value came from, and collects every mistake. What a value *means*
//! (is this a usable upstream, may this address be bound) is said by the modules that own it, and
//! collected in `app/compile`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::secret::Secret;

mod address;
mod credential;
mod fold;
mod from_toml;
mod from_yaml;
pub mod inbound;
mod known;
mod listeners;
pub mod load;
mod network;
mod problem;
mod proxy;
mod read;
pub mod schema;
mod show;
mod threads;
mod tree;
mod typed;
mod value;
mod words;

pub use address::{admin as admin_address, is_loopback};
pub use inbound::{
    Claim, IdentityHeader, Inbound, InboundAuthorization, Issuer, KeySource, Rule, StreamLifetime,
    Upstream,
};
pub use load::{Environment, Loaded, Sources};
pub use problem::{Origin, Position, Problem};
pub use proxy::Proxy;
pub use read::Row;
pub use value::duration;

/// The whole effective configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Data threads, already resolved where the file says `auto`.
    pub threads: usize,
    /// The home region.
    pub region: Region,
    /// Outbound, where its table stands in the config or neither side's does.
    pub outbound: Option<Outbound>,
    /// Inbound, where its table stands in the config.
    pub inbound: Option<Inbound>,
    /// The admin listener.
    pub admin: Admin,
    /// How to stop.
    pub drain: Drain,
    /// Bounds on what a peer may cost.
    pub limits: Limits,
    /// What is written, and how.
    pub log: Log,
}

impl Config {
    /// Where programs, callers and other proxies call, each with its key.
    #[must_use]
    pub fn listens(&self) -> [(&'static str, Option<&Listen>); 3] {
        let inbound = self.inbound.as_ref();
        let outbound = self.outbound.as_ref().map(|side| &side.listen);
        let forward_auth = inbound.and_then(|side| side.forward_auth.as_ref());
        [
            ("outbound.listen", outbound),
            (
                "inbound.listen",
                inbound.and_then(|side| side.listen.as_ref()),
            ),
            ("inbound.forward_auth.listen", forward_auth),
        ]
    }
}

/// `[region]`: whom we log in to.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// The region's URL; where absent, the one that `login` stored, or `core.conf` names.
    pub url: Option<Url>,
    /// More roots for this region's TLS, beside the system's.
    pub ca_file: Option<PathBuf>,
    /// What its API is reached through.
    pub proxy: Option<Proxy>,
    /// Plain `http://` to a host that is not loopback.
    pub insecure_http: bool,
    /// What a refused login at start means.
    pub startup: Startup,
    /// The ladder.
    pub credential: Credential,
}

/// `region.startup`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Startup {
    /// Start and keep trying.
    Wait,
    /// Exit 3 on a refused login.
    Require,
}

/// `[region.credential]`: the rungs that are named, in the order of the contract. `implicit` rungs
/// are there only where none is named.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Credential {
    /// A file with a refresh token.
    pub refresh_token_file: Option<PathBuf>,
    /// A variable's name and, where it is set and not empty, its value: a refresh or an access token.
    pub refresh_token_env: Option<(String, Option<Secret>)>,
    /// What `regent login` stored.
    pub login_file: Option<PathBuf>,
    /// The SDK's store.
    pub core_conf: Option<PathBuf>,
    /// Which of its regions; default: its `default_region_key`.
    pub core_conf_region: Option<String>,
    /// A file with an access token that somebody else refreshes.
    pub access_token_file: Option<PathBuf>,
    /// With `password_file`, the last rung.
    pub email: Option<String>,
    /// With `email`, the last rung.
    pub password_file: Option<PathBuf>,
    /// Where a rotated refresh token lives; `None`: the default places.
    pub state: Option<StateAt>,
    /// Nobody named a rung: those that are there are the implicit ones.
    pub implicit: bool,
    /// `$XDG_STATE_HOME/regent`, else `~/.local/state/regent`; `None` where there is no home.
    pub state_home: Option<PathBuf>,
    /// A rung that is another user or region is taken.
    pub allow_identity_change: bool,
}

impl Credential {
    /// Whether a rung asks the region for tokens. One that somebody else refreshes does not.
    #[must_use]
    pub fn asks_region(&self) -> bool {
        self.access_token_file.is_none()
            || self.refresh_token_file.is_some()
            || self.refresh_token_env.is_some()
            || self.login_file.is_some()
            || self.core_conf.is_some()
            || self.email.is_some()
    }
}

/// `region.credential.state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateAt {
    /// `file:PATH`.
    File(PathBuf),
    /// `memory`.
    Memory,
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// `HOST:PORT`; port 0 takes any free one.
    Tcp(SocketAddr),
    /// `unix:PATH`, with `socket_mode`.
    Unix {
        /// The socket's path.
        path: PathBuf,
        /// Permission bits.
        mode: u32,
    },
}

/// `[outbound]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Outbound {
    /// Where programs call.
    pub listen: Listen,
    /// Needed for any other address than loopback.
    pub allow_non_loopback: bool,
    /// Accepted Host names, without ports.
    pub hosts: Vec<String>,
    /// Browser origins that may call.
    pub allow_origins: Vec<String>,
    /// A client's own Authorization header.
    pub authorization: Authorization,
    /// Where requests go. `region.url` where nobody wrote it; `None` where that is absent too, and
    /// the region is the one that `login` stored.
    pub upstream: Option<Url>,
    /// What upstreams are spoken to in.
    pub upstream_protocol: UpstreamProtocol,
    /// More roots for upstreams, beside the system's.
    pub ca_file: Option<PathBuf>,
    /// What upstreams are reached through that are not on loopback.
    pub proxy: Option<Proxy>,
    /// A token over plain `http://` to a host that is not loopback.
    pub insecure_http: bool,
    /// How long a request waits for a refresh that is under way.
    pub token_wait: Duration,
    /// One forced refresh and one replay on an upstream 401.
    pub retry_unauthorized: bool,
    /// The largest body that is kept for a replay. Bytes.
    pub replay_body_limit: u64,
    /// Empty: everything goes to `upstream`.
    pub routes: Vec<Route>,
}

/// `outbound.authorization`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// Ours replaces it.
    Replace,
    /// The client's own passes where it has one.
    Keep,
}

/// `[[outbound.routes]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// A prefix on segment boundaries.
    pub path: String,
    /// The path alone.
    pub exact: bool,
    /// Empty: all.
    pub methods: Vec<String>,
    /// Default: `outbound.upstream`.
    pub upstream: Option<Url>,
    /// Default: `outbound.upstream_protocol`.
    pub upstream_protocol: Option<UpstreamProtocol>,
    /// This route's token over plain `http://` to a host that is not loopback.
    pub insecure_http: bool,
    /// Which token requests get.
    pub token: RouteToken,
}

/// `outbound.routes.token`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteToken {
    /// The region's access token.
    Access,
    /// None: the request passes as it is.
    None,
}

/// `upstream_protocol` of a side or a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// Over TLS what the server picks, else HTTP/1.1.
    Auto,
    /// HTTP/1.1.
    H1,
    /// HTTP/2 over TLS.
    H2,
    /// HTTP/2 without TLS, by prior knowledge (RFC 9113 section 3.3).
    H2c,
}

impl UpstreamProtocol {
    /// Whether an upstream with or without TLS can be spoken to so.
    ///
    /// # Errors
    /// What is wrong, and what to write.
    pub fn fits(self, is_tls: bool) -> Result<(), &'static str> {
        match (self, is_tls) {
            (UpstreamProtocol::H2, false) => {
                Err("\"h2\" needs an https:// upstream; write \"h2c\" for HTTP/2 without TLS")
            }
            (UpstreamProtocol::H2c, true) => {
                Err("\"h2c\" is HTTP/2 without TLS, and the upstream is https://; write \"h2\"")
            }
            _ => Ok(()),
        }
    }
}

/// `[admin]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Probes, metrics, quit. `None` only in tests that need no admin listener.
    pub listen: Option<SocketAddr>,
}

/// `[drain]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Drain {
    /// Keep serving this long after the signal.
    pub delay: Duration,
    /// Then finish what is in flight within this.
    pub timeout: Duration,
}

/// `[limits]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Request head. Bytes.
    pub header_bytes: u64,
    /// Connections per listener; `None`: from the limits on open files and memory.
    pub connections: Option<u64>,
    /// Streams of one HTTP/2 connection.
    pub concurrent_streams: u64,
    /// From a head's first byte to its last.
    pub header_timeout: Duration,
    /// A connection without a request, or a caller that stops in the middle of one.
    pub idle_timeout: Duration,
    /// A whole exchange; off by default.
    pub request_timeout: Option<Duration>,
    /// To an upstream: name, connection, TLS.
    pub connect_timeout: Duration,
    /// From the request's end to the answer's head; off by default.
    pub response_timeout: Option<Duration>,
    /// Request body; off by default. Bytes.
    pub body_bytes: Option<u64>,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// One JSON object a line, or text for people.
    pub format: LogFormat,
    /// A level, or `target=level` pairs with commas between them.
    pub level: String,
    /// One line a request.
    pub access: bool,
}

/// `log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For machines.
    Json,
    /// For people.
    Text,
}
