//! Gives a config its meaning: upstreams with addresses and trust stores, a routing table, a token
//! plane. Asks the modules that own each part, and collects every problem. `run`, `check` and
//! reloads share it.

use std::path::Path;
use std::sync::Arc;

use http::{HeaderValue, Method};
use rustls::pki_types::ServerName;
use url::Url;

use super::Deps;
use crate::config::Loaded;
use crate::config::inbound::federation::Listed;
use crate::config::{self, Authorization, Config, Origin, Problem, Proxy};
use crate::config::{RouteToken, UpstreamProtocol};
use crate::dns::{self, Resolver};
use crate::fetch;
use crate::jwt::keys;
use crate::jwt::list;
use crate::jwt::revoked::Revoked;
use crate::proxy::dial::{Tls, Via};
use crate::proxy::guard::Guard;
use crate::proxy::outbound::{Outbound, Route};
use crate::proxy::paths::{self, Entry, Paths};
use crate::proxy::{Address, Policy, Protocol, Upstream};
use crate::region::Region;
use crate::tls::{self, Roots};
use crate::token::{self, Login, NoRegion, source};

mod inbound;
mod lists;

/// What a config comes to.
#[derive(Debug)]
pub struct Compiled {
    /// What requests are judged by.
    pub policy: Arc<Policy>,
    /// A new token plane, where this policy does not go on with the one before.
    pub token: Option<TokenPlane>,
    /// A new key plane, where this policy does not go on with the one before.
    pub keys: Option<keys::Task>,
    /// Follows the files of `inbound.tls`, as long as the policy is in use.
    pub certificate: Option<tls::server::Follower>,
    /// Reads `inbound.federation` again, where this policy does not go on with the one before.
    pub federation: Option<list::Task<Listed>>,
    /// The same for `inbound.revocations`.
    pub revocations: Option<list::Task<Revoked>>,
}

/// A token plane that does not run yet.
#[derive(Debug)]
pub struct TokenPlane {
    /// The readers' end.
    pub handle: token::Handle,
    /// What to spawn.
    pub task: token::Task,
    /// It logs in to the region that the one before it logged in to.
    pub is_same_region: bool,
}

/// What outlives one config.
pub struct Compiler {
    /// What comes from outside.
    pub deps: Deps,
    pub(super) resolver: Resolver,
    /// The system's roots, as this config's compilation found them.
    system: tls::System,
    epoch: u64,
    /// Each listener's own mark, to find loops by: outbound's and inbound's.
    pub(super) hops: [HeaderValue; 2],
    /// The region whose tokens the last policy sends. What `regent login` stored may name another
    /// one by now.
    region: Option<Url>,
}

impl std::fmt::Debug for Compiler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiler")
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

impl Compiler {
    /// For the life of a process.
    #[must_use]
    pub fn new(mut deps: Deps, resolver: Resolver) -> Compiler {
        let mut hop = || {
            let text = format!("{:016x}", deps.dice.u64(..));
            HeaderValue::from_str(&text).expect("hexadecimal digits fit a header")
        };
        let hops = [hop(), hop()];
        Compiler {
            deps,
            resolver,
            system: tls::System::default(),
            epoch: 0,
            hops,
            region: None,
        }
    }

