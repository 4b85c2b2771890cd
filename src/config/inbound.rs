//! `[inbound]`: callers, whose tokens are verified, and the workload, which gets what is verified.
//!
//! Shapes alone. `read` fills them with the issuers of `issuer`, and `claim` says what may stand for
//! a claim, its values and its header. Key files are not opened here, and no key is judged.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::Value;
use url::Url;

use super::{Listen, Proxy, UpstreamProtocol};

mod claim;
mod document;
pub mod federation;
mod issuer;
mod list;
mod read;
pub mod revocations;

pub use claim::fold;
pub use document::Fault;
pub(super) use read::inbound;

/// The issuer whose users are the workload's own.
pub const HOME: &str = "home";

/// Whether an issuer can be called this.
#[must_use]
pub fn is_issuer_name(name: &str) -> bool {
    super::schema::is_name(name)
}

/// `[inbound]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Inbound {
    /// Where callers call. Any address: it verifies them. Like `upstream`, `None` only where
    /// `forward_auth` is not.
    pub listen: Option<Listen>,
    /// Whose connections to `listen` begin with a header of the PROXY protocol.
    pub proxy_protocol: Vec<IpNet>,
    /// Where verified requests go.
    pub upstream: Option<Upstream>,
    /// What it is spoken to in.
    pub upstream_protocol: UpstreamProtocol,
    /// A token over plain `http://` to an upstream that is not loopback.
    pub insecure_http: bool,
    /// More roots for the upstream, beside the system's.
    pub ca_file: Option<PathBuf>,
    /// TLS towards callers, where they are to speak it.
    pub tls: Option<Tls>,
    /// The verified header.
    pub authorization: InboundAuthorization,
    /// What the workload is told of a caller, in the order of the config.
    pub identity_headers: Vec<IdentityHeader>,
    /// The reason word in answers to callers.
    pub reveal_reasons: bool,
    /// Refusals are logged and counted, not enforced.
    pub insecure_shadow_mode: bool,
    /// How long upgraded and streaming answers may last.
    pub stream_lifetime: StreamLifetime,
    /// Whose tokens are accepted, in the order of the config. Never empty; no two have the same
    /// `issuer`.
    pub issuers: Vec<Issuer>,
    /// Where more issuers come from.
    pub federation: Option<Federation>,
    /// Where it stands which tokens are taken back.
    pub revocations: Option<List>,
    /// What paths need. Where none matches, a valid token.
    pub rules: Vec<Rule>,
    /// `inbound.forward_auth.listen`: where other proxies ask about their callers.
    pub forward_auth: Option<Listen>,
}

impl Inbound {
    /// Whether every peer may say whom it speaks for.
    #[must_use]
    pub fn believes_anybody(&self) -> bool {
        let networks = IpNet::aggregate(&self.proxy_protocol);
        networks.iter().any(|network| network.prefix_len() == 0)
    }
}

/// `[inbound.tls]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Our certificate, and those between it and its root.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
    /// Callers must have a certificate of one of these CAs.
    pub client_ca_file: Option<PathBuf>,
}

/// `[inbound.federation]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Federation {
    /// The list.
    pub list: List,
    /// It must have a signature of `home`.
    pub signed: bool,
}

/// A list that is read again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// Where it is.
    pub at: ListAt,
    /// How often it is fetched; a file is looked at every few seconds.
    pub refresh: Duration,
    /// More roots for its URL, beside the system's.
    pub ca_file: Option<PathBuf>,
    /// What its URL is reached through.
    pub proxy: Option<Proxy>,
    /// Over plain `http://` from a host that is not loopback.
    pub insecure_http: bool,
}

/// `file` or `url`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListAt {
    /// A file.
    File(PathBuf),
    /// A document.
    Url(Url),
}

impl ListAt {
    /// The key that it stands under.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            ListAt::File(_) => "file",
            ListAt::Url(_) => "url",
        }
    }
}

/// `inbound.upstream`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// `http` or `https`.
    Url(Url),
    /// `unix:PATH`.
    Unix(PathBuf),
}

/// `inbound.authorization`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InboundAuthorization {
    /// The workload never sees it.
    Strip,
    /// It passes as it came.
    Forward,
}

/// `inbound.stream_lifetime`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamLifetime {
    /// Until either side ends it.
    Unlimited,
    /// At most as long as the token.
    Token,
}

/// One of `identity_headers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityHeader {
    /// Lower case.
    pub header: String,
    /// A claim's name, or a JSON pointer where it begins with `/`.
    pub claim: String,
}

/// `[inbound.issuers.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Issuer {
    /// Letters, digits, `-` and `_`.
    pub name: String,
    /// The exact `iss`; empty: tokens that carry none.
    pub issuer: String,
    /// Where its keys come from.
    pub keys: KeySource,
    /// More roots for its URL, beside the system's.
    pub ca_file: Option<PathBuf>,
    /// What its URL is reached through.
    pub proxy: Option<Proxy>,
    /// Keys over plain `http://` from a host that is not loopback.
    pub insecure_http: bool,
    /// JWS names, out of [`ALGORITHMS`]. Never empty.
    pub algorithms: Vec<String>,
    /// Empty: not checked.
    pub audiences: Vec<String>,
    /// What the claim `token_type` may be. Never empty.
    pub token_types: Vec<String>,
    /// How far clocks may be apart.
    pub leeway: Duration,
    /// The longest life of a token.
    pub max_lifetime: Duration,
    /// Claims, each with the values of which it must have one.
    pub required_claims: Vec<Claim>,
    /// In place of the map of `[inbound]`.
    pub identity_headers: Option<Vec<IdentityHeader>>,
    /// Its users' names are sent as they are, without the issuer's name before them.
    pub allow_unqualified_identity: bool,
    /// How often keys are fetched.
    pub jwks_refresh: Duration,
    /// The least time between fetches that an unknown `kid` asks for.
    pub jwks_cooldown: Duration,
    /// How long keys are used that cannot be fetched again.
    pub jwks_max_stale: Duration,
}

/// A claim's name (or JSON pointer), and the values of which it must have one: strings, numbers and
/// truth values, as they were typed.
pub type Claim = (String, Vec<Value>);

/// One key source of an issuer.
#[derive(Clone, Debug, PartialEq)]
pub enum KeySource {
    /// A PEM file.
    PublicKeyFile(PathBuf),
    /// A PEM.
    PublicKey(String),
    /// A JWK set, as JSON. Only an entry of a list has it.
    Jwks(String),
    /// A file with a JWK set.
    JwksFile(PathBuf),
    /// A JWK set.
    JwksUrl(Url),
    /// A discovery document, which names the JWK set: the whole URL of the document.
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
    /// What the token's claims must be. Empty where `anonymous`.
    pub claims: Vec<Claim>,
}

/// What `algorithms` takes: all asymmetric.
pub const ALGORITHMS: [&str; 9] = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA",
];
