//! Upgraded connections: bytes both ways after the upstream's 101, and only then.

use http::header::{CONNECTION, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional_with_sizes;

use super::headers::{Seen, connection_has};
use super::worker::Exchange;

const BUFFER: usize = 16 * 1024;

/// An upgrade that the caller asked for and that is passed on.
#[derive(Debug)]
pub struct Wish {
    /// The protocol, as the caller wrote it.
    pub protocol: HeaderValue,
    /// The caller's bytes, once the 101 is out.
    pub downstream: OnUpgrade,
}

/// Takes a request's wish for an upgrade, where it is one that may be passed on: HTTP/1.1, GET, no
/// body, one protocol, named in `Connection`, and not `h2c`, which would hide requests from us.
pub fn wish(parts: &mut Parts, seen: Seen, has_body: bool) -> Option<Wish> {
    if !seen.has(Seen::UPGRADE) {
        return None;
    }
    let downstream = parts.extensions.remove::<OnUpgrade>()?;
    let mut protocols = parts.headers.get_all(UPGRADE).iter();
    let protocol = protocols.next()?.clone();
    let one = protocols.next().is_none()
        && !protocol.is_empty()
        && !protocol.as_bytes().contains(&b',')
        && !protocol.as_bytes().eq_ignore_ascii_case(b"h2c");
    (one && !has_body
        && parts.method == Method::GET
        && parts.version == Version::HTTP_11
        && connection_has(&parts.headers, "upgrade"))
    .then_some(Wish {
        protocol,
        downstream,
    })
}

/// Says in a message's head that the protocol is to be switched.
pub fn announce(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// Carries bytes until both sides have ended. The exchange counts as in flight until then.
pub async fn run(downstream: OnUpgrade, upstream: OnUpgrade, exchange: Exchange) {
    let (Ok(downstream), Ok(upstream)) = (downstream.await, upstream.await) else {
        return;
    };
    let mut downstream = TokioIo::new(downstream);
    let mut upstream = TokioIo::new(upstream);
    // Either side may end in any way it likes; there is nobody left to tell.
    let copied = copy_bidirectional_with_sizes(&mut downstream, &mut upstream, BUFFER, BUFFER);
    tokio::select! {
        _ = copied => {}
        () = exchange.over() => {}
    }
    drop(exchange);
}
