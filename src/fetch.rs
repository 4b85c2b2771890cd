//! Calls to a region or an issuer: the only user of reqwest, behind a tower stack.
//!
//! - No redirect is followed (a 307 would post the refresh token again, elsewhere), no Referer is
//!   sent, no proxy is taken from the environment. That of the settings is before all but loopback;
//!   to an https URL it opens a tunnel (CONNECT), and learns host and port alone.
//! - A call takes 10 s in all at the most, an answer's body 64 KiB unless the settings say more.
//! - Nothing is sent twice: a refresh token may be good for one use, so trying again is the caller's
//!   decision. Each call has its own connection, which ends with it: none is found dead at the next.
//! - Where another's word says where to, no address inside a network is connected to. Through a proxy,
//!   which looks names up itself, no name is either.
//! - An error never carries a URL's query, a body or a secret.
//!
//! The fake in tests is a tower service of the same shape.

mod explain;
mod public;
pub mod times;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use tower::{BoxError, ServiceBuilder, ServiceExt as _};
use url::{Host, Url};
use zeroize::Zeroizing;

use crate::clock::{Boot, Clock};
use crate::config::Proxy;
use crate::secret::Secret;
use crate::{dns, tls};
use public::{NotPublic, Unknowable, is_public};

/// The most that an answer's body has by default, decoded. Bytes.
pub const BODY_LIMIT: usize = 64 * 1024;
/// How long a name may take: less than a connection may, so that the name gets the blame.
const NAME_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a fresh address is waited for where an old one is known.
const FRESH_NAME_TIMEOUT: Duration = Duration::from_secs(2);
/// The least time between two looks at the system's roots that failed handshakes ask for.
const ROOTS_COOLDOWN: Duration = Duration::from_secs(5);

/// One call.
#[derive(Clone)]
pub struct Request {
    /// GET or POST.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// Further headers.
    pub headers: HeaderMap,
    /// Fields that go as `application/x-www-form-urlencoded`; empty: no body.
    pub form: Vec<(&'static str, Secret)>,
    /// Where to is another's word, not the config's: only a public address is connected to.
    pub public_only: bool,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fields: Vec<&str> = self.form.iter().map(|(name, _)| *name).collect();
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("url", &without_query(&self.url))
            .field("form", &fields)
            .finish_non_exhaustive()
    }
}

/// One answer, read to its end.
#[derive(Clone)]
pub struct Response {
    /// Any status; nothing is an error for its status here.
    pub status: StatusCode,
    /// The answer's headers.
    pub headers: HeaderMap,
    /// The whole body, wiped when it is dropped. It may hold tokens: never log it.
    pub body: Bytes,
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// Why there was no answer. All of these may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Not done within the total timeout.
    Timeout,
    /// The name did not resolve.
    Dns(String),
    /// No connection.
    Connect(String),
    /// The certificate or the handshake.
    Tls(String),
    /// The body was longer than this. Bytes.
    TooLarge(usize),
    /// Connected, but what came was no HTTP answer, or it broke off.
    Protocol(String),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Timeout => f.write_str("no whole answer in time"),
            Error::TooLarge(limit) => {
                write!(f, "the answer is longer than {} KiB", limit / 1024)
            }
            Error::Dns(why) | Error::Connect(why) | Error::Tls(why) | Error::Protocol(why) => {
                f.write_str(why)
            }
        }
    }
}

impl std::error::Error for Error {}

/// What a call goes through: the real stack, or a test's.
pub type Service = tower::util::BoxCloneSyncService<Request, Response, Error>;

/// What can be set. [`Settings::default`] is what `design` says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Added to the system's roots; read again when it changes.
    pub ca_file: Option<PathBuf>,
    /// Every URL is plain http://, so that no root is needed, nor read.
    pub is_plain: bool,
    /// What `ca_file` is called in the config, for the text of errors.
    pub ca_setting: &'static str,
    /// What URLs are reached through whose host is not on loopback.
    pub proxy: Option<Proxy>,
    /// From the call to the answer's last byte, waiting for a free place included.
    pub total_timeout: Duration,
    /// Name, connection and TLS handshake.
    pub connect_timeout: Duration,
    /// Calls at a time; more of them wait.
    pub concurrency: usize,
    /// The most that an answer's body may have, decoded. Bytes.
    pub body_limit: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            ca_file: None,
            is_plain: false,
            ca_setting: "region.ca_file",
            proxy: None,
            total_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            concurrency: 4,
            body_limit: BODY_LIMIT,
        }
    }
}

/// Why there is no service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// The trust store.
    Tls(tls::Error),
    /// The HTTP client refused its settings.
    Client(String),
}

impl std::fmt::Display for BuildError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BuildError::Tls(error) => error.fmt(f),
            BuildError::Client(why) => write!(f, "the HTTP client cannot be built: {why}"),
        }
    }
}

impl std::error::Error for BuildError {}

