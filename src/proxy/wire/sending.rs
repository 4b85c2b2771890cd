//! A request on its way out over a connection.
//!
//! The head and the first of its body go out in one write. The body is asked for more only when all
//! that it gave is written, so that no more than one piece of it is held.

use std::io::IoSlice;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::Method;
use http::request::Parts;
use http_body::Body as _;
use tokio::io::AsyncWrite as _;

use super::{Line, Wire};
use crate::proxy::upload::RequestBody;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// All of it is written.
    Whole,
    /// The other side stopped listening.
    Deaf,
    /// Its body ended before its time: the other side must not take it for whole.
    Stopped,
}

/// A request that is being written.
#[derive(Debug)]
pub struct Sending {
    line: Rc<Line>,
    is_head: bool,
    /// The head, or what frames a chunk: it goes before `data`.
    frame: Vec<u8>,
    /// How much of that is written.
    at: usize,
    data: Bytes,
    body: RequestBody,
    is_chunked: bool,
    body_ended: bool,
    has_begun: bool,
    ended: Option<Sent>,
}

impl Sending {
    /// A request whose head is put into `room`.
    pub(super) fn new(line: Rc<Line>, room: Vec<u8>, parts: &Parts, body: RequestBody) -> Sending {
        let mut sending = Sending {
            line,
            is_head: parts.method == Method::HEAD,
            frame: encode(room, parts),
            at: 0,
            data: Bytes::new(),
            is_chunked: body.size_hint().exact().is_none(),
            body_ended: false,
            body,
            has_begun: false,
            ended: None,
        };
        // One of chunks may be over already, where this is not its first sending.
        if sending.body.is_end_stream() {
            sending.end_body();
        }
        sending
    }

    /// Whether the request is a HEAD.
    pub(super) fn is_head(&self) -> bool {
        self.is_head
    }

    /// Whether any of it may have reached the other side.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Whether nothing more is to be done for it.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    pub(super) fn take_room(&mut self) -> Vec<u8> {
        self.frame.clear();
        std::mem::take(&mut self.frame)
    }

    /// Begins anew over another connection, with this head; nothing of it was written yet.
    pub(super) fn restart(&mut self, wire: &Wire, parts: &Parts) {
        self.line = Rc::clone(&wire.line);
        self.ended = None;
        self.at = 0;
        self.frame = encode(std::mem::take(&mut self.frame), parts);
        if !self.data.is_empty() {
            self.frame_chunk();
        } else if self.body_ended {
            self.end_body();
        }
    }

    /// Writes on.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Sent> {
        if let Some(ended) = self.ended {
            return Poll::Ready(ended);
        }
        let ended = ready!(self.poll_write(cx));
        if ended == Sent::Deaf {
            self.line.is_deaf.set(true);
        }
        self.ended = Some(ended);
        Poll::Ready(ended)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Sent> {
        loop {
            if self.data.is_empty() && !self.body_ended && !self.take_piece(cx) {
                return Poll::Ready(Sent::Stopped);
            }
            let frame = &self.frame[self.at..];
            let mut io = self.line.io.borrow_mut();
            let written = if frame.is_empty() && self.data.is_empty() {
                return match ready!(Pin::new(&mut *io).poll_flush(cx)) {
                    Err(_) => Poll::Ready(Sent::Deaf),
                    Ok(()) if self.body_ended => Poll::Ready(Sent::Whole),
                    Ok(()) => Poll::Pending,
                };
            } else if self.data.is_empty() {
                Pin::new(&mut *io).poll_write(cx, frame)
            } else if frame.is_empty() {
                Pin::new(&mut *io).poll_write(cx, &self.data)
            } else {
                let both = [IoSlice::new(frame), IoSlice::new(&self.data)];
                Pin::new(&mut *io).poll_write_vectored(cx, &both)
            };
            drop(io);
            match ready!(written) {
                Ok(0) | Err(_) => return Poll::Ready(Sent::Deaf),
                Ok(written) => self.wrote(written),
            }
        }
    }

    fn wrote(&mut self, written: usize) {
        self.has_begun = true;
        let of_frame = written.min(self.frame.len() - self.at);
        self.at += of_frame;
        self.data.advance(written - of_frame);
        if self.at == self.frame.len() {
            self.frame.clear();
            self.at = 0;
            if self.is_chunked && written > of_frame && self.data.is_empty() {
                self.frame.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Takes the next piece of the body, where there is one. Whether the body is sound.
    fn take_piece(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            let piece = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return true,
                Poll::Ready(None) => {
                    self.end_body();
                    return true;
                }
                Poll::Ready(Some(Err(_))) => return false,
                Poll::Ready(Some(Ok(frame))) => frame,
            };
            let Ok(data) = piece.into_data() else {
                continue;
            };
            if data.is_empty() {
                continue;
            }
            if self.is_chunked {
                self.frame
                    .extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
            }
            self.data = data;
            if !self.is_chunked && self.body.is_end_stream() {
                self.body_ended = true;
            }
            return true;
        }
    }

    fn frame_chunk(&mut self) {
        if self.is_chunked {
            let size = format!("{:x}\r\n", self.data.len());
            self.frame.extend_from_slice(size.as_bytes());
        }
    }

    fn end_body(&mut self) {
        self.body_ended = true;
        if self.is_chunked {
            self.frame.extend_from_slice(b"0\r\n\r\n");
        }
    }
}

/// A request's head in HTTP/1.1.
fn encode(mut room: Vec<u8>, parts: &Parts) -> Vec<u8> {
    room.clear();
    let target = parts
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    for part in [parts.method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        room.extend_from_slice(part.as_bytes());
    }
    for (name, value) in &parts.headers {
        room.extend_from_slice(name.as_str().as_bytes());
        room.extend_from_slice(b": ");
        room.extend_from_slice(value.as_bytes());
        room.extend_from_slice(b"\r\n");
    }
    room.extend_from_slice(b"\r\n");
    room
}
