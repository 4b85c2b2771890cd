//! `~/.practicus/core.conf`, the SDK's store: read as Python's `configparser` wrote it, never
//! written.
//!
//! Values are raw (no quotes, escapes, `%` or comments in them), keys know no case, sections do;
//! anything twice is an error, as it is there. `password` is the SDK's own: it is left alone.

use std::collections::BTreeMap;

use ini::{Ini, ParseOption};
use url::Url;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// One region that the SDK is logged in to.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The region's URL.
    pub host_url: Url,
    /// The user's email; older files have none.
    pub email: Option<String>,
    /// The user's name; the part of the email before the `@` where the file has none.
    pub username: String,
    /// The refresh token, which the SDK uses too.
    pub refresh_token: Secret,
}

/// Why no entry can be read. The texts name sections, keys and region keys, never a value else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// It is not what `configparser` writes.
    Syntax(String),
    /// A section or key is there twice.
    Twice(String),
    /// No region is in it.
    NoRegion,
    /// The file names no default, or none was asked for, and there are several.
    NoDefault {
        /// The region keys that are there.
        found: Vec<String>,
    },
    /// The region asked for is not in it.
    NotFound {
        /// What was asked for.
        key: String,
        /// The region keys that are there.
        found: Vec<String>,
    },
    /// Two entries have this region key.
    Ambiguous {
        /// The region key.
        key: String,
    },
    /// The entry lacks something, or it makes no sense.
    BadEntry {
        /// The section.
        section: String,
        /// What is wrong.
        why: String,
    },
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Syntax(what) => write!(f, "core.conf is no file of the SDK's: {what}"),
            Error::Twice(what) => write!(f, "core.conf has {what} twice"),
            Error::NoRegion => f.write_str(
                "core.conf has no region in it: log in with the SDK first, or use `regent login`",
            ),
            Error::NoDefault { found } => write!(
                f,
                "core.conf has several regions and no default_region_key: set \
                 region.credential.core_conf_region to one of {}",
                found.join(", ")
            ),
            Error::NotFound { key, found } => write!(
                f,
                "core.conf has no region {key:?}; it has {}",
                found.join(", ")
            ),
            Error::Ambiguous { key } => write!(f, "core.conf has the region {key:?} twice"),
            Error::BadEntry { section, why } => write!(f, "core.conf, [{section}]: {why}"),
        }
    }
}

impl std::error::Error for Error {}

type Section = BTreeMap<String, String>;

/// Reads the entry of `region_key` (`username@host[:port]`), or of the file's own default, or the
/// only one.
///
/// # Errors
/// An [`Error`] that lists what is there.
pub fn read(text: &str, region_key: Option<&str>) -> Result<Entry, Error> {
    let sections = sections(text)?;
    let regions: Vec<(&String, &Section)> = sections
        .iter()
        .filter(|(name, _)| is_region(name))
        .collect();
    if regions.is_empty() {
        return Err(Error::NoRegion);
    }
    let default = sections
        .get("k8s")
        .and_then(|section| section.get("default_region_key"))
        .filter(|key| !key.is_empty());
    let found = || -> Vec<String> { regions.iter().filter_map(|(_, of)| key_of(of)).collect() };
    let Some(key) = region_key.or(default.map(String::as_str)) else {
        return match regions.as_slice() {
            [(name, section)] => entry(name, section),
            _ => Err(Error::NoDefault { found: found() }),
        };
    };
    let wanted = normal(key);
    let mut matching = regions
        .iter()
        .filter(|(_, section)| key_of(section).is_some_and(|key| normal(&key) == wanted));
    let (name, section) = matching.next().ok_or_else(|| Error::NotFound {
        key: shown(key),
        found: found(),
    })?;
    if matching.next().is_some() {
        return Err(Error::Ambiguous { key: shown(key) });
    }
    entry(name, section)
}

