//! The answers of one connection to an upstream.
//!
//! An answer's framing depends on the request, so the sending side says what it asked. Bytes that no
//! request asked for are a violation: they could only be taken for the answer to the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::chunks::Chunks;
use super::fields::Fields;
use super::{CR, LF, Passed, Violation, odd, text};

const VERSION: &[u8] = b"HTTP/1.";
/// Interim answers to one request: an hour of `102 Processing`, but no flood.
const INTERIM: u16 = 1024;

/// What was asked over a connection: how often, and whether last by HEAD.
///
/// The stream must be `Send`, so this is atomic, though one thread alone uses it.
#[derive(Debug, Default)]
pub struct Asked(AtomicU64);

impl Asked {
    /// A request is about to be sent.
    pub fn begin(&self, is_head: bool) {
        let count = self.0.load(Relaxed) >> 1;
        self.0
            .store(((count + 1) << 1) | u64::from(is_head), Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Relaxed) >> 1
    }

    fn is_head(&self) -> bool {
        self.0.load(Relaxed) & 1 == 1
    }
}

/// Follows the answers to one request at a time.
#[derive(Clone, Debug)]
pub struct Answers {
    asked: Arc<Asked>,
    state: State,
    answered: u64,
    is_old: bool,
    status: u16,
    interim: u16,
    fields: Fields,
    chunks: Chunks,
    violation: Option<Violation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before an answer.
    Start,
    /// In the version, after so many letters.
    Version(u8),
    /// In the status, after so many digits.
    Status(u8),
    Reason,
    LineLf,
    Fields,
    /// In a body of which so many bytes are left.
    Body(u64),
    Chunks,
    /// In a body that the connection's end delimits, or in a tunnel.
    Open,
    /// After a violation.
    Bad,
}

impl Answers {
    /// Answers to what is `asked`.
    #[must_use]
    pub fn new(asked: Arc<Asked>) -> Answers {
        Answers {
            asked,
            state: State::Start,
            answered: 0,
            is_old: false,
            status: 0,
            interim: 0,
            fields: Fields::default(),
            chunks: Chunks::default(),
            violation: None,
        }
    }

    /// Reads on. How much of it may be passed on.
    pub fn scan(&mut self, bytes: &[u8]) -> Passed {
        let mut at = 0;
        if self.state != State::Bad {
            let Err(violation) = self.advance(bytes, &mut at) else {
                return Passed::all(bytes);
            };
            self.state = State::Bad;
            self.violation = Some(violation);
        }
        Passed::until(at)
    }

    /// What was wrong, once something was.
    #[must_use]
    pub fn violation(&self) -> Option<Violation> {
        self.violation
    }

    fn advance(&mut self, bytes: &[u8], at: &mut usize) -> Result<(), Violation> {
        while let Some(byte) = bytes.get(*at).copied() {
            self.state = match self.state {
                State::Start if self.answered == self.asked.count() => {
                    return Err(Violation::Unasked);
                }
                State::Start => {
                    self.state = State::Version(0);
                    continue;
                }
                State::Version(count) => self.version(count, byte)?,
                State::Status(count) => self.digit(count, byte)?,
                State::Reason => {
                    *at += text(&bytes[*at..]);
                    match bytes.get(*at) {
                        None => return Ok(()),
                        Some(b'\t') => State::Reason,
                        Some(&CR) => State::LineLf,
                        Some(byte) => return Err(odd(*byte)),
                    }
                }
                State::LineLf if byte == LF => {
                    self.fields = Fields::default();
                    State::Fields
                }
                State::LineLf => return Err(Violation::LineEnd),
                State::Fields => {
                    if !self.fields.scan(bytes, at)? {
                        return Ok(());
                    }
                    self.state = self.follows().inspect_err(|_| *at -= 1)?;
                    continue;
                }
                State::Body(left) => {
                    let here = bytes.len() - *at;
                    let taken = usize::try_from(left).unwrap_or(here).min(here);
                    *at += taken;
                    self.state = match left - taken as u64 {
                        0 => self.end(),
                        left => State::Body(left),
                    };
                    continue;
                }
                State::Chunks => {
                    if !self.chunks.scan(bytes, at)? {
                        return Ok(());
                    }
                    self.state = self.end();
                    continue;
                }
                State::Open | State::Bad => {
                    *at = bytes.len();
                    return Ok(());
                }
            };
            *at += 1;
        }
        Ok(())
    }

    fn version(&mut self, count: u8, byte: u8) -> Result<State, Violation> {
        match (VERSION.get(usize::from(count)), byte) {
            (Some(expected), byte) if byte == *expected => Ok(State::Version(count + 1)),
            (None, b'0' | b'1') if usize::from(count) == VERSION.len() => {
                self.is_old = byte == b'0';
                Ok(State::Version(count + 1))
            }
            (None, b' ') if usize::from(count) > VERSION.len() => {
                self.status = 0;
                Ok(State::Status(0))
            }
            _ => Err(Violation::Status),
        }
    }

    fn digit(&mut self, count: u8, byte: u8) -> Result<State, Violation> {
        match (count, byte) {
            (0, b'1'..=b'9') | (1 | 2, b'0'..=b'9') => {
                self.status = self.status * 10 + u16::from(byte - b'0');
                Ok(State::Status(count + 1))
            }
            (3, b' ') => Ok(State::Reason),
            // Some servers leave out the blank with the reason.
            (3, CR) => Ok(State::LineLf),
            _ => Err(Violation::Status),
        }
    }

    /// The head is whole: what follows it?
    fn follows(&mut self) -> Result<State, Violation> {
        if self.fields.chunked && self.is_old {
            return Err(Violation::Coding);
        }
        match self.status {
            101 => return Ok(State::Open),
            100..200 if self.interim < INTERIM => {
                self.interim += 1;
                return Ok(State::Start);
            }
            100..200 => return Err(Violation::Interim),
            204 | 304 => return Ok(self.end()),
            _ if self.asked.is_head() => return Ok(self.end()),
            _ => {}
        }
        if self.fields.chunked {
            self.chunks = Chunks::default();
            return Ok(State::Chunks);
        }
        Ok(match self.fields.length {
            None => State::Open,
            Some(0) => self.end(),
            Some(length) => State::Body(length),
        })
    }

    fn end(&mut self) -> State {
        self.answered = self.asked.count();
        self.interim = 0;
        State::Start
    }
}