    /// Compiles; `before` is the config and the policy that are running.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn compile(
        &mut self,
        loaded: &Loaded,
        before: Option<(&Loaded, &Policy)>,
    ) -> Result<Compiled, Vec<Problem>> {
        let config = &loaded.config;
        if config.outbound.is_none() && config.inbound.is_none() {
            let text = "nothing to do: give [outbound] or [inbound] a place in the config";
            return Err(vec![loaded.problem_at("outbound", text)]);
        }
        let mut problems = Vec::new();
        self.system = tls::System::default();
        let region = home_region(config, &self.deps);
        let mut table = Table {
            resolver: self.resolver.clone(),
            limits: config.limits.clone(),
            old: before.map_or(&[], |(_, policy)| &policy.upstreams),
            upstreams: Vec::new(),
        };
        let outbound = (config.outbound.as_ref()).and_then(|side| {
            self.outbound(
                loaded,
                side,
                region.as_ref(),
                before,
                &mut table,
                &mut problems,
            )
        });
        let inbound = (config.inbound.as_ref())
            .and_then(|side| self.inbound(loaded, side, before, &mut table, &mut problems));
        if !problems.is_empty() {
            return Err(problems);
        }
        let (outbound, token) = outbound.unzip();
        let (inbound, tasks) = inbound.unzip();
        let tasks = tasks.unwrap_or_default();
        self.epoch += 1;
        let needs_token = outbound.as_ref().is_some_and(|side| side.token.is_some());
        self.region = region.filter(|_| needs_token);
        let policy = Policy {
            epoch: self.epoch,
            upstreams: table.upstreams,
            outbound,
            inbound,
            body_limit: config.limits.body_bytes,
            request_timeout: config.limits.request_timeout,
            access_log: config.log.access,
        };
        name_signer(&policy);
        Ok(Compiled {
            policy: Arc::new(policy),
            token: token.flatten(),
            keys: tasks.keys,
            certificate: tasks.certificate,
            federation: tasks.federation,
            revocations: tasks.revocations,
        })
    }

    /// The running policy with what its list of issuers says now; `None` where it has no list.
    pub fn relist(
        &mut self,
        loaded: &Loaded,
        old: &Policy,
    ) -> Option<(Arc<Policy>, Option<keys::Task>)> {
        let side = loaded.config.inbound.as_ref()?;
        let (inbound, task) = self.inbound_relisted(side, old.inbound.as_ref()?)?;
        self.epoch += 1;
        let policy = Policy {
            epoch: self.epoch,
            inbound: Some(inbound),
            ..old.clone()
        };
        name_signer(&policy);
        Some((Arc::new(policy), task))
    }

    /// The trust store for upstreams at `urls`; `None` where none of them speaks TLS.
    fn roots<'u>(
        &self,
        ca_file: Option<&Path>,
        mut urls: impl Iterator<Item = &'u Url>,
    ) -> Result<Option<Roots>, tls::Error> {
        let is_needed = ca_file.is_some() || urls.any(|url| url.scheme() == "https");
        is_needed.then(|| self.system.with(ca_file)).transpose()
    }

    fn outbound(
        &mut self,
        loaded: &Loaded,
        side: &config::Outbound,
        region: Option<&Url>,
        before: Option<(&Loaded, &Policy)>,
        table: &mut Table<'_>,
        problems: &mut Vec<Problem>,
    ) -> Option<(Outbound, Option<TokenPlane>)> {
        let urls = side
            .routes
            .iter()
            .filter_map(|route| route.upstream.as_ref());
        let urls = urls.chain(side.upstream.as_ref().or(region));
        let roots = match self.roots(side.ca_file.as_deref(), urls) {
            Ok(roots) => roots,
            Err(error) => {
                problems.push(loaded.problem_at("outbound.ca_file", &error.to_string()));
                None
            }
        };
        let trust = Trust {
            roots: roots.as_ref(),
            setting: "outbound.ca_file",
            proxy: side.proxy.as_ref(),
        };
        let default_url = side.upstream.as_ref().or(region);
        let default_key = match loaded.origin("outbound.upstream") {
            Origin::Default => "region.url",
            _ => "outbound.upstream",
        };
        let default = default_url.and_then(|url| {
            let route = table.route(url, side.upstream_protocol, &trust, RouteToken::Access);
            problems.extend(unusable(loaded, default_key, &route));
            route.ok()
        });
        let mut routes = Vec::new();
        for (at, route) in side.routes.iter().enumerate() {
            let key = format!("outbound.routes[{at}].path");
            problems.extend(unmatchable(loaded, &key, &route.path));
            let path = format!("outbound.routes[{at}].upstream");
            let protocol = route.upstream_protocol.unwrap_or(side.upstream_protocol);
            match (&route.upstream, default_url) {
                (Some(url), _) => {
                    let entry = table.entry(route, url, protocol, &trust);
                    problems.extend(unusable(loaded, &path, &entry));
                    routes.extend(entry);
                }
                // What is wrong with it has been told.
                (None, Some(url)) => routes.extend(table.entry(route, url, protocol, &trust)),
                (None, None) => problems.push(loaded.problem_at(&path, NO_UPSTREAM)),
            }
        }
        // One that is wrong would move the places of the others.
        if routes.len() == side.routes.len() {
            problems.extend(hidden(loaded, "outbound.routes", &routes));
        }
        let needs_token = routes.is_empty() || routes.iter().any(|entry| entry.value.token);
        let asks_region = loaded.config.region.credential.asks_region();
        let token = match (needs_token, region) {
            (false, _) => None,
            (true, None) if asks_region => {
                problems.push(loaded.problem_at("region.url", NO_REGION));
                None
            }
            (true, region) => {
                if default_url.is_none() && side.routes.is_empty() {
                    problems.push(loaded.problem_at("outbound.upstream", NO_DEFAULT));
                }
                self.token(loaded, region, before, problems)
            }
        };
        let default = default.or(routes.first().map(|entry| entry.value))?;
        let (handle, plane) = match token {
            None => (None, None),
            Some(Either::Old(handle)) => (Some(handle), None),
            Some(Either::New(plane)) => (Some(plane.handle.clone()), Some(*plane)),
        };
        let outbound = Outbound {
            guard: Guard::new(&side.hosts, &side.allow_origins),
            routes: Paths::new(routes),
            default,
            token: handle,
            hop: self.hops[0].clone(),
            keep_authorization: side.authorization == Authorization::Keep,
            token_wait: side.token_wait,
            retry_unauthorized: side.retry_unauthorized,
            replay_limit: side.replay_body_limit,
        };
        Some((outbound, plane))
    }

    fn token(
        &mut self,
        loaded: &Loaded,
        region: Option<&Url>,
        before: Option<(&Loaded, &Policy)>,
        problems: &mut Vec<Problem>,
    ) -> Option<Either> {
        // Where no region is known, the upstreams say whose the tokens are.
        let is_same_region = self.region.as_ref() == region
            && (region.is_some()
                || before.is_some_and(|(old, _)| same_upstreams(&old.config, &loaded.config)));
        if let Some((old, policy)) = before
            && same_login(&old.config.region, &loaded.config.region)
            && is_same_region
            && let Some(handle) = policy.token()
        {
            return Some(Either::Old(handle.clone()));
        }
        let login = match login(
            &loaded.config,
            region,
            &self.deps,
            &self.system,
            self.resolver.clone(),
        ) {
            Ok(login) => login,
            Err(error) => {
                problems.push(loaded.problem_at(error.key(), &error.to_string()));
                return None;
            }
        };
        let settings = token::Settings {
            region: region.cloned(),
            credential: loaded.config.region.credential.clone(),
        };
        let deps = token::Deps {
            login,
            clock: self.deps.clock.clone(),
            files: Arc::clone(&self.deps.files),
            dice: self.deps.dice.fork(),
        };
        let before = before.and_then(|(_, policy)| policy.token());
        let (handle, task) = match before.filter(|_| is_same_region) {
            Some(before) => token::follow(settings, deps, before),
            None => token::new(settings, deps),
        };
        Some(Either::New(Box::new(TokenPlane {
            handle,
            task,
            is_same_region,
        })))
    }
}

