//! Floods of frames end early and cost nobody else anything; honest callers are never taken for one.

use std::time::Duration;

use regent::reason::Reason;

use crate::caller::*;
use crate::raw::{self, Raw};
use crate::support::*;

/// Many more than are borne: there is no sweep while time stands still.
const MANY: usize = 100_000;

fn many(piece: Vec<u8>) -> impl Iterator<Item = Vec<u8>> {
    std::iter::repeat_n(piece, MANY)
}

/// `piece` without end, after `prelude`.
fn floods(prelude: Vec<u8>, piece: Vec<u8>) {
    paused(async {
        let world = World::pipes();
        let (recorder, sidecar) = echoing(&world, &[]);
        let mut raw = Raw::new(sidecar.caller().await, &[]).await;
        raw.send(prelude).await;
        let code = raw.flood(many(piece)).await;
        assert_eq!(code, Some(raw::ENHANCE_YOUR_CALM));
        assert_eq!(sidecar.refused(Reason::Overloaded), 1);
        until(|| sidecar.connections() == 0).await;
        // Others are served.
        let answer = sidecar.h2().await.get("http://localhost/x").await;
        assert_eq!(answer.status, 200);
        assert_eq!(recorder.count(), 1);
    });
}

#[test]
fn a_flood_of_pings_is_ended() {
    floods(Vec::new(), raw::ping());
}

#[test]
fn a_flood_of_settings_is_ended() {
    floods(Vec::new(), raw::settings(&[(4, 65_535)]));
}

#[test]
fn a_flood_of_priorities_is_ended() {
    let priority = raw::frame(raw::PRIORITY, 0, 1, &[0, 0, 0, 0, 7]);
    floods(Vec::new(), priority);
}

#[test]
fn a_flood_of_frames_that_nobody_knows_is_ended() {
    floods(Vec::new(), raw::frame(0x42, 0, 0, b"?"));
}

#[test]
fn a_flood_of_small_window_updates_is_ended() {
    floods(Vec::new(), raw::window_update(0, 1));
}

#[test]
fn a_flood_of_continuations_is_ended() {
    let begun = raw::frame(raw::HEADERS, raw::END_STREAM, 1, &raw::block(&raw::GET));
    let more = raw::frame(raw::CONTINUATION, 0, 1, &raw::block(&[("x", "y")]));
    floods(begun, more);
}

#[test]
fn a_flood_of_resets_of_one_stream_is_ended() {
    let given_up = [raw::get(1), raw::reset(1, raw::CANCEL)].concat();
    paused(async {
        let world = World::pipes();
        let (recorder, sidecar) = echoing(&world, &[]);
        let mut raw = Raw::new(sidecar.caller().await, &[]).await;
        raw.send(given_up).await;
        let code = raw.flood(many(raw::reset(1, raw::CANCEL))).await;
        assert_eq!(code, Some(raw::ENHANCE_YOUR_CALM));
        assert_eq!(recorder.count(), 0);
    });
}

#[test]
fn a_flood_of_empty_data_is_ended() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = outbound(&world, &[]);
        let mut raw = Raw::new(sidecar.caller().await, &[]).await;
        raw.send(raw::post(1, &[])).await;
        let mut above = upstream.accept().await;
        let head = above.head().await.expect("a head");
        let code = raw.flood(many(raw::frame(raw::DATA, 0, 1, b""))).await;
        assert_eq!(code, Some(raw::ENHANCE_YOUR_CALM));
        assert_eq!(above.body(&head).await.1, End::Cut);
    });
}

/// A piece of an answer for each, of as few bytes as the caller likes.
#[test]
fn whoever_takes_an_answer_byte_by_byte_and_fast_is_ended() {
    paused(async {
        let world = World::pipes();
        let (upstream, sidecar) = outbound(&world, &[]);
        let _recorder = upstream.serve(|_| ok(&"x".repeat(1 << 20)));
        let mut raw = Raw::new(sidecar.caller().await, &[(4, 0)]).await;
        raw.send([raw::get(1), raw::window_update(0, 1 << 20)].concat())
            .await;
        raw.expect(raw::HEADERS).await;
        let code = raw.flood(many(raw::window_update(1, 1))).await;
        assert_eq!(code, Some(raw::ENHANCE_YOUR_CALM));
    });
}

/// CVE-2023-44487.
#[test]
fn requests_that_are_given_up_at_once_never_reach_the_upstream() {
    paused(async {
        let world = World::pipes();
        let (recorder, sidecar) = echoing(&world, &[]);
        let raw = Raw::new(sidecar.caller().await, &[]).await;
        let pair = |at: u32| [raw::get(1 + 2 * at), raw::reset(1 + 2 * at, raw::CANCEL)].concat();
        let batch = |batch: u32| (0..50).flat_map(|at| pair(50 * batch + at)).collect();
        let code = raw.flood((0..1000).map(batch)).await;
        assert_eq!(code, Some(raw::ENHANCE_YOUR_CALM));
        assert_eq!(recorder.connections.get(), 0);
        assert_eq!(sidecar.refused(Reason::Overloaded), 1);
    });
}

