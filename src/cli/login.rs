//! `regent login`: a person's password for a refresh token, stored for `run` and `token`.
//!
//! No secret is ever an argument. The place to store is made ready before anything is asked, so a
//! login that cannot be kept is not made; on any failure nothing is left behind.

use std::io::{BufRead, Read as _};
use std::path::{Path, PathBuf};

use url::Url;
use zeroize::Zeroizing;

use super::{ConfigArgs, Exit, say};
use crate::app::compile::region_client;
use crate::app::{self, local_runtime};
use crate::compact;
use crate::config::{Environment, Loaded, is_loopback};
use crate::dns::Resolver;
use crate::files::{self, Layer, OsFiles, Staged};
use crate::region;
use crate::secret::Secret;
use crate::tls;
use crate::token::Login;
use crate::token::login_file::Stored;

/// Arguments of `regent login`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// The region's URL
    #[arg(long, value_name = "URL", value_parser = whole_url)]
    region: Url,
    /// Whose login
    #[arg(
        long,
        value_name = "EMAIL",
        required_unless_present = "refresh_token_stdin"
    )]
    email: Option<String>,
    /// Read the password from standard input instead of asking for it
    #[arg(long, conflicts_with = "refresh_token_stdin")]
    password_stdin: bool,
    /// Store the refresh token that standard input holds, after asking the region whether it is good
    #[arg(long)]
    refresh_token_stdin: bool,
    /// Where to store [default: $XDG_STATE_HOME/regent/login.json]
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
}

/// What to log in with.
#[derive(Debug)]
pub enum Given {
    /// A password.
    Password(Secret),
    /// A refresh token that somebody already has.
    RefreshToken(Secret),
}

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    /// What it ends with.
    pub exit: Exit,
    /// For people; no secret in it.
    pub what: String,
}

impl Failure {
    pub(super) fn new(exit: Exit, what: impl std::fmt::Display) -> Failure {
        Failure {
            exit,
            what: what.to_string(),
        }
    }

    /// Says it, and ends with it.
    #[must_use]
    pub fn say(self) -> Exit {
        say(self.what);
        self.exit
    }
}

impl From<region::Error> for Failure {
    fn from(error: region::Error) -> Failure {
        match error {
            region::Error::Transient { what, .. } | region::Error::Useless { what, .. } => {
                Failure::new(Exit::Unreachable, what)
            }
            region::Error::Refused { code, what } => Failure::new(
                Exit::Refused,
                format_args!("the region refused the login ({code}): {what}"),
            ),
        }
    }
}

