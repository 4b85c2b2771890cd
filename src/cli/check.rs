//! `regent check`: what a config comes to, and with `--online` whether the world agrees.

use std::io::Write as _;
use std::sync::Arc;

use super::{ConfigArgs, Exit, say, say_problems};
use crate::app::compile::{Compiled, Compiler, home_region, region_client};
use crate::app::{Deps, local_runtime};
use crate::config::Config;
use crate::dns::Resolver;
use crate::net::Net;
use crate::proxy::Policy;
use crate::proxy::dial::dial;
use crate::token;
use crate::token::ask::{Verdict, ask};

/// Arguments of `regent check`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Also ask the region whether the refresh token is good, and dial the upstreams
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
    let Compiled { policy, .. } = match compiler.compile(&loaded, None) {
        Ok(compiled) => compiled,
        Err(problems) => return say_problems(&problems),
    };
    if std::io::stdout()
        .write_all(loaded.render().as_bytes())
        .is_err()
    {
        return Exit::Failed;
    }
    if !args.online {
        return Exit::Done;
    }
    match local_runtime() {
        Ok(runtime) => runtime.block_on(async {
            tokio::task::spawn_local(lookups);
            let region = ask_region(&compiler.deps, &loaded.config, &policy, resolver).await;
            let upstreams = dial_all(&*compiler.deps.net, &policy).await;
            // A dead login is the worst: a person must act.
            if region == Exit::Done {
                upstreams
            } else {
                region
            }
        }),
        Err(error) => {
            say(error);
            Exit::Failed
        }
    }
}

/// Asks the region whether what `run` would log in with is good; spends nothing.
async fn ask_region(deps: &Deps, config: &Config, policy: &Policy, resolver: Resolver) -> Exit {
    let (Some(_), Some(region)) = (policy.token(), home_region(config, deps)) else {
        return Exit::Done;
    };
    let client = match region_client(config, &region, deps, resolver) {
        Ok(client) => client,
        Err(error) => {
            say(error);
            return Exit::Config;
        }
    };
    say(format_args!("asking {region}"));
    let settings = token::Settings {
        region,
        credential: config.region.credential.clone(),
    };
    let deps = token::Deps::system(Arc::new(client), deps.clock.clone());
    let asked = ask(&settings, &deps).await;
    asked.lines.iter().for_each(say);
    match asked.verdict {
        Verdict::Good => Exit::Done,
        Verdict::Refused => Exit::Refused,
        Verdict::Unreachable => Exit::Unreachable,
    }
}

async fn dial_all(net: &dyn Net, policy: &Policy) -> Exit {
    let mut exit = Exit::Done;
    for upstream in &policy.upstreams {
        match dial(net, upstream).await {
            Ok(_) => say(format_args!("upstream {}: reachable", upstream.origin)),
            Err(refusal) => {
                say(format_args!(
                    "upstream {}: {}",
                    upstream.origin, refusal.detail
                ));
                exit = Exit::Unreachable;
            }
        }
    }
    exit
}
