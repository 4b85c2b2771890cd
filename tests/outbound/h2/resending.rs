//! What is sent again, and what is not (cases.md, H13; RFC 9113 section 8.7, RFC 9110 section 9.2.2).

use std::sync::atomic::Ordering::Relaxed;

use regent::reason::Reason;

use super::frames::*;
use super::{GET, POST, start, warm};
use crate::support::*;

fn post(length: usize) -> String {
    let body = "b".repeat(length);
    format!("POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
}

#[test]
fn a_stream_that_was_refused_is_sent_once_more_whatever_its_method() {
    real(async {
        for (request, body) in [(GET, &b""[..]), (POST, b"hi")] {
            let world = World::sockets();
            let (mut upstream, sidecar) = start(&world, &[]);
            let (mut caller, mut wire) = warm(&mut upstream, &sidecar).await;
            caller.send(request).await;
            let stream = wire.request().await;
            wire.reset(stream, REFUSED_STREAM).await;
            // It had nothing else to do, and refused: not over this connection.
            let mut other = Wire::accept(&mut upstream, &[]).await;
            let stream = other.head().await;
            if !body.is_empty() {
                assert_eq!(other.body(stream.stream).await, body);
            }
            // Once, and no more.
            other.reset(stream.stream, REFUSED_STREAM).await;
            let answer = caller.answer().await;
            assert_eq!(
                (answer.status, answer.reason()),
                (502, "upstream_unreachable")
            );
            assert_eq!(sidecar.broken_off(Reason::UpstreamUnreachable), 1);
        }
    });
}

#[test]
fn a_connection_that_refused_one_stream_of_two_goes_on_with_the_other() {
    real(async {
        let world = World::sockets();
        let (mut upstream, sidecar) = start(&world, &[]);
        let (mut first, mut wire) = warm(&mut upstream, &sidecar).await;
        let mut second = sidecar.caller().await;
        first.send(GET).await;
        let kept = wire.request().await;
        second.send(GET).await;
        let refused = wire.request().await;
        wire.reset(refused, REFUSED_STREAM).await;
        let mut other = Wire::accept(&mut upstream, &[]).await;
        let stream = other.request().await;
        other.ok(stream, "second").await;
        assert_eq!(second.answer().await.text(), "second");
        // The first one has as many as it takes, and the next goes elsewhere at once.
        second.send(GET).await;
        let stream = other.request().await;
        other.ok(stream, "third").await;
        assert_eq!(second.answer().await.text(), "third");
        wire.ok(kept, "first").await;
        assert_eq!(first.answer().await.text(), "first");
        first.send(GET).await;
        let stream = wire.request().await;
        wire.ok(stream, "fourth").await;
        assert_eq!(first.answer().await.text(), "fourth");
    });
}

#[test]
fn what_a_goaway_leaves_out_is_sent_once_more_and_what_it_names_is_answered_there() {
    real(async {
        for request in [GET, POST] {
            let world = World::sockets();
            let (mut upstream, sidecar) = start(&world, &[]);
            let (mut first, mut wire) = warm(&mut upstream, &sidecar).await;
            first.send(POST).await;
            let named = wire.request().await;
            let mut second = sidecar.caller().await;
            second.send(request).await;
            let left_out = wire.request().await;
            wire.go_away(named, NO_ERROR).await;
            let mut other = Wire::accept(&mut upstream, &[]).await;
            let stream = other.request().await;
            assert!(left_out > named);
            other.ok(stream, "again").await;
            assert_eq!(second.answer().await.text(), "again");
            wire.ok(named, "still there").await;
            assert_eq!(first.answer().await.text(), "still there");
            // It takes no new request, though it is idle now.
            first.send(GET).await;
            let stream = other.request().await;
            other.ok(stream, "elsewhere").await;
            assert_eq!(first.answer().await.text(), "elsewhere");
            wire.expect_farewell().await;
        }
    });
}

#[test]
fn what_may_have_been_acted_on_is_not_sent_again() {
    real(async {
        let world = World::sockets();
        let (mut upstream, sidecar) = start(&world, &[]);
        let (mut caller, mut wire) = warm(&mut upstream, &sidecar).await;
        caller.send(POST).await;
        let stream = wire.request().await;
        // It was named, and so it may have been acted on, whatever came of it.
        wire.go_away(stream, INTERNAL_ERROR).await;
        drop(wire);
        let answer = caller.answer().await;
        assert_eq!(
            (answer.status, answer.reason()),
            (502, "upstream_unreachable")
        );
        let mut caller = sidecar.caller().await;
        caller.send(GET).await;
        let mut other = Wire::accept(&mut upstream, &[]).await;
        let stream = other.head().await;
        assert!(stream.ends(), "nobody else came meanwhile");
        let stream = stream.stream;
        other.ok(stream, "next").await;
        assert_eq!(caller.answer().await.text(), "next");
    });
}

#[test]
fn a_reset_is_an_answer_of_a_kind_and_nothing_is_sent_again() {
    real(async {
        for (code, reason) in [
            (CANCEL, "upstream_unreachable"),
            (INTERNAL_ERROR, "upstream_unreachable"),
            (NO_ERROR, "upstream_unreachable"),
            (HTTP_1_1_REQUIRED, "upstream_protocol"),
        ] {
            let world = World::sockets();
            let (mut upstream, sidecar) = start(&world, &[]);
            let (mut caller, mut wire) = warm(&mut upstream, &sidecar).await;
            caller.send(GET).await;
            let stream = wire.request().await;
            wire.reset(stream, code).await;
            let answer = caller.answer().await;
            assert_eq!((answer.status, answer.reason()), (502, reason), "{code}");
            // The connection is as good as before.
            caller.send(GET).await;
            let stream = wire.request().await;
            wire.ok(stream, "fine").await;
            assert_eq!(caller.answer().await.text(), "fine");
        }
    });
}

#[test]
fn a_request_that_harms_nobody_twice_is_sent_again_where_the_connection_closed() {
    real(async {
        let world = World::sockets();
        let (mut upstream, sidecar) = start(&world, &[]);
        let (mut caller, mut wire) = warm(&mut upstream, &sidecar).await;
        caller.send(GET).await;
        wire.request().await;
        drop(wire);
        let mut fresh = Wire::accept(&mut upstream, &[]).await;
        fresh.request().await;
        // Once, and no more.
        drop(fresh);
        let answer = caller.answer().await;
        assert_eq!(
            (answer.status, answer.reason()),
            (502, "upstream_unreachable")
        );
    });
}

#[test]
fn a_fresh_connection_that_ends_is_not_tried_again() {
    real(async {
        let world = World::sockets();
        let (mut upstream, sidecar) = start(&world, &[]);
        let mut caller = sidecar.caller().await;
        caller.send(GET).await;
        let mut wire = Wire::accept(&mut upstream, &[]).await;
        wire.request().await;
        drop(wire);
        assert_eq!(caller.answer().await.reason(), "upstream_unreachable");
    });
}

/// The end and the request cross: nothing of the request is written.
#[test]
fn a_request_that_was_never_written_goes_over_another_connection_whatever_it_is() {
    paused(async {
        for length in [0, 2, 20_000] {
            let world = World::pipes();
            let (mut upstream, sidecar) = start(&world, &[]);
            let (mut caller, mut wire) = warm(&mut upstream, &sidecar).await;
            settle().await;
            // Both before anybody else runs.
            caller.send(post(length)).await;
            wire.peer.finish().await;
            let mut fresh = Wire::accept(&mut upstream, &[]).await;
            let head = fresh.head().await;
            let body = match head.ends() {
                true => Vec::new(),
                false => fresh.body(head.stream).await,
            };
            assert_eq!(body.len(), length);
            fresh.ok(head.stream, "fine").await;
            assert_eq!(caller.answer().await.text(), "fine");
        }
    });
}

#[test]
fn a_body_that_is_not_here_any_more_cannot_be_sent_again() {
    real(async {
        let world = World::sockets();
        let (mut upstream, sidecar) = start(&world, &[]);
        let (mut caller, mut wire) = warm(&mut upstream, &sidecar).await;
        caller.send(post(100_000)).await;
        let stream = wire.request().await;
        let mut came = 0;
        while came < 65_535 {
            came += wire.frame().await.expect("data").payload.len();
        }
        wire.reset(stream, REFUSED_STREAM).await;
        let answer = caller.answer().await;
        assert_eq!(
            (answer.status, answer.reason()),
            (502, "upstream_unreachable")
        );
        // And nobody else is asked.
        until(|| world.dialled.load(Relaxed) == 0).await;
    });
}

#[test]
fn a_goaway_amid_requests_loses_none_of_them() {
    real(async {
        let world = World::sockets();
        let (mut upstream, sidecar) = start(&world, &[]);
        let (_, mut wire) = warm(&mut upstream, &sidecar).await;
        let mut callers = Vec::new();
        let mut streams = Vec::new();
        for _ in 0..40 {
            let mut caller = sidecar.caller().await;
            caller.send(POST).await;
            streams.push(wire.request().await);
            callers.push(caller);
        }
        wire.go_away(streams[19], NO_ERROR).await;
        let mut other = Wire::accept(&mut upstream, &[]).await;
        for _ in 20..40 {
            let stream = other.request().await;
            other.ok(stream, "after").await;
        }
        for stream in &streams[..20] {
            wire.ok(*stream, "before").await;
        }
        wire.expect_farewell().await;
        for (at, mut caller) in callers.into_iter().enumerate() {
            let text = caller.answer().await.text();
            assert_eq!(text, if at < 20 { "before" } else { "after" });
        }
    });
}
