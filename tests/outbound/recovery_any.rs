//! Guard R2: an upstream that answers 401, 413 or 200 before, during or after the body, in all
//! interleavings: the caller gets the right answer, the next request is right, nothing is left open.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use proptest::prelude::*;
use regent::demo::region::{Fault, Kind};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::task::{JoinSet, spawn_local};

use super::support::*;

#[derive(Clone, Debug)]
struct Script {
    /// A pooled connection is there already.
    warm: bool,
    chunked: bool,
    /// The body's pieces, and the pause before each. Bytes and milliseconds.
    pieces: Vec<(usize, u64)>,
    limit: usize,
    /// How much of the body the upstream reads before it answers.
    reads: usize,
    status: u16,
    framing: Framing,
    /// Between the answer's head and its body. Milliseconds.
    pause: u64,
    then: Then,
    region: Answers,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Framing {
    Length,
    Chunked,
    UntilClose,
}

/// What the upstream does when it has answered.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    ReadOn,
    /// For ever, it would be a server that nobody can use twice.
    StopReadingAndClose,
    FinishAndReadOn,
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Answers {
    AtOnce,
    Late,
    WithAnError,
}

fn script() -> impl Strategy<Value = Script> {
    let pieces = prop::collection::vec(
        (
            prop_oneof![1..10_usize, 1000..2000_usize, 30_000..60_000_usize],
            prop_oneof![Just(0), 1..300_u64, 1000..4000_u64],
        ),
        0..5,
    );
    let framing = prop_oneof![
        Just(Framing::Length),
        Just(Framing::Chunked),
        Just(Framing::UntilClose)
    ];
    let then = prop_oneof![
        Just(Then::ReadOn),
        Just(Then::StopReadingAndClose),
        Just(Then::FinishAndReadOn),
        Just(Then::Close)
    ];
    let region = prop_oneof![
        3 => Just(Answers::AtOnce),
        2 => Just(Answers::Late),
        1 => Just(Answers::WithAnError)
    ];
    let request = (any::<bool>(), any::<bool>(), pieces);
    let limit = prop_oneof![Just(1500_usize), Just(64 * 1024), Just(1024 * 1024)];
    let answer = (
        prop_oneof![Just(0.0), 0.0..1.0, Just(1.0)],
        prop_oneof![2 => Just(401_u16), 1 => Just(413), 1 => Just(200)],
        framing,
        prop_oneof![Just(0), 1..3000_u64],
        then,
    );
    (request, limit, answer, region).prop_map(
        |((warm, chunked, pieces), limit, (share, status, framing, pause, then), region)| {
            let length: usize = pieces.iter().map(|(size, _)| size).sum();
            let ends = then == Then::FinishAndReadOn;
            Script {
                warm,
                chunked,
                limit,
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    clippy::cast_precision_loss,
                    reason = "a share of a small number"
                )]
                reads: (length as f64 * share) as usize,
                pieces,
                status,
                framing: match framing {
                    Framing::UntilClose if !ends => Framing::Length,
                    other => other,
                },
                pause,
                then,
                region,
            }
        },
    )
}

impl Script {
    fn length(&self) -> usize {
        self.pieces.iter().map(|(size, _)| size).sum()
    }

    /// The statuses that the caller may get.
    fn expected(&self) -> &'static [u16] {
        let can_recover = self.status == 401 && self.region != Answers::WithAnError;
        match (can_recover, self.length() <= self.limit, self.chunked) {
            (true, true, _) => &[200],
            // It depends on how much of the body had come.
            (true, false, true) => &[200, 401],
            _ if self.status == 401 => &[401],
            _ if self.status == 413 => &[413],
            _ => &[200],
        }
    }

    fn body(&self) -> Vec<u8> {
        (0..self.length()).map(letter).collect()
    }

    fn answer(&self) -> (String, String) {
        let head = format!("HTTP/1.1 {} X\r\n", self.status);
        match self.framing {
            Framing::Length => (format!("{head}content-length: 5\r\n\r\n"), "early".into()),
            Framing::Chunked => (
                format!("{head}transfer-encoding: chunked\r\n\r\n"),
                "5\r\nearly\r\n0\r\n\r\n".into(),
            ),
            Framing::UntilClose => (format!("{head}connection: close\r\n\r\n"), "early".into()),
        }
    }
}

