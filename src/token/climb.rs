//! One way up the ladder: the first rung that is not known to be dead, then the next.
//!
//! A refusal is remembered by what was refused, so the same is not asked twice; whatever changes
//! (the source, or the state that another process wrote) is something new and is tried.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::source::{Ladder, Offer, Rung, Trouble};
use super::state::Store;
use super::{Counters, Login, Settings};
use crate::clock::{Boot, Clock};
use crate::compact::UnverifiedClaims;
use crate::files::Layer;
use crate::region::AccessToken;
use crate::secret::{Digest, Secret};

mod steps;

/// The most rungs tried in one attempt, changes under our hands included.
const STEPS: usize = 16;
/// What is taken off an access token's own lifetime.
const MARGIN_S: i64 = 1;

/// How an attempt ended.
pub(super) enum Outcome {
    Granted(Granted),
    Transient {
        what: String,
        retry_after: Option<Duration>,
        /// Asking sooner is of no use.
        floor: Duration,
    },
    /// An access token that somebody else refreshes is over: its file may change any moment.
    Stale {
        what: String,
    },
    Refused {
        why: String,
    },
}

/// An access token, and what is known with it.
pub(super) struct Granted {
    pub(super) access: AccessToken,
    pub(super) sent: Boot,
    pub(super) rung: Rung,
    /// The region was asked, and asking again brings another; otherwise it was read from a source.
    pub(super) asked: bool,
    /// The refresh token is replaced, by rotation or with a password, before it ends.
    pub(super) renews: bool,
    pub(super) refresh_token_exp: Option<i64>,
    pub(super) skew_s: i64,
}

/// What was refused, on which rung.
pub(super) struct Refusal {
    rung: usize,
    what: Digest,
    why: String,
}

pub(super) struct Climb {
    login: Arc<dyn Login>,
    clock: Clock,
    counters: Arc<Counters>,
    spending: Arc<AtomicBool>,
    ladder: Ladder,
    /// One for each rung.
    stores: Vec<Store>,
    refusals: Vec<Refusal>,
    /// The rung that the present token came from.
    active: Option<usize>,
    /// The refresh token of a password login, and the password it came with.
    session: Option<(Digest, Secret)>,
    user: Option<String>,
    any_user: bool,
    skew_s: i64,
    news: bool,
    spent_the_sdks: Option<String>,
}

impl Climb {
    pub(super) fn new(
        settings: &Settings,
        login: Arc<dyn Login>,
        clock: Clock,
        files: Arc<dyn Layer>,
        counters: Arc<Counters>,
        spending: Arc<AtomicBool>,
    ) -> Climb {
        let Settings { region, credential } = settings;
        let ladder = Ladder::new(credential, region.as_ref(), Arc::clone(&files));
        let stores = ladder
            .sources
            .iter()
            .map(|source| {
                Store::new(
                    credential,
                    source.rung,
                    region.as_ref(),
                    Arc::clone(&files),
                    Arc::clone(&counters),
                )
            })
            .collect();
        Climb {
            login,
            clock,
            counters,
            spending,
            ladder,
            stores,
            refusals: Vec::new(),
            active: None,
            session: None,
            user: None,
            any_user: credential.allow_identity_change,
            skew_s: 0,
            news: false,
            spent_the_sdks: None,
        }
    }

    /// What is known of each rung's rotation, and whom it began as.
    pub(super) fn into_parts(self) -> (Vec<(Rung, Store)>, Option<String>) {
        let rungs = self.ladder.sources.iter().map(|source| source.rung);
        (rungs.zip(self.stores).collect(), self.user)
    }

    /// Takes over what another climb knew of the same rungs, and whom it began as.
    pub(super) fn inherit(&mut self, stores: Vec<(Rung, Store)>, user: Option<String>) {
        self.user = user;
        for (rung, before) in stores {
            let sources = &mut self.ladder.sources.iter();
            if let Some(at) = sources.position(|source| source.rung == rung) {
                self.stores[at].inherit(before);
            }
        }
    }

    /// Reads the sources again and writes what waits to be written. Says whether there is something
    /// to log in with that is better than what is in use, or anything at all while `parked`.
    pub(super) fn poll(&mut self, parked: bool) -> bool {
        let changed = self.ladder.poll();
        self.save_again();
        if parked {
            return self.first_open().is_some();
        }
        changed.is_some_and(|at| self.active.is_none_or(|active| at <= active))
    }

    /// Writes what waits to be written.
    pub(super) fn save_again(&mut self) {
        self.stores.iter_mut().for_each(Store::save_again);
    }

    /// The next attempt is for something new, not a repeated question.
    pub(super) fn asked_by_a_change(&mut self) {
        self.news = true;
    }

    pub(super) fn has_news(&self) -> bool {
        self.news
    }

    /// Whether the region, or we, said no to something that a rung offered.
    pub(super) fn has_refusals(&self) -> bool {
        !self.refusals.is_empty()
    }

    /// Everything may be asked once more. What was refused so far is handed out, to be put back
    /// where asking came to nothing.
    pub(super) fn forget_refusals(&mut self) -> Vec<Refusal> {
        std::mem::take(&mut self.refusals)
    }