/// From here on, lists are signed by what this policy calls home.
fn name_signer(policy: &Policy) {
    if let Some(inbound) = &policy.inbound
        && let Some(federation) = &inbound.federation
        && let (Some(signer), Some(home)) = (&federation.signer, inbound.home)
        && let Some(issuer) = inbound.issuers.all().get(home)
    {
        signer.set(issuer.algorithms, inbound.keys.clone(), home);
    }
}

/// Whether one token plane serves for both.
fn same_login(old: &config::Region, new: &config::Region) -> bool {
    old.ca_file == new.ca_file && old.proxy == new.proxy && old.credential == new.credential
}

/// Whether requests with a token go to the same places.
fn same_upstreams(old: &Config, new: &Config) -> bool {
    match (&old.outbound, &new.outbound) {
        (Some(old), Some(new)) => old.upstream == new.upstream && old.routes == new.routes,
        _ => false,
    }
}

const NO_REGION: &str =
    "is missing: set region.url, or log in once with `regent login --region URL --email EMAIL`";

const NO_UPSTREAM: &str =
    "is missing, and there is no outbound.upstream or region.url that could stand for it";

const NO_DEFAULT: &str = "is missing, and there is no region.url that could stand for it: write where requests go, \
     such as \"https://practicus.example.com\"";

const NO_TLS_NAME: &str = "has a host that no certificate can name; write the host's own name";

/// What is wrong with the upstream at a key, where nothing else has told it.
pub(super) fn unusable<T>(
    loaded: &Loaded,
    key: &str,
    made: &Result<T, Unusable>,
) -> Option<Problem> {
    match made {
        Err(Unusable::Name) => Some(loaded.problem_at(key, NO_TLS_NAME)),
        Err(Unusable::Protocol(text)) => Some(loaded.problem_at(key, text)),
        Err(Unusable::Roots) | Ok(_) => None,
    }
}

