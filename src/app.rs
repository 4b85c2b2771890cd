//! The composition root: everything is made here, bound before anything runs, and ended in order.
//!
//! [`build`] reads what the config means, binds every port and returns a [`Bound`]. That runs as two
//! planes on threads ([`Bound::run`]), or both on the caller's runtime ([`Bound::run_here`]), which
//! tests pause. What comes from outside (sockets, clock, names, the region's HTTP) enters through
//! [`Deps`].

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{mpsc, oneshot, watch};

use crate::admin::{self, Board, Configured};
use crate::clock::Clock;
use crate::config::Loaded;
use crate::config::Problem;
use crate::config::{Config, Listen};
use crate::files::{Layer, OsFiles};
use crate::lifecycle::{Latches, Stop};
use crate::net::{Address, Listener, Local, Net, System};
use crate::proxy::Role;
use crate::proxy::load::Load;
use crate::server::acceptor::Acceptor;
use crate::server::{self, Bounds, Intake, Plane};
use crate::telemetry::counters::Counters;
use crate::{dns, fetch};
use compile::{Compiled, Compiler};
use control::{Control, Reload};
use shares::Shares;

pub mod compile;
mod control;
mod shares;

/// What comes from outside.
pub struct Deps {
    /// Listeners and connections.
    pub net: Arc<dyn Net>,
    /// Time.
    pub clock: Clock,
    /// Names.
    pub lookup: Arc<dyn dns::Lookup>,
    /// Calls to the region, in place of the real stack.
    pub fetch: Option<fetch::Service>,
    /// Files.
    pub files: Arc<dyn Layer>,
    /// The dice of schedules.
    pub dice: fastrand::Rng,
    /// Reads the config again, for a reload.
    pub reread: Option<Reread>,
}

/// Reads the config again.
pub type Reread = Box<dyn Fn() -> Result<Loaded, Vec<Problem>>>;

impl Deps {
    /// The system's.
    #[must_use]
    pub fn system() -> Deps {
        Deps {
            net: Arc::new(System),
            clock: Clock::system(),
            lookup: Arc::new(dns::System::default()),
            fetch: None,
            files: Arc::new(OsFiles),
            dice: fastrand::Rng::new(),
            reread: None,
        }
    }
}

impl fmt::Debug for Deps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Deps")
    }
}

/// Why it does not start.
#[derive(Debug)]
pub enum Error {
    /// What the config means cannot be: exit 2.
    Config(Vec<Problem>),
    /// A listener: exit 1.
    Bind {
        /// The key.
        key: &'static str,
        /// Its value.
        at: String,
        /// The system's word.
        error: io::Error,
    },
    /// A thread or a runtime: exit 1.
    System(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Config(problems) => {
                let lines: Vec<_> = problems.iter().map(Problem::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
            Error::Bind { key, at, error } if error.kind() == io::ErrorKind::AddrInUse => write!(
                f,
                "{key} \"{at}\" is taken by another program; end that one or choose another {key}"
            ),
            Error::Bind { key, at, error } if error.kind() == io::ErrorKind::PermissionDenied => {
                write!(
                    f,
                    "{key} \"{at}\" may not be bound: {error}; choose a port above 1023"
                )
            }
            Error::Bind { key, at, error } => write!(f, "{key} \"{at}\" cannot be bound: {error}"),
            Error::System(error) => write!(f, "the system refused a thread or runtime: {error}"),
        }
    }
}

impl std::error::Error for Error {}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It was asked to.
    Stopped,
    /// The region refused the login for good at start, and `region.startup` is `require`.
    LoginRefused,
    /// A thread that accepts or serves could not go on; the log says why.
    Failed,
}

/// All ports bound, nothing running yet.
#[derive(Debug)]
pub struct Bound {
    /// Where programs call.
    pub outbound: Option<Address>,
    /// Where callers with tokens call.
    pub inbound: Option<Address>,
    /// Where other proxies ask about their callers.
    pub forward_auth: Option<Address>,
    /// Probes and quit.
    pub admin: Option<SocketAddr>,
    /// How to end it, and how to reload it.
    pub remote: Remote,
    planes: Vec<(Intake, Plane)>,
    /// Where there are several planes.
    acceptor: Option<Acceptor>,
    control: Control,
}

/// Steers a running sidecar from outside.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Ends it.
    pub stop: Stop,
    /// What each data thread counts.
    pub counters: Arc<[Arc<Counters>]>,
    reloads: mpsc::Sender<Reload>,
}

