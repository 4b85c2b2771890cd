//! The folded layers as a [`Config`]: every field, then what only several fields together tell.

use std::path::PathBuf;
use std::time::Duration;

use tracing_subscriber::filter::{LevelFilter, Targets};
use url::Url;

use super::address::{self, is_loopback};
use super::inbound::inbound;
use super::known::nearest;
use super::listeners::{listeners, loopback_only, socket_mode, with_mode};
use super::proxy;
use super::read::Reader;
use super::value::{Given, Wrong, quoted};
use super::{
    Admin, Authorization, Config, Drain, Limits, Log, LogFormat, Outbound, Region, Route,
    RouteToken, Startup, UpstreamProtocol,
};

/// What the machine says, for fields that depend on it.
pub(super) struct Machine {
    /// What `threads = "auto"` means.
    pub(super) threads: usize,
    /// The log goes to a person.
    pub(super) terminal: bool,
}

/// Which sides run.
#[derive(Clone, Copy)]
pub(super) struct Runs {
    pub(super) outbound: bool,
    pub(super) inbound: bool,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TICK: Duration = Duration::from_millis(1);

/// Reads all but the credential, which needs the environment: that is `credential`'s.
pub(super) fn config(
    reader: &mut Reader<'_>,
    machine: &Machine,
    credential: impl FnOnce(&mut Reader<'_>) -> super::Credential,
    runs: Runs,
) -> Config {
    let threads = reader.required("threads", |given| match given.is("auto") {
        true => Ok(None),
        false => {
            let wrong = |wrong| format!("{wrong}, or \"auto\"");
            given.number(1, 1024).map(Some).map_err(wrong)
        }
    });
    let threads = match threads {
        Some(threads) => usize::try_from(threads).unwrap_or(1),
        None => {
            reader.note("threads", format!("{} here", machine.threads));
            machine.threads
        }
    };
    let region = region(reader, credential);
    let outbound = runs.outbound.then(|| outbound(reader, &region));
    let inbound = if runs.inbound { inbound(reader) } else { None };
    let config = Config {
        threads,
        region,
        outbound,
        inbound,
        admin: Admin {
            listen: Some(reader.required("admin.listen", |given| {
                address::socket_address(given, "127.0.0.1")
            })),
        },
        drain: Drain {
            delay: reader.required("drain.delay", |given| given.duration(Duration::ZERO)),
            timeout: reader.required("drain.timeout", |given| given.duration(Duration::ZERO)),
        },
        limits: limits(reader),
        log: log(reader, machine),
    };
    listeners(reader, &config);
    config
}

fn region(
    reader: &mut Reader<'_>,
    credential: impl FnOnce(&mut Reader<'_>) -> super::Credential,
) -> Region {
    let region = Region {
        url: reader.optional("region.url", address::url),
        ca_file: reader.optional("region.ca_file", |given| given.path()),
        proxy: proxy::read(reader, "region.proxy"),
        insecure_http: reader.required("region.insecure_http", |given| given.bool()),
        startup: reader.required("region.startup", |given| {
            given.one_of(&[("wait", Startup::Wait), ("require", Startup::Require)])
        }),
        credential: credential(reader),
    };
    let switch = ("region.insecure_http", region.insecure_http);
    plain_http(reader, "region.url", region.url.as_ref(), switch);
    region
}

fn outbound(reader: &mut Reader<'_>, region: &Region) -> Outbound {
    let listen = reader.required("outbound.listen", |given| {
        address::listen(given, "127.0.0.1")
    });
    let mode = reader.required("outbound.socket_mode", socket_mode);
    let mut outbound = Outbound {
        listen: with_mode(listen, mode),
        allow_non_loopback: reader.required("outbound.allow_non_loopback", |given| given.bool()),
        hosts: reader.list("outbound.hosts", address::host),
        allow_origins: reader.list("outbound.allow_origins", address::origin),
        authorization: reader.required("outbound.authorization", |given| {
            given.one_of(&[
                ("replace", Authorization::Replace),
                ("keep", Authorization::Keep),
            ])
        }),
        upstream: reader.optional("outbound.upstream", address::url),
        upstream_protocol: reader.required("outbound.upstream_protocol", upstream_protocol),
        ca_file: reader.optional("outbound.ca_file", |given| given.path()),
        proxy: proxy::read(reader, "outbound.proxy"),
        insecure_http: reader.required("outbound.insecure_http", |given| given.bool()),
        token_wait: reader.required("outbound.token_wait", |given| {
            given.duration(Duration::ZERO)
        }),
        retry_unauthorized: reader.required("outbound.retry_unauthorized", |given| given.bool()),
        replay_body_limit: reader.required("outbound.replay_body_limit", |given| {
            given.size(0, 64 * MIB)
        }),
        routes: Vec::new(),
    };
    if outbound.hosts.is_empty() && reader.is_sound(&["outbound.hosts"]) {
        let text = "is empty, so that every request is refused; name a host";
        reader.conflict("outbound.hosts", text);
    }
    outbound.routes = routes(reader);
    loopback_only(reader, &outbound);
    // What no route's own upstream takes goes to this one; a token goes with it but for routes
    // that say otherwise.
    let sends_token = outbound.routes.is_empty()
        || (outbound.routes.iter())
            .any(|route| route.upstream.is_none() && route.token != RouteToken::None);
    if sends_token {
        let switch = ("outbound.insecure_http", outbound.insecure_http);
        plain_http(
            reader,
            "outbound.upstream",
            outbound.upstream.as_ref(),
            switch,
        );
    }
    if let (None, Some(url)) = (&outbound.upstream, &region.url)
        && reader.is_sound(&["outbound.upstream"])
    {
        reader.derived("outbound.upstream", quoted(url.as_str()), "region.url");
        outbound.upstream = Some(url.clone());
    }
    all_spoken(reader, &outbound);
    outbound
}

/// Holds every upstream against the protocol that it is to be spoken to in.
fn all_spoken(reader: &mut Reader<'_>, outbound: &Outbound) {
    let is_tls = |url: &Url| url.scheme() == "https";
    let mut is_used = outbound.routes.is_empty();
    for (at, route) in outbound.routes.iter().enumerate() {
        let protocol = route.upstream_protocol;
        let url = route.upstream.as_ref().or(outbound.upstream.as_ref());
        if protocol.is_none() && route.upstream.is_none() {
            is_used = true;
        } else if let Some(url) = url {
            let key = match protocol {
                Some(_) => "upstream_protocol",
                None => "upstream",
            };
            let path = format!("outbound.routes[{at}].{key}");
            let protocol = protocol.unwrap_or(outbound.upstream_protocol);
            spoken(reader, &path, protocol, is_tls(url));
        }
    }
    if let Some(url) = &outbound.upstream
        && is_used
    {
        let path = "outbound.upstream_protocol";
        spoken(reader, path, outbound.upstream_protocol, is_tls(url));
    }
}

/// The same for one upstream; `path` is what to change.
pub(super) fn spoken(
    reader: &mut Reader<'_>,
    path: &str,
    protocol: UpstreamProtocol,
    is_tls: bool,
) {
    if let Err(text) = protocol.fits(is_tls)
        && reader.is_sound(&[path])
    {
        reader.conflict(path, text);
    }
}

pub(super) fn upstream_protocol(given: &Given<'_>) -> Result<UpstreamProtocol, Wrong> {
    given.one_of(&[
        ("auto", UpstreamProtocol::Auto),
        ("h1", UpstreamProtocol::H1),
        ("h2", UpstreamProtocol::H2),
        ("h2c", UpstreamProtocol::H2c),
    ])
}

fn routes(reader: &mut Reader<'_>) -> Vec<Route> {
    let mut routes = Vec::new();
    for table in reader.tables("outbound.routes") {
        let at = |name: &str| format!("{table}.{name}");
        let path = reader.must(&at("path"), "path = \"/models\"", address::route_path);
        let exact = reader.required(&at("exact"), |given| given.bool());
        let methods = reader.list(&at("methods"), address::method);
        let upstream = reader.optional(&at("upstream"), address::url);
        let upstream_protocol = reader.optional(&at("upstream_protocol"), upstream_protocol);
        let insecure_http = reader.required(&at("insecure_http"), |given| given.bool());
        let token = reader.required(&at("token"), route_token);
        let switch = (&*at("insecure_http"), insecure_http);
        if token == RouteToken::Access && reader.is_sound(&[&at("token")]) {
            plain_http(reader, &at("upstream"), upstream.as_ref(), switch);
        }
        routes.extend(path.map(|path| Route {
            path,
            exact,
            methods,
            upstream,
            upstream_protocol,
            insecure_http,
            token,
        }));
    }
    routes
}

fn route_token(given: &Given<'_>) -> Result<RouteToken, Wrong> {
    match given.text()? {
        later @ ("model-session" | "app-session") => Err(format!(
            "{} is not in this version yet; write \"access\" or \"none\"",
            quoted(later)
        )),
        _ => given.one_of(&[("access", RouteToken::Access), ("none", RouteToken::None)]),
    }
}

/// A token crosses no network in the clear unless the config says so.
pub(super) fn plain_http(
    reader: &mut Reader<'_>,
    path: &str,
    url: Option<&Url>,
    switch: (&str, bool),
) {
    plain(
        reader,
        path,
        url,
        switch,
        "would show the token to the network",
    );
}

/// The same for what else must not; `why` it must not.
pub(super) fn plain(
    reader: &mut Reader<'_>,
    path: &str,
    url: Option<&Url>,
    switch: (&str, bool),
    why: &str,
) {
    let (switch, insecure) = switch;
    let refused = url.is_some_and(|url| url.scheme() == "http" && !is_loopback(url));
    if refused && !insecure && reader.is_sound(&[path, switch]) {
        let text =
            format!("plain http:// {why}; write https://, or insecure_http = true beside it");
        reader.conflict(path, &text);
    }
}

fn limits(reader: &mut Reader<'_>) -> Limits {
    Limits {
        header_bytes: reader.required("limits.header_bytes", |given| given.size(8 * KIB, MIB)),
        connections: reader.optional("limits.connections", |given| given.number(1, 1_000_000)),
        concurrent_streams: reader
            .required("limits.concurrent_streams", |given| given.number(1, 1000)),
        header_timeout: reader.required("limits.header_timeout", |given| given.duration(TICK)),
        idle_timeout: reader.required("limits.idle_timeout", |given| given.duration(TICK)),
        request_timeout: reader.required("limits.request_timeout", |given| given.duration_or_off()),
        connect_timeout: reader.required("limits.connect_timeout", |given| given.duration(TICK)),
        response_timeout: reader
            .required("limits.response_timeout", |given| given.duration_or_off()),
        body_bytes: reader.required("limits.body_bytes", |given| match given.is("off") {
            true => Ok(None),
            false => {
                let wrong = |wrong| format!("{wrong}, or \"off\"");
                given.size(1, u64::MAX).map(Some).map_err(wrong)
            }
        }),
    }
}

fn log(reader: &mut Reader<'_>, machine: &Machine) -> Log {
    let formats = [("json", LogFormat::Json), ("text", LogFormat::Text)];
    let format = reader.optional("log.format", |given| given.one_of(&formats));
    let format = format.unwrap_or_else(|| {
        let (word, format, why) = match machine.terminal {
            true => ("text", LogFormat::Text, "on a terminal"),
            false => ("json", LogFormat::Json, "not on a terminal"),
        };
        reader.derived("log.format", quoted(word), why);
        format
    });
    Log {
        format,
        level: reader.required("log.level", |given| level(given.text()?)),
        access: reader.required("log.access", |given| given.bool()),
    }
}

/// `info`, or `info,hyper=warn`: what `Targets` parses, but a bare word that is no level is a slip.
fn level(text: &str) -> Result<String, Wrong> {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    for part in text.split(',').map(str::trim) {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        if level.parse::<LevelFilter>().is_err() {
            let meant = nearest(level, LEVELS.into_iter()).unwrap_or("info");
            return Err(format!(
                "{} is no level; write {}, or TARGET=LEVEL pairs with commas between them (levels: {})",
                quoted(level),
                quoted(meant),
                LEVELS.join(", ")
            ));
        }
    }
    match text.parse::<Targets>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!(
            "{} is no log level; write one such as \"info\" or \"info,hyper=warn\"",
            quoted(text)
        )),
    }
}

/// `$XDG_STATE_HOME/regent`, else `~/.local/state/regent`. A relative one is none, as the XDG base
/// directory specification says.
pub(super) fn state_home(xdg: Option<&str>, home: Option<&str>) -> Option<PathBuf> {
    let xdg = xdg.map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || home.map(|home| PathBuf::from(home).join(".local/state"));
    xdg.or_else(home).map(|path| path.join("regent"))
}
