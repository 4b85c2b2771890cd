//! How exchanges end early: the caller leaves, the answer comes before the body, the upstream breaks
//! off or is too slow.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use regent::reason::Reason;

use super::frames::*;
use super::{GET, POST, begun, start, warm};
use crate::support::*;

/// A request whose body is larger than the window that the upstream gives, and its stream.
async fn stuck(upstream: &mut Upstream, sidecar: &Sidecar) -> (Peer, Wire, u32) {
    let mut caller = sidecar.caller().await;
    caller
        .send("POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
        .await;
    caller.send(vec![b'b'; 100_000]).await;
    let mut wire = Wire::accept(upstream, &[(INITIAL_WINDOW_SIZE, 1000)]).await;
    let stream = wire.request().await;
    (caller, wire, stream)
}

#[test]
fn a_caller_who_leaves_resets_the_stream_and_no_more_than_that() {
    paused(async {
        for has_begun in [false, true] {
            let world = World::pipes();
            let (mut upstream, sidecar) = start(&world, &[]);
            let (mut caller, mut wire, stream) = begun(&mut upstream, &sidecar, GET).await;
            if has_begun {
                wire.head_ok(stream).await;
                wire.data(stream, "first", 0).await;
                caller.head().await.expect("a head");
            }
            let left = tokio::time::Instant::now();
            drop(caller);
            assert_eq!(wire.expect_reset(stream).await, CANCEL);
            assert!(
                left.elapsed() <= Duration::from_secs(1),
                "{:?}",
                left.elapsed()
            );
            let mut caller = sidecar.caller().await;
            caller.send(GET).await;
            let stream = wire.request().await;
            wire.ok(stream, "next").await;
            assert_eq!(caller.answer().await.text(), "next");
        }
    });
}

/// The caller is not read from while its body has no room, and so it is seen to have left only when it
/// is written to, or when its time is over.
#[test]
fn a_stream_that_has_no_room_for_its_body_is_reset_for_a_caller_who_has_left() {
    paused(async {
        for has_begun in [false, true] {
            let world = World::pipes();
            let (mut upstream, sidecar) = start(&world, &["limits.request_timeout=3s"]);
            let (mut caller, mut wire, stream) = stuck(&mut upstream, &sidecar).await;
            if has_begun {
                wire.head_ok(stream).await;
                wire.data(stream, "first", 0).await;
                caller.head().await.expect("a head");
            }
            settle().await;
            drop(caller);
            let left = tokio::time::Instant::now();
            if has_begun {
                wire.data(stream, "more", 0).await;
            }
            assert_eq!(wire.expect_reset(stream).await, CANCEL);
            let most = Duration::from_secs(if has_begun { 0 } else { 3 });
            assert!(left.elapsed() <= most, "{:?}", left.elapsed());
        }
    });
}

#[test]
fn a_caller_who_breaks_its_body_off_is_told_and_the_stream_is_reset() {
    real(async {
        let world = World::sockets();
        let (mut upstream, sidecar) = start(&world, &[]);
        let (mut caller, mut wire, stream) = begun(
            &mut upstream,
            &sidecar,
            "POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        .await;
        caller.send("2\r\nhi\r\nno size\r\n").await;
        assert_eq!(wire.expect_reset(stream).await, CANCEL);
        assert_eq!(caller.answer().await.reason(), "bad_request");
        assert_eq!(sidecar.broken_off(Reason::UpstreamUnreachable), 0);
    });
}

#[test]
fn an_answer_before_the_end_of_the_body_passes_and_the_rest_of_it_goes_nowhere() {
    real(async {
        let world = World::sockets();
        let (mut upstream, sidecar) = start(&world, &[]);
        let (mut caller, mut wire, stream) = stuck(&mut upstream, &sidecar).await;
        wire.too_large(stream).await;
        // What servers say that want no more of it (RFC 9113 section 8.1).
        wire.reset(stream, NO_ERROR).await;
        assert_eq!(caller.answer().await.status, 413);
        // The connection is as good as before.
        let mut caller = sidecar.caller().await;
        caller.send(GET).await;
        let stream = wire.request().await;
        wire.ok(stream, "next").await;
        assert_eq!(caller.answer().await.text(), "next");
        assert_eq!(world.dialled.load(Relaxed), 1);
    });
}

#[test]
fn an_upload_whose_answer_has_ended_is_reset_in_a_bounded_time() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = start(&world, &[]);
        let (mut caller, mut wire, stream) = stuck(&mut upstream, &sidecar).await;
        wire.too_large(stream).await;
        assert_eq!(caller.answer().await.status, 413);
        let ended = tokio::time::Instant::now();
        assert_eq!(wire.expect_reset(stream).await, CANCEL);
        assert_eq!(ended.elapsed().as_secs(), 1);
        drop(caller);
    });
}

