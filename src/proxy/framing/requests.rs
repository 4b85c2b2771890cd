//! The requests of one connection.

use super::chunks::Chunks;
use super::fields::Fields;
use super::{CR, LF, Passed, Violation, is_token, target};

const CONNECT: &[u8] = b"CONNECT";
const VERSION: &[u8] = b"HTTP/1.";
/// How nearly every request line ends.
const LINE_END: &[u8] = b"HTTP/1.1\r\n";
/// The longest registered method has 17 letters.
const METHOD: u8 = 32;

/// Follows a stream of requests.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    state: State,
    approved: u64,
    /// The length of the request line, as far as it had come before this read; `None` where
    /// something else came before it in a read.
    line: Option<usize>,
    /// The method at hand begins like `CONNECT`.
    connects: bool,
    is_old: bool,
    fields: Fields,
    chunks: Chunks,
    violation: Option<Violation>,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Before a head.
    #[default]
    Start,
    /// Before a head, after the one empty line that may stand there (RFC 9112 section 2.2).
    AfterEmpty,
    EmptyLf,
    /// In the method, after so many letters.
    Method(u8),
    TargetBegin,
    Target,
    /// In the version, after so many letters.
    Version(u8),
    LineCr,
    LineLf,
    Fields,
    /// In a body of which so many bytes are left.
    Body(u64),
    Chunks,
    /// After a violation.
    Bad,
    /// After a violation within a body.
    Broken,
}

impl State {
    const fn is_body(self) -> bool {
        matches!(self, State::Body(_) | State::Chunks)
    }

    /// After a head's first byte and before its fields.
    const fn is_line(self) -> bool {
        !self.is_body()
            && !matches!(
                self,
                State::Start | State::Fields | State::Bad | State::Broken
            )
    }
}

impl Requests {
    /// Reads on. How much of it may be passed on: all of it, but for a body's violation.
    pub fn scan(&mut self, bytes: &[u8]) -> Passed {
        let mut at = 0;
        match self.state {
            State::Bad => return Passed::all(bytes),
            State::Broken => return Passed::until(0),
            _ => {}
        }
        let Err(violation) = self.advance(bytes, &mut at) else {
            if self.state.is_line() {
                self.line = self.line.map(|line| line + bytes.len());
            }
            return Passed::all(bytes);
        };
        self.violation = Some(violation);
        self.line = None;
        if self.state.is_body() {
            self.state = State::Broken;
            return Passed::until(at);
        }
        // The request that may come of it is refused, so that the caller is told why.
        self.state = State::Bad;
        Passed::all(bytes)
    }

    /// The heads that were approved so far.
    #[must_use]
    pub fn approved(&self) -> u64 {
        self.approved
    }

    /// What was wrong, once something was.
    #[must_use]
    pub fn violation(&self) -> Option<Violation> {
        self.violation
    }

    /// Whether the last message has ended and the next has not begun.
    #[must_use]
    pub fn is_between(&self) -> bool {
        matches!(
            self.state,
            State::Start | State::AfterEmpty | State::EmptyLf
        )
    }

    /// Whether the next message has begun, and its head has not ended.
    #[must_use]
    pub fn is_in_head(&self) -> bool {
        let is_bad = matches!(self.state, State::Bad | State::Broken);
        !self.is_between() && !self.is_in_body() && !is_bad
    }

    /// Whether what comes next is a body's.
    #[must_use]
    pub fn is_in_body(&self) -> bool {
        self.state.is_body()
    }

    /// Whether the last request line, with an empty one before it, is longer than this, as far as it
    /// has come. One that came behind something else is not measured: that is to be served first.
    #[must_use]
    pub fn has_line_over(&self, limit: usize) -> bool {
        // One that has not ended has one byte more at least.
        let more = usize::from(self.state.is_line());
        self.line.is_some_and(|line| line + more > limit)
    }

