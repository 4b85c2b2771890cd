//! A name server for tests: records what it was asked, can fail and be slow.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Answer, Error, Found, Lookup};

/// Names and what becomes of a lookup of them.
#[derive(Default)]
pub struct Fake {
    names: Mutex<HashMap<String, Result<Found, Error>>>,
    asked: Mutex<Vec<String>>,
    delay: Mutex<Duration>,
}

impl Fake {
    /// Knows nothing yet.
    #[must_use]
    pub fn new() -> Arc<Fake> {
        Arc::default()
    }

    /// `host` has these addresses from now on.
    pub fn set(&self, host: &str, addresses: &[&str], ttl: Duration) {
        let addresses: Vec<IpAddr> = addresses
            .iter()
            .map(|address| address.parse().expect("an address"))
            .collect();
        let found = Found { addresses, ttl };
        self.names
            .lock()
            .expect("no panic")
            .insert(host.into(), Ok(found));
    }

    /// Lookups of `host` fail from now on.
    pub fn fail(&self, host: &str, error: Error) {
        self.names
            .lock()
            .expect("no panic")
            .insert(host.into(), Err(error));
    }

    /// Every lookup takes this long from now on.
    pub fn delay(&self, by: Duration) {
        *self.delay.lock().expect("no panic") = by;
    }

    /// What was asked for, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }
}

impl Lookup for Fake {
    fn lookup(&self, host: &str) -> Answer {
        self.asked.lock().expect("no panic").push(host.into());
        let delay = *self.delay.lock().expect("no panic");
        let answer = self
            .names
            .lock()
            .expect("no panic")
            .get(host)
            .cloned()
            .unwrap_or_else(|| Err(Error::NoSuchName { host: host.into() }));
        Box::pin(async move {
            tokio::time::sleep(delay).await;
            answer
        })
    }
}
