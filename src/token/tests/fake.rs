//! A region without grace: real token shapes, rotation with a blacklist, faults by order, and a
//! log of the calls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::clock::{Boot, Clock};
use crate::compact;
use crate::files::faulty::Faulty;
use crate::region::{AccessToken, Error, Tokens};
use crate::secret::Secret;
use crate::token::{Answer, Login};

/// When tests begin. Seconds since the epoch.
pub(super) const START: i64 = 1_760_000_000;

/// What the region does with a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// Its work.
    Up,
    /// Fails in passing, doing nothing.
    Down { retry_after: Option<Duration> },
    /// Says nothing for ever, doing nothing.
    Silent,
    /// Does its work, and the answer is lost.
    LosesAnswers,
    /// Does its work, and the answer never comes.
    AnswersNever,
    /// Hands out access tokens that are over already.
    HandsOutOver,
    /// Does its work, and the access token in the answer is one that `region` refuses.
    HandsOutUseless,
    /// Answers 200 without a token, doing nothing.
    Tokenless,
}

pub(super) struct Inner {
    pub(super) mood: Mood,
    pub(super) rotates: bool,
    /// The same refresh token again in each answer.
    pub(super) echoes: bool,
    pub(super) latency: Duration,
    pub(super) lifetime_s: i64,
    pub(super) refresh_lifetime_s: i64,
    /// The good refresh tokens, and whose.
    pub(super) live: HashMap<String, String>,
    pub(super) passwords: HashMap<String, String>,
    /// When refresh calls and logins came.
    pub(super) calls: Vec<Boot>,
    pub(super) logins: usize,
    pub(super) verifies: usize,
    pub(super) committed: usize,
    in_flight: usize,
    pub(super) most_in_flight: usize,
    serial: u64,
    /// Every token ever made.
    pub(super) minted: Vec<String>,
    /// A process that has crashed sees no answers.
    pub(super) crashing: Option<Arc<Faulty>>,
}

pub(super) struct Fake {
    clock: Clock,
    origin: Boot,
    inner: Mutex<Inner>,
}

impl Fake {
    pub(super) fn new(clock: Clock) -> Fake {
        Fake {
            origin: clock.boot(),
            clock,
            inner: Mutex::new(Inner {
                mood: Mood::Up,
                rotates: false,
                echoes: false,
                latency: Duration::from_millis(5),
                lifetime_s: 300,
                refresh_lifetime_s: 30 * 86_400,
                live: HashMap::new(),
                passwords: HashMap::new(),
                calls: Vec::new(),
                logins: 0,
                verifies: 0,
                committed: 0,
                in_flight: 0,
                most_in_flight: 0,
                serial: 0,
                minted: Vec::new(),
                crashing: None,
            }),
        }
    }

    pub(super) fn with(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panics with it")
    }

    /// A new refresh token.
    pub(super) fn issue(&self, user: &str) -> String {
        let token = self.mint_refresh(user);
        self.with().live.insert(token.clone(), user.to_owned());
        token
    }

    /// An access token as somebody else would have got it.
    pub(super) fn access(&self, user: &str, lifetime_s: i64) -> String {
        self.mint("access", user, lifetime_s)
    }

    pub(super) fn calls(&self) -> usize {
        self.with().calls.len()
    }

    pub(super) fn set(&self, mood: Mood) {
        self.with().mood = mood;
    }

    /// Kills every refresh token.
    pub(super) fn revoke_all(&self) {
        self.with().live.clear();
    }

    /// The region's own clock, which is right.
    fn unix(&self) -> i64 {
        let passed = self.clock.boot().since(self.origin).as_secs();
        START + i64::try_from(passed).expect("a test is short")
    }

    fn mint_refresh(&self, user: &str) -> String {
        let lifetime_s = self.with().refresh_lifetime_s;
        self.mint("refresh", user, lifetime_s)
    }

