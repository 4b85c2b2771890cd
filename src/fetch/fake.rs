//! A region or an issuer for tests, as a tower service: answers by the script, records the calls,
//! can be slow and can fail.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{Error, Request, Response, Service};

/// What answers, and what it saw.
#[derive(Default)]
pub struct Fake {
    script: Mutex<VecDeque<(Duration, Result<Response, Error>)>>,
    calls: Mutex<Vec<Request>>,
}

impl Fake {
    /// A fake with nothing to say yet, and the service that calls it.
    #[must_use]
    pub fn new() -> (Arc<Fake>, Service) {
        let fake: Arc<Fake> = Arc::default();
        let service = {
            let fake = Arc::clone(&fake);
            tower::service_fn(move |request| {
                fake.calls.lock().expect("no panic").push(request);
                let next = fake.script.lock().expect("no panic").pop_front();
                async move {
                    let (delay, answer) = next.expect("a call that the script does not have");
                    tokio::time::sleep(delay).await;
                    answer
                }
            })
        };
        (fake, Service::new(service))
    }

    /// The next call that has no answer yet gets this one.
    pub fn answer(&self, answer: Result<Response, Error>) {
        self.answer_after(Duration::ZERO, answer);
    }

    /// As [`Fake::answer`], this much later.
    pub fn answer_after(&self, delay: Duration, answer: Result<Response, Error>) {
        self.script
            .lock()
            .expect("no panic")
            .push_back((delay, answer));
    }

    /// Every call so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Request> {
        self.calls.lock().expect("no panic").clone()
    }
}

/// An answer with a body; `application/json` unless the headers say otherwise.
#[must_use]
pub fn response(status: u16, headers: &[(&str, &str)], body: &str) -> Response {
    let mut map = HeaderMap::new();
    map.insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    for (name, value) in headers {
        map.insert(
            name.parse::<HeaderName>().expect("a header's name"),
            value.parse().expect("a header's value"),
        );
    }
    Response {
        status: StatusCode::from_u16(status).expect("a status"),
        headers: map,
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}
