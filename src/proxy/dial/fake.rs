//! Addresses with fates, for tests of who is tried when.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, sleep};

use crate::config::Listen;
use crate::net::{Io, Listener, Local, Net};

/// What becomes of an attempt, and after how long.
#[derive(Clone, Copy)]
pub(super) enum Fate {
    Accepts(Duration),
    Fails(Duration, io::ErrorKind),
    Silent,
}

/// Addresses with fates, and when each was tried.
pub(super) struct Fates {
    pub(super) fates: HashMap<SocketAddr, Fate>,
    pub(super) began: Instant,
    pub(super) tried: Mutex<Vec<(SocketAddr, Duration)>>,
    pub(super) under_way: Mutex<usize>,
}

struct UnderWay<'a>(&'a Fates);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        *self.0.under_way.lock().expect("no panic") -= 1;
    }
}

impl Net for Fates {
    fn bind(&self, _: &Listen) -> io::Result<Listener> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn connect<'a>(&'a self, to: SocketAddr) -> Local<'a, io::Result<Io>> {
        let tried = (to, self.began.elapsed());
        self.tried.lock().expect("no panic").push(tried);
        *self.under_way.lock().expect("no panic") += 1;
        let under_way = UnderWay(self);
        Box::pin(async move {
            let _under_way = under_way;
            match self.fates[&to] {
                Fate::Accepts(after) => {
                    sleep(after).await;
                    // Its other end says who it is.
                    let (ours, mut theirs) = tokio::io::duplex(64);
                    let name = to.to_string();
                    let said = theirs.write_all(name.as_bytes());
                    said.await.expect("room");
                    Ok(Io::Boxed(Box::new(ours)))
                }
                Fate::Fails(after, kind) => {
                    sleep(after).await;
                    Err(kind.into())
                }
                Fate::Silent => std::future::pending().await,
            }
        })
    }
}

impl Fates {
    /// These addresses, from now on.
    pub(super) fn new(fates: impl IntoIterator<Item = (SocketAddr, Fate)>) -> Fates {
        Fates {
            fates: fates.into_iter().collect(),
            began: Instant::now(),
            tried: Mutex::default(),
            under_way: Mutex::default(),
        }
    }
}
