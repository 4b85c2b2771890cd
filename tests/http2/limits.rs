//! What one caller may cost is the same over both protocols.

use regent::reason::Reason;

use crate::caller::*;
use crate::gate::{bearer, say_identity, token_of};
use crate::raw::{self, Raw};
use crate::setup::Setup as Inbound;
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
        assert!(answer.ends());
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

/// One name or one value, by the limit that everybody has. A longer name is none even to the library.
#[test]
fn a_field_of_64_kb_is_431_or_the_end_over_both_protocols() {
    real(async {
        let world = World::sockets();
        let (recorder, sidecar) = echoing(&world, &[]);
        let long = "y".repeat(64 * 1024 - 1);
        for (at, (name, value)) in [(&*long, "y"), ("x", &*long)].into_iter().enumerate() {
            let counted = |more: u64| at as u64 * 2 + more;
            let mut caller = sidecar.caller().await;
            let head = format!("GET /x HTTP/1.1\r\nHost: localhost\r\n{name}: {value}\r\n\r\n");
            // It may be refused before it is written.
            let _ = caller.try_send(head).await;
            assert_eq!(caller.answer().await.status, 431);
            until(|| sidecar.refused(Reason::HeadersTooLarge) == counted(1)).await;

            let mut raw = Raw::new(sidecar.caller().await, &[]).await;
            let block = raw::block(&[&raw::GET[..], &[(name, value)]].concat());
            let pieces: Vec<_> = block.chunks(16_000).collect();
            for (at, piece) in pieces.iter().enumerate() {
                let (kind, flags) = match at {
                    0 => (raw::HEADERS, raw::END_STREAM),
                    _ if at + 1 == pieces.len() => (raw::CONTINUATION, raw::END_HEADERS),
                    _ => (raw::CONTINUATION, 0),
                };
                let _ = raw.0.try_send(raw::frame(kind, flags, 1, piece)).await;
            }
            let said = loop {
                let frame = raw.next().await.expect("a word");
                if [raw::HEADERS, raw::GOAWAY].contains(&frame.kind) {
                    break frame;
                }
            };
            match said.kind {
                raw::HEADERS => assert!(said.ends()),
                _ => assert_eq!(said.number(), raw::ENHANCE_YOUR_CALM),
            }
            until(|| sidecar.refused(Reason::HeadersTooLarge) == counted(2)).await;
            assert_eq!(sidecar.refused_in_all(), counted(2));
        }
        assert_eq!(recorder.connections.get(), 0);
        assert_eq!(
            sidecar.h2().await.get("http://localhost/x").await.status,
            200
        );
    });
}

/// As `whatever_callers_say_makes_no_series_of_metrics` has it for tokens.
#[test]
fn whatever_callers_ask_for_makes_no_series_of_metrics_over_either_protocol() {
    paused(async {
        let world = World::pipes();
        let route = "outbound.routes=[{\"path\": \"/\", \"methods\": [\"GET\"]}]";
        let (_, sidecar) = echoing(&world, &[route]);
        let workload = Upstream::bind(&world);
        let gate = Inbound::new(&world, workload.at).start(workload.serve(say_identity));
        let good = bearer(&token_of(&world, "alice"));
        let mut word = {
            let mut dice = fastrand::Rng::with_seed(1);
            move || -> String { (0..12).map(|_| dice.uppercase()).collect() }
        };
        let (mut old, mut outbound, mut inbound) =
            (sidecar.caller().await, sidecar.h2().await, gate.h2().await);
        let mut round = async || {
            let foreign = format!("{}.example", word());
            let origin = format!("http://{}.example", word());
            for (method, host, more) in [
                ("GET", "localhost", None),
                ("GET", &*foreign, None),
                (&*word(), "localhost", None),
                ("GET", "localhost", Some(("origin", &*origin))),
            ] {
                let path = word();
                let fields: Vec<_> = more.into_iter().collect();
                let uri = format!("http://{host}/{path}?{}", word());
                let over_h2 = outbound.ask(request(method, &uri, &fields), b"").await;
                let mut head = format!("{method} /{path} HTTP/1.1\r\nHost: {host}\r\n");
                for (name, value) in &fields {
                    head += &format!("{name}: {value}\r\n");
                }
                let over_h1 = old.ask(&format!("{head}\r\n")).await;
                assert_eq!(over_h1.status, over_h2.status);
                for token in [&*good, &*word(), &*format!("Bearer {}", word())] {
                    let fields = [("authorization", token)];
                    let uri = format!("http://{foreign}/{path}");
                    inbound.ask(request(method, &uri, &fields), b"").await;
                }
            }
        };
        let series = async |admin| {
            let mut admin = world.connect(admin).await;
            let metrics = admin
                .ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .await
                .text();
            let samples = metrics.lines().filter(|line| !line.starts_with('#'));
            let names = samples.map(|line| line.rsplit_once(' ').expect("a value").0.to_owned());
            names.collect::<std::collections::BTreeSet<_>>()
        };
        round().await;
        let before = (series(sidecar.admin).await, series(gate.admin).await);
        for _ in 0..200 {
            round().await;
        }
        let after = (series(sidecar.admin).await, series(gate.admin).await);
        assert_eq!(after, before);
        assert_eq!(sidecar.refused(Reason::HostNotAllowed), 402);
        assert_eq!(sidecar.refused(Reason::MethodNotAllowed), 402);
        assert_eq!(sidecar.refused(Reason::CrossSiteRequest), 402);
        assert_eq!(gate.refused(Reason::UnsupportedScheme), 804);
        assert_eq!(gate.refused(Reason::MalformedToken), 804);
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
            assert_eq!(
                (reset.stream, reset.number()),
                (stream, raw::REFUSED_STREAM)
            );
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
        assert!(done.ends());
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
