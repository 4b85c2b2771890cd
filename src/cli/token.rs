//! `regent token`: prints a valid access token, for scripts.
//!
//! It gets one as a sidecar does, by one attempt of the same task, under the same lock: neither
//! spends the other's refresh token.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;
use zeroize::Zeroizing;

use super::login::Failure;
use super::{ConfigArgs, Exit, say};
use crate::app::compile::{home_region, login};
use crate::app::{self, local_runtime};
use crate::clock::Clock;
use crate::config::{Credential, Loaded};
use crate::dns::Resolver;
use crate::files::{self, Layer};
use crate::tls;
use crate::token::login_file::Stored;
use crate::token::{self, Deps, Phase, Settings};

/// Arguments of `regent token`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// What `regent login --store FILE` stored, instead of the credentials of the config
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// Print an object with `access_token`, `expires_at`, `expires_in_s` and `user`
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    access_token: &'a str,
    /// Seconds since the epoch, by the region's clock.
    expires_at: i64,
    expires_in_s: u64,
    user: &'a str,
}

/// Gets one and prints it.
#[must_use]
pub fn run(args: &Args) -> Exit {
    let loaded = match args.config.load() {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    match try_run(args, loaded) {
        Ok(text) => {
            let mut out = std::io::stdout().lock();
            match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
                Ok(()) => Exit::Done,
                Err(_) => Exit::Failed,
            }
        }
        Err(failure) => failure.say(),
    }
}

fn try_run(args: &Args, mut loaded: Loaded) -> Result<Zeroizing<String>, Failure> {
    if let Some(store) = &args.store {
        let credential = &mut loaded.config.region.credential;
        *credential = Credential {
            login_file: Some(store.clone()),
            state_home: credential.state_home.clone(),
            ..Credential::default()
        };
    }
    let deps = app::Deps::system();
    let region = home_region(&loaded.config, &deps);
    if region.is_none() && loaded.config.region.credential.asks_region() {
        let stored = loaded.config.region.credential.login_file.as_deref();
        let wrong = stored.and_then(|path| unusable(path, &*deps.files, args.store.is_some()));
        let what = wrong.unwrap_or_else(|| {
            "no region is known: run `regent login --region URL --email EMAIL` first, or set \
             `region.url`"
                .to_owned()
        });
        return Err(Failure::new(Exit::Config, what));
    }
    let runtime = local_runtime().map_err(|error| Failure::new(Exit::Failed, error))?;
    runtime.block_on(async {
        let (resolver, lookups) = Resolver::new(deps.lookup.clone(), deps.clock.clone());
        tokio::task::spawn_local(lookups);
        let login = login(
            &loaded.config,
            region.as_ref(),
            &deps,
            &tls::System::default(),
            resolver,
        )
        .map_err(|error| Failure::new(Exit::Config, error))?;
        let settings = Settings {
            region,
            credential: loaded.config.region.credential.clone(),
        };
        let deps = Deps::system(login, deps.clock);
        print(settings, deps, args.json, |line| say(line)).await
    })
}

/// What is wrong with a stored login; that it is not there is, where somebody named it.
fn unusable(path: &Path, files: &dyn Layer, is_named: bool) -> Option<String> {
    match files::read(files, path) {
        Ok(content) => {
            let why = Stored::parse(&content).err()?;
            Some(format!("\"{}\": {why}", path.display()))
        }
        Err(error) if !is_named && error.source.kind() == ErrorKind::NotFound => None,
        Err(error) => Some(error.to_string()),
    }
}

/// One attempt at the ladder, and the token that came of it as text to print. Whatever is wrong
/// beside it, such as a rotated refresh token that ends with this process, is told to `warn`: there
/// is no log here.
///
/// # Errors
/// Refused (3), or not to be had at the moment (4).
pub async fn print(
    settings: Settings,
    deps: Deps,
    json: bool,
    warn: impl FnMut(&String),
) -> Result<Zeroizing<String>, Failure> {
    let clock: Clock = deps.clock.clone();
    let (handle, task) = token::new(settings, deps);
    let mut watch = handle.watch();
    task.run(async move { watch.wait_for(|state| state.attempts > 0).await.map(drop) })
        .await;
    let state = handle.state();
    let why = state.is_failing().then(|| state.why());
    state.degraded_beside(why.as_deref()).for_each(warn);
    let Some(token) = &state.token else {
        return Err(match &state.phase {
            Phase::Parked { why } => Failure::new(Exit::Refused, why),
            Phase::BackingOff { why, .. } => Failure::new(Exit::Unreachable, why),
            Phase::Working => Failure::new(Exit::Unreachable, "no access token came"),
        });
    };
    if !json {
        let mut text = Zeroizing::new(String::with_capacity(token.secret.expose().len() + 1));
        text.push_str(token.secret.expose());
        text.push('\n');
        return Ok(text);
    }
    let printed = Printed {
        access_token: token.secret.expose(),
        expires_at: handle.counters().token_expiry_unix_s.load(Relaxed),
        expires_in_s: token.expires_at.since(clock.boot()).as_secs(),
        user: &token.user,
    };
    let mut text = Zeroizing::new(Vec::with_capacity(crate::files::READ_LIMIT));
    serde_json::to_writer(&mut *text, &printed)
        .expect("strings and numbers under string keys always serialise");
    text.push(b'\n');
    let text = std::str::from_utf8(&text).expect("JSON is UTF-8");
    Ok(Zeroizing::new(text.to_owned()))
}
