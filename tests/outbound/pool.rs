//! Connections to the upstream: used again, never twice at once, and what is said where one fails.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use regent::config::Listen;
use regent::net::{Io, Listener, Local, Net};
use regent::reason::Reason;

use super::support::*;

const GET: &str = "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n";
const POST: &str = "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi";
const PUT: &str = "PUT /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi";

fn start(world: &World, sets: &[&str]) -> (Upstream, Sidecar) {
    let upstream = Upstream::bind(world);
    let setup = Setup::new(world, upstream.at);
    let setup = sets.iter().fold(setup, |setup, set| setup.set(*set));
    let sidecar = setup.start();
    (upstream, sidecar)
}

/// One exchange, after which the connection is idle.
async fn warm(upstream: &mut Upstream, sidecar: &Sidecar) -> (Peer, Peer) {
    let mut caller = sidecar.caller().await;
    caller.send(GET).await;
    let mut above = upstream.accept().await;
    above.request().await.expect("a request");
    above.send(ok("warm")).await;
    assert_eq!(caller.answer().await.text(), "warm");
    (caller, above)
}

#[test]
fn a_request_that_harms_nobody_twice_is_sent_again_where_an_idle_connection_ended() {
    real(async {
        for request in [GET, PUT] {
            let world = World::sockets();
            let (mut upstream, sidecar) = start(&world, &[]);
            let (mut caller, mut above) = warm(&mut upstream, &sidecar).await;
            caller.send(request).await;
            let first = above.request().await.expect("over the idle connection");
            drop(above);
            let mut fresh = upstream.accept().await;
            let second = fresh.request().await.expect("again");
            assert_eq!(first.head.line, second.head.line);
            assert_eq!(first.body, second.body);
            assert_eq!(
                first.head.get("x-request-id"),
                second.head.get("x-request-id")
            );
            // Once, and no more.
            drop(fresh);
            let answer = caller.answer().await;
            assert_eq!(answer.status, 502);
            assert_eq!(answer.reason(), "upstream_unreachable");
            assert_eq!(sidecar.broken_off(Reason::UpstreamUnreachable), 1);
        }
    });
}

#[test]
fn what_is_sent_again_is_answered_whichever_of_the_harmless_methods_it_has() {
    real(async {
        for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
            let world = World::sockets();
            let (mut upstream, sidecar) = start(&world, &[]);
            let (mut caller, mut above) = warm(&mut upstream, &sidecar).await;
            caller.send(GET.replacen("GET", method, 1)).await;
            above.request().await.expect("over the idle connection");
            drop(above);
            let mut fresh = upstream.accept().await;
            let again = fresh.request().await.expect("again");
            assert_eq!(again.head.line, format!("{method} /x HTTP/1.1"));
            fresh.send(answer(200, &[], "")).await;
            assert_eq!(caller.answer().await.status, 200, "{method}");
            assert_eq!(sidecar.broken_off(Reason::UpstreamUnreachable), 0);
            // And the fresh connection is one like any other.
            caller.send(GET).await;
            fresh.request().await.expect("over the same connection");
            fresh.send(ok("next")).await;
            assert_eq!(caller.answer().await.text(), "next", "{method}");
        }
    });
}

#[test]
fn a_request_that_may_have_been_acted_on_is_not_sent_again() {
    real(async {
        for method in ["POST", "PATCH", "PURGE"] {
            let world = World::sockets();
            let (mut upstream, sidecar) = start(&world, &[]);
            let (mut caller, mut above) = warm(&mut upstream, &sidecar).await;
            caller.send(POST.replacen("POST", method, 1)).await;
            above.request().await.expect("over the idle connection");
            drop(above);
            let answer = caller.answer().await;
            assert_eq!(answer.status, 502, "{method}");
            assert_eq!(answer.reason(), "upstream_unreachable");
            // Nobody else came meanwhile.
            let mut next = sidecar.caller().await;
            next.send(GET).await;
            let mut fresh = upstream.accept().await;
            let request = fresh.request().await.expect("a request");
            assert!(request.head.line.starts_with("GET"));
        }
    });
}

