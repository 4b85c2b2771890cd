//! The answers of one connection to an upstream, read strictly from the bytes that came.
//!
//! A head is looked at line by line as it comes, and read when it is whole. An answer's framing
//! depends on its request, so whoever asks says what: [`Answers::ask`]. What is left in the buffer
//! behind an answer was not asked for, and could only be taken for the answer to the next request.

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use memchr::memchr;

use super::chunks::Chunks;
use super::{CR, LF, Violation, fields, odd, text};

/// Interim answers to one request: an hour of `102 Processing`, but no flood.
pub const INTERIM: u16 = 1024;
/// The longest head. Bytes.
const HEAD: usize = 256 * 1024;
/// The most fields of a head.
const FIELDS: usize = 100;

/// Follows the answers to one request at a time.
#[derive(Debug, Default)]
pub struct Answers {
    rest: Rest,
    is_to_head: bool,
    interim: u16,
    /// Where the lines of the head at hand end, as far as they have come.
    ends: Vec<usize>,
}

/// What is still to come of an answer.
#[derive(Debug, Default)]
enum Rest {
    /// Nothing.
    #[default]
    Nothing,
    Head,
    /// So many bytes.
    Length(u64),
    Chunks(Box<Chunked>),
    /// Whatever comes before the connection ends.
    Open,
}

/// An answer's head.
#[derive(Debug)]
pub struct Head {
    /// Its status.
    pub status: StatusCode,
    /// Its reason, where that is not the registered one.
    pub reason: Option<Bytes>,
    /// Its fields.
    pub headers: HeaderMap,
    /// Another request may follow it.
    pub keeps_alive: bool,
}

/// What comes behind a head.
#[derive(Debug)]
pub enum Piece {
    /// Some of the body.
    Data(Bytes),
    /// What stands behind the chunks.
    Trailers(HeaderMap),
}

impl Answers {
    /// A request is about to be sent.
    pub fn ask(&mut self, is_head: bool) {
        self.rest = Rest::Head;
        self.is_to_head = is_head;
        self.interim = 0;
        self.ends.clear();
    }

    /// Takes the head of the final answer from what came; `None` where it is not whole yet.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn head(&mut self, came: &mut BytesMut) -> Result<Option<Head>, Violation> {
        while let Some(end) = self.end_of_head(came)? {
            let lines = came.split_to(end).freeze();
            let read = Reading::new(&lines, &self.ends).head();
            self.ends.clear();
            let (head, framing) = read?;
            if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
                self.interim += 1;
                if self.interim > INTERIM {
                    return Err(Violation::Interim);
                }
                continue;
            }
            self.rest = self.follows(head.status, &framing);
            return Ok(Some(head));
        }
        Ok(None)
    }

    /// Where the head ends, once its empty line is there.
    fn end_of_head(&mut self, came: &[u8]) -> Result<Option<usize>, Violation> {
        let end = ends_of_lines(came, &mut self.ends)?;
        match came.len() > HEAD && end.is_none() {
            true => Err(Violation::Head),
            false => Ok(end),
        }
    }

    /// The head is whole: what follows it?
    fn follows(&self, status: StatusCode, framing: &Framing) -> Rest {
        let without = matches!(status.as_u16(), 204 | 304) || self.is_to_head;
        match *framing {
            _ if status == StatusCode::SWITCHING_PROTOCOLS => Rest::Open,
            _ if without => Rest::Nothing,
            Framing { chunked: true, .. } => Rest::Chunks(Box::default()),
            Framing { length, .. } => match length {
                None => Rest::Open,
                Some(0) => Rest::Nothing,
                Some(length) => Rest::Length(length),
            },
        }
    }

    /// Takes the next piece from what came; `None` where there is none, or nothing more comes.
    ///
    /// # Errors
    /// What is wrong with it; all before that was taken.
    pub fn piece(&mut self, came: &mut BytesMut) -> Result<Option<Piece>, Violation> {
        let taken = match &mut self.rest {
            Rest::Nothing | Rest::Head => return Ok(None),
            Rest::Open => came.len(),
            Rest::Length(left) => {
                let taken = usize::try_from(*left).map_or(came.len(), |left| left.min(came.len()));
                *left -= taken as u64;
                if *left == 0 {
                    self.rest = Rest::Nothing;
                }
                taken
            }
            Rest::Chunks(chunks) => {
                let piece = chunks.piece(came)?;
                if chunks.chunks.has_ended() {
                    self.rest = Rest::Nothing;
                }
                return Ok(piece);
            }
        };
        Ok((taken > 0).then(|| Piece::Data(came.split_to(taken).freeze())))
    }

    /// Whether the answer is whole.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.rest, Rest::Nothing)
    }

    /// Whether the connection's end is the answer's.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.rest, Rest::Open)
    }

    /// How much is still to come, where that is known. Bytes.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        match self.rest {
            Rest::Nothing => Some(0),
            Rest::Length(left) => Some(left),
            Rest::Head | Rest::Chunks(_) | Rest::Open => None,
        }
    }
}

