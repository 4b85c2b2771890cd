//! Listens to a verification and puts its steps into words.
//!
//! It decides nothing: what is good and what is not is what the verifier says. What advice needs
//! later is kept in [`Facts`].

use std::time::Duration;

use super::claim::{View, one_of};
use super::explanation::Told;
use super::words::{is_shown, list, quoted};
use crate::compact::Header;
use crate::jwt::Rejection;
use crate::jwt::algorithm::{Algorithm, Algorithms};
use crate::jwt::issuers::{Claims, Issuer, Issuers};
use crate::jwt::key_set::{Found, KeySet};
use crate::jwt::verifier::{Step, Trace};
use crate::reason::Reason;

/// What was seen on the way.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// The token's header.
    pub(super) header: Option<Header>,
    /// Its claims, verified or not.
    pub(super) claims: Option<Claims>,
    /// The keys, each as it is described, and those that were left out.
    pub(super) keys: Vec<String>,
    /// The names of the keys.
    pub(super) kids: Vec<String>,
    /// The claim, or the member of the header, that is not as it must be.
    pub(super) culprit: Option<String>,
}

/// Listens.
#[derive(Debug)]
pub(super) struct Listener {
    view: View,
    pub(super) steps: Vec<Told>,
    pub(super) facts: Facts,
    pub(super) notes: Vec<String>,
}

impl Listener {
    /// `is_permissive`: the one issuer is made from the token itself.
    pub(super) fn new(now: i64, is_permissive: bool) -> Listener {
        Listener {
            view: View {
                now,
                leeway: Duration::ZERO,
                is_permissive,
            },
            steps: Vec::new(),
            facts: Facts::default(),
            notes: Vec::new(),
        }
    }

    pub(super) fn tell(&mut self, told: Told) {
        self.steps.push(told);
    }

    fn header(&mut self, bytes: usize, header: &Header) {
        let mut text = format!("{bytes} bytes, alg {}", quoted(&header.alg));
        for (name, member) in [("kid", &header.kid), ("typ", &header.typ)] {
            if let Some(member) = member {
                text.push_str(&format!(", {name} {}", quoted(member)));
            }
        }
        self.facts.header = Some(header.clone());
        self.tell(
            Told::new("token", true, text)
                .with("bytes", bytes)
                .with("alg", header.alg.as_str())
                .with("kid", header.kid.as_deref())
                .with("typ", header.typ.as_deref()),
        );
    }

