//! Bodies on their way: nothing is held back, nothing is kept, and an end that is none is not told
//! as one.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use regent::reason::Reason;
use tokio::io::AsyncWriteExt as _;
use tokio::task::spawn_local;

use super::support::*;

const GET: &str = "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n";

struct Case {
    world: World,
    upstream: Upstream,
    sidecar: Sidecar,
}

fn case(world: World) -> Case {
    let upstream = Upstream::bind(&world);
    let sidecar = Setup::new(&world, upstream.at).start();
    Case {
        world,
        upstream,
        sidecar,
    }
}

fn post(fields: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")
}

#[test]
fn each_event_arrives_before_the_next_one_is_made() {
    real(async {
        let mut case = case(World::sockets());
        let mut caller = case.sidecar.caller().await;
        caller.send(GET).await;
        let mut above = case.upstream.accept().await;
        above.request().await.expect("a request");
        above
            .send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        let head = caller.head().await.expect("the head, before any event");
        assert_eq!(head.get("content-type"), Some("text/event-stream"));
        for at in 0..20 {
            let event = format!("data: {at}\n\n");
            above
                .send(format!("{:x}\r\n{event}\r\n", event.len()))
                .await;
            assert_eq!(caller.chunk().await, Some(event.into_bytes()));
        }
        above.send("0\r\n\r\n").await;
        assert_eq!(caller.chunk().await, Some(Vec::new()));
    });
}

#[test]
fn each_piece_of_an_upload_arrives_before_the_next_one_is_sent() {
    real(async {
        let mut case = case(World::sockets());
        let mut caller = case.sidecar.caller().await;
        caller.send(post("Transfer-Encoding: chunked\r\n")).await;
        let mut above = case.upstream.accept().await;
        let head = above.head().await.expect("the head, before the body");
        assert_eq!(head.get("transfer-encoding"), Some("chunked"));
        for at in 0..20 {
            let piece = format!("piece {at}");
            caller
                .send(format!("{:x}\r\n{piece}\r\n", piece.len()))
                .await;
            assert_eq!(above.chunk().await, Some(piece.into_bytes()));
        }
        caller.send("0\r\n\r\n").await;
        assert_eq!(above.chunk().await, Some(Vec::new()));
        above.send(ok("done")).await;
        assert_eq!(caller.answer().await.text(), "done");
    });
}

#[test]
fn both_directions_stream_at_once() {
    real(async {
        let mut case = case(World::sockets());
        let mut caller = case.sidecar.caller().await;
        caller.send(post("Transfer-Encoding: chunked\r\n")).await;
        let mut above = case.upstream.accept().await;
        above.head().await.expect("a head");
        above
            .send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        caller.head().await.expect("the answer begins");
        for at in 0..20 {
            let piece = format!("ping {at}");
            caller
                .send(format!("{:x}\r\n{piece}\r\n", piece.len()))
                .await;
            assert_eq!(above.chunk().await, Some(piece.into_bytes()));
            let piece = format!("pong {at}");
            above
                .send(format!("{:x}\r\n{piece}\r\n", piece.len()))
                .await;
            assert_eq!(caller.chunk().await, Some(piece.into_bytes()));
        }
        caller.send("0\r\n\r\n").await;
        assert_eq!(above.chunk().await, Some(Vec::new()));
        above.send("0\r\n\r\n").await;
        assert_eq!(caller.chunk().await, Some(Vec::new()));
    });
}