    fn advance(&mut self, bytes: &[u8], at: &mut usize) -> Result<(), Violation> {
        while let Some(byte) = bytes.get(*at).copied() {
            self.state = match self.state {
                State::Start if byte == CR => {
                    self.line = (*at == 0).then_some(0);
                    State::EmptyLf
                }
                State::EmptyLf if byte == LF => State::AfterEmpty,
                State::EmptyLf => return Err(Violation::LineEnd),
                State::Start | State::AfterEmpty => {
                    if matches!(self.state, State::Start) {
                        self.line = (*at == 0).then_some(0);
                    }
                    self.connects = true;
                    self.state = State::Method(0);
                    continue;
                }
                State::Method(count) => self.method(count, byte)?,
                State::TargetBegin | State::Target => {
                    let length = target(&bytes[*at..]);
                    *at += length;
                    let began = length > 0 || matches!(self.state, State::Target);
                    match bytes.get(*at) {
                        None => {
                            self.state = if began { State::Target } else { self.state };
                            return Ok(());
                        }
                        Some(b' ') if began => State::Version(0),
                        Some(b'#') => return Err(Violation::Fragment),
                        Some(&CR | &LF) if began => return Err(Violation::Version),
                        Some(_) => return Err(Violation::Target),
                    }
                }
                State::Version(0) if bytes[*at..].starts_with(LINE_END) => {
                    *at += LINE_END.len();
                    self.line = self.line.map(|line| line + *at);
                    self.is_old = false;
                    self.fields = Fields::default();
                    self.state = State::Fields;
                    continue;
                }
                State::Version(count) => self.version(count, byte)?,
                State::LineCr if byte == CR => State::LineLf,
                State::LineLf if byte == LF => {
                    self.line = self.line.map(|line| line + *at + 1);
                    self.fields = Fields::default();
                    State::Fields
                }
                State::LineCr if byte != LF => return Err(Violation::Version),
                State::LineCr | State::LineLf => return Err(Violation::LineEnd),
                State::Fields => {
                    if !self.fields.scan(bytes, at)? {
                        return Ok(());
                    }
                    self.state = self.approve()?;
                    continue;
                }
                State::Body(left) => {
                    let here = bytes.len() - *at;
                    let taken = usize::try_from(left).unwrap_or(here).min(here);
                    *at += taken;
                    self.state = match left - taken as u64 {
                        0 => State::Start,
                        left => State::Body(left),
                    };
                    continue;
                }
                State::Chunks => {
                    if !self.chunks.scan(bytes, at)? {
                        return Ok(());
                    }
                    self.state = State::Start;
                    continue;
                }
                State::Bad | State::Broken => return Ok(()),
            };
            *at += 1;
        }
        Ok(())
    }

    fn method(&mut self, count: u8, byte: u8) -> Result<State, Violation> {
        let fine = is_token(byte) && !byte.is_ascii_lowercase() && count < METHOD;
        match byte {
            b' ' if count > 0 => {
                self.connects &= usize::from(count) == CONNECT.len();
                Ok(State::TargetBegin)
            }
            _ if fine => {
                self.connects &= CONNECT.get(usize::from(count)) == Some(&byte);
                Ok(State::Method(count + 1))
            }
            LF if count == 0 => Err(Violation::LineEnd),
            _ => Err(Violation::Method),
        }
    }

    fn version(&mut self, count: u8, byte: u8) -> Result<State, Violation> {
        match (VERSION.get(usize::from(count)), byte) {
            (Some(expected), byte) if byte == *expected => Ok(State::Version(count + 1)),
            (None, b'0' | b'1') => {
                self.is_old = byte == b'0';
                Ok(State::LineCr)
            }
            _ => Err(Violation::Version),
        }
    }

    /// The head is whole: what follows it?
    fn approve(&mut self) -> Result<State, Violation> {
        if self.fields.chunked && self.is_old {
            return Err(Violation::Coding);
        }
        self.approved += 1;
        if self.connects {
            // It is refused with its own status, and then what follows would be a tunnel's.
            return Err(Violation::Tunnel);
        }
        if self.fields.chunked {
            self.chunks = Chunks::default();
            return Ok(State::Chunks);
        }
        Ok(match self.fields.length {
            None | Some(0) => State::Start,
            Some(length) => State::Body(length),
        })
    }
}
