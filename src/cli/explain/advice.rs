//! What to change about a token that is refused, or about the config that refuses it.
//!
//! Nothing is decided here. Text that came with the token is in quotes, and escaped with its line.

use std::time::Duration;

use serde_json::Value;

use super::claim::one_of;
use super::explanation::Rule;
use super::listener::{Facts, names};
use super::words::{apart, list, quoted, shown, span, unix_ms, value};
use crate::compact::{Jws, MOST_BYTES};
use crate::jwt::Rejection;
use crate::jwt::algorithm::Algorithm;
use crate::jwt::issuers::{Issuer, Issuers};
use crate::proxy::verdict::UNREAD;
use crate::reason::Reason;

/// A refused token.
#[derive(Clone, Copy)]
pub(super) struct Case<'a> {
    pub(super) token: &'a [u8],
    /// Milliseconds since the epoch.
    pub(super) now: i64,
    pub(super) rejection: &'a Rejection,
    pub(super) facts: &'a Facts,
    /// Those of the config; `None`: there is none.
    pub(super) issuers: Option<&'a Issuers>,
    /// The token's, out of those of the config.
    pub(super) issuer: Option<&'a Issuer>,
    /// Why the issuer has no keys.
    pub(super) trouble: Option<&'a str>,
    /// The rule that the path meets.
    pub(super) met: Option<&'a Rule>,
}

/// What to change, each in one line.
pub(super) fn advice(case: &Case<'_>) -> Vec<String> {
    let one = |text: &str| vec![text.to_owned()];
    match case.rejection.reason {
        Reason::MissingToken => one("pipe the token in: regent explain < FILE"),
        Reason::MultipleTokens if case.token.trim_ascii_start().starts_with(b"{") => {
            one("this is JSON: give the token in it alone, as `regent token` prints it without --json")
        }
        Reason::MultipleTokens => one("give one token alone, without a comma after it"),
        Reason::TokenTooLarge => vec![format!(
            "it has {} bytes, the most is {MOST_BYTES}: let the issuer put fewer claims into it",
            case.token.len()
        )],
        Reason::MalformedToken => one(shape(case.token)),
        Reason::DuplicateMember => {
            one("readers differ in which of the two they take: the issuer must write it once")
        }
        Reason::MalformedClaim => vec![match case.culprit() {
            "iat" if case.claim("iat").is_some_and(Value::is_number) => {
                "it ends before it begins: the issuer must write an exp that is after iat".to_owned()
            }
            claim => format!("the issuer must write {claim} as its type wants it"),
        }],
        Reason::MissingClaim => case.missing(),
        Reason::WrongClaim => vec![format!(
            "{} is what the config requires of this issuer's tokens: use the token of somebody who \
             has it, or change {}",
            case.culprit(),
            case.key("required_claims")
        )],
        Reason::Expired => case.expired(),
        Reason::NotYetValid => vec![case.early("nbf")],
        Reason::IssuedInFuture => vec![case.early("iat")],
        Reason::LifetimeTooLong => case.lifetime(),
        Reason::UnknownIssuer => case.unknown_issuer(),
        Reason::UnknownKey => case.unknown_key(),
        Reason::AlgorithmNotAllowed => case.algorithm(),
        Reason::BadSignature => vec![
            format!("the keys here: {}", list(case.facts.keys.iter().cloned())),
            "either the issuer signs with another key by now, or the token was changed or cut short \
             on its way: compare the key with the issuer's"
                .to_owned(),
        ],
        Reason::WrongAudience => case.audience(),
        Reason::WrongTokenType => vec![case.kind()],
        Reason::UnsupportedCriticalHeader => {
            one("ask the issuer for a token without crit in its header")
        }
        Reason::BoundToken => {
            one("ask the issuer for a token that is bound to no key (no DPoP, no certificate)")
        }
        Reason::UnsafeClaim => vec![format!(
            "{} must be text or a number that a header can carry, at most 4096 bytes, and must not \
             begin with an issuer's name and a colon; or take it out of identity_headers",
            case.culprit()
        )],
        Reason::ClaimsNotMet => case.rule(),
        Reason::Revoked => one("get a fresh token; where its user is revoked, that will not help"),
        Reason::IssuerKeysUnavailable if &*case.rejection.why == UNREAD => vec![format!(
            "every token is answered with 503 until inbound.revocations has been read: {}",
            case.trouble.unwrap_or("it was not tried")
        )],
        Reason::IssuerKeysUnavailable => vec![match case.trouble {
            Some(trouble) => format!("the issuer's keys cannot be had: {trouble}"),
            None => "the issuer's keys are too old, or were never had".to_owned(),
        }],
        Reason::AmbiguousPath => {
            one("servers read such a path in different ways: write it without that")
        }
        _ => Vec::new(),
    }
}

