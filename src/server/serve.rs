//! One connection from its first byte to its end: TLS where it is asked for, then HTTP/1.1, or HTTP/2
//! where that is what it turns out to speak.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;

use super::handshake::failed;
use super::observe::Observed;
use super::{Bounds, LINGER, announced, handshake, http2, mistaken};
use crate::net::Io;
use crate::proxy::conn::{Command, Conn, Opened};
use crate::proxy::framing::Violation;
use crate::proxy::signal::Phase;
use crate::proxy::worker::Worker;
use crate::reason::Reason;
use crate::telemetry::counters::SideCounters;
use crate::tls;

/// What every connection is served with.
#[derive(Debug)]
pub(super) struct Served {
    /// hyper, as far as it is HTTP/1.1.
    pub(super) http1: http1::Builder,
    pub(super) bounds: Bounds,
}

/// hyper, as every connection has it.
#[must_use]
pub fn http1(bounds: &Bounds) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .half_close(false)
        .header_read_timeout(None)
        .max_header_size(bounds.header_bytes)
        .max_buf_size(bounds.header_bytes.max(8192));
    builder
}

/// Serves one connection to its end.
pub(super) async fn serve(worker: Rc<Worker>, served: Rc<Served>, io: Io, opened: Opened) {
    let conn = opened.conn();
    let _fault = OwnFault(worker.counters.of(conn.role.side()));
    let io = match conn.announces {
        // Rare: not a part of every connection's future.
        true => Box::pin(announced::heard(&worker, conn, io)).await,
        false => Some(io),
    };
    let Some(io) = io else {
        return;
    };
    let Some(io) = handshake::secured(&worker, conn, io).await else {
        return;
    };
    // Boxed: one of HTTP/1.1 does not carry its room.
    let http2 = |io, early| Box::pin(http2::serve(&worker, &served.bounds, conn, io, early));
    if io.protocol() == Some(tls::server::HTTP2) {
        return http2(io, Bytes::new()).await;
    }
    let service = service_fn(|request| {
        // Before the first poll: hyper looks for the caller's end in between.
        let begun = worker.begin(conn, &request);
        Rc::clone(&worker).answer(Rc::clone(conn), request, begun)
    });
    let io = TokioIo::new(Observed::new(
        io,
        Arc::clone(&conn.signal),
        served.bounds.header_bytes,
    ));
    let mut serving = served.http1.serve_connection(io, service).with_upgrades();
    let mut is_last = false;
    let ended = poll_fn(|cx| {
        match conn.command(cx.waker()) {
            Command::Run => {}
            Command::Drain if is_last => {}
            Command::Drain => {
                // A request that came before this is answered: hyper closes what it takes for idle.
                conn.signal.look();
                if let Poll::Ready(ended) = Pin::new(&mut serving).poll(cx) {
                    return Poll::Ready(Some(ended));
                }
                // One whose head is still coming is answered as the last one.
                is_last = conn.signal.phase() != Phase::Head;
                if is_last {
                    Pin::new(&mut serving).graceful_shutdown();
                }
            }
            Command::Close => return Poll::Ready(None),
        }
        Pin::new(&mut serving).poll(cx).map(Some)
    })
    .await;
    // Before it is taken apart, which ends what is being answered.
    let phase = conn.signal.phase();
    let mut parts = serving.into_parts();
    let is_too_long = (parts.as_mut()).is_some_and(|parts| parts.io.inner_mut().is_too_long());
    let unread = match &ended {
        None if phase == Phase::Head => {
            let why = match worker.is_draining() {
                true => "its head had not ended when the sidecar did",
                false => "its head did not end within limits.header_timeout",
            };
            Some((Reason::Timeout, TOO_SLOW, why))
        }
        Some(_) if is_too_long => {
            let why = "its request line is longer than limits.header_bytes";
            Some((Reason::UriTooLong, TOO_LONG, why))
        }
        _ => None,
    };
    if let Some((reason, answer, why)) = unread {
        failed(&worker, conn, reason, UNREAD, &why);
        if let Some(parts) = parts {
            say(parts.io.into_inner(), answer).await;
        }
        return;
    }
    let Some(ended) = ended else {
        return;
    };
    if let Err(error) = ended {
        let rest = parts.as_ref().map(|parts| &*parts.read_buf);
        refused(&worker, conn, &error, rest.unwrap_or_default());
    }
    if let Some((io, early)) = parts.and_then(begun_as_http2) {
        http2(io, early).await;
    }
}

/// Counts a panic, which ends its connection, or its stream, and nothing else.
pub(super) struct OwnFault<'a>(pub(super) &'a SideCounters);

impl Drop for OwnFault<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.refused(Reason::InternalError);
            tracing::error!("a connection ended in a panic: please report it");
        }
    }
}

/// The stream, and all that was read of it, where it is HTTP/2.
fn begun_as_http2<S>(parts: http1::Parts<TokioIo<Observed>, S>) -> Option<(Io, Bytes)> {
    let (io, withheld) = parts.io.into_inner().into_http2()?;
    let mut early = BytesMut::from(parts.read_buf);
    early.extend_from_slice(&withheld);
    Some((io, early.freeze()))
}

/// What is said of a connection whose next request never was one.
const UNREAD: &str = "a request could not be read";

/// Counts what hyper refused before there was a request, and says why. `rest` begins with it.
fn refused(worker: &Worker, conn: &Conn, error: &hyper::Error, rest: &[u8]) {
    tracing::debug!(%error, "a connection ended early");
    if !error.is_parse() {
        return;
    }
    // hyper has no other name for it.
    let (reason, why) = if error.to_string() == "URI too long" {
        (Reason::UriTooLong, Some("its target is too long"))
    } else if error.is_parse_too_large() {
        let why = "its head is larger than limits.header_bytes, or has more than 100 fields";
        (Reason::HeadersTooLarge, Some(why))
    } else {
        let violation = || conn.signal.violation().map(Violation::text);
        let why = mistaken::for_http(conn, rest).or_else(violation);
        (Reason::BadRequest, why)
    };
    match why {
        Some(why) => failed(worker, conn, reason, UNREAD, &why),
        None => failed(worker, conn, reason, UNREAD, error),
    }
}

const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\
    content-length: 0\r\nproxy-status: regent; details=\"timeout\"\r\n\r\n";
const TOO_LONG: &[u8] = b"HTTP/1.1 414 URI Too Long\r\nconnection: close\r\n\
    content-length: 0\r\nproxy-status: regent; details=\"uri_too_long\"\r\n\r\n";

/// Answers what has become no request.
async fn say(mut io: Observed, answer: &[u8]) {
    // Whoever was too slow to ask may be gone; nothing is owed.
    let _ = tokio::time::timeout(LINGER, async {
        io.write_all(answer).await?;
        io.shutdown().await
    })
    .await;
}
