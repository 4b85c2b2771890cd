//! What `regent login` stores: the region's URL, whose login it is, and the refresh token alone.

use serde::{Deserialize, Serialize};
use url::Url;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// The content of `login.json`.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The region that was logged in to.
    pub region: Url,
    /// Who logged in, as they wrote it.
    pub email: Option<String>,
    /// The username in the token, where it has one.
    pub user: Option<String>,
    /// The refresh token.
    pub refresh_token: Secret,
}

#[derive(Serialize, Deserialize)]
struct Wire<T> {
    version: u32,
    region: T,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    refresh_token: T,
}

impl Stored {
    /// Reads the file's content.
    ///
    /// # Errors
    /// What is wrong with it; never a part of it.
    pub fn parse(content: &[u8]) -> Result<Stored, &'static str> {
        let wire: Wire<String> = serde_json::from_slice(content)
            .map_err(|_| "it is not what `regent login` writes; run `regent login` again")?;
        if wire.version != 1 {
            return Err("it was written by a newer version of regent");
        }
        Ok(Stored {
            region: Url::parse(&wire.region)
                .map_err(|_| "its region is no URL; run `regent login` again")?,
            email: wire.email,
            user: wire.user,
            refresh_token: Secret::new(wire.refresh_token),
        })
    }

    /// The file's content.
    #[must_use]
    pub fn content(&self) -> Zeroizing<Vec<u8>> {
        render(&Wire {
            version: 1,
            region: self.region.as_str(),
            email: self.email.clone(),
            user: self.user.clone(),
            refresh_token: self.refresh_token.expose(),
        })
    }
}

/// A document as people can read it, in memory that is wiped.
pub(super) fn render(document: &impl Serialize) -> Zeroizing<Vec<u8>> {
    // Room for the largest token: a buffer that grows leaves copies behind.
    let mut content = Zeroizing::new(Vec::with_capacity(crate::files::READ_LIMIT));
    serde_json::to_writer_pretty(&mut *content, document)
        .expect("strings and numbers under string keys always serialise");
    content.push(b'\n');
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_reads_back_and_is_never_printed() {
        let stored = Stored {
            region: Url::parse("https://region.example").expect("a URL"),
            email: Some("alice@example.com".to_owned()),
            user: None,
            refresh_token: Secret::from("canary"),
        };
        let back = Stored::parse(&stored.content()).expect("our own");
        assert_eq!(back.refresh_token, stored.refresh_token);
        assert_eq!(back.region, stored.region);
        assert!(!format!("{back:?}").contains("canary"));
    }

    #[test]
    fn what_is_not_ours_is_refused_without_quoting_it() {
        for content in [
            r#"{"version":1,"refresh_token":"canary"}"#,
            "canary",
            "",
            "[]",
        ] {
            let error = Stored::parse(content.as_bytes()).expect_err("not ours");
            assert!(!error.contains("canary"));
        }
    }
}
