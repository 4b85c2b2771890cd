//! What one caller may cost: heads, times, connections, bodies.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use regent::config::Listen;
use regent::net::{Io, Listener, Local, Net};
use regent::reason::Reason;
use tokio::time::Instant;

use super::support::*;

const GET: &str = "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn start(world: &World, sets: &[&str]) -> (Upstream, Sidecar) {
    let upstream = Upstream::bind(world);
    let setup = Setup::new(world, upstream.at);
    let setup = sets.iter().fold(setup, |setup, set| setup.set(*set));
    let sidecar = setup.start();
    (upstream, sidecar)
}

#[test]
fn a_head_that_is_too_large_is_refused_and_counted() {
    real(async {
        let world = World::sockets();
        let (upstream, sidecar) = start(&world, &["limits.header_bytes=16KiB"]);
        let recorder = upstream.echo();
        let many: String = (0..101).map(|at| format!("x-{at}: 1\r\n")).collect();
        for (at, fields) in [format!("x: {}\r\n", "a".repeat(17_000)), many]
            .iter()
            .enumerate()
        {
            let mut caller = sidecar.caller().await;
            caller
                .send(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"))
                .await;
            assert_eq!(caller.answer().await.status, 431);
            caller.expect_end().await;
            let counted = at as u64 + 1;
            until(|| sidecar.refused(Reason::HeadersTooLarge) == counted).await;
        }
        let fields = format!("x: {}\r\n", "a".repeat(15_000));
        let fits = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        assert_eq!(sidecar.ask(&fits).await.status, 200);
        assert_eq!(recorder.count(), 1);
    });
}

#[test]
fn a_head_may_be_as_large_as_the_limit_and_have_a_hundred_fields() {
    real(async {
        let world = World::sockets();
        let (upstream, sidecar) = start(&world, &["limits.header_bytes=16KiB"]);
        let recorder = upstream.echo();
        let of_bytes = |bytes: usize| {
            let head = "GET / HTTP/1.1\r\nHost: localhost\r\nx: ";
            format!("{head}{}\r\n\r\n", "a".repeat(bytes - head.len() - 4))
        };
        let of_fields = |count: usize| {
            let fields: String = (1..count).map(|at| format!("x-{at}: 1\r\n")).collect();
            format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")
        };
        for (request, status) in [
            (of_bytes(16 * 1024 - 1), 200),
            (of_bytes(16 * 1024), 200),
            (of_bytes(16 * 1024 + 1), 431),
            (of_fields(100), 200),
            (of_fields(101), 431),
        ] {
            let length = request.len();
            assert_eq!(sidecar.ask(&request).await.status, status, "{length}");
            // However it comes.
            let mut caller = sidecar.caller().await;
            for piece in request.as_bytes().chunks(3000) {
                caller.send(piece).await;
                settle().await;
            }
            assert_eq!(caller.answer().await.status, status, "{length}, in pieces");
        }
        assert_eq!(recorder.count(), 6);
        assert_eq!(sidecar.refused(Reason::HeadersTooLarge), 4);
    });
}

#[test]
fn a_target_that_is_too_long_is_refused() {
    real(async {
        let world = World::sockets();
        let (upstream, sidecar) = start(&world, &["limits.header_bytes=100KiB"]);
        let recorder = upstream.echo();
        let target = "a".repeat(70_000);
        let mut caller = sidecar.caller().await;
        caller
            .send(format!("GET /{target} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await;
        assert_eq!(caller.answer().await.status, 414);
        caller.rest().await;
        until(|| sidecar.refused(Reason::UriTooLong) == 1).await;
        assert_eq!(recorder.connections.get(), 0);
    });
}

#[test]
fn a_request_line_that_is_longer_than_a_head_may_be_is_a_target_too_long() {
    real(async {
        let world = World::sockets();
        let (upstream, sidecar) = start(&world, &[]);
        let recorder = upstream.echo();
        let limit = 32 * 1024;
        let of_line = |bytes: usize| {
            let around = "GET / HTTP/1.1\r\n".len();
            let target = "a".repeat(bytes - around);
            format!("GET /{target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
        };
        for (line, status) in [(limit, 431), (limit + 1, 414), (70_000, 414)] {
            for piece in [1_000_000, 3000] {
                let mut caller = sidecar.caller().await;
                // What came before it on the connection counts for nothing.
                assert_eq!(caller.ask(GET).await.status, 200);
                for piece in of_line(line).as_bytes().chunks(piece) {
                    // It may have been refused by now.
                    let _ = caller.try_send(piece).await;
                    settle().await;
                }
                let answer = caller.answer().await;
                assert_eq!(answer.status, status, "{line} in pieces of {piece}");
                if status == 414 {
                    let why = answer.head.get("proxy-status");
                    assert_eq!(why, Some("regent; details=\"uri_too_long\""));
                }
                caller.rest().await;
            }
        }
        until(|| sidecar.refused(Reason::UriTooLong) == 4).await;
        until(|| sidecar.refused(Reason::HeadersTooLarge) == 2).await;
        assert_eq!(recorder.count(), 6);
        // It cuts nothing that came before it.
        let mut caller = sidecar.caller().await;
        let _ = caller.try_send(format!("{GET}{}", of_line(70_000))).await;
        assert_eq!(caller.answer().await.status, 200);
        assert!([414, 431].contains(&caller.answer().await.status));
        assert_eq!(recorder.count(), 7);
    });
}

#[test]
fn a_head_that_does_not_end_is_answered_408_however_it_trickles() {
    paused(async {
        let world = World::pipes();
        let (upstream, sidecar) = start(&world, &["limits.header_timeout=5s"]);
        let recorder = upstream.echo();
        for trickles in [false, true] {
            let counted = sidecar.refused(Reason::Timeout);
            let mut caller = sidecar.caller().await;
            // Idle for longer than a head may take: that is no slow head.
            tokio::time::sleep(Duration::from_secs(20)).await;
            assert_eq!(caller.ask(GET).await.status, 200);
            let began = Instant::now();
            caller.send("GET / HTTP/1.1\r\nHost: ").await;
            if trickles {
                for _ in 0..4 {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    caller.send("x").await;
                }
            }
            let answer = caller.answer().await;
            assert_eq!(answer.status, 408);
            assert_eq!(answer.reason(), "timeout");
            caller.expect_end().await;
            let took = began.elapsed();
            assert!(took >= Duration::from_secs(5), "{took:?}");
            assert!(took < Duration::from_secs(7), "{took:?}");
            assert_eq!(sidecar.refused(Reason::Timeout), counted + 1);
        }
        assert_eq!(recorder.count(), 2);
    });
}

#[test]
fn a_head_that_begins_behind_a_whole_request_has_its_time_too() {
    paused(async {
        let world = World::pipes();
        let (upstream, sidecar) = start(&world, &["limits.header_timeout=5s"]);
        let _recorder = upstream.echo();
        let mut caller = sidecar.caller().await;
        let began = Instant::now();
        caller.send(format!("{GET}{}", &GET[..9])).await;
        assert_eq!(caller.answer().await.status, 200);
        assert_eq!(caller.answer().await.status, 408);
        caller.expect_end().await;
        assert!(began.elapsed() < Duration::from_secs(7));
        assert_eq!(sidecar.refused(Reason::Timeout), 1);
    });
}

#[test]
fn a_connection_without_a_request_is_closed_without_a_word() {
    paused(async {
        let world = World::pipes();
        let (upstream, sidecar) = start(&world, &["limits.idle_timeout=30s"]);
        let _recorder = upstream.echo();
        for uses in [false, true] {
            let mut caller = sidecar.caller().await;
            if uses {
                tokio::time::sleep(Duration::from_secs(20)).await;
                caller.ask(GET).await;
            }
            let began = Instant::now();
            caller.expect_end().await;
            let took = began.elapsed();
            assert!(took >= Duration::from_secs(29), "{took:?}");
            assert!(took < Duration::from_secs(32), "{took:?}");
            assert_eq!(sidecar.refused_in_all(), 0);
        }
    });
}

#[test]
fn an_exchange_may_last_as_long_as_it_likes() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = start(&world, &[]);
        let mut caller = sidecar.caller().await;
        caller
            .send("POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n")
            .await;
        let mut above = upstream.accept().await;
        let head = above.head().await.expect("a head");
        for byte in ["h", "i"] {
            // Within limits.idle_timeout: see `stalls`.
            tokio::time::sleep(Duration::from_secs(110)).await;
            caller.send(byte).await;
        }
        above.body(&head).await;
        tokio::time::sleep(Duration::from_secs(1000)).await;
        above
            .send("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n")
            .await;
        tokio::time::sleep(Duration::from_secs(1000)).await;
        above.send("x").await;
        assert_eq!(caller.answer().await.text(), "x");
    });
}

#[test]
fn beyond_the_cap_connections_wait_for_a_place() {
    real(async {
        let world = World::sockets();
        let (upstream, sidecar) = start(&world, &["limits.connections=2"]);
        let recorder = upstream.echo();
        let mut callers = Vec::new();
        for _ in 0..6 {
            let mut caller = sidecar.caller().await;
            caller.send(GET).await;
            callers.push(caller);
        }
        for caller in &mut callers[..2] {
            assert_eq!(caller.answer().await.status, 200);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(sidecar.connections(), 2);
        assert_eq!(recorder.count(), 2);
        // Each place that is given up serves the next one.
        for at in 2..6 {
            drop(callers.remove(0));
            let served = &mut callers[1];
            assert_eq!(served.answer().await.status, 200, "{at}");
            assert!(sidecar.connections() <= 2);
        }
    });
}

#[test]
fn at_the_cap_whoever_idles_makes_room_for_whoever_waits_and_nobody_else_does() {
    for threads in ["threads=1", "threads=2"] {
        paused(async {
            let world = World::pipes();
            let (mut upstream, sidecar) = start(&world, &["limits.connections=3", threads]);
            let mut busy = sidecar.caller().await;
            busy.send(GET).await;
            let mut above = upstream.accept().await;
            above.request().await.expect("a request");
            let recorder = upstream.echo();
            let mut idle = Vec::new();
            for _ in 0..2 {
                let mut caller = sidecar.caller().await;
                assert_eq!(caller.ask(GET).await.status, 200);
                idle.push(caller);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            // Nobody waits.
            tokio::time::sleep(Duration::from_secs(20)).await;
            for caller in &mut idle {
                assert_eq!(caller.ask(GET).await.status, 200);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            // Somebody does: the one that was used last stays, and the one that is at work.
            let began = Instant::now();
            let mut next = sidecar.caller().await;
            assert_eq!(next.ask(GET).await.status, 200);
            let took = began.elapsed();
            assert!(
                took > Duration::from_secs(2) && took < Duration::from_secs(6),
                "{took:?}"
            );
            idle.remove(0).expect_end().await;
            assert_eq!(idle[0].ask(GET).await.status, 200);
            above.send(ok("done")).await;
            assert_eq!(busy.answer().await.text(), "done");
            assert_eq!(recorder.count(), 6);
        });
    }
}

/// The moments around a sweep, one after the other: in one of them both happen at once.
fn moments() -> impl Iterator<Item = Duration> {
    (0..260).map(Duration::from_millis)
}

#[test]
fn a_request_that_comes_as_its_connection_is_closed_for_idling_is_answered() {
    paused(async {
        let world = World::pipes();
        let (upstream, sidecar) = start(&world, &["limits.idle_timeout=1s"]);
        let _recorder = upstream.echo();
        for moment in moments() {
            let mut caller = sidecar.caller().await;
            assert_eq!(caller.ask(GET).await.status, 200);
            tokio::time::sleep(Duration::from_secs(1) + moment).await;
            if caller.try_send(GET).await.is_ok() {
                assert_eq!(caller.answer().await.status, 200, "{moment:?}");
            }
        }
    });
}

#[test]
fn whoever_is_to_make_room_as_its_request_begins_makes_room_behind_it() {
    paused(async {
        for moment in moments() {
            let world = World::pipes();
            let (upstream, sidecar) = start(&world, &["limits.connections=1"]);
            let _recorder = upstream.echo();
            let mut caller = sidecar.caller().await;
            assert_eq!(caller.ask(GET).await.status, 200);
            let mut next = sidecar.caller().await;
            next.send(GET).await;
            tokio::time::sleep(Duration::from_secs(5) + moment).await;
            if caller.try_send(&GET[..9]).await.is_ok() {
                settle().await;
                assert_eq!(caller.ask(&GET[9..]).await.status, 200, "{moment:?}");
            }
            let began = Instant::now();
            assert_eq!(next.answer().await.status, 200);
            assert!(began.elapsed() < Duration::from_secs(6), "{moment:?}");
        }
    });
}

/// A machine without a descriptor to spare.
struct Exhausted;

impl Net for Exhausted {
    fn bind(&self, _: &Listen) -> io::Result<Listener> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn connect<'a>(&'a self, _: SocketAddr) -> Local<'a, io::Result<Io>> {
        let no_file = rustix::io::Errno::MFILE;
        Box::pin(std::future::ready(Err(no_file.into())))
    }
}

#[test]
fn where_no_connection_to_the_upstream_can_be_made_it_is_not_the_upstream_that_is_blamed() {
    paused(async {
        let world = World::pipes();
        let upstream = Upstream::bind(&world);
        let sidecar = Setup::new(&world, upstream.at)
            .dials(Arc::new(Exhausted))
            .start();
        let answer = sidecar.get("/x").await;
        assert_eq!((answer.status, answer.reason()), (503, "overloaded"));
        assert_eq!(answer.head.get("retry-after"), Some("1"));
        assert_eq!(sidecar.broken_off(Reason::UpstreamUnreachable), 0);
        assert_eq!(sidecar.refused(Reason::Overloaded), 1);
    });
}

#[test]
fn a_body_that_is_too_large_is_refused_and_its_request_never_whole() {
    real(async {
        let world = World::sockets();
        let (upstream, sidecar) = start(&world, &["limits.body_bytes=1KiB"]);
        let recorder = upstream.echo();
        let head = "POST /x HTTP/1.1\r\nHost: localhost\r\n";
        let sized = |length: usize| {
            format!(
                "{head}Content-Length: {length}\r\n\r\n{}",
                "x".repeat(length)
            )
        };
        let chunked = |length: usize| {
            let body = "x".repeat(length);
            format!("{head}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n")
        };
        let answer = sidecar.ask(&sized(1025)).await;
        assert_eq!((answer.status, answer.reason()), (413, "too_large"));
        assert_eq!(recorder.connections.get(), 0);
        let answer = sidecar.ask(&chunked(1025)).await;
        assert_eq!((answer.status, answer.reason()), (413, "too_large"));
        until(|| recorder.open.get() == 0).await;
        let whole = |request: &Received| request.end == End::Whole;
        assert!(!recorder.requests.borrow().iter().any(whole));
        assert_eq!(sidecar.refused(Reason::TooLarge), 2);
        assert_eq!(sidecar.ask(&sized(1024)).await.status, 200);
        assert_eq!(sidecar.ask(&chunked(1024)).await.status, 200);
    });
}

#[test]
fn a_refusal_reaches_a_caller_that_writes_all_before_it_reads() {
    real(async {
        let world = World::sockets();
        let (upstream, sidecar) = start(&world, &["limits.body_bytes=1KiB"]);
        let _recorder = upstream.echo();
        for (host, length, reason) in [
            ("evil.example", 200_000, "host_not_allowed"),
            ("localhost", 200_000, "too_large"),
        ] {
            let mut caller = sidecar.caller().await;
            caller
                .send(format!(
                    "POST /x HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n"
                ))
                .await;
            caller.send(vec![b'x'; length]).await;
            let answer = caller.answer().await;
            assert_eq!(answer.reason(), reason);
            assert_eq!(answer.head.get("connection"), Some("close"));
            caller.expect_end().await;
        }
        // One that neither reads on nor goes is not waited for.
        let mut caller = sidecar.caller().await;
        caller
            .send("POST /x HTTP/1.1\r\nHost: evil\r\nContent-Length: 10\r\n\r\n")
            .await;
        caller.answer().await;
        until(|| sidecar.connections() == 0).await;
    });
}

#[test]
fn the_longest_exchange_ends_whatever_it_waits_for() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = start(&world, &["limits.request_timeout=5s"]);
        // For the upstream's head.
        let mut caller = sidecar.caller().await;
        let began = Instant::now();
        caller.send(GET).await;
        let mut above = upstream.accept().await;
        above.request().await.expect("a request");
        let answer = caller.answer().await;
        assert_eq!((answer.status, answer.reason()), (504, "upstream_timeout"));
        assert_eq!(began.elapsed().as_secs(), 5);
        above.expect_end().await;
        // For the caller's own body.
        let mut caller = sidecar.caller().await;
        caller
            .send("POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n12")
            .await;
        let mut above = upstream.accept().await;
        above.head().await.expect("a head");
        let answer = caller.answer().await;
        assert_eq!((answer.status, answer.reason()), (408, "timeout"));
        above.rest().await;
        // For the rest of the answer: it breaks off.
        let mut caller = sidecar.caller().await;
        let began = Instant::now();
        caller.send(GET).await;
        let mut above = upstream.accept().await;
        above.request().await.expect("a request");
        above
            .send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n12")
            .await;
        let answer = caller.answer().await;
        assert_eq!((answer.status, answer.end), (200, End::Cut));
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(5), "{took:?}");
        assert!(took < Duration::from_secs(7), "{took:?}");
        above.expect_end().await;
    });
}