#[test]
fn a_connection_that_ended_while_idle_is_not_used() {
    real(async {
        for request in [GET, POST] {
            let world = World::sockets();
            let (mut upstream, sidecar) = start(&world, &[]);
            let (mut caller, above) = warm(&mut upstream, &sidecar).await;
            drop(above);
            until(|| world.dialled.load(Relaxed) == 0).await;
            caller.send(request).await;
            let mut fresh = upstream.accept().await;
            fresh.request().await.expect("a request");
            fresh.send(ok("fine")).await;
            assert_eq!(caller.answer().await.text(), "fine");
        }
    });
}

/// The end and the request cross: the pool knows of no end yet, and nothing of the request is
/// written.
#[test]
fn a_request_that_was_never_written_goes_over_another_connection_whatever_it_is() {
    paused(async {
        for request in [GET, POST] {
            let world = World::pipes();
            let (mut upstream, sidecar) = start(&world, &[]);
            let (mut caller, mut above) = warm(&mut upstream, &sidecar).await;
            settle().await;
            // Both before anybody else runs.
            caller.send(request).await;
            above.finish().await;
            let mut fresh = upstream.accept().await;
            let seen = fresh.request().await.expect("a request");
            assert_eq!(Some(seen.head.line.as_str()), request.lines().next());
            above.expect_end().await;
            fresh.send(ok("fine")).await;
            assert_eq!(caller.answer().await.text(), "fine");
        }
    });
}

#[test]
fn a_fresh_connection_that_ends_is_not_tried_again() {
    real(async {
        let world = World::sockets();
        let (mut upstream, sidecar) = start(&world, &[]);
        let mut caller = sidecar.caller().await;
        caller.send(GET).await;
        let mut above = upstream.accept().await;
        above.request().await.expect("a request");
        drop(above);
        assert_eq!(caller.answer().await.reason(), "upstream_unreachable");
    });
}

#[test]
fn bytes_that_nobody_asked_for_are_never_an_answer() {
    real(async {
        let world = World::sockets();
        let (mut upstream, sidecar) = start(&world, &[]);
        let (mut caller, mut above) = warm(&mut upstream, &sidecar).await;
        above.send(answer(200, &[], "poison")).await;
        until(|| world.dialled.load(Relaxed) == 0).await;
        caller.send(GET).await;
        let mut fresh = upstream.accept().await;
        fresh.request().await.expect("a request");
        // More than the answer, in one go.
        let mut bytes = ok("fine");
        bytes.extend(answer(200, &[], "poison"));
        fresh.send(bytes).await;
        assert_eq!(caller.answer().await.text(), "fine");
        caller.send(GET).await;
        let mut fresh = upstream.accept().await;
        fresh.request().await.expect("a request");
        fresh.send(ok("right")).await;
        assert_eq!(caller.answer().await.text(), "right");
    });
}

/// More of them than the runtime lets a task read in one turn.
#[test]
fn however_many_idle_connections_have_ended_none_is_used() {
    const MANY: usize = 300;
    paused(async {
        for last_words in [None, Some(answer(408, &[], "poison"))] {
            let world = World::pipes();
            let (mut upstream, sidecar) = start(&world, &[]);
            let mut pairs = Vec::new();
            for _ in 0..MANY {
                let mut caller = sidecar.caller().await;
                caller.send(GET).await;
                let mut above = upstream.accept().await;
                above.request().await.expect("a request");
                pairs.push((caller, above));
            }
            for (caller, above) in &mut pairs {
                above.send(ok("warm")).await;
                assert_eq!(caller.answer().await.text(), "warm");
            }
            settle().await;
            // All before anybody else runs.
            let (mut caller, mut others) = (pairs.remove(0), pairs);
            tokio::task::unconstrained(async {
                caller.0.send(POST).await;
                for (_, above) in &mut others {
                    if let Some(words) = &last_words {
                        above.send(words).await;
                    }
                    above.finish().await;
                }
                caller.1.finish().await;
            })
            .await;
            let mut fresh = upstream.accept().await;
            fresh.request().await.expect("a request");
            fresh.send(ok("fine")).await;
            assert_eq!(caller.0.answer().await.text(), "fine");
        }
    });
}

