//! A second reading of PROXY protocol headers, from their specification's own tables.
//!
//! It reads version 1 by writing it again, and version 2 from its end: what both readings take, they take
//! alike, and what one takes, the other does.

use std::net::{IpAddr, Ipv6Addr};

use regent::net::proxy_protocol::{Parsed, parse};

/// Holds the program's reading of these bytes to this one, and to itself.
///
/// # Panics
/// They disagree.
pub(crate) fn judge(bytes: &[u8]) {
    let parsed = parse(bytes);
    let model = read(bytes);
    match parsed {
        Ok(Parsed::Whole { source, length }) => {
            assert_eq!(model, Some((source, length)), "{bytes:?}");
            // Alone as with what follows, and each beginning of it is one.
            assert_eq!(parse(&bytes[..length]), parsed, "{bytes:?}");
            for end in 0..length {
                match parse(&bytes[..end]) {
                    Ok(Parsed::Part(more)) => assert!(more > 0, "{end} of {bytes:?}"),
                    other => panic!("{other:?} at {end} of {bytes:?}"),
                }
            }
        }
        Ok(Parsed::Part(more)) => {
            assert!(model.is_none() && more > 0, "{bytes:?}");
            assert!(bytes.len() + more <= 16 * 1024, "{bytes:?}");
        }
        Err(_) => {
            assert_eq!(model, None, "{bytes:?}");
            // Nothing makes it one.
            let longer = [bytes, b" 1 2\r\n"].concat();
            assert!(parse(&longer).is_err(), "{bytes:?}");
        }
    }
}

/// Whom a header announces, and where it ends.
fn read(bytes: &[u8]) -> Option<(Option<IpAddr>, usize)> {
    version_1(bytes).or_else(|| version_2(bytes))
}

fn version_1(bytes: &[u8]) -> Option<(Option<IpAddr>, usize)> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")? + 2;
    let header = &bytes[..end];
    if end > 107 || header.iter().filter(|byte| **byte == b'\n').count() > 1 {
        return None;
    }
    if header == b"PROXY UNKNOWN\r\n" || header.starts_with(b"PROXY UNKNOWN ") {
        return Some((None, end));
    }
    let text = std::str::from_utf8(header).ok()?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, family, source, destination, from, to] = words[..] else {
        return None;
    };
    let (addresses, ports) = (
        [source.parse::<IpAddr>().ok()?, destination.parse().ok()?],
        [from.parse::<u16>().ok()?, to.parse::<u16>().ok()?],
    );
    let is_kind = match family {
        "TCP4" => addresses.iter().all(IpAddr::is_ipv4),
        "TCP6" => addresses.iter().all(IpAddr::is_ipv6),
        _ => false,
    };
    let [from, to] = ports;
    // Written again, all but the addresses, which have many spellings in IPv6.
    let again = format!("PROXY {family} {source} {destination} {from} {to}\r\n");
    (is_kind && again == text).then_some((Some(addresses[0]), end))
}

fn version_2(bytes: &[u8]) -> Option<(Option<IpAddr>, usize)> {
    let (head, rest) = bytes.split_at_checked(16)?;
    let [signature @ .., command, family, high, low] = head else {
        return None;
    };
    if signature != b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a" {
        return None;
    }
    let length = usize::from(*high) * 256 + usize::from(*low);
    if length + 16 > 16 * 1024 || rest.len() < length {
        return None;
    }
    let block = &rest[..length];
    let source = match (command, family) {
        (0x20, _) | (0x21, 0x00) => None,
        (0x21, 0x11 | 0x12) => {
            let [a, b, c, d, ..] = block.get(..12)? else {
                return None;
            };
            Some(IpAddr::from([*a, *b, *c, *d]))
        }
        (0x21, 0x21 | 0x22) => {
            let address = block.get(..36)?[..16].iter();
            let bits = address.fold(0, |bits: u128, byte| bits << 8 | u128::from(*byte));
            Some(Ipv6Addr::from_bits(bits).into())
        }
        (0x21, 0x31 | 0x32) => {
            block.get(..216)?;
            None
        }
        _ => return None,
    };
    Some((source, 16 + length))
}
