//! Keeping a token fresh: the steps about refresh, revocation and outage.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};

use super::answers::{as_alice, json, refused_for_now, succeeded};
use super::page::Progress;
use super::{Found, POLL, Page, Tour};
use crate::clock::Boot;
use crate::demo::call::Get;
use crate::demo::follow::line;
use crate::demo::region::{Call, Kind, Outage};
use crate::demo::say::Say;

/// How often the outage is tried again where this machine stalled for most of a token's life.
const STALLS: usize = 5;

impl Tour<'_> {
    pub(super) async fn refresh<W: Write>(&self, say: &mut Say<W>) -> Found {
        let old = self.token_in_use().await?;
        let seen = self.latest_call();
        say.line("   Waiting for it, with a request every now and then:");
        let mut requests = 0;
        let mut progress = Progress::new();
        loop {
            let new = self.token_in_use().await?;
            requests += 1;
            if new != old && !self.refreshes_after(seen).is_empty() {
                return Ok(format!(
                    "token {old} became {new}; {requests} requests meanwhile, none failed"
                ));
            }
            progress.tick(say, self.pace.patience, "no refresh came")?;
            tokio::time::sleep(POLL).await;
        }
    }

    pub(super) async fn revocation<W: Write>(&self, say: &mut Say<W>) -> Found {
        say.block(
            "   Inbound judges a token by itself, and takes this one until it expires. The
   route /api leads to an API that asks the region, and answers 401 now.",
        );
        let get = Get::new(self.sidecar.outbound, "/api/whoami");
        // A stalled machine may have left it without a token.
        succeeded(&self.ready(&get).await?)?;
        let seen = self.latest_call();
        if self.regions.home.revoke_all_access() == 0 {
            return Err("there was no access token to revoke".to_owned());
        }
        let answer = get.send().await?;
        say.exchange(&get, "", &answer);
        say.line("   What the API and the region saw:");
        for call in self.regions.home.calls_after(seen) {
            say.line(&format!("     {}", line("home", &call)));
        }
        succeeded(&answer)?;
        if json(&answer)["user"] != "alice" {
            return Err("answered, but not as alice".to_owned());
        }
        Ok("a new token and the same request again; the program noticed nothing".to_owned())
    }

    pub(super) async fn outage<W: Write>(&self, say: &mut Say<W>) -> Found {
        let before = self.refused_by_inbound().await?;
        self.region_leaves(say).await?;
        let (refused, after) = self.until_refused(say).await?;
        say.exchange(&self.program(), "", &refused);
        self.none_refused_since(before).await?;
        say.line(&format!(
            "   After {after} requests, the token is over; it was never sent again."
        ));
        self.regions.home.up();
        say.line("   The region is back. Nobody restarts anything:");
        let back = tokio::time::Instant::now();
        let mut progress = Progress::new();
        loop {
            let answer = self.ask().await?;
            if answer.status() == StatusCode::OK {
                as_alice(&answer)?;
                self.none_refused_since(before).await?;
                say.exchange(&self.program(), "", &answer);
                let seconds = back.elapsed().as_secs_f32();
                return Ok(format!("recovered by itself after {seconds:.1} s"));
            }
            refused_for_now(&answer)?;
            progress.tick(say, self.pace.backoff_patience, "it did not recover")?;
            tokio::time::sleep(POLL).await;
        }
    }

    /// Takes the region away while a token has most of its life before it, and sees a request
    /// succeed.
    async fn region_leaves<W: Write>(&self, say: &mut Say<W>) -> Result<(), String> {
        for _ in 0..STALLS {
            let valid_until = self.fresh_token(say).await?;
            self.regions.home.down(Outage::Refuse);
            let answer = self.ask().await?;
            if answer.status() == StatusCode::OK {
                say.line("   The region is away; the token is still good, and so is its key:");
                say.exchange(&self.program(), "", &answer);
                return as_alice(&answer);
            }
            if self.clock.boot() < valid_until {
                let status = answer.status();
                return Err(format!("{status} though the token was still good"));
            }
            say.line("   This machine slept through the token's life. Once more:");
            self.regions.home.up();
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

    /// Asks as alice, and says which of her tokens the workload was told of.
    async fn token_in_use(&self) -> Result<String, String> {
        let answer = self.ask().await?;
        as_alice(&answer)?;
        let token = json(&answer)["token"].as_str().map(str::to_owned);
        token.ok_or_else(|| "the workload was told of no token".to_owned())
    }

    /// Inbound refuses an expired token, so it counts one that was sent.
    async fn none_refused_since(&self, before: u64) -> Result<(), String> {
        match self.refused_by_inbound().await?.saturating_sub(before) {
            0 => Ok(()),
            count => Err(format!("inbound was sent {count} tokens that were no good")),
        }
    }

    async fn refused_by_inbound(&self) -> Result<u64, String> {
        let answer = Get::new(self.sidecar.admin, "/metrics").send().await?;
        let text = String::from_utf8_lossy(answer.body());
        let mut lines = (text.lines())
            .filter_map(|line| line.strip_prefix("regent_refused_total{side=\"inbound\","))
            .peekable();
        lines.peek().ok_or("inbound does not count its refusals")?;
        let counts = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        Ok(counts.sum())
    }

    pub(super) fn latest_call(&self) -> u64 {
        *self.regions.home.watch_calls().borrow()
    }

    pub(super) fn reached_workload_after(&self, number: u64) -> bool {
        let calls = self.regions.home.calls_after(number);
        calls.iter().any(|call| call.kind == Kind::Echo)
    }

    fn refreshes_after(&self, number: u64) -> Vec<Call> {
        let mut calls = self.regions.home.calls_after(number);
        calls.retain(|call| call.kind == Kind::Refresh && call.status == Some(StatusCode::OK));
        calls
    }
}
