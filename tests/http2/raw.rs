//! A caller that sends whatever frames a test makes, and reads the heads of those that come.

use regent::net::Io;
use tokio::io::AsyncWriteExt as _;

pub(crate) use crate::frames::{
    ACK, CANCEL, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, NO_ERROR, PING,
    REFUSED_STREAM, RST_STREAM, SETTINGS, WINDOW_UPDATE,
};
use crate::support::Peer;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const PRIORITY: u8 = 2;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

pub(crate) fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let pairs = pairs.iter();
    let payload = pairs.flat_map(|(id, value)| {
        let (id, value) = (id.to_be_bytes(), value.to_be_bytes());
        id.into_iter().chain(value)
    });
    frame(SETTINGS, 0, 0, &payload.collect::<Vec<u8>>())
}

pub(crate) fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

pub(crate) fn window_update(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

pub(crate) fn ping() -> Vec<u8> {
    frame(PING, 0, 0, b"pingpong")
}

/// A head's block: every field a literal, without Huffman's code, without an index.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    let text = |text: &str, block: &mut Vec<u8>| {
        let bytes = text.as_bytes();
        match bytes.len() {
            short @ 0..127 => block.push(short as u8),
            long => {
                block.push(127);
                let mut rest = long - 127;
                while rest >= 128 {
                    block.push((rest % 128) as u8 | 128);
                    rest /= 128;
                }
                block.push(rest as u8);
            }
        }
        block.extend(bytes);
    };
    for (name, value) in fields {
        block.push(0);
        text(name, &mut block);
        text(value, &mut block);
    }
    block
}

pub(crate) const GET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/x"),
    (":authority", "localhost"),
];

/// A head in one frame.
pub(crate) fn head(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, &block(fields))
}

/// A GET for `/x`.
pub(crate) fn get(stream: u32) -> Vec<u8> {
    head(stream, END_STREAM, &GET)
}

/// A POST to `/x`, of which this is the head.
pub(crate) fn post(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    let fields = [&[(":method", "POST")], &GET[1..], more].concat();
    head(stream, 0, &fields)
}

pub(crate) struct Raw(pub(crate) Peer);

impl Raw {
    /// After the preface and these settings.
    pub(crate) async fn new(mut peer: Peer, pairs: &[(u16, u32)]) -> Raw {
        peer.send([PREFACE, &settings(pairs)].concat()).await;
        Raw(peer)
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.send(bytes).await;
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let head = self.0.take(9).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let payload = self.0.take(length as usize).await?;
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream,
            payload,
        })
    }

    /// The next frame of this kind, whatever comes before it.
    pub(crate) async fn expect(&mut self, kind: u8) -> Frame {
        let mut others = Vec::new();
        loop {
            match self.next().await {
                Some(frame) if frame.kind == kind => return frame,
                Some(frame) => others.push((frame.kind, frame.stream)),
                None => panic!("no frame of kind {kind}, but {others:?}"),
            }
        }
    }

    /// Everything until the other side closes.
    pub(crate) async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        frames
    }

    /// The code of the last GOAWAY before the end.
    pub(crate) async fn farewell(&mut self) -> Option<u32> {
        let frames = self.rest().await;
        let last = frames.iter().rfind(|frame| frame.kind == GOAWAY);
        last.map(Frame::number)
    }

    /// Sends these until the other side closes, and answers the code of its last GOAWAY. What comes is
    /// read beside that.
    pub(crate) async fn flood(self, pieces: impl Iterator<Item = Vec<u8>>) -> Option<u32> {
        let Raw(Peer { io, buffer, .. }) = self;
        let (reading, mut writing) = tokio::io::split(io);
        let sending = async {
            for piece in pieces {
                if writing.write_all(&piece).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
            panic!("it went on");
        };
        let mut peer = Peer::new(Io::Boxed(Box::new(tokio::io::join(
            reading,
            tokio::io::sink(),
        ))));
        peer.buffer = buffer;
        let mut raw = Raw(peer);
        tokio::join!(raw.farewell(), sending).0
    }
}
