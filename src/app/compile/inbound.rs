//! What `[inbound]` comes to: the workload, the issuers with their keys, rules and identity headers.

use std::path::Path;
use std::sync::Arc;

use super::lists::{callers, config_settings, has_no_more};
use super::{Compiler, Table, Trust, hidden, methods, unmatchable, unusable};
use crate::config::inbound::federation::Listed;
use crate::config::inbound::{
    HOME, Inbound as Side, InboundAuthorization, Issuer as Entry, KeySource, Rule as RuleEntry,
    StreamLifetime, Tls, Upstream,
};
use crate::config::{Loaded, Problem};
use crate::fetch;
use crate::files::{self, Layer};
use crate::jwt::algorithm::Algorithm;
use crate::jwt::issuers::{Issuer, Requirement};
use crate::jwt::key_set::KeySet;
use crate::jwt::keys::{self, Handle, Settings, Source, Task};
use crate::jwt::list;
use crate::jwt::revoked::Revoked;
use crate::proxy::Policy;
use crate::proxy::identity::{Identity, Names, Qualifiers};
use crate::proxy::inbound::{Inbound, Rule};
use crate::proxy::paths::{self, Paths};
use crate::tls::server::{self, Follower};

/// What runs beside an inbound side.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    /// A new key plane, where this policy does not go on with the one before.
    pub keys: Option<Task>,
    /// Follows the files of `inbound.tls`, as long as the policy is in use.
    pub certificate: Option<Follower>,
    /// Reads the list of issuers again, as long as a policy uses it.
    pub federation: Option<list::Task<Listed>>,
    /// The same for revoked tokens.
    pub revocations: Option<list::Task<Revoked>>,
}

/// The keys of the config's own issuers.
enum Own {
    /// Nothing has changed in them.
    Same(Handle),
    New(Vec<Settings>),
}

impl Compiler {
    pub(super) fn inbound(
        &mut self,
        loaded: &Loaded,
        side: &Side,
        before: Option<(&Loaded, &Policy)>,
        table: &mut Table<'_>,
        problems: &mut Vec<Problem>,
    ) -> Option<(Inbound, Tasks)> {
        let tls = side.tls.as_ref().map(|tls| self.tls(loaded, tls));
        let tls = tls.transpose().map_err(|wrong| problems.extend(wrong));
        let url = side.upstream.iter().filter_map(|upstream| match upstream {
            Upstream::Url(url) => Some(url),
            Upstream::Unix(_) => None,
        });
        let roots = match self.roots(side.ca_file.as_deref(), url) {
            Ok(roots) => roots,
            Err(error) => {
                problems.push(loaded.problem_at("inbound.ca_file", &error.to_string()));
                None
            }
        };
        let trust = Trust {
            roots: roots.as_ref(),
            setting: "inbound.ca_file",
            proxy: None,
        };
        let upstream = side.upstream.as_ref().map(|upstream| match upstream {
            Upstream::Url(url) => {
                let upstream = table.at_url(url, side.upstream_protocol, &trust);
                problems.extend(unusable(loaded, "inbound.upstream", &upstream));
                upstream.ok()
            }
            Upstream::Unix(path) => Some(table.at_socket(path, side.upstream_protocol)),
        });
        problems.extend(claim_names(loaded, side));
        for (at, rule) in side.rules.iter().enumerate() {
            let key = format!("inbound.rules[{at}].path");
            problems.extend(unmatchable(loaded, &key, &rule.path));
        }
        let rules: Vec<_> = side.rules.iter().enumerate().map(rule).collect();
        problems.extend(hidden(loaded, "inbound.rules", &rules));
        let federation = match &side.federation {
            Some(federation) => self
                .federation(loaded, federation, before, problems)
                .map(Some),
            None => Some(None),
        };
        let revocations = match &side.revocations {
            Some(list) => self.revocations(loaded, list, before, problems).map(Some),
            None => Some(None),
        };
        let own = self.keys(loaded, side, before, problems);
        let (federation, list) = federation?.unzip();
        let (revocations, revocations_task) = revocations?.unzip();
        let running = before.and_then(|(_, policy)| policy.keys());
        let callers = match own? {
            Own::Same(keys) if federation.is_none() && has_no_more(side, &keys) => {
                callers(side, keys, Vec::new(), None)?
            }
            Own::Same(keys) => {
                let settings = config_settings(side, &keys);
                self.callers(side, settings, federation.as_ref(), running)?
            }
            Own::New(settings) => self.callers(side, settings, federation.as_ref(), running)?,
        };
        let (tls, follower) = tls.ok()?.unzip();
        let inbound = Inbound {
            upstream: match upstream {
                Some(upstream) => Some(table.place(upstream?)),
                None => None,
            },
            announcers: side.proxy_protocol.clone().into(),
            tls,
            issuers: callers.issuers,
            names: names(side),
            identities: callers.identities,
            keys: callers.keys,
            federation: callers.federation,
            revocations,
            home: side.issuers.iter().position(|issuer| issuer.name == HOME),
            rules: Paths::new(rules),
            hop: self.hops[1].clone(),
            forward_authorization: side.authorization == InboundAuthorization::Forward,
            reveal_reasons: side.reveal_reasons,
            shadow: side.insecure_shadow_mode,
            ends_with_token: side.stream_lifetime == StreamLifetime::Token,
        };
        let tasks = Tasks {
            keys: callers.task,
            certificate: follower,
            federation: list.flatten(),
            revocations: revocations_task.flatten(),
        };
        Some((inbound, tasks))
    }

