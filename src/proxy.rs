//! What happens to a request: judged, given a token, forwarded, answered.
//!
//! A [`Policy`] is all that a request needs to know, compiled from the config and immutable: its
//! token source belongs to it, so that a reload can never send one region's token to another's
//! upstream. A request keeps the policy that it began with. `worker` is what a data thread owns;
//! `outbound` is the way of a request; `respond` alone turns a refusal into an answer.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use crate::dns;
use crate::token;

pub mod body;
pub mod dial;
pub mod forward;
pub mod framing;
pub mod guard;
pub mod headers;
pub mod last_words;
pub mod location;
pub mod outbound;
pub mod paths;
pub mod pool;
pub mod respond;
pub mod signal;
pub mod tunnel;
pub mod upload;
pub mod worker;

/// The outbound side of one configuration.
#[derive(Debug)]
pub struct Policy {
    /// Counts up with every reload.
    pub epoch: u64,
    /// Who may call.
    pub guard: guard::Guard,
    /// Empty: everything takes `default`.
    pub routes: paths::Paths<Route>,
    /// Where requests go without routes.
    pub default: Route,
    /// What routes point to.
    pub upstreams: Vec<Arc<Upstream>>,
    /// The token plane of the region that this policy belongs to; `None` where no route needs one.
    pub token: Option<token::Handle>,
    /// This listener's own mark in `X-Regent-Hop`.
    pub hop: HeaderValue,
    /// A client's own Authorization passes.
    pub keep_authorization: bool,
    /// How long a request waits for a token that is under way.
    pub token_wait: Duration,
    /// One forced refresh and one replay on an upstream 401.
    pub retry_unauthorized: bool,
    /// The largest body that is kept for a replay. Bytes.
    pub replay_limit: u64,
    /// The largest request body. Bytes.
    pub body_limit: Option<u64>,
    /// The longest exchange, from its head to the end of its answer; tunnels last as they like.
    pub request_timeout: Option<Duration>,
    /// One log line a request.
    pub access_log: bool,
}

impl Policy {
    /// Whether some requests are forwarded without a token.
    #[must_use]
    pub fn serves_without_token(&self) -> bool {
        self.routes.values().any(|route| !route.token)
    }
}

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// An index into [`Policy::upstreams`].
    pub upstream: usize,
    /// Whether it gets the access token.
    pub token: bool,
}

/// A server that requests are forwarded to.
#[derive(Debug)]
pub struct Upstream {
    /// `https://host` or `https://host:port`, as a browser writes an origin.
    pub origin: String,
    /// Its Host header.
    pub host: HeaderValue,
    /// Where it is.
    pub address: dns::Name,
    /// TLS, for `https`.
    pub tls: Option<dial::Tls>,
    /// Goes before every path: empty, or `/prefix` without a slash at its end.
    pub prefix: String,
    /// Name, connection and TLS together.
    pub connect_timeout: Duration,
    /// From the request's end to the answer's head.
    pub response_timeout: Option<Duration>,
}

impl Upstream {
    /// Whether connections to one serve for the other.
    #[must_use]
    pub fn is_same(&self, other: &Upstream) -> bool {
        let trust = |upstream: &Upstream| upstream.tls.as_ref().map(|tls| tls.trust);
        self.origin == other.origin
            && self.prefix == other.prefix
            && trust(self) == trust(other)
            && self.connect_timeout == other.connect_timeout
            && self.response_timeout == other.response_timeout
    }
}
