//! The bodies that a region answers with, over sockets and in process alike.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;

/// One chunk of [`Body::Spaces`].
const CHUNK: &[u8] = &[b' '; 16 * 1024];

/// An answer's body, before it is sent. It may hold tokens, so `Debug` says its length alone.
#[derive(Clone)]
pub enum Body {
    /// All of it at once.
    Whole(Bytes),
    /// A chunk at once, and each further one after a pause.
    Paced {
        /// What is sent.
        chunks: VecDeque<Bytes>,
        /// The pause before each chunk but the first.
        every: Duration,
    },
    /// So many spaces; without a number, they do not end.
    Spaces {
        /// How many are still to come.
        left: Option<u64>,
    },
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Body::Whole(bytes) => write!(f, "Whole({} bytes)", bytes.len()),
            Body::Paced { chunks, every } => {
                write!(f, "Paced({} chunks, every {every:?})", chunks.len())
            }
            Body::Spaces { left } => write!(f, "Spaces({left:?})"),
        }
    }
}

impl From<String> for Body {
    fn from(text: String) -> Body {
        Body::Whole(text.into())
    }
}

/// A body that is being sent.
#[derive(Debug)]
pub(super) struct Sending {
    body: Body,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Sending {
    pub(super) fn new(body: Body) -> Sending {
        Sending { body, pause: None }
    }
}

impl http_body::Body for Sending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        let next = match &mut self.body {
            Body::Whole(bytes) => Some(std::mem::take(bytes)).filter(|bytes| !bytes.is_empty()),
            Body::Paced { chunks, every } => {
                let (next, every) = (chunks.pop_front(), *every);
                if !chunks.is_empty() {
                    self.pause = Some(Box::pin(tokio::time::sleep(every)));
                }
                next
            }
            Body::Spaces { left: None } => Some(Bytes::from_static(CHUNK)),
            Body::Spaces { left: Some(left) } => {
                let size = usize::try_from(*left).map_or(CHUNK.len(), |left| left.min(CHUNK.len()));
                *left -= size as u64;
                Some(Bytes::from_static(&CHUNK[..size])).filter(|bytes| !bytes.is_empty())
            }
        };
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Body::Whole(bytes) => bytes.is_empty(),
            Body::Paced { chunks, .. } => chunks.is_empty(),
            Body::Spaces { left } => *left == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::Spaces { left: Some(left) } => SizeHint::with_exact(*left),
            Body::Paced { .. } | Body::Spaces { left: None } => SizeHint::default(),
        }
    }
}