fn is_region(section: &str) -> bool {
    section
        .strip_prefix("k8s_config_")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// What the SDK calls an entry: its user, and its URL without the scheme.
fn key_of(section: &Section) -> Option<String> {
    let url = section.get("host_url")?;
    let host = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"))
        .unwrap_or(url);
    let host = host.trim_end_matches('/');
    // A URL may hold a password.
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    Some(shown(&format!("{}@{host}", username(section)?)))
}

fn username(section: &Section) -> Option<&str> {
    let given = |key: &str| section.get(key).filter(|value| !value.is_empty());
    given("username")
        .map(String::as_str)
        .or_else(|| given("email")?.split('@').next())
}

/// A region key as it is compared: hosts know no case.
fn normal(key: &str) -> String {
    let key = key.trim().trim_end_matches('/');
    match key.rsplit_once('@') {
        Some((user, host)) => format!("{user}@{}", host.to_ascii_lowercase()),
        None => key.to_owned(),
    }
}

/// A region key as it is printed: whatever the file holds, it is one short line.
fn shown(key: &str) -> String {
    key.chars()
        .filter(|char| !char.is_control())
        .take(200)
        .collect()
}

fn entry(name: &str, section: &Section) -> Result<Entry, Error> {
    let bad = |why: String| Error::BadEntry {
        section: name.to_owned(),
        why,
    };
    let value = |key: &str| -> Result<&str, Error> {
        let value = section
            .get(key)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| bad(format!("{key:?} is missing; log in with the SDK again")))?;
        if value.contains('\n') {
            return Err(bad(format!("{key:?} has more than one line")));
        }
        Ok(value)
    };
    let host_url: Url = value("host_url")?
        .parse()
        .map_err(|_| bad("\"host_url\" is no URL".into()))?;
    if !matches!(host_url.scheme(), "http" | "https") || !host_url.has_host() {
        return Err(bad("\"host_url\" is no http or https URL".into()));
    }
    if !host_url.username().is_empty() || host_url.password().is_some() {
        return Err(bad("\"host_url\" has a user or a password in it".into()));
    }
    let refresh_token = value("refresh_token")?;
    if refresh_token
        .chars()
        .any(|c| c.is_whitespace() || c.is_control())
    {
        return Err(bad("\"refresh_token\" has white space in it".into()));
    }
    let username = username(section)
        .ok_or_else(|| bad("neither \"username\" nor \"email\" is there".into()))?;
    Ok(Entry {
        host_url,
        email: section
            .get("email")
            .filter(|email| !email.is_empty())
            .cloned(),
        username: username.to_owned(),
        refresh_token: Secret::from(refresh_token),
    })
}

/// All sections, each with what `[DEFAULT]` adds to it.
fn sections(text: &str) -> Result<BTreeMap<String, Section>, Error> {
    let options = ParseOption {
        enabled_quote: false,
        enabled_escape: false,
        enabled_indented_mutiline_value: true,
        ..ParseOption::default()
    };
    // Comments have a line of their own, with or without white space before them; the parser would
    // take the latter for keys. An empty line in their place keeps the count.
    let text = Zeroizing::new(
        text.lines()
            .map(|line| {
                if line.trim_start().starts_with(['#', ';']) {
                    ""
                } else {
                    line
                }
            })
            .collect::<Vec<_>>()
            .join("\n"),
    );
    // The parser's own message may quote the line.
    let parsed = Ini::load_from_str_opt(&text, options)
        .map_err(|error| Error::Syntax(format!("line {} cannot be read", error.line)))?;
    let mut sections: BTreeMap<String, Section> = BTreeMap::new();
    for (name, properties) in &parsed {
        let Some(name) = name else {
            if properties.is_empty() {
                continue;
            }
            return Err(Error::Syntax(
                "a key stands before the first section".into(),
            ));
        };
        if name.is_empty() || name.contains(['\n', '\r']) {
            return Err(Error::Syntax("a section's name has no \"]\"".into()));
        }
        let name = shown(name);
        let mut section = Section::new();
        for (key, value) in properties {
            // The parser reads on to the next "=".
            let key = key.trim();
            if key.contains(['\n', '\r']) {
                return Err(Error::Syntax(format!("a key in [{name}] has no \"=\"")));
            }
            let key = key.to_lowercase();
            let twice = format!("{key:?} in [{name}]");
            if section.insert(key, value.to_owned()).is_some() {
                return Err(Error::Twice(twice));
            }
        }
        let twice = format!("the section [{name}]");
        if sections.insert(name, section).is_some() {
            return Err(Error::Twice(twice));
        }
    }
    let default = sections.remove("DEFAULT").unwrap_or_default();
    for section in sections.values_mut() {
        for (key, value) in &default {
            section.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    Ok(sections)
}

#[cfg(test)]
mod tests;
