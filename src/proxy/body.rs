//! An answer's body on its way down, with what must happen when it has ended.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::exchange::Exchange;
use super::last_words;
use super::pool::Lease;
use crate::reason::Reason;

/// An answer's body.
#[derive(Debug)]
pub struct Body {
    kind: Kind,
    /// Dropped when the answer is written or given up: it counts the exchange.
    exchange: Option<Exchange>,
}

#[derive(Debug)]
enum Kind {
    Full(Option<Bytes>),
    Upstream {
        incoming: Incoming,
        lease: Option<Lease>,
        /// It may end before the upstream does.
        ends_early: bool,
    },
}

impl Body {
    /// Nothing.
    #[must_use]
    pub fn empty() -> Body {
        Body::of(Kind::Full(None))
    }

    /// Our own words.
    #[must_use]
    pub fn full(bytes: Bytes) -> Body {
        Body::of(Kind::Full(Some(bytes)))
    }

    /// What an upstream sends; the connection is released at its end. One that `ends_early` is whole
    /// to the caller when its time is over; any other is cut.
    #[must_use]
    pub fn upstream(incoming: Incoming, lease: Lease, ends_early: bool) -> Body {
        Body::of(Kind::Upstream {
            incoming,
            lease: Some(lease),
            ends_early,
        })
    }

    fn of(kind: Kind) -> Body {
        Body {
            kind,
            exchange: None,
        }
    }

    /// Ties the exchange to the body's end.
    pub fn attach(&mut self, exchange: Exchange) {
        self.exchange = Some(exchange);
    }

    fn release(&mut self) {
        if let Kind::Upstream { lease, .. } = &mut self.kind
            && let Some(lease) = lease.take()
            && let Some(exchange) = &self.exchange
        {
            lease.release(exchange.now());
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Body { kind, exchange } = &mut *self;
        let frame = match kind {
            Kind::Full(bytes) => return Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Kind::Upstream {
                incoming,
                ends_early,
                ..
            } => {
                let is_over = |exchange: &Exchange| exchange.conn().is_over();
                if *ends_early && exchange.as_ref().is_some_and(is_over) {
                    return Poll::Ready(None);
                }
                std::task::ready!(Pin::new(incoming).poll_frame(cx))
            }
        };
        match &frame {
            None => self.release(),
            Some(Err(error)) => {
                if let Some(exchange) = &self.exchange {
                    exchange.upstream_broke_off(match last_words::violation(error) {
                        Some(_) => Reason::UpstreamProtocol,
                        None => Reason::UpstreamUnreachable,
                    });
                }
            }
            Some(Ok(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Full(bytes) => bytes.is_none(),
            Kind::Upstream { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Upstream { incoming, .. } => incoming.size_hint(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // hyper asks no more of a body that says it is at its end.
        if self.is_end_stream() {
            self.release();
        }
    }
}
