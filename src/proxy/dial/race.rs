//! Several addresses of one name: the first that accepts a connection is taken (RFC 8305).
//!
//! - They are tried in the order in which the name has them, both families in turn.
//! - The next attempt begins [`DELAY`] after the one before, or as soon as one fails.
//! - Attempts that are still under way end with the first that succeeds, or with the caller's time.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::net::{Io, Local, Net};

/// What an attempt has for itself before the next one begins (RFC 8305 section 5).
const DELAY: Duration = Duration::from_millis(250);

type Attempt<'a> = Local<'a, io::Result<Io>>;

/// A connection to one of `addresses`.
///
/// # Errors
/// All of them failed: why the first one did that there is a way to.
pub(super) async fn connect(net: &dyn Net, addresses: &[SocketAddr]) -> io::Result<Io> {
    let mut rest = addresses.iter();
    let mut under_way: Vec<Attempt<'_>> = Vec::new();
    let mut failure: Option<io::Error> = None;
    let mut pause = std::pin::pin!(sleep(Duration::ZERO));
    loop {
        if let Some(address) = rest.next() {
            under_way.push(net.connect(*address));
            pause.as_mut().reset(Instant::now() + DELAY);
        } else if under_way.is_empty() {
            return Err(failure.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()));
        }
        tokio::select! {
            biased;
            ended = poll_fn(|cx| poll_any(&mut under_way, cx)) => match ended {
                Ok(io) => return Ok(io),
                Err(error) => if failure.as_ref().is_none_or(has_no_route) {
                    failure = Some(error);
                },
            },
            () = &mut pause, if rest.len() > 0 => {}
        }
    }
}

/// What the first attempt that is done came to; it is none of them any more.
fn poll_any(attempts: &mut Vec<Attempt<'_>>, cx: &mut Context<'_>) -> Poll<io::Result<Io>> {
    for at in 0..attempts.len() {
        if let Poll::Ready(ended) = attempts[at].as_mut().poll(cx) {
            drop(attempts.remove(at));
            return Poll::Ready(ended);
        }
    }
    Poll::Pending
}

/// A machine without IPv6 says so of every IPv6 address, which tells nothing of the upstream.
fn has_no_route(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkUnreachable};
    matches!(
        error.kind(),
        AddrNotAvailable | HostUnreachable | NetworkUnreachable
    )
}

#[cfg(test)]
mod tests;
