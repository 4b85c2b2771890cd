//! What happens to a request: judged, given a token or relieved of one, forwarded, answered.
//!
//! A [`Policy`] is all that requests of either side need to know, compiled from the config and
//! immutable: its token source and its issuers belong to it, so that a reload can never send one
//! region's token to another's upstream. A request keeps the policy that it began with. `worker` is
//! what a data thread owns; `outbound`, `inbound` and `forward_auth` are the ways of a request;
//! `respond` alone turns a refusal into an answer.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use crate::dns;
use crate::jwt::list;
use crate::jwt::revoked::Revoked;
use crate::telemetry::counters::Side;

pub mod access;
pub mod admit;
pub mod bearer;
pub mod body;
pub mod conn;
pub mod deliver;
pub mod dial;
pub mod download;
pub mod exchange;
pub mod forward;
pub mod forward_auth;
pub mod framing;
pub mod guard;
pub mod headers;
pub mod heads;
pub mod identity;
pub mod inbound;
pub mod load;
pub mod location;
pub mod outbound;
pub mod paths;
pub mod pool;
pub mod pseudo;
pub mod respond;
pub mod shared;
pub mod signal;
pub mod streams;
pub mod tunnel;
pub mod upload;
pub mod verdict;
pub mod wire;
pub mod worker;

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Programs that know nothing of tokens call it.
    Outbound,
    /// Callers that bring one do.
    Inbound,
    /// Another proxy asks it whether a caller may pass.
    ForwardAuth,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 3] = [Role::Outbound, Role::Inbound, Role::ForwardAuth];

    /// Its key in the config.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Role::Outbound => "outbound.listen",
            Role::Inbound => "inbound.listen",
            Role::ForwardAuth => "inbound.forward_auth.listen",
        }
    }

    /// The side whose policy holds there, and under which it is counted.
    #[must_use]
    pub const fn side(self) -> Side {
        match self {
            Role::Outbound => Side::Outbound,
            Role::Inbound | Role::ForwardAuth => Side::Inbound,
        }
    }
}

/// One configuration, as requests see it.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Counts up with every reload.
    pub epoch: u64,
    /// What both sides point to.
    pub upstreams: Vec<Arc<Upstream>>,
    /// The outbound side, where it runs.
    pub outbound: Option<outbound::Outbound>,
    /// The inbound side, where it runs.
    pub inbound: Option<inbound::Inbound>,
    /// The largest request body. Bytes.
    pub body_limit: Option<u64>,
    /// The longest exchange, from its head to the end of its answer; tunnels last as they like.
    pub request_timeout: Option<Duration>,
    /// One log line a request.
    pub access_log: bool,
}

impl Policy {
    /// Whether what came in there may go on over HTTP/2.
    #[must_use]
    pub fn may_share(&self, role: Role) -> bool {
        let speaks = |at: usize| self.upstreams[at].protocol != Protocol::H1;
        match role {
            Role::Outbound => self.outbound.as_ref().is_some_and(|side| {
                let default = side.routes.is_empty().then_some(&side.default);
                let mut all = side.routes.values().chain(default);
                all.any(|route| speaks(route.upstream))
            }),
            Role::Inbound => (self.inbound.as_ref())
                .and_then(|side| side.upstream)
                .is_some_and(speaks),
            Role::ForwardAuth => false,
        }
    }

    /// The token plane, where some route needs one.
    #[must_use]
    pub fn token(&self) -> Option<&crate::token::Handle> {
        self.outbound.as_ref()?.token.as_ref()
    }

    /// The issuers' keys, where inbound runs.
    #[must_use]
    pub fn keys(&self) -> Option<&crate::jwt::keys::Handle> {
        Some(&self.inbound.as_ref()?.keys)
    }

    /// Which tokens are taken back, where a list says so.
    #[must_use]
    pub fn revocations(&self) -> Option<&list::Handle<Revoked>> {
        self.inbound.as_ref()?.revocations.as_ref()
    }
}

/// A server that requests are forwarded to.
#[derive(Debug)]
pub struct Upstream {
    /// `https://host` or `https://host:port`, as a browser writes an origin.
    pub origin: String,
    /// Its Host header.
    pub host: HeaderValue,
    /// Where it is.
    pub address: Address,
    /// TLS, for `https`.
    pub tls: Option<dial::Tls>,
    /// What it is spoken to in.
    pub protocol: Protocol,
    /// Goes before every path: empty, or `/prefix` without a slash at its end.
    pub prefix: String,
    /// Name, connection and TLS together.
    pub connect_timeout: Duration,
    /// From the request's end to the answer's head.
    pub response_timeout: Option<Duration>,
}

/// What an upstream is spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    H1,
    /// HTTP/2.
    H2,
    /// Whichever of the two its TLS picks.
    Either,
}

/// Where an upstream is.
#[derive(Clone, Debug)]
pub enum Address {
    /// A name and a port.
    Tcp(dns::Name),
    /// Behind a proxy, which knows where.
    Behind(dial::Via),
    /// A Unix socket.
    Unix(std::path::PathBuf),
}

impl Address {
    /// The name of whoever is connected to.
    #[must_use]
    pub fn name(&self) -> Option<&dns::Name> {
        match self {
            Address::Tcp(name) => Some(name),
            Address::Behind(via) => Some(&via.name),
            Address::Unix(_) => None,
        }
    }
}

impl Upstream {
    /// Its proxy, where it has one.
    #[must_use]
    pub fn via(&self) -> Option<&dial::Via> {
        match &self.address {
            Address::Behind(via) => Some(via),
            Address::Tcp(_) | Address::Unix(_) => None,
        }
    }

    /// Whether connections to one serve for the other.
    #[must_use]
    pub fn is_same(&self, other: &Upstream) -> bool {
        let trust = |upstream: &Upstream| upstream.tls.as_ref().map(|tls| tls.trust);
        self.origin == other.origin
            && self.prefix == other.prefix
            && self.protocol == other.protocol
            && trust(self) == trust(other)
            && match (self.via(), other.via()) {
                (Some(one), Some(other)) => one.is_same(other),
                (None, None) => true,
                _ => false,
            }
            && self.connect_timeout == other.connect_timeout
            && self.response_timeout == other.response_timeout
    }
}
