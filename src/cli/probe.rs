//! `regent probe` and `regent quit`: the admin listener from a container without a shell or curl.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use clap::ValueEnum;

use super::{Exit, admin_address, say};
use crate::clock::Clock;
use crate::config::{self, duration};

/// Arguments of `regent probe`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// What to ask
    what: What,
    /// The admin listener [default: REGENT__ADMIN__LISTEN, else 127.0.0.1:9180]
    #[arg(long, value_name = "ADDR", value_parser = config::admin_address)]
    admin: Option<SocketAddr>,
    /// How long to wait [default: 1s; for `wait` 60s]
    #[arg(long, value_name = "D", value_parser = duration)]
    timeout: Option<Duration>,
}

/// Arguments of `regent quit`.
#[derive(clap::Args, Debug)]
pub struct QuitArgs {
    /// The admin listener [default: REGENT__ADMIN__LISTEN, else 127.0.0.1:9180]
    #[arg(long, value_name = "ADDR", value_parser = config::admin_address)]
    admin: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Has it started: config read, ports bound, first token there
    Startup,
    /// Is it alive
    Live,
    /// Can it serve
    Ready,
    /// Wait until it has started
    Wait,
}

/// Asks once, or until it has started.
#[must_use]
pub fn run(args: &Args) -> Exit {
    let admin = match admin_address(args.admin) {
        Ok(admin) => admin,
        Err(exit) => return exit,
    };
    let once = args.timeout.unwrap_or(Duration::from_secs(1));
    let asked = match args.what {
        What::Startup => ask(admin, "GET", "/startupz", once),
        What::Live => ask(admin, "GET", "/livez", once),
        What::Ready => ask(admin, "GET", "/readyz", once),
        What::Wait => wait(admin, args.timeout.unwrap_or(Duration::from_secs(60))),
    };
    end(admin, asked)
}

/// Asks it to drain and exit.
#[must_use]
pub fn quit(args: &QuitArgs) -> Exit {
    match admin_address(args.admin) {
        Ok(admin) => end(admin, ask(admin, "POST", "/quit", Duration::from_secs(5))),
        Err(exit) => exit,
    }
}

fn end(admin: SocketAddr, asked: Result<(), String>) -> Exit {
    match asked {
        Ok(()) => Exit::Done,
        Err(why) => {
            say(format_args!("http://{admin}: {why}"));
            Exit::Failed
        }
    }
}

fn wait(admin: SocketAddr, timeout: Duration) -> Result<(), String> {
    let clock = Clock::system();
    let until = clock.boot() + timeout;
    loop {
        let asked = ask(admin, "GET", "/startupz", Duration::from_secs(1));
        if asked.is_ok() || clock.boot() >= until {
            return asked;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn ask(admin: SocketAddr, method: &str, path: &str, timeout: Duration) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("the sidecar does not answer: {error}");
    let timeout = timeout.max(Duration::from_millis(1));
    let mut stream = TcpStream::connect_timeout(&admin, timeout).map_err(failed)?;
    stream.set_read_timeout(Some(timeout)).map_err(failed)?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    (&mut stream)
        .take(64 * 1024)
        .read_to_string(&mut answer)
        .map_err(failed)?;
    let body = answer
        .split_once("\r\n\r\n")
        .map_or("", |(_, body)| body.trim());
    match answer.split_ascii_whitespace().nth(1) {
        Some("200") => Ok(()),
        Some(status) => Err(format!("{status} {body}")),
        None => Err("what answers there is no sidecar of ours".to_owned()),
    }
}
