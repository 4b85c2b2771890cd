//! `regent demo`: an embedded region, an echo workload, and Regent before it, all on loopback.
//!
//! - [`region`] speaks `region.md` as djangorestframework-simplejwt 5.5.1 does, with real RS256
//!   keys made at run time, and can be told to fail: the tests use it as well.
//! - `tour` walks through what Regent is for and says of each step whether it held.
//! - The sidecar is the real one, built by `app` from a config file as users write it.
//!
//! Nothing outlives the demo: its one credential is in a private folder that goes with it.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{self, Exit};
use crate::clock::Clock;
use crate::config::Loaded;

mod call;
mod folder;
pub mod region;
mod say;
mod setup;
mod sidecar;
#[cfg(test)]
mod tests;
mod tour;

use region::{Part, Region, Server, Settings, SigningKey, User};
use say::Say;

/// Ports that the contract names, where they are free.
const OUTBOUND_PORT: u16 = 8080;
const ADMIN_PORT: u16 = 9180;

/// Short enough to see refreshes go by.
const ACCESS_LIFETIME: Duration = Duration::from_secs(20);
/// A sidecar that runs.
struct Sidecar {
    /// Where outbound listens.
    outbound: SocketAddr,
    admin: Option<SocketAddr>,
    /// Stops it; done when it has stopped.
    stop: Pin<Box<dyn Future<Output = ()>>>,
}

/// Starts a sidecar from a config, or says why not.
trait Start: AsyncFnMut(Loaded) -> Result<Sidecar, String> {}

impl<T: AsyncFnMut(Loaded) -> Result<Sidecar, String>> Start for T {}

/// Why the demo could not run.
#[derive(Debug)]
enum Error {
    /// No key for the region.
    Key(region::KeyUnavailable),
    /// Sockets, signals or the private folder.
    Io(&'static str, std::io::Error),
    /// The sidecar did not start.
    Sidecar(String),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Key(error) => error.fmt(f),
            Error::Io(what, error) => write!(f, "{what}: {error}"),
            Error::Sidecar(why) => write!(f, "the sidecar did not start: {why}"),
        }
    }
}

impl std::error::Error for Error {}

/// Runs the demo until a signal comes; with `once`, the tour, or with `region_only`, the region
/// alone.
#[must_use]
pub fn run(once: bool, region_only: bool) -> Exit {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let shown = match runtime {
        Ok(runtime) => runtime.block_on(show(once, region_only)),
        Err(error) => Err(Error::Io("a runtime", error)),
    };
    match shown {
        Ok(true) => Exit::Done,
        Ok(false) => Exit::Failed,
        Err(error) => {
            cli::say(error);
            Exit::Failed
        }
    }
}

async fn show(once: bool, alone: bool) -> Result<bool, Error> {
    let mut say = Say::new(std::io::stdout());
    let signals = signals()?;
    if alone {
        let region = new_region(ACCESS_LIFETIME)?;
        return region_only(once, &region, &mut say, signals).await;
    }
    let tour = once.then(tour::Pace::default);
    let region = new_region(tour.map_or(ACCESS_LIFETIME, |pace| pace.access_lifetime))?;
    whole(tour, &region, &mut say, sidecar::start, signals).await
}

fn new_region(access_lifetime: Duration) -> Result<Region, Error> {
    let settings = Settings {
        access_lifetime,
        users: vec![
            User::new("1", "alice", "alice@example.com", "wonderland"),
            User::new("2", "bob", "bob@example.com", "builder"),
        ],
        ..Settings::default()
    };
    let key = SigningKey::generate().map_err(Error::Key)?;
    Ok(Region::new(key, settings, Clock::system()))
}

async fn region_only<W: Write>(
    once: bool,
    region: &Region,
    say: &mut Say<W>,
    signals: impl Future<Output = ()>,
) -> Result<bool, Error> {
    let server = bind(region, Part::Region)?;
    let url = format!("http://{}", server.address());
    setup::introduce_region(say, region, &url);
    if once {
        return Ok(true);
    }
    tokio::select! {
        ended = server.run() => Err(Error::Io("the region's socket", never_ok(ended))),
        never = setup::follow(say, region) => match never {},
        () = signals => Ok(true),
    }
}

/// All of it: the tour at this pace, or else until a signal comes.
async fn whole<W: Write>(
    tour: Option<tour::Pace>,
    region: &Region,
    say: &mut Say<W>,
    start: impl Start,
    signals: impl Future<Output = ()>,
) -> Result<bool, Error> {
    let region_server = bind(region, Part::Region)?;
    let workload_server = bind(region, Part::Workload)?;
    let at = setup::Addresses {
        region: region_server.address(),
        workload: workload_server.address(),
    };
    let show = async {
        let folder = folder::Folder::new().map_err(|error| Error::Io("a private folder", error))?;
        let sidecar = setup::start(region, &at, &folder, say, start).await?;
        let held = if let Some(pace) = tour {
            let tour = tour::Tour::new(region, at.workload, sidecar.outbound, pace);
            tokio::select! {
                held = tour.run(say) => held,
                // A tour that was cut short has not held.
                () = signals => false,
            }
        } else {
            setup::introduce(say, &at, &sidecar);
            tokio::select! {
                never = setup::follow(say, region) => match never {},
                () = signals => true,
            }
        };
        say.line("");
        say.line("Stopping.");
        sidecar.stop.await;
        Ok(held)
    };
    tokio::select! {
        ended = region_server.run() => Err(Error::Io("the region's socket", never_ok(ended))),
        ended = workload_server.run() => Err(Error::Io("the workload's socket", never_ok(ended))),
        shown = show => shown,
    }
}

fn bind(region: &Region, part: Part) -> Result<Server, Error> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let bound = region.bind(any, part);
    bound.map_err(|error| Error::Io("a socket on loopback", error))
}

fn never_ok(ended: std::io::Result<()>) -> std::io::Error {
    ended
        .err()
        .unwrap_or_else(|| std::io::ErrorKind::Other.into())
}

/// Ends at Ctrl-C or SIGTERM.
fn signals() -> Result<impl Future<Output = ()>, Error> {
    let failed = |error| Error::Io("signals", error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// `preferred` on loopback where it is free, else 0, which takes any.
fn port_or_any(preferred: u16) -> SocketAddr {
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, preferred));
    match TcpListener::bind(wanted) {
        Ok(_) => wanted,
        Err(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    }
}
