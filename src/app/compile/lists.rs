//! What the lists of `[inbound]` come to: more issuers, and tokens that are taken back.
//!
//! - A list that is read already goes on where nothing about it has changed.
//! - The list of issuers changes without a reload: then all but the issuers, how they are told and
//!   their keys is the running policy's own, so that nothing can go wrong.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::Compiler;
use super::inbound::{identities, issuer};
use crate::config::inbound::federation::{self, Listed};
use crate::config::inbound::{
    Federation as FederationSide, Inbound as Side, Issuer as Entry, List, ListAt,
};
use crate::config::{Loaded, Problem};
use crate::fetch;
use crate::jwt::federation::{self as issuers_of_lists, Federation};
use crate::jwt::issuers::Issuers;
use crate::jwt::keys::{self, Handle, Settings, Task};
use crate::jwt::list;
use crate::jwt::revoked::Revoked;
use crate::proxy::Policy;
use crate::proxy::identity::Identity;
use crate::proxy::inbound::Inbound;

/// Whose tokens are taken, and how: what a list of issuers has a say in.
pub(super) struct Callers {
    pub(super) issuers: Arc<Issuers>,
    pub(super) identities: Arc<[Identity]>,
    pub(super) keys: Handle,
    pub(super) task: Option<Task>,
    pub(super) federation: Option<Federation>,
}

impl Compiler {
    /// The list of issuers: the one that is read already, where nothing about it has changed.
    pub(super) fn federation(
        &mut self,
        loaded: &Loaded,
        side: &FederationSide,
        before: Option<(&Loaded, &Policy)>,
        problems: &mut Vec<Problem>,
    ) -> Option<(Federation, Option<list::Task<Listed>>)> {
        let old_side = before.and_then(|(old, _)| old.config.inbound.as_ref());
        let old_side = old_side.and_then(|old| old.federation.as_ref());
        let old = before.and_then(|(_, policy)| policy.inbound.as_ref());
        let old = old.and_then(|old| old.federation.as_ref());
        if let (Some(old), true) = (old, old_side == Some(side)) {
            return Some((old.clone(), None));
        }
        // What was taken without a signature is not what is asked for now.
        let known = old.filter(|_| old_side.is_some_and(|old| old.signed || !side.signed));
        let signer = side.signed.then(list::Signer::default);
        let made = self
            .list(
                "inbound.federation",
                "inbound.federation.ca_file",
                &side.list,
                signer.clone(),
            )
            .and_then(|(settings, deps)| {
                let known = known.map(|old| &old.list);
                list::new(settings, federation::read, deps, known)
                    .map_err(|why| (side.list.at.key(), why))
            });
        let told = |(key, why): (&str, String)| {
            loaded.problem_at(&format!("inbound.federation.{key}"), &why)
        };
        let fetch = match &self.deps.fetch {
            Some(service) => Ok(service.clone()),
            None => {
                let (resolver, clock) = (self.resolver.clone(), self.deps.clock.clone());
                let settings = issuers_of_lists::fetch_settings(side.list.proxy.clone());
                let service = fetch::service(&settings, &self.system, resolver, clock);
                service.map_err(|why| ("url", why.to_string()))
            }
        };
        let fetch = fetch.map_err(|why| problems.push(told(why)));
        let (list, task) = made.map_err(|why| problems.push(told(why))).ok()?;
        let federation = Federation {
            list,
            epoch: 0,
            faults: Arc::new([]),
            signer,
            insecure_http: side.list.insecure_http,
            fetch: fetch.ok()?,
            lane: Arc::new(Semaphore::new(issuers_of_lists::LANE)),
        };
        Some((federation, Some(task)))
    }

    /// The list of revoked tokens: the one that is read already, where nothing about it has changed.
    /// One from elsewhere takes its place when it has been read.
    pub(super) fn revocations(
        &mut self,
        loaded: &Loaded,
        side: &List,
        before: Option<(&Loaded, &Policy)>,
        problems: &mut Vec<Problem>,
    ) -> Option<(list::Handle<Revoked>, Option<list::Task<Revoked>>)> {
        const TABLE: &str = "inbound.revocations";
        let old_side = before.and_then(|(old, _)| old.config.inbound.as_ref());
        let old_side = old_side.and_then(|old| old.revocations.as_ref());
        let old = before.and_then(|(_, policy)| policy.revocations());
        if let (Some(old), true) = (old, old_side == Some(side)) {
            return Some((old.clone(), None));
        }
        let made = self.list(TABLE, "inbound.revocations.ca_file", side, None);
        let made = made.and_then(|(settings, deps)| {
            list::new(settings, Revoked::read, deps, old).map_err(|why| (side.at.key(), why))
        });
        let (handle, task) = made
            .map_err(|(key, why)| problems.push(loaded.problem_at(&format!("{TABLE}.{key}"), &why)))
            .ok()?;
        Some((handle, Some(task)))
    }