fn letter(at: usize) -> u8 {
    b"abcdefghijklmnopqrstuvwxyz"[at % 26]
}

/// Answers one request on the first connection by the script, and all others with what they were. Each
/// connection is one of `tasks`.
async fn upstream(mut upstream: Upstream, script: Rc<Script>, tasks: Rc<RefCell<JoinSet<()>>>) {
    let mut first = true;
    loop {
        let mut peer = upstream.accept().await;
        let script = Rc::clone(&script);
        let scripted = std::mem::take(&mut first);
        tasks.borrow_mut().spawn_local(async move {
            if scripted {
                if script.warm {
                    peer.request().await.expect("a first request");
                    peer.send(ok("warm")).await;
                }
                if !play(&mut peer, &script).await {
                    return;
                }
            }
            serve(&mut peer).await;
        });
    }
}

async fn serve(peer: &mut Peer) {
    while let Some(request) = peer.request().await {
        if request.end == End::Cut {
            break;
        }
        let mut sum = format!("{} ", request.head.target()).into_bytes();
        sum.extend(&request.body);
        let head = format!("HTTP/1.1 200 X\r\ncontent-length: {}\r\n\r\n", sum.len());
        let _ = peer.try_send([head.as_bytes(), &sum].concat()).await;
    }
}

/// Whether the connection goes on after it.
async fn play(peer: &mut Peer, script: &Script) -> bool {
    let head = peer.head().await.expect("the request");
    let chunked = head.has("transfer-encoding");
    let mut came = 0;
    while came < script.reads {
        came += match chunked {
            true => peer.chunk().await.expect("a chunk").len(),
            false => {
                let step = (script.reads - came).min(1000);
                peer.take(step).await.expect("a body").len()
            }
        };
    }
    let (first, rest) = script.answer();
    peer.send(first).await;
    tokio::time::sleep(Duration::from_millis(script.pause)).await;
    // It may have been turned to somebody else meanwhile.
    if peer.try_send(rest).await.is_err() {
        return false;
    }
    match script.then {
        Then::Close => false,
        Then::StopReadingAndClose => {
            tokio::time::sleep(Duration::from_secs(5)).await;
            false
        }
        Then::FinishAndReadOn => {
            let _ = peer.io.shutdown().await;
            while peer.fill().await {
                peer.buffer.clear();
            }
            false
        }
        Then::ReadOn => {
            let mut left = script.length() - came;
            loop {
                let piece = match chunked {
                    true => peer.chunk().await,
                    false => peer.take(left.min(1000)).await,
                };
                match piece {
                    // It was cut, and looks like it.
                    None => return false,
                    Some(piece) if piece.is_empty() => break,
                    Some(piece) => left -= piece.len(),
                }
            }
            assert_eq!(left, 0, "it looked whole");
            true
        }
    }
}

fn nobody() -> Peer {
    Peer::new(regent::net::Io::Boxed(Box::new(tokio::io::empty())))
}

async fn write_body(mut io: impl AsyncWrite + Unpin, script: Rc<Script>) {
    let body = script.body();
    let mut at = 0;
    for (size, pause) in &script.pieces {
        tokio::time::sleep(Duration::from_millis(*pause)).await;
        let piece = &body[at..at + size];
        at += size;
        let written = match script.chunked {
            true => {
                let head = format!("{size:x}\r\n");
                io.write_all(&[head.as_bytes(), piece, b"\r\n"].concat())
                    .await
            }
            false => io.write_all(piece).await,
        };
        if written.is_err() {
            return;
        }
    }
    if script.chunked {
        let _ = io.write_all(b"0\r\n\r\n").await;
    }
    let _ = io.flush().await;
}