    fn tls(&self, loaded: &Loaded, tls: &Tls) -> Result<(server::Handle, Follower), Vec<Problem>> {
        let paths = server::Paths {
            cert: tls.cert_file.clone(),
            key: tls.key_file.clone(),
            client_ca: tls.client_ca_file.clone(),
        };
        let problem = |error: server::Error| {
            let key = format!("inbound.tls.{}", error.setting);
            loaded.problem_at(&key, &error.to_string())
        };
        server::load(Arc::clone(&self.deps.files), paths)
            .map_err(|errors| errors.into_iter().map(problem).collect())
    }

    /// What the keys of the config's issuers come from. Key files may have changed, and a reload does
    /// not wait for the next look at them: they are read with it.
    fn keys(
        &mut self,
        loaded: &Loaded,
        side: &Side,
        before: Option<(&Loaded, &Policy)>,
        problems: &mut Vec<Problem>,
    ) -> Option<Own> {
        let running = before.and_then(|(_, policy)| policy.keys());
        let old = before.and_then(|(old, _)| old.config.inbound.as_ref());
        if let (Some(running), Some(old)) = (running, old)
            && old.issuers.len() == side.issuers.len()
            && (old.issuers.iter().zip(&side.issuers)).all(|(old, new)| same_keys(old, new))
            && !side.issuers.iter().any(has_file)
        {
            return Some(Own::Same(running.clone()));
        }
        let is_old = |entry: &Entry| {
            old.is_some_and(|old| old.issuers.iter().any(|old| same_keys(old, entry)))
        };
        let mut settings = Vec::new();
        for entry in &side.issuers {
            match self.settings(loaded, entry, is_old(entry)) {
                Ok(one) => settings.push(one),
                Err(problem) => problems.push(problem),
            }
        }
        (settings.len() == side.issuers.len()).then_some(Own::New(settings))
    }

    /// What is not there at the start is a mistake; what breaks later (`is_old`) is not.
    fn settings(&self, loaded: &Loaded, entry: &Entry, is_old: bool) -> Result<Settings, Problem> {
        let key = |name: &str| format!("inbound.issuers.{}.{name}", entry.name);
        let files = &*self.deps.files;
        let algorithms = issuer(entry).algorithms;
        let is_of_use = |set: &KeySet| match set.serves(algorithms) {
            true => Ok(()),
            false => {
                let text = format!(
                    "none of the issuer's keys is for {}, so that every token of it would be \
                     refused; {}",
                    entry.algorithms.join(" or "),
                    set.advice()
                );
                Err(loaded.problem_at(&key("algorithms"), &text))
            }
        };
        let (source, is_remote) = match &entry.keys {
            KeySource::PublicKey(pem) => {
                let set = KeySet::from_pem(pem.as_bytes());
                let set = set.map_err(|why| loaded.problem_at(&key("public_key"), &why.0))?;
                is_of_use(&set)?;
                (Source::Fixed(Arc::new(set)), false)
            }
            KeySource::PublicKeyFile(path) => {
                if !is_old {
                    let set = readable(files, path, KeySet::from_pem)
                        .map_err(|why| loaded.problem_at(&key("public_key_file"), &why))?;
                    is_of_use(&set)?;
                }
                (Source::PemFile(path.clone()), false)
            }
            KeySource::JwksFile(path) => {
                if !is_old {
                    let set = readable(files, path, KeySet::from_jwks)
                        .map_err(|why| loaded.problem_at(&key("jwks_file"), &why))?;
                    is_of_use(&set)?;
                }
                (Source::JwksFile(path.clone()), false)
            }
            KeySource::Jwks(json) => {
                let set = KeySet::from_jwks(json.as_bytes());
                let set = set.map_err(|why| loaded.problem_at(&key("jwks"), &why.0))?;
                (Source::Fixed(Arc::new(set)), false)
            }
            KeySource::JwksUrl(url) => (Source::JwksUrl(url.clone()), true),
            KeySource::DiscoveryUrl(url) => (Source::DiscoveryUrl(url.clone()), true),
        };
        let fetch = match (is_remote, &self.deps.fetch) {
            (false, _) => None,
            (true, Some(service)) => Some(service.clone()),
            (true, None) => {
                let settings = keys::fetch_settings(entry.ca_file.clone(), entry.proxy.clone());
                let resolver = self.resolver.clone();
                let service =
                    fetch::service(&settings, &self.system, resolver, self.deps.clock.clone());
                Some(service.map_err(|why| loaded.problem_at(&key("ca_file"), &why.to_string()))?)
            }
        };
        Ok(Settings {
            name: entry.name.clone(),
            issuer: entry.issuer.clone(),
            source,
            refresh: entry.jwks_refresh,
            cooldown: entry.jwks_cooldown,
            max_stale: entry.jwks_max_stale,
            insecure_http: entry.insecure_http,
            fetch,
            public_only: false,
            lane: None,
        })
    }
}

