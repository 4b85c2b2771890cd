//! Judges one token. Pure: the same for a request and for `regent explain`.
//!
//! The order is the contract's: structure, algorithm, issuer, what the issuer may sign with, the
//! header's kind, keys, signature, and only then the claims. Nothing is told of a forged token but
//! that it is one. Every refusal has a fixed text; no value of a token is ever in it.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;

use super::Rejection;
use super::algorithm::{Algorithm, Algorithms};
use super::issuers::{Claims, Issuer, Issuers};
use super::key_set::{Found, KeySet};
use super::keys::Snapshot;
use crate::clock::Boot;
use crate::compact::{self, Header, Jws, Malformed};
use crate::reason::Reason;

mod claims;
mod trace;

pub(super) use claims::unix_ms;
pub use trace::{Rule, Step, Trace};

/// The present, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Milliseconds since the epoch: what `exp`, `nbf` and `iat` are held against.
    pub unix_ms: i64,
    /// What the age of keys is held against.
    pub boot: Boot,
}

/// A token that was verified.
#[derive(Debug)]
pub struct Verified {
    /// The place of its issuer.
    pub issuer: usize,
    /// Its claims.
    pub claims: Claims,
    /// From here on it is expired, leeway included. Milliseconds since the epoch.
    pub ends_unix_ms: i64,
    /// The keys that it was verified with.
    pub set: Arc<KeySet>,
}

/// Verifies a token.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn verify(
    token: &[u8],
    issuers: &Issuers,
    keys: &Snapshot,
    now: Now,
    trace: &mut impl Trace,
) -> Result<Verified, Rejection> {
    let verdict = judge(token, issuers, keys, now, trace);
    trace.step(Step::Done(verdict.as_ref().map(|_| ())));
    verdict
}

/// Checks the signature alone, whatever the payload is and whoever it names.
///
/// # Errors
/// It is no compact JWS, its algorithm is unknown, a header is critical, or no key of the set signed
/// it.
pub fn verify_signature_only(
    token: &[u8],
    keys: &KeySet,
    trace: &mut impl Trace,
) -> Result<(), Rejection> {
    let verdict = open(token, trace).and_then(|(jws, algorithm)| {
        let is_critical = jws.header.has_crit;
        trace.step(Step::HeaderMembers(if is_critical {
            Err("crit")
        } else {
            Ok(())
        }));
        if is_critical {
            return Err(refused(Reason::UnsupportedCriticalHeader, CRITICAL));
        }
        check_signature(&jws, algorithm, keys, trace)
    });
    trace.step(Step::Done(verdict.as_ref().copied()));
    verdict
}

/// Checks a detached signature over a document (RFC 7515 appendix F). Its header must have this
/// `typ`, so that no token can stand for one, nor it for a token.
///
/// # Errors
/// It is none, of another `typ` or algorithm, or no key of the set signed the document.
pub fn verify_detached(
    signature: &[u8],
    document: &[u8],
    typ: &'static str,
    algorithms: Algorithms,
    keys: &KeySet,
) -> Result<(), Rejection> {
    let whole = compact::attach(signature, document)?;
    let jws = Jws::parse_of_any_length(&whole)?;
    let header = &jws.header;
    let algorithm = Algorithm::named(&header.alg).filter(|one| algorithms.has(*one));
    let Some(algorithm) = algorithm else {
        let why = "its algorithm is none of those that the issuer may sign with";
        return Err(refused(Reason::AlgorithmNotAllowed, why));
    };
    if header.has_crit {
        return Err(refused(Reason::UnsupportedCriticalHeader, CRITICAL));
    }
    let is_typ_good = (header.typ.as_deref()).is_some_and(|own| own.eq_ignore_ascii_case(typ));
    if !is_typ_good || header.has_zip || header.has_enc {
        return Err(Rejection {
            reason: Reason::WrongTokenType,
            why: format!("its header's typ is not {typ:?}").into(),
            issuer: None,
        });
    }
    check_signature(&jws, algorithm, keys, &mut ())
}

const CRITICAL: &str = "the header has crit, and no extension is understood";

fn judge(
    token: &[u8],
    issuers: &Issuers,
    keys: &Snapshot,
    now: Now,
    trace: &mut impl Trace,
) -> Result<Verified, Rejection> {
    let (jws, algorithm) = open(token, trace)?;
    let claims = jws.claims()?;
    trace.step(Step::UnverifiedClaims(&claims));
    let (place, issuer) = issuer_of(&claims, issuers, trace)?;
    let of_issuer = |rejection| Rejection {
        issuer: Some(place),
        ..rejection
    };

    let is_allowed = issuer.algorithms.has(algorithm);
    trace.step(Step::Algorithm {
        algorithm,
        allowed: issuer.algorithms,
        is_allowed,
    });
    if !is_allowed {
        let why = "the issuer's tokens may not be signed with this algorithm";
        return Err(of_issuer(refused(Reason::AlgorithmNotAllowed, why)));
    }
    check_header(&jws.header, trace).map_err(of_issuer)?;

    let usable = keys
        .issuers
        .get(place)
        .and_then(|keys| keys.usable(now.boot));
    let Some(set) = usable else {
        trace.step(Step::Keys {
            set: None,
            kid: jws.header.kid.as_deref(),
            found: None,
        });
        let why = "there are no keys of this issuer that may be used";
        return Err(of_issuer(refused(Reason::IssuerKeysUnavailable, why)));
    };
    check_signature(&jws, algorithm, set, trace).map_err(of_issuer)?;

    let ends_unix_ms = claims::Judge {
        issuer,
        claims: &claims,
        is_typed: jws.header.typ.as_deref().is_some_and(is_access_typ),
        now: now.unix_ms,
        trace,
    }
    .ends()
    .map_err(of_issuer)?;
    Ok(Verified {
        issuer: place,
        claims,
        ends_unix_ms,
        set: Arc::clone(set),
    })
}

