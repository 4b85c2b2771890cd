//! The lists of issuers and of revoked tokens for commands: read once, where the config alone does not
//! say what is in them.

use std::sync::Arc;

use super::explain::words::escaped;
use super::issuer_keys::{fetched, is_settled};
use super::say;
use crate::app::compile::{Compiled, Compiler};
use crate::config::Loaded;
use crate::jwt::list::Handle;
use crate::proxy::Policy;
use crate::proxy::inbound::Inbound;

/// Whether there is a list that has not been read: one at a URL, or one that must be signed.
#[must_use]
pub(super) fn is_unread(policy: &Policy) -> bool {
    let federation = policy
        .inbound
        .as_ref()
        .and_then(|side| side.federation.as_ref());
    federation.is_some_and(|federation| federation.epoch == 0)
}

/// The same config with the list read, and with the keys that its signature is by.
pub(super) async fn read(compiler: &mut Compiler, loaded: &Loaded, compiled: Compiled) -> Compiled {
    let Compiled {
        policy,
        keys,
        federation: Some(mut list),
        revocations: compiled_revocations,
        ..
    } = compiled
    else {
        return compiled;
    };
    let mut keys = keys;
    if let Some(Inbound {
        keys: handle,
        home: Some(home),
        federation: Some(federation),
        ..
    }) = &policy.inbound
        && federation.signer.is_some()
    {
        fetched(handle, keys.take(), |keys| {
            keys.issuers.get(*home).is_none_or(is_settled)
        })
        .await;
    }
    list.once().await;
    let (policy, keys) = match compiler.relist(loaded, &policy) {
        Some(relisted) => relisted,
        None => (Arc::clone(&policy), keys),
    };
    Compiled {
        policy,
        keys,
        federation: None,
        token: None,
        certificate: None,
        revocations: compiled_revocations,
    }
}

/// Says what is wrong with the lists, as far as they were to be read; `false` where one could not be.
#[must_use]
pub(super) fn say_trouble(policy: &Policy, is_online: bool) -> bool {
    let Some(inbound) = &policy.inbound else {
        return true;
    };
    let mut troubles = Vec::new();
    if let Some(federation) = &inbound.federation {
        for fault in federation.faults.iter() {
            let fault = fault.to_string();
            say(format_args!(
                "inbound.federation: left out: {}",
                escaped(&fault)
            ));
        }
        let state = federation.list.state();
        if is_online || state.list.is_some() {
            troubles.push(("inbound.federation", state.trouble.clone()));
        }
    }
    if let Some(revocations) = &inbound.revocations {
        let state = revocations.state();
        say_left_out(inbound);
        if is_online || state.list.is_some() {
            troubles.push(("inbound.revocations", state.trouble.clone()));
        }
    }
    let mut is_good = true;
    for (table, trouble) in troubles {
        if let Some(trouble) = trouble {
            say(format_args!("{table}: {}", escaped(&trouble)));
            is_good = false;
        }
    }
    is_good
}

/// Says which entries of the list of revoked tokens are not taken.
pub(super) fn say_left_out(inbound: &Inbound) {
    let state = inbound.revocations.as_ref().map(Handle::state);
    let list = state.as_ref().and_then(|state| state.list.as_ref());
    for fault in list.iter().flat_map(|list| &list.faults) {
        let fault = fault.to_string();
        say(format_args!(
            "inbound.revocations: not taken: {}",
            escaped(&fault)
        ));
    }
}
