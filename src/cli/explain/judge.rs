//! The decision, by the code that a request runs through, with somebody listening.
//!
//! The order is a request's: the path's rule, the one Bearer token, the verdict, the identity
//! headers, the list of revoked tokens, and last what the rule wants of the claims. Only a list that
//! nobody could read is told after what is wrong with the token itself, which stays wrong.

use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use serde_json::Value;

use super::advice::{Case, advice};
use super::claim::one_of;
use super::explanation::{Explanation, Rule as Met, Told};
use super::listener::Listener;
use super::words::{quoted, shown, value};
use crate::compact::Jws;
use crate::config;
use crate::jwt::Rejection;
use crate::jwt::algorithm::Algorithm;
use crate::jwt::issuers::{Issuer, Issuers, Requirement};
use crate::jwt::key_set::KeySet;
use crate::jwt::keys::{Keys, Snapshot};
use crate::jwt::list;
use crate::jwt::revoked::{Revoked, Subject};
use crate::jwt::verifier::{Now, Verified, verify, verify_signature_only};
use crate::proxy::headers::Seen;
use crate::proxy::identity::Unsafe;
use crate::proxy::inbound::{self, Asked, Inbound, Rule, bearer};
use crate::proxy::paths::Match;
use crate::proxy::verdict::{REVOKED, UNREAD};
use crate::reason::Reason;

/// A compiled config, its words and its keys.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    /// What requests are judged by.
    pub inbound: &'a Inbound,
    /// Its rules as the config has them, in the same order.
    pub rules: &'a [config::inbound::Rule],
    /// The keys.
    pub keys: &'a Snapshot,
    /// The list of revoked tokens; `None`: the config names none.
    pub revocations: Option<&'a list::State<Revoked>>,
}

/// Judges a token by a config.
#[must_use]
pub fn by_config(
    token: &[u8],
    table: Table<'_>,
    asked: Option<Asked<'_>>,
    now: Now,
) -> Explanation {
    let inbound = table.inbound;
    let mut run = Run::new(token, Some(&inbound.issuers), now);
    if inbound.shadow {
        let note = "inbound.insecure_shadow_mode is on: what is rejected here is forwarded all the \
                    same, without an identity";
        run.listener.notes.push(note.to_owned());
    }
    let rule = match asked {
        Some(asked) => match inbound.rule(asked) {
            Ok(rule) => run.meet(asked, rule, table),
            Err(refusal) => {
                let text = format!("{}: {}", quoted(asked.path), refusal.detail);
                run.listener.tell(Told::new("path", false, text));
                return run.refused(refusal.reason, &refusal.detail);
            }
        },
        None => None,
    };
    match one_bearer(token) {
        Ok(()) => {}
        Err(_) if token.is_empty() && rule.is_some_and(|rule| rule.anonymous) => {
            let text = "none, and none is needed".to_owned();
            run.listener.tell(Told::new("token", true, text));
            return run.accepted(Some(Vec::new()));
        }
        Err(reason) => return run.no_bearer(reason),
    }
    let verdict = verify(token, &inbound.issuers, table.keys, now, &mut run.listener);
    match verdict {
        Ok(verified) => {
            run.note_what_is_open(&inbound.issuers, verified.issuer);
            if asked.is_none() && !table.rules.is_empty() {
                let note = "no rule was looked at: give --path, and --method where it is not GET";
                run.listener.notes.push(note.to_owned());
            }
            run.identify(table, rule, &verified)
        }
        Err(rejection) => {
            let place = rejection.issuer.and_then(|at| table.keys.issuers.get(at));
            run.trouble = place.and_then(|keys| keys.trouble.clone());
            run.rejected(&rejection)
        }
    }
}

/// Judges a token by keys alone: its signature, its times and that it is an access token.
#[must_use]
pub fn by_keys(token: &[u8], set: KeySet, now: Now) -> Explanation {
    let issuers = Issuers::new(vec![whoever(token)]);
    let keys = Snapshot::new(vec![Keys {
        set: Some(Arc::new(set)),
        stale_at: None,
        fetch_allowed_at: None,
        next_attempt_at: now.boot,
        attempts: 0,
        trouble: None,
    }]);
    let mut run = Run::new(token, None, now);
    run.good = "its signature, its times and its kind are good";
    let note = "the keys were given with --keys: the signature, the times and the kind of the token \
                are judged; its issuer, audience, algorithm and lifetime are taken as they are";
    run.listener.notes.push(note.to_owned());
    if let Err(reason) = one_bearer(token) {
        return run.no_bearer(reason);
    }
    match verify(token, &issuers, &keys, now, &mut run.listener) {
        Ok(_) => run.accepted(None),
        Err(rejection) => run.rejected(&rejection),
    }
}

