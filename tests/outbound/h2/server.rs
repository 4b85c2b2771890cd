//! An upstream that a library plays.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use tokio::task::spawn_local;

use crate::support::*;

/// What it was asked.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) connections: Cell<usize>,
    pub(crate) requests: RefCell<Vec<(Request<()>, Vec<u8>)>>,
    /// The numbers of the connections that they came over.
    pub(crate) carriers: RefCell<Vec<usize>>,
}

impl Seen {
    pub(crate) fn count(&self) -> usize {
        self.requests.borrow().len()
    }

    pub(crate) fn head(&self, at: usize) -> Request<()> {
        self.requests.borrow()[at].0.clone()
    }

    pub(crate) fn body(&self, at: usize) -> Vec<u8> {
        self.requests.borrow()[at].1.clone()
    }
}

/// A request to answer.
pub(crate) struct Asked<'a> {
    pub(crate) head: &'a Request<()>,
    pub(crate) body: &'a [u8],
    pub(crate) reply: SendResponse<Bytes>,
}

impl Asked<'_> {
    /// Answers as a whole.
    pub(crate) fn answer(mut self, response: Response<()>, body: impl Into<Bytes>) {
        let body = body.into();
        let sent = self.reply.send_response(response, body.is_empty());
        let mut stream = sent.expect("it is open");
        if !body.is_empty() {
            stream.send_data(body, true).expect("it is open");
        }
    }

    /// The same, with trailers.
    pub(crate) fn answer_with(mut self, body: impl Into<Bytes>, trailers: HeaderMap) {
        let sent = self.reply.send_response(Response::new(()), false);
        let mut stream = sent.expect("it is open");
        stream.send_data(body.into(), false).expect("it is open");
        stream.send_trailers(trailers).expect("it is open");
    }
}

/// Answers whatever comes, over as many connections as come.
pub(crate) fn serve(upstream: Upstream, answer: impl Fn(Asked<'_>) + 'static) -> Rc<Seen> {
    let seen = Rc::new(Seen::default());
    let (shared, answer) = (Rc::clone(&seen), Rc::new(answer));
    let mut upstream = upstream;
    spawn_local(async move {
        loop {
            let io = upstream.accept().await.io;
            spawn_local(connection(io, Rc::clone(&shared), Rc::clone(&answer)));
        }
    });
    seen
}

/// Serves one connection.
pub(crate) async fn connection<I>(io: I, seen: Rc<Seen>, answer: Rc<impl Fn(Asked<'_>) + 'static>)
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
{
    let number = seen.connections.get() + 1;
    seen.connections.set(number);
    let mut builder = h2::server::Builder::new();
    builder.max_header_list_size(1 << 20);
    let Ok(mut connection) = builder.handshake(io).await else {
        return;
    };
    while let Some(Ok((request, reply))) = connection.accept().await {
        let (seen, answer) = (Rc::clone(&seen), Rc::clone(&answer));
        spawn_local(async move {
            let (parts, mut stream) = request.into_parts();
            let mut body = Vec::new();
            while let Some(Ok(data)) = stream.data().await {
                let _ = stream.flow_control().release_capacity(data.len());
                body.extend(data);
            }
            let head = Request::from_parts(parts, ());
            seen.carriers.borrow_mut().push(number);
            seen.requests
                .borrow_mut()
                .push((head.clone(), body.clone()));
            answer(Asked {
                head: &head,
                body: &body,
                reply,
            });
        });
    }
}
