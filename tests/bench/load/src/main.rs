//! HTTP/1.1 requests to a port of this machine, at a fixed rate or as fast as answers come.
//!
//! - With a rate, request `k` is due `k / rate` seconds after the start, whatever became of the ones
//!   before it (open loop). Its latency counts from then, not from when a connection was free for it:
//!   a server that stalls is charged for every request that fell into the stall.
//! - Without one, each connection sends its next request once it has its answer (closed loop), and
//!   latency counts from there.
//! - Connections take turns, so that all of them are in use. One that the server closed is replaced.
//! - Of a file of tokens, request `k` brings the one in line `from + k`, and after the last the first.
//!
//! One thread, and a timer that is exact to some microseconds. What happened is printed as JSON.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use histogram::Histogram;
use run::Outcome;

mod conn;
mod histogram;
mod run;

const USAGE: &str = "load --port PORT [--path PATH] [--connections N] [--rate PER_SECOND] \
[--seconds S] [--count N] [--tokens FILE [--from LINE]]";

/// What is to be done.
struct Plan {
    address: SocketAddr,
    connections: usize,
    /// Requests per second; `None`: as fast as answers come.
    rate: Option<f64>,
    seconds: f64,
    /// The most requests.
    count: u64,
    /// A request up to its token.
    head: Vec<u8>,
    /// In lines; none: requests bring none.
    tokens: Vec<String>,
    from: u64,
}

impl Plan {
    /// Writes request `k`.
    fn write(&self, k: u64, into: &mut Vec<u8>) {
        into.clear();
        into.extend_from_slice(&self.head);
        if !self.tokens.is_empty() {
            let at = (self.from + k) % self.tokens.len() as u64;
            into.extend_from_slice(b"authorization: Bearer ");
            into.extend_from_slice(self.tokens[at as usize].as_bytes());
            into.extend_from_slice(b"\r\n");
        }
        into.extend_from_slice(b"\r\n");
    }
}

fn main() -> ExitCode {
    let plan = match plan() {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run::run(&plan) {
        Ok(outcome) => {
            println!("{}", json(&outcome));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {error}", plan.address);
            ExitCode::FAILURE
        }
    }
}

fn plan() -> Result<Plan, String> {
    let mut given: BTreeMap<String, String> = BTreeMap::new();
    let mut words = std::env::args().skip(1);
    while let Some(name) = words.next() {
        let value = words.next().ok_or(format!("{name} needs a value"))?;
        given.insert(name, value);
    }
    let mut take = |name: &str| given.remove(name);
    let port: u16 = number(take("--port").ok_or("--port is missing")?)?;
    let path = take("--path").unwrap_or("/".to_owned());
    let tokens = match take("--tokens") {
        Some(file) => lines(&file).map_err(|error| format!("{file}: {error}"))?,
        None => Vec::new(),
    };
    let plan = Plan {
        address: (Ipv4Addr::LOCALHOST, port).into(),
        connections: take("--connections").map_or(Ok(1), number)?,
        rate: take("--rate").map(number).transpose()?,
        seconds: take("--seconds").map_or(Ok(f64::INFINITY), number)?,
        count: take("--count").map_or(Ok(u64::MAX), number)?,
        head: format!(
            "GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nuser-agent: load\r\naccept: */*\r\n"
        )
        .into_bytes(),
        tokens,
        from: take("--from").map_or(Ok(0), number)?,
    };
    if let Some(name) = given.keys().next() {
        return Err(format!("there is no {name}"));
    }
    if plan.seconds.is_infinite() && plan.count == u64::MAX {
        return Err("it would never end: --seconds or --count is missing".to_owned());
    }
    if plan.connections == 0 || plan.rate.is_some_and(|rate| rate <= 0.0) {
        return Err("--connections and --rate are above 0".to_owned());
    }
    Ok(plan)
}

fn number<T: std::str::FromStr>(text: String) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("{text} is no number for this"))
}

fn lines(file: &str) -> io::Result<Vec<String>> {
    let text = std::fs::read_to_string(file)?;
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    match lines.is_empty() {
        true => Err(io::Error::other("there is no token in it")),
        false => Ok(lines),
    }
}

fn json(outcome: &Outcome) -> String {
    let answers: Vec<String> = (outcome.answers.iter())
        .map(|(status, count)| format!("\"{status}\": {count}"))
        .collect();
    let us = |share: f64| Histogram::at(&outcome.latencies, share) as f64 / 1e3;
    format!(
        "{{\"answers\": {{{}}}, \"broken\": {}, \"unsent\": {}, \"seconds\": {:.6}, \
         \"p50_us\": {:.1}, \"p99_us\": {:.1}, \"max_us\": {:.1}}}",
        answers.join(", "),
        outcome.broken,
        outcome.unsent,
        outcome.seconds,
        us(0.5),
        us(0.99),
        us(1.0),
    )
}
