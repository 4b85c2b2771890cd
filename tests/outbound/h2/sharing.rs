//! How many connections there are, and when they come and go.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::Response;

use super::frames::*;
use super::server::serve;
use super::{GET, start};
use crate::support::*;

async fn callers(sidecar: &Sidecar, count: usize) -> Vec<Peer> {
    let mut callers = Vec::new();
    for _ in 0..count {
        let mut caller = sidecar.caller().await;
        caller.send(GET).await;
        callers.push(caller);
    }
    callers
}

async fn all_answered(callers: Vec<Peer>, text: &str) {
    for mut caller in callers {
        assert_eq!(caller.answer().await.text(), text);
    }
}

#[test]
fn a_thousand_requests_go_over_one_connection() {
    real(async {
        let world = World::sockets();
        let (upstream, sidecar) = start(&world, &[]);
        let seen = serve(upstream, |asked| asked.answer(Response::new(()), "fine"));
        let mut callers = Vec::new();
        for _ in 0..20 {
            callers.push(sidecar.caller().await);
        }
        for _ in 0..50 {
            for caller in &mut callers {
                caller.send(GET).await;
            }
            for caller in &mut callers {
                assert_eq!(caller.answer().await.text(), "fine");
            }
        }
        assert_eq!(seen.count(), 1000);
        assert_eq!(seen.connections.get(), 1);
    });
}

#[test]
fn those_who_come_while_one_dials_wait_for_its_connection() {
    real(async {
        let world = World::sockets();
        let (mut upstream, sidecar) = start(&world, &[]);
        let callers = callers(&sidecar, 30).await;
        let mut wire = Wire::silent(&mut upstream).await;
        let first = wire.request().await;
        assert_eq!(world.dialled.load(Relaxed), 1);
        wire.settings(&[]).await;
        let mut streams = vec![first];
        for _ in 1..30 {
            streams.push(wire.request().await);
        }
        for stream in streams {
            wire.ok(stream, "fine").await;
        }
        all_answered(callers, "fine").await;
        assert_eq!(world.dialled.load(Relaxed), 1);
    });
}

#[test]
fn one_who_dials_and_leaves_is_followed_by_the_next() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = start(&world, &[]);
        let leading = callers(&sidecar, 1).await;
        settle().await;
        let callers = callers(&sidecar, 2).await;
        settle().await;
        let mut wire = Wire::silent(&mut upstream).await;
        let first = wire.request().await;
        drop(leading);
        assert_eq!(wire.expect_reset(first).await, CANCEL);
        wire.settings(&[]).await;
        for _ in 0..2 {
            let stream = wire.request().await;
            wire.ok(stream, "fine").await;
        }
        all_answered(callers, "fine").await;
    });
}

#[test]
fn where_there_is_no_room_one_more_is_dialed_and_the_rest_goes_again() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = start(&world, &[]);
        let settings = [(MAX_CONCURRENT_STREAMS, 2)];
        let mut callers = callers(&sidecar, 5).await;
        let mut wires = Vec::new();
        for left in [2, 2, 1] {
            let mut wire = Wire::accept(&mut upstream, &settings).await;
            for _ in 0..left {
                wire.request().await;
            }
            wires.push(wire);
        }
        settle().await;
        assert_eq!(world.dialled.load(Relaxed), 3);
        for wire in &mut wires {
            for stream in [1, 3] {
                if wire.begun(stream) {
                    wire.ok(stream, "fine").await;
                }
            }
        }
        for caller in &mut callers {
            assert_eq!(caller.answer().await.text(), "fine");
        }
        // One at a time they fit the oldest, and the others are unused for long enough.
        for round in 0..12 {
            callers[0].send(GET).await;
            let stream = wires[0].request().await;
            assert_eq!(stream, 5 + 2 * round);
            wires[0].ok(stream, "fine").await;
            callers[0].answer().await;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        assert_eq!(world.dialled.load(Relaxed), 1);
        for mut wire in wires.drain(1..) {
            wire.expect_farewell().await;
        }
        tokio::time::sleep(Duration::from_secs(25)).await;
        wires.remove(0).expect_farewell().await;
        assert_eq!(world.dialled.load(Relaxed), 0);
    });
}

#[test]
fn no_more_than_a_hundred_share_one_whatever_the_upstream_allows() {
    real(async {
        let world = World::sockets();
        let (mut upstream, sidecar) = start(&world, &["limits.connections=1000"]);
        let callers = callers(&sidecar, 101).await;
        let mut wire = Wire::accept(&mut upstream, &[(MAX_CONCURRENT_STREAMS, 5000)]).await;
        let mut other = Wire::accept(&mut upstream, &[]).await;
        for _ in 0..100 {
            let stream = wire.request().await;
            wire.ok(stream, "fine").await;
        }
        let stream = other.request().await;
        other.ok(stream, "fine").await;
        all_answered(callers, "fine").await;
    });
}

#[test]
fn an_upstream_that_is_not_there_is_told_to_all_who_wait() {
    real(async {
        let world = World::sockets();
        let (upstream, sidecar) = start(&world, &[]);
        drop(upstream);
        for mut caller in callers(&sidecar, 5).await {
            let answer = caller.answer().await;
            assert_eq!(
                (answer.status, answer.reason()),
                (502, "upstream_unreachable")
            );
        }
    });
}

#[test]
fn an_upstream_that_says_nothing_is_a_504_for_all_who_wait_and_no_later() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = start(&world, &["limits.connect_timeout=2s"]);
        let began = tokio::time::Instant::now();
        let callers = callers(&sidecar, 5).await;
        let wire = Wire::silent(&mut upstream).await;
        for mut caller in callers {
            let answer = caller.answer().await;
            assert_eq!((answer.status, answer.reason()), (504, "upstream_timeout"));
        }
        assert_eq!(began.elapsed().as_secs(), 2);
        drop(wire);
        until(|| world.dialled.load(Relaxed) == 0).await;
    });
}

#[test]
fn an_upstream_that_speaks_something_else_is_a_502_for_all_who_wait() {
    real(async {
        for first in [
            &b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"[..],
            b"SSH-2.0-OpenSSH_9.2\r\n",
            // A frame, but not the one that comes first.
            &[0, 0, 8, PING, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8],
        ] {
            let world = World::sockets();
            let (mut upstream, sidecar) = start(&world, &[]);
            let callers = callers(&sidecar, 3).await;
            let mut wire = Wire::silent(&mut upstream).await;
            wire.peer.send(first).await;
            for mut caller in callers {
                let answer = caller.answer().await;
                assert_eq!((answer.status, answer.reason()), (502, "upstream_protocol"));
            }
        }
    });
}

#[test]
fn push_is_refused_before_it_can_begin() {
    real(async {
        let world = World::sockets();
        let (mut upstream, sidecar) = start(&world, &[]);
        let mut caller = sidecar.caller().await;
        caller.send(GET).await;
        let mut wire = Wire::silent(&mut upstream).await;
        let settings = wire.any().await.expect("settings");
        assert_eq!(settings.kind, SETTINGS);
        let pairs: Vec<_> = settings.payload.chunks(6).collect();
        assert!(pairs.contains(&&[0, 2, 0, 0, 0, 0][..]), "{pairs:?}");
        wire.settings(&[]).await;
        let stream = wire.request().await;
        let promised = [0, 0, 0, 2, 0x82, 0x86, 0x84];
        wire.send(PUSH_PROMISE, END_HEADERS, stream, &promised)
            .await;
        assert_eq!(caller.answer().await.reason(), "upstream_protocol");
    });
}
