//! The way down over HTTP/2 (promise 9): callers are told to go, what is in flight ends, and with
//! nothing in flight it is over at once.

use std::time::Duration;

use regent::app::Exit;
use regent::lifecycle::Stage;
use tokio::time::{Instant, sleep};

use crate::caller::*;
use crate::raw::{self, Raw};
use crate::support::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn with_nothing_in_flight_it_is_over_at_once() {
    paused(async {
        let world = World::pipes();
        let (_, mut sidecar) = echoing(&world, &[]);
        let mut used = sidecar.h2().await;
        assert_eq!(used.get("http://localhost/x").await.status, 200);
        let fresh = sidecar.h2().await;
        settle().await;
        let began = Instant::now();
        sidecar.drain();
        assert_eq!(sidecar.ended().await, Exit::Stopped);
        assert!(began.elapsed() < SECOND);
        assert!(used.ended().await.is_ok());
        assert!(fresh.ended().await.is_ok());
    });
}

#[test]
fn what_is_in_flight_ends_and_its_connection_with_it() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, mut sidecar) = outbound(&world, &[]);
        let mut caller = sidecar.h2().await;
        let (waiting, _) = caller.begin(get("http://localhost/waiting"), true).await;
        let mut above_waiting = upstream.accept().await;
        above_waiting.request().await.expect("a request");
        let posted = request(
            "POST",
            "http://localhost/sending",
            &[("content-length", "4")],
        );
        let (sending, mut body) = caller.begin(posted, false).await;
        body.send_data("01".into(), false).expect("room");
        let mut above_sending = upstream.accept().await;
        let head = above_sending.head().await.expect("a head");

        sidecar.drain();
        sleep(10 * SECOND).await;
        assert!(sidecar.is_running());
        above_waiting.send(ok("waited")).await;
        assert_eq!(whole(waiting).await.text(), "waited");
        sleep(5 * SECOND).await;
        assert!(sidecar.is_running());
        body.send_data("23".into(), true).expect("room");
        assert_eq!(above_sending.body(&head).await.0, b"0123");
        above_sending.send(ok("sent")).await;
        let answer = whole(sending).await;
        assert_eq!(answer.get("connection"), None);
        assert_eq!(answer.text(), "sent");
        let began = Instant::now();
        assert_eq!(sidecar.ended().await, Exit::Stopped);
        assert!(began.elapsed() < SECOND);
        assert!(caller.ended().await.is_ok());
    });
}

/// It crossed with our word that no more are taken.
#[test]
fn a_request_that_was_sent_before_the_caller_knew_is_answered() {
    paused(async {
        let world = World::pipes();
        let (recorder, mut sidecar) = echoing(&world, &[]);
        let mut raw = Raw::new(sidecar.caller().await, &[]).await;
        raw.expect(raw::SETTINGS).await;
        settle().await;
        sidecar.drain();
        let first = raw.expect(raw::GOAWAY).await;
        assert_eq!(first.payload[..4], [0x7f, 0xff, 0xff, 0xff]);
        let ping = raw.expect(raw::PING).await;
        raw.send(
            [
                raw::get(1),
                raw::frame(raw::PING, raw::ACK, 0, &ping.payload),
            ]
            .concat(),
        )
        .await;
        let frames = raw.rest().await;
        assert!(frames.iter().any(|frame| frame.stream == 1 && frame.ends()));
        let last = frames.iter().rfind(|frame| frame.kind == raw::GOAWAY);
        assert_eq!(
            last.map(|frame| frame.payload[..4].to_vec()),
            Some(vec![0, 0, 0, 1])
        );
        assert_eq!(recorder.count(), 1);
        assert_eq!(sidecar.ended().await, Exit::Stopped);
    });
}

#[test]
fn whoever_does_not_listen_holds_up_nobody() {
    paused(async {
        let world = World::pipes();
        let (_, mut sidecar) = echoing(&world, &[]);
        // It answers no PING.
        let mut raw = Raw::new(sidecar.caller().await, &[]).await;
        raw.expect(raw::SETTINGS).await;
        sleep(60 * SECOND).await;
        let began = Instant::now();
        sidecar.drain();
        assert_eq!(sidecar.ended().await, Exit::Stopped);
        assert!(began.elapsed() < 2 * SECOND, "{:?}", began.elapsed());
        assert_eq!(raw.farewell().await, Some(raw::NO_ERROR));
    });
}

#[test]
fn what_a_caller_still_takes_is_in_flight() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, mut sidecar) = outbound(&world, &[]);
        let mut raw = Raw::new(sidecar.caller().await, &[(4, 5)]).await;
        raw.send(raw::get(1)).await;
        let mut above = upstream.accept().await;
        above.request().await.expect("a request");
        above.send(ok("0123456789")).await;
        assert_eq!(raw.expect(raw::DATA).await.payload, b"01234");
        settle().await;
        sidecar.drain();
        sleep(10 * SECOND).await;
        assert!(sidecar.is_running());
        raw.send(raw::window_update(1, 5)).await;
        let last = raw.expect(raw::DATA).await;
        assert_eq!(last.payload, b"56789");
        assert_eq!(sidecar.ended().await, Exit::Stopped);
    });
}

/// As `Connection: close` does over HTTP/1.1.
#[test]
fn during_the_delay_each_connection_is_told_with_its_next_answer() {
    paused(async {
        let world = World::pipes();
        let (_, mut sidecar) = echoing(&world, &["drain.delay=60s"]);
        let mut caller = sidecar.h2().await;
        assert_eq!(caller.get("http://localhost/x").await.status, 200);
        sidecar.remote.stop.advance(Stage::Drain);
        sleep(5 * SECOND).await;
        assert!(!caller.has_ended());
        assert_eq!(caller.get("http://localhost/x").await.status, 200);
        settle().await;
        assert!(caller.ended().await.is_ok());
        let mut later = sidecar.h2().await;
        assert_eq!(later.get("http://localhost/x").await.status, 200);
        assert_eq!(sidecar.ended().await, Exit::Stopped);
    });
}
