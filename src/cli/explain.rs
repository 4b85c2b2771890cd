//! `regent explain`: would the inbound side accept this token, and why not, step by step.
//!
//! - The config is compiled as `run` compiles it, and the token goes the way of a request's; this
//!   only listens and puts it into words.
//! - A token is never an argument: other users of a machine can read those. What is printed is what
//!   the token claims, never the token or its signature.
//! - It works offline, unless the issuer's keys or a list have to be fetched for this token.

use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal as _, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{Method, Uri};
use zeroize::Zeroizing;

use super::issuer_keys::{fetched, is_settled};
use super::login::Failure;
use super::{ConfigArgs, Exit, issuer_list, say, say_problems};
use crate::app::compile::{Compiled, Compiler};
use crate::app::{Deps, local_runtime};
use crate::compact::Jws;
use crate::dns::Resolver;
use crate::jwt::key_set::{self, KeySet};
use crate::jwt::keys::{Snapshot, Task};
use crate::jwt::list;
use crate::jwt::verifier::{Now, verify};
use crate::proxy::Policy;
use crate::proxy::inbound::{Asked, Inbound};
use crate::reason::Reason;

mod advice;
mod claim;
mod explanation;
mod judge;
mod listener;
pub mod words;

pub use explanation::{Explanation, Rule, Told};
pub use judge::{Table, by_config, by_keys, by_signature};

/// The most that is read of a token: enough to see that it is too large.
const MOST_READ: usize = 64 * 1024;

/// Arguments of `regent explain`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Public keys (PEM, a JWK set or one JWK) instead of a config: the signature, the times and the
    /// kind of the token are judged
    #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "set"])]
    keys: Option<PathBuf>,
    /// Stop after the signature, whatever it is over
    #[arg(long, requires = "keys")]
    signature_only: bool,
    /// Also say which rule a request for this path meets
    #[arg(long, value_name = "P")]
    path: Option<String>,
    /// The method of that request
    #[arg(long, value_name = "M", requires = "path", default_value = "GET")]
    method: Method,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// A file with the token; `-` or nothing: standard input
    #[arg(value_name = "TOKENFILE")]
    token: Vec<OsString>,
}

/// Judges the token and says how.
#[must_use]
pub fn run(args: &Args) -> Exit {
    let explanation = match try_run(args) {
        Ok(explanation) => explanation,
        Err(Trouble::Said(exit)) => return exit,
        Err(Trouble::Failure(failure)) => return failure.say(),
    };
    let text = match args.json {
        true => explanation.json(),
        false => explanation.text(),
    };
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) if explanation.is_accepted() => Exit::Done,
        _ => Exit::Failed,
    }
}

/// Why nothing can be explained.
enum Trouble {
    /// It has been said.
    Said(Exit),
    Failure(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Trouble {
        Trouble::Failure(failure)
    }
}

fn unfit(what: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Config, what)
}

fn try_run(args: &Args) -> Result<Explanation, Trouble> {
    // What is wrong with the arguments is said before anybody has to type a token.
    let source = source(&args.token)?;
    let deps = Deps::system();
    let clock = deps.clock.clone();
    let now = || Now {
        unix_ms: clock.unix_ms(),
        boot: clock.boot(),
    };
    if let Some(file) = &args.keys {
        let set = key_file(file)?;
        let token = read_token(source)?;
        let mut explanation = match args.signature_only {
            true => by_signature(bare(&token), &set, now()),
            false => by_keys(bare(&token), set, now()),
        };
        if args.path.is_some() {
            let note = "no rule was looked at: without a config there are none";
            explanation.notes.push(note.to_owned());
        }
        return Ok(explanation);
    }
    by_the_config(args, source, deps, now)
}

