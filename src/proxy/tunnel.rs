//! Upgraded connections: bytes both ways after the upstream's 101, and only then.
//!
//! One whose time is over is cut; a WebSocket ends with a close frame between two frames.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use http::header::{CONNECTION, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy_bidirectional_with_sizes};

use super::conn::Conn;
use super::exchange::Exchange;
use super::headers::{Seen, connection_has};
use super::wire::Switched;
use frames::Framed;

mod frames;

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

/// An upgraded connection.
#[derive(Debug)]
pub struct Tunnel {
    /// The caller's end.
    pub downstream: OnUpgrade,
    /// The upstream's end.
    pub upstream: Switched,
    /// WebSocket frames go through it.
    pub is_websocket: bool,
}

/// Carries bytes until both sides have ended, or the time is over. The exchange counts as in flight
/// until then.
pub async fn run(tunnel: Tunnel, exchange: Exchange) {
    let Ok(downstream) = tunnel.downstream.await else {
        return;
    };
    let mut downstream = TokioIo::new(downstream);
    let mut upstream = tunnel.upstream;
    let conn = exchange.conn();
    if tunnel.is_websocket && conn.ends_at.get().is_some() {
        websocket(downstream, upstream, conn).await;
    } else {
        // Either side may end in any way it likes; there is nobody left to tell.
        let copied = copy_bidirectional_with_sizes(&mut downstream, &mut upstream, BUFFER, BUFFER);
        tokio::select! {
            _ = copied => {}
            () = conn.over() => {}
        }
    }
    drop(exchange);
}

/// The same, with a close frame to both sides when the time is over.
async fn websocket<D, U>(downstream: D, upstream: U, conn: &Conn)
where
    D: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let (mut downstream, to_caller) = Framed::new(downstream);
    let (mut upstream, to_upstream) = Framed::new(upstream);
    let is_closing = {
        let copied = copy_bidirectional_with_sizes(&mut downstream, &mut upstream, BUFFER, BUFFER);
        let mut copied = pin!(copied);
        tokio::select! {
            _ = &mut copied => return,
            () = conn.over() => {}
        }
        to_caller.end();
        to_upstream.end();
        // The frame at hand goes out whole, or the caller could not read ours.
        let between = poll_fn(|cx| {
            let copied = copied.as_mut().poll(cx);
            match to_caller.is_between() {
                true => Poll::Ready(true),
                false => copied.map(|_| false),
            }
        });
        tokio::select! {
            is_between = between => is_between,
            () = conn.cut() => false,
        }
    };
    if !is_closing {
        return;
    }
    let (mut downstream, mut upstream) = (downstream.io, upstream.io);
    let closing = async {
        if to_upstream.is_between() {
            let mask = fastrand::u32(..).to_be_bytes();
            upstream.write_all(&frames::close(Some(mask))).await?;
        }
        downstream.write_all(&frames::close(None)).await?;
        upstream.shutdown().await?;
        downstream.shutdown().await?;
        // The caller's own close frame, and its end.
        tokio::io::copy(&mut downstream, &mut tokio::io::sink()).await
    };
    tokio::select! {
        _ = closing => {}
        () = conn.cut() => {}
    }
}
