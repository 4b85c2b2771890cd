//! What requests are forwarded to: it asks a region whether the token is good, and remembers what
//! came.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use regent::demo::region::{Body, Received, Region, Reply};
use regent::net::Listener;
use regent::secret::Digest;
use tokio::sync::watch;

/// A workload of one region. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Upstream(Rc<Inner>);

struct Inner {
    region: Region,
    seen: RefCell<Vec<Seen>>,
    hold: watch::Sender<bool>,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    /// What stood behind `Bearer`.
    pub(crate) token: Option<Digest>,
    /// By the region's word, at the time it came.
    pub(crate) status: u16,
}

impl Upstream {
    pub(crate) fn new(region: Region) -> Upstream {
        Upstream(Rc::new(Inner {
            region,
            seen: RefCell::default(),
            hold: watch::Sender::new(false),
        }))
    }

    pub(crate) fn serve(&self, listener: Listener) {
        let upstream = self.clone();
        tokio::task::spawn_local(async move {
            let mut accept = listener.start().expect("a runtime is there");
            while let Ok(io) = accept.accept().await {
                let upstream = upstream.clone();
                let service = service_fn(move |request| {
                    let upstream = upstream.clone();
                    async move { Ok::<_, Infallible>(upstream.answer(request).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(io), service);
                tokio::task::spawn_local(connection);
            }
        });
    }

    /// While on, answers are kept back.
    pub(crate) fn hold(&self, on: bool) {
        self.0.hold.send_replace(on);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.0.seen.borrow().clone()
    }

    pub(crate) fn tokens(&self) -> Vec<Digest> {
        let mut tokens: Vec<Digest> = self.seen().iter().filter_map(|seen| seen.token).collect();
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let body = body
            .collect()
            .await
            .map_or(Bytes::new(), |body| body.to_bytes());
        let bearer = parts.headers.get("authorization");
        let token = bearer
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
            .map(|token| Digest::of(token.as_bytes()));
        let path = parts.uri.path().to_owned();
        let request = Request::from_parts(parts, Received::from(body));
        let (_, reply) = self.0.region.answer(&request);
        let Reply::Answer(answer) = reply else {
            panic!("no faults are planned for the API");
        };
        self.0.seen.borrow_mut().push(Seen {
            path,
            token,
            status: answer.status().as_u16(),
        });
        let mut hold = self.0.hold.subscribe();
        let _ = hold.wait_for(|hold| !hold).await;
        answer.map(|body| match body {
            Body::Whole(bytes) => Full::new(bytes),
            other => panic!("{other:?} is for sockets"),
        })
    }
}
