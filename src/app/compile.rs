//! Gives a config its meaning: upstreams with addresses and trust stores, a routing table, a token
//! plane. Asks the modules that own each part, and collects every problem. `run`, `check` and
//! reloads share it.

use std::sync::Arc;

use http::{HeaderValue, Method};
use rustls::pki_types::ServerName;
use url::Url;

use super::Deps;
use crate::config::Loaded;
use crate::config::{self, Authorization, Config, RouteToken};
use crate::config::{Origin, Problem};
use crate::dns::Resolver;
use crate::fetch;
use crate::proxy::dial::Tls;
use crate::proxy::guard::Guard;
use crate::proxy::paths::{Entry, Paths};
use crate::proxy::{Policy, Route, Upstream};
use crate::region::Region;
use crate::tls::{self, Roots};
use crate::token::{self, source};

/// What a config comes to.
#[derive(Debug)]
pub struct Compiled {
    /// What requests are judged by.
    pub policy: Arc<Policy>,
    /// A new token plane, where this policy does not go on with the one before.
    pub token: Option<TokenPlane>,
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
    resolver: Resolver,
    epoch: u64,
    /// This listener's own mark, to find loops by.
    hop: HeaderValue,
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
        let hop = format!("{:016x}", deps.dice.u64(..));
        Compiler {
            deps,
            resolver,
            epoch: 0,
            hop: HeaderValue::from_str(&hop).expect("hexadecimal digits fit a header"),
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
        let Some(outbound) = &config.outbound else {
            let text = "nothing to do: give [outbound] a place in the config";
            return Err(vec![loaded.problem_at("outbound", text)]);
        };
        let mut problems = Vec::new();
        let region = home_region(config, &self.deps);
        let roots = Roots::load(outbound.ca_file.as_deref());
        let mut table = Table {
            resolver: &self.resolver,
            config,
            roots: roots.as_ref().ok(),
            old: before.map_or(&[], |(_, policy)| &policy.upstreams),
            upstreams: Vec::new(),
        };
        if let Err(error) = &roots {
            problems.push(loaded.problem_at("outbound.ca_file", &error.to_string()));
        }
        let default_url = outbound.upstream.as_ref().or(region.as_ref());
        let default_key = match loaded.origin("outbound.upstream") {
            Origin::Default => "region.url",
            _ => "outbound.upstream",
        };
        let default = default_url.and_then(|url| {
            let route = table.route(url, RouteToken::Access);
            problems.extend(unusable(loaded, default_key, &route));
            route.ok()
        });
        let mut routes = Vec::new();
        for (at, route) in outbound.routes.iter().enumerate() {
            let path = format!("outbound.routes[{at}].upstream");
            match (&route.upstream, default_url) {
                (Some(url), _) => {
                    let entry = table.entry(route, url);
                    problems.extend(unusable(loaded, &path, &entry));
                    routes.extend(entry);
                }
                // What is wrong with it has been told.
                (None, Some(url)) => routes.extend(table.entry(route, url)),
                (None, None) => problems.push(loaded.problem_at(&path, NO_UPSTREAM)),
            }
        }
        let upstreams = table.upstreams;
        let needs_token = routes.is_empty() || routes.iter().any(|entry| entry.value.token);
        let token = match (needs_token, &region) {
            (false, _) => None,
            (true, None) => {
                problems.push(loaded.problem_at("region.url", NO_REGION));
                None
            }
            (true, Some(region)) => self.token(loaded, region, before, &mut problems),
        };
        let default = default.or(routes.first().map(|entry| entry.value));
        let (Some(default), true) = (default, problems.is_empty()) else {
            return Err(problems);
        };
        self.epoch += 1;
        self.region = region.filter(|_| token.is_some());
        let (handle, plane) = match token {
            None => (None, None),
            Some(Either::Old(handle)) => (Some(handle), None),
            Some(Either::New(plane)) => (Some(plane.handle.clone()), Some(*plane)),
        };
        let policy = Policy {
            epoch: self.epoch,
            guard: Guard::new(&outbound.hosts, &outbound.allow_origins),
            routes: Paths::new(routes),
            default,
            upstreams,
            token: handle,
            hop: self.hop.clone(),
            keep_authorization: outbound.authorization == Authorization::Keep,
            token_wait: outbound.token_wait,
            retry_unauthorized: outbound.retry_unauthorized,
            replay_limit: outbound.replay_body_limit,
            body_limit: config.limits.body_bytes,
            request_timeout: config.limits.request_timeout,
            access_log: config.log.access,
        };
        Ok(Compiled {
            policy: Arc::new(policy),
            token: plane,
        })
    }

