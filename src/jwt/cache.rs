//! Verdicts that were reached, of one data thread: by the whole token, and by nothing less.
//!
//! - A key is compared byte for byte; its hash is seeded, so that nobody can aim at it.
//! - Only what was verified comes in, so that a flood of forged tokens pushes nobody out.
//! - It holds up to 4,096 verdicts and 8 MiB of tokens. Whether a verdict still holds (expiry, keys,
//!   policy) is its reader's business.

use std::fmt;

use foldhash::quality::RandomState;
use quick_cache::unsync;

/// The most that all tokens weigh together. Bytes.
const WEIGHT: u64 = 8 << 20;
/// The most verdicts.
const MOST: u64 = 4096;

/// The verdicts of one thread.
pub struct Cache<V>(unsync::Cache<Box<[u8]>, V, Bytes, RandomState>);

/// What a verdict weighs: its token, and never less than its share.
#[derive(Clone)]
struct Bytes;

impl<V> quick_cache::Weighter<Box<[u8]>, V> for Bytes {
    fn weight(&self, token: &Box<[u8]>, _: &V) -> u64 {
        (token.len() as u64).max(WEIGHT / MOST)
    }
}

impl<V> fmt::Debug for Cache<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its keys are tokens.
        f.debug_struct("Cache")
            .field("verdicts", &self.0.len())
            .finish()
    }
}

impl<V> Default for Cache<V> {
    fn default() -> Cache<V> {
        Cache(unsync::Cache::with(
            1024,
            WEIGHT,
            Bytes,
            RandomState::default(),
            quick_cache::unsync::DefaultLifecycle::default(),
        ))
    }
}

impl<V> Cache<V> {
    /// The verdict on this token.
    #[must_use]
    pub fn find(&self, token: &[u8]) -> Option<&V> {
        self.0.get(token)
    }

    /// Keeps a verdict; an older one on the same token goes.
    pub fn keep(&mut self, token: &[u8], verdict: V) {
        self.0.insert(token.into(), verdict);
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_finds_its_verdict() {
        let mut cache = Cache::default();
        cache.keep(b"aaaa.bbbb.cccc", 1);
        assert_eq!(cache.find(b"aaaa.bbbb.cccc"), Some(&1));
        for other in [
            &b"aaaa.bbbb.cccd"[..],
            b"aaaa.bbbb.ccc",
            b"aaaa.bbbx.cccc",
            b"",
        ] {
            assert_eq!(cache.find(other), None);
        }
        cache.clear();
        assert_eq!(cache.find(b"aaaa.bbbb.cccc"), None);
    }

    #[test]
    fn what_it_holds_is_bounded_in_number_and_in_bytes() {
        let mut cache = Cache::default();
        for at in 0..100_000_u32 {
            cache.keep(&at.to_be_bytes(), at);
        }
        assert!(cache.0.len() as u64 <= MOST, "{}", cache.0.len());
        assert!(cache.0.len() > 1000, "{}", cache.0.len());
        cache.clear();
        for at in 0..2_000_u32 {
            let mut token = vec![0; 16 * 1024];
            token[..4].copy_from_slice(&at.to_be_bytes());
            cache.keep(&token, at);
        }
        assert!(cache.0.weight() <= WEIGHT);
        assert!(cache.0.len() > 100, "{}", cache.0.len());
    }
}
