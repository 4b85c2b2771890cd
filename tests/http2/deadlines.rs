//! Every stream has its own time, and the connection the time of a head or of nobody.

use std::time::Duration;

use regent::reason::Reason;
use tokio::time::{Instant, sleep};

use crate::caller::*;
use crate::forge::Forge;
use crate::gate::bearer;
use crate::raw::{self, Raw};
use crate::setup::Setup as Inbound;
use crate::support::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn each_stream_has_its_own_time_for_an_exchange() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = outbound(&world, &["limits.request_timeout=10s"]);
        let mut caller = sidecar.h2().await;
        let mut above = Vec::new();
        let mut asked = Vec::new();
        for _ in 0..3 {
            asked.push(caller.begin(get("http://localhost/x"), true).await.0);
            let mut peer = upstream.accept().await;
            peer.request().await.expect("a request");
            above.push(peer);
            sleep(4 * SECOND).await;
        }
        // The second one begins its answer and never ends it.
        let began = Instant::now();
        above[1]
            .send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n01")
            .await;
        let [first, second, third] = asked.try_into().expect("three");
        let answer = whole(first).await;
        assert_eq!((answer.status, answer.reason()), (504, "upstream_timeout"));
        let second = whole(second).await;
        assert_eq!((second.status, &second.body[..]), (200, &b"01"[..]));
        assert!(second.reset.is_some());
        let took = began.elapsed();
        assert!((SECOND..=4 * SECOND).contains(&took), "{took:?}");
        above[2].send(ok("in time")).await;
        assert_eq!(whole(third).await.text(), "in time");
        assert_eq!(sidecar.refused(Reason::UpstreamTimeout), 1);
        above.remove(1).expect_end().await;
        assert!(!caller.has_ended());
    });
}

/// A stream whose caller takes nothing any more is cut all the same.
#[test]
fn a_stream_that_stands_still_ends_with_its_time() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = outbound(&world, &["limits.request_timeout=10s"]);
        // A window of 5 bytes for each stream.
        let mut raw = Raw::new(sidecar.caller().await, &[(4, 5)]).await;
        raw.send(raw::get(1)).await;
        let mut above = upstream.accept().await;
        above.request().await.expect("a request");
        above
            .send("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n0123456789")
            .await;
        assert_eq!(raw.expect(raw::DATA).await.payload, b"01234");
        let began = Instant::now();
        let reset = raw.expect(raw::RST_STREAM).await;
        assert_eq!((reset.stream, reset.number()), (1, raw::CANCEL));
        let took = began.elapsed();
        assert!((9 * SECOND..=12 * SECOND).contains(&took), "{took:?}");
        above.expect_end().await;
    });
}

struct Streaming {
    events: (usize, Option<h2::Reason>),
    other: (usize, Option<h2::Reason>),
    /// On the same connection, without a token.
    open: (usize, Option<h2::Reason>),
}

/// Three streams of one connection, with chunks of two bytes, one a second.
async fn streams(line: &str) -> Streaming {
    let world = World::pipes();
    let mut workload = Upstream::bind(&world);
    let setup = Inbound::new(&world, workload.at).rule("path = '/open', anonymous = true");
    let gate = setup.line(line).start(std::rc::Rc::default());
    let now = world.clock.unix();
    let token = Forge::home(now).claim("exp", now + 10).token();
    let value = bearer(&token);
    let authorized = [("authorization", &*value)];
    let mut caller = gate.h2().await;
    let mut asked = Vec::new();
    for (path, fields, kind) in [
        ("events", &authorized[..], "text/event-stream"),
        ("other", &authorized, "application/json"),
        ("open", &[], "application/json"),
    ] {
        let uri = format!("http://svc.example/{path}");
        asked.push(caller.begin(request("GET", &uri, fields), true).await.0);
        let mut behind = workload.accept().await;
        behind.request().await.expect("a request");
        let head = "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n";
        behind
            .send(format!("{head}Content-Type: {kind}\r\n\r\n"))
            .await;
        tokio::task::spawn_local(async move {
            for _ in 0..100 {
                if behind.try_send("2\r\nhi\r\n").await.is_err() {
                    return;
                }
                sleep(SECOND).await;
            }
            let _ = behind.try_send("0\r\n\r\n").await;
        });
    }
    let [events, other, open] = asked.try_into().expect("three");
    let ended = |answer: crate::caller::Answer| (answer.body.len() / 2, answer.reset);
    let all = tokio::join!(whole(events), whole(other), whole(open));
    Streaming {
        events: ended(all.0),
        other: ended(all.1),
        open: ended(all.2),
    }
}