/// Takes the token apart, as far as it goes without knowing whose it is.
fn open<'a>(token: &'a [u8], trace: &mut impl Trace) -> Result<(Jws<'a>, Algorithm), Rejection> {
    let jws = Jws::parse(token)?;
    trace.step(Step::Header {
        bytes: token.len(),
        header: &jws.header,
    });
    let Some(algorithm) = Algorithm::named(&jws.header.alg) else {
        let why = "the algorithm is none of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 \
                   and EdDSA";
        return Err(refused(Reason::AlgorithmNotAllowed, why));
    };
    jws.signature()?;
    Ok((jws, algorithm))
}

fn issuer_of<'a>(
    claims: &Claims,
    issuers: &'a Issuers,
    trace: &mut impl Trace,
) -> Result<(usize, &'a Issuer), Rejection> {
    let iss = match claims.get("iss") {
        None => None,
        Some(Value::String(iss)) => Some(iss.as_str()),
        Some(_) => return Err(refused(Reason::MalformedClaim, "iss is no string")),
    };
    let found = issuers.find(iss);
    trace.step(Step::Issuer {
        iss,
        found,
        configured: issuers,
    });
    found.ok_or_else(|| match iss {
        None => refused(Reason::MissingClaim, "there is no iss"),
        Some(_) => refused(Reason::UnknownIssuer, "the issuer is not configured"),
    })
}

/// What the header says the token is (RFC 8725 sections 3.2 and 3.11).
fn check_header(header: &Header, trace: &mut impl Trace) -> Result<(), Rejection> {
    let is_typ_good = header
        .typ
        .as_deref()
        .is_none_or(|typ| typ.eq_ignore_ascii_case("jwt") || is_access_typ(typ));
    let wrong = Reason::WrongTokenType;
    let (member, reason, why) = if header.has_crit {
        ("crit", Reason::UnsupportedCriticalHeader, CRITICAL)
    } else if !is_typ_good {
        (
            "typ",
            wrong,
            "the header's typ is no access token's: it may be JWT or at+jwt",
        )
    } else if header.has_cty {
        (
            "cty",
            wrong,
            "the header has cty: a token in a token is not taken",
        )
    } else if header.has_zip {
        (
            "zip",
            wrong,
            "the header has zip: a compressed token is not taken",
        )
    } else if header.has_enc {
        (
            "enc",
            wrong,
            "the header has enc: an encrypted token is not taken",
        )
    } else {
        trace.step(Step::HeaderMembers(Ok(())));
        return Ok(());
    };
    trace.step(Step::HeaderMembers(Err(member)));
    Err(refused(reason, why))
}

/// RFC 9068 section 2.1.
fn is_access_typ(typ: &str) -> bool {
    typ.eq_ignore_ascii_case("at+jwt") || typ.eq_ignore_ascii_case("application/at+jwt")
}

fn check_signature(
    jws: &Jws<'_>,
    algorithm: Algorithm,
    set: &KeySet,
    trace: &mut impl Trace,
) -> Result<(), Rejection> {
    let kid = jws.header.kid.as_deref();
    let found = set.found(kid);
    trace.step(Step::Keys {
        set: Some(set),
        kid,
        found,
    });
    let mut was_tried = false;
    for key in set.candidates(kid, algorithm) {
        was_tried = true;
        let is_good = key.verify(algorithm, jws.signing_input(), jws.signature()?);
        trace.step(Step::Key { key, is_good });
        if is_good {
            return Ok(());
        }
    }
    // Keys without a name were tried for want of the one that it names: a fetch may bring that.
    let is_named = set.keys().iter().any(|key| key.kid.is_some());
    Err(
        if was_tried && !(found == Some(Found::WithoutKid) && is_named) {
            refused(
                Reason::BadSignature,
                "no key that may have signed the token did",
            )
        } else if found == Some(Found::ByKid) {
            // No fetch would help: the key is there, and says what it is for.
            let why = "the key that the token names may not sign with this algorithm";
            refused(Reason::AlgorithmNotAllowed, why)
        } else {
            refused(
                Reason::UnknownKey,
                "the issuer has no key that may have signed the token",
            )
        },
    )
}

fn refused(reason: Reason, why: &'static str) -> Rejection {
    Rejection {
        reason,
        why: Cow::Borrowed(why),
        issuer: None,
    }
}

impl From<Malformed> for Rejection {
    fn from(malformed: Malformed) -> Rejection {
        refused(malformed.reason, malformed.why)
    }
}
