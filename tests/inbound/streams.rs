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

/// When a tunnel ends, counted from its token's own end, leeway included.
async fn tunnel_ends(line: &str) -> Option<i64> {
    let mut case = case(World::pipes(), line);
    let now = case.world.clock.unix();
    let token = Forge::home(now).claim("exp", now + 60).token();
    let request = handshake("/ws", &[("Authorization", &bearer(&token))]);
    let (mut caller, mut behind, _) = tunnel(&mut case, &request).await;
    sleep(20 * SECOND).await;
    caller.send("still here").await;
    behind.expect("still here").await;
    let ended = tokio::time::timeout(600 * SECOND, caller.fill()).await;
    let more = ended.ok()?;
    assert!(!more, "nothing was sent");
    behind.expect_end().await;
    Some(case.world.clock.unix_ms() - (now + 90) * 1000)
}

#[test]
fn a_tunnel_ends_with_its_token_where_the_config_says_so() {
    paused(async {
        let late = tunnel_ends("stream_lifetime = 'token'").await;
        let late = late.expect("it ends");
        assert!((0..=1000).contains(&late), "{late} ms");
    });
}

#[test]
fn a_tunnel_outlives_its_token_by_default() {
    paused(async {
        assert_eq!(tunnel_ends("").await, None);
        assert_eq!(tunnel_ends("stream_lifetime = 'unlimited'").await, None);
    });
}

/// Chunks of a streaming answer that came, one a second, and how it ended.
async fn stream(line: &str, path: &str) -> (usize, End) {
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
    let chunks = "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n";
    behind.send(chunks).await;
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
        let (seconds, end) = stream("stream_lifetime = 'token'", "/").await;
        assert_eq!(end, End::Cut, "it does not look whole");
        assert!((40..=42).contains(&seconds), "{seconds}");
        let whole = (100, End::Whole);
        assert_eq!(stream("", "/").await, whole);
        assert_eq!(stream("stream_lifetime = 'token'", "/open").await, whole);
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
