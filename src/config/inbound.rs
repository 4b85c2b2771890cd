//! `[inbound]` (placeholder until the reader of it lands).

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::Listen;

/// `[inbound]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Inbound {
    /// Where callers call.
    pub listen: Listen,
    /// The workload.
    pub upstream: Upstream,
    /// The verified token over plain `http://` to a host that is not loopback.
    pub insecure_http: bool,
    /// More roots.
    pub ca_file: Option<PathBuf>,
    /// The verified header.
    pub authorization: InboundAuthorization,
    /// The default map.
    pub identity_headers: Vec<IdentityHeader>,
    /// The reason word in answers.
    pub reveal_reasons: bool,
    /// Refusals are logged and counted, not enforced.
    pub insecure_shadow_mode: bool,
    /// When streams end.
    pub stream_lifetime: StreamLifetime,
    /// Whose tokens are taken.
    pub issuers: Vec<Issuer>,
    /// What paths need.
    pub rules: Vec<Rule>,
}

/// `inbound.upstream`.
#[derive(Clone, Debug, PartialEq)]
pub enum Upstream {
    /// `http://` or `https://`.
    Url(Url),
    /// `unix:PATH`.
    Unix(PathBuf),
}

/// `inbound.authorization`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InboundAuthorization {
    /// Removed.
    Strip,
    /// Passed on.
    Forward,
}

/// `inbound.stream_lifetime`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamLifetime {
    /// As long as they like.
    Unlimited,
    /// Until the token ends.
    Token,
}

/// One of `identity_headers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityHeader {
    /// Lower case.
    pub header: String,
    /// A name or a JSON pointer.
    pub claim: String,
}

/// `[inbound.issuers.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Issuer {
    /// NAME.
    pub name: String,
    /// `iss`.
    pub issuer: String,
    /// Where its keys come from.
    pub keys: KeySource,
    /// More roots.
    pub ca_file: Option<PathBuf>,
    /// Plain http.
    pub insecure_http: bool,
    /// Names.
    pub algorithms: Vec<String>,
    /// `aud`.
    pub audiences: Vec<String>,
    /// `token_type`.
    pub token_types: Vec<String>,
    /// Leeway.
    pub leeway: Duration,
    /// Longest life.
    pub max_lifetime: Duration,
    /// Claims.
    pub required_claims: Vec<(String, Vec<serde_json::Value>)>,
    /// Replaces the map above.
    pub identity_headers: Option<Vec<IdentityHeader>>,
    /// No prefix.
    pub allow_unqualified_identity: bool,
    /// Refresh.
    pub jwks_refresh: Duration,
    /// Cool-down.
    pub jwks_cooldown: Duration,
    /// Max stale.
    pub jwks_max_stale: Duration,
}

/// Where keys come from.
#[derive(Clone, Debug, PartialEq)]
pub enum KeySource {
    /// PEM file.
    PublicKeyFile(PathBuf),
    /// PEM.
    PublicKey(String),
    /// JWK set file.
    JwksFile(PathBuf),
    /// JWK set.
    JwksUrl(Url),
    /// Discovery.
    DiscoveryUrl(Url),
}

/// `[[inbound.rules]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// A prefix on segment boundaries.
    pub path: String,
    /// The path alone.
    pub exact: bool,
    /// Empty: all.
    pub methods: Vec<String>,
    /// No token needed.
    pub anonymous: bool,
    /// What claims must be.
    pub claims: Vec<(String, Vec<serde_json::Value>)>,
}
