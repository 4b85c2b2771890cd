//! What one caller may cost is the same over both protocols.

use regent::reason::Reason;

use crate::caller::*;
use crate::raw::{self, Raw};
use crate::support::*;

/// The same head over both protocols, with so many bytes over HTTP/1.1.
fn heads(bytes: usize) -> (String, Vec<(&'static str, String)>) {
    let head = |pad: usize| {
        format!(
            "GET /x HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n",
            "y".repeat(pad)
        )
    };
    let pad = bytes - head(0).len();
    (head(pad), vec![("x", "y".repeat(pad))])
}

fn on_a_stream(fields: &[(&'static str, String)]) -> http::Request<()> {
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    request("GET", "http://localhost/x", &fields)
}

#[test]
fn a_head_may_have_as_many_bytes_over_both_protocols() {
    real(async {
        let world = World::sockets();
        for limit in [8 * 1024, 32 * 1024] {
            let set = format!("limits.header_bytes={limit}");
            let (recorder, sidecar) = echoing(&world, &[&set]);
            let mut caller = sidecar.h2().await;
            for (bytes, status) in [(limit, 200), (limit + 1, 431), (limit + 1000, 431)] {
                let refused = sidecar.refused(Reason::HeadersTooLarge);
                let (wire, fields) = heads(bytes);
                assert_eq!(wire.len(), bytes);
                assert_eq!(sidecar.ask(&wire).await.status, status, "HTTP/1.1, {bytes}");
                let answer = caller.ask(on_a_stream(&fields), b"").await;
                assert_eq!(answer.status, status, "HTTP/2, {bytes}");
                let counted = if status == 431 { 2 } else { 0 };
                until(|| sidecar.refused(Reason::HeadersTooLarge) == refused + counted).await;
            }
            // In pieces it is the same head.
            for (bytes, status) in [(limit, 200), (limit + 1, 431)] {
                let mut pieces = sidecar.caller().await;
                let wire = heads(bytes).0;
                let (first, last) = wire.split_at(wire.len() - 2);
                pieces.send(first).await;
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                // It may have been refused by now.
                let _ = pieces.try_send(last).await;
                assert_eq!(pieces.answer().await.status, status);
            }
            assert_eq!(recorder.count(), 3);
        }
    });
}

#[test]
fn a_head_may_have_as_many_fields_over_both_protocols() {
    real(async {
        let world = World::sockets();
        let (recorder, sidecar) = echoing(&world, &[]);
        let mut caller = sidecar.h2().await;
        for (count, status) in [(99, 200), (100, 431)] {
            let fields: String = (0..count).map(|at| format!("x-{at}: 1\r\n")).collect();
            let wire = format!("GET /x HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n");
            assert_eq!(sidecar.ask(&wire).await.status, status);
            let mut asked = request("GET", "http://localhost/x", &[]);
            for at in 0..count {
                let name = http::HeaderName::try_from(format!("x-{at}")).expect("a name");
                asked
                    .headers_mut()
                    .insert(name, http::HeaderValue::from_static("1"));
            }
            assert_eq!(caller.ask(asked, b"").await.status, status);
        }
        assert_eq!(recorder.count(), 2);
        until(|| sidecar.refused(Reason::HeadersTooLarge) == 2).await;
    });
}

/// What h2 refuses by itself is counted all the same.
#[test]
fn a_head_far_beyond_the_limit_is_431_or_the_end() {
    real(async {
        let world = World::sockets();
        let (recorder, sidecar) = echoing(&world, &["limits.header_bytes=8KiB"]);
        let mut raw = Raw::new(sidecar.caller().await, &[]).await;
        let large = "y".repeat(15_000);
        let head = [&raw::GET[..], &[("x", &large), ("z", &large)]].concat();
        let block = raw::block(&head);
        let (first, rest) = block.split_at(16_000);
        raw.send(raw::frame(raw::HEADERS, raw::END_STREAM, 1, first))
            .await;
        raw.send(raw::frame(raw::CONTINUATION, raw::END_HEADERS, 1, rest))
            .await;
        let answer = raw.expect(raw::HEADERS).await;
        assert!(answer.ends_stream());
        until(|| sidecar.refused(Reason::HeadersTooLarge) == 1).await;
        // One of 4 KB that unpacks to as much again and again.
        let mut raw = Raw::new(sidecar.caller().await, &[]).await;
        let mut bomb = raw::block(&raw::GET);
        bomb.push(0x40);
        bomb.extend(raw::block(&[("x", &"y".repeat(3500))]).split_off(1));
        bomb.resize(bomb.len() + 4000, 0x80 | 62);
        raw.send(raw::frame(
            raw::HEADERS,
            raw::END_STREAM | raw::END_HEADERS,
            1,
            &bomb,
        ))
        .await;
        assert_eq!(raw.farewell().await, Some(raw::ENHANCE_YOUR_CALM));
        assert_eq!(recorder.connections.get(), 0);
    });
}

#[test]
fn streams_beyond_the_limit_are_refused_and_no_other_is_harmed() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = outbound(&world, &["limits.concurrent_streams=3"]);
        let mut raw = Raw::new(sidecar.caller().await, &[]).await;
        let settings = raw.expect(raw::SETTINGS).await;
        let most = settings.payload.chunks(6).find(|pair| pair[1] == 3);
        assert_eq!(most.expect("a limit")[2..], [0, 0, 0, 3]);
        let heads: Vec<u8> = (0..5).flat_map(|at| raw::get(1 + 2 * at)).collect();
        raw.send(heads).await;
        for stream in [7, 9] {
            let reset = raw.expect(raw::RST_STREAM).await;
            assert_eq!((reset.stream, reset.code()), (stream, raw::REFUSED_STREAM));
        }
        assert_eq!(sidecar.refused(Reason::Overloaded), 2);
        let mut above = Vec::new();
        for _ in 0..3 {
            let mut peer = upstream.accept().await;
            peer.request().await.expect("a request");
            above.push(peer);
        }
        let mut first = above.remove(0);
        first.send(ok("done")).await;
        let done = raw.expect(raw::DATA).await;
        // Its place is free again.
        raw.send(raw::get(11)).await;
        first.request().await.expect("a request");
        first.send(ok("done")).await;
        assert_eq!(raw.expect(raw::DATA).await.stream, 11);
        assert!(done.ends_stream());
    });
}

#[test]
fn a_body_may_have_as_many_bytes_over_both_protocols() {
    real(async {
        let world = World::sockets();
        let (recorder, sidecar) = echoing(&world, &["limits.body_bytes=1000"]);
        let mut caller = sidecar.h2().await;
        for announced in [true, false] {
            for (bytes, status) in [(1000, 200), (1001, 413)] {
                let length = bytes.to_string();
                let fields = [("content-length", &*length)];
                let fields = if announced { &fields[..] } else { &[] };
                let posted = request("POST", "http://localhost/x", fields);
                let answer = caller.ask(posted, &vec![0; bytes]).await;
                assert_eq!(answer.status, status, "{announced} {bytes}");
            }
        }
        let whole = recorder.requests.borrow();
        assert_eq!(
            whole
                .iter()
                .filter(|request| request.end == End::Whole)
                .count(),
            2
        );
    });
}