/// What a head says about where its message ends.
#[derive(Debug)]
struct Framing {
    length: Option<u64>,
    chunked: bool,
    /// `Connection: close`.
    closes: bool,
    /// `Connection: keep-alive`, or HTTP/1.1, which needs none.
    stays: bool,
}

/// Finds the lines' ends behind those that are known, up to the empty line's, which it answers.
fn ends_of_lines(lines: &[u8], ends: &mut Vec<usize>) -> Result<Option<usize>, Violation> {
    let mut from = ends.last().copied().unwrap_or(0);
    while let Some(length) = memchr(LF, &lines[from..]) {
        let line = &lines[from..from + length];
        from += length + 1;
        ends.push(from);
        match line {
            [CR] => return Ok(Some(from)),
            [.., CR] => {}
            _ => return Err(Violation::LineEnd),
        }
    }
    Ok(None)
}

/// A head, line by line.
struct Reading<'a> {
    lines: &'a Bytes,
    ends: std::slice::Iter<'a, usize>,
    at: usize,
}

impl<'a> Reading<'a> {
    fn new(lines: &'a Bytes, ends: &'a [usize]) -> Reading<'a> {
        Reading {
            lines,
            ends: ends.iter(),
            at: 0,
        }
    }

    fn head(mut self) -> Result<(Head, Framing), Violation> {
        let (status, is_old, reason) = self.status()?;
        let mut framing = Framing {
            length: None,
            chunked: false,
            closes: false,
            stays: !is_old,
        };
        let headers = self.fields(|name, value| framing.learn(name, value))?;
        if framing.chunked && is_old {
            return Err(Violation::Coding);
        }
        let head = Head {
            status,
            reason,
            headers,
            keeps_alive: framing.stays && !framing.closes,
        };
        Ok((head, framing))
    }

    /// The next line, without its end, and where it begins; an empty one after the last.
    fn line(&mut self) -> (usize, &'a [u8]) {
        let from = self.at;
        let Some(end) = self.ends.next() else {
            return (from, &[]);
        };
        self.at = *end;
        (from, &self.lines[from..end - 2])
    }

    fn status(&mut self) -> Result<(StatusCode, bool, Option<Bytes>), Violation> {
        let (from, line) = self.line();
        let (version, rest) = line.split_at_checked(9).ok_or(Violation::Status)?;
        let is_old = match version {
            b"HTTP/1.1 " => false,
            b"HTTP/1.0 " => true,
            _ => return Err(Violation::Status),
        };
        let (digits, rest) = rest.split_at_checked(3).ok_or(Violation::Status)?;
        let status = StatusCode::from_bytes(digits).map_err(|_| Violation::Status)?;
        let reason = match rest {
            // Some servers leave out the blank with the reason.
            [] => return Ok((status, is_old, None)),
            [b' ', reason @ ..] => reason,
            _ => return Err(Violation::Status),
        };
        if status.canonical_reason().map(str::as_bytes) == Some(reason) {
            return Ok((status, is_old, None));
        }
        check_text(reason)?;
        let end = from + line.len();
        let reason = self.lines.slice(end - reason.len()..end);
        Ok((status, is_old, Some(reason)))
    }

    /// All fields up to the empty line, but for those that `learn` says are done with.
    fn fields(
        &mut self,
        mut learn: impl FnMut(&HeaderName, &HeaderValue) -> Result<bool, Violation>,
    ) -> Result<HeaderMap, Violation> {
        let mut headers = HeaderMap::with_capacity(12);
        let lines = self.lines;
        loop {
            let (from, line) = self.line();
            let Some(first) = line.first() else {
                return Ok(headers);
            };
            if matches!(first, b' ' | b'\t') {
                return Err(Violation::Fold);
            }
            let colon = line.iter().position(|byte| *byte == b':');
            let colon = colon.ok_or(Violation::Name)?;
            let name = HeaderName::from_bytes(&line[..colon]).map_err(|_| Violation::Name)?;
            let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
            let value = &line[colon + 1..];
            let blanks = value.iter().take_while(|byte| is_blank(byte)).count();
            let begin = from + colon + 1 + blanks;
            let blanks = value[blanks..].iter().rev();
            let end = from + line.len() - blanks.take_while(|byte| is_blank(byte)).count();
            let value = HeaderValue::from_maybe_shared(lines.slice(begin..end));
            let Ok(value) = value else {
                check_text(&lines[begin..end])?;
                return Err(Violation::Control);
            };
            if !learn(&name, &value)? {
                continue;
            }
            if headers.len() == FIELDS {
                return Err(Violation::Head);
            }
            headers.append(name, value);
        }
    }
}

