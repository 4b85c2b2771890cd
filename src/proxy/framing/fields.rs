//! The lines of a head or of trailers, up to the empty one.

use super::{CR, LF, Violation, is_token, odd, text, usual};

const LENGTH: &[u8] = b"content-length";
const CODING: &[u8] = b"transfer-encoding";
const CHUNKED: &[u8] = b"chunked";
/// No honest body has more digits in its length, and 64 bits hold these.
const DIGITS: u8 = 18;

/// A field section, and what it says about the framing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fields {
    state: State,
    /// `Content-Length`.
    pub(super) length: Option<u64>,
    /// `Transfer-Encoding: chunked`.
    pub(super) chunked: bool,
    /// The name at hand has another character where a dash belongs.
    disguised: bool,
    is_trailers: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// At a line's first byte.
    #[default]
    Line,
    /// In a name that may become one of the two; so many bytes of it are right.
    Known(Known, u8),
    /// In any other name.
    Name,
    /// In any other value.
    Value,
    /// In the value of `Content-Length`, after so many digits.
    Digits(u8),
    /// In the value of `Transfer-Encoding`, after so many letters.
    Coding(u8),
    /// Blanks after either.
    Blanks,
    /// After a line's CR.
    Lf,
    /// After the empty line's CR.
    LastLf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Length,
    Coding,
}

impl Known {
    const fn name(self) -> &'static [u8] {
        match self {
            Known::Length => LENGTH,
            Known::Coding => CODING,
        }
    }
}

impl Fields {
    /// Those behind a body, which say nothing about the framing: they are dropped.
    pub(super) fn trailers() -> Fields {
        Fields {
            is_trailers: true,
            ..Fields::default()
        }
    }

    /// Reads on from `at`. `true` after the empty line; at a violation, `at` is where it is.
    pub(super) fn scan(&mut self, bytes: &[u8], at: &mut usize) -> Result<bool, Violation> {
        if matches!(self.state, State::Line) {
            self.skip(bytes, at);
        }
        while let Some(byte) = bytes.get(*at).copied() {
            match self.state {
                State::Line => match byte {
                    CR => self.state = State::LastLf,
                    b' ' | b'\t' => return Err(Violation::Fold),
                    LF => return Err(Violation::LineEnd),
                    _ if !is_token(byte) => return Err(Violation::Name),
                    _ => {
                        self.begin(byte);
                        continue;
                    }
                },
                State::Known(known, right) => {
                    if !self.advance(known, right, byte)? {
                        self.state = State::Name;
                        continue;
                    }
                }
                State::Name => {
                    let rest = &bytes[*at..];
                    let length = rest.iter().position(|byte| !is_token(*byte));
                    *at += length.unwrap_or(rest.len());
                    match bytes.get(*at) {
                        None => break,
                        Some(b':') => self.state = State::Value,
                        Some(_) => return Err(Violation::Name),
                    }
                }
                State::Value => {
                    *at += text(&bytes[*at..]);
                    match bytes.get(*at) {
                        None => break,
                        Some(b'\t') => {}
                        Some(&CR) => self.state = State::Lf,
                        Some(byte) => return Err(odd(*byte)),
                    }
                }
                State::Digits(count) => self.digit(count, byte)?,
                State::Coding(right) => self.letter(right, byte)?,
                State::Blanks => match byte {
                    b' ' | b'\t' => {}
                    CR => self.state = State::Lf,
                    LF => return Err(Violation::LineEnd),
                    _ if self.chunked => return Err(Violation::Coding),
                    _ => return Err(Violation::Length),
                },
                State::Lf if byte == LF => {
                    *at += 1;
                    self.state = State::Line;
                    self.skip(bytes, at);
                    continue;
                }
                State::LastLf if byte == LF => {
                    *at += 1;
                    self.state = State::Line;
                    return Ok(true);
                }
                State::Lf | State::LastLf => return Err(Violation::LineEnd),
            }
            *at += 1;
        }
        Ok(false)
    }

