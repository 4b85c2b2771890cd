//! Values that are never printed: tokens and passwords, and what stands for them in logs.
//!
//! - A [`Secret`] has no `Display`, no `Serialize`, and a `Debug` that says `[redacted]`.
//! - Its memory is wiped when it is dropped.
//! - A [`Digest`] names a secret without telling it: SHA-256, of which logs show 8 digits.

use std::fmt;
use std::str::FromStr;

use http::HeaderValue;
use zeroize::Zeroizing;

/// A token or a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the value; the caller's copy is moved, not cloned.
    #[must_use]
    pub fn new(value: String) -> Secret {
        Secret(Zeroizing::new(value))
    }

    /// The value itself, for the one place that sends or stores it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What stands for the value where it must be recognised again.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }

    /// `Bearer <value>`, marked sensitive; `None` where the value cannot stand in a header.
    #[must_use]
    pub fn bearer(&self) -> Option<HeaderValue> {
        let text = Zeroizing::new(format!("Bearer {}", self.expose()));
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Secret {
        Secret::new(value.to_owned())
    }
}

/// SHA-256 of a secret. `Display` writes all 64 hexadecimal digits, `Debug` the first 8.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Digest {
        let mut out = [0; 32];
        out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
        Digest(out)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4]
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Digest {
    type Err = ();
    fn from_str(text: &str) -> Result<Digest, ()> {
        let mut out = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(());
        }
        for (byte, at) in out.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| ())?;
        }
        Ok(Digest(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::from("canary");
        assert_eq!(format!("{secret:?}"), "[redacted]");
        let bearer = secret.bearer().expect("a plain word fits a header");
        assert!(!format!("{bearer:?}").contains("canary"));
        assert_eq!(bearer.as_bytes(), b"Bearer canary");
    }

    #[test]
    fn a_value_with_a_line_break_is_no_header() {
        assert!(Secret::from("a\r\nb").bearer().is_none());
    }

    #[test]
    fn a_digest_reads_back() {
        let digest = Secret::from("x").digest();
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(Digest::from_str("zz"), Err(()));
        assert_eq!(format!("{digest:?}").len(), 8);
    }
}
