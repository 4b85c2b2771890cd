//! The frames of one direction of HTTP/2, by their heads (RFC 9113 section 4.1): payloads are skipped.

/// A frame, as far as it has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Of its payload. Bytes.
    pub length: u32,
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// The stream that it is about; 0: the connection.
    pub stream: u32,
    /// The first four bytes of its payload, and the next four: of a GOAWAY the last stream, and why.
    pub words: [u32; 2],
}

impl Frame {
    /// A piece of a body.
    pub const DATA: u8 = 0;
    /// The first piece of a head, or of trailers.
    pub const HEADERS: u8 = 1;
    /// The end of a stream.
    pub const RST_STREAM: u8 = 3;
    /// What a side asks of the other.
    pub const SETTINGS: u8 = 4;
    /// The end of a connection.
    pub const GOAWAY: u8 = 7;
    /// Room for more bodies.
    pub const WINDOW_UPDATE: u8 = 8;
    /// Another piece of a head.
    pub const CONTINUATION: u8 = 9;
    const PADDED: u8 = 8;

    /// The last frame of its stream.
    #[must_use]
    pub fn ends_stream(self) -> bool {
        matches!(self.kind, Frame::DATA | Frame::HEADERS) && self.flags & 1 != 0
    }

    /// The last frame of a head.
    #[must_use]
    pub fn ends_head(self) -> bool {
        matches!(self.kind, Frame::HEADERS | Frame::CONTINUATION) && self.flags & 4 != 0
    }

    /// A piece of a body without a byte of it, which does not end it either. h2 bears a hundred of them
    /// over a connection's whole life. Padding is no byte of it.
    #[must_use]
    pub fn is_empty_data(self) -> bool {
        let padding = match self.flags & Frame::PADDED {
            0 => 0,
            _ => 1 + (self.words[0] >> (8 * self.length.clamp(1, 4) - 8)),
        };
        self.kind == Frame::DATA && self.length <= padding && !self.ends_stream()
    }
}

/// What a frame comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its head is there.
    Begins(Frame),
    /// All of it is.
    Ends(Frame),
}

impl Event {
    /// A piece of a message is there, and not only a frame about one.
    #[must_use]
    pub fn carries(self) -> bool {
        let Event::Ends(frame) = self else {
            return false;
        };
        match frame.kind {
            Frame::DATA => !frame.is_empty_data(),
            Frame::HEADERS => true,
            _ => false,
        }
    }
}

const HEAD: usize = 9;

/// Follows the frames.
#[derive(Debug, Default)]
pub struct Heads {
    head: [u8; HEAD],
    have: usize,
    frame: Frame,
    /// Of the payload, still to come. Bytes.
    left: u32,
}

impl Heads {
    /// Whether the last frame has ended and the next one has not begun.
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.have == 0
    }

    /// Reads on.
    pub fn scan(&mut self, mut bytes: &[u8], mut each: impl FnMut(Event)) {
        while !bytes.is_empty() {
            if self.have < HEAD {
                let more = (HEAD - self.have).min(bytes.len());
                self.head[self.have..][..more].copy_from_slice(&bytes[..more]);
                self.have += more;
                bytes = &bytes[more..];
                if self.have < HEAD {
                    return;
                }
                self.begin();
                each(Event::Begins(self.frame));
            }
            let here = u32::try_from(bytes.len())
                .unwrap_or(u32::MAX)
                .min(self.left);
            let (payload, rest) = bytes.split_at(here as usize);
            let seen = self.frame.length - self.left;
            for (byte, at) in payload.iter().zip(seen..8) {
                let word = &mut self.frame.words[at as usize / 4];
                *word = *word << 8 | u32::from(*byte);
            }
            self.left -= here;
            bytes = rest;
            if self.left == 0 {
                self.have = 0;
                each(Event::Ends(self.frame));
            }
        }
    }

    fn begin(&mut self) {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = self.head;
        self.left = u32::from_be_bytes([0, l0, l1, l2]);
        self.frame = Frame {
            length: self.left,
            kind,
            flags,
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
            words: [0; 2],
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: &[u8] = b"\0\0\x08\x06\x01\0\0\0\0pingpong";
    const UPDATE: &[u8] = b"\0\0\x04\x08\0\x80\0\0\x05\0\0\x01\x02";
    const SETTINGS: &[u8] = b"\0\0\0\x04\x01\0\0\0\0";

    fn events(pieces: &[&[u8]]) -> Vec<Event> {
        let mut heads = Heads::default();
        let mut events = Vec::new();
        for piece in pieces {
            heads.scan(piece, |event| events.push(event));
        }
        events
    }

    #[test]
    fn frames_begin_and_end_whatever_the_reads() {
        let all = [PING, UPDATE, SETTINGS, PING].concat();
        let whole = events(&[&all]);
        let update = Frame {
            length: 4,
            kind: Frame::WINDOW_UPDATE,
            flags: 0,
            stream: 5,
            words: [0x102, 0],
        };
        assert_eq!(whole.len(), 8);
        assert_eq!(whole[3], Event::Ends(update));
        let begins = Frame {
            words: [0; 2],
            ..update
        };
        assert_eq!(whole[2], Event::Begins(begins));
        for cut in 1..all.len() {
            assert_eq!(events(&[&all[..cut], &all[cut..]]), whole, "{cut}");
        }
        let bytes: Vec<&[u8]> = all.chunks(1).collect();
        assert_eq!(events(&bytes), whole);
    }

    #[test]
    fn a_goaway_says_why_and_which_stream_was_the_last() {
        let goaway = b"\0\0\x09\x07\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\x0b?";
        for cut in 0..goaway.len() {
            let events = events(&[&goaway[..cut], &goaway[cut..]]);
            let Some(Event::Ends(frame)) = events.last() else {
                panic!("{events:?}")
            };
            assert_eq!(frame.words, [0x7fff_ffff, 11]);
        }
    }

    #[test]
    fn data_without_a_byte_of_a_body_is_empty_whatever_its_padding() {
        for (frame, is_empty) in [
            (&b"\0\0\0\0\0\0\0\0\x01"[..], true),
            (b"\0\0\0\0\x01\0\0\0\x01", false),
            (b"\0\0\x01\0\0\0\0\0\x01x", false),
            (b"\0\0\x01\0\x08\0\0\0\x01\0", true),
            (b"\0\0\x02\0\x08\0\0\0\x01\0x", false),
            (b"\0\0\x02\0\x08\0\0\0\x01\x01\0", true),
            (b"\0\0\x06\0\x08\0\0\0\x01\x05\0\0\0\0\0", true),
            (b"\0\0\x06\0\x08\0\0\0\x01\x04x\0\0\0\0", false),
            (b"\0\0\0\x04\0\0\0\0\0", false),
        ] {
            let [_, Event::Ends(whole)] = events(&[frame])[..] else {
                panic!("one frame")
            };
            assert_eq!(whole.is_empty_data(), is_empty, "{frame:?}");
        }
    }

    #[test]
    fn a_frame_without_its_payload_has_begun_and_not_ended() {
        let mut heads = Heads::default();
        assert!(heads.is_between());
        let mut ended = 0;
        heads.scan(&PING[..12], |event| {
            ended += usize::from(matches!(event, Event::Ends(_)));
        });
        assert!(!heads.is_between());
        heads.scan(&PING[12..], |event| {
            ended += usize::from(matches!(event, Event::Ends(_)));
        });
        assert!(heads.is_between());
        assert_eq!(ended, 1);
    }
}
