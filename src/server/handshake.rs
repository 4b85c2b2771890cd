//! TLS with a caller, before there is HTTP.
//!
//! A handshake has the time of a head (`limits.header_timeout`), and there are at most
//! [`UNDER_WAY`] of them on a data thread. Who speaks plain HTTP is told so in plain HTTP.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use super::{LINGER, mistaken};
use crate::net::{Io, Secured, proxy_protocol};
use crate::proxy::Role;
use crate::proxy::conn::{Command, Conn};
use crate::proxy::respond::{Refusal, in_words};
use crate::proxy::signal::Phase;
use crate::proxy::worker::Worker;
use crate::reason::Reason;
use crate::tls;

/// Handshakes at one time.
pub(super) const UNDER_WAY: usize = 512;

/// The connection as HTTP is to be spoken on it; `None` where it has ended.
pub(super) async fn secured(worker: &Worker, conn: &Rc<Conn>, io: Io) -> Option<Io> {
    let view = worker.view();
    let tls = match (conn.role, &view.policy.inbound) {
        (Role::Inbound, Some(inbound)) => inbound.tls.as_ref().map(|tls| (inbound, tls)),
        _ => None,
    };
    let Some((inbound, tls)) = tls else {
        return Some(io);
    };
    let under_way = worker.begin_handshake(conn, UNDER_WAY);
    // Boxed: a connection without TLS does not carry its room.
    let has_begun = Cell::new(false);
    let mut agreed = Box::pin(agree(conn, tls, inbound.reveal_reasons, io, &has_begun));
    let (agreed, command) = unless_told(conn, &has_begun, agreed.as_mut()).await?;
    drop(under_way);
    let now = worker.clock.boot();
    let why = match agreed {
        Ok(Ok(io)) => {
            // Whoever shook hands during a drain has a request, which is the last one.
            let phase = match command {
                Command::Drain => Phase::Head,
                _ => Phase::Idle,
            };
            conn.signal.set(phase, now);
            return Some(io);
        }
        Ok(Err(mistake)) => mistake.to_owned(),
        // Probes of a port, and callers that thought better of it.
        Err(error) if is_leaving(&error) => return None,
        Err(error) => error.to_string(),
    };
    let what = "a TLS handshake failed";
    failed(worker, conn, Reason::BadRequest, what, &why);
    None
}

/// What `agreed` comes to, and what the connection is told by then; `None` where it is to end first.
pub(super) async fn unless_told<T>(
    conn: &Conn,
    has_begun: &Cell<bool>,
    mut agreed: Pin<&mut impl Future<Output = T>>,
) -> Option<(T, Command)> {
    poll_fn(|cx| {
        let command = conn.command(cx.waker());
        if command == Command::Close {
            return Poll::Ready(None);
        }
        match agreed.as_mut().poll(cx) {
            // Nobody who has said nothing yet holds up a drain.
            Poll::Pending if command == Command::Drain && !has_begun.get() => Poll::Ready(None),
            agreed => agreed.map(|agreed| Some((agreed, command))),
        }
    })
    .await
}

/// Counts a connection that ended for this reason and without an answer of its own, and says why.
pub(super) fn failed(
    worker: &Worker,
    conn: &Conn,
    reason: Reason,
    what: &str,
    why: &dyn std::fmt::Display,
) {
    worker.counters.of(conn.role.side()).refused(reason);
    let now = worker.clock.boot();
    if let Some(unsaid) = worker.log.may_say(now, reason) {
        tracing::info!(
            listener = conn.role.key(), reason = reason.word(), peer = conn.peer().to_str().ok(),
            %why, unsaid, "{what}"
        );
    }
}

fn is_leaving(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// What the caller speaks where it is not TLS: `Ok(Err(_))`. Plain HTTP was told so.
async fn agree(
    conn: &Conn,
    tls: &tls::server::Handle,
    reveal: bool,
    mut io: Io,
    has_begun: &Cell<bool>,
) -> io::Result<Result<Io, &'static str>> {
    let mut room = [0; 16];
    let first = io.first_bytes(&mut room).await?;
    has_begun.set(true);
    if proxy_protocol::begins(first) {
        return Ok(Err(mistaken::announced(conn)));
    }
    if first.first().is_some_and(u8::is_ascii_uppercase) {
        io.write_all(plain(reveal).as_bytes()).await?;
        io.shutdown().await?;
        // What is unread at the close would take the answer from the caller.
        let (mut rest, mut nowhere) = (io.take(64 * 1024), tokio::io::sink());
        let discarded = tokio::io::copy(&mut rest, &mut nowhere);
        let _ = tokio::time::timeout(LINGER, discarded).await;
        return Ok(Err("the caller speaks plain HTTP; call it with https://"));
    }
    let acceptor = TlsAcceptor::from(tls.config());
    let secured = Secured::agree(acceptor, io).await?;
    Ok(Ok(Io::Tls(Box::new(secured))))
}

/// The answer to plain HTTP.
fn plain(reveal: bool) -> String {
    let refusal = Refusal {
        reveal,
        ..Refusal::new(
            Reason::BadRequest,
            "this port speaks TLS: call it with https://",
        )
    };
    let (status, proxy_status, body) = in_words(&refusal);
    format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: application/problem+json\r\n\
         content-length: {}\r\nproxy-status: {proxy_status}\r\n\r\n{body}",
        body.len()
    )
}