fn by_the_config(
    args: &Args,
    source: Source<'_>,
    deps: Deps,
    now: impl Fn() -> Now,
) -> Result<Explanation, Trouble> {
    let path = args.path.as_deref().map(path_of).transpose()?;
    let asked = path.map(|path| Asked {
        path,
        method: &args.method,
    });
    let loaded = args.config.load().map_err(Trouble::Said)?;
    let Some(side) = &loaded.config.inbound else {
        return Err(unfit(NO_INBOUND).into());
    };
    let (resolver, lookups) = Resolver::new(Arc::clone(&deps.lookup), deps.clock.clone());
    let mut compiler = Compiler::new(deps, resolver);
    let mut compiled = compiler
        .compile(&loaded, None)
        .map_err(|problems| Trouble::Said(say_problems(&problems)))?;
    let token = read_token(source)?;
    let token = bare(&token);
    let runtime = local_runtime().map_err(|error| Failure::new(Exit::Failed, error))?;
    runtime.spawn_local(lookups);
    if issuer_list::is_unread(&compiled.policy) && is_of_nobody(token, &compiled.policy, now()) {
        say("reading the list of inbound.federation");
        compiled = runtime.block_on(issuer_list::read(&mut compiler, &loaded, compiled));
        // Without it the token is of nobody, which is what will be explained.
        let _ = issuer_list::say_trouble(&compiled.policy, true);
    }
    let Compiled {
        policy,
        keys,
        revocations,
        ..
    } = compiled;
    let Some(inbound) = &policy.inbound else {
        return Err(unfit(NO_INBOUND).into());
    };
    let snapshot = match lacks_keys(token, inbound, now()) {
        None => inbound.keys.snapshot(),
        Some(place) => runtime.block_on(fetch(inbound, place, keys)),
    };
    let is_good = verify(token, &inbound.issuers, &snapshot, now(), &mut ()).is_ok();
    if let (Some(mut list), true) = (revocations, is_good && lacks_revocations(inbound)) {
        say("reading the list of inbound.revocations");
        runtime.block_on(list.once());
        issuer_list::say_left_out(inbound);
    }
    let revocations = inbound.revocations.as_ref().map(list::Handle::state);
    let table = Table {
        inbound,
        rules: &side.rules,
        keys: &snapshot,
        revocations: revocations.as_deref(),
    };
    Ok(by_config(token, table, asked, now()))
}

const NO_INBOUND: &str = "the config has no [inbound]: name one that has with -c FILE, or give the \
                          issuer's public keys with --keys FILE";

/// The place of the token's issuer, where its keys are not there yet.
fn lacks_keys(token: &[u8], inbound: &Inbound, now: Now) -> Option<usize> {
    let keys = inbound.keys.snapshot();
    let rejection = verify(token, &inbound.issuers, &keys, now, &mut ()).err()?;
    let is_missing = rejection.reason == Reason::IssuerKeysUnavailable;
    rejection.issuer.filter(|_| is_missing)
}

/// Whether there is a list of revoked tokens that has not been read.
fn lacks_revocations(inbound: &Inbound) -> bool {
    let handle = inbound.revocations.as_ref();
    handle.is_some_and(|handle| handle.state().list.is_none())
}

/// Whether the token's issuer is none that is known so far.
fn is_of_nobody(token: &[u8], policy: &Policy, now: Now) -> bool {
    let Some(inbound) = &policy.inbound else {
        return false;
    };
    let keys = inbound.keys.snapshot();
    let verdict = verify(token, &inbound.issuers, &keys, now, &mut ());
    verdict.is_err_and(|rejection| rejection.reason == Reason::UnknownIssuer)
}

async fn fetch(inbound: &Inbound, place: usize, task: Option<Task>) -> Arc<Snapshot> {
    let issuer = inbound.issuers.all().get(place);
    let name = issuer.map_or("", |issuer| &*issuer.name);
    say(format_args!("fetching the keys of inbound.issuers.{name}"));
    let is_there = |keys: &Snapshot| keys.issuers.get(place).is_none_or(is_settled);
    fetched(&inbound.keys, task, is_there).await
}

enum Source<'a> {
    Stdin,
    File(&'a Path),
}

fn source(named: &[OsString]) -> Result<Source<'_>, Failure> {
    if named.iter().any(|one| is_token(one)) {
        return Err(unfit(
            "a token is never an argument: other users of this machine can read those; pipe it in, \
             as in `regent token | regent explain -c FILE`, or name a file that holds it",
        ));
    }
    match named {
        [] => Ok(Source::Stdin),
        [one] if one == "-" => Ok(Source::Stdin),
        [one] => Ok(Source::File(Path::new(one))),
        _ => Err(unfit("name one file with a token, not several")),
    }
}

