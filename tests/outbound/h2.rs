//! HTTP/2 towards the upstream (cases.md, H13): one that is scripted frame by frame, and one that a
//! library plays where heads are to be read.

use super::support::*;
use frames::Wire;

mod ends;
pub(crate) mod frames;
mod heads;
mod pushing_back;
mod recovery;
mod resending;
mod server;
mod sharing;
mod tls;

const GET: &str = "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n";
const POST: &str = "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi";

/// A sidecar that speaks HTTP/2 without TLS.
fn start(world: &World, sets: &[&str]) -> (Upstream, Sidecar) {
    let upstream = Upstream::bind(world);
    let setup = Setup::new(world, upstream.at).set("outbound.upstream_protocol=h2c");
    let setup = sets.iter().fold(setup, |setup, set| setup.set(*set));
    let sidecar = setup.start();
    (upstream, sidecar)
}

/// A request on its way, and the first stream of the first connection.
async fn begun(
    upstream: &mut Upstream,
    sidecar: &Sidecar,
    request: impl AsRef<[u8]>,
) -> (Peer, Wire, u32) {
    let mut caller = sidecar.caller().await;
    caller.send(request).await;
    let mut wire = Wire::accept(upstream, &[]).await;
    let stream = wire.request().await;
    (caller, wire, stream)
}

/// One exchange, after which the connection is idle.
async fn warm(upstream: &mut Upstream, sidecar: &Sidecar) -> (Peer, Wire) {
    let (mut caller, mut wire, stream) = begun(upstream, sidecar, GET).await;
    wire.ok(stream, "warm").await;
    assert_eq!(caller.answer().await.text(), "warm");
    (caller, wire)
}
