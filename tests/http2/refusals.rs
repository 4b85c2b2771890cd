//! What HTTP/2 forbids, and how a stream is refused: alone, and never with anything hop-by-hop.

use bytes::Bytes;
use h2::Reason as Code;
use regent::reason::Reason;

use crate::caller::*;
use crate::gate::{alice, bearer, identity, say_identity, token_of};
use crate::raw::{self, Raw};
use crate::setup::Setup as Inbound;
use crate::support::*;

#[test]
fn a_refusal_leaves_the_body_and_the_other_streams_alone() {
    real(async {
        let world = World::sockets();
        let (recorder, sidecar) = echoing(&world, &[]);
        let mut caller = sidecar.h2().await;
        for _ in 0..3 {
            let posted = request("POST", "http://evil.example/x", &[]);
            let (answer, mut body) = caller.begin(posted, false).await;
            body.send_data(Bytes::from_static(b"some"), false)
                .expect("room");
            let answer = whole(answer).await;
            assert_eq!((answer.status, answer.reason()), (403, "host_not_allowed"));
            for name in ["connection", "keep-alive", "transfer-encoding"] {
                assert_eq!(answer.get(name), None);
            }
            let reset = std::future::poll_fn(|cx| body.poll_reset(cx)).await;
            assert_eq!(reset.expect("a reset"), Code::NO_ERROR);
            assert_eq!(caller.get("http://localhost/x").await.status, 200);
        }
        assert_eq!(recorder.count(), 3);
        assert_eq!(sidecar.connections(), 1);
    });
}

#[test]
fn a_refusal_of_a_head_request_has_no_body() {
    real(async {
        let world = World::sockets();
        let (_, sidecar) = echoing(&world, &[]);
        let workload = Upstream::bind(&world);
        let gate = Inbound::new(&world, workload.at).forward_auth();
        let gate = gate.start(workload.echo());
        for (mut caller, uri, status, reason) in [
            (
                sidecar.h2().await,
                "http://evil.example/x",
                403,
                "host_not_allowed",
            ),
            (gate.h2().await, "http://svc/x", 401, "missing_token"),
            (
                Caller::new(gate.asker().await).await,
                "http://auth/verify/x",
                401,
                "missing_token",
            ),
        ] {
            let told = caller.get(uri).await;
            let answer = caller.ask(request("HEAD", uri, &[]), b"").await;
            assert_eq!((answer.status, &*answer.text()), (status, ""));
            let details = format!("regent; details=\"{reason}\"");
            assert_eq!(answer.get("proxy-status"), Some(&*details));
            let length = told.text().len().to_string();
            assert_eq!(answer.get("content-length"), Some(&*length));
            assert_eq!(caller.get(uri).await.status, status, "it goes on");
        }
    });
}

#[test]
fn a_refused_grpc_call_is_told_in_trailers_alone() {
    real(async {
        let world = World::sockets();
        let (_, sidecar) = echoing(&world, &[]);
        let workload = Upstream::bind(&world);
        let setup = Inbound::new(&world, workload.at);
        let gate = setup.start(workload.echo());
        let fields = [
            ("content-type", "application/grpc+proto"),
            ("te", "trailers"),
        ];
        for (mut caller, uri, status, message) in [
            (
                sidecar.h2().await,
                "http://evil.example/a.B/C",
                "7",
                "host_not_allowed",
            ),
            (
                gate.h2().await,
                "http://svc.example/a.B/C",
                "16",
                "missing_token",
            ),
        ] {
            let call = request("POST", uri, &fields);
            let (answer, _body) = caller.begin(call, false).await;
            let answer = whole(answer).await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.get("content-type"), Some("application/grpc"));
            assert_eq!(answer.get("grpc-status"), Some(status));
            assert_eq!(answer.get("grpc-message"), Some(message));
            // One block of headers ends the stream.
            assert_eq!((answer.body.len(), answer.trailers), (0, None));
        }
        assert_eq!(gate.workload.count(), 0);
    });
}

/// Servers behind that fold names would frame the message by it.
#[test]
fn a_name_that_can_be_read_as_one_that_frames_is_refused() {
    real(async {
        let world = World::sockets();
        let (recorder, sidecar) = echoing(&world, &[]);
        let mut caller = sidecar.h2().await;
        for (name, status) in [
            ("content_length", 400),
            ("content.length", 400),
            ("transfer_encoding", 400),
            ("transfer.encoding", 400),
            ("content_lengths", 200),
            ("content_type", 200),
        ] {
            let posted = request("POST", "http://localhost/x", &[(name, "0")]);
            let (answer, mut body) = caller.begin(posted, false).await;
            // Where it is refused the stream is reset, which may have come.
            let _ = body.send_data(Bytes::from_static(b"some"), true);
            let answer = whole(answer).await;
            assert_eq!(answer.status, status, "{name}");
            if status == 400 {
                assert_eq!(answer.reason(), "bad_request");
            }
        }
        assert_eq!(recorder.count(), 2);
    });
}

