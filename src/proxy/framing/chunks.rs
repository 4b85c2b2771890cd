//! A chunked body, from its first size to the end of its trailers.

use super::fields::Fields;
use super::{CR, LF, Violation};

/// The digits of a size: none is 2^60 or more.
const DIGITS: u8 = 15;
/// All extensions of one body; hyper takes fewer than this.
const EXTENSIONS: usize = 16 * 1024 - 1;
/// All trailers of one body, with their ends.
const TRAILERS: usize = 8 * 1024;

/// A chunked body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunks {
    state: State,
    size: u64,
    extensions: usize,
    trailers: usize,
    fields: Fields,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In a size, after so many digits.
    Size(u8),
    Extension(Quote),
    SizeLf,
    /// In the data, of which `size` are left.
    Data,
    DataCr,
    DataLf,
    Trailers,
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quote {
    Outside,
    Inside,
    Escaped,
}

impl Default for Chunks {
    fn default() -> Chunks {
        Chunks {
            state: State::Size(0),
            size: 0,
            extensions: 0,
            trailers: 0,
            fields: Fields::trailers(),
        }
    }
}

impl Chunks {
    /// Reads on from `at`. `true` after the last byte; at a violation, `at` is where it is.
    pub(super) fn scan(&mut self, bytes: &[u8], at: &mut usize) -> Result<bool, Violation> {
        loop {
            self.frame(bytes, at)?;
            if self.is_at_trailers() {
                self.trailers(bytes, at)?;
            }
            match self.skip(bytes.len() - *at) {
                0 => return Ok(self.has_ended()),
                taken => *at += taken,
            }
        }
    }

    /// Whether the last byte was read.
    pub(super) fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Whether all data has come, but not what is behind it.
    pub(super) fn is_at_trailers(&self) -> bool {
        self.state == State::Trailers
    }

    /// Takes as many of `here` bytes as are data.
    pub(super) fn skip(&mut self, here: usize) -> usize {
        if self.state != State::Data {
            return 0;
        }
        let taken = usize::try_from(self.size).unwrap_or(here).min(here);
        self.size -= taken as u64;
        if self.size == 0 {
            self.state = State::DataCr;
        }
        taken
    }

    /// Reads what is between data, up to the next data or the trailers.
    pub(super) fn frame(&mut self, bytes: &[u8], at: &mut usize) -> Result<(), Violation> {
        while let Some(byte) = bytes.get(*at).copied() {
            self.state = match self.state {
                State::Data | State::Trailers | State::Ended => return Ok(()),
                State::Size(count) => self.digit(count, byte)?,
                State::Extension(quote) => self.extension(quote, byte)?,
                State::SizeLf if byte == LF => match self.size {
                    0 => State::Trailers,
                    _ => State::Data,
                },
                State::DataCr if byte == CR => State::DataLf,
                State::DataLf if byte == LF => State::Size(0),
                State::SizeLf => return Err(Violation::LineEnd),
                State::DataCr | State::DataLf => return Err(Violation::ChunkEnd),
            };
            *at += 1;
        }
        Ok(())
    }

    fn digit(&mut self, count: u8, byte: u8) -> Result<State, Violation> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b';' if count > 0 => return Ok(State::Extension(Quote::Outside)),
            CR if count > 0 => return Ok(State::SizeLf),
            _ => return Err(Violation::ChunkSize),
        };
        if count >= DIGITS {
            return Err(Violation::ChunkSize);
        }
        let before = if count == 0 { 0 } else { self.size };
        self.size = before * 16 + u64::from(digit);
        Ok(State::Size(count + 1))
    }

    /// A quoted string must end in its line, or some would look for its end in the data.
    fn extension(&mut self, quote: Quote, byte: u8) -> Result<State, Violation> {
        let next = match (quote, byte) {
            (Quote::Outside, CR) => return Ok(State::SizeLf),
            (_, LF) => return Err(Violation::LineEnd),
            (_, byte) if byte.is_ascii_control() && byte != b'\t' => {
                return Err(Violation::Extension);
            }
            (Quote::Outside, b'"') | (Quote::Escaped, _) => Quote::Inside,
            (Quote::Inside, b'"') => Quote::Outside,
            (Quote::Inside, b'\\') => Quote::Escaped,
            (quote, _) => quote,
        };
        if self.extensions == EXTENSIONS {
            return Err(Violation::Extension);
        }
        self.extensions += 1;
        Ok(State::Extension(next))
    }

    /// Reads what is behind the data, the empty line included.
    pub(super) fn trailers(&mut self, bytes: &[u8], at: &mut usize) -> Result<(), Violation> {
        let from = *at;
        let left = TRAILERS - self.trailers;
        let until = bytes.len().min(from + left);
        let ended = self.fields.scan(&bytes[..until], at)?;
        self.trailers += *at - from;
        if !ended && *at < bytes.len() {
            return Err(Violation::Trailers);
        }
        if ended {
            self.state = State::Ended;
        }
        Ok(())
    }
}
