//! Callers that stop in the middle: what is waited for ends, and nobody else does.

use std::time::Duration;

use regent::reason::Reason;
use tokio::time::{Instant, sleep};

use super::support::*;

/// `limits.idle_timeout`, in seconds.
const LIMIT: u64 = 30;
const POST: &str = "POST /x HTTP/1.1\r\nHost: localhost\r\n";

fn start(world: &World) -> (Upstream, Sidecar) {
    let upstream = Upstream::bind(world);
    let setup = Setup::new(world, upstream.at).set(format!("limits.idle_timeout={LIMIT}s"));
    let sidecar = setup.start();
    (upstream, sidecar)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn is_at_the_limit(took: Duration) {
    assert!(
        took >= seconds(LIMIT) && took < seconds(LIMIT + 2),
        "{took:?}"
    );
}

#[test]
fn a_caller_that_stops_sending_its_body_is_answered_408() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = start(&world);
        for (at, body) in [
            "Content-Length: 5\r\n\r\n",
            "Content-Length: 5\r\n\r\n12",
            "Transfer-Encoding: chunked\r\n\r\n2\r\n12\r\n",
            "Transfer-Encoding: chunked\r\n\r\n2\r\n1",
        ]
        .iter()
        .enumerate()
        {
            let mut caller = sidecar.caller().await;
            let began = Instant::now();
            caller.send(format!("{POST}{body}")).await;
            let mut above = upstream.accept().await;
            let head = above.head().await.expect("a head");
            let answer = caller.answer().await;
            is_at_the_limit(began.elapsed());
            assert_eq!((answer.status, answer.reason()), (408, "timeout"));
            assert_eq!(answer.head.get("connection"), Some("close"));
            caller.expect_end().await;
            assert_eq!(above.body(&head).await.1, End::Cut);
            assert_eq!(sidecar.refused(Reason::Timeout), at as u64 + 1);
        }
        assert_eq!(sidecar.refused_in_all(), 4);
        until(|| sidecar.connections() == 0).await;
    });
}

#[test]
fn a_caller_that_sends_slowly_is_borne_as_long_as_it_sends() {
    paused(async {
        let world = World::pipes();
        let (upstream, sidecar) = start(&world);
        let recorder = upstream.echo();
        let mut caller = sidecar.caller().await;
        caller
            .send(format!("{POST}Content-Length: 20\r\n\r\n"))
            .await;
        for _ in 0..20 {
            sleep(seconds(LIMIT - 1)).await;
            caller.send("x").await;
        }
        assert_eq!(caller.answer().await.status, 200);
        assert_eq!(recorder.last().end, End::Whole);
        assert_eq!(sidecar.refused_in_all(), 0);
    });
}

#[test]
fn an_upstream_that_does_not_take_the_body_is_no_fault_of_the_callers() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = start(&world);
        let mut caller = sidecar.caller().await;
        let length = 1 << 20;
        let mut request = format!("{POST}Content-Length: {length}\r\n\r\n").into_bytes();
        request.resize(request.len() + length, b'x');
        let sending = tokio::task::spawn_local(async move {
            caller.send(request).await;
            caller
        });
        let mut above = upstream.accept().await;
        let head = above.head().await.expect("a head");
        sleep(seconds(10 * LIMIT)).await;
        assert!(!sending.is_finished(), "more than all buffers hold");
        assert_eq!(above.body(&head).await.0.len(), length);
        // Nor is it one that takes its time for the answer.
        sleep(seconds(10 * LIMIT)).await;
        above.send(ok("late")).await;
        let mut caller = sending.await.expect("no panic");
        assert_eq!(caller.answer().await.text(), "late");
    });
}

#[test]
fn a_caller_that_stops_reading_its_answer_is_cut() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = start(&world);
        let mut caller = sidecar.caller().await;
        caller
            .send("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        let mut above = upstream.accept().await;
        above.request().await.expect("a request");
        let began = Instant::now();
        above
            .send("HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\n")
            .await;
        let piece = vec![b'x'; 10_000];
        while above.try_send(&piece).await.is_ok() {}
        is_at_the_limit(began.elapsed());
        until(|| sidecar.connections() == 0).await;
        // It finds what was under way, and the end.
        caller.head().await.expect("a head");
        let rest = caller.rest().await;
        assert!(rest.len() < 1_000_000, "{}", rest.len());
    });
}

#[test]
fn a_caller_that_reads_slowly_is_borne_as_long_as_it_reads() {
    paused(async {
        let world = World::pipes();
        let (upstream, sidecar) = start(&world);
        let body = "x".repeat(1_000_000);
        let _recorder = upstream.serve(move |_| ok(&body));
        let mut caller = sidecar.caller().await;
        caller
            .send("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        let head = caller.head().await.expect("a head");
        for _ in 0..10 {
            sleep(seconds(LIMIT - 1)).await;
            assert!(caller.fill().await);
        }
        assert_eq!(caller.body(&head).await.1, End::Whole);
    });
}

#[test]
fn a_stream_that_is_quiet_by_nature_is_left_alone() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = start(&world);
        // Events, with a request whose body has come.
        let mut caller = sidecar.caller().await;
        caller
            .send(format!("{POST}Content-Length: 2\r\n\r\nhi"))
            .await;
        let mut above = upstream.accept().await;
        above.request().await.expect("a request");
        above
            .send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        caller.head().await.expect("a head");
        for _ in 0..3 {
            sleep(seconds(10 * LIMIT)).await;
            above.send("5\r\nhello\r\n").await;
            assert_eq!(caller.chunk().await.expect("an event"), b"hello");
        }
        // A tunnel.
        let mut caller = sidecar.caller().await;
        caller
            .send(
                "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
            )
            .await;
        let mut above = upstream.accept().await;
        above.request().await.expect("a request");
        above
            .send("HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n")
            .await;
        caller.head().await.expect("a head");
        for _ in 0..3 {
            sleep(seconds(10 * LIMIT)).await;
            above.send("from above").await;
            caller.expect("from above").await;
            sleep(seconds(10 * LIMIT)).await;
            caller.send("from below").await;
            above.expect("from below").await;
        }
    });
}

#[test]
fn while_its_answer_goes_on_a_caller_need_not_go_on_with_its_body() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = start(&world);
        let mut caller = sidecar.caller().await;
        caller
            .send(format!(
                "{POST}Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n"
            ))
            .await;
        let mut above = upstream.accept().await;
        above.head().await.expect("a head");
        assert_eq!(above.chunk().await.expect("a chunk"), b"hi");
        above
            .send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        caller.head().await.expect("a head");
        for _ in 0..10 {
            sleep(seconds(LIMIT - 2)).await;
            above.send("5\r\nhello\r\n").await;
            assert_eq!(caller.chunk().await.expect("a chunk"), b"hello");
        }
        // With nothing either way it is over.
        let began = Instant::now();
        assert!(caller.chunk().await.is_none());
        is_at_the_limit(began.elapsed());
        assert!(above.chunk().await.is_none());
        until(|| sidecar.connections() == 0).await;
        assert_eq!(sidecar.broken_off(Reason::UpstreamUnreachable), 0);
    });
}
