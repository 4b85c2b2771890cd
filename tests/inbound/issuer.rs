//! An issuer that is asked for its keys: counts the calls, can be slow, can be away.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use regent::fetch::{Error, Request, Response, Service};
use serde_json::json;

use crate::forge::Forge;
use crate::signer::{KEYS, Signer};
use crate::world::HOME;

#[derive(Clone)]
pub(crate) struct Issuer(Arc<Mutex<State>>);

struct State {
    body: String,
    delay: Duration,
    is_down: bool,
    calls: usize,
    /// Those that only public addresses would do for.
    public: Vec<String>,
}

impl Issuer {
    pub(crate) fn with(keys: &[(&str, &Signer)]) -> Issuer {
        let issuer = Issuer(Arc::new(Mutex::new(State {
            body: String::new(),
            delay: Duration::from_millis(10),
            is_down: false,
            calls: 0,
            public: Vec::new(),
        })));
        issuer.publish(keys);
        issuer
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic")
    }

    /// The whole set from here on.
    pub(crate) fn publish(&self, keys: &[(&str, &Signer)]) {
        self.publish_members(Vec::new(), keys);
    }

    /// The same, with a key that has no name.
    pub(crate) fn publish_beside(&self, nameless: &Signer, keys: &[(&str, &Signer)]) {
        self.publish_members(vec![nameless.jwk()], keys);
    }

    fn publish_members(&self, nameless: Vec<serde_json::Value>, keys: &[(&str, &Signer)]) {
        let named = (keys.iter()).map(|(kid, signer)| {
            let mut jwk = signer.jwk();
            jwk["kid"] = json!(kid);
            jwk
        });
        let members: Vec<_> = nameless.into_iter().chain(named).collect();
        self.state().body = json!({ "keys": members }).to_string();
    }

    /// Says this, whatever is asked.
    pub(crate) fn say(&self, body: String) {
        self.state().body = body;
    }

    /// Whether a call for this came, that only a public address would do for.
    pub(crate) fn public_only(&self, url: &str) -> bool {
        self.state().public.iter().any(|called| called == url)
    }

    pub(crate) fn down(&self, is_down: bool) {
        self.state().is_down = is_down;
    }

    pub(crate) fn slow(&self, delay: Duration) {
        self.state().delay = delay;
    }

    pub(crate) fn calls(&self) -> usize {
        self.state().calls
    }

    pub(crate) fn service(&self) -> Service {
        self.beside(self)
    }

    /// This one, and `other` for every URL that ends with `/other`.
    pub(crate) fn beside(&self, other: &Issuer) -> Service {
        let both = [self.clone(), other.clone()];
        Service::new(tower::service_fn(move |request: Request| {
            let is_other = request.url.path() == "/other";
            let issuer = both[usize::from(is_other)].clone();
            async move {
                let delay = {
                    let mut state = issuer.state();
                    state.calls += 1;
                    if request.public_only {
                        state.public.push(request.url.to_string());
                    }
                    state.delay
                };
                tokio::time::sleep(delay).await;
                let state = issuer.state();
                match state.is_down {
                    true => Err(Error::Connect("refused".to_owned())),
                    false => Ok(Response {
                        status: StatusCode::OK,
                        headers: HeaderMap::new(),
                        body: Bytes::from(state.body.clone()),
                    }),
                }
            }
        }))
    }
}

/// `home` with a JWK set that is fetched.
pub(crate) fn fetched(refresh: &str, cooldown: &str, max_stale: &str) -> String {
    format!(
        "issuer = '{HOME}'\njwks_url = 'http://127.0.0.1:1/jwks'\nalgorithms = ['ES256']\n\
         jwks_refresh = '{refresh}'\njwks_cooldown = '{cooldown}'\njwks_max_stale = '{max_stale}'\n"
    )
}

/// A token of that `home`.
pub(crate) fn signed(now: i64, kid: &str, signer: &'static Signer) -> Forge {
    let forge = Forge::home(now).header("alg", "ES256").header("kid", kid);
    forge.by(signer)
}

/// One more key; tests make a few dozen and keep them.
pub(crate) fn new_key() -> &'static Signer {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    Box::leak(Box::new(Signer::P256(pair)))
}

/// A key that no issuer has.
pub(crate) fn stranger() -> &'static Signer {
    &KEYS.p256_other
}
