//! HTTP/2 on both sides of Regent: what gRPC rests on.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::HeaderValue;

use crate::caller::*;
use crate::frames::*;
use crate::support::*;

const URL: &str = "http://localhost/x";
const GRPC: &[(&str, &str)] = &[("content-type", "application/grpc"), ("te", "trailers")];

fn start(world: &World) -> (Upstream, Sidecar) {
    outbound(world, &["outbound.upstream_protocol=h2c"])
}

/// A literal field, as HPACK has it.
fn field(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        bytes.push(u8::try_from(text.len()).expect("short"));
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// A call whose body is still to come, and its stream on either side.
async fn begun(
    world: &World,
) -> (
    Sidecar,
    Caller,
    Wire,
    u32,
    h2::client::ResponseFuture,
    h2::SendStream<Bytes>,
) {
    let (mut upstream, sidecar) = start(world);
    // Room for others beside a stream that is not read.
    let mut builder = h2::client::Builder::new();
    builder.initial_connection_window_size(1 << 20);
    let mut caller = Caller::built(sidecar.caller().await, &builder).await;
    let (answer, body) = caller.begin(request("POST", URL, GRPC), false).await;
    let mut wire = Wire::accept(&mut upstream, &[(INITIAL_WINDOW_SIZE, 1000)]).await;
    let stream = wire.request().await;
    (sidecar, caller, wire, stream, answer, body)
}

#[test]
fn trailers_pass_and_end_the_answer() {
    paused(async {
        let world = World::pipes();
        let (_sidecar, _caller, mut wire, stream, answer, mut body) = begun(&world).await;
        body.send_data(Bytes::from_static(b"hi"), true)
            .expect("open");
        assert_eq!(wire.body(stream).await, b"hi");
        wire.head_ok(stream).await;
        wire.data(stream, "answer", 0).await;
        let trailers = [field("grpc-status", "5"), field("set-cookie", "a=b")].concat();
        wire.send(HEADERS, END_HEADERS | END_STREAM, stream, &trailers)
            .await;
        let answer = whole(answer).await;
        assert_eq!((answer.status, &*answer.text()), (200, "answer"));
        let trailers = answer.trailers.expect("trailers");
        assert_eq!(trailers.len(), 1);
        assert_eq!(trailers["grpc-status"], "5");
    });
}

/// A trailing head would be a frame of another kind.
#[test]
fn trailers_of_a_request_end_here() {
    paused(async {
        let world = World::pipes();
        let (_sidecar, _caller, mut wire, stream, _answer, mut body) = begun(&world).await;
        body.send_data(Bytes::from_static(b"hi"), false)
            .expect("open");
        let mut trailers = http::HeaderMap::new();
        trailers.insert("authorization", HeaderValue::from_static("Bearer x"));
        trailers.insert("x-any", HeaderValue::from_static("y"));
        body.send_trailers(trailers).expect("open");
        assert_eq!(wire.body(stream).await, b"hi");
        let (mut upstream, sidecar) = start(&world);
        let mut caller = sidecar.caller().await;
        let head = "POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunks = "2\r\nhi\r\n0\r\nAuthorization: Bearer x\r\nX-Any: y\r\n\r\n";
        caller.send(format!("{head}{chunks}")).await;
        let mut wire = Wire::accept(&mut upstream, &[]).await;
        let stream = wire.request().await;
        assert_eq!(wire.body(stream).await, b"hi");
        wire.ok(stream, "fine").await;
        assert_eq!(caller.answer().await.text(), "fine");
    });
}

#[test]
fn an_answer_of_trailers_alone_is_one_head_that_ends_the_stream() {
    paused(async {
        let world = World::pipes();
        let (_sidecar, _caller, mut wire, stream, answer, _body) = begun(&world).await;
        let head = [vec![0x88], field("grpc-status", "12")].concat();
        wire.send(HEADERS, END_HEADERS | END_STREAM, stream, &head)
            .await;
        let (parts, body) = answer.await.expect("an answer").into_parts();
        assert_eq!(parts.headers["grpc-status"], "12");
        assert!(body.is_end_stream());
    });
}

#[test]
fn both_sides_speak_in_turn() {
    paused(async {
        let world = World::pipes();
        let (_sidecar, _caller, mut wire, stream, answer, mut body) = begun(&world).await;
        wire.head_ok(stream).await;
        let mut heard = answer.await.expect("an answer").into_body();
        for turn in 0..20 {
            let text = format!("turn {turn}");
            body.send_data(Bytes::from(text.clone()), false)
                .expect("open");
            let frame = wire.frame().await.expect("data");
            assert_eq!((frame.kind, &*frame.payload), (DATA, text.as_bytes()));
            wire.data(stream, &text, 0).await;
            let data = heard.data().await.expect("more").expect("sound");
            assert_eq!(data, text.as_bytes());
        }
    });
}

#[test]
fn a_caller_that_cancels_resets_the_stream_at_once_even_one_that_has_no_room() {
    paused(async {
        for has_begun in [false, true] {
            for length in [1, 100_000] {
                let world = World::pipes();
                let (_sidecar, mut caller, mut wire, stream, answer, mut body) =
                    begun(&world).await;
                body.send_data(Bytes::from(vec![b'b'; length]), false)
                    .expect("open");
                if has_begun {
                    wire.head_ok(stream).await;
                    answer.await.expect("an answer");
                } else {
                    settle().await;
                }
                let left = tokio::time::Instant::now();
                body.send_reset(Reason::CANCEL);
                assert_eq!(wire.expect_reset(stream).await, CANCEL);
                assert_eq!(left.elapsed(), Duration::ZERO, "{has_begun} {length}");
                // And no other stream of either connection.
                let (next, _) = caller.begin(get(URL), true).await;
                let stream = wire.request().await;
                wire.ok(stream, "next").await;
                assert_eq!(whole(next).await.text(), "next");
            }
        }
    });
}

#[test]
fn an_answer_that_the_upstream_breaks_off_is_broken_off_and_its_code_is_not_passed_on() {
    paused(async {
        for code in [NO_ERROR, REFUSED_STREAM, CANCEL] {
            let world = World::pipes();
            let (_sidecar, _caller, mut wire, stream, answer, _body) = begun(&world).await;
            wire.head_ok(stream).await;
            wire.data(stream, "half", 0).await;
            settle().await;
            wire.reset(stream, code).await;
            let answer = whole(answer).await;
            assert_eq!(answer.body, b"half");
            assert_eq!(answer.reset, Some(Reason::INTERNAL_ERROR), "{code}");
        }
    });
}

#[test]
fn a_caller_that_does_not_read_holds_up_the_upstream_and_no_other_caller() {
    paused(async {
        let world = World::pipes();
        let (_sidecar, mut caller, mut wire, stream, answer, _body) = begun(&world).await;
        wire.head_ok(stream).await;
        let mut unread = answer.await.expect("an answer").into_body();
        let (mut sent, mut left) = (0, wire.window);
        // Until nothing more is asked for.
        while left > 0 {
            let size = left.min(16_384);
            wire.data(stream, vec![b'x'; size], 0).await;
            (sent, left) = (sent + size, left - size);
            assert!(sent < 8 << 20, "it takes all there is");
            let wait = Duration::from_secs(1);
            while let Ok(frame) = tokio::time::timeout(wait, wire.any()).await {
                let frame = frame.expect("it lasts");
                if (frame.kind, frame.stream) == (WINDOW_UPDATE, stream) {
                    left += frame.number() as usize;
                }
                if left > 0 {
                    break;
                }
            }
        }
        let (next, _) = caller.begin(get(URL), true).await;
        let other = wire.request().await;
        wire.ok(other, "next").await;
        assert_eq!(whole(next).await.text(), "next");
        wire.data(stream, "", END_STREAM).await;
        let mut read = 0;
        while let Some(data) = unread.data().await {
            let data = data.expect("sound");
            read += data.len();
            unread
                .flow_control()
                .release_capacity(data.len())
                .expect("it came");
        }
        assert_eq!(read, sent);
    });
}

#[test]
fn a_refused_call_tells_its_status_and_a_head_is_told_the_upstream_as_it_came() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = start(&world);
        let mut caller = sidecar.h2().await;
        let foreign = request("POST", "http://evil.example/x", GRPC);
        let refused = caller.ask(foreign, b"").await;
        assert_eq!(refused.get("grpc-status"), Some("7"));
        assert_eq!(refused.get("grpc-message"), Some("host_not_allowed"));
        let fields = [GRPC, &[("grpc-timeout", "2S"), ("x-own-bin", "AAE=")]].concat();
        let (_answer, _body) = caller.begin(request("POST", URL, &fields), false).await;
        let io = upstream.accept().await.io;
        let mut server = h2::server::handshake(io).await.expect("HTTP/2");
        let (asked, _reply) = server.accept().await.expect("a request").expect("sound");
        for (name, value) in fields {
            assert_eq!(
                asked.headers().get(name),
                Some(&HeaderValue::from_static(value))
            );
        }
    });
}
