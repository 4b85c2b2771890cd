//! The task that keeps one access token fresh, and never ends by itself.
//!
//! It tries the ladder from the top, publishes what came of it, and sleeps in pieces of a few
//! seconds: deadlines are on a clock that runs through a laptop's sleep, timers are not. Between
//! attempts it reads the sources again and writes what could not be written before.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::watch;

use super::climb::{Climb, Granted, Outcome};
use super::schedule::{self, PARKED, POLL, RELOAD_FLOOR, USELESS_FLOOR};
use super::source::Rung;
use super::state::Store;
use super::{Counters, Deps, FORCE_COOLDOWN, Phase, Settings, State, Token, Wishes};
use crate::backoff;
use crate::clock::{Boot, Clock};

/// A refresh token that ends within this, and is not replaced by rotation, is warned of.
const ENDS_SOON_S: i64 = 24 * 3600;

/// The task; `app` spawns [`Task::run`] on the control plane.
pub struct Task {
    climb: Climb,
    clock: Clock,
    dice: fastrand::Rng,
    state: State,
    sender: watch::Sender<Arc<State>>,
    wishes: Arc<Wishes>,
    counters: Arc<Counters>,
    spending: Arc<AtomicBool>,
    /// The next attempt.
    due: Boot,
    /// The server's word: nothing is asked before this.
    not_before: Boot,
    polled: Boot,
    failures: u32,
    /// What the last attempt failed with, so that the same is not said every few seconds.
    said: Option<String>,
    asked_again: Boot,
    /// The last attempt that a reload brought about.
    reloaded: Option<Boot>,
    /// The last refresh token that was warned of as ending soon.
    warned_of_end: Option<i64>,
}