/// ` to <scheme>://<host>` of a redirect, for the text of errors: no path and no query, which may hold
/// a secret. Empty where it says no such thing.
#[must_use]
pub fn redirect_target(url: &Url, headers: &HeaderMap) -> String {
    let target = headers
        .get(header::LOCATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|location| url.join(location).ok());
    match target {
        Some(target) if target.has_host() => {
            format!(" to {}", target.origin().ascii_serialization())
        }
        _ => String::new(),
    }
}

/// The real stack. Calls run on the runtime that they are awaited on.
///
/// # Errors
/// [`BuildError`] where the CA file cannot be taken.
pub fn service(
    settings: &Settings,
    system: &tls::System,
    resolver: dns::Resolver,
    clock: Clock,
) -> Result<Service, BuildError> {
    let roots = match &settings.ca_file {
        None if settings.is_plain => tls::Reloading::none(),
        file => tls::Reloading::new(file.clone(), system).map_err(BuildError::Tls)?,
    };
    let client = client(settings, &roots, Names::any(&resolver))?;
    let caller = Caller {
        settings: settings.clone(),
        resolver,
        clock,
        current: Arc::new(Mutex::new(Current {
            client,
            roots,
            handshake_failed: false,
            system_roots_at: Boot::default(),
        })),
    };
    Ok(stack(settings, caller))
}

fn stack<S>(settings: &Settings, leaf: S) -> Service
where
    S: tower::Service<Request, Response = Response, Error = Error> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let limited = ServiceBuilder::new()
        .concurrency_limit(settings.concurrency)
        .service(leaf);
    // Waiting for a place is part of the call, and so of its time.
    let queued = tower::service_fn(move |request| limited.clone().oneshot(request));
    let timed = ServiceBuilder::new()
        .map_err(|error: BoxError| match error.downcast::<Error>() {
            Ok(error) => *error,
            // The one other error that the stack has is the timeout's.
            Err(_) => Error::Timeout,
        })
        .timeout(settings.total_timeout)
        .service(queued);
    Service::new(timed)
}