    /// Skips whole lines that are as most are and say nothing about the framing. It decides nothing:
    /// from the first other line on, the bytes are read one by one.
    fn skip(&self, bytes: &[u8], at: &mut usize) {
        while let Some(line) = bytes.get(*at..) {
            let name = usual(line);
            let concerns = [LENGTH.len(), CODING.len()].contains(&name) && !self.is_trailers;
            if name == 0 || concerns || line.get(name) != Some(&b':') {
                return;
            }
            let end = name + 1 + text(&line[name + 1..]);
            if !line[end..].starts_with(b"\r\n") {
                return;
            }
            *at += end + 2;
        }
    }

    fn begin(&mut self, first: u8) {
        self.disguised = false;
        self.state = match first {
            _ if self.is_trailers => State::Name,
            b'c' | b'C' => State::Known(Known::Length, 0),
            b't' | b'T' => State::Known(Known::Coding, 0),
            _ => State::Name,
        };
    }

    /// Whether the name may still become `known`, with this byte.
    fn advance(&mut self, known: Known, right: u8, byte: u8) -> Result<bool, Violation> {
        let name = known.name();
        if let Some(expected) = name.get(usize::from(right)) {
            let dash = *expected == b'-' && matches!(byte, b'_' | b'.');
            self.disguised |= dash;
            self.state = State::Known(known, right + 1);
            return Ok(dash || byte.to_ascii_lowercase() == *expected);
        }
        if byte != b':' {
            return Ok(false);
        }
        if self.disguised {
            return Err(Violation::Disguised);
        }
        self.state = match (known, self.length, self.chunked) {
            (Known::Length, Some(_), _) => return Err(Violation::TwoLengths),
            (Known::Coding, _, true) => return Err(Violation::Coding),
            (Known::Length, _, true) | (Known::Coding, Some(_), _) => {
                return Err(Violation::LengthAndCoding);
            }
            (Known::Length, None, false) => State::Digits(0),
            (Known::Coding, None, false) => State::Coding(0),
        };
        Ok(true)
    }

    fn digit(&mut self, count: u8, byte: u8) -> Result<(), Violation> {
        let so_far = self.length.unwrap_or(0);
        match byte {
            b' ' | b'\t' if count == 0 => {}
            b' ' | b'\t' => self.state = State::Blanks,
            CR if count > 0 => self.state = State::Lf,
            b'0'..=b'9' if count < DIGITS && (count == 0 || so_far > 0) => {
                self.length = Some(so_far * 10 + u64::from(byte - b'0'));
                self.state = State::Digits(count + 1);
            }
            LF => return Err(Violation::LineEnd),
            _ => return Err(Violation::Length),
        }
        Ok(())
    }

    fn letter(&mut self, right: u8, byte: u8) -> Result<(), Violation> {
        let expected = CHUNKED.get(usize::from(right));
        match (byte, expected) {
            (b' ' | b'\t', _) if right == 0 => {}
            (b' ' | b'\t', None) => self.state = State::Blanks,
            (CR, None) => self.state = State::Lf,
            (byte, Some(expected)) if byte.to_ascii_lowercase() == *expected => {
                self.chunked = true;
                self.state = State::Coding(right + 1);
            }
            (LF, _) => return Err(Violation::LineEnd),
            _ => return Err(Violation::Coding),
        }
        Ok(())
    }
}

/// The value of a `Content-Length`: one plain decimal number (RFC 9110 section 8.6).
pub(super) fn length(value: &[u8]) -> Result<u64, Violation> {
    let plain = match value {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => {
            rest.len() < usize::from(DIGITS) && rest.iter().all(u8::is_ascii_digit)
        }
        _ => false,
    };
    match plain {
        true => Ok((value.iter()).fold(0, |so_far, digit| so_far * 10 + u64::from(digit - b'0'))),
        false => Err(Violation::Length),
    }
}

/// Whether some read this name, which is in small letters and none of the two that frame a message, as
/// one of them.
#[must_use]
pub fn is_disguised(name: &str) -> bool {
    let known = match name.len() {
        14 => LENGTH,
        17 => CODING,
        _ => return false,
    };
    let dashed = name.bytes().map(|byte| match byte {
        b'_' | b'.' => b'-',
        byte => byte,
    });
    dashed.eq(known.iter().copied())
}
