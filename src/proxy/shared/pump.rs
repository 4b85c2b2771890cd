//! A request's body on its way into a stream of HTTP/2.
//!
//! It is a part of the exchange until the answer's head is there, and a task of its own after that,
//! which ends with the [`Stream`](crate::proxy::download::Stream): hyper's own cannot be ended while an
//! upstream that does not read gives it no room, and its stream would stay open behind a caller who
//! has left.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body as _;

use crate::proxy::upload::RequestBody;

/// A body and the stream that it goes into. Dropped before the body's end, it lets the stream be
/// reset.
#[derive(Debug)]
pub struct Pump {
    body: RequestBody,
    stream: SendStream<Bytes>,
    /// Taken from the body, with no room for it yet; and whether it is the last of it.
    held: Option<(Bytes, bool)>,
}

impl Pump {
    /// Not begun.
    #[must_use]
    pub fn new(body: RequestBody, stream: SendStream<Bytes>) -> Pump {
        Pump {
            body,
            stream,
            held: None,
        }
    }

    /// Carries on; done when the body has ended, or nobody wants the rest. Why is told by the answer.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(());
            }
            if let Some((data, is_last)) = &mut self.held {
                while self.stream.capacity() == 0 {
                    match ready!(self.stream.poll_capacity(cx)) {
                        Some(Ok(_)) => {}
                        Some(Err(_)) | None => return Poll::Ready(()),
                    }
                }
                let (data, is_last) = (std::mem::take(data), *is_last);
                self.held = None;
                if self.stream.send_data(data, is_last).is_err() || is_last {
                    return Poll::Ready(());
                }
            }
            let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
            let data = match frame {
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(_)) => {
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(());
                }
                None => {
                    let _ = self.stream.send_data(Bytes::new(), true);
                    return Poll::Ready(());
                }
            };
            let is_last = self.body.is_end_stream();
            if data.is_empty() && is_last {
                let _ = self.stream.send_data(data, true);
                return Poll::Ready(());
            }
            if !data.is_empty() {
                // As little as wakes it: what is not there yet must not hold room that others use.
                self.stream.reserve_capacity(1);
                self.held = Some((data, is_last));
            }
        }
    }

    /// Carries on to the end.
    pub async fn run(mut self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }
}
