//! The command line: what each command takes, and what it ends with.
//!
//! Exit codes are the contract's: 0 done, 1 other, 2 config, 3 login refused, 4 unreachable.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::load::{admin_listen, load};
use crate::config::{Environment, Loaded, Problem, Sources};

pub mod check;
pub mod explain;
pub mod issuer_keys;
mod issuer_list;
pub mod login;
pub mod logout;
pub mod probe;
pub mod run;
pub mod token;

/// An authenticating reverse proxy sidecar for Practicus AI regions.
#[derive(Debug, Parser)]
#[command(
    name = "regent",
    version,
    after_help = "Example:\n  regent login --region https://practicus.example.com --email alice@example.com\n  regent run\n  curl http://localhost:8080/\n\nWithout a region at hand: regent demo",
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sidecar in the foreground
    #[command(
        after_help = "Example:\n  regent run -c regent.toml --set outbound.listen=127.0.0.1:9000"
    )]
    Run(ConfigArgs),
    /// Log in to a region, and store the refresh token
    #[command(
        after_help = "Example:\n  regent login --region https://practicus.example.com --email alice@example.com"
    )]
    Login(login::Args),
    /// Remove what `login` stored
    Logout(logout::Args),
    /// Print a valid access token
    #[command(
        after_help = "Example:\n  curl -H \"Authorization: Bearer $(regent token)\" https://practicus.example.com/"
    )]
    Token(token::Args),
    /// Say step by step whether the inbound side would accept a token, and why not
    #[command(
        after_help = "The token comes from standard input or a file, never as an argument.\nExit code: 0 accepted, 1 rejected, 2 the config or an argument is wrong.\n\nExample:\n  regent token | regent explain -c regent.toml --path /admin\n  regent explain --keys region.pem token.txt"
    )]
    Explain(explain::Args),
    /// Read the config as `run` would, and print what it comes to
    #[command(after_help = "Example:\n  regent check -c regent.toml --online")]
    Check(check::Args),
    /// Show the whole job on an embedded region, without any set-up
    #[cfg(feature = "demo")]
    #[command(after_help = "Example:\n  regent demo --once")]
    Demo(DemoArgs),
    /// Ask a running sidecar how it is, for exec probes and start scripts
    #[command(after_help = "Example:\n  regent probe wait --timeout 60s && ./my-job")]
    Probe(probe::Args),
    /// Ask a running sidecar to drain and exit
    Quit(probe::QuitArgs),
}

/// Which config to read.
#[derive(Args, Clone, Debug)]
pub struct ConfigArgs {
    /// A config file, TOML or YAML; may be given several times, later ones win
    #[arg(short, long = "config", value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// Set one key, e.g. outbound.listen=127.0.0.1:9000; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl ConfigArgs {
    /// Where `run` reads from.
    #[must_use]
    pub fn sources(&self) -> Sources {
        Sources::discover(
            self.config.clone(),
            self.set.clone(),
            Environment::of_process(),
            std::io::stderr().is_terminal(),
        )
    }

    /// Reads it, and says every problem on standard error.
    ///
    /// # Errors
    /// Exit code 2.
    pub fn load(&self) -> Result<Loaded, Exit> {
        load(&self.sources()).map_err(|problems| say_problems(&problems))
    }
}

#[cfg(feature = "demo")]
#[derive(Args, Debug)]
struct DemoArgs {
    /// Run the tour, print what happened, and exit
    #[arg(long)]
    once: bool,
    /// Run the embedded region alone
    #[arg(long)]
    region_only: bool,
}

/// How a command ended, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0
    Done,
    /// 1
    Failed,
    /// 2
    Config,
    /// 3
    Refused,
    /// 4
    Unreachable,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Config => 2,
            Exit::Refused => 3,
            Exit::Unreachable => 4,
        })
    }
}

/// Says something on standard error, in one line.
pub fn say(text: impl std::fmt::Display) {
    eprintln!("regent: {text}");
}

/// Says every problem, and how many there are.
#[must_use]
pub fn say_problems(problems: &[Problem]) -> Exit {
    for problem in problems {
        eprintln!("{problem}");
    }
    let many = if problems.len() == 1 {
        "mistake"
    } else {
        "mistakes"
    };
    say(format_args!("{} {many} in the config", problems.len()));
    Exit::Config
}

/// Runs the command of this process.
#[must_use]
pub fn main() -> ExitCode {
    protect_memory();
    let exit = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Login(args) => login::run(&args),
        Command::Logout(args) => logout::run(&args),
        Command::Token(args) => token::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Check(args) => check::run(&args),
        #[cfg(feature = "demo")]
        Command::Demo(args) => crate::demo::run(args.once, args.region_only),
        Command::Probe(args) => probe::run(&args),
        Command::Quit(args) => probe::quit(&args),
    };
    exit.into()
}

/// No core dump and no debugger of another process may read tokens. Best effort: where the system
/// refuses, there is nothing to be done about it.
fn protect_memory() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = setrlimit(Resource::Core, none);
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// The admin listener of the sidecar beside us: as asked, as the environment has it, or the default.
///
/// # Errors
/// Exit code 2.
pub fn admin_address(given: Option<SocketAddr>) -> Result<SocketAddr, Exit> {
    let named = match given {
        Some(given) => Some(given),
        None => admin_listen(&Environment::of_process()).map_err(|wrong| say_problems(&wrong))?,
    };
    let mut address = named.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 9180)));
    if address.ip().is_unspecified() {
        let loopback = if address.is_ipv4() {
            "127.0.0.1"
        } else {
            "::1"
        };
        address.set_ip(loopback.parse().expect("a loopback address"));
    }
    Ok(address)
}