#[test]
fn streams_end_with_their_token_and_the_connection_does_not() {
    paused(async {
        let seconds = |streaming: &Streaming| [streaming.events.0, streaming.other.0];
        let ended = streams("stream_lifetime = 'token'").await;
        assert!(
            seconds(&ended).iter().all(|at| (40..=42).contains(at)),
            "{:?}",
            seconds(&ended)
        );
        assert_eq!(
            ended.events.1, None,
            "whoever listens to events takes no half one"
        );
        assert!(ended.other.1.is_some(), "it does not look whole");
        assert_eq!(ended.open, (100, None));
        let ended = streams("").await;
        assert_eq!([ended.events, ended.other, ended.open], [(100, None); 3]);
    });
}

#[test]
fn a_head_that_does_not_end_ends_the_connection() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = outbound(&world, &["limits.header_timeout=5s"]);
        let block = raw::block(&raw::GET);
        let whole = raw::frame(raw::HEADERS, raw::END_STREAM, 3, &block);
        for (part, trickles) in [
            // Without END_HEADERS; in the middle of the frame; one byte at a time.
            (&whole[..], &b""[..]),
            (&whole[..20], b""),
            (&whole[..20], &whole[20..24]),
        ] {
            let counted = sidecar.refused(Reason::Timeout);
            let mut raw = Raw::new(sidecar.caller().await, &[]).await;
            // A stream that waits for its answer gives a head no more time.
            raw.send(raw::get(1)).await;
            let mut above = upstream.accept().await;
            above.request().await.expect("a request");
            sleep(20 * SECOND).await;
            raw.send(part).await;
            let began = Instant::now();
            for byte in trickles {
                sleep(SECOND).await;
                raw.send([*byte]).await;
            }
            assert_eq!(raw.farewell().await, Some(raw::PROTOCOL_ERROR));
            let took = began.elapsed();
            assert!((5 * SECOND..=7 * SECOND).contains(&took), "{took:?}");
            assert_eq!(sidecar.refused(Reason::Timeout), counted + 1);
        }
    });
}

#[test]
fn a_preface_that_does_not_end_is_a_head_too() {
    paused(async {
        let world = World::pipes();
        let (_, sidecar) = echoing(&world, &["limits.header_timeout=5s"]);
        for came in [5, 14, 23] {
            let mut caller = sidecar.caller().await;
            caller.send(&raw::PREFACE[..came]).await;
            let began = Instant::now();
            caller.rest().await;
            let took = began.elapsed();
            assert!(
                (5 * SECOND..=7 * SECOND).contains(&took),
                "{came}: {took:?}"
            );
        }
        assert_eq!(sidecar.refused(Reason::Timeout), 3);
    });
}

#[test]
fn a_connection_without_a_stream_is_told_to_go() {
    paused(async {
        let world = World::pipes();
        let (recorder, sidecar) = echoing(&world, &["limits.idle_timeout=30s"]);
        let mut raw = Raw::new(sidecar.caller().await, &[]).await;
        raw.send(raw::get(1)).await;
        raw.expect(raw::DATA).await;
        let began = Instant::now();
        let told = raw.expect(raw::GOAWAY).await;
        assert_eq!(told.number(), raw::NO_ERROR);
        let took = began.elapsed();
        assert!((29 * SECOND..=32 * SECOND).contains(&took), "{took:?}");
        // What it had sent by then is answered.
        raw.send(raw::get(3)).await;
        assert_eq!(raw.expect(raw::DATA).await.stream, 3);
        assert_eq!(raw.farewell().await, Some(raw::NO_ERROR));
        assert!(began.elapsed() - took < 3 * SECOND);
        assert_eq!(recorder.count(), 2);
        assert_eq!(sidecar.refused_in_all(), 0);
    });
}

