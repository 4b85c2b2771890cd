//! Upgraded and streaming answers: judged like any other request, and ended with the token where
//! the config says so (cases.md, I14).

use std::time::Duration;

use regent::reason::Reason;
use tokio::time::{Instant, sleep};

use crate::forge::Forge;
use crate::gate::*;

const SECOND: Duration = Duration::from_secs(1);
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
     Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

struct Case {
    world: World,
    workload: Upstream,
    gate: Gate,
}

fn case(world: World, line: &str) -> Case {
    let workload = Upstream::bind(&world);
    let setup = Setup::new(&world, workload.at).rule("path = '/open', anonymous = true");
    let gate = setup.line(line).start(std::rc::Rc::default());
    Case {
        world,
        workload,
        gate,
    }
}

fn handshake(path: &str, more: &[(&str, &str)]) -> String {
    let mut fields = vec![
        ("Connection", "keep-alive, Upgrade, x-regent-user"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("X-Regent-User", "mallory"),
        ("x_regent_issuer", "mallory"),
    ];
    fields.extend(more);
    get(path, &fields)
}

/// A tunnel's two ends, and the handshake as it came.
async fn tunnel(case: &mut Case, request: &str) -> (Peer, Peer, Head) {
    let mut caller = case.gate.caller().await;
    caller.send(request).await;
    let mut behind = case.workload.accept().await;
    let seen = behind.request().await.expect("a handshake").head;
    behind.send(SWITCHING).await;
    let head = caller.head().await.expect("an answer");
    assert!(head.line.contains(" 101 "), "{head:?}");
    (caller, behind, seen)
}

#[test]
fn an_upgrade_carries_the_same_identity_as_any_request() {
    real(async {
        let mut case = case(World::sockets(), "");
        let token = Forge::home(case.world.clock.unix()).token();
        let value = bearer(&token);
        let request = handshake("/ws", &[("Authorization", &value)]);
        let (mut caller, mut behind, seen) = tunnel(&mut case, &request).await;
        assert_eq!(identity(&seen), alice());
        assert!(!seen.has("authorization"));
        assert_eq!(seen.get("upgrade"), Some("websocket"));
        assert_eq!(seen.get("connection"), Some("upgrade"));
        assert!(seen.has("sec-websocket-key"));
        caller.send("to the workload").await;
        behind.expect("to the workload").await;
        behind.send("to the caller").await;
        caller.expect("to the caller").await;
        let (_caller, _behind, seen) = tunnel(&mut case, &handshake("/open", &[])).await;
        assert!(identity(&seen).is_empty());
    });
}

#[test]
fn an_upgrade_without_a_token_is_refused_before_anything_is_upgraded() {
    real(async {
        let mut case = case(World::sockets(), "");
        let token = Forge::home(case.world.clock.unix()).with_signature([0; 256]);
        let value = bearer(&token);
        for (request, reason) in [
            (handshake("/ws", &[]), Reason::MissingToken),
            (
                handshake("/ws", &[("Sec-WebSocket-Protocol", "bearer, x")]),
                Reason::MissingToken,
            ),
            (
                handshake("/ws", &[("Authorization", &value)]),
                Reason::BadSignature,
            ),
            (
                handshake("/open", &[("Authorization", &value)]),
                Reason::BadSignature,
            ),
        ] {
            // Bytes of a protocol that was not agreed on are no tunnel either.
            let answer = case.gate.refuses(&request, reason).await;
            assert!(!answer.head.has("upgrade"));
            let eager = request + "GET /evil HTTP/1.1\r\nHost: svc.example\r\n\r\n";
            assert_eq!(case.gate.ask(eager).await.status, 401);
        }
        let nobody = tokio::time::timeout(Duration::from_millis(200), case.workload.accept());
        assert!(nobody.await.is_err(), "the workload was called");
    });
}

/// Nothing hides requests from us behind a protocol that we do not see through (h2c smuggling).
#[test]
fn other_wishes_for_an_upgrade_are_plain_requests() {
    real(async {
        let world = World::sockets();
        let workload = Upstream::bind(&world);
        let setup = Setup::new(&world, workload.at).rule("path = '/open', anonymous = true");
        // A workload that would switch to HTTP/2 for whoever asks.
        let gate = setup.start(workload.serve(|request| match request.head.get("upgrade") {
            Some(wish) => {
                let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n";
                format!("{switching}Upgrade: {wish}\r\n\r\n").into_bytes()
            }
            None => say_identity(request),
        }));
        let value = bearer(&token_of(&world, "alice"));
        let authorized = ("Authorization", &*value);
        for wish in [
            &[
                ("Connection", "Upgrade, HTTP2-Settings"),
                ("Upgrade", "h2c"),
                ("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA"),
            ][..],
            &[("Connection", "upgrade"), ("Upgrade", "H2C")],
            &[("Connection", "upgrade"), ("Upgrade", "h2c, websocket")],
            &[
                ("Connection", "upgrade"),
                ("Upgrade", "websocket"),
                ("Upgrade", "h2c"),
            ],
            &[("Upgrade", "websocket")],
        ] {
            for (path, token) in [("/x", Some(authorized)), ("/open", None)] {
                let fields: Vec<_> = wish.iter().copied().chain(token).collect();
                // Frames of the other protocol, as a client that hopes would send them, after the
                // answer and before it: settings, and a GET for /evil of HPACK's static table.
                let frames = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\
                    \0\0\x09\x01\x05\0\0\0\x01\x82\x86\x04\x05/evil";
                let mut once = None;
                for is_eager in [false, true] {
                    let (count, bytes) = (gate.workload.count(), gate.workload.bytes.get());
                    let mut caller = gate.caller().await;
                    let asked = get(path, &fields);
                    match is_eager {
                        true => caller.send([asked.as_bytes(), frames].concat()).await,
                        false => caller.send(asked).await,
                    }
                    let answer = caller.answer().await;
                    assert_eq!(answer.status, 200, "{fields:?}");
                    let seen = gate.workload.last();
                    for name in ["upgrade", "connection", "http2-settings"] {
                        assert!(!seen.head.has(name), "{fields:?}");
                    }
                    if !is_eager {
                        let _ = caller.try_send(frames).await;
                    }
                    let said = String::from_utf8_lossy(&caller.rest().await).into_owned();
                    assert!(
                        said.is_empty() || said.starts_with("HTTP/1.1 400"),
                        "{said}"
                    );
                    assert_eq!(gate.workload.count(), count + 1, "{fields:?}");
                    let came = gate.workload.bytes.get() - bytes;
                    assert_eq!(*once.get_or_insert(came), came, "{fields:?}");
                }
            }
        }
    });
}

#[test]
fn nothing_goes_through_before_the_workload_agrees() {
    real(async {
        let mut case = case(World::sockets(), "");
        let value = bearer(&token_of(&case.world, "alice"));
        let mut caller = case.gate.caller().await;
        let request = handshake("/ws", &[("Authorization", &value)]);
        // Bytes that a workload could take for a second request.
        let evil = "GET /evil HTTP/1.1\r\nHost: svc.example\r\nX-Regent-User: root\r\n\r\n";
        caller.send(request + evil).await;
        let mut behind = case.workload.accept().await;
        behind.request().await.expect("a handshake");
        let early = tokio::time::timeout(Duration::from_millis(200), behind.fill());
        assert!(early.await.is_err(), "it came before the 101");
        behind.send(answer(400, &[], "no")).await;
        assert_eq!(caller.answer().await.status, 400);
        // It was a request of its own, and is judged as one.
        let second = caller.answer().await;
        assert_eq!(second.reason(), "missing_token");
        let evil = tokio::time::timeout(Duration::from_millis(200), behind.fill()).await;
        assert!(!evil.unwrap_or(false), "the workload saw it");
    });
}

/// A frame with the text "still here", from a server and from a client (RFC 6455 section 5.7).
const FROM_SERVER: &[u8] = b"\x81\x0astill here";
const FROM_CLIENT: &[u8] = b"\x81\x8a\0\0\0\0still here";
/// How a close frame of status 1008 begins, unmasked.
const CLOSE: &[u8] = b"\x88\x15\x03\xf0the token";

/// What an upgraded connection with a token of 60 s and 30 s of leeway comes to.
struct Ended {
    /// Of the last byte, counted from the token's end. Milliseconds.
    late: i64,
    to_caller: Vec<u8>,
    to_workload: Vec<u8>,
}

/// `None`: it does not end. `unfinished` is sent to the caller a moment before.
async fn tunnel_ends(line: &str, protocol: &str, unfinished: &[u8]) -> Option<Ended> {
    let mut case = case(World::pipes(), line);
    let now = case.world.clock.unix();
    let token = Forge::home(now).claim("exp", now + 60).token();
    let request = handshake("/ws", &[("Authorization", &bearer(&token))]);
    let request = request.replace("Upgrade: websocket", &format!("Upgrade: {protocol}"));
    let (mut caller, mut behind, _) = tunnel(&mut case, &request).await;
    sleep(20 * SECOND).await;
    caller.send(FROM_CLIENT).await;
    behind.expect(FROM_CLIENT).await;
    behind.send(FROM_SERVER).await;
    caller.expect(FROM_SERVER).await;
    sleep(69 * SECOND).await;
    behind.send(unfinished).await;
    let end = Instant::now() + 600 * SECOND;
    let to_caller = tokio::time::timeout_at(end, caller.rest()).await.ok()?;
    let to_workload = tokio::time::timeout_at(end, behind.rest()).await.ok()?;
    Some(Ended {
        late: case.world.clock.unix_ms() - (now + 90) * 1000,
        to_caller,
        to_workload,
    })
}

#[test]
fn a_websocket_ends_with_its_token_and_both_sides_are_told() {
    paused(async {
        let line = "stream_lifetime = 'token'";
        let ended = tunnel_ends(line, "websocket", b"").await.expect("it ends");
        assert!((0..=1000).contains(&ended.late), "{} ms", ended.late);
        assert!(ended.to_caller.starts_with(CLOSE), "{:?}", ended.to_caller);
        assert_eq!(ended.to_caller.len(), 2 + 0x15);
        // A client's frame is masked.
        let [0x88, 0x95, mask @ ..] = &ended.to_workload[..] else {
            panic!("{:?}", ended.to_workload);
        };
        let (mask, payload) = mask.split_at(4);
        let plain = payload.iter().zip(mask.iter().cycle());
        let plain: Vec<u8> = plain.map(|(byte, key)| byte ^ key).collect();
        assert_eq!(plain, ended.to_caller[2..]);
    });
}

#[test]
fn a_close_frame_stands_between_two_frames_or_nowhere() {
    paused(async {
        let line = "stream_lifetime = 'token'";
        let half = &FROM_SERVER[..7];
        let ended = tunnel_ends(line, "websocket", half).await.expect("it ends");
        assert!((0..=1000).contains(&ended.late), "{} ms", ended.late);
        assert_eq!(ended.to_caller, half);
        let more = [FROM_SERVER, FROM_SERVER].concat();
        let ended = tunnel_ends(line, "websocket", &more)
            .await
            .expect("it ends");
        assert!(ended.to_caller.starts_with(&[&more, CLOSE].concat()));
    });
}

#[test]
fn what_is_no_websocket_is_cut_and_nothing_of_ours_is_in_it() {
    paused(async {
        let ended = tunnel_ends("stream_lifetime = 'token'", "other", b"").await;
        let ended = ended.expect("it ends");
        assert!((0..=1000).contains(&ended.late), "{} ms", ended.late);
        assert!(ended.to_caller.is_empty() && ended.to_workload.is_empty());
    });
}

#[test]
fn a_tunnel_outlives_its_token_by_default() {
    paused(async {
        for line in ["", "stream_lifetime = 'unlimited'"] {
            assert!(tunnel_ends(line, "websocket", b"").await.is_none());
        }
    });
}

/// Chunks of a streaming answer that came, one a second, and how it ended.
async fn stream(line: &str, path: &str, kind: &str) -> (usize, End) {
    let mut case = case(World::pipes(), line);
    let now = case.world.clock.unix();
    let token = Forge::home(now).claim("exp", now + 10).token();
    let mut caller = case.gate.caller().await;
    // One before it, whose token must not end the next answer.
    caller
        .send(get("/", &[("Authorization", &bearer(&token))]))
        .await;
    let mut behind = case.workload.accept().await;
    behind.request().await.expect("a request");
    behind.send(ok("")).await;
    caller.answer().await;
    let value = bearer(&token);
    let fields = [("Authorization", &*value)];
    let fields = if path == "/open" { &[][..] } else { &fields };
    caller.send(get(path, fields)).await;
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
    let head = caller.head().await.expect("an answer");
    assert!(head.line.contains(" 200 "));
    let (body, end) = caller.body(&head).await;
    (body.len() / 2, end)
}

#[test]
fn a_streaming_answer_ends_with_its_token_where_the_config_says_so() {
    paused(async {
        let line = "stream_lifetime = 'token'";
        let (seconds, end) = stream(line, "/", "application/json").await;
        assert_eq!(end, End::Cut, "it does not look whole");
        assert!((40..=42).contains(&seconds), "{seconds}");
        let whole = (100, End::Whole);
        assert_eq!(stream("", "/", "application/json").await, whole);
        assert_eq!(stream(line, "/open", "application/json").await, whole);
    });
}

/// Whoever listens to events takes no half one, and asks again.
#[test]
fn a_stream_of_events_ends_with_a_last_chunk() {
    paused(async {
        let line = "stream_lifetime = 'token'";
        for kind in ["text/event-stream", "Text/Event-Stream; charset=utf-8"] {
            let (seconds, end) = stream(line, "/", kind).await;
            assert_eq!(end, End::Whole, "{kind}");
            assert!((40..=42).contains(&seconds), "{seconds}");
            assert_eq!(stream("", "/", kind).await, (100, End::Whole));
        }
        let (_, end) = stream(line, "/", "text/event-stream2").await;
        assert_eq!(end, End::Cut);
    });
}

#[test]
fn a_stream_of_events_that_is_silent_ends_too() {
    paused(async {
        let mut case = case(World::pipes(), "stream_lifetime = 'token'");
        let now = case.world.clock.unix();
        let token = Forge::home(now).claim("exp", now + 10).token();
        let mut caller = case.gate.caller().await;
        let request = get("/", &[("Authorization", &bearer(&token))]);
        caller.send(&request).await;
        let mut behind = case.workload.accept().await;
        behind.request().await.expect("a request");
        let head = "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n";
        let head = format!("{head}Content-Type: text/event-stream\r\n\r\n");
        behind.send(head).await;
        let began = Instant::now();
        assert_eq!(caller.answer().await.text(), "");
        let took = began.elapsed();
        assert!((40 * SECOND..=41 * SECOND).contains(&took), "{took:?}");
        behind.expect_end().await;
        // The connection goes on, with another token.
        let answer = caller.ask(&request).await;
        assert_eq!(answer.reason(), "expired");
    });
}

/// Whoever is told 401 brings a new token and asks again, and the workload would do it twice.
#[test]
fn a_token_that_ends_before_the_answer_begins_costs_no_answer() {
    paused(async {
        let mut case = case(World::pipes(), "stream_lifetime = 'token'");
        let now = case.world.clock.unix();
        let token = Forge::home(now).claim("exp", now + 10).token();
        let mut caller = case.gate.caller().await;
        let value = bearer(&token);
        caller.send(get("/", &[("Authorization", &value)])).await;
        let mut behind = case.workload.accept().await;
        behind.request().await.expect("a request");
        sleep(100 * SECOND).await;
        behind.send(ok("done")).await;
        assert_eq!(caller.answer().await.text(), "done");
        // What streams from then on ends at once.
        let mut caller = case.gate.caller().await;
        let token = Forge::home(now + 100).claim("exp", now + 110).token();
        let value = bearer(&token);
        caller.send(get("/", &[("Authorization", &value)])).await;
        behind.request().await.expect("a request");
        sleep(100 * SECOND).await;
        behind
            .send("HTTP/1.1 200 X\r\nContent-Length: 4\r\n\r\nha")
            .await;
        let head = caller.head().await.expect("an answer");
        assert_eq!(caller.body(&head).await, (b"ha".to_vec(), End::Cut));
    });
}

#[test]
fn a_whole_answer_is_not_touched_by_the_end_of_its_token() {
    paused(async {
        let mut case = case(World::pipes(), "stream_lifetime = 'token'");
        let now = case.world.clock.unix();
        let token = Forge::home(now).claim("exp", now + 10).token();
        let mut caller = case.gate.caller().await;
        let request = get("/", &[("Authorization", &bearer(&token))]);
        caller.send(&request).await;
        let mut behind = case.workload.accept().await;
        behind.request().await.expect("a request");
        behind.send(ok("done")).await;
        assert_eq!(caller.answer().await.text(), "done");
        let began = Instant::now();
        sleep(60 * SECOND).await;
        // The connection itself is nobody's token.
        let answer = caller.ask(&request).await;
        assert_eq!((answer.status, answer.reason()), (401, "expired"));
        assert!(began.elapsed() < 61 * SECOND);
    });
}