impl Remote {
    /// Replaces the config; returns when every data thread serves by the new one.
    ///
    /// # Errors
    /// Every reason why it cannot be; the old one stays.
    pub async fn reload(&self, loaded: Loaded) -> Result<(), Vec<Problem>> {
        let (done, outcome) = oneshot::channel();
        let loaded = Some(Box::new(loaded));
        control::ask(&self.reloads, Reload { loaded, done }, outcome).await
    }

    /// The same, with the config read again from where it came.
    ///
    /// # Errors
    /// As [`Remote::reload`].
    pub async fn reread(&self) -> Result<(), Vec<Problem>> {
        let (done, outcome) = oneshot::channel();
        control::ask(&self.reloads, Reload { loaded: None, done }, outcome).await
    }
}

impl admin::Reload for Remote {
    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<(), Vec<String>>> + Send + '_>> {
        Box::pin(async {
            let told = |problems: Vec<Problem>| problems.iter().map(Problem::to_string).collect();
            self.reread().await.map_err(told)
        })
    }
}

/// Reads what the config means and binds every port.
///
/// # Errors
/// [`Error::Config`] with every problem at once, or the first port that cannot be bound.
pub fn build(loaded: Loaded, deps: Deps) -> Result<Bound, Error> {
    let (resolver, lookups) = dns::Resolver::new(Arc::clone(&deps.lookup), deps.clock.clone());
    let mut compiler = Compiler::new(deps, resolver);
    let Compiled {
        policy,
        token,
        keys,
        certificate,
        federation,
        revocations,
    } = compiler.compile(&loaded, None).map_err(Error::Config)?;
    let loaded = Arc::new(loaded);
    let config = &loaded.config;
    let net = Arc::clone(&compiler.deps.net);
    let listeners = listeners(config, &*net)?;
    let admin = admin_listener(config, &*net)?;

    let stop = Stop::default();
    let latches = Latches::default();
    latches.latch("config").open();
    latches.latch("listeners").open();
    let (policies, _) = watch::channel(Arc::clone(&policy));
    let counters: Arc<[Arc<Counters>]> = (0..config.threads).map(|_| Arc::default()).collect();
    let (reloads, asked) = mpsc::channel(8);
    let mut seen = Vec::new();
    let limits = shares::Limits::here();
    let shares = Shares::of(config, limits, |role| policy.may_share(role));
    let bounds = bounds(config, shares);
    let address_of = |wanted: Role| {
        let (_, listener) = listeners.iter().find(|(role, _)| *role == wanted)?;
        Some(listener.address())
    };
    let [outbound, inbound, forward_auth] = Role::ALL.map(address_of);
    let clock = compiler.deps.clock.clone();
    let (intakes, acceptor) = intakes(listeners, &counters, &bounds, &clock, &stop);
    let mut planes = Vec::new();
    for ((intake, load), counters) in intakes.into_iter().zip(counters.iter()) {
        let (ack, acked) = watch::channel(0);
        seen.push(acked);
        let plane = Plane {
            net: Arc::clone(&net),
            clock: clock.clone(),
            counters: Arc::clone(counters),
            load,
            policies: policies.subscribe(),
            seen: ack,
            stop: stop.clone(),
            bounds,
        };
        planes.push((intake, plane));
    }
    let remote = Remote {
        stop: stop.clone(),
        counters: Arc::clone(&counters),
        reloads,
    };
    let shown = Configured::new(Arc::clone(&loaded), clock.unix());
    let (configured, config_in_force) = watch::channel(shown);
    let board = Board {
        latches: latches.clone(),
        stop: stop.clone(),
        policies: policies.subscribe(),
        counters,
        since: clock.boot(),
        clock,
        config: config_in_force,
        reload: Arc::new(remote.clone()),
        connections: shares.admin,
    };
    let admin_address = admin.as_ref().and_then(|listener| listener.address().tcp());
    Ok(Bound {
        outbound,
        inbound,
        forward_auth,
        admin: admin_address,
        remote,
        planes,
        acceptor,
        control: Control {
            loaded,
            configured,
            compiler,
            lookups: Box::pin(lookups),
            token,
            keys,
            certificate,
            federation,
            revocations,
            ending: Vec::new(),
            policies,
            seen,
            stop,
            latches,
            admin: admin.map(|listener| (listener, board)),
            asked,
        },
    })
}