    fn mint(&self, kind: &str, user: &str, lifetime_s: i64) -> String {
        let serial = {
            let mut inner = self.with();
            inner.serial += 1;
            inner.serial
        };
        let iat = self.unix();
        let claims = format!(
            r#"{{"token_type":"{kind}","exp":{},"iat":{iat},"jti":"{serial:08}","user_id":"{user}-id","username":"{user}"}}"#,
            iat + lifetime_s
        );
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let token = format!(
            "{}.{}.{}",
            part(r#"{"alg":"RS256"}"#),
            part(&claims),
            part("signature")
        );
        self.with().minted.push(token.clone());
        token
    }

    fn grant(&self, user: &str, sent: Boot, refresh: Option<String>) -> Tokens {
        let lifetime_s = self.with().lifetime_s;
        let over = self.with().mood == Mood::HandsOutOver;
        let secret = Secret::new(self.mint("access", user, lifetime_s));
        let lifetime = Duration::from_secs(u64::try_from(lifetime_s).expect("positive"));
        let usable = if over {
            Duration::ZERO
        } else {
            lifetime - Duration::from_secs(1)
        };
        Tokens {
            access: AccessToken {
                claims: compact::peek(secret.expose()).expect("our own"),
                secret,
                expires_at: sent + usable,
                lifetime,
            },
            refresh: refresh.map(Secret::new),
            clock_skew_s: Some(self.unix() - self.clock.unix()),
        }
    }

    /// The mood decides before the work is done, and after it.
    async fn call(
        &self,
        login: bool,
        work: impl Fn(&mut Inner) -> Result<(String, Option<String>), Error> + Send,
    ) -> Result<Tokens, Error> {
        let sent = self.clock.boot();
        let (latency, mood) = {
            let mut inner = self.with();
            inner.calls.push(sent);
            inner.logins += usize::from(login);
            inner.in_flight += 1;
            inner.most_in_flight = inner.most_in_flight.max(inner.in_flight);
            (inner.latency, inner.mood.clone())
        };
        let _flight = Flight(self);
        let crashed = || {
            let crashing = self.with().crashing.clone();
            crashing.is_some_and(|files| files.crashed())
        };
        if crashed() || mood == Mood::Silent {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(latency / 2).await;
        if let Mood::Down { retry_after } = mood {
            return Err(transient(retry_after));
        }
        if mood == Mood::Tokenless {
            return Err(useless(None));
        }
        let (user, refresh) = {
            let mut inner = self.with();
            let done = work(&mut inner)?;
            inner.committed += usize::from(done.1.is_some());
            done
        };
        tokio::time::sleep(latency / 2).await;
        match mood {
            Mood::LosesAnswers => Err(transient(None)),
            Mood::HandsOutUseless => Err(useless(refresh.map(Secret::new))),
            Mood::AnswersNever => std::future::pending().await,
            _ => Ok(self.grant(&user, sent, refresh)),
        }
    }
}

struct Flight<'a>(&'a Fake);

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.0.with().in_flight -= 1;
    }
}

fn transient(retry_after: Option<Duration>) -> Error {
    Error::Transient {
        what: "the region is away".to_owned(),
        retry_after,
    }
}

fn useless(refresh: Option<Secret>) -> Error {
    Error::Useless {
        what: "the answer holds no access token that can be used".to_owned(),
        refresh,
    }
}

impl Login for Fake {
    fn log_in<'a>(&'a self, email: &'a str, password: &'a Secret) -> Answer<'a, Tokens> {
        let next = self.mint_refresh(email);
        Box::pin(async move {
            self.call(true, |inner| {
                if inner.passwords.get(email).map(String::as_str) != Some(password.expose()) {
                    return Err(Error::Refused {
                        code: "no_active_account".to_owned(),
                        what: "No active account found with the given credentials".to_owned(),
                    });
                }
                inner.live.insert(next.clone(), email.to_owned());
                Ok((email.to_owned(), Some(next.clone())))
            })
            .await
        })
    }

    fn refresh<'a>(&'a self, token: &'a Secret) -> Answer<'a, Tokens> {
        Box::pin(async move {
            let user = self
                .with()
                .live
                .get(token.expose())
                .cloned()
                .unwrap_or_default();
            let next = self.mint_refresh(&user);
            self.call(false, |inner| {
                let Some(user) = inner.live.get(token.expose()).cloned() else {
                    return Err(Error::Refused {
                        code: "token_not_valid".to_owned(),
                        what: "Token is blacklisted".to_owned(),
                    });
                };
                if inner.rotates {
                    inner.live.remove(token.expose());
                    inner.live.insert(next.clone(), user.clone());
                    return Ok((user, Some(next.clone())));
                }
                Ok((user, inner.echoes.then(|| token.expose().to_owned())))
            })
            .await
        })
    }

    fn verify<'a>(&'a self, token: &'a Secret) -> Answer<'a, ()> {
        Box::pin(async move {
            self.with().verifies += 1;
            if self.with().mood != Mood::Up {
                return Err(transient(None));
            }
            if self.with().live.contains_key(token.expose()) {
                return Ok(());
            }
            Err(Error::Refused {
                code: "token_not_valid".to_owned(),
                what: "Token is blacklisted".to_owned(),
            })
        })
    }
}