#[test]
fn an_upload_that_ends_in_that_time_is_not_reset() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = start(&world, &[]);
        let (mut caller, mut wire, stream) = begun(
            &mut upstream,
            &sidecar,
            "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nhi",
        )
        .await;
        wire.too_large(stream).await;
        assert_eq!(caller.answer().await.status, 413);
        caller.send("ho").await;
        assert_eq!(wire.body(stream).await, b"hiho");
        tokio::time::sleep(Duration::from_secs(3)).await;
        let mut caller = sidecar.caller().await;
        caller.send(GET).await;
        assert_eq!(wire.head().await.stream, stream + 2, "and nothing before");
        drop(caller);
    });
}

/// hyper's client takes the first two for the end of the answer.
#[test]
fn an_answer_that_breaks_off_is_never_taken_for_whole() {
    real(async {
        for code in [NO_ERROR, CANCEL, INTERNAL_ERROR] {
            let world = World::sockets();
            let (mut upstream, sidecar) = start(&world, &[]);
            let (mut caller, mut wire, stream) = begun(&mut upstream, &sidecar, GET).await;
            wire.head_ok(stream).await;
            wire.data(stream, "half", 0).await;
            let head = caller.head().await.expect("a head");
            assert_eq!(caller.chunk().await.as_deref(), Some(&b"half"[..]));
            wire.reset(stream, code).await;
            let (rest, end) = caller.body(&head).await;
            assert_eq!((&*rest, end), (&b""[..], End::Cut), "{code}");
            assert_eq!(sidecar.broken_off(Reason::UpstreamUnreachable), 1);
        }
    });
}

#[test]
fn an_answer_that_breaks_the_protocol_is_told_apart() {
    real(async {
        let world = World::sockets();
        let (mut upstream, sidecar) = start(&world, &[]);
        let (mut caller, mut wire, stream) = begun(&mut upstream, &sidecar, GET).await;
        // content-length: 9, then four bytes and the end.
        let head = b"\x88\x0f\x0d\x019";
        wire.send(HEADERS, END_HEADERS, stream, head).await;
        let head = caller.head().await.expect("a head");
        wire.data(stream, "four", END_STREAM).await;
        assert_eq!(caller.body(&head).await.1, End::Cut);
        assert_eq!(sidecar.broken_off(Reason::UpstreamProtocol), 1);
        wire.expect_reset(stream).await;
        // A field that HTTP/2 does not have, and no status at all.
        for head in [&b"\x88\x00\x0aconnection\x05close"[..], b"\x00\x01a\x01b"] {
            let mut caller = sidecar.caller().await;
            caller.send(GET).await;
            let stream = wire.request().await;
            wire.send(HEADERS, END_HEADERS, stream, head).await;
            let answer = caller.answer().await;
            assert_eq!((answer.status, answer.reason()), (502, "upstream_protocol"));
            wire.expect_reset(stream).await;
        }
    });
}

#[test]
fn an_upstream_that_is_too_slow_is_a_504_and_goes_on_with_what_it_is_not_too_slow_for() {
    paused(async {
        for request in [GET, POST] {
            let world = World::pipes();
            let (mut upstream, sidecar) = start(&world, &["limits.response_timeout=3s"]);
            let (mut other, mut wire) = warm(&mut upstream, &sidecar).await;
            let began = tokio::time::Instant::now();
            let mut caller = sidecar.caller().await;
            caller.send(request).await;
            let stream = wire.request().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            other.send(GET).await;
            let answered = wire.request().await;
            wire.ok(answered, "fine").await;
            assert_eq!(other.answer().await.text(), "fine");
            let answer = caller.answer().await;
            assert_eq!((answer.status, answer.reason()), (504, "upstream_timeout"));
            assert_eq!(began.elapsed().as_secs(), 3);
            assert_eq!(wire.expect_reset(stream).await, CANCEL);
            other.send(GET).await;
            wire.request().await;
        }
    });
}

