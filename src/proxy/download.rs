//! An answer's body on its way from an upstream, and what it comes over.
//!
//! At its end the connection, or the place on a shared one, is free again, once the request is out too,
//! for which it gets a bounded time. Dropped before that, the connection closes or the stream is reset,
//! and the upload ends.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::task::JoinHandle;

use super::upload::Upload;
use super::wire::{Broken, Switched};

pub use own::Own;
pub use stream::Stream;

mod own;
mod stream;

/// How long an upload may go on after its answer has ended.
const UPLOAD_GRACE: Duration = Duration::from_secs(1);

/// What is still to come of an answer.
#[derive(Debug)]
pub enum Download {
    /// Over HTTP/1.1.
    Own(Own),
    /// Over HTTP/2.
    Stream(Box<Stream>),
}

impl Download {
    /// The next frame.
    ///
    /// # Errors
    /// The answer is not whole.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self {
            Download::Own(own) => own.poll_frame(cx),
            Download::Stream(stream) => stream.poll_frame(cx),
        }
    }

    /// Whether nothing more comes.
    #[must_use]
    pub fn is_end_stream(&self) -> bool {
        match self {
            Download::Own(own) => own.is_end_stream(),
            Download::Stream(stream) => stream.is_end_stream(),
        }
    }

    /// How much is still to come.
    #[must_use]
    pub fn size_hint(&self) -> SizeHint {
        match self {
            Download::Own(own) => own.size_hint(),
            Download::Stream(stream) => stream.size_hint(),
        }
    }

    /// Its caller may hold many at once.
    pub fn be_modest(&mut self) {
        if let Download::Own(own) = self {
            own.be_modest();
        }
    }

    /// The upstream switched protocols: the connection is a tunnel's from here on. `None` where it
    /// cannot be.
    #[must_use]
    pub fn switch(self) -> Option<Switched> {
        match self {
            Download::Own(own) => own.switch(),
            Download::Stream(_) => None,
        }
    }

    /// The answer is not wanted any more, but the upload is: another sending takes it over.
    pub fn supersede(self) {
        match self {
            Download::Own(own) => own.supersede(),
            Download::Stream(stream) => stream.supersede(),
        }
    }
}

/// Gives an upload that its answer has overtaken its time. How it ended, if it did by itself.
async fn grace<T>(mut overtaken: JoinHandle<T>, upload: Option<Rc<Upload>>) -> Option<T> {
    match tokio::time::timeout(UPLOAD_GRACE, &mut overtaken).await {
        Ok(ended) => ended.ok(),
        Err(_) => {
            end(Some(overtaken), upload);
            None
        }
    }
}

/// Ends an upload now.
fn end<T>(overtaken: Option<JoinHandle<T>>, upload: Option<Rc<Upload>>) {
    overtaken.iter().for_each(JoinHandle::abort);
    upload.iter().for_each(|upload| upload.abort());
}
