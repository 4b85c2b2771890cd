//! `/status.json`, and the page at `/status`: what somebody who looks at a sidecar wants to know
//! first. No secret in it.

use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Map, Value, json};
use url::Url;

use super::Board;
use crate::clock::Boot;
use crate::jwt::keys::Source;
use crate::jwt::list::{self, Place};
use crate::lifecycle::Stage;
use crate::proxy::inbound::Inbound;
use crate::telemetry::counters::Side;
use crate::token::{self, Now, Phase};

impl Board {
    /// All of it, as JSON. Times are seconds.
    #[must_use]
    pub fn status(&self) -> Value {
        let now = self.clock.boot();
        let policy = std::sync::Arc::clone(&self.policies.borrow());
        let state = policy.token().map(token::Handle::state);
        let waits_in_vain = state.is_some_and(|state| matches!(state.phase, Phase::Parked { .. }));
        let ready = self.ready();
        let word = match &ready.body {
            _ if self.stop.stage() > Stage::Serve => "draining",
            body if body["waiting_for"] != json!([]) && !waits_in_vain => "starting",
            _ if !ready.ok => "not ready",
            body if body["degraded"] != json!([]) => "degraded",
            _ => "ready",
        };
        let mut all = Map::new();
        let mut set = |name: &str, value: Value| all.insert(name.to_owned(), value);
        set("state", word.into());
        for list in ["waiting_for", "why", "degraded"] {
            set(list, ready.body[list].clone());
        }
        set("version", super::VERSION.into());
        set("commit", super::COMMIT.into());
        set("uptime_s", now.since(self.since).as_secs().into());
        set("config", self.configured());
        let origin = |place: usize| policy.upstreams.get(place).map(|one| one.origin.clone());
        if let Some(outbound) = &policy.outbound {
            let mut side = self.traffic(Side::Outbound);
            side["upstream"] = origin(outbound.default.upstream).into();
            side["login"] = outbound
                .token
                .as_ref()
                .map(|token| login(token, now))
                .into();
            set("outbound", side);
        }
        if let Some(inbound) = &policy.inbound {
            let mut side = self.traffic(Side::Inbound);
            side["upstream"] = inbound.upstream.and_then(origin).into();
            side["issuers"] = issuers(inbound, now);
            side["federation"] = (inbound.federation.as_ref())
                .map(|federation| document(&federation.list, now))
                .into();
            side["revocations"] = (inbound.revocations.as_ref())
                .map(|list| document(list, now))
                .into();
            set("inbound", side);
        }
        Value::Object(all)
    }

    fn configured(&self) -> Value {
        let config = self.config.borrow();
        json!({
            "age_s": (self.clock.unix() - config.since_unix_s).max(0),
            "reloads": config.taken,
            "refused_reloads": config.refused,
            "last_refused_for": config.problems,
        })
    }

    fn traffic(&self, side: Side) -> Value {
        let sum = |pick: &dyn Fn(&crate::telemetry::counters::SideCounters) -> u64| -> u64 {
            let threads = self.counters.iter();
            threads.map(|thread| pick(thread.of(side))).sum()
        };
        let total = |count: &[std::sync::atomic::AtomicU64]| -> u64 {
            count.iter().map(|count| count.load(Relaxed)).sum()
        };
        json!({
            "connections": sum(&|count| count.connections.load(Relaxed)),
            "requests": sum(&|count| total(&count.requests)),
            "refused": sum(&|count| total(&count.refused)),
            "upstream_failures": sum(&|count| total(&count.upstream_failures)),
        })
    }
}

/// Whose token there is, and what comes next.
fn login(handle: &token::Handle, now: Boot) -> Value {
    let state = handle.state();
    let token = match state.at(now) {
        Now::Ready(token) => Some(token),
        _ => None,
    };
    let word = match &state.phase {
        Phase::Working if token.is_some() => "logged in",
        Phase::Working => "logging in",
        Phase::BackingOff { .. } => "trying again",
        Phase::Parked { .. } => "refused",
    };
    let retry = match &state.phase {
        Phase::BackingOff { retry_at, .. } => Some(retry_at.since(now).as_secs()),
        _ => None,
    };
    json!({
        "user": token.as_ref().map(|token| token.user.clone()),
        "token_expires_in_s": token.as_ref().map(|token| token.expires_at.since(now).as_secs()),
        "tokens_so_far": token.as_ref().map(|token| token.generation),
        "state": word,
        "next_attempt_in_s": retry,
    })
}

/// By their names.
fn issuers(inbound: &Inbound, now: Boot) -> Value {
    let snapshot = inbound.keys.snapshot();
    let settings = inbound.keys.settings().zip(inbound.keys.counters());
    let each = snapshot.issuers.iter().zip(settings);
    let each = each.map(|(keys, (settings, (name, counters)))| {
        let set = keys.set.iter().flat_map(|set| set.keys());
        let status = json!({
            "issuer": settings.issuer,
            "keys_from": source(&settings.source),
            "keys": set.map(|key| key.describe()).collect::<Vec<_>>(),
            "usable": keys.usable(now).is_some(),
            "age_s": counters.age(now).map(|age| age.as_secs()),
            "trouble": keys.trouble,
        });
        (name.to_owned(), status)
    });
    Value::Object(each.collect())
}

fn source(source: &Source) -> String {
    match source {
        Source::Fixed(_) => "given in full".to_owned(),
        Source::PemFile(path) | Source::JwksFile(path) => path.display().to_string(),
        Source::JwksUrl(url) | Source::DiscoveryUrl(url) => bare(url),
    }
}

/// Without what may be secret in it.
fn bare(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

fn document<T>(list: &list::Handle<T>, now: Boot) -> Value {
    let state = list.state();
    let place = match list.place() {
        Place::File(path) => path.display().to_string(),
        Place::Url(url) => bare(url),
    };
    json!({
        "from": place,
        "read": state.list.is_some(),
        "next_attempt_in_s": state.next_attempt_at.since(now).as_secs(),
        "trouble": state.trouble,
    })
}
