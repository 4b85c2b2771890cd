//! Identity headers: what the workload may trust about who calls.
//!
//! - What a caller sent under one of these names, or under any name that a CGI, WSGI or PHP server
//!   folds into it, is removed first; what we set comes last, once.
//! - A value is a claim's text. What cannot be a header's value in full is refused, never cut.
//! - A federated issuer's values begin with its name in the config: `west:alice`. A value that is not
//!   qualified never begins like one that is, so that nobody is taken for another issuer's user.

use std::collections::HashSet;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::admit::LOOP;
use crate::config::inbound::{fold, is_issuer_name};
use crate::jwt::issuers::{Claims, Requirement};

/// Names the user, where the config keeps the default.
pub const USER: HeaderName = HeaderName::from_static("x-regent-user");
/// Names the issuer, by its name in the config.
pub const ISSUER: HeaderName = HeaderName::from_static("x-regent-issuer");
/// All names that begin like this are ours.
const OURS: &str = "x-regent-";
/// The longest value. Bytes.
const LONGEST: usize = 4096;

/// The names that no caller may send.
#[derive(Clone, Debug, Default)]
pub struct Names(Vec<Box<[u8]>>);

impl Names {
    /// These, and the issuer's.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = HeaderName>) -> Names {
        let mut folded: Vec<Box<[u8]>> = names
            .into_iter()
            .chain([ISSUER])
            .map(|name| name.as_str().bytes().map(fold).collect())
            .collect();
        folded.sort_unstable();
        folded.dedup();
        Names(folded)
    }

    /// Removes every field that a server may take for one of them.
    pub fn strip(&self, headers: &mut HeaderMap) {
        if !headers.keys().any(|name| self.has(name)) {
            return;
        }
        let found: Vec<HeaderName> = headers
            .keys()
            .filter(|name| self.has(name))
            .cloned()
            .collect();
        for name in found {
            headers.remove(name);
        }
    }

    /// Whether a server may take this name for one of them, or for another of ours: a workload may be
    /// written for names that this config does not use.
    #[must_use]
    pub fn has(&self, name: &HeaderName) -> bool {
        if *name == LOOP {
            return false;
        }
        let name = name.as_str().as_bytes();
        let head = name.get(..OURS.len()).unwrap_or(name);
        if head.iter().map(|byte| fold(*byte)).eq(OURS.bytes()) {
            return true;
        }
        self.0.iter().any(|ours| {
            ours.len() == name.len()
                && name
                    .iter()
                    .zip(ours.iter())
                    .all(|(byte, ours)| fold(*byte) == *ours)
        })
    }
}

/// How one issuer's claims become headers.
#[derive(Debug)]
pub struct Identity {
    issuer: HeaderValue,
    /// `west:`; `None`: values stand as they are.
    prefix: Option<String>,
    /// What values that stand as they are never begin with.
    reserved: Qualifiers,
    map: Vec<(HeaderName, Requirement)>,
}

/// The names of all issuers: what qualified values begin with. Shared, for there may be thousands.
#[derive(Clone, Debug)]
pub enum Qualifiers {
    /// Those of the config.
    Known(Arc<HashSet<String>>),
    /// Whatever an issuer can be called: a list has more of them, and an entry that is left out, or has
    /// left, is known to the workload all the same.
    Any,
}

impl Qualifiers {
    /// Of these names.
    pub fn known<'a>(names: impl IntoIterator<Item = &'a str>) -> Qualifiers {
        let folded = names.into_iter().map(str::to_ascii_lowercase);
        Qualifiers::Known(Arc::new(folded.collect()))
    }

    /// Whether this can be read as a qualified value.
    fn begin(&self, text: &str) -> bool {
        let head = text.split_once(':').map(|(head, _)| head);
        head.is_some_and(|head| match self {
            Qualifiers::Known(names) => names.contains(&head.to_ascii_lowercase()),
            Qualifiers::Any => is_issuer_name(head),
        })
    }
}

/// A claim that cannot be a header's value: its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsafe(pub String);

impl Identity {
    /// For the issuer of this name. `None` where the name is no header value, which the config's own
    /// checks refuse.
    #[must_use]
    pub fn new(
        name: &str,
        is_qualified: bool,
        reserved: Qualifiers,
        map: Vec<(HeaderName, String)>,
    ) -> Option<Identity> {
        let find = |(header, name)| (header, Requirement::new(name, Vec::new()));
        Some(Identity {
            issuer: HeaderValue::from_str(name).ok()?,
            prefix: is_qualified.then(|| format!("{name}:")),
            reserved,
            map: map.into_iter().map(find).collect(),
        })
    }

