//! Where WebSocket frames begin and end (RFC 6455 section 5.2), so that one of ours can stand between
//! two of them. Nothing else of a frame is looked at.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The status code 1008, policy violation (RFC 6455 section 7.4.1), and why.
const STATUS: [u8; 2] = 1008_u16.to_be_bytes();
const WHY: &[u8] = b"the token has ended";

/// The close frame that a server sends; with a mask, the one that a client sends.
pub(super) fn close(mask: Option<[u8; 4]>) -> Vec<u8> {
    let payload = STATUS.iter().chain(WHY);
    let length = u8::try_from(STATUS.len() + WHY.len()).expect("a control frame has 125 at most");
    match mask {
        None => [0x88, length].iter().chain(payload).copied().collect(),
        Some(mask) => {
            let masked = payload
                .zip(mask.iter().cycle())
                .map(|(byte, key)| byte ^ key);
            let head = [0x88, 0x80 | length].into_iter().chain(mask);
            head.chain(masked).collect()
        }
    }
}

/// The frame that a stream of bytes is in.
#[derive(Clone, Copy, Debug, Default)]
struct Frame {
    head: [u8; 10],
    /// Bytes of the head that have come.
    have: usize,
    /// Bytes of mask and payload that are still to come.
    left: u64,
}

impl Frame {
    /// Takes bytes up to the frame's end; how many those are.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while self.left == 0 {
            let Some(byte) = bytes.get(taken) else {
                return taken;
            };
            self.head[self.have] = *byte;
            self.have += 1;
            taken += 1;
            let Some(length) = self.length() else {
                continue;
            };
            self.left = length;
            if length == 0 {
                self.have = 0;
                return taken;
            }
        }
        let here = (bytes.len() - taken).min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= here as u64;
        if self.left == 0 {
            self.have = 0;
        }
        taken + here
    }

    /// Mask and payload, once the head says how long they are.
    fn length(&self) -> Option<u64> {
        let [_, second, extended @ ..] = &self.head;
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        let payload = match (second & 0x7f, self.have) {
            (_, 0 | 1) => return None,
            (126, 4) => u64::from(u16::from_be_bytes([extended[0], extended[1]])),
            (127, 10) => u64::from_be_bytes(*extended),
            (126 | 127, _) => return None,
            (short, _) => u64::from(short),
        };
        Some(payload.saturating_add(mask))
    }

    fn is_between(&self) -> bool {
        self.have == 0
    }
}

/// What was written to a stream, by frames.
#[derive(Debug, Default)]
pub(super) struct Written {
    frame: Cell<Frame>,
    is_ending: Cell<bool>,
}

impl Written {
    /// Nothing more is written than the rest of the frame at hand.
    pub(super) fn end(&self) {
        self.is_ending.set(true);
    }

    /// Whether another frame may begin.
    pub(super) fn is_between(&self) -> bool {
        self.frame.get().is_between()
    }
}

/// A stream that tells what is written to it.
pub(super) struct Framed<T> {
    /// The stream.
    pub(super) io: T,
    written: Rc<Written>,
}

impl<T> Framed<T> {
    pub(super) fn new(io: T) -> (Framed<T>, Rc<Written>) {
        let written = Rc::default();
        let shared = Rc::clone(&written);
        (Framed { io, written }, shared)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Framed<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut frame = self.written.frame.get();
        if self.written.is_ending.get() {
            if frame.is_between() {
                // Whoever ended it looks after every turn.
                return Poll::Pending;
            }
            let end = { frame }.take(buf);
            buf = &buf[..end];
        }
        let count = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        let mut rest = &buf[..count];
        while !rest.is_empty() {
            let taken = frame.take(rest);
            rest = &rest[taken..];
        }
        self.written.frame.set(frame);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Framed<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame of this length, masked or not, with a payload that looks like heads.
    fn frame(length: usize, masked: bool) -> Vec<u8> {
        let bit = if masked { 0x80 } else { 0 };
        let mut bytes = vec![0x82];
        match length {
            0..=125 => bytes.push(bit | u8::try_from(length).expect("short")),
            126..=0xffff => {
                bytes.push(bit | 126);
                let length = u16::try_from(length).expect("16 bits");
                bytes.extend(length.to_be_bytes());
            }
            _ => {
                bytes.push(bit | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend([0x88; 4].iter().take(if masked { 4 } else { 0 }));
        bytes.resize(bytes.len() + length, 0x81);
        bytes
    }

    proptest! {
        #[test]
        fn every_frame_is_taken_to_its_end_however_it_is_cut(
            frames in prop::collection::vec((prop_oneof![0..200_usize, 65_530..65_540_usize], any::<bool>()), 1..5),
            cuts in prop::collection::vec(1..70_000_usize, 1..20),
        ) {
            let mut state = Frame::default();
            for (length, masked) in frames {
                let bytes = frame(length, masked);
                let mut rest = &bytes[..];
                for cut in cuts.iter().cycle() {
                    let (now, later) = rest.split_at((*cut).min(rest.len()));
                    prop_assert_eq!(state.take(now), now.len());
                    prop_assert_eq!(state.is_between(), later.is_empty());
                    rest = later;
                    if rest.is_empty() {
                        break;
                    }
                }
            }
            // What follows a frame is not taken with it.
            let two = [frame(7, true), frame(300, false)].concat();
            prop_assert_eq!(state.take(&two), frame(7, true).len());
        }
    }

    #[test]
    fn a_close_frame_is_one_frame_with_its_status() {
        for mask in [None, Some([1, 2, 3, 4])] {
            let bytes = close(mask);
            let mut frame = Frame::default();
            assert_eq!(frame.take(&bytes), bytes.len());
            assert!(frame.is_between());
            assert_eq!(bytes[0], 0x88);
        }
        assert_eq!(close(None)[2..4], [0x03, 0xf0]);
        assert_eq!(close(Some([1, 2, 3, 4]))[6..8], [0x03 ^ 1, 0xf0 ^ 2]);
    }
}