#[test]
fn an_upstream_that_said_nothing_at_all_in_that_time_gets_no_more_requests_over_that_connection() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = start(&world, &["limits.response_timeout=3s"]);
        let (mut caller, mut wire) = warm(&mut upstream, &sidecar).await;
        caller.send(GET).await;
        let stream = wire.request().await;
        assert_eq!(caller.answer().await.reason(), "upstream_timeout");
        assert_eq!(wire.expect_reset(stream).await, CANCEL);
        caller.send(GET).await;
        let mut other = Wire::accept(&mut upstream, &[]).await;
        let stream = other.request().await;
        other.ok(stream, "elsewhere").await;
        assert_eq!(caller.answer().await.text(), "elsewhere");
    });
}

#[test]
fn an_upstream_that_is_gone_without_a_word_keeps_nobody_for_long() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = start(&world, &[]);
        let began = tokio::time::Instant::now();
        let mut caller = sidecar.caller().await;
        caller.send(POST).await;
        let mut wire = Wire::accept(&mut upstream, &[]).await;
        wire.request().await;
        let asked = loop {
            match wire.any().await.expect("it lasts") {
                frame if frame.kind == PING => break frame,
                frame => assert!(frame.kind != GOAWAY, "{frame:?}"),
            }
        };
        assert_eq!((asked.flags, began.elapsed().as_secs()), (0, 10));
        let mut late = sidecar.caller().await;
        late.send(POST).await;
        for caller in [&mut caller, &mut late] {
            let answer = caller.answer().await;
            assert_eq!((answer.status, answer.reason()), (504, "upstream_timeout"));
        }
        assert_eq!(began.elapsed().as_secs(), 20);
        let mut next = sidecar.caller().await;
        next.send(GET).await;
        let mut wire = Wire::accept(&mut upstream, &[]).await;
        let stream = wire.request().await;
        wire.ok(stream, "fine").await;
        assert_eq!(next.answer().await.text(), "fine");
    });
}

#[test]
fn an_upstream_that_is_slow_and_there_has_all_the_time_that_it_needs() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = start(&world, &[]);
        let (mut caller, mut wire, stream) = begun(&mut upstream, &sidecar, GET).await;
        let (mut asked, began) = (Vec::new(), tokio::time::Instant::now());
        let end = began + Duration::from_secs(3000);
        // It answers whenever it is asked whether it is there.
        while let Ok(frame) = tokio::time::timeout_at(end, wire.any()).await {
            let frame = frame.expect("it lasts");
            if frame.kind == PING {
                asked.push(began.elapsed().as_secs());
                wire.send(PING, ACK, 0, &frame.payload).await;
            }
        }
        // Servers of gRPC allow no more than one in five minutes.
        assert!(
            asked.windows(2).all(|two| two[1] - two[0] > 300),
            "{asked:?}"
        );
        assert!(asked.len() > 5, "{asked:?}");
        wire.ok(stream, "at last").await;
        assert_eq!(caller.answer().await.text(), "at last");
    });
}

#[test]
fn a_slow_upload_is_not_a_slow_answer() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = start(&world, &["limits.response_timeout=3s"]);
        let (mut caller, mut wire, stream) = begun(
            &mut upstream,
            &sidecar,
            "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n",
        )
        .await;
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(2)).await;
            caller.send("x").await;
        }
        assert_eq!(wire.body(stream).await, b"xxxxx");
        tokio::time::sleep(Duration::from_secs(2)).await;
        wire.ok(stream, "fine").await;
        assert_eq!(caller.answer().await.text(), "fine");
    });
}

