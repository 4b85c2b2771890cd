//! `regent run`: the sidecar in the foreground.

use tokio::signal::unix::{SignalKind, signal};

use super::{ConfigArgs, Exit, say, say_problems};
use crate::app::{self, Deps, Remote, build};
use crate::config::Loaded;
use crate::config::inbound::Inbound;
use crate::config::load::load;
use crate::lifecycle::Stage;
use crate::telemetry;

/// What [`Inbound::believes_anybody`] means.
pub(super) const BELIEVES_ANYBODY: &str = "inbound.proxy_protocol names everybody: whoever reaches \
    inbound.listen may say that it is anybody in X-Forwarded-For and in the log; name the load \
    balancers' own addresses";

/// Runs until it is stopped.
#[must_use]
pub fn run(args: &ConfigArgs) -> Exit {
    let loaded = match args.load() {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let _log = match telemetry::start(&loaded.config.log) {
        Ok(guard) => guard,
        Err(why) => {
            say(why);
            return Exit::Config;
        }
    };
    raise_descriptors();
    let sources = args.sources();
    let deps = Deps {
        reread: Some(Box::new(move || load(&sources))),
        ..Deps::system()
    };
    start(loaded, deps)
}

fn start(loaded: Loaded, deps: Deps) -> Exit {
    let config = loaded.config.clone();
    let bound = match build(loaded, deps) {
        Ok(bound) => bound,
        Err(app::Error::Config(problems)) => return say_problems(&problems),
        Err(error) => {
            say(error);
            return Exit::Failed;
        }
    };
    if let Some(outbound) = &bound.outbound {
        tracing::info!(listen = %outbound, "outbound");
    }
    if let (Some(at), Some(inbound)) = (&bound.inbound, &config.inbound) {
        let at = match inbound.tls {
            None => at.to_string(),
            Some(_) => at.to_string().replacen("http:", "https:", 1),
        };
        tracing::info!(listen = at, "inbound");
    }
    if let Some(forward_auth) = &bound.forward_auth {
        tracing::info!(listen = %forward_auth, "forward_auth");
    }
    if let Some(inbound) = &config.inbound {
        say_what_is_open(inbound);
    }
    if let Some(admin) = &bound.admin {
        tracing::info!(listen = %admin, "admin");
    }
    let signals = heed_signals(bound.remote.clone());
    match bound.run_with(signals) {
        Ok(app::Exit::Stopped) => Exit::Done,
        Ok(app::Exit::LoginRefused) => Exit::Refused,
        Ok(app::Exit::Failed) => Exit::Failed,
        Err(error) => {
            say(error);
            Exit::Failed
        }
    }
}

/// What an operator may not know that the config leaves open.
fn say_what_is_open(inbound: &Inbound) {
    for issuer in inbound
        .issuers
        .iter()
        .filter(|issuer| issuer.audiences.is_empty())
    {
        tracing::warn!(
            issuer = issuer.name,
            "tokens for any audience are taken: set inbound.issuers.{}.audiences if its tokens have \
             an aud",
            issuer.name
        );
    }
    if inbound.believes_anybody() {
        tracing::warn!("{BELIEVES_ANYBODY}");
    }
    if inbound.insecure_shadow_mode {
        tracing::warn!(
            "inbound.insecure_shadow_mode is on: what would be refused is logged, counted and \
             forwarded without an identity"
        );
    }
}

/// SIGTERM and SIGINT drain, a second SIGINT cuts short (a kubelet's SIGTERM may come after a quit and
/// must not); SIGHUP reads the config again.
async fn heed_signals(remote: Remote) {
    let signals = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
        signal(SignalKind::hangup()),
    );
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = signals else {
        tracing::warn!("signals cannot be heeded; `regent quit` still works");
        return;
    };
    let stops = async {
        loop {
            tokio::select! {
                _ = terminate.recv() => remote.stop.advance(Stage::Drain),
                _ = interrupt.recv() => interrupted(&remote),
            }
        }
    };
    // Beside it: a reload that takes long holds up no stop.
    let reloads = async {
        loop {
            hangup.recv().await;
            // What is wrong stands in the log.
            let _ = remote.reread().await;
        }
    };
    tokio::join!(stops, reloads);
}

fn interrupted(remote: &Remote) {
    let next = match remote.stop.stage() {
        Stage::Serve => Stage::Drain,
        _ => Stage::Abort,
    };
    remote.stop.advance(next);
}

/// As many descriptors as we may have. Best effort.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let _ = setrlimit(Resource::Nofile, raised);
}
