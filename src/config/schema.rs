//! Every key there is, with its default as a user would write it.
//!
//! This table is the only place of a default: the reader takes it from here as the weakest layer,
//! `check` prints it, and the reference in `config/` is held to it by a test.

/// One key.
pub struct Key {
    /// Dotted, from the root.
    pub path: &'static str,
    /// What stands there.
    pub kind: Kind,
    /// What holds where nobody wrote it.
    pub default: Otherwise,
}

/// What a key takes, as far as the shape goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string, whatever it means.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number, or a word in its place.
    Number,
    /// A string such as `"64KiB"`, or a number of bytes.
    Size,
    /// A list of strings.
    Words,
    /// A list of tables.
    Tables,
    /// A table of tables, each under a name of its own.
    Named,
    /// A table with free keys; a later one replaces it as a whole.
    Map,
    /// A public key, which is shown by its first line.
    Pem,
    /// The URL of a proxy, which is shown without its password.
    Proxy,
}

/// What holds where nobody wrote a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Otherwise {
    /// This value.
    Value(&'static str),
    /// No value, which means this.
    Absent(&'static str),
}

use self::Otherwise::{Absent, Value};

const fn key(path: &'static str, kind: Kind, default: Otherwise) -> Key {
    Key {
        path,
        kind,
        default,
    }
}

/// All keys, in the order in which they are documented and printed.
pub const KEYS: &[Key] = &[
    key("threads", Kind::Number, Value("1")),
    key("region.url", Kind::Text, Absent("from the stored login")),
    key("region.ca_file", Kind::Text, Absent("system roots only")),
    key("region.proxy", Kind::Proxy, Absent("none")),
    key("region.insecure_http", Kind::Bool, Value("false")),
    key("region.startup", Kind::Text, Value("wait")),
    key(
        "region.credential.refresh_token_file",
        Kind::Text,
        Absent("not used"),
    ),
    key(
        "region.credential.refresh_token_env",
        Kind::Text,
        Absent("not used"),
    ),
    key(
        "region.credential.login_file",
        Kind::Text,
        Absent("not used"),
    ),
    key(
        "region.credential.core_conf",
        Kind::Text,
        Absent("not used"),
    ),
    key(
        "region.credential.core_conf_region",
        Kind::Text,
        Absent("the file's default_region_key"),
    ),
    key(
        "region.credential.access_token_file",
        Kind::Text,
        Absent("not used"),
    ),
    key("region.credential.email", Kind::Text, Absent("not used")),
    key(
        "region.credential.password_file",
        Kind::Text,
        Absent("not used"),
    ),
    key(
        "region.credential.state",
        Kind::Text,
        Absent("beside the token's file, else in the state folder, else memory"),
    ),
    key(
        "region.credential.allow_identity_change",
        Kind::Bool,
        Value("false"),
    ),
    key("outbound.listen", Kind::Text, Value("127.0.0.1:8080")),
    key("outbound.socket_mode", Kind::Text, Value("0600")),
    key("outbound.allow_non_loopback", Kind::Bool, Value("false")),
    key(
        "outbound.hosts",
        Kind::Words,
        Value(r#"["localhost", "127.0.0.1", "[::1]"]"#),
    ),
    key("outbound.allow_origins", Kind::Words, Value("[]")),
    key("outbound.authorization", Kind::Text, Value("replace")),
    key("outbound.upstream", Kind::Text, Absent("the region")),
    key("outbound.upstream_protocol", Kind::Text, Value("auto")),
    key("outbound.ca_file", Kind::Text, Absent("system roots only")),
    key("outbound.proxy", Kind::Proxy, Absent("none")),
    key("outbound.insecure_http", Kind::Bool, Value("false")),
    key("outbound.token_wait", Kind::Text, Value("10s")),
    key("outbound.retry_unauthorized", Kind::Bool, Value("true")),
    key("outbound.replay_body_limit", Kind::Size, Value("64KiB")),
    key("outbound.routes", Kind::Tables, Value("[]")),
    key("inbound.listen", Kind::Text, Absent("forward_auth alone")),
    key("inbound.socket_mode", Kind::Text, Value("0600")),
    key("inbound.proxy_protocol", Kind::Words, Value("[]")),
    key("inbound.upstream", Kind::Text, Absent("forward_auth alone")),
    key("inbound.upstream_protocol", Kind::Text, Value("auto")),
    key("inbound.ca_file", Kind::Text, Absent("system roots only")),
    key("inbound.insecure_http", Kind::Bool, Value("false")),
    key("inbound.tls.cert_file", Kind::Text, Absent("no TLS")),
    key("inbound.tls.key_file", Kind::Text, Absent("no TLS")),
    key(
        "inbound.tls.client_ca_file",
        Kind::Text,
        Absent("no client certificate is asked for"),
    ),
    key("inbound.authorization", Kind::Text, Value("strip")),
    key(
        "inbound.identity_headers",
        Kind::Map,
        Value(r#"{"x-regent-user": "username", "x-regent-user-id": "user_id"}"#),
    ),
    key("inbound.reveal_reasons", Kind::Bool, Value("true")),
    key("inbound.insecure_shadow_mode", Kind::Bool, Value("false")),
    key("inbound.stream_lifetime", Kind::Text, Value("unlimited")),
    key("inbound.issuers", Kind::Named, Absent("must be there")),
    key("inbound.federation.file", Kind::Text, Absent("no list")),
    key("inbound.federation.url", Kind::Text, Absent("no list")),
    key("inbound.federation.refresh", Kind::Text, Value("5m")),
    key(
        "inbound.federation.ca_file",
        Kind::Text,
        Absent("system roots only"),
    ),
    key("inbound.federation.proxy", Kind::Proxy, Absent("none")),
    key(
        "inbound.federation.insecure_http",
        Kind::Bool,
        Value("false"),
    ),
    key("inbound.federation.signed", Kind::Bool, Value("false")),
    key("inbound.revocations.file", Kind::Text, Absent("no list")),
    key("inbound.revocations.url", Kind::Text, Absent("no list")),
    key("inbound.revocations.refresh", Kind::Text, Value("5m")),
    key(
        "inbound.revocations.ca_file",
        Kind::Text,
        Absent("system roots only"),
    ),
    key("inbound.revocations.proxy", Kind::Proxy, Absent("none")),
    key(
        "inbound.revocations.insecure_http",
        Kind::Bool,
        Value("false"),
    ),
    key("inbound.rules", Kind::Tables, Value("[]")),
    key("inbound.forward_auth.listen", Kind::Text, Absent("off")),
    key("admin.listen", Kind::Text, Value("127.0.0.1:9180")),
    key("drain.delay", Kind::Text, Value("0s")),
    key("drain.timeout", Kind::Text, Value("25s")),
    key("limits.header_bytes", Kind::Size, Value("32KiB")),
    key(
        "limits.connections",
        Kind::Number,
        Absent("from the limits on open files and memory"),
    ),
    key("limits.concurrent_streams", Kind::Number, Value("100")),
    key("limits.header_timeout", Kind::Text, Value("10s")),
    key("limits.idle_timeout", Kind::Text, Value("120s")),
    key("limits.request_timeout", Kind::Text, Value("off")),
    key("limits.connect_timeout", Kind::Text, Value("5s")),
    key("limits.response_timeout", Kind::Text, Value("off")),
    key("limits.body_bytes", Kind::Size, Value("off")),
    key(
        "log.format",
        Kind::Text,
        Absent("text on a terminal, else json"),
    ),
    key("log.level", Kind::Text, Value("info")),
    key("log.access", Kind::Bool, Value("false")),
];

/// The keys of one of `[[outbound.routes]]`.
pub const ROUTE: &[Key] = &[
    key("path", Kind::Text, Absent("must be there")),
    key("exact", Kind::Bool, Value("false")),
    key("methods", Kind::Words, Value("[]")),
    key("upstream", Kind::Text, Absent("outbound.upstream")),
    key(
        "upstream_protocol",
        Kind::Text,
        Absent("outbound.upstream_protocol"),
    ),
    key("insecure_http", Kind::Bool, Value("false")),
    key("token", Kind::Text, Value("access")),
];

/// The keys of one of `[inbound.issuers.NAME]`.
pub const ISSUER: &[Key] = &[
    key("issuer", Kind::Text, Absent("must be there")),
    key("public_key_file", Kind::Text, Absent("not used")),
    key("public_key", Kind::Pem, Absent("not used")),
    key("jwks_file", Kind::Text, Absent("not used")),
    key("jwks_url", Kind::Text, Absent("not used")),
    key("discovery_url", Kind::Text, Absent("not used")),
    key("ca_file", Kind::Text, Absent("system roots only")),
    key("proxy", Kind::Proxy, Absent("none")),
    key("insecure_http", Kind::Bool, Value("false")),
    key("algorithms", Kind::Words, Value(r#"["RS256"]"#)),
    key("audiences", Kind::Words, Value("[]")),
    key("token_types", Kind::Words, Value(r#"["access"]"#)),
    key("leeway", Kind::Text, Value("30s")),
    key("max_lifetime", Kind::Text, Value("24h")),
    key("required_claims", Kind::Map, Value("{}")),
    key(
        "identity_headers",
        Kind::Map,
        Absent("inbound.identity_headers"),
    ),
    key("allow_unqualified_identity", Kind::Bool, Value("false")),
    key("jwks_refresh", Kind::Text, Value("5m")),
    key("jwks_cooldown", Kind::Text, Value("30s")),
    key("jwks_max_stale", Kind::Text, Value("24h")),
];

/// What an entry of a list of issuers has beside keys of [`ISSUER`].
const LISTED: &[Key] = &[
    key("name", Kind::Text, Absent("must be there")),
    key("jwks", Kind::Map, Absent("not used")),
];

/// The keys of one of `[[inbound.rules]]`.
pub const RULE: &[Key] = &[
    key("path", Kind::Text, Absent("must be there")),
    key("exact", Kind::Bool, Value("false")),
    key("methods", Kind::Words, Value("[]")),
    key("anonymous", Kind::Bool, Value("false")),
    key("claims", Kind::Map, Value("{}")),
];

/// A table that stands several times: in a list (`outbound.routes[0]`) or under names
/// (`inbound.issuers.home`), as the kind of its key says.
pub struct Repeated {
    /// Its key.
    pub path: &'static str,
    /// What stands in each; paths are names there.
    pub keys: &'static [Key],
}

/// All of them.
pub const REPEATED: &[Repeated] = &[
    Repeated {
        path: "outbound.routes",
        keys: ROUTE,
    },
    Repeated {
        path: "inbound.issuers",
        keys: ISSUER,
    },
    Repeated {
        path: "inbound.rules",
        keys: RULE,
    },
];

impl Repeated {
    /// The names of its keys.
    pub(super) fn names(&self) -> Vec<&'static str> {
        self.keys.iter().map(|key| key.path).collect()
    }

    /// `path` for `outbound.routes[0].path`, `issuer` for `inbound.issuers.home.issuer`.
    fn name_in<'a>(&self, path: &'a str) -> Option<&'a str> {
        let rest = path.strip_prefix(self.path)?;
        let (_, name) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once("].")?,
            None => rest.strip_prefix('.')?.split_once('.')?,
        };
        Some(name)
    }
}

/// The key at a path.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    let named = |keys: &'static [Key], name: &str| keys.iter().find(|key| key.path == name);
    let in_config = || {
        let mut found = REPEATED.iter();
        found.find_map(|table| named(table.keys, table.name_in(path)?))
    };
    let in_list = || {
        let (_, name) = path.strip_prefix("issuers[")?.split_once("].")?;
        named(LISTED, name).or_else(|| named(ISSUER, name))
    };
    named(KEYS, path).or_else(in_config).or_else(in_list)
}

/// The repeated table of this path.
pub(super) fn repeated(path: &str) -> Option<&'static Repeated> {
    REPEATED.iter().find(|table| table.path == path)
}

/// What a table of named ones may be called: it goes into headers and metrics.
pub(super) fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(fits)
}

/// The names that can stand in a table (`""` is the root), tables among them.
pub(super) fn names_in(table: &str) -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for key in KEYS {
        let rest = match table {
            "" => Some(key.path),
            _ => (key.path.strip_prefix(table)).and_then(|rest| rest.strip_prefix('.')),
        };
        let name = rest.map(|rest| rest.split('.').next().unwrap_or(rest));
        if let Some(name) = name
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}

/// Whether keys stand below this path.
pub(super) fn is_table(path: &str) -> bool {
    path.is_empty() || !names_in(path).is_empty()
}

/// Whether a value that is wrong here may be a secret that was pasted into the wrong place.
pub(super) fn is_hidden(path: &str) -> bool {
    let open = ["allow_identity_change", "state"];
    (path.strip_prefix("region.credential.")).is_some_and(|name| !open.contains(&name))
        || find(path).is_some_and(|key| matches!(key.kind, Kind::Pem | Kind::Proxy))
}
