//! Trailers of answers reach callers, but for what a trailer must not say; those of requests end here.

use crate::caller::*;
use crate::gate::{alice, bearer, identity, say_identity, token_of};
use crate::raw::{self, Raw};
use crate::setup::Setup as Inbound;
use crate::support::*;

const ANSWER: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\
    trailer: x-sum, authorization, content-length, set-cookie\r\n\r\n\
    2\r\nhi\r\n0\r\nx-sum: 1\r\nauthorization: Bearer x\r\ncontent-length: 9\r\nset-cookie: a=b\r\n\
    transfer-encoding: x\r\nhost: evil\r\nx-regent-user: mallory\r\nx-late: 2\r\n\r\n";

#[test]
fn a_caller_of_http_2_gets_the_trailers_that_may_be_trailers() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = outbound(&world, &[]);
        let mut caller = sidecar.h2().await;
        let (asked, _) = caller.begin(get("http://localhost/x"), true).await;
        let mut above = upstream.accept().await;
        above.request().await.expect("a request");
        above.send(ANSWER).await;
        let answer = whole(asked).await;
        assert_eq!(answer.text(), "hi");
        let trailers = answer.trailers.expect("trailers");
        let names: Vec<_> = trailers.keys().map(http::HeaderName::as_str).collect();
        assert_eq!(names, ["x-sum", "x-late"]);
    });
}

#[test]
fn a_caller_of_http_1_gets_them_where_it_asked_and_they_were_announced() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = outbound(&world, &[]);
        let mut above = None;
        for (te, trailers) in [("TE: trailers\r\n", "x-sum: 1\r\n"), ("", "")] {
            let mut caller = sidecar.caller().await;
            caller
                .send(format!("GET /x HTTP/1.1\r\nHost: localhost\r\n{te}\r\n"))
                .await;
            let above = match &mut above {
                Some(above) => above,
                none => none.insert(upstream.accept().await),
            };
            let request = above.request().await.expect("a request");
            assert!(!request.head.has("te"));
            above.send(ANSWER).await;
            let head = caller.head().await.expect("an answer");
            assert!(head.has("trailer"));
            caller
                .expect(format!("2\r\nhi\r\n0\r\n{trailers}\r\n"))
                .await;
            // Nothing is left over of it.
            caller
                .send("GET /y HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .await;
            above.request().await.expect("a request");
            above.send(ok("next")).await;
            assert_eq!(caller.answer().await.text(), "next");
        }
    });
}

/// Told above as if there were none, or refused with their stream. Made by hand: no library sends some
/// of these.
#[test]
fn trailers_of_a_request_change_nothing_on_either_side() {
    real(async {
        let world = World::sockets();
        let (recorder, sidecar) = echoing(&world, &[]);
        change_nothing(&recorder, sidecar.caller().await, "localhost", "Bearer x").await;
        let workload = Upstream::bind(&world);
        let gate = Inbound::new(&world, workload.at).start(workload.serve(say_identity));
        let good = bearer(&token_of(&world, "alice"));
        change_nothing(&gate.workload, gate.caller().await, "svc.example", &good).await;
        assert_eq!(identity(&gate.workload.last().head), alice());
    });
}

async fn change_nothing(recorder: &Recorder, caller: Peer, host: &str, bearer: &str) {
    let mut raw = Raw::new(caller, &[]).await;
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/x"),
        (":authority", host),
        ("authorization", bearer),
        ("x-request-id", "1"),
    ];
    let whole = || {
        let requests = recorder.requests.borrow();
        let whole = |request: &&Received| request.end == End::Whole;
        requests.iter().filter(whole).count()
    };
    let post = |stream, trailers: &[(&str, &str)]| {
        let head = raw::head(stream, 0, &fields);
        let (ends, last) = match trailers {
            [] => (raw::END_STREAM, Vec::new()),
            some => (0, raw::head(stream, raw::END_STREAM, some)),
        };
        [head, raw::frame(raw::DATA, ends, stream, b"hi"), last].concat()
    };
    raw.send(post(1, &[])).await;
    raw.expect(raw::DATA).await;
    let plain = recorder.last();
    assert_eq!((&plain.body[..], whole()), (&b"hi"[..], 1));
    let mut stream = 1;
    for name in [
        "authorization",
        "content-length",
        "host",
        "cookie",
        "x-auth-user",
        "x-regent-user",
        "x_regent_issuer",
        "x-forwarded-for",
        "x-any",
        ":path",
    ] {
        stream += 2;
        let before = whole();
        raw.send(post(stream, &[(name, "9")])).await;
        let head = raw.expect(raw::HEADERS).await;
        assert_eq!(
            (head.stream, head.payload[0]),
            (stream, 0x88),
            "{name}: 200"
        );
        raw.expect(raw::DATA).await;
        // The recorder takes no trailers: one that came would have broken what it read.
        let seen = recorder.last();
        assert_eq!(
            (&seen.body[..], seen.end),
            (&b"hi"[..], End::Whole),
            "{name}"
        );
        assert_eq!(seen.head.fields, plain.head.fields, "{name}");
        assert_eq!(whole(), before + 1, "{name}");
    }
    for name in ["transfer-encoding", "connection"] {
        stream += 2;
        let before = whole();
        raw.send(post(stream, &[(name, "9")])).await;
        let reset = raw.expect(raw::RST_STREAM).await;
        assert_eq!(
            (reset.stream, reset.number()),
            (stream, raw::PROTOCOL_ERROR),
            "{name}"
        );
        // The next one comes after it, and is whole.
        stream += 2;
        raw.send(post(stream, &[])).await;
        raw.expect(raw::DATA).await;
        assert_eq!(recorder.last().head.fields, plain.head.fields, "{name}");
        assert_eq!(whole(), before + 1, "{name}: never whole above");
    }
}