#[test]
fn connect_is_refused_and_so_is_its_extension() {
    real(async {
        let world = World::sockets();
        let (recorder, sidecar) = echoing(&world, &[]);
        let mut raw = Raw::new(sidecar.caller().await, &[]).await;
        let settings = raw.expect(raw::SETTINGS).await;
        let ids = settings.payload.chunks(6).map(|pair| pair[1]);
        assert!(
            !ids.into_iter().any(|id| id == 8),
            "ENABLE_CONNECT_PROTOCOL"
        );
        let connect = [(":method", "CONNECT"), (":authority", "localhost:443")];
        raw.send(raw::head(1, 0, &connect)).await;
        let body = raw.expect(raw::DATA).await;
        let problem: serde_json::Value = serde_json::from_slice(&body.payload).expect("JSON");
        assert_eq!(problem["reason"], "method_not_allowed");
        let websocket = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", "/x"),
            (":authority", "localhost"),
        ];
        raw.send(raw::head(3, 0, &websocket)).await;
        loop {
            let reset = raw.expect(raw::RST_STREAM).await;
            if reset.stream == 3 {
                assert_eq!(reset.number(), raw::PROTOCOL_ERROR);
                break;
            }
        }
        assert_eq!(recorder.connections.get(), 0);
    });
}

/// Whatever it names and whoever asks: nothing is tunnelled, and the connection goes on with requests
/// that are none of its business.
#[test]
fn connect_is_refused_with_a_token_and_without_and_the_next_request_is_served() {
    real(async {
        let world = World::sockets();
        let workload = Upstream::bind(&world);
        let gate = Inbound::new(&world, workload.at).start(workload.serve(say_identity));
        let good = bearer(&token_of(&world, "alice"));
        let mut raw = Raw::new(gate.caller().await, &[]).await;
        let caller = [(":authority", "svc.example"), ("authorization", &*good)];
        let next = [&raw::GET[..3], &caller].concat();
        let mut stream = 1;
        for authority in ["svc.example:443", "evil.example:443", "svc.example"] {
            for token in [None, Some(("authorization", &*good))] {
                let before = (gate.workload.count(), gate.refused_in_all());
                let counted = gate.refused(Reason::MethodNotAllowed);
                let connect = [(":method", "CONNECT"), (":authority", authority)];
                let connect: Vec<_> = connect.into_iter().chain(token).collect();
                raw.send(raw::head(stream, 0, &connect)).await;
                // Bytes for a tunnel that is not there.
                let evil = b"GET /evil HTTP/1.1\r\nHost: svc.example\r\n\r\n";
                raw.send(raw::frame(raw::DATA, 0, stream, evil)).await;
                let said = raw.expect(raw::DATA).await;
                assert!(said.stream == stream && said.ends(), "{authority}");
                let said: serde_json::Value = serde_json::from_slice(&said.payload).expect("JSON");
                assert_eq!(said["reason"], "method_not_allowed", "{authority}");
                assert_eq!(said["status"], 405, "{authority}");
                let reset = raw.expect(raw::RST_STREAM).await;
                assert_eq!((reset.stream, reset.number()), (stream, raw::NO_ERROR));
                assert_eq!(gate.refused(Reason::MethodNotAllowed), counted + 1);
                assert_eq!(
                    (gate.workload.count(), gate.refused_in_all()),
                    (before.0, before.1 + 1),
                    "{authority}"
                );
                raw.send(raw::head(stream + 2, raw::END_STREAM, &next))
                    .await;
                assert_eq!(raw.expect(raw::DATA).await.stream, stream + 2);
                let seen = gate.workload.last();
                assert_eq!(seen.head.line, "GET /x HTTP/1.1");
                assert_eq!(identity(&seen.head), alice());
                stream += 4;
            }
        }
        assert_eq!(gate.workload.connections.get(), 1, "the pool's one");
    });
}

/// Each on a stream of one connection, which goes on.
async fn resets(heads: &[Vec<(&str, &str)>]) {
    let world = World::sockets();
    let (recorder, sidecar) = echoing(&world, &[]);
    let mut raw = Raw::new(sidecar.caller().await, &[]).await;
    let mut stream = 1;
    for head in heads {
        raw.send(raw::head(stream, raw::END_STREAM, head)).await;
        let reset = raw.expect(raw::RST_STREAM).await;
        assert_eq!(
            (reset.stream, reset.number()),
            (stream, raw::PROTOCOL_ERROR),
            "{head:?}"
        );
        stream += 2;
    }
    assert_eq!(recorder.count(), 0);
    let refused = sidecar.refused(Reason::BadRequest);
    assert_eq!(refused, heads.len() as u64, "each is counted");
    raw.send(raw::get(stream)).await;
    assert_eq!(raw.expect(raw::HEADERS).await.stream, stream);
    until(|| recorder.count() == 1).await;
    assert_eq!(sidecar.refused_in_all(), refused);
}

