//! The tour: what Regent is for, step by step, each of them checked.
//!
//! - A step holds by what comes back and by what the region and the workload saw, not by time:
//!   everything is polled under deadlines that only a broken sidecar meets.
//! - The first step that fails ends the tour, since the later ones build on it.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{Response, StatusCode};
use serde_json::Value;
use tokio::time::Instant;

use super::call::get;
use super::region::{Call, Kind, Outage, Region};
use super::say::Say;
use super::setup;
use crate::clock::{Boot, Clock};
use crate::reason::Reason;

/// The width of a page.
const COLUMNS: usize = 80;
/// How often is looked again.
const POLL: Duration = Duration::from_millis(200);
/// How often the outage is tried again where this machine stalled for most of a token's life.
const STALLS: usize = 5;

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) access_lifetime: Duration,
    /// For what a sidecar does at once or within a token's life.
    pub(super) patience: Duration,
    /// For coming back after an outage: the longest back-off, and some.
    pub(super) backoff_patience: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            access_lifetime: Duration::from_secs(8),
            patience: Duration::from_secs(30),
            backoff_patience: Duration::from_secs(150),
        }
    }
}

/// What the tour walks through.
#[derive(Debug)]
pub(super) struct Tour<'a> {
    region: &'a Region,
    workload: SocketAddr,
    sidecar: SocketAddr,
    pace: Pace,
    clock: Clock,
}

/// What a step found: evidence that it held, or what went wrong.
type Found = Result<String, String>;

