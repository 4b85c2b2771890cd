//! A caller that speaks HTTP/2 as it should, by the h2 crate.

use std::rc::Rc;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request};
use regent::net::Io;
use tokio::task::{JoinHandle, spawn_local};

use crate::gate::Gate;
use crate::support::{Peer, Recorder, Setup, Sidecar, Upstream, World};

/// One connection.
pub(crate) struct Caller {
    pub(crate) requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// An answer, as far as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
    /// How the stream ended; `None` as it should.
    pub(crate) reset: Option<Reason>,
}

impl Answer {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.get_all(name).iter();
        let first = all.next();
        assert!(all.next().is_none(), "{name} stands there twice: {self:?}");
        first.map(|value| value.to_str().expect("text"))
    }

    /// The reason, which must be the same in both places.
    pub(crate) fn reason(&self) -> &str {
        let status = self.get("proxy-status").unwrap_or_default();
        let reason = status.strip_prefix("regent; details=\"");
        let reason = reason.and_then(|rest| rest.strip_suffix('"'));
        let reason = reason.unwrap_or_default();
        if !self.body.is_empty() {
            let problem: serde_json::Value = serde_json::from_slice(&self.body).expect("JSON");
            assert_eq!(problem["reason"], reason);
            assert_eq!(problem["status"], self.status);
        }
        reason
    }

    pub(crate) fn text(&self) -> String {
        assert_eq!(self.reset, None, "{self:?}");
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub(crate) fn get(uri: &str) -> Request<()> {
    request("GET", uri, &[])
}

pub(crate) fn request(method: &str, uri: &str, fields: &[(&str, &str)]) -> Request<()> {
    let request = Request::builder().method(method).uri(uri);
    let request = fields.iter().fold(request, |request, (name, value)| {
        request.header(*name, *value)
    });
    request.body(()).expect("a request")
}

impl Caller {
    pub(crate) async fn new(peer: Peer) -> Caller {
        Caller::built(peer, &Builder::new()).await
    }

    pub(crate) async fn built(peer: Peer, builder: &Builder) -> Caller {
        Caller::over(peer.io, builder).await
    }

    pub(crate) async fn over(io: Io, builder: &Builder) -> Caller {
        let (requests, connection) = builder.handshake(io).await.expect("HTTP/2");
        Caller {
            requests,
            connection: spawn_local(connection),
        }
    }

    /// Sends a head.
    pub(crate) async fn begin(
        &mut self,
        request: Request<()>,
        ends: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let mut requests = self.requests.clone().ready().await.expect("it is open");
        requests.send_request(request, ends).expect("a request")
    }

    /// A whole request and a whole answer.
    pub(crate) async fn ask(&mut self, request: Request<()>, body: &[u8]) -> Answer {
        let (answer, mut sending) = self.begin(request, body.is_empty()).await;
        if !body.is_empty() {
            // Windows are waited for, and a reset shows in the answer.
            let body = Bytes::copy_from_slice(body);
            let _ = sending.send_data(body, true);
        }
        whole(answer).await
    }

    pub(crate) async fn get(&mut self, uri: &str) -> Answer {
        self.ask(get(uri), b"").await
    }

    /// How the connection ended.
    pub(crate) async fn ended(self) -> Result<(), h2::Error> {
        drop(self.requests);
        self.connection.await.expect("no panic")
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.connection.is_finished()
    }
}

/// Waits for the head, then for the rest.
pub(crate) async fn whole(answer: ResponseFuture) -> Answer {
    match answer.await {
        Ok(response) => {
            let (parts, body) = response.into_parts();
            let mut answer = Answer {
                status: parts.status.as_u16(),
                headers: parts.headers,
                body: Vec::new(),
                trailers: None,
                reset: None,
            };
            read(&mut answer, body).await;
            answer
        }
        Err(error) => Answer {
            status: 0,
            headers: HeaderMap::new(),
            body: Vec::new(),
            trailers: None,
            reset: Some(error.reason().unwrap_or(Reason::CANCEL)),
        },
    }
}

async fn read(answer: &mut Answer, mut body: RecvStream) {
    while let Some(data) = body.data().await {
        match data {
            Ok(data) => {
                let _ = body.flow_control().release_capacity(data.len());
                answer.body.extend_from_slice(&data);
            }
            Err(error) => {
                answer.reset = Some(error.reason().unwrap_or(Reason::CANCEL));
                return;
            }
        }
    }
    match body.trailers().await {
        Ok(trailers) => answer.trailers = trailers,
        Err(error) => answer.reset = Some(error.reason().unwrap_or(Reason::CANCEL)),
    }
}

impl Sidecar {
    pub(crate) async fn h2(&self) -> Caller {
        Caller::new(self.caller().await).await
    }
}

impl Gate {
    pub(crate) async fn h2(&self) -> Caller {
        Caller::new(self.caller().await).await
    }
}

/// A sidecar of the outbound side before an upstream that a test plays.
pub(crate) fn outbound(world: &World, sets: &[&str]) -> (Upstream, Sidecar) {
    let upstream = Upstream::bind(world);
    let setup = Setup::new(world, upstream.at);
    let setup = sets.iter().fold(setup, |setup, set| setup.set(*set));
    (upstream, setup.start())
}

/// One before an upstream that answers by itself.
pub(crate) fn echoing(world: &World, sets: &[&str]) -> (Rc<Recorder>, Sidecar) {
    let (upstream, sidecar) = outbound(world, sets);
    (upstream.echo(), sidecar)
}