/// What callers connect to, bound.
fn listeners(config: &Config, net: &dyn Net) -> Result<Vec<(Role, Listener)>, Error> {
    let mut listeners = Vec::new();
    for (role, (key, listen)) in Role::ALL.into_iter().zip(config.listens()) {
        let Some(listen) = listen else { continue };
        let bound = net.bind(listen).map_err(|error| Error::Bind {
            key,
            at: describe(listen),
            error,
        })?;
        listeners.push((role, bound));
    }
    Ok(listeners)
}

/// Where each data thread's connections come from. One that is alone accepts them itself; to several,
/// somebody else gives them.
fn intakes(
    listeners: Vec<(Role, Listener)>,
    threads: &[Arc<Counters>],
    bounds: &Bounds,
    clock: &Clock,
    stop: &Stop,
) -> (Vec<(Intake, Arc<Load>)>, Option<Acceptor>) {
    if threads.len() < 2 {
        return (vec![(Intake::Listeners(listeners), Arc::default())], None);
    }
    let mut acceptor = Acceptor::new(listeners, bounds.connections, clock.clone(), stop.clone());
    let handed = threads.iter().map(|counters| {
        let (handed, load) = acceptor.thread(counters);
        (Intake::Handed(handed), load)
    });
    (handed.collect(), Some(acceptor))
}

fn admin_listener(config: &Config, net: &dyn Net) -> Result<Option<Listener>, Error> {
    let Some(address) = config.admin.listen else {
        return Ok(None);
    };
    let bound = net
        .bind(&Listen::Tcp(address))
        .map_err(|error| Error::Bind {
            key: "admin.listen",
            at: address.to_string(),
            error,
        })?;
    Ok(Some(bound))
}

fn describe(listen: &Listen) -> String {
    match listen {
        Listen::Tcp(address) => address.to_string(),
        Listen::Unix { path, .. } => format!("unix:{}", path.display()),
    }
}

fn bounds(config: &Config, shares: Shares) -> Bounds {
    let limits = &config.limits;
    let threads = config.threads.max(1) as u64;
    let number = |number| usize::try_from(number).unwrap_or(usize::MAX);
    Bounds {
        header_bytes: number(limits.header_bytes),
        connections: number(shares.connections),
        upstreams: number(shares.upstreams / threads),
        exchanges: number(shares.exchanges / threads).max(1),
        concurrent_streams: u32::try_from(limits.concurrent_streams).unwrap_or(u32::MAX),
        window: shares.window,
        header_timeout: limits.header_timeout,
        idle_timeout: limits.idle_timeout,
    }
}

impl Bound {
    /// Runs the data planes on threads of their own and the control plane on this one, until it is
    /// stopped.
    ///
    /// # Errors
    /// The system refuses a thread or a runtime.
    pub fn run(self) -> Result<Exit, Error> {
        self.run_with(std::future::ready(()))
    }

    /// The same, with a task of the caller's beside the control plane, such as one for signals.
    ///
    /// # Errors
    /// As [`Bound::run`].
    pub fn run_with(self, beside: impl Future<Output = ()> + 'static) -> Result<Exit, Error> {
        let mut threads = Vec::new();
        let (ended, ends) = mpsc::unbounded_channel();
        let mut start = |name: String, run: Box<dyn FnOnce() -> io::Result<()> + Send>| {
            let (ended, part) = (ended.clone(), name.clone());
            let run = move || {
                // Nobody hears it where the control plane has gone.
                let _ = ended.send(outcome(&part, run()));
            };
            let thread = std::thread::Builder::new().name(name).spawn(run);
            thread
                .map(|thread| threads.push(thread))
                .map_err(Error::System)
        };
        for (at, (intake, plane)) in self.planes.into_iter().enumerate() {
            let run = move || local_runtime()?.block_on(contained(server::run(intake, plane)));
            start(format!("data-{at}"), Box::new(run))?;
        }
        if let Some(acceptor) = self.acceptor {
            let run = move || local_runtime()?.block_on(contained(acceptor.run()));
            start("accept".to_owned(), Box::new(run))?;
        }
        drop(ended);
        let runtime = local_runtime().map_err(Error::System)?;
        let mut exit = runtime.block_on(async {
            tokio::task::spawn_local(beside);
            self.control.run(ends).await
        });
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread panicked: please report it");
                exit = Exit::Failed;
            }
        }
        Ok(exit)
    }

    /// Runs everything on the local runtime that this is awaited on.
    pub async fn run_here(self) -> Exit {
        let (ended, ends) = mpsc::unbounded_channel();
        let start = |name: String, part: Local<'static, io::Result<()>>| {
            let ended = ended.clone();
            tokio::task::spawn_local(async move {
                let _ = ended.send(outcome(&name, contained(part).await));
            });
        };
        for (at, (intake, plane)) in self.planes.into_iter().enumerate() {
            start(format!("data-{at}"), Box::pin(server::run(intake, plane)));
        }
        if let Some(acceptor) = self.acceptor {
            start("accept".to_owned(), Box::pin(acceptor.run()));
        }
        drop(ended);
        self.control.run(ends).await
    }
}

