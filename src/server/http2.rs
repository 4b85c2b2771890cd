//! HTTP/2 on a connection, once it is known to be spoken: by ALPN, or by its preface.
//!
//! Each of its streams is an exchange of its own in a task of its own, registered and swept like a
//! connection of HTTP/1.1. What one connection may hold:
//!
//! - `limits.concurrent_streams` requests, each of `limits.header_bytes`;
//! - of their bodies, a window of [`WINDOW`] for each stream, and [`STANDING`] of these together: so
//!   many streams stand still before they take another's room;
//! - of their answers, [`SEND`] and what was read from the upstream at a time, for each stream.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::Bounds;
use super::frames::{Code, Frames};
use super::handshake::failed;
use super::serve::OwnFault;
use crate::net::Io;
use crate::proxy::body::Body;
use crate::proxy::conn::{Command, Conn, Opened};
use crate::proxy::signal::Phase;
use crate::proxy::worker::Worker;
use crate::reason::Reason;
use crate::telemetry::counters::{Counters, Side};

/// What a stream may have sent of its body before we took it. Bytes.
const WINDOW: u32 = 256 * 1024;
/// Windows' worth of a connection.
const STANDING: u32 = 32;
/// What a stream may have of its answer in the buffer. Bytes.
const SEND: usize = 64 * 1024;

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>>>>;

/// Spawns what answers a stream, with the stream that has just been opened.
#[derive(Clone)]
struct Spawn {
    opened: Rc<Cell<Option<Opened>>>,
    counters: Arc<Counters>,
    side: Side,
}

impl<F: Future<Output = ()> + 'static> Executor<F> for Spawn {
    fn execute(&self, answering: F) {
        let opened = self.opened.take();
        let (counters, side) = (Arc::clone(&self.counters), self.side);
        tokio::task::spawn_local(async move {
            let _fault = OwnFault(counters.of(side));
            let mut answering = pin!(answering);
            poll_fn(|cx| {
                let stream = opened.as_ref().map(Opened::conn);
                match stream.map(|stream| stream.command(cx.waker())) {
                    // h2 resets what is dropped.
                    Some(Command::Close) => Poll::Ready(()),
                    _ => answering.as_mut().poll(cx),
                }
            })
            .await;
        });
    }
}

fn builder(bounds: &Bounds, spawn: Spawn) -> http2::Builder<Spawn> {
    let streams = bounds.concurrent_streams;
    let header_bytes = u32::try_from(bounds.header_bytes).unwrap_or(u32::MAX);
    let mut builder = http2::Builder::new(spawn);
    builder
        .max_concurrent_streams(streams)
        // Whoever gives up all its requests at once has done nothing yet that costs much.
        .max_pending_accept_reset_streams(streams.max(20) as usize)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * streams.min(STANDING))
        .max_send_buf_size(SEND)
        // It counts 32 bytes more for each field. The limit that is told and counted is ours.
        .max_header_list_size(header_bytes.saturating_mul(2));
    builder
}

/// Serves the connection to its end; `early` was read already.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    bounds: &Bounds,
    conn: &Rc<Conn>,
    io: Io,
    early: Bytes,
) {
    conn.share();
    let spawn = Spawn {
        opened: Rc::default(),
        counters: Arc::clone(&worker.counters),
        side: conn.role.side(),
    };
    let builder = builder(bounds, spawn.clone());
    let frames = Frames::new(io, early, Rc::clone(conn), Arc::clone(&worker.counters));
    let answering = (Rc::clone(worker), Rc::clone(conn));
    let (header_bytes, exchanges) = (bounds.header_bytes, bounds.exchanges);
    let service = service_fn(move |mut request: Request<Incoming>| -> Answer {
        let (worker, conn) = &answering;
        let opened = worker.open_stream(conn);
        let stream = Rc::clone(opened.conn());
        spawn.opened.set(Some(opened));
        let begun = worker.begin_stream(&stream, &mut request, header_bytes, exchanges);
        let worker = Rc::clone(worker);
        Box::pin(async move {
            next_turn().await;
            worker.answer(stream, request, begun).await
        })
    });
    let serving = builder.serve_connection(TokioIo::new(frames.clone()), service);
    let mut serving = Box::pin(serving);
    let mut is_draining = false;
    let ended = poll_fn(|cx| {
        match conn.command(cx.waker()) {
            Command::Run => {}
            Command::Drain if is_draining => {}
            Command::Drain if conn.signal.phase() == Phase::Idle && !frames.has_begun() => {
                return Poll::Ready(None);
            }
            Command::Drain => {
                is_draining = true;
                if conn.signal.phase() == Phase::Idle {
                    // It has a moment to say what it had sent by then.
                    conn.signal.enter(Phase::Idle);
                }
                serving.as_mut().graceful_shutdown();
            }
            Command::Close => return Poll::Ready(None),
        }
        serving.as_mut().poll(cx).map(Some)
    })
    .await;
    drop(serving);
    end(worker, conn, frames, ended.is_some()).await;
}

/// A request that was given up as soon as it was sent is not begun: h2 knows of it by the next turn.
async fn next_turn() {
    let mut has_turned = false;
    poll_fn(|cx| {
        if has_turned {
            return Poll::Ready(());
        }
        has_turned = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Counts why it ended, says so where h2 has not, and closes.
async fn end(worker: &Worker, conn: &Conn, frames: Frames, by_itself: bool) {
    let is_head = conn.signal.phase() == Phase::Head;
    let (code, reason, why) = if frames.is_enough() {
        let why = "it sent too many frames that ask for nothing";
        (Some(Code::EnhanceYourCalm), Reason::Overloaded, why)
    } else if let Some(told) = frames.told() {
        let reason = match told == Code::EnhanceYourCalm as u32 {
            true => Reason::Overloaded,
            false => Reason::BadRequest,
        };
        (None, reason, "it broke the rules")
    } else if by_itself {
        return;
    } else if is_head {
        let why = "a head did not end in time";
        (Some(Code::ProtocolError), Reason::Timeout, why)
    } else {
        return frames.close(Some(Code::NoError)).await;
    };
    let what = "an HTTP/2 connection was ended";
    failed(worker, conn, reason, what, &why);
    frames.close(code).await;
}