/// Judges a signature, whatever it is over.
#[must_use]
pub fn by_signature(token: &[u8], set: &KeySet, now: Now) -> Explanation {
    let mut run = Run::new(token, None, now);
    run.good = "its signature is good";
    let note = "only the signature is judged: a request with this token may still be refused";
    run.listener.notes.push(note.to_owned());
    match verify_signature_only(token, set, &mut run.listener) {
        Ok(()) => run.accepted(None),
        Err(rejection) => run.rejected(&rejection),
    }
}

/// An issuer that takes what the token says of itself.
fn whoever(token: &[u8]) -> Issuer {
    let claims = Jws::parse(token).and_then(|jws| jws.claims());
    let iss = claims.as_ref().ok().and_then(|claims| claims.get("iss"));
    Issuer {
        name: "keys".to_owned(),
        issuer: iss.and_then(Value::as_str).unwrap_or_default().to_owned(),
        algorithms: Algorithm::ALL.into_iter().collect(),
        audiences: Vec::new(),
        token_types: vec!["access".to_owned()],
        leeway: Duration::from_secs(30),
        max_lifetime: Duration::MAX,
        required_claims: Vec::new(),
    }
}

/// As a request's header is read.
fn one_bearer(token: &[u8]) -> Result<(), Reason> {
    let mut headers = HeaderMap::new();
    if !token.is_empty() {
        let mut value = HeaderValue::from_bytes(&[b"Bearer ", token].concat())
            .map_err(|_| Reason::MalformedToken)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    bearer(&headers, Seen::scan(&headers)).map(drop)
}

/// One explanation in the making.
struct Run<'a> {
    token: &'a [u8],
    issuers: Option<&'a Issuers>,
    now: Now,
    listener: Listener,
    good: &'static str,
    met: Option<Met>,
    trouble: Option<String>,
}