fn has_file(entry: &Entry) -> bool {
    matches!(
        entry.keys,
        KeySource::PublicKeyFile(_) | KeySource::JwksFile(_)
    )
}

/// Whether one key plane serves for both.
fn same_keys(old: &Entry, new: &Entry) -> bool {
    let of = |entry: &Entry| {
        (
            entry.name.clone(),
            entry.issuer.clone(),
            entry.keys.clone(),
            (entry.ca_file.clone(), entry.proxy.clone()),
            entry.insecure_http,
            (
                entry.jwks_refresh,
                entry.jwks_cooldown,
                entry.jwks_max_stale,
            ),
        )
    };
    of(old) == of(new)
}

fn readable<E>(
    files: &dyn Layer,
    path: &Path,
    parse: impl FnOnce(&[u8]) -> Result<KeySet, E>,
) -> Result<KeySet, String>
where
    E: std::fmt::Display,
{
    let bytes = files::read(files, path).map_err(|error| error.to_string())?;
    parse(&bytes).map_err(|why| format!("\"{}\": {why}", path.display()))
}

/// An issuer as tokens are judged by it.
pub(super) fn issuer(entry: &Entry) -> Issuer {
    let algorithms = entry
        .algorithms
        .iter()
        .filter_map(|name| Algorithm::named(name));
    Issuer {
        name: entry.name.clone(),
        issuer: entry.issuer.clone(),
        algorithms: algorithms.collect(),
        audiences: entry.audiences.clone(),
        token_types: entry.token_types.clone(),
        leeway: entry.leeway,
        max_lifetime: entry.max_lifetime,
        required_claims: requirements(&entry.required_claims),
    }
}

/// Every claim's name that is no name.
fn claim_names<'a>(loaded: &'a Loaded, side: &'a Side) -> impl Iterator<Item = Problem> + 'a {
    let rules = (side.rules.iter().enumerate())
        .map(|(at, rule)| (format!("inbound.rules[{at}].claims"), &rule.claims));
    let issuers = side.issuers.iter().map(|issuer| {
        let key = format!("inbound.issuers.{}.required_claims", issuer.name);
        (key, &issuer.required_claims)
    });
    rules.chain(issuers).flat_map(move |(key, claims)| {
        let names = claims.iter();
        let wrong = names.filter_map(|(name, _)| Some((name, Requirement::trouble(name)?)));
        wrong
            .map(|(name, why)| loaded.problem_at(&key, &format!("{name:?}: {why}")))
            .collect::<Vec<_>>()
    })
}

fn requirements(claims: &[(String, Vec<serde_json::Value>)]) -> Vec<Requirement> {
    let each = claims.iter();
    each.map(|(name, accepted)| Requirement::new(name.clone(), accepted.clone()))
        .collect()
}

fn rule((place, entry): (usize, &RuleEntry)) -> paths::Entry<Rule> {
    paths::Entry {
        path: entry.path.clone(),
        exact: entry.exact,
        methods: methods(&entry.methods),
        value: Rule {
            place,
            anonymous: entry.anonymous,
            claims: requirements(&entry.claims),
        },
    }
}

/// What no caller may send: the identity headers of all issuers.
fn names(side: &Side) -> Names {
    let own = side
        .issuers
        .iter()
        .flat_map(|issuer| &issuer.identity_headers);
    let all =
        (own.flatten().chain(&side.identity_headers)).filter_map(|entry| entry.header.parse().ok());
    Names::new(all)
}

/// How the claims of these become headers.
pub(super) fn identities<'a, I>(side: &Side, entries: impl Fn() -> I) -> Option<Arc<[Identity]>>
where
    I: Iterator<Item = &'a Entry>,
{
    let names = match side.federation {
        Some(_) => Qualifiers::Any,
        None => Qualifiers::known(entries().map(|issuer| &*issuer.name)),
    };
    let one = |issuer: &Entry| {
        let own = issuer.identity_headers.as_ref();
        let map = own.unwrap_or(&side.identity_headers).iter();
        let map = map.filter_map(|entry| Some((entry.header.parse().ok()?, entry.claim.clone())));
        let is_qualified = issuer.name != HOME && !issuer.allow_unqualified_identity;
        Identity::new(&issuer.name, is_qualified, names.clone(), map.collect())
    };
    entries().map(one).collect()
}
