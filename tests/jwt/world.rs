//! The issuers that the tests' tokens come from. As plain data, so that the same world can be put
//! into the config of a running Regent.

use std::sync::Arc;
use std::time::Duration;

use regent::clock::Boot;
use regent::jwt::algorithm::{Algorithm, Algorithms};
use regent::jwt::issuers::{Issuer, Issuers, Requirement};
use regent::jwt::key_set::KeySet;
use regent::jwt::keys::{Keys, Snapshot};
use regent::jwt::verifier::Now;
use serde_json::{Value, json};

use crate::signer::{KEYS, Keys as Pairs, Signer, b64};

/// One issuer as a config would have it.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) issuer: &'static str,
    /// PEM or a JWK set; empty: it cannot be had.
    pub(crate) keys: String,
    pub(crate) algorithms: &'static [&'static str],
    pub(crate) audiences: &'static [&'static str],
    pub(crate) required: Vec<(&'static str, Vec<Value>)>,
}

/// A region: PEM, no `kid`, no audience.
pub(crate) const HOME: &str = "iss.my_company.com";
/// An OpenID provider: a JWK set with members that are no keys to verify with, every algorithm,
/// audiences.
pub(crate) const OIDC: &str = "https://issuer.example/realms/x";
/// Another one: its keys have the same names.
pub(crate) const WEST: &str = "https://west.example";
/// Its tokens must have claims, and may have any RSA signature.
pub(crate) const STRICT: &str = "strict";
/// Its key says that it is for RS256 alone, the config allows more.
pub(crate) const NARROW: &str = "narrow";
/// Its keys were never fetched.
pub(crate) const DARK: &str = "dark";

/// The secret that the provider's set holds by mistake.
pub(crate) const SHARED: &[u8; 64] = &[b's'; 64];

fn named(kid: &str, signer: &Signer) -> Value {
    let mut jwk = signer.jwk();
    jwk["kid"] = json!(kid);
    jwk
}

fn jwks(members: &[(&str, &Signer)], others: Vec<Value>) -> String {
    let members = members.iter().map(|(kid, signer)| named(kid, signer));
    let members: Vec<_> = members.chain(others).collect();
    json!({ "keys": members }).to_string()
}

/// Members of a set that no signature may be verified with.
fn unusable(keys: &Pairs) -> Vec<Value> {
    let with = |kid, signer, name: &str, value: Value| {
        let mut jwk = named(kid, signer);
        jwk[name] = value;
        jwk
    };
    vec![
        json!({"kty": "oct", "kid": "shared", "k": b64(SHARED)}),
        json!({"kty": "oct", "kid": "shared-hs256", "alg": "HS256", "use": "sig", "k": b64(SHARED)}),
        with("encrypts", &keys.rsa_other, "use", json!("enc")),
        with(
            "wraps",
            &keys.rsa_other,
            "key_ops",
            json!(["encrypt", "wrapKey"]),
        ),
        with("for-oaep", &keys.rsa_other, "alg", json!("RSA-OAEP")),
        with("private", &keys.rsa_other, "d", json!(b64([1; 256]))),
    ]
}

/// All issuers; `max_lifetime` 24 hours, `leeway` 30 seconds, `token_types` `access`.
pub(crate) fn entries() -> Vec<Entry> {
    let keys = &*KEYS;
    let mut narrow = keys.rsa.jwk();
    narrow["kid"] = json!("n");
    narrow["alg"] = json!("RS256");
    let entry = |name, issuer, keys, algorithms| Entry {
        name,
        issuer,
        keys,
        algorithms,
        audiences: &[],
        required: Vec::new(),
    };
    let members = [
        ("k1", &keys.rsa),
        ("k2", &keys.p256),
        ("k3", &keys.p384),
        ("k4", &keys.ed25519),
    ];
    let west = [("k1", &keys.rsa_other), ("k2", &keys.p256_other)];
    vec![
        entry("home", HOME, keys.rsa.pem(), &["RS256"]),
        Entry {
            audiences: &["me", "me-too"],
            ..entry(
                "oidc",
                OIDC,
                jwks(&members, unusable(keys)),
                &["RS256", "PS256", "ES256", "ES384", "EdDSA"],
            )
        },
        entry("west", WEST, jwks(&west, Vec::new()), &["ES256"]),
        Entry {
            required: vec![
                ("role", vec![json!("admin"), json!(7)]),
                ("/realm_access/roles", vec![json!("model")]),
                ("scope", vec![json!("read")]),
            ],
            ..entry(
                "strict",
                STRICT,
                keys.rsa_other.pem(),
                &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"],
            )
        },
        entry(
            "narrow",
            NARROW,
            json!({ "keys": [narrow] }).to_string(),
            &["RS256", "RS512"],
        ),
        entry("dark", DARK, String::new(), &["RS256"]),
    ]
}

/// What the verifier needs.
pub(crate) struct World {
    pub(crate) issuers: Issuers,
    pub(crate) keys: Snapshot,
}

impl World {
    pub(crate) fn new(entries: Vec<Entry>) -> World {
        let keys = entries.iter().map(|entry| keys(&entry.keys)).collect();
        World {
            issuers: Issuers::new(entries.into_iter().map(issuer).collect()),
            keys: Snapshot::new(keys),
        }
    }
}

fn issuer(entry: Entry) -> Issuer {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Issuer {
        name: entry.name.to_owned(),
        issuer: entry.issuer.to_owned(),
        algorithms: algorithms(entry.algorithms),
        audiences: owned(entry.audiences),
        token_types: owned(&["access"]),
        leeway: Duration::from_secs(30),
        max_lifetime: Duration::from_secs(24 * 3600),
        required_claims: entry
            .required
            .into_iter()
            .map(|(name, accepted)| Requirement::new(name.to_owned(), accepted))
            .collect(),
    }
}

pub(crate) fn algorithms(names: &[&str]) -> Algorithms {
    names
        .iter()
        .map(|name| Algorithm::named(name).expect("a known algorithm"))
        .collect()
}

fn keys(text: &str) -> Keys {
    let set = KeySet::from_any(text.as_bytes()).ok().map(Arc::new);
    Keys {
        set,
        stale_at: None,
        fetch_allowed_at: None,
        next_attempt_at: Boot::default(),
        attempts: 1,
        trouble: None,
    }
}

/// The time at which tokens are judged.
pub(crate) fn now(unix_s: i64) -> Now {
    Now {
        unix_ms: unix_s * 1000,
        boot: Boot::from_nanos(1),
    }
}
