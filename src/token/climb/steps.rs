//! One rung tried: a refresh token, a password, or an access token as it stands in a source.

use std::time::Duration;

use super::{Climb, Granted, Outcome, Step};
use crate::clock::Boot;
use crate::compact::{self, UnverifiedClaims};
use crate::region::{AccessToken, Error, Tokens};
use crate::secret::Secret;
use crate::token::Answer;
use crate::token::exchange::{self, Ended};
use crate::token::schedule::USELESS_FLOOR;
use crate::token::source::{Offer, Rung};

impl Climb {
    /// Tries what rung `at` offers.
    pub(super) async fn step(&mut self, at: usize) -> Step {
        match self.ladder.sources[at].offer.clone() {
            None => Step::Again,
            Some(Offer::Refresh(_)) => self.refresh(at).await,
            Some(Offer::Password { email, password }) => self.log_in(at, &email, &password).await,
            Some(Offer::Access(secret, claims)) => self.take(at, secret, claims),
        }
    }

    async fn refresh(&mut self, at: usize) -> Step {
        let user = self.user.clone().filter(|_| !self.any_user);
        let ended = exchange::refresh(
            &mut self.stores[at],
            &mut self.ladder,
            at,
            &*self.login,
            &self.clock,
            user.as_deref(),
            &self.spending,
        )
        .await;
        match ended {
            Ended::Changed => Step::Again,
            Ended::Transient {
                what,
                retry_after,
                floor,
            } => self.passing(at, what, retry_after, floor),
            Ended::Refused { token, what } => Step::Refused {
                what: token,
                why: what,
            },
            Ended::OtherUser { token, what } => Step::NotTaken {
                what: token,
                why: what,
            },
            Ended::Granted {
                tokens,
                sent,
                refresh,
                rotated,
            } => {
                if rotated && self.ladder.sources[at].rung == Rung::CoreConf {
                    self.say_the_sdks_token_is_spent(at);
                }
                let renews = self.stores[at].rotates == Some(true);
                self.granted(at, tokens, sent, Some(&refresh), renews)
            }
        }
    }

    /// With a password: its own refresh token while that lasts, else a login.
    async fn log_in(&mut self, at: usize, email: &str, password: &Secret) -> Step {
        let what = Offer::Password {
            email: email.to_owned(),
            password: password.clone(),
        }
        .digest();
        if let Some((grew_from, session)) = self.session.take()
            && grew_from == what
        {
            let sent = self.clock.boot();
            match within(self.login.refresh(&session)).await {
                Ok(tokens) => {
                    let next = tokens.refresh.clone().unwrap_or(session);
                    self.session = Some((what, next.clone()));
                    return self.granted(at, tokens, sent, Some(&next), true);
                }
                Err(Error::Transient {
                    what: why,
                    retry_after,
                }) => {
                    self.session = Some((what, session));
                    return self.passing(at, why, retry_after, Duration::ZERO);
                }
                Err(Error::Useless { what: why, refresh }) => {
                    self.session = Some((what, refresh.unwrap_or(session)));
                    return self.passing(at, why, None, USELESS_FLOOR);
                }
                Err(Error::Refused { .. }) => {
                    tracing::info!("the login's refresh token is over: logging in again");
                }
            }
        }
        let sent = self.clock.boot();
        match within(self.login.log_in(email, password)).await {
            Ok(tokens) => {
                let refresh = tokens.refresh.clone();
                self.session = refresh.clone().map(|refresh| (what, refresh));
                self.granted(at, tokens, sent, refresh.as_ref(), true)
            }
            Err(Error::Transient { what, retry_after }) => {
                self.passing(at, what, retry_after, Duration::ZERO)
            }
            Err(Error::Useless { what: why, refresh }) => {
                self.session = refresh.map(|refresh| (what, refresh));
                self.passing(at, why, None, USELESS_FLOOR)
            }
            Err(Error::Refused { code, what: text }) => Step::Refused {
                what,
                why: format!("the region refused it ({code}): {text}"),
            },
        }
    }

    /// An access token as it stands in a source.
    fn take(&mut self, at: usize, secret: Secret, claims: UnverifiedClaims) -> Step {
        let user = self.user.clone().filter(|_| !self.any_user);
        if let Err(why) = exchange::check_user(&secret, user.as_deref()) {
            return Step::NotTaken {
                what: secret.digest(),
                why,
            };
        }
        let left = self.access_left_s(&claims);
        let Ok(left) = u64::try_from(left) else {
            return Step::Again;
        };
        let now = self.clock.boot();
        let lifetime = Duration::from_secs(left);
        self.remember(at, &claims);
        Step::Done(Outcome::Granted(Granted {
            access: AccessToken {
                secret,
                claims,
                expires_at: now + lifetime,
                lifetime,
            },
            sent: now,
            rung: self.ladder.sources[at].rung,
            asked: false,
            renews: true,
            refresh_token_exp: None,
            skew_s: self.skew_s,
        }))
    }

    fn granted(
        &mut self,
        at: usize,
        tokens: Tokens,
        sent: Boot,
        refresh: Option<&Secret>,
        renews: bool,
    ) -> Step {
        let Tokens {
            access,
            clock_skew_s,
            ..
        } = tokens;
        let user = self.user.clone().filter(|_| !self.any_user);
        if let Err(why) = exchange::check_user(&access.secret, user.as_deref()) {
            let offer = self.ladder.sources[at].offer.as_ref();
            let what = match (offer, refresh) {
                (Some(Offer::Refresh(_)), Some(refresh)) => refresh.digest(),
                (Some(offer), _) => offer.digest(),
                (None, _) => access.secret.digest(),
            };
            return Step::NotTaken { what, why };
        }
        self.remember(at, &access.claims);
        self.skew_s = clock_skew_s.unwrap_or(self.skew_s);
        Step::Done(Outcome::Granted(Granted {
            access,
            sent,
            rung: self.ladder.sources[at].rung,
            asked: true,
            renews,
            refresh_token_exp: refresh
                .and_then(|token| compact::peek(token.expose()).ok())
                .and_then(|claims| claims.exp),
            skew_s: self.skew_s,
        }))
    }

    fn remember(&mut self, at: usize, claims: &UnverifiedClaims) {
        self.active = Some(at);
        self.refusals.retain(|refusal| refusal.rung != at);
        if self.user.is_none() || self.any_user {
            self.user.clone_from(&claims.user_id);
        }
    }

    fn passing(
        &self,
        at: usize,
        what: String,
        retry_after: Option<Duration>,
        floor: Duration,
    ) -> Step {
        let source = &self.ladder.sources[at];
        Step::Done(Outcome::Transient {
            what: format!("{what} (with {})", source.name),
            retry_after,
            floor,
        })
    }

    fn say_the_sdks_token_is_spent(&mut self, at: usize) {
        if self.spent_the_sdks.is_some() {
            return;
        }
        let text = format!(
            "{}: this region rotates refresh tokens, so using the SDK's own has spent it for the \
             SDK; run `regent login` to give Regent a login of its own, and log the SDK in again",
            self.ladder.sources[at].name
        );
        tracing::warn!("{text}");
        self.spent_the_sdks = Some(text);
    }
}

async fn within(call: Answer<'_, Tokens>) -> Result<Tokens, Error> {
    match tokio::time::timeout(exchange::CALL_LIMIT, call).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::Transient {
            what: format!("no answer within {} s", exchange::CALL_LIMIT.as_secs()),
            retry_after: None,
        }),
    }
}
