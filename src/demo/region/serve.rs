//! Two ways to reach a region: over real sockets, and in process as a [`fetch::Service`].

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use url::form_urlencoded;

use super::answer::{Received, Reply};
use super::body::Sending;
use super::{Body, Outage, Region};
use crate::fetch;

/// In process, a call that has no answer by then ends as a caller's timeout would.
pub const CALL_LIMIT: Duration = Duration::from_secs(10);

/// What of a request's body is kept; beyond it, bytes are only counted.
const KEPT: usize = 64 * 1024;

/// What a server shows of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Everything; it goes away in an outage.
    Region,
    /// The protected API alone, everywhere; an outage of the region does not touch it.
    Workload,
    /// A workload that checks nothing and echoes, for behind a sidecar; an outage does not touch it.
    Echo,
}

/// A region's socket. It listens from the start; nothing is answered until [`Server::run`].
#[derive(Debug)]
pub struct Server {
    region: Region,
    part: Part,
    listener: TcpListener,
    /// Bound and never listening, so that the port stays ours while connections are refused.
    holder: TcpSocket,
    address: SocketAddr,
}

impl Region {
    /// Binds a socket; port 0 takes any free one.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(&self, address: SocketAddr, part: Part) -> io::Result<Server> {
        let holder = bound(address)?;
        let address = holder.local_addr()?;
        Ok(Server {
            region: self.clone(),
            part,
            listener: bound(address)?.listen(1024)?,
            holder,
            address,
        })
    }

    /// The region in process: what the real stack of [`fetch`] would make of it, without sockets,
    /// so that time can be paused. The URL's host is not looked at.
    #[must_use]
    pub fn service(&self) -> fetch::Service {
        let region = self.clone();
        fetch::Service::new(tower::service_fn(move |request| {
            call(region.clone(), request)
        }))
    }

    fn outage(&self) -> Option<Outage> {
        *self.0.outage.borrow()
    }
}

impl Server {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is dropped, and its connections with it.
    ///
    /// # Errors
    /// Where the port cannot be listened on again after an outage.
    pub async fn run(self) -> io::Result<()> {
        let mut outage = self.region.0.outage.subscribe();
        let mut listener = Some(self.listener);
        loop {
            if hits(self.region.outage(), self.part) {
                listener = None;
                let _ = outage.changed().await;
                continue;
            }
            let open = match listener.take() {
                Some(open) => open,
                None => bound(self.holder.local_addr()?)?.listen(1024)?,
            };
            let connections = accept(&open, &self.region, self.part);
            tokio::select! {
                never = connections => match never {},
                () = until_refused(&mut outage, self.part) => {}
            }
        }
    }
}

/// Connections live in here: dropping it cuts all of them.
async fn accept(listener: &TcpListener, region: &Region, part: Part) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, region.clone(), part));
                }
                // Out of file descriptors, mostly: they come back when connections close.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, region: Region, part: Part) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request: Request<Incoming>| {
        let region = region.clone();
        async move {
            if part == Part::Region && region.outage() == Some(Outage::Silent) {
                pending::<()>().await;
            }
            let (parts, body) = request.into_parts();
            let request = Request::from_parts(parts, read(body).await?);
            let (latency, reply) = region.answer_as(part, &request);
            tokio::time::sleep(latency).await;
            match reply {
                Reply::Answer(answer) => Ok(answer.map(Sending::new)),
                Reply::Close => Err(io::Error::from(io::ErrorKind::ConnectionAborted)),
                Reply::Silence => pending().await,
            }
        }
    });
    // A connection's end says nothing that the call log does not.
    let _ = http1::Builder::new()
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn read(mut body: Incoming) -> io::Result<Received> {
    let mut kept = BytesMut::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(io::Error::other)?;
        if let Some(data) = frame.data_ref() {
            length += data.len() as u64;
            let room = KEPT.saturating_sub(kept.len()).min(data.len());
            kept.extend_from_slice(&data[..room]);
        }
    }
    Ok(Received {
        bytes: kept.freeze(),
        length,
    })
}

async fn call(region: Region, request: fetch::Request) -> Result<fetch::Response, fetch::Error> {
    match region.outage() {
        Some(Outage::Refuse) => {
            return Err(fetch::Error::Connect("connection refused".to_owned()));
        }
        Some(Outage::Silent) => return timed_out().await,
        None => {}
    }
    let (latency, reply) = region.answer(&received(request));
    if latency >= CALL_LIMIT {
        return timed_out().await;
    }
    tokio::time::sleep(latency).await;
    let answer = match reply {
        Reply::Answer(answer) => answer,
        Reply::Close => {
            let what = "the connection closed before an answer came";
            return Err(fetch::Error::Protocol(what.to_owned()));
        }
        Reply::Silence => return timed_out().await,
    };
    let (parts, body) = answer.into_parts();
    Ok(fetch::Response {
        status: parts.status,
        headers: parts.headers,
        body: whole(body).await?,
    })
}

fn received(request: fetch::Request) -> Request<Received> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    for (name, value) in &request.form {
        form.append_pair(name, value.expose());
    }
    let body = if request.form.is_empty() {
        Bytes::new()
    } else {
        form.finish().into()
    };
    let mut call = Request::new(Received::from(body));
    *call.method_mut() = request.method;
    *call.headers_mut() = request.headers;
    let mut target = request.url.path().to_owned();
    if let Some(query) = request.url.query() {
        target = format!("{target}?{query}");
    }
    *call.uri_mut() = target.parse().expect("a URL's path is a request's target");
    if call.body().length > 0 {
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        call.headers_mut().entry(CONTENT_TYPE).or_insert(form);
    }
    call
}

async fn whole(body: Body) -> Result<Bytes, fetch::Error> {
    let bytes = match body {
        Body::Whole(bytes) => bytes,
        Body::Paced { chunks, every } => {
            let pauses = u32::try_from(chunks.len().saturating_sub(1)).unwrap_or(u32::MAX);
            let takes = every.saturating_mul(pauses);
            if takes >= CALL_LIMIT {
                return timed_out().await;
            }
            tokio::time::sleep(takes).await;
            chunks.into_iter().flatten().collect()
        }
        Body::Spaces { left: None } => return Err(fetch::Error::TooLarge(fetch::BODY_LIMIT)),
        Body::Spaces { left: Some(left) } => match usize::try_from(left) {
            Ok(left) if left <= fetch::BODY_LIMIT => vec![b' '; left].into(),
            Ok(_) | Err(_) => return Err(fetch::Error::TooLarge(fetch::BODY_LIMIT)),
        },
    };
    if bytes.len() > fetch::BODY_LIMIT {
        return Err(fetch::Error::TooLarge(fetch::BODY_LIMIT));
    }
    Ok(bytes)
}

async fn timed_out<T>() -> Result<T, fetch::Error> {
    tokio::time::sleep(CALL_LIMIT).await;
    Err(fetch::Error::Timeout)
}

fn hits(outage: Option<Outage>, part: Part) -> bool {
    part == Part::Region && outage == Some(Outage::Refuse)
}

async fn until_refused(outage: &mut watch::Receiver<Option<Outage>>, part: Part) {
    let refused = |outage: &Option<Outage>| hits(*outage, part);
    if outage.wait_for(refused).await.is_err() {
        // The region itself is gone; its last outage holds.
        pending::<()>().await;
    }
}

/// Several sockets of ours may share one port, so that one can hold it while none listens.
fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}