#[test]
fn fields_of_a_connection_are_malformed() {
    real(async {
        let heads = [
            ("connection", "x"),
            ("connection", "close"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("te", "gzip"),
            ("te", "trailers, gzip"),
        ];
        resets(&heads.map(|field| [&raw::GET[..], &[field]].concat())).await;
    });
}

#[test]
fn heads_that_are_none_are_malformed() {
    real(async {
        let fields = |fields: &[(&'static str, &'static str)]| fields.to_vec();
        let [method, scheme, path, authority] = raw::GET;
        resets(&[
            fields(&[scheme, path, authority]),
            fields(&[method, path, authority]),
            fields(&[method, scheme, authority]),
            fields(&[method, scheme, (":path", ""), authority]),
            fields(&[method, method, scheme, path, authority]),
            fields(&[method, scheme, path, authority, authority]),
            fields(&[method, scheme, path, ("x", "y"), authority]),
            fields(&[method, scheme, path, authority, (":status", "200")]),
            fields(&[method, scheme, path, (":authority", "a b")]),
            fields(&[method, scheme, (":path", "/a b"), authority]),
            fields(&[method, scheme, path, authority, ("content-length", "1")]),
            fields(&[method, scheme, path, authority, ("content-length", "-1")]),
        ])
        .await;
    });
}

#[test]
fn what_no_field_may_have_in_it_ends_the_connection_and_nothing_goes_up() {
    real(async {
        let world = World::sockets();
        let (recorder, sidecar) = echoing(&world, &[]);
        for (name, value) in [
            ("x\r\nevil", "y"),
            ("x", "y\r\nevil: 1"),
            ("x", "y\nevil: 1"),
            ("x", "y\0"),
            ("x y", "y"),
            ("x:y", "y"),
            ("X", "y"),
            ("", "y"),
            (":evil", "y"),
        ] {
            let mut raw = Raw::new(sidecar.caller().await, &[]).await;
            let head = [&raw::GET[..], &[(name, value)]].concat();
            raw.send(raw::head(1, raw::END_STREAM, &head)).await;
            let ends = |frame: &raw::Frame| [raw::RST_STREAM, raw::GOAWAY].contains(&frame.kind);
            loop {
                let frame = raw.next().await.expect("a word");
                assert_ne!(frame.kind, raw::HEADERS, "{name:?}: {value:?}");
                if ends(&frame) {
                    assert_ne!(frame.number(), raw::NO_ERROR);
                    break;
                }
            }
        }
        let bytes = String::from_utf8_lossy(&raw::block(&[("x", " y ")])).into_owned();
        assert!(bytes.contains(" y "));
        assert_eq!(recorder.connections.get(), 0);
    });
}

#[test]
fn a_body_that_is_not_as_long_as_it_says_is_never_whole_above() {
    paused(async {
        let world = World::pipes();
        for (length, body, ends) in [("5", "abc", true), ("2", "abc", false), ("2", "abc", true)] {
            let (mut upstream, sidecar) = outbound(&world, &[]);
            let mut raw = Raw::new(sidecar.caller().await, &[]).await;
            raw.send(raw::post(1, &[("content-length", length)])).await;
            let mut above = upstream.accept().await;
            let head = above.head().await.expect("a head");
            assert_eq!(head.get("content-length"), Some(length));
            let flags = if ends { raw::END_STREAM } else { 0 };
            raw.send(raw::frame(raw::DATA, flags, 1, body.as_bytes()))
                .await;
            let reset = raw.expect(raw::RST_STREAM).await;
            assert_eq!(reset.number(), raw::PROTOCOL_ERROR);
            assert_eq!(above.body(&head).await.1, End::Cut);
            assert_eq!(sidecar.refused(Reason::BadRequest), 1, "counted once");
        }
        let (recorder, sidecar) = echoing(&world, &[]);
        let mut raw = Raw::new(sidecar.caller().await, &[]).await;
        let two = [("content-length", "3"), ("content-length", "4")];
        raw.send(raw::post(1, &two)).await;
        let reset = raw.expect(raw::RST_STREAM).await;
        assert_eq!(reset.number(), raw::PROTOCOL_ERROR);
        assert_eq!(recorder.connections.get(), 0);
    });
}