impl<'a> Run<'a> {
    fn new(token: &'a [u8], issuers: Option<&'a Issuers>, now: Now) -> Run<'a> {
        Run {
            token,
            issuers,
            now,
            listener: Listener::new(now.unix_ms, issuers.is_none()),
            good: "such a request is forwarded to the workload",
            met: None,
            trouble: None,
        }
    }

    fn meet<'r>(
        &mut self,
        asked: Asked<'_>,
        rule: Option<&'r Rule>,
        table: Table<'_>,
    ) -> Option<&'r Rule> {
        let request = format!("{} {}", asked.method, quoted(asked.path));
        let text = match rule {
            None => match table.inbound.rules.find(asked.path, asked.method) {
                Match::NoMethod(others) => format!(
                    "{request} meets no rule: those of its longest path are for {others} alone, and \
                     shorter ones do not count; a valid token is all it needs"
                ),
                _ => format!("{request} meets no rule: a valid token is all it needs"),
            },
            Some(rule) => {
                let path = table.rules.get(rule.place).map_or("", |entry| &*entry.path);
                self.met = Some(Met {
                    place: rule.place,
                    path: path.to_owned(),
                    anonymous: rule.anonymous,
                });
                let need = match rule.anonymous {
                    true => ": no token is needed, and one that comes is verified all the same",
                    false => "",
                };
                format!(
                    "{request} meets inbound.rules[{}], {}{need}",
                    rule.place,
                    quoted(path)
                )
            }
        };
        let told = Told::new("path", true, text)
            .with("path", asked.path)
            .with("method", asked.method.as_str());
        self.listener.tell(told);
        rule
    }

    fn note_what_is_open(&mut self, issuers: &Issuers, place: usize) {
        if let Some(issuer) = issuers.all().get(place)
            && issuer.audiences.is_empty()
        {
            self.listener.notes.push(format!(
                "tokens for any audience are taken: inbound.issuers.{}.audiences is not set",
                issuer.name
            ));
        }
    }

    /// Whether the list does not have it.
    fn is_clear(&mut self, inbound: &Inbound, revoked: &Revoked, verified: &Verified) -> bool {
        let issuer = inbound.issuers.all().get(verified.issuer);
        let issuer = issuer.map_or("", |issuer| &*issuer.name);
        let is_clear = !revoked.has(issuer, &Subject::of(&verified.claims));
        let text = match is_clear {
            true => "not in the list of inbound.revocations",
            false => "in the list of inbound.revocations: by its jti, its user_id or its iat",
        };
        self.listener
            .tell(Told::new("revocations", is_clear, text.to_owned()));
        is_clear
    }

    fn identify(
        mut self,
        table: Table<'_>,
        rule: Option<&Rule>,
        verified: &Verified,
    ) -> Explanation {
        let inbound = table.inbound;
        let revoked = match table.revocations {
            None => None,
            Some(list::State {
                list: Some(list), ..
            }) => Some(&**list),
            Some(unread) => {
                let text = "the list of inbound.revocations cannot be had".to_owned();
                self.listener.tell(Told::new("revocations", false, text));
                self.trouble = unread.trouble.clone();
                return self.refused(Reason::IssuerKeysUnavailable, UNREAD);
            }
        };
        let Some(identity) = inbound.identities.get(verified.issuer) else {
            return self.refused(Reason::InternalError, "an issuer without identity headers");
        };
        let headers = match identity.headers(&verified.claims) {
            Ok(headers) => headers,
            Err(Unsafe(claim)) => {
                let found = Requirement::new(claim.clone(), Vec::new());
                let found = found.find(&verified.claims);
                let found = found.map(|found| shown(&claim, found));
                let found = found.as_ref().map(value).unwrap_or_default();
                let text = format!("{claim} cannot be a header's value: {found}");
                self.listener.facts.culprit = Some(claim);
                self.listener.tell(Told::new("identity", false, text));
                let why = "a claim that is an identity header cannot be a header's value";
                return self.refused(Reason::UnsafeClaim, why);
            }
        };
        if let Some(revoked) = revoked
            && !self.is_clear(inbound, revoked, verified)
        {
            return self.refused(Reason::Revoked, REVOKED);
        }
        if let Some(rule) = rule
            && !self.meets(inbound, rule, verified)
        {
            let why = "the token is valid, but its claims are not those that this path needs";
            return self.refused(Reason::ClaimsNotMet, why);
        }
        let headers: Vec<(String, String)> = (headers.iter())
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes());
                (name.to_string(), value.into_owned())
            })
            .collect();
        let text = "what the workload is told of the caller:".to_owned();
        self.listener.tell(Told::new("identity", true, text));
        self.accepted(Some(headers))
    }

    fn meets(&mut self, inbound: &Inbound, rule: &Rule, verified: &Verified) -> bool {
        for requirement in &rule.claims {
            let name = requirement.name();
            let found = requirement.find(&verified.claims);
            let found = found.map(|found| shown(name, found));
            let accepted = requirement.accepted().iter().map(|one| shown(name, one));
            let accepted: Vec<Value> = accepted.collect();
            let is_met = requirement.is_met(&verified.claims);
            let text = format!(
                "{name} is {}; must be {}",
                found.as_ref().map_or("missing".to_owned(), value),
                one_of(accepted.iter().map(value))
            );
            if !is_met {
                self.listener.facts.culprit = Some(name.to_owned());
            }
            let told = Told::new("rule", is_met, text)
                .with("claim", name)
                .with("value", found)
                .with("accepted", accepted);
            self.listener.tell(told);
        }
        let met = inbound.rules_met(&verified.claims);
        met.get(rule.place).copied().unwrap_or(false)
    }

    fn no_bearer(mut self, reason: Reason) -> Explanation {
        let why = match reason {
            Reason::MalformedToken => "it holds a character that no header can carry",
            reason => inbound::told(reason),
        };
        self.listener
            .tell(Told::new("token", false, why.to_owned()));
        self.refused(reason, why)
    }

    fn rejected(self, rejection: &Rejection) -> Explanation {
        self.end(Some(rejection.clone()), None)
    }

    fn refused(self, reason: Reason, why: &str) -> Explanation {
        let rejection = Rejection {
            reason,
            why: why.to_owned().into(),
            issuer: None,
        };
        self.end(Some(rejection), None)
    }

    fn accepted(self, headers: Option<Vec<(String, String)>>) -> Explanation {
        self.end(None, headers)
    }

    fn end(
        self,
        rejection: Option<Rejection>,
        headers: Option<Vec<(String, String)>>,
    ) -> Explanation {
        let advice = rejection.as_ref().map(|rejection| {
            let issuer = rejection.issuer.zip(self.issuers);
            advice(&Case {
                token: self.token,
                now: self.now.unix_ms,
                rejection,
                facts: &self.listener.facts,
                issuers: self.issuers,
                issuer: issuer.and_then(|(at, issuers)| issuers.all().get(at)),
                trouble: self.trouble.as_deref(),
                met: self.met.as_ref(),
            })
        });
        Explanation {
            refused: rejection.map(|rejection| (rejection.reason, rejection.why.to_string())),
            good: self.good,
            steps: self.listener.steps,
            notes: self.listener.notes,
            advice: advice.unwrap_or_default(),
            headers,
            rule: self.met,
        }
    }
}