/// Runs a part of the data plane; that it panicked is an error. It is a task of its own, so that what
/// else is on the thread does not end in the same panic.
async fn contained(part: impl Future<Output = io::Result<()>> + 'static) -> io::Result<()> {
    let ended = tokio::task::spawn_local(part).await;
    ended.unwrap_or_else(|panic| Err(io::Error::other(format!("{panic}; please report it"))))
}

/// How a part of the data plane ended; says why, where that was not well.
fn outcome(part: &str, ended: io::Result<()>) -> Exit {
    let Err(error) = ended else {
        return Exit::Stopped;
    };
    tracing::error!("the thread {part} cannot go on, and the sidecar ends: {error}");
    Exit::Failed
}

/// A runtime of one thread whose tasks need not be `Send`.
///
/// # Errors
/// The system's.
pub fn local_runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;
    use crate::config::load::load;
    use crate::telemetry::kept::Kept;

    #[tokio::test(flavor = "local")]
    async fn a_part_that_panics_or_cannot_begin_is_one_line_that_says_why() {
        let (log, _guard) = Kept::new();
        let panics = async { panic!("this panic is a part of the test") };
        let refused = async { Err(io::Error::other("no descriptors")) };
        let parts: [Local<'static, io::Result<()>>; 3] = [
            Box::pin(panics),
            Box::pin(refused),
            Box::pin(async { Ok(()) }),
        ];
        let mut exits = Vec::new();
        for part in parts {
            exits.push(outcome("data-0", contained(part).await));
        }
        assert_eq!(exits, [Exit::Failed, Exit::Failed, Exit::Stopped]);
        assert_eq!(log.text().lines().count(), 2, "{}", log.text());
        for why in [
            "with message \"this panic is a part of the test\"; please report it",
            "no descriptors",
        ] {
            let line = "the thread data-0 cannot go on, and the sidecar ends: ";
            assert!(
                log.text()
                    .lines()
                    .any(|l| l.contains(line) && l.ends_with(why)),
                "{}",
                log.text()
            );
        }
    }

    #[test]
    fn whether_a_side_may_go_on_over_http_2_is_for_its_upstreams_to_say() {
        let both = [
            "region.credential.access_token_file=/t",
            "outbound.listen=127.0.0.1:0",
            "inbound.listen=127.0.0.1:0",
            "inbound.upstream=http://127.0.0.1:2",
            "inbound.issuers.home.issuer=i",
            "inbound.issuers.home.jwks_url=http://127.0.0.1:1/",
        ];
        let (plain, tls) = (
            "region.url=http://127.0.0.1:1",
            "region.url=https://127.0.0.1:1",
        );
        for (sets, shared) in [
            (&[plain][..], &[][..]),
            (&[tls], &[Role::Outbound]),
            (&[tls, "outbound.upstream_protocol=h1"], &[]),
            (&[plain, "inbound.upstream_protocol=h2c"], &[Role::Inbound]),
        ] {
            let sources = Sources {
                files: Vec::new(),
                sets: both.iter().chain(sets).map(ToString::to_string).collect(),
                env: [("HOME", "/h")].into_iter().collect(),
                terminal: false,
            };
            let loaded = load(&sources).expect("a good config");
            let deps = Deps::system();
            let (resolver, _) = dns::Resolver::new(Arc::clone(&deps.lookup), deps.clock.clone());
            let compiled = Compiler::new(deps, resolver).compile(&loaded, None);
            let policy = compiled.expect("a good config").policy;
            let may_share = Role::ALL.into_iter().filter(|role| policy.may_share(*role));
            assert_eq!(may_share.collect::<Vec<_>>(), shared, "{sets:?}");
        }
    }
}
