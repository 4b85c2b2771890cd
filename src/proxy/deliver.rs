//! The answer on its way back to the caller, the same for both sides.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::Upstream;
use super::body::Body;
use super::forward;
use super::headers::{Seen, strip_answer, strip_hop_by_hop};
use super::location;
use super::respond::Refusal;
use super::tunnel::{self, Tunnel};
use crate::reason::Reason;

/// What comes of a request.
#[derive(Debug)]
pub enum Answer {
    /// An answer.
    Plain(Response<Body>),
    /// A 101, and the tunnel behind it.
    Tunnel(Response<Body>, Box<Tunnel>),
}

/// Makes the answer that the caller gets. What points to the upstream's own origin points to `host`
/// instead, where there is one: the Host that the caller used for us.
///
/// # Errors
/// `upstream_protocol` for a 101 that nobody asked for.
pub fn deliver(
    mut response: forward::Answer,
    upstream: &Upstream,
    host: Option<&HeaderValue>,
    wish: Option<tunnel::Wish>,
) -> Result<Answer, Refusal> {
    let seen = Seen::scan(response.headers());
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        strip_hop_by_hop(response.headers_mut(), seen);
        let (parts, download) = response.into_parts();
        let (Some(wish), Some(above)) = (wish, download.switch()) else {
            let origin = &upstream.origin;
            let text = format!("{origin} switched protocols, which nobody asked for");
            return Err(Refusal::new(Reason::UpstreamProtocol, text));
        };
        let tunnel = Tunnel {
            downstream: wish.downstream,
            upstream: above,
            is_websocket: (wish.protocol.as_bytes()).eq_ignore_ascii_case(b"websocket"),
        };
        let mut response = Response::from_parts(parts, Body::empty());
        tunnel::announce(response.headers_mut(), wish.protocol);
        return Ok(Answer::Tunnel(response, Box::new(tunnel)));
    }
    strip_answer(response.headers_mut(), seen);
    if let Some(host) = host
        && seen.has(Seen::LOCATION)
    {
        location::rewrite(
            response.headers_mut(),
            &upstream.origin,
            &upstream.prefix,
            host,
        );
    }
    let ends_early = is_event_stream(response.headers());
    Ok(Answer::Plain(
        response.map(|download| Body::upstream(download, ends_early)),
    ))
}

/// Whether an answer is a stream of events, which may end after any of them: whoever listens takes
/// no half event, and asks again.
fn is_event_stream(headers: &HeaderMap) -> bool {
    const KIND: &[u8] = b"text/event-stream";
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        let value = value.as_bytes();
        let start = value.get(..KIND.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(KIND))
            && matches!(value.get(KIND.len()), None | Some(b';' | b' ' | b'\t'))
    })
}
