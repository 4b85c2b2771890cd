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

/// The whole answer, or what went wrong, for people.
pub(super) async fn get(address: SocketAddr, path: &str) -> Result<Response<Bytes>, String> {
    get_as(address, path, None).await
}

/// The same with a token, for whoever has one.
pub(super) async fn get_as(
    address: SocketAddr,
    path: &str,
    token: Option<&Secret>,
) -> Result<Response<Bytes>, String> {
    match tokio::time::timeout(TIMEOUT, exchange(address, path, token)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(format!("GET {path} failed: {error}")),
        Err(_) => Err(format!("GET {path} had no answer within 30 s")),
    }
}

async fn exchange(
    address: SocketAddr,
    path: &str,
    token: Option<&Secret>,
) -> Result<Response<Bytes>, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::get(path)
        .header(HOST, format!("localhost:{}", address.port()))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    if let Some(bearer) = token.and_then(Secret::bearer) {
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