fn client(
    settings: &Settings,
    roots: &tls::Reloading,
    names: Names,
) -> Result<reqwest::Client, BuildError> {
    let tls = tls::client_config(roots.roots(), &[b"http/1.1"]);
    let mut builder = reqwest::Client::builder().no_proxy();
    if let Some(proxy) = &settings.proxy {
        builder = builder.proxy(before_all_but_loopback(proxy));
    }
    builder
        .tls_backend_preconfigured(Arc::unwrap_or_clone(tls))
        .dns_resolver(Arc::new(names))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(settings.connect_timeout)
        .pool_max_idle_per_host(0)
        .user_agent(concat!("regent/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| BuildError::Client(error.without_url().to_string()))
}

fn before_all_but_loopback(proxy: &Proxy) -> reqwest::Proxy {
    let before = proxy.url().clone();
    let chosen = reqwest::Proxy::custom(move |url| (!is_local(url)).then(|| before.clone()));
    match proxy.authorization() {
        Some(authorization) => chosen.custom_http_auth(authorization),
        None => chosen,
    }
}

fn is_local(url: &Url) -> bool {
    url.host_str().is_some_and(dns::is_loopback)
}

/// The published names, as reqwest asks for them.
struct Names {
    resolver: dns::Resolver,
    public_only: bool,
}

impl Names {
    fn any(resolver: &dns::Resolver) -> Names {
        Names {
            resolver: resolver.clone(),
            public_only: false,
        }
    }
}

impl reqwest::dns::Resolve for Names {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        // Port 0 stands for the URL's.
        let host = name.as_str().to_owned();
        let name = self.resolver.name(&host, 0);
        let public_only = self.public_only;
        Box::pin(async move {
            let known = name.addresses();
            let patience = match known {
                Some(_) => FRESH_NAME_TIMEOUT,
                None => NAME_TIMEOUT,
            };
            let addresses = match tokio::time::timeout(patience, name.resolved()).await {
                Ok(resolved) => resolved?,
                Err(_) => known.ok_or(dns::Error::Timeout { host: host.clone() })?,
            };
            let mut addresses = Vec::from(&*addresses);
            addresses.retain(|address| !public_only || is_public(address.ip()));
            if addresses.is_empty() {
                return Err(NotPublic { host }.into());
            }
            Ok(Box::new(addresses.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

/// The client at the bottom of the stack, which follows its CA file.
#[derive(Clone)]
struct Caller {
    settings: Settings,
    resolver: dns::Resolver,
    clock: Clock,
    current: Arc<Mutex<Current>>,
}

struct Current {
    client: reqwest::Client,
    roots: tls::Reloading,
    /// The system's roots are worth a look before the next call.
    handshake_failed: bool,
    system_roots_at: Boot,
}

impl Caller {
    /// The client for the roots as they are now.
    fn client(&self) -> reqwest::Client {
        let now = self.clock.boot();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let system = current.handshake_failed && now >= current.system_roots_at + ROOTS_COOLDOWN;
        if system {
            current.handshake_failed = false;
            current.system_roots_at = now;
        }
        let renewed = match current.roots.refresh(system) {
            Ok(false) => return current.client.clone(),
            Ok(true) => client(&self.settings, &current.roots, Names::any(&self.resolver)),
            Err(error) => Err(BuildError::Tls(error)),
        };
        match renewed {
            Ok(client) => {
                tracing::info!(
                    roots = current.roots.roots().count(),
                    "the trusted CAs have changed"
                );
                current.client = client;
            }
            Err(error) => tracing::warn!("{error}; the CAs of before stay in use"),
        }
        current.client.clone()
    }

    /// One that connects to public addresses alone.
    fn public_client(&self, host: Option<Host<&str>>) -> Result<reqwest::Client, Error> {
        // An address is not asked for as a name.
        let literal: Option<IpAddr> = match host {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            Some(Host::Domain(_)) | None => None,
        };
        if let Some(address) = literal.filter(|address| !is_public(*address)) {
            let host = address.to_string();
            return Err(Error::Connect(NotPublic { host }.to_string()));
        }
        if self.settings.proxy.is_some() {
            // The proxy is the config's own choice, wherever it is.
            return match host {
                Some(Host::Domain(host)) => {
                    let host = host.to_owned();
                    Err(Error::Connect(Unknowable { host }.to_string()))
                }
                _ => Ok(self.client()),
            };
        }
        let names = Names {
            resolver: self.resolver.clone(),
            public_only: true,
        };
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        client(&self.settings, &current.roots, names)
            .map_err(|error| Error::Connect(error.to_string()))
    }

    /// The proxy before this URL, where there is one.
    fn before(&self, url: &Url) -> Option<&Proxy> {
        self.settings.proxy.as_ref().filter(|_| !is_local(url))
    }

    async fn call(self, request: Request) -> Result<Response, Error> {
        let proxy = self.before(&request.url);
        let host = match proxy {
            Some(proxy) => Some(proxy.host().0.to_owned()),
            None => request.url.host_str().map(str::to_owned),
        };
        let limit = self.settings.body_limit;
        let client = match request.public_only {
            true => self.public_client(request.url.host())?,
            false => self.client(),
        };
        let done = send(&client, request, limit).await;
        done.map_err(|failure| {
            let error = match failure {
                Failure::TooLarge => Error::TooLarge(limit),
                Failure::Http(error) => explain::error(&error, self.settings.ca_setting, proxy),
            };
            match &error {
                Error::Tls(_) => {
                    self.current
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .handshake_failed = true;
                }
                Error::Connect(_) => {
                    if let Some(host) = &host {
                        tracing::debug!(host, "no connection; the name is asked for again");
                        self.resolver.name(host, 0).failed();
                    }
                }
                _ => {}
            }
            error
        })
    }
}

impl tower::Service<Request> for Caller {
    type Response = Response;
    type Error = Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        Box::pin(Caller::call(self.clone(), request))
    }
}

enum Failure {
    TooLarge,
    Http(reqwest::Error),
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Failure {
        Failure::Http(error)
    }
}

async fn send(
    client: &reqwest::Client,
    request: Request,
    limit: usize,
) -> Result<Response, Failure> {
    let mut headers = request.headers;
    for name in [header::AUTHORIZATION, header::COOKIE] {
        if let Some(value) = headers.get_mut(name) {
            value.set_sensitive(true);
        }
    }
    let mut builder = client.request(request.method, request.url);
    if !request.form.is_empty() {
        headers.insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        builder = builder.body(encode(&request.form));
    }
    let mut response = builder.headers(headers).send().await?;

    let capacity = match response.content_length() {
        Some(announced) => usize::try_from(announced).unwrap_or(usize::MAX),
        None => limit.min(4096),
    };
    if capacity > limit {
        return Err(Failure::TooLarge);
    }
    let mut body = Zeroizing::new(Vec::with_capacity(capacity));
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > limit {
            return Err(Failure::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Response {
        status: response.status(),
        headers: std::mem::take(response.headers_mut()),
        body: Bytes::from_owner(body),
    })
}

/// The fields as a form, in memory that is wiped.
fn encode(form: &[(&'static str, Secret)]) -> Bytes {
    // At the most three bytes for one: the text never moves, so no copy stays behind.
    let most = form
        .iter()
        .map(|(name, value)| 3 * (name.len() + value.expose().len()) + 2)
        .sum();
    let mut text = Zeroizing::new(String::with_capacity(most));
    let mut fields = url::form_urlencoded::Serializer::new(&mut *text);
    for (name, value) in form {
        fields.append_pair(name, value.expose());
    }
    fields.finish();
    Bytes::from_owner(Wiped(text))
}

struct Wiped(Zeroizing<String>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// A URL as it may be shown: no user information, query or fragment.
#[must_use]
pub fn without_query(url: &Url) -> String {
    match url.host_str() {
        Some(host) => {
            let port = url
                .port()
                .map_or_else(String::new, |port| format!(":{port}"));
            format!("{}://{host}{port}{}", url.scheme(), url.path())
        }
        None => format!("{}:", url.scheme()),
    }
}

#[cfg(test)]
pub mod fake;
#[cfg(test)]
mod tests;
