//! The region's protocol, as `region.md` has it: log in, refresh, verify.
//!
//! Owns the paths, the form fields and the meaning of every answer: what may pass
//! ([`Error::Transient`]) and what is final ([`Error::Refused`]). A 401 is final only with the
//! region's own JSON in it; a firewall's page is not. A token's time is the region's own count
//! (`exp - iat`) from when the call was sent, so a wrong clock on either side does no harm.

mod answer;
pub mod core_conf;

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, header};
use tower::ServiceExt as _;
use url::Url;

use crate::clock::{Boot, Clock};
use crate::compact::UnverifiedClaims;
use crate::fetch;
use crate::secret::Secret;

/// An access token that a region has just handed out.
#[derive(Clone, Debug)]
pub struct AccessToken {
    /// The token.
    pub secret: Secret,
    /// What it says of itself.
    pub claims: UnverifiedClaims,
    /// When it must not be used any more: from when the call was sent, plus `exp - iat`, less a
    /// second.
    pub expires_at: Boot,
    /// How long it can be used, counted from when the call was sent: up to `expires_at`.
    pub lifetime: Duration,
}

impl AccessToken {
    /// Whose it is, for people: the username, else the user id.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        let claims = &self.claims;
        claims.username.as_deref().or(claims.user_id.as_deref())
    }
}

/// The answer to a login or a refresh.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// The access token.
    pub access: AccessToken,
    /// A refresh token that is not the one sent: after a login, and where rotation is on.
    pub refresh: Option<Secret>,
    /// The region's clock less ours, by its `Date` header. Seconds.
    pub clock_skew_s: Option<i64>,
}

/// Why there are no tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// It may pass: the network, the server, an answer that is not the region's.
    Transient {
        /// What happened, without a secret, a query or a body.
        what: String,
        /// The server's own word on when to come back, clamped to 1 s to 10 min.
        retry_after: Option<Duration>,
    },
    /// It may pass, as above: a 200 without an access token that can be used. Whoever asks again
    /// soon gets the same, and each answer may have spent a refresh token.
    Useless {
        /// What is wrong with the answer.
        what: String,
        /// The refresh token that came with it is good, and where the region rotates it is the only
        /// one that is: it replaces the one that was sent.
        refresh: Option<Secret>,
    },
    /// The region said no, for good: this credential is dead.
    Refused {
        /// The region's `code`, or `refused` where it sent none.
        code: String,
        /// What happened, for people.
        what: String,
    },
}

impl Error {
    /// Whether trying again may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        !matches!(self, Error::Refused { .. })
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Transient { what, .. }
            | Error::Useless { what, .. }
            | Error::Refused { what, .. } => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {}

/// What is asked of the region, and with it what a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    LogIn,
    Refresh,
    Verify,
}

impl Call {
    fn path(self) -> &'static str {
        match self {
            Call::LogIn => "auth/",
            Call::Refresh => "auth/refresh/",
            Call::Verify => "auth/verify/",
        }
    }
}

/// A region's auth API. Cheap to clone.
#[derive(Clone)]
pub struct Region {
    url: Url,
    shown: String,
    fetch: fetch::Service,
    clock: Clock,
}

impl std::fmt::Debug for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Region").field(&self.shown).finish()
    }
}

/// What stays the same while one answer is judged.
struct Asked<'a> {
    call: Call,
    /// The region as it may be shown.
    region: &'a str,
    url: &'a Url,
    /// What was sent that must not be seen again.
    secret: &'a Secret,
    sent_at: Boot,
    sent_unix: i64,
}

impl Region {
    /// The region whose API is under `<url>/console/api/`. Of the URL only scheme, host, port and
    /// path are used; whether it may be plain http is the config's business.
    #[must_use]
    pub fn new(url: Url, fetch: fetch::Service, clock: Clock) -> Region {
        Region {
            shown: fetch::without_query(&url).trim_end_matches('/').to_owned(),
            url,
            fetch,
            clock,
        }
    }

    /// The region's URL as it was given.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Trades an email and a password for tokens.
    ///
    /// # Errors
    /// [`Error::Refused`] where the region says that they are wrong.
    pub async fn log_in(&self, email: &str, password: &Secret) -> Result<Tokens, Error> {
        let form = vec![
            ("email", Secret::from(email)),
            ("password", password.clone()),
        ];
        self.tokens(Call::LogIn, form, password).await
    }

    /// Trades a refresh token for an access token. Where rotation is on the sent token is dead once
    /// the region has answered: this is never repeated here.
    ///
    /// # Errors
    /// [`Error::Refused`] where the region says that the token is dead.
    pub async fn refresh(&self, refresh: &Secret) -> Result<Tokens, Error> {
        let form = vec![("refresh", refresh.clone())];
        self.tokens(Call::Refresh, form, refresh).await
    }

    /// Asks whether a token, of either kind, is good. Spends nothing.
    ///
    /// # Errors
    /// [`Error::Refused`] where it is not.
    pub async fn verify(&self, token: &Secret) -> Result<(), Error> {
        let form = vec![("token", token.clone())];
        let (url, request) = self.request(Call::Verify, form);
        let asked = self.asked(Call::Verify, &url, token);
        let response = self.send(request).await?;
        answer::verified(&asked, &response)
    }

    async fn tokens(
        &self,
        call: Call,
        form: Vec<(&'static str, Secret)>,
        secret: &Secret,
    ) -> Result<Tokens, Error> {
        let (url, request) = self.request(call, form);
        let asked = self.asked(call, &url, secret);
        let response = self.send(request).await?;
        answer::tokens(&asked, &response, self.clock.unix())
    }

    fn asked<'a>(&'a self, call: Call, url: &'a Url, secret: &'a Secret) -> Asked<'a> {
        Asked {
            call,
            region: &self.shown,
            url,
            secret,
            sent_at: self.clock.boot(),
            sent_unix: self.clock.unix(),
        }
    }

    fn request(&self, call: Call, form: Vec<(&'static str, Secret)>) -> (Url, fetch::Request) {
        let url = self.api(call);
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let request = fetch::Request {
            method: Method::POST,
            url: url.clone(),
            headers,
            form,
            public_only: false,
        };
        (url, request)
    }

    fn api(&self, call: Call) -> Url {
        let prefix = self.url.path().trim_end_matches('/');
        let mut url = self.url.clone();
        url.set_path(&format!("{prefix}/console/api/{}", call.path()));
        url.set_query(None);
        url.set_fragment(None);
        // These fail for URLs without a host, which hold neither.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url
    }

    async fn send(&self, request: fetch::Request) -> Result<fetch::Response, Error> {
        self.fetch
            .clone()
            .oneshot(request)
            .await
            .map_err(|error| Error::Transient {
                what: format!("no answer from the region at {}: {error}", self.shown),
                retry_after: None,
            })
    }
}

#[cfg(test)]
mod tests;