#[test]
fn connections_are_used_again_the_latest_first_and_the_rest_goes() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = start(&world, &[]);
        let mut callers = Vec::new();
        for _ in 0..3 {
            let mut caller = sidecar.caller().await;
            caller.send(GET).await;
            let mut above = upstream.accept().await;
            above.request().await.expect("a request");
            callers.push((caller, above));
        }
        for (at, (caller, above)) in callers.iter_mut().enumerate() {
            above.send(ok(&format!("{at}"))).await;
            assert_eq!(caller.answer().await.text(), format!("{at}"));
            settle().await;
        }
        assert_eq!(world.dialled.load(Relaxed), 3);
        // All that comes now goes over the last one.
        let mut caller = sidecar.caller().await;
        for _ in 0..10 {
            caller.send(GET).await;
            let above = &mut callers[2].1;
            above.request().await.expect("a request");
            above.send(ok("")).await;
            caller.answer().await;
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        assert_eq!(world.dialled.load(Relaxed), 1);
        tokio::time::sleep(Duration::from_secs(25)).await;
        assert_eq!(world.dialled.load(Relaxed), 0);
    });
}

#[test]
fn an_upstream_that_is_not_there_is_a_502() {
    real(async {
        let world = World::sockets();
        let (upstream, sidecar) = start(&world, &[]);
        drop(upstream);
        for request in [GET, POST] {
            let answer = sidecar.ask(request).await;
            assert_eq!(answer.status, 502);
            assert_eq!(answer.reason(), "upstream_unreachable");
            assert!(!answer.head.has("retry-after"));
        }
        assert_eq!(sidecar.broken_off(Reason::UpstreamUnreachable), 2);
    });
}

#[test]
fn an_upstream_that_does_not_speak_http_is_a_502() {
    real(async {
        for bytes in [
            "SSH-2.0-OpenSSH_9.2\r\n\r\n",
            "HTTP/1.1 abc\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        ] {
            let world = World::sockets();
            let (mut upstream, sidecar) = start(&world, &[]);
            let mut caller = sidecar.caller().await;
            caller.send(GET).await;
            let mut above = upstream.accept().await;
            above.request().await.expect("a request");
            above.send(bytes).await;
            let answer = caller.answer().await;
            assert_eq!(answer.status, 502, "{bytes}");
            assert_eq!(answer.reason(), "upstream_protocol", "{bytes}");
            until(|| world.dialled.load(Relaxed) == 0).await;
        }
    });
}

#[test]
fn an_upstream_that_is_too_slow_is_a_504() {
    paused(async {
        for request in [GET, POST] {
            let world = World::pipes();
            let (mut upstream, sidecar) = start(&world, &["limits.response_timeout=3s"]);
            let mut caller = sidecar.caller().await;
            let began = tokio::time::Instant::now();
            caller.send(request).await;
            let mut above = upstream.accept().await;
            above.request().await.expect("a request");
            let answer = caller.answer().await;
            assert_eq!(answer.status, 504);
            assert_eq!(answer.reason(), "upstream_timeout");
            assert_eq!(began.elapsed().as_secs(), 3);
            above.expect_end().await;
        }
    });
}

#[test]
fn a_slow_upload_is_not_a_slow_answer() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = start(&world, &["limits.response_timeout=3s"]);
        let mut caller = sidecar.caller().await;
        caller
            .send("POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n")
            .await;
        let mut above = upstream.accept().await;
        let head = above.head().await.expect("a head");
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(2)).await;
            caller.send("x").await;
        }
        above.body(&head).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        above.send(ok("fine")).await;
        assert_eq!(caller.answer().await.text(), "fine");
    });
}

/// Addresses where nobody answers.
struct Silence;

impl Net for Silence {
    fn bind(&self, _: &Listen) -> io::Result<Listener> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn connect<'a>(&'a self, _: SocketAddr) -> Local<'a, io::Result<Io>> {
        Box::pin(std::future::pending())
    }
}

#[test]
fn an_upstream_that_accepts_nothing_is_a_504_in_time() {
    paused(async {
        let world = World::pipes();
        let upstream = Upstream::bind(&world);
        let sidecar = Setup::new(&world, upstream.at)
            .dials(Arc::new(Silence))
            .set("limits.connect_timeout=2s")
            .start();
        let began = tokio::time::Instant::now();
        let answer = sidecar.get("/x").await;
        assert_eq!(answer.status, 504);
        assert_eq!(answer.reason(), "upstream_timeout");
        assert_eq!(began.elapsed().as_secs(), 2);
    });
}
