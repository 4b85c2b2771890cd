//! Who does not read gets no more than a window, and holds up nobody else.

use super::frames::*;
use super::server::serve;
use super::{GET, begun, start};
use crate::support::*;

/// An answer without an end, as far as its windows go.
struct Endless {
    stream: u32,
    left: usize,
}

impl Endless {
    async fn send_all_it_may(&mut self, wire: &mut Wire) -> usize {
        let mut sent = 0;
        while self.left > 0 {
            let size = self.left.min(16_384);
            wire.data(self.stream, vec![b'x'; size], 0).await;
            self.left -= size;
            sent += size;
        }
        sent
    }
}

#[test]
fn an_answer_that_is_not_read_stays_with_the_upstream() {
    real(async {
        let world = World::sockets();
        let (mut upstream, sidecar) = start(&world, &[]);
        let mut slow = sidecar.caller().await;
        slow.send(GET).await;
        let mut wire = Wire::accept(&mut upstream, &[]).await;
        let stream = wire.request().await;
        wire.head_ok(stream).await;
        let window = wire.window;
        let mut answer = Endless {
            stream,
            left: window,
        };
        let mut sent = 0;
        // Until nothing more is asked for: what the sockets towards the caller take, and one window.
        loop {
            sent += answer.send_all_it_may(&mut wire).await;
            assert!(sent < 64 * window, "it takes all there is");
            let wait = std::time::Duration::from_secs(1);
            match tokio::time::timeout(wait, wire.any()).await {
                Err(_) => break,
                Ok(frame) => {
                    let frame = frame.expect("it lasts");
                    if (frame.kind, frame.stream) == (WINDOW_UPDATE, stream) {
                        answer.left += frame.number() as usize;
                    }
                }
            }
        }
        // Others share the connection, and are not held up.
        let mut other = sidecar.caller().await;
        other.send(GET).await;
        let stream = wire.request().await;
        wire.ok(stream, "fine").await;
        assert_eq!(other.answer().await.text(), "fine");
        // It goes on where it stopped.
        slow.head().await.expect("a head");
        let mut read = 0;
        while read < sent {
            read += slow.chunk().await.expect("more").len();
        }
        assert_eq!(read, sent);
    });
}

#[test]
fn an_answer_of_many_windows_passes_whole() {
    real(async {
        let world = World::sockets();
        let (upstream, sidecar) = start(&world, &[]);
        // More than the window of the connection, at the most, and not the same everywhere.
        let length = 110 << 20;
        let byte = |at: usize| (at % 251) as u8;
        let body: bytes::Bytes = (0..length).map(byte).collect();
        serve(upstream, move |asked| {
            asked.answer(http::Response::new(()), body.clone());
        });
        let answer = sidecar.get("/x").await;
        assert_eq!(answer.body.len(), length);
        assert!((0..length).all(|at| answer.body[at] == byte(at)));
    });
}

#[test]
fn many_who_do_not_read_hold_up_nobody_else() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = start(&world, &[]);
        let mut slow = Vec::new();
        let (mut first, mut wire, stream) = begun(&mut upstream, &sidecar, GET).await;
        wire.ok(stream, "").await;
        first.answer().await;
        for _ in 0..50 {
            let mut caller = sidecar.caller().await;
            caller.send(GET).await;
            let stream = wire.request().await;
            wire.head_ok(stream).await;
            let mut answer = Endless {
                stream,
                left: wire.window,
            };
            answer.send_all_it_may(&mut wire).await;
            slow.push(caller);
        }
        let mut other = sidecar.caller().await;
        other.send(GET).await;
        let stream = wire.request().await;
        wire.head_ok(stream).await;
        wire.data(stream, vec![b'y'; 16_384], END_STREAM).await;
        assert_eq!(other.answer().await.body.len(), 16_384);
    });
}

#[test]
fn an_upload_waits_for_the_upstream() {
    real(async {
        let world = World::sockets();
        let (mut upstream, sidecar) = start(&world, &[]);
        let mut caller = sidecar.caller().await;
        let length = 8 << 20;
        caller
            .send(format!(
                "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
            ))
            .await;
        let mut wire = Wire::accept(&mut upstream, &[]).await;
        let stream = wire.request().await;
        let Peer { io, .. } = caller;
        let (mut answers, mut bodies) = tokio::io::split(io);
        let sent = std::rc::Rc::new(std::cell::Cell::new(0));
        let so_far = std::rc::Rc::clone(&sent);
        tokio::task::spawn_local(async move {
            use tokio::io::AsyncWriteExt as _;
            let piece = vec![b'b'; 16_384];
            while so_far.get() < length && bodies.write_all(&piece).await.is_ok() {
                so_far.set(so_far.get() + piece.len());
            }
        });
        let mut came = 0;
        while came < 65_535 {
            came += wire.frame().await.expect("data").payload.len();
        }
        let mut before = 0;
        while before != sent.get() {
            before = sent.get();
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        }
        assert!(before < length, "all of it was taken");
        while came < length {
            let more = 65_535_u32.to_be_bytes();
            wire.send(WINDOW_UPDATE, 0, stream, &more).await;
            wire.send(WINDOW_UPDATE, 0, 0, &more).await;
            let mut here = 0;
            while here < 65_535 && came < length {
                let size = wire.frame().await.expect("data").payload.len();
                here += size;
                came += size;
            }
        }
        wire.ok(stream, "got it").await;
        let mut head = vec![0; 12];
        tokio::io::AsyncReadExt::read_exact(&mut answers, &mut head)
            .await
            .expect("an answer");
        assert_eq!(head, b"HTTP/1.1 200");
    });
}