/// What a token plane leaves to the next one of the same region: rotated refresh tokens that may
/// stand in no file, the last access token, and whose they are.
#[derive(Debug, Default)]
pub struct Kept {
    stores: Vec<(Rung, Store)>,
    token: Option<Arc<Token>>,
    user: Option<String>,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Task {
    pub(super) fn new(
        settings: Settings,
        deps: Deps,
        sender: watch::Sender<Arc<State>>,
        wishes: Arc<Wishes>,
        counters: Arc<Counters>,
    ) -> Task {
        let state = State::clone(&sender.borrow());
        let spending = Arc::new(AtomicBool::new(false));
        Task {
            clock: deps.clock.clone(),
            dice: deps.dice,
            climb: Climb::new(
                &settings,
                deps.login,
                deps.clock,
                deps.files,
                Arc::clone(&counters),
                Arc::clone(&spending),
            ),
            state,
            sender,
            wishes,
            counters,
            spending,
            due: Boot::default(),
            not_before: Boot::default(),
            polled: Boot::default(),
            failures: 0,
            said: None,
            asked_again: Boot::default(),
            reloaded: None,
            warned_of_end: None,
        }
    }

    /// Takes over what the token plane before it knew. What is of another region is left alone.
    pub fn inherit(&mut self, kept: Kept) {
        self.climb.inherit(kept.stores, kept.user);
        let generation = |token: &Option<Arc<Token>>| token.as_ref().map(|token| token.generation);
        // One that came while this plane was being made.
        if generation(&kept.token) > generation(&self.state.token) {
            self.state.token = kept.token;
            self.publish();
        }
    }

    /// Runs until `shutdown` ends. A refresh that may rotate is finished and stored before that;
    /// it ends within the call's own limit. What could not be stored is tried once more.
    pub async fn run(mut self, shutdown: impl Future) -> Kept {
        self.keep_fresh(shutdown).await;
        let troubles = self.climb.degraded();
        self.climb.save_again();
        if self.climb.degraded() != troubles {
            self.publish();
        }
        let token = self.state.token.take();
        let (stores, user) = self.climb.into_parts();
        Kept {
            stores,
            token,
            user,
        }
    }

    async fn keep_fresh(&mut self, shutdown: impl Future) {
        let mut shutdown = pin!(shutdown);
        let spending = Arc::clone(&self.spending);
        let mut go = true;
        loop {
            if go {
                let mut attempt = pin!(self.attempt());
                tokio::select! {
                    biased;
                    () = &mut attempt => {}
                    _ = &mut shutdown => {
                        if spending.load(Relaxed) {
                            attempt.await;
                        }
                        return;
                    }
                }
            }
            let wishes = Arc::clone(&self.wishes);
            tokio::select! {
                biased;
                _ = &mut shutdown => return,
                () = wishes.noted() => go = self.heed(),
                () = tokio::time::sleep(self.pause()) => go = self.tick(),
            }
        }
    }

    fn pause(&self) -> Duration {
        let now = self.clock.boot();
        self.due.since(now).min(POLL)
    }

    /// Reads a reader's note; says whether to try now.
    fn heed(&mut self) -> bool {
        let now = self.clock.boot();
        if self.heed_reload(now) {
            return true;
        }
        let Some(token) = &self.state.token else {
            return self.is_due(now);
        };
        if now >= token.expires_at {
            // Waiters are told to wait while the phase is Working: then it is due now.
            return self.state.phase == Phase::Working || self.is_due(now);
        }
        if self.wishes.refused_generation() != token.generation || now < self.state.force_allowed_at
        {
            return false;
        }
        self.state.force_allowed_at = now + FORCE_COOLDOWN;
        if self.state.phase == Phase::Working && self.climb.can_refresh() {
            tracing::info!(
                token.generation = token.generation,
                "an upstream refused the access token: refreshing it"
            );
            return true;
        }
        // Back-off and a parked login stand; the waiter learns that nothing will come.
        self.state.attempts += 1;
        self.publish();
        false
    }

    /// After a reload what was refused is asked about again, but for the server's own word, and
    /// not more often than every few seconds; says whether to try now.
    fn heed_reload(&mut self, now: Boot) -> bool {
        let is_soon = self
            .reloaded
            .is_some_and(|last| now.since(last) < RELOAD_FLOOR);
        if !self.wishes.is_reloaded() || now < self.not_before || is_soon {
            return false;
        }
        self.wishes.heeded_reload();
        if self.state.phase == Phase::Working || !self.climb.has_refusals() {
            return false;
        }
        tracing::info!("the config was read again: logging in once more");
        self.reloaded = Some(now);
        self.climb.poll(false);
        self.climb.forget_refusals();
        self.climb.asked_by_a_change();
        true
    }

    /// A few seconds passed; says whether to try now.
    fn tick(&mut self) -> bool {
        let now = self.clock.boot();
        if self.heed_reload(now) {
            return true;
        }
        let due = self.is_due(now);
        if now.since(self.polled) < POLL {
            return due;
        }
        self.polled = now;
        let troubles = self.climb.degraded();
        let changed = self
            .climb
            .poll(matches!(self.state.phase, Phase::Parked { .. }));
        if changed && now >= self.not_before {
            tracing::info!("a credential changed: logging in with it");
            self.climb.asked_by_a_change();
            return true;
        }
        if troubles != self.climb.degraded() {
            self.publish();
        }
        due
    }

    fn is_due(&self, now: Boot) -> bool {
        now >= self.due
    }

    /// One attempt: the ladder from the top, and what comes of it published.
    async fn attempt(&mut self) {
        let parked = matches!(self.state.phase, Phase::Parked { .. });
        let probing = parked && !self.climb.has_news();
        let mut refusals = Vec::new();
        if probing {
            // Requests are still refused at once while an old refusal is asked about again.
            refusals = self.climb.forget_refusals();
        } else if self.state.phase != Phase::Working {
            self.state.phase = Phase::Working;
            self.publish();
        }
        let outcome = self.climb.up().await;
        let now = self.clock.boot();
        self.polled = now;
        match outcome {
            Outcome::Granted(granted) => self.grant(granted, now),
            Outcome::Transient {
                what,
                retry_after,
                floor,
            } => {
                self.counters.refresh_transient.fetch_add(1, Relaxed);
                if probing {
                    self.climb.put_back(refusals);
                    let told = retry_after.unwrap_or_default();
                    self.due = now + PARKED.max(told);
                    self.not_before = now + told;
                } else {
                    self.back_off(what, retry_after, floor, now);
                }
            }
            Outcome::Stale { what } => {
                // The next read of the file is the next attempt. What the region refused is asked
                // about again as often as if nothing else were there.
                self.due = now + POLL;
                if now.since(self.asked_again) >= PARKED {
                    self.asked_again = now;
                    self.climb.forget_refusals();
                }
                self.state.phase = Phase::BackingOff {
                    retry_at: now + POLL,
                    why: what.clone(),
                };
                self.warn(what);
            }
            Outcome::Refused { why } => {
                self.due = now + PARKED;
                self.state.phase = Phase::Parked { why: why.clone() };
                self.counters.login_refused.store(true, Relaxed);
                if self.said.as_ref() != Some(&why) {
                    tracing::error!("no login works: {why}");
                    self.said = Some(why);
                }
            }
        }
        self.state.attempts += 1;
        self.publish();
    }

    fn grant(&mut self, granted: Granted, now: Boot) {
        let Granted { access, sent, .. } = &granted;
        let (Some(bearer), false) = (access.secret.bearer(), access.expires_at <= now) else {
            self.counters.refresh_transient.fetch_add(1, Relaxed);
            let what = "the region's access token cannot be used: it was over when it came, or it \
                        cannot stand in a header; is the clock of the region right?";
            return self.back_off(what.to_owned(), None, USELESS_FLOOR, now);
        };
        let generation = self
            .state
            .token
            .as_ref()
            .map_or(0, |token| token.generation)
            + 1;
        let expires_in = access.expires_at.since(now);
        let usable = access.expires_at.since(*sent);
        self.due = match granted.asked {
            true => *sent + schedule::refresh_after(usable, generation == 1, self.dice.f64()),
            // Nobody refreshes it but its owner, whose change is seen by the polls.
            false => access.expires_at,
        };
        if granted.asked {
            self.counters.refresh_ok.fetch_add(1, Relaxed);
        }
        self.counters.login_refused.store(false, Relaxed);
        let unix = self.clock.unix() + granted.skew_s;
        let left = i64::try_from(expires_in.as_secs()).unwrap_or(i64::MAX);
        self.counters.clock_skew_s.store(granted.skew_s, Relaxed);
        self.counters.token_expiry_unix_s.store(
            access.claims.exp.unwrap_or(unix.saturating_add(left)),
            Relaxed,
        );
        self.note_end_of_refresh_token(&granted, unix);
        if generation == 1 || self.said.take().is_some() || self.failures > 0 {
            tracing::info!(
                token.expires_in_s = left,
                token.generation = generation,
                credential.rung = granted.rung.key(),
                "logged in"
            );
        } else {
            tracing::debug!(
                token.expires_in_s = left,
                token.generation = generation,
                "the access token is fresh"
            );
        }
        self.failures = 0;
        self.not_before = Boot::default();
        let claims = &access.claims;
        let user = claims.username.clone().or_else(|| claims.user_id.clone());
        self.state.phase = Phase::Working;
        self.state.token = Some(Arc::new(Token {
            secret: access.secret.clone(),
            bearer,
            expires_at: access.expires_at,
            generation,
            user: user.unwrap_or_default(),
        }));
    }

    fn note_end_of_refresh_token(&mut self, granted: &Granted, unix: i64) {
        let end = granted.refresh_token_exp;
        self.counters
            .refresh_token_expiry_unix_s
            .store(end.unwrap_or(0), Relaxed);
        let Some(end) = end.filter(|_| !granted.renews) else {
            return;
        };
        if end - unix < ENDS_SOON_S && self.warned_of_end != Some(end) {
            self.warned_of_end = Some(end);
            tracing::warn!(
                refresh_token.expires_in_s = end - unix,
                "the refresh token ends soon, and the region does not replace it: {}",
                granted.rung.remedy()
            );
        }
    }

    fn back_off(
        &mut self,
        what: String,
        retry_after: Option<Duration>,
        floor: Duration,
        now: Boot,
    ) {
        self.failures = self.failures.saturating_add(1);
        let wait = backoff::wait(self.failures, retry_after, self.dice.f64()).max(floor);
        self.due = now + wait;
        self.not_before = now + retry_after.unwrap_or_default();
        tracing::warn!(
            retry.after_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            retry.failures = self.failures,
            "no new access token: {what}"
        );
        self.said = Some(what.clone());
        self.state.phase = Phase::BackingOff {
            retry_at: now + wait,
            why: what,
        };
    }

    fn warn(&mut self, what: String) {
        if self.said.as_ref() != Some(&what) {
            tracing::warn!("{what}");
            self.said = Some(what);
        }
    }

    fn publish(&mut self) {
        let mut degraded = self.climb.degraded();
        match &self.state.phase {
            Phase::Working => {}
            Phase::BackingOff { why, .. } => degraded.push(format!("no new access token: {why}")),
            Phase::Parked { why } => degraded.push(format!("no login works: {why}")),
        }
        self.state.degraded = degraded;
        self.sender.send_replace(Arc::new(self.state.clone()));
    }
}