/// The same, slowly enough for each to begin.
#[test]
fn few_requests_that_are_given_up_reach_the_upstream() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = outbound(&world, &[]);
        let mut raw = Raw::new(sidecar.caller().await, &[]).await;
        let mut begun = 0;
        for stream in (1..10_000).step_by(2) {
            if raw.0.try_send(raw::get(stream)).await.is_err() {
                break;
            }
            let above = tokio::time::timeout(Duration::from_secs(1), upstream.accept()).await;
            if above.is_err() {
                break;
            }
            begun += 1;
            if raw
                .0
                .try_send(raw::reset(stream, raw::CANCEL))
                .await
                .is_err()
            {
                break;
            }
        }
        assert!((200..300).contains(&begun), "{begun}");
        assert_eq!(raw.farewell().await, Some(raw::ENHANCE_YOUR_CALM));
    });
}

/// A frame for which we must reset its stream.
type Fault = fn(u32) -> Vec<u8>;

/// CVE-2025-8671: each of these makes us reset a stream whose request has begun.
#[test]
fn whoever_makes_us_reset_its_streams_is_ended() {
    let faults: [Fault; 3] = [
        |stream| raw::window_update(stream, 0),
        |stream| raw::window_update(stream, i32::MAX as u32),
        |stream| {
            let itself = stream.to_be_bytes();
            raw::frame(raw::PRIORITY, 0, stream, &[&itself[..], &[7]].concat())
        },
    ];
    for (at, fault) in faults.into_iter().enumerate() {
        paused(async {
            let world = World::pipes();
            let (recorder, sidecar) = echoing(&world, &[]);
            let raw = Raw::new(sidecar.caller().await, &[]).await;
            let streams = (1..40_000).step_by(2);
            let both = streams.map(|stream| [raw::get(stream), fault(stream)].concat());
            let code = raw.flood(both).await;
            // A frame that cannot be is the end of all at once.
            let ends = [Some(raw::ENHANCE_YOUR_CALM), Some(raw::PROTOCOL_ERROR)];
            assert!(ends.contains(&code), "{at}: {code:?}");
            assert!(recorder.connections.get() < 1200);
            let answer = sidecar.h2().await.get("http://localhost/x").await;
            assert_eq!(answer.status, 200);
        });
    }
}

#[test]
fn whoever_cancels_every_second_request_is_served() {
    paused(async {
        let world = World::pipes();
        let (_, sidecar) = echoing(&world, &[]);
        let mut caller = sidecar.h2().await;
        for _ in 0..2000 {
            let (given_up, mut sending) = caller.begin(get("http://localhost/x"), true).await;
            sending.send_reset(h2::Reason::CANCEL);
            drop(given_up);
            assert_eq!(caller.get("http://localhost/y").await.status, 200);
        }
        assert!(!caller.has_ended());
    });
}

#[test]
fn whoever_cancels_what_lasts_too_long_is_served() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = outbound(&world, &[]);
        tokio::task::spawn_local(async move {
            let mut silent = Vec::new();
            loop {
                silent.push(upstream.accept().await);
            }
        });
        let mut caller = sidecar.h2().await;
        for _ in 0..200 {
            let mut asked = Vec::new();
            for _ in 0..50 {
                asked.push(caller.begin(get("http://localhost/x"), true).await);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            for (_, sending) in &mut asked {
                sending.send_reset(h2::Reason::CANCEL);
            }
        }
        settle().await;
        assert!(!caller.has_ended());
    });
}

#[test]
fn a_download_in_small_windows_is_served() {
    paused(async {
        let world = World::pipes();
        let (upstream, sidecar) = outbound(&world, &[]);
        let body = "x".repeat(4 << 20);
        let sent = body.clone();
        let _recorder = upstream.serve(move |_| ok(&sent));
        let mut raw = Raw::new(sidecar.caller().await, &[(4, 64)]).await;
        raw.send([raw::get(1), raw::window_update(0, 1 << 30)].concat())
            .await;
        let mut came = 0;
        while came < body.len() {
            let data = raw.expect(raw::DATA).await;
            came += data.payload.len();
            // Both windows, after every frame.
            let by = data.payload.len() as u32;
            let opens = [raw::window_update(0, by), raw::window_update(1, by)].concat();
            raw.send(opens).await;
        }
        assert_eq!(sidecar.refused_in_all(), 0);
    });
}

