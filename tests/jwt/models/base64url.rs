//! base64url (RFC 4648 section 5) without padding, bit by bit.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The letters for some bytes.
pub(crate) fn letters(bytes: impl AsRef<[u8]>) -> String {
    let mut letters = String::new();
    let (mut held, mut bits) = (0, 0);
    let mut letter = |six: usize| letters.push(ALPHABET[six & 63] as char);
    for byte in bytes.as_ref() {
        held = (held << 8 | usize::from(*byte)) & 0xffff;
        bits += 8;
        while bits >= 6 {
            bits -= 6;
            letter(held >> bits);
        }
    }
    if bits > 0 {
        letter(held << (6 - bits));
    }
    letters
}

/// What [`letters`] made of some bytes; `None`: it made this of none.
pub(crate) fn octets(letters: &[u8]) -> Option<Vec<u8>> {
    let mut octets = Vec::new();
    let (mut held, mut bits) = (0_u16, 0);
    for letter in letters {
        let six = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        held = held << 6 | u16::from(six);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            octets.push(u8::try_from(held >> bits).ok()?);
            held &= (1 << bits) - 1;
        }
    }
    // What is left means nothing: less than a letter, and no bit of it set.
    (bits < 6 && held == 0).then_some(octets)
}