impl Tour<'_> {
    /// A tour of the sidecar at `sidecar`, whose upstream is `workload` and whose home is `region`.
    pub(super) fn new(
        region: &Region,
        workload: SocketAddr,
        sidecar: SocketAddr,
        pace: Pace,
    ) -> Tour<'_> {
        Tour {
            region,
            workload,
            sidecar,
            pace,
            clock: Clock::system(),
        }
    }

    /// Walks through all of it, and says whether every step held.
    pub(super) async fn run<W: Write>(&self, say: &mut Say<W>) -> bool {
        say.block(&format!(
            "\
Regent listens on http://localhost:{} and is logged in as alice. Behind it
is a workload on port {} that answers nobody without a valid access token.
Access tokens live {} s here; refresh tokens rotate, without grace.",
            self.sidecar.port(),
            self.workload.port(),
            self.pace.access_lifetime.as_secs(),
        ));
        say.line("");
        say.line("1. A program that knows nothing of tokens calls localhost.");
        let found = self.request(say).await;
        let mut held = conclude(say, found);
        if held {
            say.line("2. The access token is refreshed before it expires.");
            let found = self.refresh(say).await;
            held = conclude(say, found);
        }
        if held {
            say.line("3. The access token is revoked before its time.");
            let found = self.revocation(say).await;
            held = conclude(say, found);
        }
        if held {
            say.line("4. The region goes away, and comes back.");
            let found = self.outage(say).await;
            held = conclude(say, found);
        }
        self.region.up();
        say.line(if held {
            "All four steps held."
        } else {
            "The tour ends here: the step above failed."
        });
        held
    }

    async fn request<W: Write>(&self, say: &mut Say<W>) -> Found {
        let direct = get(self.workload, "/whoami").await?;
        self.show(say, self.workload, &direct);
        if direct.status() != StatusCode::UNAUTHORIZED {
            return Err("the workload let a request without a token in".to_owned());
        }
        let deadline = Instant::now() + self.pace.patience;
        let answer = loop {
            let answer = self.ask().await?;
            if answer.status() == StatusCode::OK || Instant::now() > deadline {
                break answer;
            }
            tokio::time::sleep(POLL).await;
        };
        self.show(say, self.sidecar, &answer);
        as_alice(&answer)?;
        Ok("the workload refuses the program, and answers it through Regent".to_owned())
    }

    async fn refresh<W: Write>(&self, say: &mut Say<W>) -> Found {
        as_alice(&self.ask().await?)?;
        let old = self.latest_token().ok_or("the workload saw no token")?;
        let seen = self.latest_call();
        say.line("   Waiting for it, with a request every now and then:");
        let mut requests = 0;
        let mut progress = Progress::new();
        loop {
            as_alice(&self.ask().await?)?;
            requests += 1;
            let new = self.latest_token().ok_or("the workload saw no token")?;
            if new != old && !self.refreshes_after(seen).is_empty() {
                return Ok(format!(
                    "token {old:?} became {new:?}; {requests} requests meanwhile, none failed"
                ));
            }
            progress.tick(say, self.pace.patience, "no refresh came")?;
            tokio::time::sleep(POLL).await;
        }
    }

    async fn revocation<W: Write>(&self, say: &mut Say<W>) -> Found {
        let seen = self.latest_call();
        if self.region.revoke_all_access() == 0 {
            return Err("there was no access token to revoke".to_owned());
        }
        let answer = self.ask().await?;
        self.show(say, self.sidecar, &answer);
        say.line("   What the workload and the region saw:");
        for call in self.region.calls_after(seen) {
            say.line(&format!("     {}", setup::line(&call)));
        }
        as_alice(&answer)?;
        Ok("a new token and the same request again; the program noticed nothing".to_owned())
    }

    async fn outage<W: Write>(&self, say: &mut Say<W>) -> Found {
        let seen = self.region_leaves(say).await?;
        let (refused, after) = self.until_refused(say).await?;
        self.show(say, self.sidecar, &refused);
        self.none_refused_after(seen)?;
        say.line(&format!(
            "   After {after} requests, the token is over; it was never sent again."
        ));
        self.region.up();
        say.line("   The region is back. Nobody restarts anything:");
        let back = Instant::now();
        let mut progress = Progress::new();
        loop {
            let answer = self.ask().await?;
            if answer.status() == StatusCode::OK {
                as_alice(&answer)?;
                self.none_refused_after(seen)?;
                self.show(say, self.sidecar, &answer);
                let seconds = back.elapsed().as_secs_f32();
                return Ok(format!("recovered by itself after {seconds:.1} s"));
            }
            refused_for_now(&answer)?;
            progress.tick(say, self.pace.backoff_patience, "it did not recover")?;
            tokio::time::sleep(POLL).await;
        }
    }

    /// Takes the region away while a token has most of its life before it, and sees a request
    /// succeed. The number of the latest call before it.
    async fn region_leaves<W: Write>(&self, say: &mut Say<W>) -> Result<u64, String> {
        for _ in 0..STALLS {
            let valid_until = self.fresh_token(say).await?;
            let seen = self.latest_call();
            self.region.down(Outage::Refuse);
            let answer = self.ask().await?;
            if answer.status() == StatusCode::OK {
                say.line("   The region is away; the token is still good:");
                self.show(say, self.sidecar, &answer);
                as_alice(&answer)?;
                return Ok(seen);
            }
            if self.clock.boot() < valid_until {
                let status = answer.status();
                return Err(format!("{status} though the token was still good"));
            }
            say.line("   This machine slept through the token's life. Once more:");
            self.region.up();
        }
        Err("this machine is too slow for tokens that live this short".to_owned())
    }

    /// Asks until there is no token any more. The refusal, and how many requests succeeded before.
    async fn until_refused<W: Write>(
        &self,
        say: &mut Say<W>,
    ) -> Result<(Response<Bytes>, usize), String> {
        let mut succeeded = 1;
        let mut progress = Progress::new();
        let patience = self.pace.access_lifetime + self.pace.patience;
        loop {
            let answer = self.ask().await?;
            if answer.status() != StatusCode::OK {
                refused_for_now(&answer)?;
                return Ok((answer, succeeded));
            }
            as_alice(&answer)?;
            succeeded += 1;
            progress.tick(say, patience, "requests succeed without a token")?;
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until the sidecar's token has more than half of its life before it. Until when it is
    /// surely good.
    async fn fresh_token<W: Write>(&self, say: &mut Say<W>) -> Result<Boot, String> {
        let mut progress = Progress::new();
        loop {
            // Keeps a sidecar going that refreshes only when it is asked.
            self.ask().await?;
            if let Some(refresh) = self.refreshes_after(0).last() {
                // Times are whole seconds, and the sidecar leaves one more.
                let life = self
                    .pace
                    .access_lifetime
                    .saturating_sub(Duration::from_secs(2));
                let valid_until = refresh.at + life;
                if valid_until.since(self.clock.boot()) > life / 2 {
                    return Ok(valid_until);
                }
            }
            progress.tick(say, 2 * self.pace.patience, "no refresh came")?;
            tokio::time::sleep(POLL).await;
        }
    }

    async fn ask(&self) -> Result<Response<Bytes>, String> {
        get(self.sidecar, "/whoami").await
    }

    fn show<W: Write>(&self, say: &mut Say<W>, to: SocketAddr, answer: &Response<Bytes>) {
        let port = to.port();
        say.line(&format!("   $ curl -i http://localhost:{port}/whoami"));
        let retry = answer.headers().get(RETRY_AFTER);
        let retry = retry.and_then(|value| value.to_str().ok());
        let retry = retry.map_or_else(String::new, |value| format!(", Retry-After: {value}"));
        say.line(&format!("   HTTP/1.1 {}{retry}", answer.status()));
        let mut line = "  ".to_owned();
        for word in summary(answer.body()).split(' ') {
            if line.chars().count() + word.chars().count() >= COLUMNS {
                say.line(&std::mem::replace(&mut line, "  ".to_owned()));
            }
            line.push(' ');
            line.push_str(word);
        }
        say.line(&line);
    }

    fn latest_call(&self) -> u64 {
        *self.region.watch_calls().borrow()
    }

    fn latest_token(&self) -> Option<crate::secret::Digest> {
        let calls = self.region.calls();
        let mut through = calls.iter().rev().filter(|call| call.kind == Kind::Api);
        through.find_map(|call| call.token)
    }

    /// The workload would have refused an expired token, had it got one.
    fn none_refused_after(&self, number: u64) -> Result<(), String> {
        let calls = self.region.calls_after(number);
        match calls
            .iter()
            .any(|call| call.kind == Kind::Api && call.status != Some(StatusCode::OK))
        {
            true => Err("the workload was sent a token that had expired".to_owned()),
            false => Ok(()),
        }
    }

    fn refreshes_after(&self, number: u64) -> Vec<Call> {
        let mut calls = self.region.calls_after(number);
        calls.retain(|call| call.kind == Kind::Refresh && call.status == Some(StatusCode::OK));
        calls
    }
}

fn conclude<W: Write>(say: &mut Say<W>, found: Found) -> bool {
    let held = found.is_ok();
    match found {
        Ok(evidence) => say.line(&format!("   ok: {evidence}")),
        Err(why) => say.line(&format!("   FAILED: {why}")),
    }
    say.line("");
    held
}

fn as_alice(answer: &Response<Bytes>) -> Result<(), String> {
    if answer.status() != StatusCode::OK {
        let body = summary(answer.body());
        return Err(format!("answered {}: {body}", answer.status()));
    }
    let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    match body["user"].as_str() {
        Some("alice") => Ok(()),
        _ => Err("answered, but not as alice".to_owned()),
    }
}

/// The contract's answer where there is no valid token for the moment.
fn refused_for_now(answer: &Response<Bytes>) -> Result<(), String> {
    let expected = Reason::NoAccessToken;
    let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    if answer.status() != expected.status() || body["reason"] != expected.word() {
        let body = summary(answer.body());
        return Err(format!("answered {}: {body}", answer.status()));
    }
    if !answer.headers().contains_key(RETRY_AFTER) {
        return Err("answered without Retry-After".to_owned());
    }
    Ok(())
}

/// A JSON body in a line; of a refusal, the word and the text.
fn summary(body: &[u8]) -> String {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    match (value["reason"].as_str(), value["detail"].as_str()) {
        (Some(reason), Some(detail)) => format!("{reason}: {detail}"),
        _ => value.to_string(),
    }
}

/// Says that something is still awaited, every other second, and when to give up.
struct Progress {
    began: Instant,
    said: u64,
}

impl Progress {
    fn new() -> Progress {
        Progress {
            began: Instant::now(),
            said: 0,
        }
    }

    fn tick<W: Write>(
        &mut self,
        say: &mut Say<W>,
        patience: Duration,
        otherwise: &str,
    ) -> Result<(), String> {
        let seconds = self.began.elapsed().as_secs();
        if self.began.elapsed() > patience {
            return Err(format!("{otherwise} within {} s", patience.as_secs()));
        }
        if seconds >= self.said + 2 {
            self.said = seconds;
            say.line(&format!("     ... {seconds} s"));
        }
        Ok(())
    }
}