/// h2 counts them over the whole life of a connection, and cuts it then.
#[test]
fn a_connection_that_is_worn_is_told_to_go_before_it_is_cut() {
    paused(async {
        let world = World::pipes();
        let (recorder, sidecar) = echoing(&world, &[]);
        let mut raw = Raw::new(sidecar.caller().await, &[]).await;
        for at in 0..60 {
            tokio::time::sleep(Duration::from_secs(60)).await;
            let stream = 1 + 2 * at;
            raw.send(raw::post(stream, &[])).await;
            raw.send(raw::frame(raw::DATA, 0, stream, b"")).await;
            raw.send(raw::frame(raw::DATA, raw::END_STREAM, stream, b"x"))
                .await;
            let next = loop {
                let frame = raw.next().await.expect("it goes on");
                if frame.kind == raw::GOAWAY || frame.ends() {
                    break frame;
                }
            };
            if next.kind == raw::GOAWAY {
                assert_eq!(next.number(), raw::NO_ERROR);
                assert_eq!(raw.expect(raw::DATA).await.stream, stream);
                assert!((40..60).contains(&recorder.count()));
                return;
            }
        }
        panic!("it was never told");
    });
}

/// After a GOAWAY, h2 passes over the streams that it leaves out.
#[test]
fn a_flood_of_requests_after_the_end_was_told_is_ended() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = outbound(&world, &[]);
        let mut raw = Raw::new(sidecar.caller().await, &[]).await;
        raw.send(raw::post(1, &[])).await;
        let _above = upstream.accept().await;
        // It is told to go, and says that it has heard it.
        raw.send(raw::frame(raw::DATA, 0, 1, b"").repeat(60)).await;
        raw.expect(raw::GOAWAY).await;
        let heard = raw.expect(raw::PING).await.payload;
        raw.send(raw::frame(raw::PING, raw::ACK, 0, &heard)).await;
        let last = raw.expect(raw::GOAWAY).await.payload[..4].to_vec();
        assert_eq!(last, [0, 0, 0, 1]);
        let heads = (3..200_003).step_by(2).map(raw::get);
        assert_eq!(raw.flood(heads).await, Some(raw::ENHANCE_YOUR_CALM));
    });
}

/// h2 passes over what comes for a stream that it has reset.
#[test]
fn a_flood_of_heads_for_a_stream_that_was_reset_is_ended() {
    paused(async {
        let world = World::pipes();
        let (_, sidecar) = echoing(&world, &[]);
        let mut raw = Raw::new(sidecar.caller().await, &[]).await;
        // Refused with its body unread, and so reset.
        let elsewhere = [(":method", "POST"), (":scheme", "http"), (":path", "/x")];
        let elsewhere = [&elsewhere[..], &[(":authority", "elsewhere")]].concat();
        raw.send(raw::head(1, 0, &elsewhere)).await;
        raw.expect(raw::RST_STREAM).await;
        // Soon: h2 forgets the stream after a second.
        let code = raw.flood(many(raw::get(1).repeat(100))).await;
        assert_eq!(code, Some(raw::ENHANCE_YOUR_CALM));
    });
}

#[test]
fn a_stalled_upload_takes_no_room_from_another() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = outbound(&world, &["limits.concurrent_streams=10"]);
        let mut caller = sidecar.h2().await;
        let mut kept = Vec::new();
        // Nobody above reads these.
        for _ in 0..9 {
            let posted = request("POST", "http://localhost/stalled", &[]);
            let (answer, mut body) = caller.begin(posted, false).await;
            body.send_data(vec![0; 1 << 20].into(), false)
                .expect("room");
            let above = upstream.accept().await;
            settle().await;
            kept.push((answer, body, above));
        }
        let posted = request("POST", "http://localhost/x", &[]);
        let (answer, mut body) = caller.begin(posted, false).await;
        body.send_data(vec![0; 1 << 20].into(), true).expect("room");
        let mut above = upstream.accept().await;
        assert_eq!(
            above.request().await.expect("a request").body.len(),
            1 << 20
        );
        above.send(ok("done")).await;
        assert_eq!(whole(answer).await.text(), "done");
    });
}

#[test]
fn whoever_takes_nothing_keeps_nobody_from_being_served() {
    paused(async {
        let world = World::pipes();
        let (upstream, sidecar) = outbound(&world, &[]);
        let recorder = upstream.serve(|request| match request.head.target() {
            "/x" => ok(&"x".repeat(1 << 20)),
            _ => ok("y"),
        });
        let mut raw = Raw::new(sidecar.caller().await, &[(4, 0)]).await;
        let heads: Vec<u8> = (0..100).flat_map(|at| raw::get(1 + 2 * at)).collect();
        raw.send(heads).await;
        until(|| recorder.count() == 100).await;
        assert_eq!(
            sidecar.h2().await.get("http://localhost/y").await.text(),
            "y"
        );
        // Frames without flow control go on, on the same connection too.
        raw.send(raw::ping()).await;
        raw.expect(raw::PING).await;
        raw.send(raw::window_update(1, 3)).await;
        assert_eq!(raw.expect(raw::DATA).await.payload, b"xxx");
    });
}
