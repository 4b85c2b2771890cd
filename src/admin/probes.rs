//! What the probes say, decided from the [`Board`] alone.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::{Value, json};

use super::Board;
use crate::clock::Boot;
use crate::jwt::list;
use crate::jwt::revoked::Revoked;
use crate::lifecycle::Stage;
use crate::proxy::inbound::Inbound;
use crate::proxy::outbound::Outbound;
use crate::tls;
use crate::token::{self, Now};

/// A data thread sweeps four times a second; one that has not for so long is stuck.
const STUCK: Duration = Duration::from_secs(10);

/// An answer to a probe.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// 200, else 503.
    pub ok: bool,
    /// Why, as JSON; no secret in it.
    pub body: Value,
}

/// The most lines of one kind: thousands of issuers may be in trouble together.
const MOST_LINES: usize = 32;

fn first(mut lines: Vec<String>, what: &str) -> Vec<String> {
    let more = lines.len().saturating_sub(MOST_LINES);
    if more > 0 {
        lines.truncate(MOST_LINES);
        lines.push(format!("and {more} more {what}"));
    }
    lines
}

/// What is wrong with the list of issuers.
fn federation(inbound: &Inbound) -> Vec<String> {
    let Some(federation) = &inbound.federation else {
        return Vec::new();
    };
    let state = federation.list.state();
    let rest = match state.list {
        Some(_) => "the last good list stays in use",
        None => "there is no list until then",
    };
    let trouble =
        (state.trouble.as_ref()).map(|trouble| format!("inbound.federation: {trouble}; {rest}"));
    let faults = (federation.faults.iter())
        .map(|fault| format!("inbound.federation: left out: {fault}"))
        .collect();
    let mut lines = first(faults, "entries");
    lines.splice(0..0, trouble);
    lines
}

/// What is wrong with the list of revoked tokens: each is a hole, or every token without it.
fn revocations(inbound: &Inbound, state: &list::State<Revoked>) -> Vec<String> {
    let rest = match state.list {
        Some(_) => "the last good list stays in use",
        None => "no token is taken until then",
    };
    let trouble =
        (state.trouble.as_ref()).map(|trouble| format!("inbound.revocations: {trouble}; {rest}"));
    let mut lines: Vec<String> = trouble.into_iter().collect();
    let Some(revoked) = &state.list else {
        return lines;
    };
    let faults = (revoked.faults.iter())
        .map(|fault| format!("inbound.revocations: not taken: {fault}"))
        .collect();
    lines.extend(first(faults, "entries"));
    let unknown = inbound.revoked_of_nobody(revoked).into_iter();
    let unknown = unknown.map(|name| format!("inbound.revocations: no issuer is called {name:?}"));
    lines.extend(first(unknown.collect(), "names"));
    lines
}

impl Board {
    /// The problems may quote the config, which is not for everybody who may probe.
    fn refused_reload(&self) -> Option<String> {
        let is_refused = !self.config.borrow().problems.is_empty();
        is_refused.then(|| {
            "the last reload was refused and the config before it stays: see the log or /status"
                .to_owned()
        })
    }

    /// `/livez`: every data thread has swept lately.
    #[must_use]
    pub fn live(&self) -> Verdict {
        let now = self.clock.boot();
        let is_stuck = |beat: u64| {
            let last = match beat {
                0 => self.since,
                beat => Boot::from_nanos(beat),
            };
            now.since(last) > STUCK
        };
        let beats = self
            .counters
            .iter()
            .map(|counters| counters.heartbeat.load(Relaxed));
        let stuck = beats.filter(|beat| is_stuck(*beat)).count();
        Verdict {
            ok: stuck == 0,
            body: json!({ "alive": stuck == 0, "stuck_data_threads": stuck }),
        }
    }

    /// `/startupz`: every latch is open.
    #[must_use]
    pub fn started(&self) -> Verdict {
        let missing = self.latches.shut();
        Verdict {
            ok: missing.is_empty(),
            body: json!({ "started": missing.is_empty(), "waiting_for": missing }),
        }
    }

    /// `/readyz`: started, not draining, and some request may succeed. What is wrong beside that is
    /// `degraded`.
    #[must_use]
    pub fn ready(&self) -> Verdict {
        let missing = self.latches.shut();
        let mut why: Vec<String> = Vec::new();
        let mut degraded: Vec<String> = Vec::new();
        if self.stop.stage() > Stage::Serve {
            why.push("draining".to_owned());
        }
        degraded.extend(self.refused_reload());
        let policy = std::sync::Arc::clone(&self.policies.borrow());
        if let Some(state) = policy.token().map(token::Handle::state) {
            let without = match state.at(self.clock.boot()) {
                Now::Ready(_) => None,
                _ if state.is_failing() => Some(state.why()),
                _ => Some("no valid access token yet".to_owned()),
            };
            degraded.extend(state.degraded_beside(without.as_deref()).cloned());
            let serves_without = policy.inbound.is_some()
                || (policy.outbound.as_ref()).is_some_and(Outbound::serves_without_token);
            let list = match serves_without {
                true => &mut degraded,
                false => &mut why,
            };
            list.extend(without);
        }
        if let Some(inbound) = &policy.inbound {
            if inbound.shadow {
                degraded.push("inbound.insecure_shadow_mode is on: nobody is refused".to_owned());
            }
            degraded.extend(inbound.tls.as_ref().and_then(tls::server::Handle::trouble));
            degraded.extend(federation(inbound));
            if let Some(list) = &inbound.revocations {
                let lines = revocations(inbound, &list.state());
                let is_read = list.state().list.is_some();
                if is_read { &mut degraded } else { &mut why }.extend(lines);
            }
            let snapshot = inbound.keys.snapshot();
            let mut lines = Vec::new();
            for (at, (keys, issuer)) in snapshot
                .issuers
                .iter()
                .zip(inbound.issuers.all())
                .enumerate()
            {
                let trouble = keys.trouble.as_deref();
                let line = |what: &str| match trouble {
                    Some(trouble) => format!("issuer {}: {what}: {trouble}", issuer.name),
                    None => format!("issuer {}: {what}", issuer.name),
                };
                match keys.usable(self.clock.boot()) {
                    Some(_) => lines.extend(trouble.map(|_| line("its keys may be old"))),
                    None if inbound.home == Some(at) => why.push(line("no usable keys")),
                    None => lines.push(line("no usable keys")),
                }
            }
            degraded.extend(first(lines, "issuers"));
        }
        let ready = missing.is_empty() && why.is_empty();
        Verdict {
            ok: ready,
            body: json!({
                "ready": ready, "waiting_for": missing, "why": why, "degraded": degraded,
            }),
        }
    }
}
