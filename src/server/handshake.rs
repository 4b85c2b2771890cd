//! TLS with a caller, before there is HTTP.
//!
//! A handshake has the time of a head (`limits.header_timeout`), and there are at most
//! [`UNDER_WAY`] of them on a data thread. Who speaks plain HTTP is told so in plain HTTP.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use super::LINGER;
use crate::net::Io;
use crate::proxy::Role;
use crate::proxy::signal::Phase;
use crate::proxy::worker::{Command, Conn, Worker};
use crate::reason::Reason;

/// Handshakes at one time.
const UNDER_WAY: usize = 512;

/// The connection as HTTP is to be spoken on it; `None` where it has ended.
pub(super) async fn secured(worker: &Worker, conn: &Conn, io: Io) -> Option<Io> {
    let view = worker.view();
    let tls = match (conn.role, &view.policy.inbound) {
        (Role::Inbound, Some(inbound)) => inbound.tls.as_ref(),
        _ => None,
    };
    let Some(tls) = tls else {
        return Some(io);
    };
    worker.begin_handshake(conn, UNDER_WAY);
    // Boxed: a connection without TLS does not carry its room.
    let has_begun = Cell::new(false);
    let mut agreed = Box::pin(agree(TlsAcceptor::from(tls.config()), io, &has_begun));
    let ended = poll_fn(|cx| {
        let command = conn.command(cx.waker());
        if command == Command::Close {
            return Poll::Ready(None);
        }
        match agreed.as_mut().poll(cx) {
            // Nobody who has said nothing yet holds up a drain.
            Poll::Pending if command == Command::Drain && !has_begun.get() => Poll::Ready(None),
            agreed => agreed.map(Some),
        }
    });
    match ended.await? {
        Ok(Some(io)) => {
            conn.signal.set(Phase::Idle, worker.clock.boot());
            Some(io)
        }
        Ok(None) => {
            worker
                .counters
                .of(conn.role.side())
                .refused(Reason::BadRequest);
            None
        }
        Err(error) => {
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
    }
}

/// `None`: it was plain HTTP, and was told so.
async fn agree(
    acceptor: TlsAcceptor,
    mut io: Io,
    has_begun: &Cell<bool>,
) -> io::Result<Option<Io>> {
    let first = io.first_byte().await?;
    has_begun.set(true);
    if first.is_some_and(|first| first.is_ascii_uppercase()) {
        io.write_all(PLAIN).await?;
        io.shutdown().await?;
        // What is unread at the close would take the answer from the caller.
        let (mut rest, mut nowhere) = (io.take(64 * 1024), tokio::io::sink());
        let discarded = tokio::io::copy(&mut rest, &mut nowhere);
        let _ = tokio::time::timeout(LINGER, discarded).await;
        return Ok(None);
    }
    let stream = acceptor.accept(io).await?;
    Ok(Some(Io::Tls(Box::new(stream))))
}

const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\
    content-type: application/problem+json\r\ncontent-length: 136\r\n\
    proxy-status: regent; details=\"bad_request\"\r\n\r\n\
    {\"type\":\"about:blank\",\"status\":400,\"title\":\"Bad Request\",\
    \"detail\":\"this port speaks TLS: call it with https://\",\"reason\":\"bad_request\"}\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_answer_has_the_length_that_it_says() {
        let text = std::str::from_utf8(PLAIN).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let said = format!("content-length: {}\r\n", body.len());
        assert!(head.contains(&said), "{said}");
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(body["reason"], "bad_request");
    }
}