/// Whether an argument is a token where a file's name should be.
fn is_token(argument: &OsStr) -> bool {
    let text = argument.as_encoded_bytes();
    let text = bare(text);
    // A header begins with `{"`, however it goes on.
    let begins_like_one = text.starts_with(b"eyJ") && text.len() > 20;
    (begins_like_one || Jws::parse(text).is_ok()) && !Path::new(argument).exists()
}

fn read_token(source: Source<'_>) -> Result<Zeroizing<Vec<u8>>, Failure> {
    match source {
        Source::File(path) => {
            let read = std::fs::File::open(path).and_then(|file| bytes(file, MOST_READ));
            read.map_err(|error| {
                unfit(format_args!(
                    "the token cannot be read from \"{}\": {error}",
                    path.display()
                ))
            })
        }
        Source::Stdin => {
            let stdin = std::io::stdin();
            if stdin.is_terminal() {
                say("reading the token from standard input: paste it, then Enter and Ctrl-D");
            }
            bytes(stdin.lock(), MOST_READ).map_err(|error| {
                unfit(format_args!(
                    "the token cannot be read from standard input: {error}"
                ))
            })
        }
    }
}

fn bytes(from: impl Read, most: usize) -> std::io::Result<Zeroizing<Vec<u8>>> {
    // As large as it can become, so that no copy is left where it grew.
    let mut bytes = Zeroizing::new(Vec::with_capacity(most + 1));
    from.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The token without what people copy along with it: white space, `Authorization:`, `Bearer`.
#[must_use]
pub fn bare(text: &[u8]) -> &[u8] {
    let mut text = text.trim_ascii();
    for front in [&b"authorization:"[..], b"bearer "] {
        if let Some((start, rest)) = text.split_at_checked(front.len())
            && start.eq_ignore_ascii_case(front)
        {
            text = rest.trim_ascii();
        }
    }
    text
}

fn key_file(path: &Path) -> Result<KeySet, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        unfit(format_args!("--keys \"{}\": {error}", path.display()))
    };
    let read = std::fs::File::open(path).and_then(|file| bytes(file, key_set::MOST_BYTES + 1));
    let read = read.map_err(|error| failed(&error))?;
    KeySet::from_any(&read).map_err(|error| failed(&words::escaped(&error.0)))
}

/// The path of a request, without its query, as it stands on the wire.
fn path_of(text: &str) -> Result<&str, Failure> {
    let path = text.split_once('?').map_or(text, |(path, _)| path);
    let is_path = path.starts_with('/') && path.parse::<Uri>().is_ok();
    match is_path {
        true => Ok(path),
        false => Err(unfit(
            "--path is no path of a request: it begins with /, and what is not ASCII stands in it as \
             %XX",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_copy_along_is_left_out() {
        for text in [
            "a.b.c",
            " a.b.c\r\n",
            "Bearer a.b.c",
            "bearer  a.b.c\n",
            "Authorization: Bearer a.b.c",
            "authorization:bearer a.b.c",
            "AUTHORIZATION:\ta.b.c",
        ] {
            assert_eq!(bare(text.as_bytes()), b"a.b.c", "{text}");
        }
        for text in ["Bearer", "", "a b", "Bearera.b.c", "Authorizationa"] {
            assert_eq!(bare(text.as_bytes()), text.as_bytes(), "{text}");
        }
    }

    #[test]
    fn a_token_is_told_from_a_file_name() {
        for text in [
            "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.c2ln",
            "Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2ln",
            "eyJhbGciOiJSUzI1NiJ9.cut-short",
            "eyAiYWxnIjoiUlMyNTYifQ.e30.c2ln",
        ] {
            assert!(is_token(OsStr::new(text)), "{text}");
        }
        for text in [
            "token",
            "-",
            "a.b.c",
            "./eyJ.jwt",
            "eyJ.jwt",
            "/tmp/token.txt",
        ] {
            assert!(!is_token(OsStr::new(text)), "{text}");
        }
    }

    #[test]
    fn a_path_is_one_that_a_request_can_have() {
        assert_eq!(path_of("/a/b?x=/c").ok(), Some("/a/b"));
        assert_eq!(path_of("/a/%2e%2e/b").ok(), Some("/a/%2e%2e/b"));
        for text in ["", "a", "http://a/b", "/ä b", "/a b"] {
            assert!(path_of(text).is_err(), "{text}");
        }
    }
}