/// What came until the body of the first answer was whole.
async fn read_answer(mut io: impl AsyncRead + Unpin) -> (Answer, Vec<u8>) {
    let mut bytes = Vec::new();
    loop {
        let mut peer = nobody();
        peer.buffer = bytes.clone();
        if let Some(answer) = peer.try_answer().await
            && answer.end == End::Whole
        {
            return (answer, peer.buffer);
        }
        let mut room = vec![0; 64 * 1024];
        let read = io.read(&mut room).await.unwrap_or(0);
        assert!(
            read > 0,
            "cut: {}",
            String::from_utf8_lossy(&bytes[..bytes.len().min(300)])
        );
        bytes.extend_from_slice(&room[..read]);
    }
}

async fn holds(script: Script) {
    let world = World::pipes();
    let region = region(&world);
    let listener = Upstream::bind(&world);
    let sidecar = Setup::new(&world, listener.at)
        .region(&region)
        .set(format!("outbound.replay_body_limit={}B", script.limit))
        .start();
    let script = Rc::new(script);
    let upstream_tasks = Rc::default();
    spawn_local(upstream(
        listener,
        Rc::clone(&script),
        Rc::clone(&upstream_tasks),
    ));
    if script.warm {
        assert_eq!(sidecar.get("/warm").await.text(), "warm");
    }
    until(|| region.count(Kind::Refresh) == 1).await;
    match script.region {
        Answers::AtOnce => {}
        Answers::Late => region.change(|settings| settings.latency = Duration::from_secs(2)),
        Answers::WithAnError => {
            region.fail_next(1, Fault::Status(503, "{}".to_owned(), Vec::new()));
        }
    }
    let mut caller = sidecar.caller().await;
    let framed = match script.chunked {
        true => "Transfer-Encoding: chunked".to_owned(),
        false => format!("Content-Length: {}", script.length()),
    };
    let head = format!("POST /x HTTP/1.1\r\nHost: localhost\r\n{framed}\r\n\r\n");
    caller.send(head).await;
    let (reader, writer) = tokio::io::split(caller.io);
    let writing = spawn_local(write_body_back(writer, Rc::clone(&script)));
    let mut reader = reader;
    let (answer, mut behind) = read_answer(&mut reader).await;
    assert!(script.expected().contains(&answer.status), "{answer:?}");
    let mut echo = b"/x ".to_vec();
    echo.extend(script.body());
    let is_echo = answer.body == echo;
    assert!(is_echo || answer.body == b"early", "{:?}", answer.head);
    assert_eq!(is_echo, answer.status == 200 && script.status != 200);

    // The same connection, as far as it goes on.
    let mut writer = writing.await.expect("no panic");

    let ask = b"GET /next HTTP/1.1\r\nHost: localhost\r\n\r\n";
    if writer.write_all(ask).await.is_ok() {
        let mut room = vec![0; 4096];
        loop {
            let read = reader.read(&mut room).await.unwrap_or(0);
            behind.extend_from_slice(&room[..read]);
            if read == 0 || behind.ends_with(b"/next ") {
                break;
            }
        }
        let text = String::from_utf8_lossy(&behind).into_owned();
        let is_right =
            text.is_empty() || text.starts_with("HTTP/1.1 200") && text.ends_with("/next ");
        assert!(is_right, "{text}");
    } else {
        assert!(behind.is_empty(), "{}", String::from_utf8_lossy(&behind));
    }
    drop((reader, writer));
    // Any other one.
    for _ in 0..2 {
        assert_eq!(sidecar.get("/other").await.text(), "/other ");
    }
    // Longer than connections stay unused.
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert_eq!(world.dialled.load(Relaxed), 0, "upstream connections left");
    assert_eq!(sidecar.connections(), 0, "connections left");
    while let Some(ended) = upstream_tasks.borrow_mut().try_join_next() {
        ended.expect("a sound request");
    }
}

async fn write_body_back<W: AsyncWrite + Unpin>(mut io: W, script: Rc<Script>) -> W {
    write_body(&mut io, script).await;
    io
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whenever_an_upstream_answers_the_caller_is_right_and_nothing_is_left(script in script()) {
        paused(holds(script));
    }
}
