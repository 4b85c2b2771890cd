//! An answer that comes over a connection of HTTP/1.1, which is its own as long as it lasts.
//!
//! At its end the connection goes back to its pool, once the request is out too, for which it gets a
//! bounded time. Dropped before that, the connection closes and the upload ends.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Response, Version};
use http_body::{Frame, SizeHint};
use tokio::task::JoinHandle;

use super::{Download, end, grace};
use crate::proxy::framing::{Head, Piece};
use crate::proxy::pool::Pool;
use crate::proxy::upload::Upload;
use crate::proxy::wire::{Broken, Sending, Sent, Switched, Wire};

/// What is still to come of it.
#[derive(Debug)]
pub struct Own {
    /// `None` once the answer has ended.
    wire: Option<Box<Wire>>,
    pool: Rc<Pool>,
    upload: Option<Rc<Upload>>,
    /// The upload that its answer has overtaken.
    overtaken: Option<JoinHandle<Sent>>,
    /// Why there is no more of it, to be told when what came before is written.
    broken: Option<Broken>,
}

impl Own {
    /// The answer with this head; its request may still be under way.
    #[must_use]
    pub fn begin(
        head: Head,
        wire: Box<Wire>,
        pool: &Rc<Pool>,
        upload: Option<&Rc<Upload>>,
        mut sending: Sending,
    ) -> Response<Download> {
        let overtaken = (!sending.has_ended()).then(|| {
            let rest = std::future::poll_fn(move |cx| sending.poll(cx));
            tokio::task::spawn_local(rest)
        });
        let mut download = Own {
            wire: Some(wire),
            pool: Rc::clone(pool),
            upload: upload.cloned(),
            overtaken,
            broken: None,
        };
        download.end_if_whole();
        let mut response = Response::new(Download::Own(download));
        *response.status_mut() = head.status;
        *response.version_mut() = Version::HTTP_11;
        *response.headers_mut() = head.headers;
        if let Some(reason) = head.reason
            && let Ok(reason) = hyper::ext::ReasonPhrase::try_from(reason)
        {
            response.extensions_mut().insert(reason);
        }
        response
    }

    /// The next frame.
    ///
    /// # Errors
    /// The answer is not whole.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let Some(wire) = &mut self.wire else {
            return Poll::Ready(None);
        };
        let piece = ready!(wire.poll_piece(cx));
        Poll::Ready(match piece {
            Ok(Some(Piece::Data(data))) => {
                if let Some(upload) = &self.upload {
                    upload.answered();
                }
                self.end_if_whole();
                Some(Ok(Frame::data(data)))
            }
            Ok(Some(Piece::Trailers(trailers))) => {
                // They are the last of it, and nobody asks for more.
                self.end();
                Some(Ok(Frame::trailers(trailers)))
            }
            Ok(None) => {
                self.end();
                None
            }
            Err(error) => {
                self.give_up();
                self.broken = Some(error);
                // hyper drops what it has not written yet with the error.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        })
    }

    /// Whether nothing more comes.
    #[must_use]
    pub fn is_end_stream(&self) -> bool {
        self.wire.is_none() && self.broken.is_none()
    }

    /// How much is still to come.
    #[must_use]
    pub fn size_hint(&self) -> SizeHint {
        let left = match &self.wire {
            None if self.broken.is_some() => None,
            None => Some(0),
            Some(wire) => wire.left(),
        };
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// Its caller may hold many at once.
    pub fn be_modest(&mut self) {
        if let Some(wire) = &mut self.wire {
            wire.be_modest();
        }
    }

    /// The upstream switched protocols: the connection is a tunnel's from here on.
    #[must_use]
    pub fn switch(mut self) -> Option<Switched> {
        self.wire.take()?.switch()
    }

    /// The answer is not wanted any more, but the upload is: another sending takes it over.
    pub fn supersede(mut self) {
        self.upload = None;
    }

    fn end_if_whole(&mut self) {
        if self
            .wire
            .as_ref()
            .is_some_and(|wire| wire.left() == Some(0))
        {
            self.end();
        }
    }

    fn end(&mut self) {
        let upload = self.upload.take();
        let Some(wire) = self.wire.take() else {
            return;
        };
        match self.overtaken.take() {
            None if wire.may_go_on() => self.pool.put(wire),
            None => {}
            Some(overtaken) => {
                let pool = Rc::clone(&self.pool);
                tokio::task::spawn_local(async move {
                    let ended = grace(overtaken, upload).await;
                    if ended == Some(Sent::Whole) && wire.may_go_on() {
                        pool.put(wire);
                    }
                });
            }
        }
    }

    fn give_up(&mut self) {
        self.wire = None;
        end(self.overtaken.take(), self.upload.take());
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.give_up();
    }
}
