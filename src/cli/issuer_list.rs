//! The list of issuers for commands: read once, where the config alone does not say what is in it.

use std::sync::Arc;

use super::issuer_keys::{fetched, is_settled};
use super::say;
use crate::app::compile::{Compiled, Compiler};
use crate::config::Loaded;
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
    }
}

/// Says what is left out of the list; `false` where it could not be read.
#[must_use]
pub(super) fn say_trouble(policy: &Policy) -> bool {
    let federation = policy
        .inbound
        .as_ref()
        .and_then(|side| side.federation.as_ref());
    let Some(federation) = federation else {
        return true;
    };
    for fault in federation.faults.iter() {
        say(format_args!("inbound.federation: left out: {fault}"));
    }
    let state = federation.list.state();
    if let Some(trouble) = &state.trouble {
        say(format_args!("inbound.federation: {trouble}"));
    }
    state.trouble.is_none()
}