    fn token(
        &mut self,
        loaded: &Loaded,
        region: &Url,
        before: Option<(&Loaded, &Policy)>,
        problems: &mut Vec<Problem>,
    ) -> Option<Either> {
        if let Some((old, policy)) = before
            && same_login(&old.config.region, &loaded.config.region)
            && self.region.as_ref() == Some(region)
            && let Some(handle) = &policy.token
        {
            return Some(Either::Old(handle.clone()));
        }
        let login = match region_client(&loaded.config, region, &self.deps, self.resolver.clone()) {
            Ok(login) => Arc::new(login),
            Err(error) => {
                problems.push(loaded.problem_at(error.key(), &error.to_string()));
                return None;
            }
        };
        let is_same_region = self.region.as_ref() == Some(region);
        let settings = token::Settings {
            region: region.clone(),
            credential: loaded.config.region.credential.clone(),
        };
        let deps = token::Deps {
            login,
            clock: self.deps.clock.clone(),
            files: Arc::clone(&self.deps.files),
            dice: self.deps.dice.fork(),
        };
        let before = before.and_then(|(_, policy)| policy.token.as_ref());
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

/// Whether one token plane serves for both.
fn same_login(old: &config::Region, new: &config::Region) -> bool {
    old.ca_file == new.ca_file && old.credential == new.credential
}

const NO_REGION: &str =
    "is missing: set region.url, or log in once with `regent login --region URL --email EMAIL`";

const NO_UPSTREAM: &str =
    "is missing, and there is no outbound.upstream or region.url that could stand for it";

const NO_TLS_NAME: &str = "has a host that no certificate can name; write the host's own name";

/// What is wrong with the upstream at a key, where nothing else has told it.
fn unusable<T>(loaded: &Loaded, key: &str, made: &Result<T, Unusable>) -> Option<Problem> {
    matches!(made, Err(Unusable::Name)).then(|| loaded.problem_at(key, NO_TLS_NAME))
}

/// Why there is no upstream for a URL.
enum Unusable {
    /// No trust store, which is told at its own key.
    Roots,
    /// A host that TLS has no name for.
    Name,
}

enum Either {
    Old(token::Handle),
    New(Box<TokenPlane>),
}

/// The upstreams of one policy, as its routes name them.
struct Table<'a> {
    resolver: &'a Resolver,
    config: &'a Config,
    roots: Option<&'a Roots>,
    /// Those of the policy before: what did not change keeps its connections.
    old: &'a [Arc<Upstream>],
    upstreams: Vec<Arc<Upstream>>,
}

impl Table<'_> {
    fn entry(&mut self, route: &config::Route, url: &Url) -> Result<Entry<Route>, Unusable> {
        let methods = route.methods.iter();
        Ok(Entry {
            path: route.path.clone(),
            exact: route.exact,
            methods: methods
                .filter_map(|name| name.parse::<Method>().ok())
                .collect(),
            value: self.route(url, route.token)?,
        })
    }

    fn route(&mut self, url: &Url, token: RouteToken) -> Result<Route, Unusable> {
        let upstream = self.upstream(url)?;
        let known = |other: &Arc<Upstream>| other.is_same(&upstream);
        let at = self.upstreams.iter().position(known).unwrap_or_else(|| {
            let old = self.old.iter().find(|other| other.is_same(&upstream));
            self.upstreams
                .push(old.cloned().unwrap_or_else(|| Arc::new(upstream)));
            self.upstreams.len() - 1
        });
        Ok(Route {
            upstream: at,
            token: token == RouteToken::Access,
        })
    }

    fn upstream(&self, url: &Url) -> Result<Upstream, Unusable> {
        let host = url.host_str().ok_or(Unusable::Name)?;
        let authority = url
            .port()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let tls = match url.scheme() {
            "https" => {
                let bare = host.trim_matches(['[', ']']).to_owned();
                let name = ServerName::try_from(bare).map_err(|_| Unusable::Name)?;
                let roots = self.roots.ok_or(Unusable::Roots)?;
                Some(Tls {
                    config: tls::client_config(roots, &[b"http/1.1"]),
                    name,
                    trust: roots.digest(),
                })
            }
            _ => None,
        };
        let port = url.port_or_known_default().ok_or(Unusable::Name)?;
        Ok(Upstream {
            origin: format!("{}://{authority}", url.scheme()),
            host: HeaderValue::from_str(&authority).map_err(|_| Unusable::Name)?,
            address: self.resolver.name(host, port),
            tls,
            prefix: url.path().trim_end_matches('/').to_owned(),
            connect_timeout: self.config.limits.connect_timeout,
            response_timeout: self.config.limits.response_timeout,
        })
    }
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

/// A client of the home region.
///
/// # Errors
/// Its URL or the CA file cannot be taken.
pub fn region_client(
    config: &Config,
    url: &Url,
    deps: &Deps,
    resolver: Resolver,
) -> Result<Region, NoClient> {
    // The one in the config was judged with it; this is for the one that a store names.
    if url.scheme() != "https" && !config::is_loopback(url) && !config.region.insecure_http {
        return Err(NoClient::PlainHttp(url.clone()));
    }
    let settings = fetch::Settings {
        ca_file: config.region.ca_file.clone(),
        ..fetch::Settings::default()
    };
    let service = match &deps.fetch {
        Some(service) => service.clone(),
        None => fetch::service(&settings, resolver, deps.clock.clone()).map_err(NoClient::Build)?,
    };
    Ok(Region::new(url.clone(), service, deps.clock.clone()))
}
