//! The document that rotated refresh tokens are stored in.
//!
//! It belongs to one region, and holds the token that was written last, and behind it those of the
//! other rungs that share the file: each is known by the source token that it grew from.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Held;
use crate::files::READ_LIMIT;
use crate::secret::Secret;
use crate::token::login_file::render;

/// One for each rung that a refresh token can come from. What more there is grew from tokens that
/// are in no source any more.
const MOST: usize = 4;

#[derive(Serialize, Deserialize)]
struct Wire<T> {
    version: u32,
    region: T,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_id: Option<T>,
    refresh_token: T,
    grew_from: String,
    #[serde(default)]
    rotation: u64,
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    others: Vec<Entry<T>>,
}

#[derive(Serialize, Deserialize)]
struct Entry<T> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_id: Option<T>,
    refresh_token: T,
    grew_from: String,
    #[serde(default)]
    rotation: u64,
}

/// What a document holds, where it is a whole one of this region; the last written first.
pub(super) fn parse(content: &[u8], region: &str) -> Vec<Held> {
    let Ok(wire) = serde_json::from_slice::<Wire<String>>(content) else {
        return Vec::new();
    };
    if wire.version != 1 || wire.region != region {
        return Vec::new();
    }
    let first = Entry {
        user_id: wire.user_id,
        refresh_token: wire.refresh_token,
        grew_from: wire.grew_from,
        rotation: wire.rotation,
    };
    std::iter::once(first)
        .chain(wire.others)
        .filter_map(|entry| {
            let token = Secret::new(entry.refresh_token);
            Some(Held {
                grew_from: entry.grew_from.parse().ok()?,
                rotation: entry.rotation,
                user_id: entry.user_id,
                token,
            })
        })
        .filter(|held| !held.token.expose().is_empty())
        .collect()
}

/// The others that stay beside a new token: as many as there can be rungs, and no more than can be
/// read again.
pub(super) fn beside(held: &Held, mut there: Vec<Held>) -> Vec<Held> {
    let mut room = (READ_LIMIT / 2).saturating_sub(held.token.expose().len());
    there.retain(|other| other.grew_from != held.grew_from);
    there.truncate(MOST - 1);
    there.retain(|other| {
        let len = other.token.expose().len();
        let fits = len <= room;
        room = room.saturating_sub(len);
        fits
    });
    there
}

/// A document's content.
pub(super) fn content(region: &str, held: &Held, others: &[Held]) -> Zeroizing<Vec<u8>> {
    let others = others.iter().map(|other| Entry {
        user_id: other.user_id.as_deref(),
        refresh_token: other.token.expose(),
        grew_from: other.grew_from.to_string(),
        rotation: other.rotation,
    });
    render(&Wire {
        version: 1,
        region,
        user_id: held.user_id.as_deref(),
        refresh_token: held.token.expose(),
        grew_from: held.grew_from.to_string(),
        rotation: held.rotation,
        others: others.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(source: usize, rotation: u64, token: &str) -> Held {
        Held {
            token: Secret::from(token),
            grew_from: Secret::from(format!("source {source}").as_str()).digest(),
            rotation,
            user_id: (source == 1).then(|| "7".to_owned()),
        }
    }

    #[test]
    fn what_is_written_is_read_again_the_last_written_first() {
        let (one, two) = (held(1, 3, "a"), held(2, 1, "b"));
        let content = content("https://r", &one, std::slice::from_ref(&two));
        assert_eq!(parse(&content, "https://r"), [one, two]);
        assert!(parse(&content, "https://other").is_empty());
        assert!(parse(&content[..content.len() / 2], "https://r").is_empty());
    }

    #[test]
    fn a_document_of_one_token_is_read_as_ever() {
        let one = held(2, 5, "a");
        let text = format!(
            r#"{{"version":1,"region":"https://r","refresh_token":"a","grew_from":"{}","rotation":5}}"#,
            one.grew_from
        );
        assert_eq!(parse(text.as_bytes(), "https://r"), [one]);
    }

    #[test]
    fn what_stays_beside_a_new_token_is_bounded() {
        let there: Vec<Held> = (1..20).map(|source| held(source, 1, "t")).collect();
        let kept = beside(&held(2, 2, "new"), there);
        assert_eq!(kept, [held(1, 1, "t"), held(3, 1, "t"), held(4, 1, "t")]);
        let large = "t".repeat(READ_LIMIT / 5);
        let there: Vec<Held> = (1..4).map(|source| held(source, 1, &large)).collect();
        let new = held(4, 2, &large);
        let kept = beside(&new, there);
        assert_eq!(kept.len(), 1);
        assert!(content("https://r", &new, &kept).len() <= READ_LIMIT);
    }
}
