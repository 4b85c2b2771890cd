//! A config with two issuers and rules, and tokens for it.

use std::path::PathBuf;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::Method;
use regent::app::Deps;
use regent::app::compile::{Compiled, Compiler};
use regent::cli::explain::{Explanation, Table, by_config};
use regent::clock::Clock;
use regent::config::load::load;
use regent::config::{Loaded, Sources};
use regent::dns::Resolver;
use regent::jwt::verifier::Now;
use regent::proxy::inbound::Asked;
use serde_json::{Value, json};
use tempfile::TempDir;

/// 2026-11-25T04:00:00Z.
pub(crate) const NOW: i64 = 1_795_579_200;

pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Signs tokens.
pub(crate) struct Signer(Ed25519KeyPair);

impl Signer {
    pub(crate) fn new() -> Signer {
        Signer(Ed25519KeyPair::generate().expect("a key"))
    }

    pub(crate) fn pem(&self) -> String {
        let der = self.0.public_key().as_der().expect("SPKI");
        format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD.encode(der.as_ref())
        )
    }

    pub(crate) fn jwk(&self, kid: &str) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": b64(self.0.public_key())})
    }

    pub(crate) fn sign(&self, header: &Value, claims: impl ToString) -> String {
        let input = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let signature = self.0.sign(input.as_bytes());
        format!("{input}.{}", b64(signature))
    }
}

pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) home: Signer,
    pub(crate) west: Signer,
    loaded: Loaded,
    compiled: Compiled,
}

impl World {
    pub(crate) fn new() -> World {
        World::with("")
    }

    /// With more lines in `[inbound]`.
    pub(crate) fn with(more: &str) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let (home, west) = (Signer::new(), Signer::new());
        let keys = json!({"keys": [west.jwk("west-1"), {"kty": "oct", "k": "AAAA", "kid": "odd"}]});
        let path = folder.path().display();
        std::fs::write(folder.path().join("home.pem"), home.pem()).expect("a file");
        std::fs::write(folder.path().join("west.json"), keys.to_string()).expect("a file");
        let config = format!(
            r#"
[inbound]
listen = "127.0.0.1:0"
upstream = "http://127.0.0.1:9"
{more}
[inbound.issuers.home]
issuer = "iss.home"
public_key_file = "{path}/home.pem"
algorithms = ["EdDSA"]
[inbound.issuers.west]
issuer = "https://west.example/"
jwks_file = "{path}/west.json"
algorithms = ["EdDSA", "RS256"]
audiences = ["here", "there"]
required_claims = {{ tenant = ["a", "b"] }}
[[inbound.rules]]
path = "/healthz"
anonymous = true
[[inbound.rules]]
path = "/admin"
claims = {{ role = ["admin"] }}
[[inbound.rules]]
path = "/admin/hooks"
methods = ["POST", "PUT"]
anonymous = true
"#
        );
        let file = folder.path().join("regent.toml");
        std::fs::write(&file, config).expect("a file");
        let sources = Sources {
            files: vec![file],
            sets: Vec::new(),
            env: [("HOME", "/home/alice")].into_iter().collect(),
            terminal: false,
        };
        let loaded = load(&sources).unwrap_or_else(|problems| panic!("{problems:#?}"));
        let deps = Deps::system();
        let (resolver, _lookups) = Resolver::new(deps.lookup.clone(), deps.clock.clone());
        let compiled = Compiler::new(deps, resolver)
            .compile(&loaded, None)
            .unwrap_or_else(|problems| panic!("{problems:#?}"));
        World {
            folder,
            home,
            west,
            loaded,
            compiled,
        }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn explain(&self, token: &str) -> Explanation {
        self.asked(token, None)
    }

    pub(crate) fn at(&self, token: &str, path: &str) -> Explanation {
        let asked = Asked {
            path,
            method: &Method::GET,
        };
        self.asked(token, Some(asked))
    }

    fn asked(&self, token: &str, asked: Option<Asked<'_>>) -> Explanation {
        let inbound = self.compiled.policy.inbound.as_ref().expect("inbound");
        let side = self.loaded.config.inbound.as_ref().expect("inbound");
        let keys = inbound.keys.snapshot();
        let revocations = inbound.revocations.as_ref().map(|list| list.state());
        let table = Table {
            inbound,
            rules: &side.rules,
            keys: &keys,
            revocations: revocations.as_deref(),
        };
        by_config(token.as_bytes(), table, asked, now())
    }

    /// A token of home with some claims changed; `"none"` takes one out.
    pub(crate) fn home(&self, changes: Value) -> String {
        self.home
            .sign(&json!({"alg": "EdDSA", "typ": "JWT"}), claims(changes))
    }

    /// A token of west.
    pub(crate) fn west(&self, changes: Value) -> String {
        let mut own = json!({"iss": "https://west.example/", "aud": "here", "tenant": "a"});
        merge(&mut own, changes);
        self.west
            .sign(&json!({"alg": "EdDSA", "kid": "west-1"}), claims(own))
    }
}

pub(crate) fn now() -> Now {
    Now {
        unix_ms: NOW * 1000,
        boot: Clock::system().boot(),
    }
}

pub(crate) fn claims(changes: Value) -> Value {
    let mut claims = json!({
        "iss": "iss.home",
        "token_type": "access",
        "iat": NOW - 12,
        "exp": NOW + 252,
        "username": "alice",
        "user_id": 7,
        "role": "admin",
        "jti": "0a1b",
    });
    merge(&mut claims, changes);
    let members = claims.as_object_mut().expect("an object");
    members.retain(|_, value| *value != "none");
    claims
}

fn merge(into: &mut Value, changes: Value) {
    for (name, value) in changes.as_object().expect("an object") {
        into[name] = value.clone();
    }
}
