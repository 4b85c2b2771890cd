//! The access token of an outbound request: waited for, judged again, replaced.
//!
//! 1. A request waits as long as waiting makes sense: while a token is under way, at most
//!    `outbound.token_wait`, and only as many at a time as the worker has places for.
//! 2. A token that ended while its request was not sent yet is never sent.
//! 3. It asks the token plane of the policy that the request runs under, and no other.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use tokio::time::Instant;

use super::respond::Refusal;
use super::worker::Worker;
use crate::clock::Boot;
use crate::reason::Reason;
use crate::token::{self, Now, Token};

/// Where the tokens of one policy come from.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The thread that waits.
    pub worker: &'a Worker,
    /// The policy's token plane.
    pub tokens: &'a token::Handle,
    /// The policy's epoch.
    pub epoch: u64,
    /// How long a request waits for a token that is under way.
    pub patience: Duration,
}

/// The token that a request was given.
#[derive(Clone, Copy)]
pub struct Bearer<'a> {
    /// When it ends.
    pub expires_at: Boot,
    /// Where a newer one may be.
    pub source: Source<'a>,
}

impl Bearer<'_> {
    /// Leaves a token that is good in the head, or puts a newer one there: connecting took time, and
    /// the token may have ended meanwhile.
    ///
    /// # Errors
    /// There is none that is good.
    pub async fn judge(self, headers: &mut HeaderMap) -> Result<(), Refusal> {
        if self.source.worker.clock.boot() < self.expires_at {
            return Ok(());
        }
        let Some(token) = self.source.wait().await? else {
            let why = "the config was read again while this request was being sent";
            return Err(unavailable(why, Duration::from_secs(1)));
        };
        headers.insert(AUTHORIZATION, token.bearer.clone());
        Ok(())
    }
}

impl Source<'_> {
    /// The next token that is good, until a reload comes. `None`: it has come.
    ///
    /// # Errors
    /// There is none, and it does not pay to wait for one.
    pub async fn wait(&self) -> Result<Option<Arc<Token>>, Refusal> {
        let Some(_place) = self.worker.wait() else {
            let refusal = Refusal::new(Reason::Overloaded, "too many requests wait for a token");
            return Err(refusal.retry_after(Duration::from_secs(1)));
        };
        let deadline = Instant::now() + self.patience;
        let mut states = self.tokens.watch();
        loop {
            let reloaded = self.worker.adopted.notified();
            if self.worker.view().policy.epoch != self.epoch {
                return Ok(None);
            }
            let state = Arc::clone(&states.borrow_and_update());
            match state.at(self.worker.clock.boot()) {
                Now::Ready(token) => return Ok(Some(token)),
                Now::Unavailable(after) => return Err(unavailable(&state.why(), after)),
                Now::Refused => return Err(Refusal::new(Reason::LoginRefused, state.why())),
                Now::Wait => self.tokens.demand(),
            }
            let why = tokio::select! {
                changed = states.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => "the token plane has ended",
                },
                () = reloaded => continue,
                () = tokio::time::sleep_until(deadline) => {
                    "the region has not answered yet (outbound.token_wait is over)"
                }
            };
            return Err(unavailable(why, Duration::from_secs(1)));
        }
    }

    /// A token that is newer than the one an upstream refused, where one can be had: it is there
    /// already, or one forced refresh brings it. During the cool-down the refusal is passed on at
    /// once, and so it is where too many wait already.
    pub async fn newer(&self, refused: u64) -> Option<Arc<Token>> {
        let mut states = self.tokens.watch();
        let first = Arc::clone(&states.borrow_and_update());
        let deadline = Instant::now() + self.patience;
        let mut state = Arc::clone(&first);
        let mut forced = false;
        let mut place = None;
        loop {
            let now = self.worker.clock.boot();
            match state.at(now) {
                Now::Ready(token) if token.generation > refused => return Some(token),
                _ if state.attempts > first.attempts => return None,
                _ if forced => {}
                _ if now < state.force_allowed_at => return None,
                _ => {
                    self.tokens.force(refused);
                    forced = true;
                }
            }
            if place.is_none() {
                place = Some(self.worker.wait()?);
            }
            let changed = tokio::time::timeout_at(deadline, states.changed()).await;
            changed.ok()?.ok()?;
            state = Arc::clone(&states.borrow_and_update());
        }
    }
}

fn unavailable(why: &str, after: Duration) -> Refusal {
    let text = format!("there is no valid access token: {why}");
    Refusal::new(Reason::NoAccessToken, text).retry_after(after)
}
