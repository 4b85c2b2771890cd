//! An issuer without a network: keys made at run time, faults by order, and a log of the calls.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header;

use crate::clock::{Boot, Clock};
use crate::fetch::{self, Error, Request, Response, fake::response};

/// When tests begin. Seconds since the epoch.
pub(super) const START: i64 = 1_760_000_000;

/// A key pair of P-256.
pub(super) struct Pair {
    pub(super) kid: String,
    pair: EcdsaKeyPair,
}

impl Pair {
    pub(super) fn new(kid: &str) -> Pair {
        Pair {
            kid: kid.to_owned(),
            pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"),
        }
    }

    fn jwk(&self) -> String {
        // An uncompressed point: 4, x, y.
        let point = self.pair.public_key().as_ref();
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        format!(
            r#"{{"kty":"EC","crv":"P-256","kid":"{}","x":"{}","y":"{}"}}"#,
            self.kid,
            part(&point[1..33]),
            part(&point[33..])
        )
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature = self.pair.sign(&SystemRandom::new(), message);
        signature.expect("a signature").as_ref().to_vec()
    }
}

/// A JWK set of these keys.
pub(super) fn jwks(pairs: &[&Pair]) -> String {
    let keys: Vec<_> = pairs.iter().map(|pair| pair.jwk()).collect();
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

/// A JWK set of one new key.
pub(super) fn one(kid: &str) -> String {
    jwks(&[&Pair::new(kid)])
}

/// What the issuer does with a call for its keys.
#[derive(Clone, Debug)]
pub(super) enum Mood {
    /// Its work.
    Up,
    /// This, whatever is asked.
    Says(Response),
    /// No answer, at once.
    Fails(Error),
    /// No answer until the caller's own timeout.
    Hangs,
}

/// One call that came.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) at: Boot,
    pub(super) url: String,
    pub(super) etag: Option<String>,
    pub(super) public_only: bool,
}

pub(super) struct Inner {
    pub(super) mood: Mood,
    /// The JWK set.
    pub(super) keys: String,
    /// Further headers of the JWK set.
    pub(super) headers: Vec<(&'static str, String)>,
    /// Says 304 to its own ETag.
    pub(super) etag: Option<String>,
    /// The discovery document.
    pub(super) document: Response,
    pub(super) latency: Duration,
    calls: Vec<Call>,
}

pub(super) struct Origin {
    clock: Clock,
    inner: Mutex<Inner>,
}

impl Origin {
    /// The issuer `name` with one key.
    pub(super) fn new(name: &str, clock: &Clock) -> Arc<Origin> {
        let document = format!(
            r#"{{"issuer":"https://{name}.example","jwks_uri":"https://{name}.example/jwks"}}"#
        );
        Arc::new(Origin {
            clock: clock.clone(),
            inner: Mutex::new(Inner {
                mood: Mood::Up,
                keys: one("first"),
                headers: Vec::new(),
                etag: None,
                document: response(200, &[], &document),
                latency: Duration::from_millis(20),
                calls: Vec::new(),
            }),
        })
    }

    pub(super) fn with(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panics with it")
    }

    pub(super) fn set(&self, mood: Mood) {
        self.with().mood = mood;
    }

    pub(super) fn says(&self, status: u16, headers: &[(&str, &str)], body: &str) {
        self.set(Mood::Says(response(status, headers, body)));
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.with().calls.clone()
    }

    /// How many calls came for the discovery document, and for the keys.
    pub(super) fn counts(&self) -> (usize, usize) {
        let calls = self.calls();
        let documents = calls.iter().filter(|call| is_document(&call.url)).count();
        (documents, calls.len() - documents)
    }

    /// The way to it.
    pub(super) fn service(self: &Arc<Origin>) -> fetch::Service {
        let origin = Arc::clone(self);
        fetch::Service::new(tower::service_fn(move |request| {
            let origin = Arc::clone(&origin);
            async move { origin.answer(&request).await }
        }))
    }

    async fn answer(&self, request: &Request) -> Result<Response, Error> {
        let etag = request.headers.get(header::IF_NONE_MATCH);
        let etag = etag.map(|etag| etag.to_str().expect("plain").to_owned());
        let (mood, latency) = {
            let mut inner = self.with();
            inner.calls.push(Call {
                at: self.clock.boot(),
                url: request.url.to_string(),
                etag: etag.clone(),
                public_only: request.public_only,
            });
            (inner.mood.clone(), inner.latency)
        };
        match mood {
            Mood::Hangs => {
                tokio::time::sleep(Duration::from_secs(10)).await;
                return Err(Error::Timeout);
            }
            Mood::Fails(error) => return Err(error),
            Mood::Says(response) => return Ok(response),
            Mood::Up => tokio::time::sleep(latency).await,
        }
        let inner = self.with();
        if is_document(request.url.as_str()) {
            return Ok(inner.document.clone());
        }
        let mut answer = response(200, &[], &inner.keys);
        let mut headers = inner.headers.clone();
        headers.extend(inner.etag.clone().map(|etag| ("etag", etag)));
        for (name, value) in headers {
            answer.headers.insert(name, value.parse().expect("a value"));
        }
        if etag.is_some() && etag == inner.etag {
            answer.status = http::StatusCode::NOT_MODIFIED;
            answer.body = Bytes::new();
        }
        Ok(answer)
    }
}

fn is_document(url: &str) -> bool {
    url.contains("/.well-known/")
}
