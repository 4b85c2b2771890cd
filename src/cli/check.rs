//! `regent check`: what a config comes to, and with `--online` whether the world agrees.

use std::io::Write as _;
use std::sync::Arc;

use super::explain::words::escaped;
use super::issuer_keys::{fetched, is_settled};
use super::run::BELIEVES_ANYBODY;
use super::{ConfigArgs, Exit, issuer_list, say, say_problems};
use crate::app::compile::{Compiled, Compiler, home_region, login};
use crate::app::{Deps, local_runtime};
use crate::config::Config;
use crate::config::inbound::Inbound;
use crate::dns::{self, Resolver};
use crate::jwt::keys::{Snapshot, Task};
use crate::net::Net;
use crate::proxy::dial::dial;
use crate::proxy::{Policy, Protocol};
use crate::tls;
use crate::token;
use crate::token::ask::{Verdict, ask};

/// Arguments of `regent check`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Also ask the region whether the refresh token is good, fetch the issuers' keys, and dial the
    /// upstreams and the workload
    #[arg(long)]
    online: bool,
}

/// Prints the effective config with its origins, or every mistake.
#[must_use]
pub fn run(args: &Args) -> Exit {
    let loaded = match args.config.load() {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let deps = Deps::system();
    let (resolver, lookups) = Resolver::new(Arc::clone(&deps.lookup), deps.clock.clone());
    let mut compiler = Compiler::new(deps, resolver.clone());
    let compiled = match compiler.compile(&loaded, None) {
        Ok(compiled) => compiled,
        Err(problems) => return say_problems(&problems),
    };
    if std::io::stdout()
        .write_all(loaded.render().as_bytes())
        .is_err()
    {
        return Exit::Failed;
    }
    let inbound = loaded.config.inbound.as_ref();
    if inbound.is_some_and(Inbound::believes_anybody) {
        say(BELIEVES_ANYBODY);
    }
    if !args.online {
        // What is left out of a list is no mistake in the config.
        let _ = issuer_list::say_trouble(&compiled.policy, false);
        return Exit::Done;
    }
    match local_runtime() {
        Ok(runtime) => runtime.block_on(async {
            tokio::task::spawn_local(lookups);
            let compiled = issuer_list::read(&mut compiler, &loaded, compiled).await;
            let Compiled {
                policy,
                keys,
                revocations,
                ..
            } = compiled;
            if let Some(mut list) = revocations {
                list.once().await;
            }
            let region = ask_region(&compiler.deps, &loaded.config, &policy, resolver).await;
            let list = match issuer_list::say_trouble(&policy, true) {
                true => Exit::Done,
                false => Exit::Unreachable,
            };
            let keys = fetch_keys(&policy, keys).await;
            let upstreams = dial_all(&*compiler.deps.net, &policy).await;
            // A dead login is the worst: a person must act.
            let all = [region, list, keys, upstreams];
            let mut bad = all.into_iter().filter(|exit| *exit != Exit::Done);
            bad.next().unwrap_or(Exit::Done)
        }),
        Err(error) => {
            say(error);
            Exit::Failed
        }
    }
}

/// Asks the region whether what `run` would log in with is good; spends nothing.
async fn ask_region(deps: &Deps, config: &Config, policy: &Policy, resolver: Resolver) -> Exit {
    if policy.token().is_none() {
        return Exit::Done;
    }
    let credential = config.region.credential.clone();
    let region = home_region(config, deps).filter(|_| credential.asks_region());
    let system = tls::System::default();
    let login = match login(config, region.as_ref(), deps, &system, resolver) {
        Ok(login) => login,
        Err(error) => {
            say(error);
            return Exit::Config;
        }
    };
    match (&region, &config.region.proxy) {
        (None, _) => {}
        (Some(region), Some(proxy)) if !region.host_str().is_some_and(dns::is_loopback) => {
            say(format_args!("asking {region} through the proxy {proxy}"));
        }
        (Some(region), _) => say(format_args!("asking {region}")),
    }
    let settings = token::Settings { region, credential };
    let deps = token::Deps::system(login, deps.clock.clone());
    let asked = ask(&settings, &deps).await;
    asked.lines.iter().for_each(say);
    match asked.verdict {
        Verdict::Good => Exit::Done,
        Verdict::Refused => Exit::Refused,
        Verdict::Unreachable => Exit::Unreachable,
    }
}

/// Gets every issuer's keys, and says what they are.
async fn fetch_keys(policy: &Policy, task: Option<Task>) -> Exit {
    let Some(inbound) = &policy.inbound else {
        return Exit::Done;
    };
    let are_there = |keys: &Snapshot| keys.issuers.iter().all(is_settled);
    let keys = fetched(&inbound.keys, task, are_there).await;
    let mut exit = Exit::Done;
    for (issuer, keys) in inbound.issuers.all().iter().zip(&keys.issuers) {
        let name = &issuer.name;
        let Some(set) = &keys.set else {
            let why = keys.trouble.as_deref().unwrap_or("there are none");
            say(format_args!("issuer {name}: no keys: {}", escaped(why)));
            exit = Exit::Unreachable;
            continue;
        };
        for key in set.keys() {
            say(format_args!("issuer {name}: {}", escaped(&key.describe())));
        }
        for why in &set.ignored {
            say(format_args!("issuer {name}: left out: {}", escaped(why)));
        }
        if !set.serves(issuer.algorithms) {
            exit = Exit::Config;
            say(format_args!(
                "issuer {name}: none of its keys is for one of inbound.issuers.{name}.algorithms: \
                 every token of it is refused; {}",
                set.advice()
            ));
        }
        if issuer.audiences.is_empty() {
            say(format_args!(
                "issuer {name}: tokens for any audience are taken: set \
                 inbound.issuers.{name}.audiences if its tokens have an aud"
            ));
        }
    }
    exit
}

async fn dial_all(net: &dyn Net, policy: &Policy) -> Exit {
    let mut exit = Exit::Done;
    let workload = policy.inbound.as_ref().and_then(|inbound| inbound.upstream);
    for (place, upstream) in policy.upstreams.iter().enumerate() {
        let what = match workload == Some(place) {
            true => "workload",
            false => "upstream",
        };
        let origin = &upstream.origin;
        match dial(net, upstream, upstream.protocol).await {
            Ok((_, protocol)) => {
                let what = format!("{what} {origin}: reachable");
                let http2 = match protocol {
                    Protocol::H2 => ", for HTTP/2",
                    _ => "",
                };
                match upstream.via() {
                    Some(via) => say(format_args!(
                        "{what} through the proxy {}{http2}",
                        via.shown
                    )),
                    None => say(format_args!("{what}{http2}")),
                }
            }
            Err(refusal) => {
                say(format_args!("{what} {origin}: {}", refusal.detail));
                exit = Exit::Unreachable;
            }
        }
    }
    exit
}