impl Framing {
    /// Whether anybody needs the field after this.
    fn learn(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<bool, Violation> {
        if name == CONTENT_LENGTH {
            if self.length.is_some() {
                return Err(Violation::TwoLengths);
            }
            if self.chunked {
                return Err(Violation::LengthAndCoding);
            }
            self.length = Some(fields::length(value.as_bytes())?);
        } else if name == TRANSFER_ENCODING {
            if self.length.is_some() {
                return Err(Violation::LengthAndCoding);
            }
            if self.chunked || !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                return Err(Violation::Coding);
            }
            self.chunked = true;
        } else if name == CONNECTION {
            let mut names_others = false;
            let tokens = value.as_bytes().split(|byte| *byte == b',');
            for token in tokens.map(<[u8]>::trim_ascii) {
                let (closes, stays) = (
                    token.eq_ignore_ascii_case(b"close"),
                    token.eq_ignore_ascii_case(b"keep-alive"),
                );
                self.closes |= closes;
                self.stays |= stays;
                names_others |= !closes && !stays;
            }
            return Ok(names_others);
        } else if fields::is_disguised(name.as_str()) {
            return Err(Violation::Disguised);
        }
        Ok(true)
    }
}

/// A chunked body.
#[derive(Debug, Default)]
struct Chunked {
    chunks: Chunks,
    /// As much of the trailers as has come.
    trailers: BytesMut,
}

impl Chunked {
    fn piece(&mut self, came: &mut BytesMut) -> Result<Option<Piece>, Violation> {
        let mut at = 0;
        let framed = self.chunks.frame(came, &mut at);
        came.advance(at);
        framed?;
        if !self.chunks.is_at_trailers() {
            let taken = self.chunks.skip(came.len());
            return Ok((taken > 0).then(|| Piece::Data(came.split_to(taken).freeze())));
        }
        let mut at = 0;
        let read = self.chunks.trailers(came, &mut at);
        self.trailers.extend_from_slice(&came.split_to(at));
        read?;
        if !self.chunks.has_ended() || self.trailers.len() <= 2 {
            return Ok(None);
        }
        let lines = self.trailers.split().freeze();
        let mut ends = Vec::new();
        ends_of_lines(&lines, &mut ends)?;
        let trailers = Reading::new(&lines, &ends).fields(|_, _| Ok(true))?;
        Ok(Some(Piece::Trailers(trailers)))
    }
}

fn check_text(bytes: &[u8]) -> Result<(), Violation> {
    let mut rest = bytes;
    loop {
        match &rest[text(rest)..] {
            [] => return Ok(()),
            [b'\t', after @ ..] => rest = after,
            [byte, ..] => return Err(odd(*byte)),
        }
    }
}