    /// How a list of this table is read, or the key that is wrong and why.
    fn list(
        &mut self,
        table: &'static str,
        ca_setting: &'static str,
        side: &List,
        signer: Option<list::Signer>,
    ) -> Result<(list::Settings, list::Deps), (&'static str, String)> {
        let (place, fetch) = match &side.at {
            ListAt::File(path) => (list::Place::File(path.clone()), None),
            ListAt::Url(url) => {
                let fetch = match &self.deps.fetch {
                    Some(service) => service.clone(),
                    None => {
                        let settings = list::fetch_settings(side, ca_setting);
                        let (resolver, clock) = (self.resolver.clone(), self.deps.clock.clone());
                        fetch::service(&settings, &self.system, resolver, clock)
                            .map_err(|why| ("ca_file", why.to_string()))?
                    }
                };
                (list::Place::Url(url.clone()), Some(fetch))
            }
        };
        let settings = list::Settings {
            table,
            place,
            refresh: side.refresh,
            fetch,
            signer,
        };
        let deps = list::Deps {
            clock: self.deps.clock.clone(),
            files: Arc::clone(&self.deps.files),
            dice: self.deps.dice.fork(),
        };
        Ok((settings, deps))
    }

    /// The issuers of the config and of the list, with a key plane for both.
    pub(super) fn callers(
        &mut self,
        side: &Side,
        mut settings: Vec<Settings>,
        federation: Option<&Federation>,
        running: Option<&Handle>,
    ) -> Option<Callers> {
        let (federation, taken) = federation
            .map(|federation| federation.beside(side.issuers.iter()))
            .unzip();
        let (listed, of_listed): (Vec<Entry>, Vec<Settings>) =
            taken.unwrap_or_default().into_iter().unzip();
        settings.extend(of_listed);
        let deps = keys::Deps {
            clock: self.deps.clock.clone(),
            files: Arc::clone(&self.deps.files),
            dice: self.deps.dice.fork(),
        };
        let (keys, task) = keys::new(settings, deps, running);
        let callers = callers(side, keys, listed, federation)?;
        Some(Callers {
            task: Some(task),
            ..callers
        })
    }

    /// The inbound side with what its list of issuers says now; nothing else of it changes, and
    /// nothing can go wrong. `None` where it has no list.
    pub(super) fn inbound_relisted(
        &mut self,
        side: &Side,
        old: &Inbound,
    ) -> Option<(Inbound, Option<Task>)> {
        let federation = old.federation.as_ref()?;
        let settings = config_settings(side, &old.keys);
        let callers = self.callers(side, settings, Some(federation), Some(&old.keys))?;
        let inbound = Inbound {
            issuers: callers.issuers,
            identities: callers.identities,
            keys: callers.keys,
            federation: callers.federation,
            ..old.clone()
        };
        Some((inbound, callers.task))
    }
}

/// What a running key plane has of the config's issuers.
pub(super) fn config_settings(side: &Side, keys: &Handle) -> Vec<Settings> {
    keys.settings().take(side.issuers.len()).cloned().collect()
}

/// Whether the key plane has no issuers of a list, which may be gone by now.
pub(super) fn has_no_more(side: &Side, keys: &Handle) -> bool {
    keys.settings().count() == side.issuers.len()
}

/// With a key plane that is there already.
pub(super) fn callers(
    side: &Side,
    keys: Handle,
    listed: Vec<Entry>,
    federation: Option<Federation>,
) -> Option<Callers> {
    let entries = || side.issuers.iter().chain(&listed);
    Some(Callers {
        issuers: Arc::new(Issuers::new(entries().map(issuer).collect())),
        identities: identities(side, entries)?,
        keys,
        task: None,
        federation,
    })
}
