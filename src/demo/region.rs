//! The embedded region: logs users in, rotates refresh tokens, and guards an echo API.
//!
//! - Answers, bodies and codes are those of djangorestframework-simplejwt 5.5.1 behind Django's
//!   `APPEND_SLASH`, JSON renderer only; no multipart forms, and its own words for broken JSON.
//! - One RS256 key signs both kinds of token. It is made at run time and never leaves memory. Its
//!   public half is also at [`KEYS`], which simplejwt has not.
//! - With rotation and blacklist on there is no grace: a refresh token is dead the moment its
//!   answer exists, whether or not that answer arrives.
//! - Time comes from the [`Clock`] it was given, so paused tests work and a skew can be played.
//! - All state sits behind one mutex in the [`Region`]; a clone is another handle on it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderName, StatusCode};
use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::clock::{Boot, Clock};
use crate::compact;
use crate::secret::{Digest, Secret};

mod answer;
mod auth;
mod body;
mod echo;
mod fault;
mod fields;
mod serve;
mod sign;
#[cfg(test)]
mod tests;
mod workload;

pub use answer::{Received, Reply};
pub use body::Body;
pub use fault::{Fault, Outage};
pub use serve::{CALL_LIMIT, Part, Server};
pub use sign::{KeyUnavailable, SigningKey};

/// Where the region's JWK set is.
pub const KEYS: &str = "/.well-known/jwks.json";

/// The most calls that the log keeps; older ones are only counted.
pub const LOG_LIMIT: usize = 50_000;

/// What a region's admin configures. All of it may be changed at run time by [`Region::change`].
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long an access token is good for; whole seconds.
    pub access_lifetime: Duration,
    /// How long a refresh token is good for; whole seconds.
    pub refresh_lifetime: Duration,
    /// `ROTATE_REFRESH_TOKENS`: a refresh hands out a new refresh token too.
    pub rotate: bool,
    /// `BLACKLIST_AFTER_ROTATION`: the old one is dead from then on.
    pub blacklist_after_rotation: bool,
    /// The claim `iss`; none where absent.
    pub issuer: Option<String>,
    /// Who can log in.
    pub users: Vec<User>,
    /// Further claims of every token, as an admin may add them.
    pub extra_claims: Map<String, Value>,
    /// `no_active_account` as `code` in the answer to a refused login. simplejwt 5.5.1 sends none.
    pub login_code: bool,
    /// How long an answer is under way. What it says is committed before that.
    pub latency: Duration,
    /// The protected API takes valid access tokens; with `false` it refuses all of them.
    pub accept_access: bool,
}

impl Default for Settings {
    /// simplejwt's own defaults, with rotation and blacklist on, and the user `alice`.
    fn default() -> Settings {
        Settings {
            access_lifetime: Duration::from_secs(300),
            refresh_lifetime: Duration::from_secs(86_400),
            rotate: true,
            blacklist_after_rotation: true,
            issuer: Some("iss.my_company.com".to_owned()),
            users: vec![User::new("1", "alice", "alice@example.com", "wonderland")],
            extra_claims: Map::new(),
            login_code: false,
            latency: Duration::ZERO,
            accept_access: true,
        }
    }
}

/// Somebody who can log in.
#[derive(Clone, Debug)]
pub struct User {
    /// The claim `user_id`: a string, or a number where the admin chose so.
    pub user_id: Value,
    /// The claim `username`.
    pub username: String,
    /// What they log in with.
    pub email: String,
    /// What they log in with.
    pub password: Secret,
    /// Whether they may.
    pub active: bool,
    /// Further claims of this user's tokens.
    pub claims: Map<String, Value>,
}

impl User {
    /// An active user.
    #[must_use]
    pub fn new(user_id: &str, username: &str, email: &str, password: &str) -> User {
        User {
            user_id: Value::from(user_id),
            username: username.to_owned(),
            email: email.to_owned(),
            password: Secret::from(password),
            active: true,
            claims: Map::new(),
        }
    }

