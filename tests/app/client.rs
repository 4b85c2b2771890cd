//! A program that knows nothing of tokens.

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

/// One keep-alive connection.
pub(crate) struct Client(http1::SendRequest<Full<Bytes>>);

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Client {
    pub(crate) async fn over(io: impl AsyncRead + AsyncWrite + Unpin + 'static) -> Client {
        let handshake = http1::handshake(TokioIo::new(io)).await;
        let (sender, connection) = handshake.expect("a handshake only makes buffers");
        tokio::task::spawn_local(connection);
        Client(sender)
    }

    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, hyper::Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).expect("a request");
        self.0.ready().await?;
        let (parts, body) = self.0.send_request(request).await?.into_parts();
        Ok(Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.collect().await?.to_bytes(),
        })
    }

    pub(crate) async fn try_get(&mut self, path: &str) -> Result<Answer, hyper::Error> {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.try_get(path).await.expect("an answer")
    }
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The reason of an answer that Regent gave itself.
    pub(crate) fn reason(&self) -> String {
        let reason = self.json()["reason"].as_str().unwrap_or("").to_owned();
        let proxy_status = format!("regent; details=\"{reason}\"");
        assert_eq!(self.headers["proxy-status"], proxy_status.as_str());
        assert_eq!(self.headers["content-type"], "application/problem+json");
        reason
    }

    /// Seconds.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        let value = self.headers.get("retry-after")?;
        Some(value.to_str().expect("text").parse().expect("seconds"))
    }
}
