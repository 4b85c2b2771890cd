//! An answer's body on its way down, with what must happen when it has ended.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::download::Download;
use super::exchange::Exchange;
use super::headers::keep_trailers;
use super::wire::Broken;

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
        download: Download,
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

    /// What an upstream sends. One that `ends_early` is whole to the caller when its time is over; any
    /// other is cut.
    #[must_use]
    pub fn upstream(download: Download, ends_early: bool) -> Body {
        Body::of(Kind::Upstream {
            download,
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
        if let Kind::Upstream { download, .. } = &mut self.kind
            && exchange.conn().as_stream().is_some()
        {
            download.be_modest();
        }
        self.exchange = Some(exchange);
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Body { kind, exchange } = &mut *self;
        let frame = match kind {
            Kind::Full(bytes) => {
                let bytes = bytes.take();
                if let Some(exchange) = exchange {
                    exchange.sent(bytes.as_ref().map_or(0, Bytes::len));
                    exchange.waits(true);
                }
                return Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))));
            }
            Kind::Upstream {
                download,
                ends_early,
            } => {
                let is_over = |exchange: &Exchange| exchange.conn().is_over();
                if *ends_early && exchange.as_ref().is_some_and(is_over) {
                    return Poll::Ready(None);
                }
                if let Some(exchange) = exchange {
                    exchange.waits(false);
                }
                std::task::ready!(download.poll_frame(cx))
            }
        };
        Poll::Ready(match frame {
            Some(Err(error)) => {
                if let Some(exchange) = exchange {
                    exchange.upstream_broke_off(error.reason());
                }
                Some(Err(error))
            }
            Some(Ok(frame)) if !frame.is_data() => {
                let kept = frame.into_trailers().map(keep_trailers);
                Some(Ok(Frame::trailers(kept.unwrap_or_default())))
            }
            Some(Ok(frame)) => {
                if let Some(exchange) = exchange {
                    exchange.sent(frame.data_ref().map_or(0, Bytes::len));
                    exchange.waits(true);
                }
                Some(Ok(frame))
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Full(bytes) => bytes.is_none(),
            Kind::Upstream { download, .. } => download.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Upstream { download, .. } => download.size_hint(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // hyper asks no more of a body that says it is at its end.
        if let Some(exchange) = &self.exchange
            && http_body::Body::is_end_stream(self)
        {
            exchange.ended();
        }
    }
}