    /// The headers for these claims, the issuer's among them. A claim that is absent has none.
    ///
    /// # Errors
    /// The first claim that cannot be a header's value.
    pub fn headers(&self, claims: &Claims) -> Result<Vec<(HeaderName, HeaderValue)>, Unsafe> {
        let mut headers = Vec::with_capacity(self.map.len() + 1);
        headers.push((ISSUER, self.issuer.clone()));
        for (header, claim) in &self.map {
            let value = match claim.find(claims) {
                None | Some(Value::Null) => continue,
                Some(Value::String(text)) if is_scope(claim.name()) => self.words(text),
                Some(value) => self.text(value),
            };
            let value = value
                .filter(|text| is_plain(text))
                .and_then(|text| HeaderValue::from_bytes(text.as_bytes()).ok());
            headers.push((
                header.clone(),
                value.ok_or_else(|| Unsafe(claim.name().to_owned()))?,
            ));
        }
        Ok(headers)
    }

    /// A claim as text; a list is joined with commas. `None` for what has no one text.
    fn text(&self, value: &Value) -> Option<String> {
        match value {
            Value::Array(items) => {
                let items: Option<Vec<String>> = items
                    .iter()
                    .map(|item| self.scalar(item).filter(|text| !text.contains(',')))
                    .collect();
                items.map(|items| items.join(","))
            }
            scalar => self.scalar(scalar),
        }
    }

