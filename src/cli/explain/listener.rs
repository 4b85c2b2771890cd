//! Listens to a verification and puts its steps into words.
//!
//! It decides nothing: what is good and what is not is what the verifier says. What advice needs
//! later is kept in [`Facts`].

use std::time::Duration;

use serde_json::Value;

use super::explanation::Told;
use super::words::{apart, date, is_shown, list, moment, quoted, shown, span, unix_ms, value};
use crate::compact::Header;
use crate::jwt::Rejection;
use crate::jwt::algorithm::{Algorithm, Algorithms};
use crate::jwt::issuers::{Claims, Issuer, Issuers};
use crate::jwt::key_set::{Found, KeySet};
use crate::jwt::verifier::{Rule, Step, Trace};
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
    now: i64,
    /// Whether the one issuer is made from the token itself.
    is_permissive: bool,
    leeway: Duration,
    pub(super) steps: Vec<Told>,
    pub(super) facts: Facts,
    pub(super) notes: Vec<String>,
}

impl Listener {
    pub(super) fn new(now: i64, is_permissive: bool) -> Listener {
        Listener {
            now,
            is_permissive,
            leeway: Duration::ZERO,
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
        let named = list(names.iter().map(|name| quoted(name)));
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
            Some(_) if self.is_permissive => format!("{named}, taken as it is"),
            Some((_, issuer)) => format!("{named} is inbound.issuers.{}", issuer.name),
            None => format!("{named} is none of the configured issuers"),
        };
        let name = found.map(|(_, issuer)| issuer.name.as_str());
        let mut told = Told::new("issuer", found.is_some(), text).with("iss", iss);
        if !self.is_permissive {
            let configured: Vec<&str> = all.names().map(|(_, iss)| iss).collect();
            told = told.with("name", name).with("configured", configured);
        }
        self.tell(told);
        let Some((_, issuer)) = found else { return };
        self.leeway = issuer.leeway;
        if issuer.audiences.is_empty() && !self.is_permissive {
            self.notes.push(format!(
                "tokens for any audience are taken: inbound.issuers.{}.audiences is not set",
                issuer.name
            ));
        }
    }

    fn algorithm(&mut self, algorithm: Algorithm, allowed: Algorithms, is_allowed: bool) {
        let allowed = names(allowed);
        let text = format!(
            "{} {} one of {}",
            algorithm.name(),
            if is_allowed { "is" } else { "is not" },
            allowed.join(", ")
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
        self.tell(Told::new("header", outcome.is_ok(), text).with("member", outcome.err()));
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

    fn check(
        &mut self,
        claim: &str,
        found: Option<&Value>,
        rule: Rule<'_>,
        outcome: Result<(), Reason>,
    ) {
        let found = found.map(|found| shown(claim, found));
        let time = found.as_ref().and_then(unix_ms);
        let plain = found.as_ref().map_or("missing".to_owned(), value);
        let told = Told::new("claim", outcome.is_ok(), String::new());
        let told = match rule {
            Rule::Time { is_required } => {
                let what = if is_required { "it is needed: " } else { "" };
                let text = format!("{plain}; {what}it must be a number of seconds since the epoch");
                usual(told, outcome, text).with("must", "be_a_time")
            }
            Rule::Text => {
                let text = format!("{plain}; it must be a string");
                usual(told, outcome, text).with("must", "be_text")
            }
            Rule::Texts => {
                let text = format!("{plain}; it must be a string or a list of strings");
                usual(told, outcome, text).with("must", "be_texts")
            }
            Rule::Present => {
                said(told, format!("{plain}; it must be there")).with("must", "be_there")
            }
            Rule::Absent => {
                said(told, format!("{plain}; it must not be there")).with("must", "not_be_there")
            }
            Rule::After(limit) => {
                let text = format!("must be after {}", self.limit(limit, "less"));
                self.time(told, time, &text)
                    .with("must", "be_after")
                    .with("limit", date(limit))
            }
            Rule::NotAfter(limit) => {
                let text = format!("must not be after {}", self.limit(limit, "and"));
                self.time(told, time, &text)
                    .with("must", "not_be_after")
                    .with("limit", date(limit))
            }
            Rule::Within { most, of, point } => {
                let away = time.map_or_else(|| plain.clone(), |time| span(apart(time, of)));
                let text = format!("{away} after {point}; at most {}", span(most));
                let told = if self.is_permissive {
                    usual(told, outcome, text)
                } else {
                    said(told, text)
                };
                told.with("must", "end_within")
                    .with("limit_s", most.as_secs())
                    .with("of", point)
            }
            Rule::OneOf(accepted) => {
                let text = format!(
                    "{plain}; must be {}",
                    one_of(accepted.iter().map(|one| quoted(one)))
                );
                said(told, text)
                    .with("must", "be_one_of")
                    .with("accepted", accepted)
            }
            Rule::SaidByHeader => {
                let text = format!("{plain}, but the header's typ says that it is an access token");
                said(told, text).with("must", "be_said_by_header")
            }
            Rule::Required(requirement) => {
                let accepted: Vec<Value> = (requirement.accepted().iter())
                    .map(|one| shown(claim, one))
                    .collect();
                let text = format!("{plain}; must be {}", one_of(accepted.iter().map(value)));
                said(told, text)
                    .with("must", "be_one_of")
                    .with("accepted", accepted)
            }
        };
        if outcome.is_err() {
            self.facts.culprit = Some(claim.to_owned());
        }
        let told = told.with("claim", claim).with("value", found);
        self.tell(Told {
            label: claim.to_owned(),
            ..match time {
                Some(time) if claim != "token_type" && is_time(rule) => {
                    told.with("time", date(time))
                }
                _ => told,
            }
        });
    }

    fn time(&self, told: Told, time: Option<i64>, must: &str) -> Told {
        let moment = time.map_or("no time".to_owned(), |time| moment(time, self.now));
        said(told, format!("{moment}; {must}"))
    }

    /// A limit, and how it came about.
    fn limit(&self, limit: i64, word: &str) -> String {
        let leeway = i64::try_from(self.leeway.as_millis()).unwrap_or(i64::MAX);
        let date = date(limit);
        if apart(limit, self.now) != self.leeway {
            return format!("exp, {date}");
        }
        match leeway {
            0 => format!("{date} (now)"),
            _ => format!("{date} (now {word} the leeway of {})", span(self.leeway)),
        }
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
            } => self.check(claim, value, rule, outcome),
            Step::Done(verdict) => self.done(verdict),
        }
    }
}

fn said(told: Told, text: String) -> Told {
    Told { text, ..told }
}

fn usual(told: Told, outcome: Result<(), Reason>, text: String) -> Told {
    Told {
        is_usual: outcome.is_ok(),
        ..said(told, text)
    }
}

fn is_time(rule: Rule<'_>) -> bool {
    matches!(
        rule,
        Rule::Time { .. } | Rule::After(_) | Rule::NotAfter(_) | Rule::Within { .. }
    )
}

pub(super) fn one_of(accepted: impl Iterator<Item = String>) -> String {
    let accepted: Vec<String> = accepted.collect();
    match accepted.as_slice() {
        [] => "a value that the config names, which is none".to_owned(),
        [one] => one.clone(),
        _ => format!("one of {}", list(accepted)),
    }
}

pub(super) fn names(algorithms: Algorithms) -> Vec<&'static str> {
    let all = Algorithm::ALL.into_iter();
    all.filter(|one| algorithms.has(*one))
        .map(Algorithm::name)
        .collect()
}
