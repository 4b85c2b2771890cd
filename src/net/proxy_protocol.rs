//! The header of the PROXY protocol, versions 1 and 2 (HAProxy's `proxy-protocol.txt`): whom a load
//! balancer's connection is for.
//!
//! Strict: one spelling, no byte more or less. Of the addresses the source alone is kept; what a sender
//! adds to them (TLVs) is skipped. Nothing behind a header is ever read with it.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::AsyncReadExt as _;

use super::Io;

/// What every header of version 1 begins with.
const V1_PREFIX: &[u8] = b"PROXY ";
/// The longest header of version 1, its line end included. Bytes.
const V1_MOST: usize = 107;
/// What every header of version 2 begins with.
const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const V2_FIXED: usize = 16;
/// The longest header of version 2 that is taken. Bytes.
const V2_MOST: usize = 16 * 1024;

/// Whether these bytes begin a header. The empty lines that one of version 2 begins with may be gone:
/// readers of HTTP pass over them.
#[must_use]
pub fn begins(bytes: &[u8]) -> bool {
    bytes.starts_with(V1_PREFIX)
        || bytes.starts_with(&V2_SIGNATURE)
        || bytes.starts_with(V2_SIGNATURE.trim_ascii_start())
}

/// How far the reading of a header has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// It is whole.
    Whole {
        /// Who is behind the connection; `None` where that is the peer itself, or nobody with an address.
        source: Option<IpAddr>,
        /// What of the bytes is the header.
        length: usize,
    },
    /// At most this many bytes more are its own; of version 1, those up to its line end.
    Part(usize),
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(&'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

const NONE: Malformed = Malformed(
    "the connection begins with no PROXY protocol header; inbound.proxy_protocol is for peers that send one",
);

/// Reads a header in what has come so far.
///
/// # Errors
/// It is none, and more bytes would change nothing about that.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    match bytes.first() {
        None => Ok(Parsed::Part(1)),
        Some(b'P') => v1(bytes),
        Some(_) => v2(bytes),
    }
}

fn v1(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let known = bytes.len().min(V1_PREFIX.len());
    if bytes[..known] != V1_PREFIX[..known] {
        return Err(NONE);
    }
    let within = &bytes[..bytes.len().min(V1_MOST)];
    let Some(end) = within.iter().position(|byte| *byte == b'\n') else {
        return match V1_MOST - within.len() {
            0 => Err(Malformed("a PROXY header of more than 107 bytes")),
            rest => Ok(Parsed::Part(rest)),
        };
    };
    let odd = Malformed("a PROXY header of version 1 that is not as it must be");
    let line = within[..end].strip_suffix(b"\r").ok_or(odd)?;
    let line = line.strip_prefix(V1_PREFIX).ok_or(odd)?;
    let source = match line.strip_prefix(b"UNKNOWN") {
        Some(rest) if rest.is_empty() || rest[0] == b' ' => None,
        Some(_) => return Err(odd),
        None => Some(v1_source(line).ok_or(odd)?),
    };
    Ok(Parsed::Whole {
        source,
        length: end + 1,
    })
}

/// `TCP4 192.0.2.1 192.0.2.2 56324 443`.
fn v1_source(line: &[u8]) -> Option<IpAddr> {
    let mut fields = std::str::from_utf8(line).ok()?.split(' ');
    let mut next = || fields.next();
    let (family, source, destination) = (next()?, next()?, next()?);
    let ports = [next()?, next()?];
    let parse = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        _ => None,
    };
    let is_port = |text: &&str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let is_short = *text == "0" || !text.starts_with('0');
        digits && is_short && text.parse::<u16>().is_ok()
    };
    parse(destination)?;
    let is_whole = next().is_none() && ports.iter().all(is_port);
    parse(source).filter(|_| is_whole)
}

fn v2(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let known = bytes.len().min(V2_SIGNATURE.len());
    if bytes[..known] != V2_SIGNATURE[..known] {
        return Err(NONE);
    }
    let Some((fixed, rest)) = bytes.split_at_checked(V2_FIXED) else {
        return Ok(Parsed::Part(V2_FIXED - bytes.len()));
    };
    let [version_command, family] = [fixed[12], fixed[13]];
    let announced = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let length = V2_FIXED + announced;
    if length > V2_MOST {
        return Err(Malformed("a PROXY header of more than 16 KiB"));
    }
    let is_local = match version_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed("a PROXY header of an unknown version or command")),
    };
    // The addresses: none, IPv4, IPv6, Unix; over streams or datagrams, as HTTP/3 comes to a proxy.
    let addresses = match family {
        // Of the sender's own connection, such as a health check, nothing is said that counts.
        _ if is_local => 0,
        0x00 => 0,
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => 216,
        _ => return Err(Malformed("a PROXY header of an unknown address family")),
    };
    if announced < addresses {
        return Err(Malformed(
            "a PROXY header that is too short for its addresses",
        ));
    }
    let Some(rest) = rest.get(..announced) else {
        return Ok(Parsed::Part(length - bytes.len()));
    };
    let source = match family & 0xf0 {
        _ if is_local => None,
        0x10 => rest.first_chunk::<4>().map(|four| IpAddr::from(*four)),
        0x20 => rest
            .first_chunk::<16>()
            .map(|sixteen| IpAddr::from(*sixteen)),
        _ => None,
    };
    Ok(Parsed::Whole { source, length })
}

/// Why no header could be read.
#[derive(Debug)]
pub enum Unread {
    /// Nothing came at all.
    Nothing,
    /// What came is none.
    Malformed(Malformed),
    /// It ended, or the connection did, before the header was whole.
    Cut,
}

/// Reads the header that `io` begins with, and nothing behind it. `begun` is told of the first byte.
///
/// # Errors
/// There is none, or it is malformed.
pub async fn read(io: &mut Io, begun: impl Fn()) -> Result<Option<IpAddr>, Unread> {
    let mut bytes = Vec::with_capacity(V1_MOST);
    loop {
        let most = match parse(&bytes).map_err(Unread::Malformed)? {
            Parsed::Whole { source, .. } => return Ok(source),
            Parsed::Part(most) => most,
        };
        let read = match bytes.first() {
            Some(b'P') => io.read_through(b'\n', most, &mut bytes).await,
            _ => read_some(io, most, &mut bytes).await,
        };
        match read {
            Ok(1..) => begun(),
            Ok(0) | Err(_) if bytes.is_empty() => return Err(Unread::Nothing),
            Ok(0) | Err(_) => return Err(Unread::Cut),
        }
    }
}

async fn read_some(io: &mut Io, most: usize, into: &mut Vec<u8>) -> io::Result<usize> {
    let mut room = [0; 512];
    let most = most.min(room.len());
    let read = io.read(&mut room[..most]).await?;
    into.extend_from_slice(&room[..read]);
    Ok(read)
}

#[cfg(test)]
mod tests;
