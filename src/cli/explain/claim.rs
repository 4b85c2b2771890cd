//! One claim and the rule that it was held against, in words.

use std::time::Duration;

use serde_json::Value;

use super::explanation::Told;
use super::words::{apart, date, list, moment, quoted, shown, span, unix_ms, value};
use crate::jwt::verifier::Rule;
use crate::reason::Reason;

/// What a claim is seen against.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// Milliseconds since the epoch.
    pub(super) now: i64,
    /// The issuer's.
    pub(super) leeway: Duration,
    /// No config limits the lifetime.
    pub(super) is_permissive: bool,
}

/// A claim as it was found, without what is never shown.
struct Found<'a> {
    claim: &'a str,
    value: Option<Value>,
    outcome: Result<(), Reason>,
}

impl View {
    /// A check that was made.
    pub(super) fn check(
        self,
        claim: &str,
        found: Option<&Value>,
        rule: Rule<'_>,
        outcome: Result<(), Reason>,
    ) -> Told {
        let found = Found {
            claim,
            value: found.map(|found| shown(claim, found)),
            outcome,
        };
        match rule {
            Rule::Time { is_required } => {
                let what = if is_required { ", and be there" } else { "" };
                let must = format!("must be a number of seconds since the epoch{what}");
                found.usual("be_a_time", &must)
            }
            Rule::Text => found.usual("be_text", "must be a string"),
            Rule::Texts => found.usual("be_texts", "must be a string or a list of strings"),
            Rule::Present => found.told("be_there", "must be there"),
            Rule::Absent => found.told("not_be_there", "must not be there"),
            Rule::SaidByHeader => found.told(
                "be_said_by_header",
                "the header's typ says that it is an access token",
            ),
            Rule::After(limit) => {
                let must = format!("must be after {}", self.limit(limit, "less"));
                let told = found.told("be_after", &must).with("limit", date(limit));
                self.timed(told, &found, &must)
            }
            Rule::NotAfter(limit) => {
                let must = format!("must not be after {}", self.limit(limit, "and"));
                let told = found.told("not_be_after", &must);
                Told {
                    is_usual: outcome.is_ok() && !self.is_now(limit),
                    ..self.timed(told.with("limit", date(limit)), &found, &must)
                }
            }
            Rule::Within { most, of, point } => {
                let text = match found.value.as_ref().and_then(unix_ms) {
                    Some(time) if time < of => format!("before {point}"),
                    Some(time) => format!("{} after {point}", span(apart(time, of))),
                    None => "no time".to_owned(),
                };
                let told = found.told("end_within", "");
                Told {
                    text: format!("{text}; at most {}", span(most)),
                    is_usual: outcome.is_ok() && self.is_permissive,
                    ..told.with("limit_s", most.as_secs()).with("of", point)
                }
            }
            Rule::OneOf(accepted) => {
                let must = must_be(accepted.iter().map(|one| quoted(one)));
                let told = found.told("be_one_of", &must);
                told.with("accepted", accepted)
            }
            Rule::Required(requirement) => {
                let accepted = requirement.accepted().iter();
                let accepted: Vec<Value> = accepted.map(|one| shown(claim, one)).collect();
                let told = found.told("be_one_of", &must_be(accepted.iter().map(value)));
                told.with("accepted", accepted)
            }
        }
    }

    fn timed(self, told: Told, found: &Found<'_>, must: &str) -> Told {
        let Some(time) = found.value.as_ref().and_then(unix_ms) else {
            return told;
        };
        let told = told.with("time", date(time));
        Told {
            text: format!("{}; {must}", moment(time, self.now)),
            ..told
        }
    }

    /// Whether a limit is the present, give or take the leeway.
    fn is_now(self, limit: i64) -> bool {
        apart(limit, self.now).as_secs() == self.leeway.as_secs()
    }

    /// A limit, and how it came about.
    fn limit(self, limit: i64, word: &str) -> String {
        let date = date(limit);
        if !self.is_now(limit) {
            format!("exp, {date}")
        } else if self.leeway.is_zero() {
            format!("{date} (now)")
        } else {
            format!("{date} (now {word} the leeway of {})", span(self.leeway))
        }
    }
}

impl Found<'_> {
    fn told(&self, word: &str, must: &str) -> Told {
        let found = self.value.as_ref().map_or("missing".to_owned(), value);
        let told = Told::new("claim", self.outcome.is_ok(), format!("{found}; {must}"));
        Told {
            label: self.claim.to_owned(),
            ..told
                .with("claim", self.claim)
                .with("value", self.value.clone())
                .with("must", word)
        }
    }

    /// Of a type: nobody needs to be told that it is the right one.
    fn usual(&self, word: &str, must: &str) -> Told {
        Told {
            is_usual: self.outcome.is_ok(),
            ..self.told(word, must)
        }
    }
}

fn must_be(accepted: impl Iterator<Item = String>) -> String {
    format!("must be {}", one_of(accepted))
}

/// The one, or `one of` several.
pub(super) fn one_of(accepted: impl Iterator<Item = String>) -> String {
    let accepted: Vec<String> = accepted.collect();
    match accepted.as_slice() {
        [] => "a value that the config names, which is none".to_owned(),
        [one] => one.clone(),
        _ => format!("one of {}", list(accepted)),
    }
}