    /// The same with a claim more.
    #[must_use]
    pub fn with_claim(mut self, name: &str, value: impl Into<Value>) -> User {
        self.claims.insert(name.to_owned(), value.into());
        self
    }
}

/// What a call asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `console/api/auth/`
    Login,
    /// `console/api/auth/refresh/`
    Refresh,
    /// `console/api/auth/verify/`
    Verify,
    /// Anything else under `console/api/auth`, its paths without the slash among it.
    Astray,
    /// The protected API.
    Api,
    /// The JWK set, at [`KEYS`].
    Keys,
    /// The workload that stands behind a sidecar.
    Echo,
}

/// One call, as it was answered.
#[derive(Clone, Debug)]
pub struct Call {
    /// Counts from 1, over the whole log.
    pub number: u64,
    /// What it asked for.
    pub kind: Kind,
    /// The method, as it came.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// `None` where no answer was sent.
    pub status: Option<StatusCode>,
    /// When it came.
    pub at: Boot,
    /// The refresh token, the token to verify, or the Bearer token that came with it.
    pub token: Option<Digest>,
    /// The names of its headers, in the order of the map.
    pub header_names: Vec<HeaderName>,
}

/// A region. Cheap to clone; a clone is another handle on the same one.
#[derive(Clone, Debug)]
pub struct Region(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    key: SigningKey,
    clock: Clock,
    outage: watch::Sender<Option<Outage>>,
    call_count: watch::Sender<u64>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    settings: Settings,
    /// Faults that are still to come, in order.
    faults: Vec<Planned>,
    /// `jti` of dead refresh tokens.
    blacklist: HashSet<String>,
    /// `jti` of access tokens that have not expired, with their `exp`.
    outstanding: HashMap<String, i64>,
    /// `jti` of access tokens that the protected API refuses.
    revoked: HashSet<String>,
    calls: VecDeque<Call>,
    counts: HashMap<Kind, u64>,
}

#[derive(Debug)]
struct Planned {
    /// `None`: any call of the auth API.
    kind: Option<Kind>,
    left: u32,
    fault: Fault,
}

impl Region {
    /// A region that is up.
    #[must_use]
    pub fn new(key: SigningKey, settings: Settings, clock: Clock) -> Region {
        Region(Arc::new(Inner {
            key,
            clock,
            outage: watch::Sender::new(None),
            call_count: watch::Sender::new(0),
            state: Mutex::new(State {
                settings,
                faults: Vec::new(),
                blacklist: HashSet::new(),
                outstanding: HashMap::new(),
                revoked: HashSet::new(),
                calls: VecDeque::new(),
                counts: HashMap::new(),
            }),
        }))
    }

