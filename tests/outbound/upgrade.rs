//! Upgraded connections: bytes after the upstream's 101 and only then, whole in both directions, and
//! every other wish for another protocol served as a plain request (cases.md, group L).

use std::sync::atomic::Ordering::Relaxed;

use regent::demo::region::Kind;
use tokio::task::spawn_local;

use super::support::*;

const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\n\
     Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
     Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

struct Case {
    world: World,
    upstream: Upstream,
    sidecar: Sidecar,
}

fn case() -> Case {
    let world = World::sockets();
    let upstream = Upstream::bind(&world);
    let sidecar = Setup::new(&world, upstream.at).start();
    Case {
        world,
        upstream,
        sidecar,
    }
}

/// A tunnel's two ends.
async fn tunnel(case: &mut Case) -> (Peer, Peer) {
    let mut caller = case.sidecar.caller().await;
    caller.send(HANDSHAKE).await;
    let mut above = case.upstream.accept().await;
    above.request().await.expect("a handshake");
    above.send(SWITCHING).await;
    let head = caller.head().await.expect("an answer");
    assert!(head.line.contains(" 101 "), "{head:?}");
    (caller, above)
}

#[test]
fn a_handshake_arrives_whole_and_with_the_token() {
    real(async {
        let mut case = case();
        let mut caller = case.sidecar.caller().await;
        caller.send(HANDSHAKE).await;
        let mut above = case.upstream.accept().await;
        let seen = above.request().await.expect("a handshake").head;
        assert_eq!(seen.get("upgrade"), Some("websocket"));
        assert_eq!(
            seen.get("connection")
                .map(str::to_ascii_lowercase)
                .as_deref(),
            Some("upgrade")
        );
        assert_eq!(seen.get("sec-websocket-version"), Some("13"));
        let bearer = format!("Bearer {}", case.sidecar.token);
        assert_eq!(seen.get("authorization"), Some(bearer.as_str()));
        above.send(SWITCHING).await;
        let head = caller.head().await.expect("an answer");
        assert_eq!(head.get("upgrade"), Some("websocket"));
        assert!(head.has("sec-websocket-accept"));
    });
}

#[test]
fn no_byte_passes_before_the_upstream_has_agreed() {
    real(async {
        let mut case = case();
        let mut caller = case.sidecar.caller().await;
        // A caller that does not wait for the 101.
        caller
            .send(HANDSHAKE.to_owned() + "GET /evil HTTP/1.1\r\n\r\n")
            .await;
        let mut above = case.upstream.accept().await;
        above.request().await.expect("a handshake");
        let more = tokio::time::timeout(std::time::Duration::from_millis(200), above.fill());
        assert!(more.await.is_err(), "bytes before the 101");
        // The 101, and bytes in the same write.
        above.send(SWITCHING.to_owned() + "hello").await;
        caller.head().await.expect("an answer");
        caller.expect("hello").await;
        above.expect("GET /evil HTTP/1.1\r\n\r\n").await;
    });
}

#[test]
fn ten_thousand_frames_come_back_as_they_were() {
    real(async {
        let mut case = case();
        let (mut caller, mut above) = tunnel(&mut case).await;
        let echo = spawn_local(async move {
            while above.fill().await {
                let bytes = std::mem::take(&mut above.buffer);
                above.send(bytes).await;
            }
            above.finish().await;
        });
        let mut expected = Vec::new();
        let mut frames: Vec<Vec<u8>> = Vec::new();
        for at in 0..10_000_u32 {
            let length = usize::try_from(at % 120).expect("small");
            let mut frame = vec![0x82, u8::try_from(length).expect("small")];
            frame.extend(at.to_be_bytes().iter().cycle().take(length));
            expected.extend_from_slice(&frame);
            frames.push(frame);
        }
        // One by one for a while, then as fast as it goes.
        for frame in &frames[..500] {
            caller.send(frame).await;
            assert_eq!(caller.take(frame.len()).await.as_ref(), Some(frame));
        }
        let rest = frames[500..].concat();
        let (mut reader, mut writer) = tokio::io::split(caller.io);
        let writing = spawn_local(async move {
            use tokio::io::AsyncWriteExt as _;
            for piece in rest.chunks(777) {
                writer.write_all(piece).await.expect("open");
            }
            writer.shutdown().await.expect("open");
        });
        let mut got: Vec<u8> = frames[..500].concat();
        tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut got)
            .await
            .expect("a clean end");
        writing.await.expect("no panic");
        echo.await.expect("no panic");
        assert!(got == expected);
        until(|| case.sidecar.connections() == 0).await;
        until(|| case.world.dialled.load(Relaxed) == 0).await;
    });
}

#[test]
fn each_half_closes_for_itself() {
    real(async {
        let mut case = case();
        let (mut caller, mut above) = tunnel(&mut case).await;
        caller.send("last words").await;
        caller.finish().await;
        assert_eq!(above.rest().await, b"last words");
        above.send("an answer to that").await;
        caller.expect("an answer to that").await;
        above.finish().await;
        caller.expect_end().await;
        let (mut caller, mut above) = tunnel(&mut case).await;
        above.send("bye").await;
        above.finish().await;
        assert_eq!(caller.rest().await, b"bye");
        caller.send("still here").await;
        above.expect("still here").await;
        caller.finish().await;
        above.expect_end().await;
        until(|| case.sidecar.connections() == 0).await;
    });
}