    fn scalar(&self, value: &Value) -> Option<String> {
        let text = match value {
            Value::String(text) => text.clone(),
            // Beyond 64 bits and with a fraction two users may be read as one.
            Value::Number(number) if number.is_f64() => return None,
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        match &self.prefix {
            // A comma would make the rest of it a value of nobody's.
            Some(_) if text.contains(',') => None,
            Some(prefix) => Some(format!("{prefix}{text}")),
            None => (!self.poses(&text)).then_some(text),
        }
    }

    /// The words of a `scope`, each as a value of its own.
    fn words(&self, text: &str) -> Option<String> {
        let words = text.split(' ').filter(|word| !word.is_empty());
        let words: Option<Vec<String>> = words
            .map(|word| self.scalar(&Value::String(word.to_owned())))
            .collect();
        words.map(|words| words.join(" "))
    }

    /// Whether a part of it, as a list or as words, can be read as a qualified value.
    fn poses(&self, text: &str) -> bool {
        text.split([',', ' ']).any(|part| self.reserved.begin(part))
    }
}

/// The claims whose texts are lists of words (RFC 6749 section 3.3).
fn is_scope(name: &str) -> bool {
    matches!(name, "scope" | "scp")
}

/// Letters and digits of any script, and what ASCII prints: no control or format character, which
/// could hide or reorder what a person reads, and no space at the ends, which is cut on the way.
fn is_plain(text: &str) -> bool {
    text.len() <= LONGEST
        && text.trim() == text
        && (text.chars()).all(|char| char.is_alphanumeric() || matches!(char, ' '..='~'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn claims(value: Value) -> Claims {
        match value {
            Value::Object(claims) => claims,
            _ => unreachable!("tests give objects"),
        }
    }

    fn identity(is_qualified: bool) -> Identity {
        let map = vec![
            (
                HeaderName::from_static("x-regent-user"),
                "username".to_owned(),
            ),
            (
                HeaderName::from_static("x-roles"),
                "/realm/roles".to_owned(),
            ),
        ];
        let names = Qualifiers::known(["home", "west"]);
        Identity::new("west", is_qualified, names, map).expect("a plain name")
    }

    fn user(is_qualified: bool, username: Value) -> Result<String, Unsafe> {
        let headers = identity(is_qualified).headers(&claims(json!({ "username": username })))?;
        let value = headers.iter().find(|(name, _)| *name == "x-regent-user");
        let value = value
            .map(|(_, value)| value.as_bytes().to_vec())
            .unwrap_or_default();
        Ok(String::from_utf8(value).expect("text"))
    }

    #[test]
    fn values_of_a_federated_issuer_begin_with_its_name() {
        assert_eq!(user(true, json!("alice")).as_deref(), Ok("west:alice"));
        assert_eq!(user(true, json!(7)).as_deref(), Ok("west:7"));
        assert_eq!(user(false, json!("alice")).as_deref(), Ok("alice"));
        let roles = claims(json!({ "realm": { "roles": ["a", "b"] } }));
        let headers = identity(true).headers(&roles).expect("plain");
        assert!(headers.contains(&(
            HeaderName::from_static("x-roles"),
            HeaderValue::from_static("west:a,west:b")
        )));
        assert!(headers.contains(&(ISSUER, HeaderValue::from_static("west"))));
    }

    #[test]
    fn nobody_poses_as_another_issuers_user() {
        for name in [
            "west:alice",
            "home:alice",
            "west:",
            "West:alice",
            "x,west:alice",
            "x west:y",
        ] {
            assert_eq!(user(false, json!(name)), Err(Unsafe("username".to_owned())));
        }
        assert_eq!(
            user(false, json!("east:alice")).as_deref(),
            Ok("east:alice")
        );
        assert_eq!(
            user(true, json!("home:alice")).as_deref(),
            Ok("west:home:alice")
        );
    }

    #[test]
    fn no_part_of_a_federated_value_stands_unqualified() {
        assert_eq!(
            user(true, json!("viewer,admin")),
            Err(Unsafe("username".to_owned()))
        );
        let map = vec![(HeaderName::from_static("x-scope"), "scope".to_owned())];
        let west =
            Identity::new("west", true, Qualifiers::known(["west"]), map).expect("a plain name");
        let headers = west.headers(&claims(json!({ "scope": "read  admin" })));
        let scope = (
            HeaderName::from_static("x-scope"),
            HeaderValue::from_static("west:read west:admin"),
        );
        assert!(headers.expect("plain").contains(&scope));
    }

    #[test]
    fn what_cannot_be_a_header_value_is_refused_whole() {
        for value in [
            json!("a\r\nx-admin: 1"),
            json!("a\nb"),
            json!("a\u{0}"),
            json!("\u{7f}"),
            json!("a\u{202e}b"),
            json!("a\u{200b}b"),
            json!(" alice"),
            json!("alice "),
            json!({}),
            json!([["a"]]),
            json!(["a,b"]),
            json!(1.5),
            json!(18_446_744_073_709_551_616.0),
            json!("x".repeat(LONGEST + 1)),
        ] {
            assert_eq!(
                user(false, value.clone()),
                Err(Unsafe("username".to_owned())),
                "{value}"
            );
        }
        assert_eq!(
            user(false, json!("Jürgen Œuvre 東京")).as_deref(),
            Ok("Jürgen Œuvre 東京")
        );
        assert_eq!(
            user(false, Value::Null).as_deref(),
            Ok(""),
            "no header at all"
        );
    }

    #[test]
    fn a_callers_look_alikes_are_removed_in_every_spelling() {
        let names = Names::new([HeaderName::from_static("x-regent-user")]);
        let mut headers = HeaderMap::new();
        for name in [
            "x-regent-user",
            "X-Regent-User",
            "x_regent_user",
            "X.Regent.User",
            "x-regent_user",
            "x~regent~user",
            "X_REGENT-ISSUER",
            "x-regent-users",
            "x-regent-hop",
            "x-regent-use",
            "accept",
        ] {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            headers.append(name, HeaderValue::from_static("mallory"));
        }
        names.strip(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "x-regent-hop"]);
    }

    proptest! {
        #[test]
        fn a_value_arrives_whole_or_not_at_all(text in any::<String>(), qualified: bool) {
            match user(qualified, json!(text)) {
                Ok(value) => {
                    let whole = if qualified { format!("west:{text}") } else { text };
                    prop_assert_eq!(&value, &whole);
                    prop_assert!(!value.chars().any(char::is_control));
                }
                Err(Unsafe(name)) => prop_assert_eq!(name, "username"),
            }
        }

        #[test]
        fn no_spelling_of_ours_gets_through(
            marks in proptest::collection::vec(proptest::sample::select(b"-_.~!#$%&'*+^`|".to_vec()), 2),
            upper in any::<u16>(),
        ) {
            let mut name: Vec<u8> = b"x-regent-user".to_vec();
            name[1] = marks[0];
            name[8] = marks[1];
            for (at, byte) in name.iter_mut().enumerate() {
                if upper >> at & 1 == 1 {
                    *byte = byte.to_ascii_uppercase();
                }
            }
            let names = Names::new([HeaderName::from_static("x-regent-user")]);
            let name = HeaderName::from_bytes(&name).expect("a token");
            prop_assert!(names.has(&name));
        }
    }
}