/// A path that no request can match, since those that could are refused as ambiguous.
pub(super) fn unmatchable(loaded: &Loaded, key: &str, path: &str) -> Option<Problem> {
    let why = paths::unmatchable(path)?;
    Some(loaded.problem_at(key, &format!("{path:?} can match no request: {why}")))
}

/// An entry of a table that another one before it hides: nobody would know which of them holds.
pub(super) fn hidden<'a, T>(
    loaded: &'a Loaded,
    table: &'a str,
    entries: &[Entry<T>],
) -> impl Iterator<Item = Problem> + 'a {
    paths::dead(entries).into_iter().map(move |(at, first)| {
        let text = format!(
            "{table}[{first}] has the same path and comes first, so that this one is never met; \
             remove one of them"
        );
        loaded.problem_at(&format!("{table}[{at}].path"), &text)
    })
}

/// Why there is no upstream for a URL.
pub(super) enum Unusable {
    /// No trust store, which is told at its own key.
    Roots,
    /// A host that TLS has no name for.
    Name,
    /// It cannot be spoken to as the config says: why, and what to write.
    Protocol(&'static str),
}

enum Either {
    Old(token::Handle),
    New(Box<TokenPlane>),
}

/// Whom an upstream's TLS must be signed by, and what is before it.
pub(super) struct Trust<'a> {
    /// `None`: nothing needs them, or a problem has been said.
    pub(super) roots: Option<&'a Roots>,
    /// The key that adds to them.
    pub(super) setting: &'static str,
    /// What upstreams are reached through that are not on loopback.
    pub(super) proxy: Option<&'a Proxy>,
}

/// The upstreams of one policy, as its routes name them.
pub(super) struct Table<'a> {
    resolver: Resolver,
    limits: config::Limits,
    /// Those of the policy before: what did not change keeps its connections.
    old: &'a [Arc<Upstream>],
    upstreams: Vec<Arc<Upstream>>,
}

impl Table<'_> {
    fn entry(
        &mut self,
        route: &config::Route,
        url: &Url,
        protocol: UpstreamProtocol,
        trust: &Trust<'_>,
    ) -> Result<Entry<Route>, Unusable> {
        Ok(Entry {
            path: route.path.clone(),
            exact: route.exact,
            methods: methods(&route.methods),
            value: self.route(url, protocol, trust, route.token)?,
        })
    }

    fn route(
        &mut self,
        url: &Url,
        protocol: UpstreamProtocol,
        trust: &Trust<'_>,
        token: RouteToken,
    ) -> Result<Route, Unusable> {
        let upstream = self.at_url(url, protocol, trust)?;
        Ok(Route {
            upstream: self.place(upstream),
            token: token == RouteToken::Access,
        })
    }

    /// The place of an upstream, which it shares with one that is the same.
    pub(super) fn place(&mut self, upstream: Upstream) -> usize {
        let known = |other: &Arc<Upstream>| other.is_same(&upstream);
        self.upstreams.iter().position(known).unwrap_or_else(|| {
            let old = self.old.iter().find(|other| other.is_same(&upstream));
            self.upstreams
                .push(old.cloned().unwrap_or_else(|| Arc::new(upstream)));
            self.upstreams.len() - 1
        })
    }

    pub(super) fn at_url(
        &self,
        url: &Url,
        protocol: UpstreamProtocol,
        trust: &Trust<'_>,
    ) -> Result<Upstream, Unusable> {
        let host = url.host_str().ok_or(Unusable::Name)?;
        let authority = url
            .port()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let is_tls = url.scheme() == "https";
        protocol.fits(is_tls).map_err(Unusable::Protocol)?;
        let protocol = spoken(protocol, is_tls);
        let tls = match is_tls {
            true => {
                let bare = host.trim_matches(['[', ']']).to_owned();
                let name = ServerName::try_from(bare).map_err(|_| Unusable::Name)?;
                let roots = trust.roots.ok_or(Unusable::Roots)?;
                Some(Tls::new(roots, name, protocol, trust.setting))
            }
            false => None,
        };
        let port = url.port_or_known_default().ok_or(Unusable::Name)?;
        Ok(Upstream {
            origin: format!("{}://{authority}", url.scheme()),
            host: HeaderValue::from_str(&authority).map_err(|_| Unusable::Name)?,
            address: match trust.proxy.filter(|_| !dns::is_loopback(host)) {
                Some(proxy) => Address::Behind(via(&self.resolver, proxy, host, port)),
                None => Address::Tcp(self.resolver.name(host, port)),
            },
            tls,
            protocol,
            prefix: url.path().trim_end_matches('/').to_owned(),
            connect_timeout: self.limits.connect_timeout,
            response_timeout: self.limits.response_timeout,
        })
    }

    /// A Unix socket.
    pub(super) fn at_socket(&self, path: &std::path::Path, protocol: UpstreamProtocol) -> Upstream {
        Upstream {
            origin: format!("unix:{}", path.display()),
            host: HeaderValue::from_static("localhost"),
            address: Address::Unix(path.to_owned()),
            tls: None,
            protocol: spoken(protocol, false),
            prefix: String::new(),
            connect_timeout: self.limits.connect_timeout,
            response_timeout: self.limits.response_timeout,
        }
    }
}