/// gRPC clients keep a connection alive in this way, for days.
#[test]
fn whoever_pings_keeps_its_connection() {
    paused(async {
        let world = World::pipes();
        let (recorder, sidecar) = echoing(&world, &["limits.idle_timeout=30s"]);
        let mut raw = Raw::new(sidecar.caller().await, &[]).await;
        for _ in 0..350 {
            sleep(10 * SECOND).await;
            raw.send(raw::ping()).await;
            let pong = raw.expect(raw::PING).await;
            assert_eq!((pong.flags, &*pong.payload), (raw::ACK, &b"pingpong"[..]));
        }
        raw.send(raw::get(1)).await;
        raw.expect(raw::DATA).await;
        assert_eq!(recorder.count(), 1);
    });
}

/// A Watch of gRPC, for one.
#[test]
fn a_stream_lasts_that_has_nothing_to_say() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = outbound(&world, &["limits.idle_timeout=30s"]);
        let mut raw = Raw::new(sidecar.caller().await, &[(4, 100)]).await;
        raw.send(raw::get(1)).await;
        let mut above = upstream.accept().await;
        above.request().await.expect("a request");
        above
            .send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nnews\r\n")
            .await;
        assert_eq!(raw.expect(raw::DATA).await.payload, b"news");
        sleep(1000 * SECOND).await;
        above.send("4\r\nmore\r\n").await;
        assert_eq!(raw.expect(raw::DATA).await.payload, b"more");
    });
}

/// Its windows are full.
#[test]
fn a_connection_ends_that_takes_nothing_and_says_nothing() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = outbound(&world, &["limits.idle_timeout=30s"]);
        for watches in [false, true] {
            let mut raw = Raw::new(sidecar.caller().await, &[(4, 4)]).await;
            raw.send(raw::get(1)).await;
            let mut above = upstream.accept().await;
            above.request().await.expect("a request");
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            above.send(format!("{head}4\r\nnews\r\n")).await;
            assert_eq!(raw.expect(raw::DATA).await.payload, b"news");
            // For this there is no room any more.
            above.send("4\r\nmore\r\n").await;
            let mut watched = None;
            if watches {
                raw.send(raw::get(3)).await;
                let mut above = upstream.accept().await;
                above.request().await.expect("a request");
                watched = Some(above);
            }
            let began = Instant::now();
            let ended = tokio::time::timeout(600 * SECOND, raw.rest()).await;
            assert_eq!(ended.is_err(), watches, "a stream that waits keeps it");
            if !watches {
                let took = began.elapsed();
                assert!((29 * SECOND..=32 * SECOND).contains(&took), "{took:?}");
            }
            drop(watched);
        }
    });
}

/// How long a caller keeps its connection that sends this every second; ten minutes are for ever.
async fn cut_after(sidecar: &Sidecar, raw: &mut Raw, frame: &[u8]) -> Duration {
    let began = Instant::now();
    while sidecar.connections() > 0 && began.elapsed() < 600 * SECOND {
        let _ = raw.0.try_send(frame).await;
        sleep(SECOND).await;
    }
    began.elapsed()
}

/// Not even what has no windows.
#[test]
fn a_connection_ends_that_does_not_read() {
    paused(async {
        let world = World::pipes();
        let (upstream, sidecar) = outbound(&world, &["limits.idle_timeout=30s"]);
        let _recorder = upstream.serve(|_| ok(&"x".repeat(1 << 20)));
        let mut raw = Raw::new(sidecar.caller().await, &[(4, 1 << 30)]).await;
        raw.send([raw::window_update(0, 1 << 30), raw::get(1)].concat())
            .await;
        raw.expect(raw::HEADERS).await;
        // It is alive, in its way.
        let took = cut_after(&sidecar, &mut raw, &raw::ping()).await;
        assert!((30 * SECOND..=34 * SECOND).contains(&took), "{took:?}");
    });
}

