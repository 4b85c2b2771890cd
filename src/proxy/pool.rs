//! Idle connections to one upstream, of one data thread: last in, first out, so that few stay warm
//! and the rest can go.
//!
//! A connection comes back when the answer's body has ended and hyper says it is ready, not when
//! the head arrived. It leaves when it was idle for [`IDLE`], which is shorter than what servers
//! commonly allow.
//!
//! A connection ends with its [`Sender`]: hyper's own end of it would wait for as long as the upstream
//! does not read what is still to be written.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::SendRequest;
use tokio::task::JoinHandle;

use super::framing::Asked;
use super::upload::{RequestBody, Upload};
use crate::clock::Boot;

/// How long a connection stays unused.
pub const IDLE: Duration = Duration::from_secs(20);
/// How many stay unused.
const MOST: usize = 256;
/// How long an upload may go on after its answer has ended.
const UPLOAD_GRACE: Duration = Duration::from_secs(1);

/// A connection's sending end. Dropped, it ends the connection.
#[derive(Debug)]
pub struct Sender {
    requests: SendRequest<RequestBody>,
    /// What its answers are to.
    asked: Arc<Asked>,
    /// `None` once the connection lives on without us.
    task: Option<JoinHandle<()>>,
}

impl Sender {
    /// hyper's end of the connection that `task` drives.
    #[must_use]
    pub fn new(
        requests: SendRequest<RequestBody>,
        asked: Arc<Asked>,
        task: JoinHandle<()>,
    ) -> Sender {
        Sender {
            requests,
            asked,
            task: Some(task),
        }
    }

    /// Sends a request; the answer's head.
    ///
    /// # Errors
    /// hyper's, with the request where none of it was written.
    pub async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        self.asked.begin(request.method() == Method::HEAD);
        self.requests.try_send_request(request).await
    }

    /// The connection goes on as a tunnel.
    fn detach(mut self) {
        self.task = None;
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// The idle connections.
#[derive(Debug, Default)]
pub struct Pool(RefCell<Vec<(Sender, Boot)>>);

impl Pool {
    /// The connection that was used last, if one is ready.
    #[must_use]
    pub fn take(&self) -> Option<Sender> {
        let mut idle = self.0.borrow_mut();
        while let Some((sender, _)) = idle.pop() {
            if sender.requests.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    fn put(&self, sender: Sender, now: Boot) {
        let mut idle = self.0.borrow_mut();
        if idle.len() < MOST {
            idle.push((sender, now));
        }
    }

    /// Closes what was idle for too long, and forgets what the other side closed.
    pub fn sweep(&self, now: Boot) {
        let mut idle = self.0.borrow_mut();
        idle.retain(|(sender, since)| !sender.requests.is_closed() && now.since(*since) < IDLE);
    }

    /// How many are idle.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

/// A connection while an exchange uses it. Dropped unreleased, it closes, and the upload ends.
#[derive(Debug)]
pub struct Lease {
    sender: Option<Sender>,
    pool: Rc<Pool>,
    upload: Option<Rc<Upload>>,
}

impl Lease {
    /// For one exchange.
    #[must_use]
    pub fn new(sender: Sender, pool: Rc<Pool>, upload: Option<Rc<Upload>>) -> Lease {
        Lease {
            sender: Some(sender),
            pool,
            upload,
        }
    }

    /// The answer has ended: the connection goes back once the upload has ended too, for which it
    /// gets a bounded time.
    pub fn release(mut self, now: Boot) {
        let Some(mut sender) = self.sender.take() else {
            return;
        };
        if sender.requests.is_ready() {
            self.upload = None;
            self.pool.put(sender, now);
        } else if !sender.requests.is_closed() {
            let upload = self.upload.take();
            let pool = Rc::clone(&self.pool);
            tokio::task::spawn_local(async move {
                match tokio::time::timeout(UPLOAD_GRACE, sender.requests.ready()).await {
                    Ok(Ok(())) => pool.put(sender, now),
                    _ => upload.iter().for_each(|upload| upload.abort()),
                }
            });
        }
    }

    /// The upstream switched protocols: the connection is a tunnel's from here on.
    pub fn detach(mut self) {
        if let Some(sender) = self.sender.take() {
            sender.detach();
        }
    }

    /// The answer is not wanted any more, but the upload is: another sending takes it over.
    pub fn supersede(mut self) {
        self.upload = None;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(upload) = self.upload.take() {
            upload.abort();
        }
    }
}
