//! The answer on its way back to the caller, the same for both sides.

use http::{HeaderValue, Response, StatusCode};
use hyper::upgrade::OnUpgrade;

use super::Upstream;
use super::body::Body;
use super::forward;
use super::headers::{Seen, strip_hop_by_hop};
use super::location;
use super::respond::Refusal;
use super::tunnel;
use crate::reason::Reason;

/// What comes of a request.
#[derive(Debug)]
pub enum Answer {
    /// An answer.
    Plain(Response<Body>),
    /// A 101, and the two ends of the tunnel: downstream and upstream.
    Tunnel(Response<Body>, Box<(OnUpgrade, OnUpgrade)>),
}

/// Makes the answer that the caller gets. What points to the upstream's own origin points to `host`
/// instead, where there is one: the Host that the caller used for us.
///
/// # Errors
/// `upstream_protocol` for a 101 that nobody asked for.
pub fn deliver(
    (mut response, lease): forward::Answer,
    upstream: &Upstream,
    host: Option<&HeaderValue>,
    wish: Option<tunnel::Wish>,
) -> Result<Answer, Refusal> {
    let seen = Seen::scan(response.headers());
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(wish) = wish else {
            return Err(Refusal::new(
                Reason::UpstreamProtocol,
                format!(
                    "{} switched protocols, which nobody asked for",
                    upstream.origin
                ),
            ));
        };
        lease.detach();
        let above = hyper::upgrade::on(&mut response);
        strip_hop_by_hop(response.headers_mut(), seen);
        tunnel::announce(response.headers_mut(), wish.protocol);
        let (parts, _) = response.into_parts();
        let response = Response::from_parts(parts, Body::empty());
        return Ok(Answer::Tunnel(response, Box::new((wish.downstream, above))));
    }
    strip_hop_by_hop(response.headers_mut(), seen);
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
    Ok(Answer::Plain(
        response.map(|incoming| Body::upstream(incoming, lease)),
    ))
}
