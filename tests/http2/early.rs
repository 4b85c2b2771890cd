//! An upstream that answers before it has the whole body (cases.md, G24): the rest of a stream's body
//! is never a request on the upstream's connection, and none of the connection's other streams is
//! touched.

use std::rc::Rc;

use bytes::Bytes;

use crate::caller::*;
use crate::gate::{bearer, token_of};
use crate::setup::Setup as Inbound;
use crate::support::*;

const EVIL: &str = "GET /evil HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Its body is all requests: whoever loses count of it serves one.
#[test]
fn what_is_left_of_a_streams_body_after_an_early_answer_is_never_a_request() {
    real(async {
        for (status, announced, count) in [
            (401, true, 5),
            (413, false, 5),
            (200, true, 5000),
            (401, false, 5000),
            (413, true, 5000),
        ] {
            let world = World::sockets();
            let (upstream, sidecar) = outbound(&world, &[]);
            let seen = upstream.early(status);
            let mut caller = sidecar.h2().await;
            uploads(&mut caller, "", status, announced, count).await;
            drop(caller);
            until(|| sidecar.connections() == 0).await;
            has_only(&seen, count);

            let workload = Upstream::bind(&world);
            let gate = Inbound::new(&world, workload.at).start(Rc::default());
            let seen = workload.early(status);
            let good = bearer(&token_of(&world, "alice"));
            let mut caller = gate.h2().await;
            uploads(&mut caller, &good, status, announced, count).await;
            drop(caller);
            until(|| gate.counted(|side| &side.connections) == 0).await;
            has_only(&seen, count);
        }
    });
}

async fn uploads(caller: &mut Caller, bearer: &str, status: u16, announced: bool, count: usize) {
    let body = EVIL.repeat(count);
    let length = body.len().to_string();
    let mut fields = vec![("authorization", bearer)];
    fields.retain(|(_, value)| !value.is_empty());
    let token = fields.clone();
    if announced {
        fields.push(("content-length", &*length));
    }
    let get = |path: &str| request("GET", &format!("http://localhost{path}"), &token);
    // One that stands beside it all the time.
    let (beside, mut open) = caller
        .begin(request("PUT", "http://localhost/beside", &token), false)
        .await;
    let posted = request("POST", "http://localhost/x", &fields);
    let (answer, mut sending) = caller.begin(posted, false).await;
    let (first, rest) = body.split_at(EVIL.len() * 2);
    sending
        .send_data(Bytes::copy_from_slice(first.as_bytes()), false)
        .expect("open");
    let answer = whole(answer).await;
    assert_eq!((answer.status, &*answer.body), (status, &b"early"[..]));
    for _ in 0..3 {
        assert_eq!(caller.ask(get("/other"), b"").await.text(), "/other");
    }
    // It may have been told by now that nobody wants the rest.
    let _ = sending.send_data(Bytes::copy_from_slice(rest.as_bytes()), true);
    for _ in 0..3 {
        assert_eq!(caller.ask(get("/next"), b"").await.text(), "/next");
    }
    open.send_data(Bytes::from_static(b"whole"), true)
        .expect("open");
    assert_eq!(whole(beside).await.text(), "/beside");
}

fn has_only(seen: &Asked, count: usize) {
    let seen = seen.borrow();
    for (target, came) in &*seen {
        let is_right = match &**target {
            "/x" => came.is_none_or(|came| came == EVIL.len() * count),
            "/next" | "/other" => *came == Some(0),
            "/beside" => *came == Some(5),
            _ => false,
        };
        assert!(is_right, "{target} {came:?} of {count}");
    }
    let others = seen.iter().filter(|(target, _)| target != "/x");
    assert_eq!(others.count(), 7);
}
