//! Where HTTP/1 messages begin and end, read strictly and beside hyper.
//!
//! hyper hides what makes two readers of the same bytes disagree: bare line feeds, a length next to
//! chunks, fragments, odd chunk extensions. These scanners see the same bytes first and follow one
//! reading only: CR LF at every line's end, one length or one `chunked`, never both (RFC 9112
//! sections 2.2, 5, 6 and 7). [`Requests`] runs beside hyper: it builds nothing, allocates nothing and
//! decides nothing else. [`Answers`] is all there is on the way back from an upstream: it makes heads
//! and bodies of the bytes by the same reading.
//!
//! - What is approved is a subset of what hyper accepts, framed as hyper frames it.
//! - Any split of the bytes into reads gives the same verdict.
//! - After a violation nothing is approved any more.

use crate::reason::Reason;

pub mod answers;
mod chunks;
mod fields;
pub mod requests;
#[cfg(test)]
mod tests;

pub use answers::{Answers, Head, INTERIM, Piece};
pub use fields::is_disguised;
pub use requests::Requests;

macro_rules! violations {
    ($($variant:ident $text:literal;)*) => {
        /// What is wrong with a message's bytes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Violation { $(#[doc = $text] $variant,)* }

        impl Violation {
            /// Every violation, each at the place of its number.
            pub const ALL: &'static [Violation] = &[$(Violation::$variant,)*];

            /// What is wrong, in words.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Violation::$variant => $text,)* }
            }
        }
    };
}

violations! {
    LineEnd "a line does not end in CR LF; end every line of the head with both";
    Control "there is a control character in the head; remove it";
    Method "the method is not a short token in capital letters";
    Target "the target is empty or has a space or a control character in it; percent-encode them";
    Fragment "the target has a # in it; leave out the fragment, or write %23";
    Version "the version is neither HTTP/1.1 nor HTTP/1.0";
    Status "the status line is not HTTP/1.1 or HTTP/1.0, a code and a reason";
    Name "a header's name is not a token that ends at its colon";
    Fold "a header is folded over two lines; write it in one";
    Length "Content-Length is not one plain decimal number";
    TwoLengths "Content-Length stands there twice; send it once";
    Coding "Transfer-Encoding may only be \"chunked\", once, in HTTP/1.1";
    LengthAndCoding "both Content-Length and Transfer-Encoding are there; send one of them";
    Disguised "a header's name can be read as Content-Length or Transfer-Encoding; use a dash";
    ChunkSize "a chunk's size is not a plain hexadecimal number";
    Extension "the chunk extensions are too long or have a control character in them";
    ChunkEnd "a chunk is longer or shorter than its size says";
    Trailers "the trailers are too long";
    Tunnel "nothing may follow CONNECT";
    Interim "there are too many interim answers";
    Head "the head is larger than 256 KiB, or has more than 100 fields";
    Unasked "there are bytes that nobody asked for";
}

impl Violation {
    /// The reason that a caller is told.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Violation::Fragment => Reason::AmbiguousPath,
            _ => Reason::BadRequest,
        }
    }

    /// The violation of this number.
    #[must_use]
    pub fn of(number: u8) -> Option<Violation> {
        Violation::ALL.get(usize::from(number)).copied()
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Violation {}

/// How much of a read may be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// These many bytes.
    pub bytes: usize,
    /// Then comes an error: the rest must never complete a message.
    pub ends: bool,
}

impl Passed {
    fn all(bytes: &[u8]) -> Passed {
        Passed {
            bytes: bytes.len(),
            ends: false,
        }
    }

    fn until(at: usize) -> Passed {
        Passed {
            bytes: at,
            ends: true,
        }
    }
}

const CR: u8 = b'\r';
const LF: u8 = b'\n';
const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Marks the bytes of `word` that are below `limit`; only the lowest mark is to be trusted.
const fn below(word: u64, limit: u64) -> u64 {
    word.wrapping_sub(ONES * limit) & !word & HIGH
}

/// Counts the bytes before the first that `marks` marks in a word of eight, or that `stops`.
fn run(bytes: &[u8], marks: impl Fn(u64) -> u64, stops: impl Fn(u8) -> bool) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let marked = marks(u64::from_le_bytes(*word));
        if marked != 0 {
            return at * 8 + marked.trailing_zeros() as usize / 8;
        }
    }
    let tail = rest.iter().position(|byte| stops(*byte));
    bytes.len() - rest.len() + tail.unwrap_or(rest.len())
}

/// Marks the bytes of `word`, none of them above 0x7f, that are `least` or more; all marks hold.
const fn reaches(word: u64, least: u8) -> u64 {
    (word + ONES * (0x80 - least as u64)) & HIGH
}

/// Marks the bytes of `word` that are no letter, digit or dash, as all are that names are made of.
const fn unusual(word: u64) -> u64 {
    let ascii = word & !HIGH;
    let lower = ascii | (ONES * 0x20);
    let letter = reaches(lower, b'a') & !reaches(lower, b'z' + 1);
    let digit = reaches(ascii, b'0') & !reaches(ascii, b'9' + 1);
    let dash = !reaches(ascii ^ (ONES * 0x2d), 1);
    !((letter | digit | dash) & !word) & HIGH
}

/// How many bytes there are before the first that is no letter, digit or dash.
fn usual(bytes: &[u8]) -> usize {
    run(bytes, unusual, |byte| {
        !byte.is_ascii_alphanumeric() && byte != b'-'
    })
}

/// How many bytes there are before the first control character.
fn text(bytes: &[u8]) -> usize {
    // Tokens are long: the compiler looks at many bytes at once here.
    let is_plain = |chunk: &&[u8; 32]| {
        let odd = |byte: &u8| u8::from(*byte < 0x20) | u8::from(*byte == 0x7f);
        chunk.iter().fold(0, |any, byte| any | odd(byte)) == 0
    };
    let (chunks, _) = bytes.as_chunks();
    let plain = 32 * chunks.iter().take_while(is_plain).count();
    plain
        + run(
            &bytes[plain..],
            |word| below(word, 0x20) | below(word ^ (ONES * 0x7f), 1),
            |byte| byte < 0x20 || byte == 0x7f,
        )
}

/// How many bytes there are before the first that no target has.
fn target(bytes: &[u8]) -> usize {
    let hash = u64::from(b'#');
    run(
        bytes,
        |word| below(word, 0x21) | below(word ^ (ONES * 0x7f), 1) | below(word ^ (ONES * hash), 1),
        |byte| byte < 0x21 || byte == 0x7f || byte == b'#',
    )
}

/// RFC 9110 section 5.6.2.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(
            byte as u8,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_'
                | b'`' | b'|' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z'
        );
        byte += 1;
    }
    table
};

fn is_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// What a byte that ends a run of text is to be called.
fn odd(byte: u8) -> Violation {
    match byte {
        LF => Violation::LineEnd,
        _ => Violation::Control,
    }
}