/// A server may answer and close while more is sent to it than it reads.
#[test]
fn what_was_said_before_the_close_is_heard() {
    paused(async {
        for body in ["", "no"] {
            let world = World::pipes();
            let (mut upstream, sidecar) = start(&world, &[]);
            let mut caller = sidecar.caller().await;
            caller
                .send("POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 30000\r\n\r\n")
                .await;
            let mut wire = Wire::silent(&mut upstream).await;
            let stream = wire.request().await;
            settle().await;
            // All of it before the other side has a turn.
            wire.settings(&[]).await;
            if body.is_empty() {
                wire.too_large(stream).await;
            } else {
                wire.ok(stream, body).await;
            }
            drop(wire);
            let answer = caller.answer().await;
            assert_eq!(answer.status, if body.is_empty() { 413 } else { 200 });
            assert_eq!(answer.text(), body);
        }
    });
}

#[test]
fn interim_answers_are_passed_over_and_bounded_as_over_http_1() {
    paused(async {
        for (count, passes) in [(1024, true), (1025, false)] {
            let world = World::pipes();
            let (mut upstream, sidecar) = start(&world, &[]);
            let (mut caller, mut wire, stream) = begun(&mut upstream, &sidecar, GET).await;
            for at in 0..count {
                wire.send(HEADERS, END_HEADERS, stream, b"\x08\x03103")
                    .await;
                if at % 10 == 0 {
                    settle().await;
                }
            }
            settle().await;
            if passes {
                wire.ok(stream, "fine").await;
                assert_eq!(caller.answer().await.text(), "fine");
                continue;
            }
            let answer = caller.answer().await;
            assert_eq!((answer.status, answer.reason()), (502, "upstream_protocol"));
            assert_eq!(wire.expect_reset(stream).await, CANCEL);
            // The others on the connection have no part in it.
            caller.send(GET).await;
            let stream = wire.request().await;
            wire.ok(stream, "next").await;
            assert_eq!(caller.answer().await.text(), "next");
        }
    });
}

/// h2 counts what it must reset over the whole life of a connection, and would end it.
#[test]
fn answers_that_are_malformed_never_end_the_connection_of_others() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = start(&world, &[]);
        let (mut waiting, mut wire, first) = begun(&mut upstream, &sidecar, GET).await;
        let mut caller = sidecar.caller().await;
        for _ in 0..1100 {
            caller.send(GET).await;
            let stream = wire.request().await;
            wire.send(
                HEADERS,
                END_HEADERS,
                stream,
                b"\x88\x00\x0aconnection\x05close",
            )
            .await;
            assert_eq!(caller.answer().await.reason(), "upstream_protocol");
            wire.expect_reset(stream).await;
        }
        wire.ok(first, "at last").await;
        assert_eq!(waiting.answer().await.text(), "at last");
    });
}

/// h2 counts them over the whole life of a connection, and ends it after a hundred.
#[test]
fn an_upstream_that_sends_empty_data_gets_another_connection_before_h2_ends_the_first() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = start(&world, &[]);
        let (mut waiting, mut wire, first) = begun(&mut upstream, &sidecar, GET).await;
        let mut caller = sidecar.caller().await;
        for _ in 0..150 {
            caller.send(GET).await;
            let stream = tokio::select! {
                biased;
                next = Wire::accept(&mut upstream, &[]) => {
                    let mut next = next;
                    let stream = next.request().await;
                    next.ok(stream, "elsewhere").await;
                    assert_eq!(caller.answer().await.text(), "elsewhere");
                    wire.ok(first, "at last").await;
                    assert_eq!(waiting.answer().await.text(), "at last");
                    return;
                }
                stream = wire.request() => stream,
            };
            wire.head_ok(stream).await;
            wire.data(stream, "", 0).await;
            wire.data(stream, "fine", END_STREAM).await;
            assert_eq!(caller.answer().await.text(), "fine");
        }
        panic!("it was never left");
    });
}

#[test]
fn a_length_is_told_once_and_as_a_number() {
    real(async {
        let world = World::sockets();
        let (mut upstream, sidecar) = start(&world, &[]);
        let (mut caller, mut wire, stream) = begun(&mut upstream, &sidecar, GET).await;
        // Twice content-length: 04.
        let head = b"\x88\x0f\x0d\x0204\x0f\x0d\x0204";
        wire.send(HEADERS, END_HEADERS, stream, head).await;
        wire.data(stream, "four", END_STREAM).await;
        let answer = caller.answer().await;
        assert_eq!((answer.status, answer.text()), (200, "four".to_owned()));
        assert_eq!(answer.head.all("content-length"), ["4"]);
    });
}