/// What is wrong with the shape of what should be a token.
fn shape(token: &[u8]) -> &'static str {
    let dots = token.iter().filter(|byte| **byte == b'.').count();
    if Jws::parse(token).is_ok_and(|jws| jws.signature().is_ok() && jws.claims().is_err()) {
        return "it is signed, but no JWT: what it carries is no object of claims; --signature-only \
                judges the signature alone";
    }
    let is_odd = |byte: &u8| !(byte.is_ascii_alphanumeric() || b"-_.".contains(byte));
    if token.iter().any(u8::is_ascii_whitespace) {
        "there is white space in it: is it broken into lines, or is there more than the token?"
    } else if token.starts_with(b"{") {
        "this is JSON: take the text of its member access_token, without the quotes"
    } else if token.contains(&b'"') || token.contains(&b'\'') {
        "there are quotes in it: leave them out"
    } else if token.contains(&b'=') || token.contains(&b'+') || token.contains(&b'/') {
        "it is in plain base64: a token is in base64url, without = at the end"
    } else if token.iter().any(is_odd) {
        "there is a character in it that no token has: copy it again, whole"
    } else if dots == 4 {
        "it has five parts: it is encrypted (JWE); ask for a signed access token (JWS)"
    } else if dots == 0 {
        "it is no JWT: some issuers hand out opaque tokens; set yours up for JWT access tokens"
    } else {
        "copy it again, whole: header, claims and signature, with two dots between them"
    }
}

