//! `regent demo`: the whole circle on loopback: a program, outbound, inbound and an echo workload,
//! with three embedded regions.
//!
//! - [`region`] speaks `region.md` as djangorestframework-simplejwt 5.5.1 does, with real RS256
//!   keys made at run time, and can be told to fail: the tests use it as well.
//! - `tour` walks through what Regent is for and says of each step whether it held.
//! - The sidecar is the real one, built by `app` from a config file as users write it.
//!
//! Nothing outlives the demo: its credential and its config are in a private folder that goes with
//! it.

use std::io::Write;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{self, Exit};
use crate::config::Loaded;

mod call;
mod folder;
mod follow;
mod ports;
pub mod region;
mod regions;
mod say;
mod setup;
mod sidecar;
#[cfg(test)]
mod tests;
mod tour;

use region::{Part, Region, SigningKey};
use regions::Regions;
use say::Say;

/// Short enough to see refreshes go by.
const ACCESS_LIFETIME: Duration = Duration::from_secs(20);

/// A sidecar that runs.
struct Sidecar {
    /// Where outbound listens.
    outbound: SocketAddr,
    /// Where inbound listens.
    inbound: SocketAddr,
    admin: SocketAddr,
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
        let key = SigningKey::generate().map_err(Error::Key)?;
        let region = regions::home_region(key, ACCESS_LIFETIME);
        return region_only(once, &region, &mut say, signals).await;
    }
    let tour = once.then(tour::Pace::default);
    let lifetime = tour.map_or(ACCESS_LIFETIME, |pace| pace.access_lifetime);
    let regions = Regions::new(lifetime).map_err(Error::Key)?;
    whole(tour, &regions, &mut say, sidecar::start, signals).await
}

async fn region_only<W: Write>(
    once: bool,
    region: &Region,
    say: &mut Say<W>,
    signals: impl Future<Output = ()>,
) -> Result<bool, Error> {
    let server = regions::bind(region, Part::Region).map_err(no_socket)?;
    let url = format!("http://{}", server.address());
    follow::introduce(say, region, &url);
    if once {
        return Ok(true);
    }
    let alone = [("region", region)];
    tokio::select! {
        ended = server.run() => Err(Error::Io("the region's socket", never_ok(ended))),
        never = follow::follow(say, &alone) => match never {},
        () = signals => Ok(true),
    }
}

/// All of it: the tour at this pace, or else until a signal comes.
async fn whole<W: Write>(
    tour: Option<tour::Pace>,
    regions: &Regions,
    say: &mut Say<W>,
    start: impl Start,
    signals: impl Future<Output = ()>,
) -> Result<bool, Error> {
    let servers = regions.bind().map_err(no_socket)?;
    let at = servers.at;
    let show = async {
        let folder = folder::Folder::new().map_err(|error| Error::Io("a private folder", error))?;
        let sidecar = setup::start(&regions.home, &at, &folder, say, start).await?;
        let held = if let Some(pace) = tour {
            let tour = tour::Tour::new(regions, &at, &sidecar, pace);
            tokio::select! {
                held = tour.run(say) => held,
                // A tour that was cut short has not held.
                () = signals => false,
            }
        } else {
            setup::introduce(say, &at, &sidecar, &folder);
            let Regions { home, west, east } = regions;
            let all = [("home", home), ("west", west), ("east", east)];
            tokio::select! {
                never = follow::follow(say, &all) => match never {},
                () = signals => true,
            }
        };
        say.line("");
        say.line("Stopping.");
        sidecar.stop.await;
        Ok(held)
    };
    tokio::select! {
        ended = servers.run() => Err(Error::Io("the demo's sockets", never_ok(ended))),
        shown = show => shown,
    }
}

fn no_socket(error: std::io::Error) -> Error {
    Error::Io("a socket on loopback", error)
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