/// The way to a host and port through a proxy.
fn via(resolver: &Resolver, proxy: &Proxy, host: &str, port: u16) -> Via {
    let (proxy_host, proxy_port) = proxy.host();
    Via {
        shown: proxy.to_string(),
        name: resolver.name(proxy_host, proxy_port),
        target: format!("{host}:{port}"),
        authorization: proxy.authorization(),
    }
}

fn spoken(protocol: UpstreamProtocol, is_tls: bool) -> Protocol {
    match protocol {
        UpstreamProtocol::Auto if is_tls => Protocol::Either,
        UpstreamProtocol::Auto | UpstreamProtocol::H1 => Protocol::H1,
        UpstreamProtocol::H2 | UpstreamProtocol::H2c => Protocol::H2,
    }
}

/// Methods as the config's own checks left them.
pub(super) fn methods(names: &[String]) -> Vec<Method> {
    names.iter().filter_map(|name| name.parse().ok()).collect()
}

/// The home region's URL: `region.url`, else what `regent login` or `core.conf` say.
#[must_use]
pub fn home_region(config: &Config, deps: &Deps) -> Option<Url> {
    let stored = || source::stored_region_url(&config.region.credential, &*deps.files);
    config.region.url.clone().or_else(stored)
}

/// Why there is no client of the home region.
#[derive(Debug)]
pub enum NoClient {
    /// Its URL, wherever it comes from, would show the refresh token to the network.
    PlainHttp(Url),
    /// The CA file cannot be taken.
    Build(fetch::BuildError),
}

impl NoClient {
    /// The key to change.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            NoClient::PlainHttp(_) => "region.url",
            NoClient::Build(_) => "region.ca_file",
        }
    }
}

impl std::fmt::Display for NoClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NoClient::PlainHttp(url) => write!(
                f,
                "the stored login is to \"{url}\": plain http:// would show the refresh token to \
                 the network; log in again with https://, or set region.insecure_http = true"
            ),
            NoClient::Build(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for NoClient {}

/// What tokens are asked of: the home region, or nobody where no rung asks it.
///
/// # Errors
/// As [`region_client`].
pub fn login(
    config: &Config,
    url: Option<&Url>,
    deps: &Deps,
    system: &tls::System,
    resolver: Resolver,
) -> Result<Arc<dyn Login>, NoClient> {
    Ok(match url {
        Some(url) => Arc::new(region_client(config, url, deps, system, resolver)?),
        None => Arc::new(NoRegion),
    })
}

/// A client of the home region.
///
/// # Errors
/// Its URL or the CA file cannot be taken.
pub fn region_client(
    config: &Config,
    url: &Url,
    deps: &Deps,
    system: &tls::System,
    resolver: Resolver,
) -> Result<Region, NoClient> {
    // The one in the config was judged with it; this is for the one that a store names.
    if url.scheme() != "https" && !config::is_loopback(url) && !config.region.insecure_http {
        return Err(NoClient::PlainHttp(url.clone()));
    }
    let settings = fetch::Settings {
        ca_file: config.region.ca_file.clone(),
        is_plain: url.scheme() == "http",
        proxy: config.region.proxy.clone(),
        ..fetch::Settings::default()
    };
    let service = match &deps.fetch {
        Some(service) => service.clone(),
        None => fetch::service(&settings, system, resolver, deps.clock.clone())
            .map_err(NoClient::Build)?,
    };
    Ok(Region::new(url.clone(), service, deps.clock.clone()))
}
