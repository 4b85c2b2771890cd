//! The tour: what Regent is for, step by step, each of them checked.
//!
//! - A step holds by what comes back and by what regions and workloads saw, not by time:
//!   everything is polled under deadlines that only a broken sidecar meets.
//! - The first step that fails ends the tour, since the later ones build on it.
//! - `callers` are the steps about who gets in, `outbound` those about keeping a token fresh.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};

use super::Sidecar;
use super::call::Get;
use super::regions::{Addresses, Regions};
use super::say::Say;
use crate::clock::Clock;

mod answers;
mod callers;
mod outbound;
mod page;

use page::{Page, conclude};

/// How often is looked again.
const POLL: Duration = Duration::from_millis(200);

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
pub(super) struct Tour<'a> {
    regions: &'a Regions,
    at: &'a Addresses,
    sidecar: &'a Sidecar,
    pace: Pace,
    clock: Clock,
}

/// What a step found: evidence that it held, or what went wrong.
type Found = Result<String, String>;

impl Tour<'_> {
    /// A tour of this sidecar, which was started for these regions.
    pub(super) fn new<'a>(
        regions: &'a Regions,
        at: &'a Addresses,
        sidecar: &'a Sidecar,
        pace: Pace,
    ) -> Tour<'a> {
        Tour {
            regions,
            at,
            sidecar,
            pace,
            clock: Clock::system(),
        }
    }

    /// Walks through all of it, and says whether every step held.
    pub(super) async fn run<W: Write>(&self, say: &mut Say<W>) -> bool {
        say.block(&format!(
            "\
A program calls outbound (port {}), which is logged in as alice. Outbound
calls inbound (port {}), which lets in whoever brings a token that it
trusts. Behind that is a workload (port {}), which knows nothing of tokens.
Access tokens live {} s here; refresh tokens rotate, without grace.",
            self.sidecar.outbound.port(),
            self.sidecar.inbound.port(),
            self.at.workload.port(),
            self.pace.access_lifetime.as_secs(),
        ));
        say.line("");
        let held = self.steps(say).await;
        self.regions.home.up();
        say.line(if held {
            "All seven steps held."
        } else {
            "The tour ends here: the step above failed."
        });
        held
    }

    async fn steps<W: Write>(&self, say: &mut Say<W>) -> bool {
        say.line("1. A program that knows nothing of tokens calls localhost.");
        let found = self.circle(say).await;
        if !conclude(say, found) {
            return false;
        }
        say.line("2. Only an access token that nobody has changed gets in.");
        let found = self.impostors(say).await;
        if !conclude(say, found) {
            return false;
        }
        say.line("3. Users of other regions come.");
        let found = self.federation(say).await;
        if !conclude(say, found) {
            return false;
        }
        say.line("4. Some paths need no token, and some a token that says more.");
        let found = self.rules(say).await;
        if !conclude(say, found) {
            return false;
        }
        say.line("5. The access token is refreshed before it expires.");
        let found = self.refresh(say).await;
        if !conclude(say, found) {
            return false;
        }
        say.line("6. The access token is revoked before its time.");
        let found = self.revocation(say).await;
        if !conclude(say, found) {
            return false;
        }
        say.line("7. The home region goes away, and comes back.");
        let found = self.outage(say).await;
        conclude(say, found)
    }

    /// What the program asks, again and again: all the way round.
    fn program(&self) -> Get<'static> {
        Get::new(self.sidecar.outbound, "/whoami")
    }

    /// A caller of inbound, without a token so far.
    fn caller(&self, path: &'static str) -> Get<'static> {
        Get::new(self.sidecar.inbound, path)
    }

    async fn ask(&self) -> Result<Response<Bytes>, String> {
        self.program().send().await
    }

    /// Asks until the answer is another one than 503: keys and tokens are still being fetched.
    async fn ready(&self, get: &Get<'_>) -> Result<Response<Bytes>, String> {
        let mut waited = Duration::ZERO;
        loop {
            let answer = get.send().await?;
            if answer.status() != StatusCode::SERVICE_UNAVAILABLE || waited > self.pace.patience {
                return Ok(answer);
            }
            tokio::time::sleep(POLL).await;
            waited += POLL;
        }
    }
}