    /// See [`Climb::forget_refusals`].
    pub(super) fn put_back(&mut self, refusals: Vec<Refusal>) {
        self.refusals = refusals;
    }

    /// Whether asking the region can replace the present token.
    pub(super) fn can_refresh(&self) -> bool {
        self.active
            .and_then(|at| self.ladder.sources[at].offer.as_ref())
            .is_some_and(|offer| !matches!(offer, Offer::Access(..)))
    }

    /// What is wrong though there may be a token: with the stores, with the rung in use, and with
    /// the rungs above it unless they are just not there.
    pub(super) fn degraded(&self) -> Vec<String> {
        let stores = self.stores.iter().flat_map(Store::troubles).cloned();
        let in_use = self.active.map_or(0, |active| active + 1);
        let sources = self.ladder.sources[..in_use].iter().enumerate();
        let sources = sources.filter_map(|(at, source)| {
            let refusal = self.refusals.iter().rfind(|refusal| refusal.rung == at);
            let why = match (refusal, &source.trouble) {
                (Some(refusal), _) => refusal.why.clone(),
                (None, Some(Trouble::Absent(_))) if self.active != Some(at) => return None,
                (None, Some(trouble)) => trouble.to_string(),
                (None, None) => return None,
            };
            Some(format!("{}: {why}", source.name))
        });
        stores
            .chain(sources)
            .chain(self.spent_the_sdks.clone())
            .collect()
    }

    /// One way up.
    pub(super) async fn up(&mut self) -> Outcome {
        self.news = false;
        for _ in 0..STEPS {
            let Some(at) = self.first_open() else {
                return self.nothing_left();
            };
            match self.step(at).await {
                Step::Done(outcome) => return outcome,
                Step::Refused { what, why } => {
                    self.counters.refresh_refused.fetch_add(1, Relaxed);
                    self.refuse(at, what, why);
                    self.ladder.poll();
                }
                Step::NotTaken { what, why } => self.refuse(at, what, why),
                Step::Again => {}
            }
        }
        Outcome::Transient {
            what: "the credentials keep changing while they are being used".to_owned(),
            retry_after: None,
            floor: Duration::ZERO,
        }
    }

    fn refuse(&mut self, rung: usize, what: Digest, why: String) {
        tracing::warn!(
            credential.rung = self.ladder.sources[rung].rung.key(),
            "{}: {why}",
            self.ladder.sources[rung].name
        );
        self.refusals
            .retain(|refusal| refusal.rung != rung || refusal.what != what);
        self.refusals.push(Refusal { rung, what, why });
        if self.refusals.len() > 4 * STEPS {
            self.refusals.remove(0);
        }
    }

    /// The highest rung with an offer that was not refused.
    fn first_open(&self) -> Option<usize> {
        (0..self.ladder.sources.len()).find(|at| {
            let Some(offer) = &self.ladder.sources[*at].offer else {
                return false;
            };
            let what = match offer {
                Offer::Refresh(token) => self.stores[*at].current(token).token.digest(),
                Offer::Access(_, claims) if self.access_left_s(claims) <= 0 => return false,
                offer => offer.digest(),
            };
            !self
                .refusals
                .iter()
                .any(|refusal| refusal.rung == *at && refusal.what == what)
        })
    }

    /// How long an access token from a source is good for, by our clock corrected by what the
    /// region's answers told of it. One without `exp` is as good as over.
    fn access_left_s(&self, claims: &UnverifiedClaims) -> i64 {
        let now = self.clock.unix() + self.skew_s;
        claims.exp.map_or(0, |exp| exp - now - MARGIN_S)
    }

    fn nothing_left(&self) -> Outcome {
        let sources = &self.ladder.sources;
        let stale = sources.iter().find(|source| {
            source.rung == Rung::AccessTokenFile && matches!(source.offer, Some(Offer::Access(..)))
        });
        if let Some(source) = stale
            && !self
                .refusals
                .iter()
                .any(|refusal| sources[refusal.rung].name == source.name)
        {
            return Outcome::Stale {
                what: format!("{}: {}", source.name, source.rung.is_over()),
            };
        }
        let mut whys = Vec::new();
        for (at, source) in sources.iter().enumerate() {
            let refusal = self.refusals.iter().rfind(|refusal| refusal.rung == at);
            let why = match (refusal, &source.trouble, &source.offer) {
                (Some(refusal), _, Some(_)) => {
                    format!("{}; {}", refusal.why, source.rung.remedy())
                }
                (_, Some(trouble), _) => trouble.to_string(),
                _ => source.rung.is_over(),
            };
            whys.push(format!("{}: {why}", source.name));
        }
        if whys.is_empty() {
            whys.push(
                "there is no credential; run `regent login`, or set `region.credential`".into(),
            );
        }
        Outcome::Refused {
            why: whys.join(". "),
        }
    }
}

/// How a try of one rung ended.
enum Step {
    Done(Outcome),
    /// The region said no.
    Refused {
        what: Digest,
        why: String,
    },
    /// We said no.
    NotTaken {
        what: Digest,
        why: String,
    },
    Again,
}
