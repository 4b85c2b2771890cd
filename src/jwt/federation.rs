//! Issuers that come from a list, beside those of the config.
//!
//! - The config wins: an entry with a name or an issuer that it has is left out, and so is one that
//!   an earlier entry has. Names are compared without case, because what they qualify is.
//! - Nobody of a list is called `home`: its users are told without a name before theirs.
//! - A list from elsewhere does not send us to addresses on this machine or inside a network.
//! - A thousand issuers share one lane of calls.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::Semaphore;
use url::Url;

use super::algorithm::{Algorithm, Algorithms};
use super::key_set::KeySet;
use super::keys::{self, Source};
use super::list::{self, Place};
use crate::config::inbound::federation::{KEY, Listed};
use crate::config::inbound::{Fault, HOME, Issuer, KeySource};
use crate::config::{Proxy, is_loopback};
use crate::fetch;

/// Calls at a time for the keys of all listed issuers.
pub const LANE: usize = 32;

/// A list of issuers, as one policy has it.
#[derive(Clone, Debug)]
pub struct Federation {
    /// The list.
    pub list: list::Handle<Listed>,
    /// The epoch of the list that the policy was made with.
    pub epoch: u64,
    /// The entries of it that are left out.
    pub faults: Arc<[Fault]>,
    /// Whose signature the list must have.
    pub signer: Option<list::Signer>,
    /// Whether its entries may name any address.
    pub insecure_http: bool,
    /// The way to its issuers' keys.
    pub fetch: fetch::Service,
    /// In which they wait for each other.
    pub lane: Arc<Semaphore>,
}

/// How the keys of listed issuers are fetched.
#[must_use]
pub fn fetch_settings(proxy: Option<Proxy>) -> fetch::Settings {
    fetch::Settings {
        concurrency: LANE,
        ..keys::fetch_settings(None, proxy)
    }
}

/// An entry that is taken, and where its keys come from.
pub type Taken = (Issuer, keys::Settings);

impl Federation {
    /// The list's word at this moment, beside the issuers of the config: with the epoch and the
    /// faults of it, and what can be used.
    #[must_use]
    pub fn beside<'a>(&self, config: impl Iterator<Item = &'a Issuer>) -> (Federation, Vec<Taken>) {
        let state = self.list.state();
        let mut seen = Seen::default();
        seen.names.insert(HOME.to_owned());
        for issuer in config {
            seen.names.insert(issuer.name.to_ascii_lowercase());
            seen.issuers.insert(issuer.issuer.clone());
        }
        let (config, mut taken, mut faults) = (seen.clone(), Vec::new(), Vec::new());
        let entries = state.list.iter().flat_map(|list| list.iter().enumerate());
        for (place, entry) in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(fault) => {
                    faults.push(fault.clone());
                    continue;
                }
            };
            match self.judge(entry, &config, &seen) {
                Ok(settings) => {
                    seen.names.insert(entry.name.to_ascii_lowercase());
                    seen.issuers.insert(entry.issuer.clone());
                    taken.push((entry.clone(), settings));
                }
                Err(why) => faults.push(Fault {
                    list: KEY,
                    place,
                    name: Some(entry.name.clone()),
                    why,
                }),
            }
        }
        let federation = Federation {
            epoch: state.epoch,
            faults: faults.into(),
            ..self.clone()
        };
        (federation, taken)
    }

    fn judge(&self, entry: &Issuer, config: &Seen, seen: &Seen) -> Result<keys::Settings, String> {
        let whose = |is_config: bool| match is_config {
            true => "the config's",
            false => "an earlier entry's",
        };
        let name = entry.name.to_ascii_lowercase();
        if name == HOME {
            return Err("name: home is the config's own; write another".to_owned());
        }
        if seen.names.contains(&name) {
            let whose = whose(config.names.contains(&name));
            return Err(format!("name: it is {whose} already; write another"));
        }
        if seen.issuers.contains(&entry.issuer) {
            let whose = whose(config.issuers.contains(&entry.issuer));
            return Err(format!("issuer: it is {whose} already; remove one of them"));
        }
        let named = entry.algorithms.iter();
        let algorithms: Algorithms = named.filter_map(|name| Algorithm::named(name)).collect();
        let fixed = |key: &str, set: Result<KeySet, _>| match set {
            Ok(set) if !set.serves(algorithms) => {
                let what = "algorithms: none of the issuer's keys is for one of these";
                Err(format!("{what}; {}", set.advice()))
            }
            Ok(set) => Ok(Source::Fixed(Arc::new(set))),
            Err(keys::KeyError(why)) => Err(format!("{key}: {why}")),
        };
        let (source, public_only) = match &entry.keys {
            KeySource::PublicKey(pem) => (
                fixed("public_key", KeySet::from_pem(pem.as_bytes()))?,
                false,
            ),
            KeySource::Jwks(json) => (fixed("jwks", KeySet::from_jwks(json.as_bytes()))?, false),
            KeySource::JwksUrl(url) => {
                (Source::JwksUrl(url.clone()), self.is_led("jwks_url", url)?)
            }
            KeySource::DiscoveryUrl(url) => (
                Source::DiscoveryUrl(url.clone()),
                self.is_led("discovery_url", url)?,
            ),
            KeySource::PublicKeyFile(_) | KeySource::JwksFile(_) => {
                return Err("a list names no file".to_owned());
            }
        };
        let is_remote = matches!(source, Source::JwksUrl(_) | Source::DiscoveryUrl(_));
        Ok(keys::Settings {
            name: entry.name.clone(),
            issuer: entry.issuer.clone(),
            source,
            refresh: entry.jwks_refresh,
            cooldown: entry.jwks_cooldown,
            max_stale: entry.jwks_max_stale,
            insecure_http: entry.insecure_http,
            fetch: is_remote.then(|| self.fetch.clone()),
            public_only,
            lane: is_remote.then(|| Arc::clone(&self.lane)),
        })
    }

    /// Whether the list leads us to another host than its own, where only a public address will do.
    fn is_led(&self, key: &str, url: &Url) -> Result<bool, String> {
        let Place::Url(from) = self.list.place() else {
            return Ok(false);
        };
        if is_loopback(url) && !is_loopback(from) {
            return Err(format!(
                "{key}: is on this machine, and the list comes from elsewhere; write the issuer into \
                 the config if that is meant"
            ));
        }
        Ok(from.host() != url.host() && !is_loopback(url) && !self.insecure_http)
    }
}

/// What is taken already.
#[derive(Clone, Default)]
struct Seen {
    /// In lower case.
    names: HashSet<String>,
    issuers: HashSet<String>,
}
