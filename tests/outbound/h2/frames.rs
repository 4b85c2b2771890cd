//! An upstream that speaks HTTP/2 frame by frame, so that it can say what no library says.

use std::collections::HashSet;

use crate::support::*;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const INTERNAL_ERROR: u32 = 2;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const HTTP_1_1_REQUIRED: u32 = 13;

pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;

/// The status 200 and 413, by HPACK's static table and as a literal.
const OK: &[u8] = &[0x88];
const TOO_LARGE: &[u8] = b"\x08\x03413";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn ends(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// What a frame of settings says of this one.
    fn setting(&self, wanted: u16) -> Option<u32> {
        let pairs = self.payload.chunks_exact(6);
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | u32::from(*byte))
        };
        pairs
            .rev()
            .find_map(|pair| (number(&pair[..2]) == u32::from(wanted)).then(|| number(&pair[2..])))
    }

    /// A number at the end of the payload: the code of RST_STREAM and GOAWAY, the size of a window.
    pub(crate) fn number(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        let four = self.payload[at..at + 4].try_into().expect("four bytes");
        u32::from_be_bytes(four)
    }
}

/// One connection.
pub(crate) struct Wire {
    pub(crate) peer: Peer,
    /// Streams that were begun.
    begun: HashSet<u32>,
    /// It has said its own settings, which come before everything else.
    has_spoken: bool,
    /// It owes acknowledgements.
    owes: usize,
    /// What may be sent on a stream, as the other side's settings have it.
    pub(crate) window: usize,
}

impl Wire {
    /// Takes the next connection and says its settings.
    pub(crate) async fn accept(upstream: &mut Upstream, settings: &[(u16, u32)]) -> Wire {
        let mut wire = Wire::silent(upstream).await;
        wire.settings(settings).await;
        wire
    }

    /// Takes the next connection and says nothing.
    pub(crate) async fn silent(upstream: &mut Upstream) -> Wire {
        let mut peer = upstream.accept().await;
        peer.expect("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        Wire {
            peer,
            begun: HashSet::new(),
            has_spoken: false,
            owes: 0,
            window: 65_535,
        }
    }

    pub(crate) async fn settings(&mut self, settings: &[(u16, u32)]) {
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        self.send(SETTINGS, 0, 0, &payload).await;
        self.has_spoken = true;
        self.acknowledge().await;
    }

    async fn acknowledge(&mut self) {
        while self.has_spoken && self.owes > 0 {
            self.owes -= 1;
            self.send(SETTINGS, ACK, 0, &[]).await;
        }
    }

    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len())
            .expect("a length")
            .to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        self.peer.send(bytes).await;
    }

    /// The next frame of any kind.
    pub(crate) async fn any(&mut self) -> Option<Frame> {
        let head = self.peer.take(9).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload: self.peer.take(length as usize).await?,
        })
    }

    /// The next frame about a stream, or the end of the connection by GOAWAY. `None`: the connection
    /// ended.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        loop {
            let frame = self.any().await?;
            match frame.kind {
                SETTINGS if frame.flags & ACK == 0 => {
                    self.owes += 1;
                    let window = frame.setting(INITIAL_WINDOW_SIZE);
                    self.window = window.map_or(self.window, |window| window as usize);
                    self.acknowledge().await;
                }
                PING if frame.flags & ACK == 0 => {
                    self.send(PING, ACK, 0, &frame.payload).await;
                }
                SETTINGS | PING | WINDOW_UPDATE => {}
                _ => return Some(frame),
            }
        }
    }

    /// The stream of the next request.
    pub(crate) async fn request(&mut self) -> u32 {
        let stream = self.head().await.stream;
        self.begun.insert(stream);
        stream
    }

    /// Whether a request came over this stream.
    pub(crate) fn begun(&self, stream: u32) -> bool {
        self.begun.contains(&stream)
    }

    /// The next head; what comes of bodies meanwhile is dropped.
    pub(crate) async fn head(&mut self) -> Frame {
        loop {
            let frame = self.frame().await.expect("a head before the end");
            match frame.kind {
                HEADERS => return frame,
                DATA => {}
                _ => panic!("no head: {frame:?}"),
            }
        }
    }

    /// A request's body to its end.
    pub(crate) async fn body(&mut self, stream: u32) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let frame = self.frame().await.expect("more of the body");
            assert_eq!((frame.kind, frame.stream), (DATA, stream), "{frame:?}");
            body.extend(&frame.payload);
            if frame.ends() {
                return body;
            }
        }
    }

    pub(crate) async fn head_ok(&mut self, stream: u32) {
        self.send(HEADERS, END_HEADERS, stream, OK).await;
    }

    /// A whole answer.
    pub(crate) async fn ok(&mut self, stream: u32, body: &str) {
        self.head_ok(stream).await;
        self.data(stream, body, END_STREAM).await;
    }

    /// A 413 without a body.
    pub(crate) async fn too_large(&mut self, stream: u32) {
        let flags = END_HEADERS | END_STREAM;
        self.send(HEADERS, flags, stream, TOO_LARGE).await;
    }

    pub(crate) async fn data(&mut self, stream: u32, data: impl AsRef<[u8]>, flags: u8) {
        self.send(DATA, flags, stream, data.as_ref()).await;
    }

    pub(crate) async fn reset(&mut self, stream: u32, code: u32) {
        self.send(RST_STREAM, 0, stream, &code.to_be_bytes()).await;
    }

    pub(crate) async fn go_away(&mut self, last: u32, code: u32) {
        let mut payload = last.to_be_bytes().to_vec();
        payload.extend(code.to_be_bytes());
        payload.extend(b"private");
        self.send(GOAWAY, 0, 0, &payload).await;
    }

    /// The next frame is a reset of this stream; its code.
    pub(crate) async fn expect_reset(&mut self, stream: u32) -> u32 {
        loop {
            let frame = self.frame().await.expect("a reset before the end");
            if frame.kind != DATA {
                assert_eq!(
                    (frame.kind, frame.stream),
                    (RST_STREAM, stream),
                    "{frame:?}"
                );
                return frame.number();
            }
        }
    }

    /// The connection ends in an orderly way.
    pub(crate) async fn expect_farewell(&mut self) {
        let mut frame = self.frame().await.expect("a GOAWAY before the end");
        while frame.kind == DATA {
            frame = self.frame().await.expect("a GOAWAY before the end");
        }
        assert_eq!((frame.kind, frame.number()), (GOAWAY, NO_ERROR));
        assert!(self.frame().await.is_none());
    }
}