#[test]
fn whoever_does_not_read_holds_back_whoever_sends() {
    // 64 KiB in each pipe, and what hyper may keep of a message on each side.
    const MOST: usize = 4 * 1024 * 1024;
    paused(async {
        let mut case = case(World::pipes());
        let mut caller = case.sidecar.caller().await;
        caller.send(GET).await;
        let mut above = case.upstream.accept().await;
        above.request().await.expect("a request");
        above
            .send("HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
            .await;
        assert!(stuck_after(&mut above).await < MOST);
        drop(caller);

        let mut caller = case.sidecar.caller().await;
        caller.send(post("Content-Length: 100000000\r\n")).await;
        let mut above = case.upstream.accept().await;
        above.head().await.expect("a head");
        assert!(stuck_after(&mut caller).await < MOST);
    });
}

async fn stuck_after(peer: &mut Peer) -> usize {
    let piece = vec![b'x'; 16 * 1024];
    let mut sent = 0;
    loop {
        let write = peer.io.write(&piece);
        match tokio::time::timeout(Duration::from_secs(5), write).await {
            Ok(Ok(written)) => sent += written,
            Ok(Err(error)) => panic!("{error}"),
            Err(_) => return sent,
        }
    }
}

#[test]
fn a_caller_that_leaves_takes_its_request_with_it() {
    real(async {
        let mut case = case(World::sockets());
        // Before there is an answer.
        let mut caller = case.sidecar.caller().await;
        caller.send(GET).await;
        let mut above = case.upstream.accept().await;
        above.request().await.expect("a request");
        drop(caller);
        above.expect_end().await;
        // In the middle of it.
        let mut caller = case.sidecar.caller().await;
        caller.send(GET).await;
        let mut above = case.upstream.accept().await;
        above.request().await.expect("a request");
        above
            .send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n")
            .await;
        caller.head().await.expect("a head");
        drop(caller);
        above.expect_end().await;
        // In the middle of its own body.
        let mut caller = case.sidecar.caller().await;
        caller.send(post("Content-Length: 10\r\n")).await;
        caller.send("01234").await;
        let mut above = case.upstream.accept().await;
        above.head().await.expect("a head");
        above.expect("01234").await;
        drop(caller);
        above.expect_end().await;
        until(|| case.world.dialled.load(Relaxed) == 0).await;
        until(|| case.sidecar.connections() == 0).await;
    });
}

#[test]
fn an_answer_that_breaks_off_is_not_told_as_a_whole_one() {
    real(async {
        let (reset, broken) = (Reason::UpstreamUnreachable, Reason::UpstreamProtocol);
        for (head, reason) in [
            ("content-length: 10\r\n\r\n01234", reset),
            ("transfer-encoding: chunked\r\n\r\n5\r\n01234\r\n", reset),
            (
                "transfer-encoding: chunked\r\n\r\n5\r\n01234\r\nzz\r\n",
                broken,
            ),
        ] {
            let mut case = case(World::sockets());
            let mut caller = case.sidecar.caller().await;
            caller.send(GET).await;
            let mut above = case.upstream.accept().await;
            above.request().await.expect("a request");
            above.send(format!("HTTP/1.1 200 OK\r\n{head}")).await;
            let got = caller.head().await.expect("a head");
            if got.has("content-length") {
                caller.expect("01234").await;
            } else {
                assert_eq!(caller.chunk().await, Some(b"01234".to_vec()));
            }
            drop(above);
            caller.expect_end().await;
            until(|| case.sidecar.broken_off(reason) == 1).await;
            // The next one is served.
            let mut caller = case.sidecar.caller().await;
            caller.send(GET).await;
            let mut above = case.upstream.accept().await;
            above.request().await.expect("a request");
            above.send(ok("fine")).await;
            assert_eq!(caller.answer().await.text(), "fine");
        }
    });
}

#[test]
fn an_answer_before_the_end_of_a_long_upload_reaches_the_caller() {
    real(async {
        for closes in [false, true] {
            for (status, length) in [(413, 200_000), (401, 200_000), (200, 60_000)] {
                let mut case = case(World::sockets());
                let mut caller = case.sidecar.caller().await;
                caller
                    .send(post(&format!("Content-Length: {length}\r\n")))
                    .await;
                let mut above = case.upstream.accept().await;
                above.head().await.expect("a head");
                above.send(answer(status, &[], "early")).await;
                // Closed with bytes unread: a reset on the wire.
                let above = (!closes).then_some(above);
                // A caller that writes all before it reads.
                caller.send(vec![b'x'; length]).await;
                let got = caller.answer().await;
                assert_eq!((got.status, got.text().as_str()), (status, "early"));
                drop((caller, above));
                until(|| case.world.dialled.load(Relaxed) == 0).await;
                until(|| case.sidecar.connections() == 0).await;
            }
        }
    });
}

/// Its body is all requests: whoever loses count of it, on either side, serves one.
#[test]
fn what_is_left_of_an_upload_after_an_early_answer_is_never_a_request() {
    const EVIL: &str = "GET /evil HTTP/1.1\r\nHost: localhost\r\n\r\n";
    real(async {
        let mut went_on = 0;
        for (status, chunked, count) in [
            (401, false, 5),
            (413, true, 5),
            (200, false, 5),
            (401, true, 5000),
            (413, false, 5000),
            (200, true, 5000),
        ] {
            let world = World::sockets();
            let upstream = Upstream::bind(&world);
            let sidecar = Setup::new(&world, upstream.at).start();
            let seen = upstream.early(status);
            let body = EVIL.repeat(count);
            let length = body.len();
            let (field, framed) = match chunked {
                true => (
                    "Transfer-Encoding: chunked\r\n".to_owned(),
                    format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
                ),
                false => (format!("Content-Length: {}\r\n", body.len()), body),
            };
            let (first, rest) = framed.split_at(EVIL.len() * 2);
            let mut caller = sidecar.caller().await;
            caller.send(post(&field) + first).await;
            let got = caller.answer().await;
            assert_eq!((got.status, got.text().as_str()), (status, "early"));
            let next = GET.replace("/x", "/next");
            let _ = caller.try_send(format!("{rest}{next}")).await;
            // The connection goes on with the next request, or it has ended.
            if let Some(got) = caller.try_answer().await {
                assert_eq!((got.status, got.text().as_str()), (200, "/next"));
                went_on += 1;
            }
            for _ in 0..3 {
                assert_eq!(sidecar.get("/other").await.text(), "/other");
            }
            drop(caller);
            until(|| sidecar.connections() == 0).await;
            for (target, came) in &*seen.borrow() {
                let is_right = match &**target {
                    "/x" => came.is_none_or(|came| came == length),
                    "/next" | "/other" => *came == Some(0),
                    _ => false,
                };
                assert!(is_right, "{target} {came:?} of {status} {chunked} {count}");
            }
        }
        assert!(went_on > 0);
    });
}

#[test]
fn a_caller_that_still_sends_when_its_answer_is_out_is_not_cut_at_once() {
    paused(async {
        // An upstream that closes ends the upload at once, one that does not after a second.
        for (closes, pause) in [(true, 500), (false, 1500)] {
            let mut case = case(World::pipes());
            let mut caller = case.sidecar.caller().await;
            caller.send(post("Content-Length: 200000\r\n")).await;
            let mut above = case.upstream.accept().await;
            above.head().await.expect("a head");
            above.send(answer(413, &[], "early")).await;
            let above = (!closes).then_some(above);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            caller.send(vec![b'x'; 150_000]).await;
            assert_eq!(caller.answer().await.text(), "early");
            caller.expect_end().await;
            drop(above);
            until(|| case.sidecar.connections() == 0).await;
        }
    });
}

#[test]
fn a_caller_that_has_sent_all_and_closed_its_half_gets_its_answer() {
    real(closes_its_half(World::sockets()));
    // Here the end comes together with the last byte.
    paused(async {
        closes_its_half(World::pipes()).await;
    });
}

async fn closes_its_half(world: World) {
    let mut case = case(world);
    for request in [GET.to_owned(), post("Content-Length: 2\r\n") + "hi"] {
        let mut caller = case.sidecar.caller().await;
        caller.send(&request).await;
        caller.finish().await;
        let mut above = case.upstream.accept().await;
        above.request().await.expect("a request");
        let last = answer(200, &[("connection", "close")], "late");
        above.send(last).await;
        assert_eq!(caller.answer().await.text(), "late");
        caller.expect_end().await;
    }
    // Three requests and the end in one go.
    let mut caller = case.sidecar.caller().await;
    caller.send(GET.repeat(3)).await;
    caller.finish().await;
    let mut above = case.upstream.accept().await;
    for at in 0..3 {
        above.request().await.expect("a request");
        above.send(ok(&format!("{at}"))).await;
    }
    for at in 0..3 {
        assert_eq!(caller.answer().await.text(), format!("{at}"));
    }
    caller.expect_end().await;
}

#[test]
fn what_is_left_of_a_body_after_an_early_answer_is_no_slow_head() {
    paused(async {
        let mut case = case(World::pipes());
        let mut caller = case.sidecar.caller().await;
        caller.send(post("Content-Length: 4\r\n")).await;
        caller.send("01").await;
        let mut above = case.upstream.accept().await;
        let head = above.head().await.expect("a head");
        above.send(ok("early")).await;
        assert_eq!(caller.answer().await.text(), "early");
        tokio::time::sleep(Duration::from_millis(500)).await;
        caller.send("23").await;
        above.body(&head).await;
        // Longer than a head may take.
        tokio::time::sleep(Duration::from_secs(60)).await;
        caller.send(GET).await;
        let answering = spawn_local(async move {
            let mut next = case.upstream.accept().await;
            next.request().await.expect("a request");
            next.send(ok("next")).await;
            (case, next)
        });
        assert_eq!(caller.answer().await.text(), "next");
        answering.await.expect("no panic");
    });
}