    fn claims(&mut self, claims: &Claims) {
        let names: Vec<&str> = (claims.keys().map(String::as_str))
            .filter(|name| is_shown(name))
            .collect();
        let is_plain = |name: &str| {
            name.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        let named = list(names.iter().map(|name| match is_plain(name) {
            true => (*name).to_owned(),
            false => quoted(name),
        }));
        let text = match names.is_empty() {
            true => "none".to_owned(),
            false => format!("{named} (nobody has vouched for them yet)"),
        };
        self.facts.claims = Some(claims.clone());
        self.tell(Told::new("claims", true, text).with("names", names));
    }

    fn issuer(&mut self, iss: Option<&str>, found: Option<(usize, &Issuer)>, all: &Issuers) {
        let named = match iss {
            Some(iss) => quoted(iss),
            None => "a token without iss".to_owned(),
        };
        let text = match found {
            Some(_) if self.view.is_permissive => format!("{named}, taken as it is"),
            Some((_, issuer)) => format!("{named} is inbound.issuers.{}", issuer.name),
            None => format!("{named} is none of the configured issuers"),
        };
        let name = found.map(|(_, issuer)| issuer.name.as_str());
        let mut told = Told::new("issuer", found.is_some(), text).with("iss", iss);
        if !self.view.is_permissive {
            let configured: Vec<&str> = all.names().map(|(_, iss)| iss).collect();
            told = told.with("name", name).with("configured", configured);
        }
        self.tell(told);
        self.view.leeway = found.map_or(Duration::ZERO, |(_, issuer)| issuer.leeway);
    }

    fn algorithm(&mut self, algorithm: Algorithm, allowed: Algorithms, is_allowed: bool) {
        let allowed = names(allowed);
        let text = format!(
            "{}; must be {}",
            algorithm.name(),
            one_of(allowed.iter().map(|name| (*name).to_owned()))
        );
        let told = Told::new("algorithm", is_allowed, text)
            .with("alg", algorithm.name())
            .with("allowed", allowed);
        self.tell(told);
    }

    fn members(&mut self, outcome: Result<(), &'static str>) {
        let text = match outcome {
            Ok(()) => "nothing in it that Regent does not understand".to_owned(),
            Err(member) => format!("{member} is not what an access token has there"),
        };
        self.facts.culprit = outcome.err().map(str::to_owned);
        let told = Told::new("header", outcome.is_ok(), text).with("member", outcome.err());
        self.tell(Told {
            is_usual: outcome.is_ok(),
            ..told
        });
    }

    fn keys(&mut self, set: Option<&KeySet>, kid: Option<&str>, found: Option<Found>) {
        let Some(set) = set else {
            let text = "there are none of this issuer that may be used".to_owned();
            self.tell(Told::new("keys", false, text).with("kid", kid));
            return;
        };
        let described = set.keys().iter().map(|key| key.describe());
        self.facts.keys = described.collect();
        let kids = set.keys().iter().filter_map(|key| key.kid.as_deref());
        self.facts.kids = kids.map(str::to_owned).collect();
        let left_out = set.ignored.iter();
        self.notes
            .extend(left_out.map(|why| format!("left out of the key set: {why}")));

        let alg = self.facts.header.as_ref().map(|header| &*header.alg);
        let algorithm = alg.and_then(Algorithm::named);
        let candidates = algorithm.map_or(0, |one| set.candidates(kid, one).count());
        let named = kid.map(quoted).unwrap_or_default();
        let (how, word) = match found {
            Some(Found::ByKid) => (format!("by kid {named}"), Some("kid")),
            Some(Found::WithoutKid) => {
                let how = format!("the token names {named}, the keys have no names: by algorithm");
                (how, Some("without_kid"))
            }
            Some(Found::ByAlgorithm) => (
                "the token names none: by algorithm".to_owned(),
                Some("algorithm"),
            ),
            None => (format!("none of them is {named}"), None),
        };
        let text = format!("{candidates} of {} to try, {how}", set.keys().len());
        self.tell(
            Told::new("keys", candidates > 0, text)
                .with("kid", kid)
                .with("found", word)
                .with("candidates", candidates)
                .with("keys", self.facts.keys.clone()),
        );
    }

    /// The step at which it failed is told in any case.
    fn done(&mut self, verdict: Result<(), &Rejection>) {
        let Err(rejection) = verdict else { return };
        if self.steps.iter().any(|step| step.ok == Some(false)) {
            return;
        }
        let step = match rejection.reason {
            Reason::BadSignature => "signature",
            Reason::AlgorithmNotAllowed => "algorithm",
            Reason::MalformedClaim | Reason::MissingClaim => "claims",
            _ => "token",
        };
        self.tell(Told::new(step, false, rejection.why.to_string()));
    }
}

impl Trace for Listener {
    fn step(&mut self, step: Step<'_>) {
        match step {
            Step::Header { bytes, header } => self.header(bytes, header),
            Step::UnverifiedClaims(claims) => self.claims(claims),
            Step::Issuer {
                iss,
                found,
                configured,
            } => self.issuer(iss, found, configured),
            Step::Algorithm {
                algorithm,
                allowed,
                is_allowed,
            } => self.algorithm(algorithm, allowed, is_allowed),
            Step::HeaderMembers(outcome) => self.members(outcome),
            Step::Keys { set, kid, found } => self.keys(set, kid, found),
            Step::Key { key, is_good } => {
                let (ok, text) = match is_good {
                    true => (Some(true), format!("good, by the key {}", key.describe())),
                    // The next one may be it.
                    false => (None, format!("not by the key {}", key.describe())),
                };
                self.tell(Told::new("signature", ok, text).with("key", key.describe()));
            }
            Step::Check {
                claim,
                value,
                rule,
                outcome,
            } => {
                if outcome.is_err() {
                    self.facts.culprit = Some(claim.to_owned());
                }
                let told = self.view.check(claim, value, rule, outcome);
                self.tell(told);
            }
            Step::Done(verdict) => self.done(verdict),
        }
    }
}

pub(super) fn names(algorithms: Algorithms) -> Vec<&'static str> {
    let all = Algorithm::ALL.into_iter();
    all.filter(|one| algorithms.has(*one))
        .map(Algorithm::name)
        .collect()
}
