//! A program that knows nothing of tokens: one GET on a connection of its own.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, HOST};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::secret::Secret;

/// Longer than anything here waits on purpose.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Get<'a> {
    pub(super) address: SocketAddr,
    pub(super) path: &'a str,
    /// For whoever has one.
    pub(super) token: Option<&'a Secret>,
    /// One header more.
    pub(super) header: Option<(&'static str, &'static str)>,
}

impl<'a> Get<'a> {
    pub(super) fn new(address: SocketAddr, path: &'a str) -> Get<'a> {
        Get {
            address,
            path,
            token: None,
            header: None,
        }
    }

    pub(super) fn with_token(self, token: &'a Secret) -> Get<'a> {
        let token = Some(token);
        Get { token, ..self }
    }

    pub(super) fn with_header(self, name: &'static str, value: &'static str) -> Get<'a> {
        let header = Some((name, value));
        Get { header, ..self }
    }

    /// The whole answer, or what went wrong, for people.
    pub(super) async fn send(&self) -> Result<Response<Bytes>, String> {
        let path = self.path;
        match tokio::time::timeout(TIMEOUT, self.exchange()).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(format!("GET {path} failed: {error}")),
            Err(_) => Err(format!("GET {path} had no answer within 30 s")),
        }
    }

    async fn exchange(&self) -> Result<Response<Bytes>, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(self.address).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut request = Request::get(self.path)
            .header(HOST, format!("localhost:{}", self.address.port()))
            .header(CONNECTION, "close");
        if let Some((name, value)) = self.header {
            request = request.header(name, value);
        }
        let mut request = request.body(Empty::<Bytes>::new())?;
        if let Some(bearer) = self.token.and_then(Secret::bearer) {
            request.headers_mut().insert(AUTHORIZATION, bearer);
        }
        let answer = async {
            let (parts, body) = sender.send_request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok(Response::from_parts(parts, body))
        };
        let (answer, _) = tokio::join!(answer, connection);
        answer
    }
}