    /// Changes what the admin configured, from the next call on.
    pub fn change(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.state().settings);
    }

    /// The email and the password of every user.
    #[must_use]
    pub fn logins(&self) -> Vec<(String, Secret)> {
        let login = |user: &User| (user.email.clone(), user.password.clone());
        self.state().settings.users.iter().map(login).collect()
    }

    /// The `iss` of its tokens; empty where they have none.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.state().settings.issuer.clone().unwrap_or_default()
    }

    /// The public key as a PEM, for verifiers.
    #[must_use]
    pub fn public_key_pem(&self) -> String {
        self.0.key.public_pem()
    }

    /// The public key as a JWK set, for verifiers.
    #[must_use]
    pub fn public_key_set(&self) -> String {
        self.0.key.public_key_set()
    }

    /// A token with any claims at all, signed by the region's key.
    #[must_use]
    pub fn sign(&self, claims: &Value) -> Secret {
        self.0.key.sign(claims)
    }

    /// A new refresh token of this user, as a login would hand it out; `None` for nobody's email.
    #[must_use]
    pub fn issue_refresh(&self, email: &str) -> Option<Secret> {
        self.issue(email, false)
    }

    /// A new access token of this user, as a refresh would hand it out; `None` for nobody's email.
    #[must_use]
    pub fn issue_access(&self, email: &str) -> Option<Secret> {
        self.issue(email, true)
    }

    /// The next `n` calls of the auth API meet `fault`, after those planned before.
    pub fn fail_next(&self, n: u32, fault: Fault) {
        self.plan(None, n, fault);
    }

    /// The next `n` calls of this kind meet `fault`, after those planned before.
    pub fn fail_next_of(&self, kind: Kind, n: u32, fault: Fault) {
        self.plan(Some(kind), n, fault);
    }

    /// Forgets the faults that are still to come.
    pub fn clear_faults(&self) {
        self.state().faults.clear();
    }

    /// Takes the region away, from sockets and in process; connections to it break. Servers of
    /// [`Part::Workload`] and [`Part::Echo`] stay.
    pub fn down(&self, outage: Outage) {
        self.0.outage.send_replace(Some(outage));
    }

    /// Brings the region back.
    pub fn up(&self) {
        self.0.outage.send_replace(None);
    }

    /// The protected API refuses this access token from now on. Takes the token or its `jti`.
    pub fn revoke_access(&self, token_or_jti: &str) {
        let jti = jti_of(token_or_jti);
        self.state().revoked.insert(jti);
    }

    /// The protected API refuses every access token handed out until now. Says how many are still
    /// within their lifetime.
    pub fn revoke_all_access(&self) -> usize {
        let now = self.0.clock.unix();
        let mut state = self.state();
        state.outstanding.retain(|_, exp| *exp > now);
        let jtis: Vec<String> = state.outstanding.keys().cloned().collect();
        let count = jtis.len();
        state.revoked.extend(jtis);
        count
    }

    /// Blacklists a refresh token. Takes the token or its `jti`.
    pub fn revoke_refresh(&self, token_or_jti: &str) {
        let jti = jti_of(token_or_jti);
        self.state().blacklist.insert(jti);
    }

    /// The calls so far, oldest first, of which the log keeps [`LOG_LIMIT`].
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.calls_after(0)
    }

    /// The calls that came after call `number`.
    #[must_use]
    pub fn calls_after(&self, number: u64) -> Vec<Call> {
        let state = self.state();
        let oldest = state.calls.front().map_or(0, |call| call.number);
        let known = (number + 1).saturating_sub(oldest);
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        state.calls.iter().skip(known).cloned().collect()
    }

    /// How many calls of this kind there were.
    #[must_use]
    pub fn count(&self, kind: Kind) -> u64 {
        self.state().counts.get(&kind).copied().unwrap_or(0)
    }

    /// The number of the latest call, to wait for further ones.
    #[must_use]
    pub fn watch_calls(&self) -> watch::Receiver<u64> {
        self.0.call_count.subscribe()
    }

    fn plan(&self, kind: Option<Kind>, left: u32, fault: Fault) {
        self.state().faults.push(Planned { kind, left, fault });
    }

    fn issue(&self, email: &str, access: bool) -> Option<Secret> {
        let mut state = self.state();
        let user = state.user_by_email(email)?.clone();
        let now = self.0.clock.unix();
        let refresh = state.new_refresh(&user, now);
        let claims = if access {
            state.new_access(&refresh, now)
        } else {
            refresh
        };
        Some(self.0.key.sign(&claims))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is whole before anything in it can panic.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn user_by_email(&self, email: &str) -> Option<&User> {
        self.settings.users.iter().find(|user| user.email == email)
    }

    fn user_by_id(&self, user_id: &Value) -> Option<&User> {
        let users = &mut self.settings.users.iter();
        users.find(|user| fields::as_text(&user.user_id) == fields::as_text(user_id))
    }
}

/// The `jti` of a token, or the text itself where it is none.
fn jti_of(token_or_jti: &str) -> String {
    match compact::peek(token_or_jti) {
        Ok(_) => sign::claims_of(token_or_jti)
            .and_then(|claims| claims.jti)
            .unwrap_or_default(),
        Err(_) => token_or_jti.to_owned(),
    }
}