#[test]
fn whoever_reads_slowly_is_not_cut() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = outbound(&world, &["limits.idle_timeout=30s"]);
        let mut raw = Raw::new(sidecar.caller().await, &[(4, 1)]).await;
        raw.send(raw::get(1)).await;
        let mut above = upstream.accept().await;
        above.request().await.expect("a request");
        above.send(ok("0123456789")).await;
        for at in b'0'..=b'9' {
            assert_eq!(raw.expect(raw::DATA).await.payload, [at]);
            sleep(25 * SECOND).await;
            raw.send(raw::window_update(1, 1)).await;
        }
        assert_eq!(sidecar.refused_in_all(), 0);
    });
}

/// It says that it is there, and takes nothing: of the upstream's answer, of what we have of it
/// already, of an answer of ours.
#[test]
fn whoever_pings_and_takes_nothing_is_cut() {
    paused(async {
        for (window, host, fields) in [
            (0, "localhost", "content-length: 20\r\n\r\n0123456789"),
            (0, "localhost", "content-length: 10\r\n\r\n0123456789"),
            (5, "localhost", "content-length: 10\r\n\r\n0123456789"),
            (0, "elsewhere", ""),
            (5, "elsewhere", ""),
        ] {
            let world = World::pipes();
            let (mut upstream, sidecar) = outbound(&world, &["limits.idle_timeout=30s"]);
            let mut raw = Raw::new(sidecar.caller().await, &[(4, window)]).await;
            let head = [&raw::GET[..3], &[(":authority", host)]].concat();
            raw.send(raw::head(1, raw::END_STREAM, &head)).await;
            let mut above = None;
            if !fields.is_empty() {
                let mut peer = upstream.accept().await;
                peer.request().await.expect("a request");
                peer.send(format!("HTTP/1.1 200 OK\r\n{fields}")).await;
                above = Some(peer);
            }
            raw.expect(raw::HEADERS).await;
            let took = cut_after(&sidecar, &mut raw, &raw::ping()).await;
            let times = 29 * SECOND..=34 * SECOND;
            assert!(times.contains(&took), "{window} {host}: {took:?}");
            drop(above);
        }
    });
}

/// As over HTTP/1.1: what it sends meanwhile is not what is waited for.
#[test]
fn whoever_sends_and_takes_nothing_is_cut() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = outbound(&world, &["limits.idle_timeout=30s"]);
        let mut raw = Raw::new(sidecar.caller().await, &[(4, 0)]).await;
        raw.send(raw::post(1, &[])).await;
        let mut above = upstream.accept().await;
        above.head().await.expect("a head");
        above.send(ok("0123456789")).await;
        raw.expect(raw::HEADERS).await;
        let more = raw::frame(raw::DATA, 0, 1, b"x");
        let took = cut_after(&sidecar, &mut raw, &more).await;
        assert!((29 * SECOND..=34 * SECOND).contains(&took), "{took:?}");
    });
}

/// What comes after a long silence has all its time to be taken.
#[test]
fn news_after_a_long_silence_may_wait_for_a_window() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = outbound(&world, &["limits.idle_timeout=30s"]);
        let mut raw = Raw::new(sidecar.caller().await, &[(4, 4)]).await;
        raw.send(raw::get(1)).await;
        let mut above = upstream.accept().await;
        above.request().await.expect("a request");
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        above.send(format!("{head}4\r\nnews\r\n")).await;
        assert_eq!(raw.expect(raw::DATA).await.payload, b"news");
        sleep(1000 * SECOND).await;
        above.send("4\r\nmore\r\n").await;
        sleep(20 * SECOND).await;
        raw.send(raw::window_update(1, 4)).await;
        assert_eq!(raw.expect(raw::DATA).await.payload, b"more");
    });
}
