//! An answer that comes over a stream of HTTP/2.
//!
//! It is whole with END_STREAM alone: whatever resets the stream before that, `NO_ERROR` and `CANCEL`
//! among it, breaks it off. What is handed on is asked for again at once, so that never more than a
//! window of it waits here.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::header::CONTENT_LENGTH;
use http::{Response, Version};
use http_body::{Frame, SizeHint};
use tokio::task::JoinHandle;

use super::{Download, end, grace};
use crate::proxy::shared::{Pump, Slot};
use crate::proxy::upload::Upload;
use crate::proxy::wire::Broken;

/// What is still to come of it.
#[derive(Debug)]
pub struct Stream {
    stream: RecvStream,
    part: Part,
    /// What the head says that is still to come. Bytes.
    left: Option<u64>,
    /// `None` once it has ended.
    slot: Option<Slot>,
    upload: Option<Rc<Upload>>,
    /// The upload that its answer has overtaken.
    overtaken: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Part {
    Data,
    Trailers,
    End,
    /// Why there is no more of it, to be told when what came before is written.
    Broken(Option<h2::Error>),
}

impl Stream {
    /// The answer with this head; `rest` of its request may still be under way.
    #[must_use]
    pub fn begin(
        response: Response<RecvStream>,
        slot: Slot,
        rest: Option<Pump>,
        upload: Option<&Rc<Upload>>,
    ) -> Response<Download> {
        let (mut parts, stream) = response.into_parts();
        let length = parts.headers.get(CONTENT_LENGTH);
        let left: Option<u64> = length.and_then(|length| length.to_str().ok()?.parse().ok());
        if let Some(left) = left {
            // h2 takes it twice, and with zeros before it.
            parts.headers.insert(CONTENT_LENGTH, left.into());
        }
        let mut download = Stream {
            part: Part::Data,
            left,
            slot: Some(slot),
            upload: upload.cloned(),
            overtaken: rest.map(|rest| tokio::task::spawn_local(rest.run())),
            stream,
        };
        download.end_if_whole();
        // What hyper writes towards a caller, whatever that one speaks.
        parts.version = Version::HTTP_11;
        Response::from_parts(parts, Download::Stream(Box::new(download)))
    }

    /// The next frame.
    ///
    /// # Errors
    /// The answer is not whole.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Part::Data = self.part {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    let length = data.len();
                    self.left = self.left.map(|left| left.saturating_sub(length as u64));
                    // It fails only for what was never received.
                    let _ = self.stream.flow_control().release_capacity(length);
                    if let Some(upload) = &self.upload {
                        upload.answered();
                    }
                    self.end_if_whole();
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                // It was whole before the connection ended.
                Some(Err(_)) if self.left == Some(0) => self.end(),
                Some(Err(error)) => return self.break_off(error, cx),
                None => self.part = Part::Trailers,
            }
        }
        if let Part::Trailers = self.part {
            match ready!(self.stream.poll_trailers(cx)) {
                Ok(trailers) => {
                    self.end();
                    return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                }
                Err(error) => return self.break_off(error, cx),
            }
        }
        if let Part::Broken(error) = &mut self.part
            && let Some(error) = error.take()
        {
            return Poll::Ready(Some(Err(Broken::Stream(error))));
        }
        Poll::Ready(None)
    }

    /// Whether nothing more comes.
    #[must_use]
    pub fn is_end_stream(&self) -> bool {
        matches!(self.part, Part::End)
    }

    /// How much is still to come.
    #[must_use]
    pub fn size_hint(&self) -> SizeHint {
        let left = match self.part {
            Part::End => Some(0),
            Part::Data => self.left,
            Part::Trailers | Part::Broken(_) => None,
        };
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// The answer is not wanted any more, but the upload is: another sending takes it over.
    pub fn supersede(mut self) {
        self.upload = None;
    }

    fn break_off(
        &mut self,
        error: h2::Error,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.give_up();
        self.part = Part::Broken(Some(error));
        // hyper drops what it has not written yet with the error.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn end_if_whole(&mut self) {
        if self.stream.is_end_stream() {
            self.end();
        }
    }

    fn end(&mut self) {
        self.part = Part::End;
        let (slot, upload) = (self.slot.take(), self.upload.take());
        let overtaken = self.overtaken.take();
        let Some(overtaken) = overtaken.filter(|upload| !upload.is_finished()) else {
            return;
        };
        tokio::task::spawn_local(async move {
            grace(overtaken, upload).await;
            drop(slot);
        });
    }

    fn give_up(&mut self) {
        self.slot = None;
        end(self.overtaken.take(), self.upload.take());
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.give_up();
    }
}