impl Case<'_> {
    fn culprit(&self) -> &str {
        self.facts.culprit.as_deref().unwrap_or("a claim")
    }

    /// A key of the issuer's, in the config.
    fn key(&self, name: &str) -> String {
        match self.issuer {
            Some(issuer) => format!("inbound.issuers.{}.{name}", issuer.name),
            None => format!("the issuer's {name}"),
        }
    }

    fn claim(&self, name: &str) -> Option<&Value> {
        self.facts.claims.as_ref()?.get(name)
    }

    fn leeway(&self) -> Duration {
        self.issuer
            .map_or(Duration::from_secs(30), |one| one.leeway)
    }

    /// What `token_type` may be.
    fn types(&self) -> String {
        let types = self.issuer.map_or(&[][..], |one| &one.token_types);
        match types {
            [] => quoted("access"),
            types => one_of(types.iter().map(|one| quoted(one))),
        }
    }

    /// What other kind of token it is, as far as that shows.
    fn other_kind(&self) -> Option<&'static str> {
        if self
            .claim("token_type")
            .is_some_and(|kind| kind == "refresh")
        {
            return Some("this is a refresh token: send the access token");
        }
        let is_id = ["at_hash", "c_hash", "nonce"];
        if is_id.iter().any(|claim| self.claim(claim).is_some()) {
            return Some("this is an ID token: send the access token");
        }
        let events = self.claim("events");
        events.map(|_| "this is a security event or logout token: send the access token")
    }

    fn missing(&self) -> Vec<String> {
        match self.facts.culprit.as_deref() {
            // Nothing was held against a rule yet: it is iss.
            None => {
                let mut lines = vec![
                    "the issuer must write iss; for one that cannot, set issuer = \"\" in its table"
                        .to_owned(),
                ];
                lines.extend(self.configured());
                lines
            }
            Some("token_type") => vec![match self.other_kind() {
                Some(kind) => kind.to_owned(),
                None => format!(
                    "the issuer must mark its access tokens, and no setting here takes them \
                     unmarked: let it write the claim token_type ({}), or the header typ at+jwt; if \
                     this is an ID token, send the access token",
                    self.types()
                ),
            }],
            Some("aud") => self.audience(),
            Some("exp") => {
                vec!["a token that never ends is not taken: the issuer must write exp".to_owned()]
            }
            Some(claim) => vec![format!(
                "{claim} is required by {}",
                self.key("required_claims")
            )],
        }
    }

    fn expired(&self) -> Vec<String> {
        let Some(exp) = self.claim("exp").and_then(unix_ms) else {
            return Vec::new();
        };
        vec![format!(
            "it expired {} ago (the leeway is {}): get a fresh one, for example with `regent token`",
            span(apart(self.now, exp)),
            span(self.leeway())
        )]
    }

    fn early(&self, claim: &str) -> String {
        let from = self.claim(claim).and_then(unix_ms);
        let away = from.map_or(Duration::ZERO, |from| apart(from, self.now));
        format!(
            "its {claim} is {} ahead of this machine's clock (the leeway is {}): is the clock right, \
             here and at the issuer?",
            span(away),
            span(self.leeway())
        )
    }

    fn lifetime(&self) -> Vec<String> {
        let most = self.issuer.map_or(Duration::ZERO, |one| one.max_lifetime);
        let mut lines: Vec<String> = self.other_kind().map(str::to_owned).into_iter().collect();
        lines.push(format!(
            "let the issuer make tokens that live for {} at most, or raise {}",
            span(most),
            self.key("max_lifetime")
        ));
        lines
    }

    fn configured(&self) -> Option<String> {
        let issuers = self.issuers?.names();
        let named = issuers.map(|(name, iss)| match iss {
            "" => format!("{name} (tokens without iss)"),
            iss => format!("{name} {}", quoted(iss)),
        });
        Some(format!("the configured issuers: {}", list(named)))
    }

    fn unknown_issuer(&self) -> Vec<String> {
        let iss = self
            .claim("iss")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let alike = |text: &str| text.trim().trim_end_matches('/').to_lowercase();
        let mut lines: Vec<String> = self.configured().into_iter().collect();
        let names = self.issuers.into_iter().flat_map(Issuers::names);
        let near = { names }.find(|(_, one)| alike(one) == alike(iss));
        lines.push(match near {
            _ if iss.is_empty() => "its iss is there and empty: the issuer must write its name".to_owned(),
            Some((name, one)) => format!(
                "{} and {} differ in case, or in a slash or space at the end: write the token's in \
                 inbound.issuers.{name}.issuer",
                quoted(iss),
                quoted(one)
            ),
            None => format!(
                "to take its tokens, add a table [inbound.issuers.NAME] with issuer = {} and its keys",
                quoted(iss)
            ),
        });
        lines
    }

    fn unknown_key(&self) -> Vec<String> {
        let kid = self
            .facts
            .header
            .as_ref()
            .and_then(|header| header.kid.as_deref());
        let Some(kid) = kid else {
            let keys = list(self.facts.keys.iter().cloned());
            return vec![format!("none of the keys is for its algorithm: {keys}")];
        };
        let kids = self.facts.kids.iter().map(|kid| quoted(kid));
        vec![
            format!("it names {}; the keys here: {}", quoted(kid), list(kids)),
            "the issuer signs with a key that is not among them: was it changed, or is this another \
             issuer's token?"
                .to_owned(),
        ]
    }

    fn algorithm(&self) -> Vec<String> {
        let header = self.facts.header.as_ref();
        let alg = header.map_or("", |header| &*header.alg);
        vec![match Algorithm::named(alg) {
            None if alg.eq_ignore_ascii_case("none") => {
                "it is not signed: anybody can make such a token".to_owned()
            }
            None if alg.starts_with("HS") => format!(
                "{alg} needs a secret that both sides share, and is never taken: let the issuer sign \
                 with RS256 or ES256"
            ),
            None => format!(
                "{} is not known here: let the issuer sign with RS256 or ES256",
                quoted(alg)
            ),
            Some(algorithm) => match self.issuer {
                Some(issuer) if !issuer.algorithms.has(algorithm) => format!(
                    "if the issuer means to sign with {alg}, add it to {} (now: {})",
                    self.key("algorithms"),
                    list(names(issuer.algorithms).into_iter().map(str::to_owned))
                ),
                _ => format!(
                    "the key that it names is not for {alg}; the keys here: {}",
                    list(self.facts.keys.iter().cloned())
                ),
            },
        }]
    }

    fn audience(&self) -> Vec<String> {
        let audiences = self.issuer.map_or(&[][..], |one| &one.audiences);
        let aud = self.claim("aud").map(|aud| shown("aud", aud));
        let here = one_of(audiences.iter().map(|one| quoted(one)));
        vec![match aud {
            Some(aud) => format!(
                "it is for {}, here it must be for {here}: ask the issuer for a token for this \
                 service, or add its audience to {}",
                value(&aud),
                self.key("audiences")
            ),
            None => format!(
                "it is for nobody in particular, here it must be for {here}: let the issuer write aud, \
                 or take {} out",
                self.key("audiences")
            ),
        }]
    }

    fn kind(&self) -> String {
        if let Some(kind) = self.other_kind() {
            return kind.to_owned();
        }
        match self.facts.culprit.as_deref() {
            Some("token_type") => {
                let kind = self.claim("token_type").and_then(Value::as_str);
                format!(
                    "token_type must be {} here: send the access token; if the issuer calls its \
                     access tokens {}, add that to {}",
                    self.types(),
                    quoted(kind.unwrap_or("access")),
                    self.key("token_types")
                )
            }
            Some("typ") => {
                "its header's typ must be JWT or at+jwt: send the access token".to_owned()
            }
            _ => "send a plain signed access token".to_owned(),
        }
    }

    fn rule(&self) -> Vec<String> {
        let Some(rule) = self.met else {
            return Vec::new();
        };
        vec![format!(
            "{} does not suffice for {}: use the token of somebody who has it, or change \
             inbound.rules[{}]",
            self.culprit(),
            quoted(&rule.path),
            rule.place
        )]
    }
}