/// Logs in and stores.
#[must_use]
pub fn run(args: &Args) -> Exit {
    // Its proxy and its CA file are the config's business.
    let loaded = match args.config.load() {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    match try_run(args, &loaded) {
        Ok(stored) => {
            say(stored);
            Exit::Done
        }
        Err(failure) => failure.say(),
    }
}

fn try_run(args: &Args, loaded: &Loaded) -> Result<String, Failure> {
    let may_be_plain = loaded.config.region.insecure_http || is_loopback(&args.region);
    if args.region.scheme() != "https" && !may_be_plain {
        return Err(Failure::new(
            Exit::Config,
            format_args!(
                "\"{}\" would send the login in the clear; write https://, or allow it with --set \
                 region.insecure_http=true",
                args.region
            ),
        ));
    }
    let default = default_store();
    let store = args
        .store
        .clone()
        .or_else(|| default.clone())
        .ok_or_else(no_store)?;
    let given = if args.refresh_token_stdin {
        Given::RefreshToken(from_reader(&mut std::io::stdin().lock(), "refresh token")?)
    } else if args.password_stdin {
        Given::Password(from_reader(&mut std::io::stdin().lock(), "password")?)
    } else {
        let email = args.email.as_deref().unwrap_or_default();
        let asked = rpassword::prompt_password(format!("Password of {email}: "));
        Given::Password(Secret::new(asked.map_err(|error| {
            let what = format!("cannot ask for the password: {error}; use --password-stdin");
            Failure::new(Exit::Failed, what)
        })?))
    };
    let runtime = local_runtime().map_err(|error| Failure::new(Exit::Failed, error))?;
    let stored = runtime.block_on(async {
        let deps = app::Deps::system();
        let (resolver, lookups) = Resolver::new(deps.lookup.clone(), deps.clock.clone());
        tokio::task::spawn_local(lookups);
        let region = region_client(
            &loaded.config,
            &args.region,
            &deps,
            &tls::System::default(),
            resolver,
        )
        .map_err(|error| Failure::new(Exit::Config, error))?;
        log_in(
            &args.region,
            args.email.as_deref(),
            given,
            &store,
            &region,
            &OsFiles,
        )
        .await
    })?;
    Ok(said(&stored, &store, default.as_deref()))
}

/// A URL; one without a scheme is an easy slip.
fn whole_url(text: &str) -> Result<Url, String> {
    let wrong = || "write it whole, such as https://practicus.example.com".to_owned();
    let url = Url::parse(text).map_err(|_| wrong())?;
    url.has_host().then_some(url).ok_or_else(wrong)
}

/// Logs in with what was given and stores the outcome: the region's URL, whose it is, and the
/// refresh token alone.
///
/// # Errors
/// Refused (3), unreachable (4), or a place that cannot be written (1); nothing is left there.
pub async fn log_in(
    url: &Url,
    email: Option<&str>,
    given: Given,
    store: &Path,
    login: &dyn Login,
    files: &dyn Layer,
) -> Result<Stored, Failure> {
    let staged = Staged::new(files, store, files::READ_LIMIT as u64)
        .map_err(|error| Failure::new(Exit::Failed, error))?;
    let refresh_token = match given {
        Given::RefreshToken(token) => checked(token, login).await?,
        Given::Password(password) => {
            let tokens = login.log_in(email.unwrap_or_default(), &password).await?;
            tokens.refresh.ok_or_else(|| {
                let what = "the region's answer to the login holds no refresh token to keep";
                Failure::new(Exit::Unreachable, what)
            })?
        }
    };
    let claims = compact::peek(refresh_token.expose()).unwrap_or_default();
    let stored = Stored {
        region: url.clone(),
        email: email.map(str::to_owned),
        user: claims.username.or(claims.user_id),
        refresh_token,
    };
    staged
        .commit(&stored.content())
        .map_err(|error| Failure::new(Exit::Failed, error))?;
    // What an older login had grown into does not count any more, and is not left lying about.
    let _ = files::remove(files, &files::beside(store, ".state"));
    Ok(stored)
}

/// A refresh token that the region says is good.
async fn checked(token: Secret, login: &dyn Login) -> Result<Secret, Failure> {
    let claims = compact::peek(token.expose()).map_err(|error| {
        Failure::new(
            Exit::Refused,
            format_args!("standard input holds no refresh token: {error}"),
        )
    })?;
    if claims.token_type.as_deref() == Some("access") {
        return Err(Failure::new(
            Exit::Refused,
            "standard input holds an access token, which ends within minutes; a refresh token is \
             needed",
        ));
    }
    login.verify(&token).await?;
    Ok(token)
}

fn said(stored: &Stored, store: &Path, default: Option<&Path>) -> String {
    let who = stored.email.as_ref().or(stored.user.as_ref());
    let next = if default == Some(store) {
        "regent run".to_owned()
    } else {
        format!(
            "regent run --set region.credential.login_file={}",
            store.display()
        )
    };
    format!(
        "logged in to {} as {}; the refresh token is in {} (0600)\nnext: {next}",
        stored.region,
        who.map_or("an unnamed user", String::as_str),
        store.display()
    )
}

/// One secret from standard input: the whole of it, without the line's end.
///
/// # Errors
/// Where it cannot be read, is empty, or too large (exit code 1).
pub fn from_reader(reader: &mut impl BufRead, what: &str) -> Result<Secret, Failure> {
    let failed = |why: &dyn std::fmt::Display| {
        Failure::new(
            Exit::Failed,
            format_args!("no {what} could be read from standard input: {why}"),
        )
    };
    let limit = files::READ_LIMIT;
    let mut text = Zeroizing::new(String::with_capacity(limit + 1));
    reader
        .take(limit as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|error| failed(&error))?;
    let secret = match what {
        "password" => text.trim_end_matches(['\r', '\n']),
        _ => text.trim(),
    };
    if secret.is_empty() {
        return Err(failed(&"it is empty"));
    }
    if text.len() > limit {
        return Err(failed(&"it is too large"));
    }
    Ok(Secret::from(secret))
}

/// `$XDG_STATE_HOME/regent/login.json`, where `run` finds it without being told.
#[must_use]
pub fn default_store() -> Option<PathBuf> {
    Some(Environment::of_process().state_home()?.join("login.json"))
}

pub(super) fn no_store() -> Failure {
    Failure::new(
        Exit::Config,
        "there is no place for logins: neither XDG_STATE_HOME nor HOME is set; give --store FILE",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_from_standard_input_loses_its_line_end_and_nothing_else() {
        for (text, what, secret) in [
            ("pass word \n", "password", "pass word "),
            ("pass\r\n", "password", "pass"),
            (" a.b.c \n", "refresh token", "a.b.c"),
        ] {
            let read = from_reader(&mut text.as_bytes(), what).expect("there is one");
            assert_eq!(read.expose(), secret);
        }
        for text in ["", "\n"] {
            let failure = from_reader(&mut text.as_bytes(), "password").expect_err("empty");
            assert_eq!(failure.exit, Exit::Failed);
        }
        let long = "x".repeat(files::READ_LIMIT + 1);
        assert!(from_reader(&mut long.as_bytes(), "password").is_err());
    }

    #[test]
    fn no_secret_can_be_an_argument() {
        use clap::Args as _;
        let command = Args::augment_args(clap::Command::new("login"));
        for argument in command.get_arguments() {
            let takes_value = argument.get_action().takes_values();
            let name = argument.get_id().as_str();
            let secret = name.contains("password") || name.contains("token");
            assert!(!(secret && takes_value), "{name}");
        }
    }
}