#[test]
fn where_one_side_goes_the_other_goes_too() {
    real(async {
        let mut case = case();
        let (caller, mut above) = tunnel(&mut case).await;
        drop(caller);
        above.expect_end().await;
        drop(above);
        let (mut caller, above) = tunnel(&mut case).await;
        drop(above);
        caller.expect_end().await;
        drop(caller);
        until(|| case.sidecar.connections() == 0).await;
        until(|| case.world.dialled.load(Relaxed) == 0).await;
    });
}

/// The answer came before the request's end, and the rest of the body went nowhere.
#[test]
fn a_tunnel_behind_an_unread_body_is_forgotten_when_it_ends() {
    paused(async {
        let world = World::pipes();
        let mut upstream = Upstream::bind(&world);
        let sidecar = Setup::new(&world, upstream.at).start();
        let mut caller = sidecar.caller().await;
        let rest = 12_000;
        let head = "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length:";
        caller.send(format!("{head} {}\r\n\r\n.", 1 + rest)).await;
        let mut above = upstream.accept().await;
        above.head().await.expect("a head");
        above.send(ok("early")).await;
        drop(above);
        assert_eq!(caller.answer().await.text(), "early");
        // Some of it fails to be written, which ends the upload, and hyper discards what is left.
        caller.send(vec![b'.'; rest]).await;
        settle().await;
        caller.send(HANDSHAKE).await;
        let mut above = upstream.accept().await;
        above.request().await.expect("a handshake");
        above.send(SWITCHING).await;
        let head = caller.head().await.expect("an answer");
        assert!(head.line.contains(" 101 "), "{head:?}");
        // Each half for itself, and in its own time.
        above.finish().await;
        caller.expect_end().await;
        tokio::time::sleep(std::time::Duration::from_secs(10)).await;
        caller.send("still here").await;
        above.expect("still here").await;
        drop((caller, above));
        until(|| sidecar.connections() == 0).await;
        assert_eq!(world.dialled.load(Relaxed), 0);
    });
}

#[test]
fn an_upstream_that_declines_is_heard() {
    real(async {
        let mut case = case();
        let mut caller = case.sidecar.caller().await;
        for (status, body) in [(400, "no"), (426, "newer"), (200, "plain")] {
            caller.send(HANDSHAKE).await;
            let mut above = case.upstream.accept().await;
            above.request().await.expect("a handshake");
            above
                .send(answer(status, &[("connection", "close")], body))
                .await;
            let got = caller.answer().await;
            assert_eq!((got.status, got.text().as_str()), (status, body));
        }
    });
}

#[test]
fn a_101_that_nobody_asked_for_is_a_502() {
    real(async {
        let mut case = case();
        for request in [
            "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
            "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi",
        ] {
            let mut caller = case.sidecar.caller().await;
            caller.send(request).await;
            let mut above = case.upstream.accept().await;
            above.request().await.expect("a request");
            above.send(SWITCHING.to_owned() + "tunnelled").await;
            let got = caller.answer().await;
            assert_eq!(got.status, 502, "{request}");
            assert_eq!(got.reason(), "upstream_protocol");
            above.expect_end().await;
        }
        until(|| case.world.dialled.load(Relaxed) == 0).await;
    });
}

#[test]
fn other_wishes_are_plain_requests() {
    real(async {
        let world = World::sockets();
        let upstream = Upstream::bind(&world);
        let sidecar = Setup::new(&world, upstream.at).start();
        let recorder = upstream.echo();
        let get = "GET /x HTTP/1.1\r\nHost: localhost\r\n";
        for request in [
            format!("{get}Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"),
            format!("{get}Connection: upgrade\r\nUpgrade: H2C\r\n\r\n"),
            format!("{get}Connection: upgrade\r\nUpgrade: foo, websocket\r\n\r\n"),
            format!("{get}Connection: upgrade\r\nUpgrade: foo\r\nUpgrade: websocket\r\n\r\n"),
            format!("{get}Upgrade: websocket\r\n\r\n"),
            format!("{get}Connection: upgrade\r\n\r\n"),
            format!("{get}Connection: upgrade\r\nUpgrade:\r\n\r\n"),
            "GET /x HTTP/1.0\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n".to_owned(),
            "POST /x HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nhi".to_owned(),
            "POST /x HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n".to_owned(),
            format!("{get}Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nhi"),
        ] {
            let got = sidecar.ask(&request).await;
            assert_eq!(got.status, 200, "{request}");
            let seen = recorder.last();
            assert!(!seen.head.has("upgrade"), "{request}");
            assert!(!seen.head.has("connection"), "{request}");
            assert!(!seen.head.has("http2-settings"), "{request}");
            let has_body = request.ends_with("hi");
            assert_eq!(seen.body.len(), if has_body { 2 } else { 0 }, "{request}");
        }
    });
}

#[test]
fn a_handshake_that_meets_a_revoked_token_succeeds_all_the_same() {
    paused(async {
        let world = World::pipes();
        let region = region(&world);
        let mut upstream = Upstream::bind(&world);
        let sidecar = Setup::new(&world, upstream.at).region(&region).start();
        let mut caller = sidecar.caller().await;
        caller.send(HANDSHAKE).await;
        let mut above = upstream.accept().await;
        let first = above.request().await.expect("a handshake").head;
        above.send(answer(401, &[], "no")).await;
        let mut above = upstream.accept().await;
        let second = above.request().await.expect("a handshake").head;
        assert_ne!(first.get("authorization"), second.get("authorization"));
        assert_eq!(second.get("upgrade"), Some("websocket"));
        above.send(SWITCHING).await;
        caller.head().await.expect("an answer");
        caller.send("hi").await;
        above.expect("hi").await;
        assert_eq!(region.count(Kind::Refresh), 2);
    });
}
