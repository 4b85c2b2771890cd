//! A list of tokens that are taken back: by `jti`, by user, or all that were issued before a moment.
//!
//! - An entry names an issuer by its name in the config, or in the list of issuers.
//! - A broken entry costs no other. It may be a token that goes on being taken, so it is told.

use serde_json::Value as Json;

use super::Fault;
use super::claim::scalar;
use super::document::{self, Item};
use crate::config::tree::{Node, Value};
use crate::config::value::{Given, quoted};

/// The key that the list stands under.
const KEY: &str = "revoked";
/// More than fit into a document.
const MOST: usize = 100_000;
/// In the year 5138. A larger number is milliseconds or nonsense.
const LAST: i64 = 100_000_000_000;

/// What is taken back.
#[derive(Clone, Debug, PartialEq)]
pub struct Revocation {
    /// The issuer's name.
    pub issuer: String,
    /// Which of its tokens.
    pub what: What,
}

/// Tokens of one issuer.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// Those with this `jti`: a string or a number.
    Jti(Json),
    /// Those of this user: a string or a number.
    UserId(Json),
    /// Those that were issued before this second since the epoch, or do not say when.
    IssuedBefore(i64),
}

/// Reads a list.
///
/// # Errors
/// It is no list of revocations.
pub fn read(document: &[u8]) -> Result<Vec<Result<Revocation, Fault>>, String> {
    let items = document::items(document, KEY, MOST)?;
    let one = |(place, item): (usize, Item)| {
        entry(&item).map_err(|why| Fault {
            list: KEY,
            place,
            name: None,
            why,
        })
    };
    Ok(items.into_iter().enumerate().map(one).collect())
}

fn entry(item: &Item) -> Result<Revocation, String> {
    let Value::Table(entries) = &item.node.value else {
        return Err(
            "expected a table; write issuer and one of jti, user_id and issued_before".to_owned(),
        );
    };
    if item.is_twice {
        return Err("a key stands twice in it; remove one of them".to_owned());
    }
    let (mut issuer, mut found) = (None, Vec::new());
    for entry in entries {
        let key = &*entry.key;
        let named = |wrong: String| format!("{key}: {wrong}");
        let what = match key {
            "issuer" => {
                issuer = Some(given(&entry.node).text().map_err(named)?.to_owned());
                continue;
            }
            "jti" => What::Jti(text_or_number(&entry.node).map_err(named)?),
            "user_id" => What::UserId(text_or_number(&entry.node).map_err(named)?),
            "issued_before" => What::IssuedBefore(second(&entry.node).map_err(named)?),
            _ => {
                return Err(format!(
                    "no key {} in an entry; there are issuer, jti, user_id, issued_before",
                    quoted(key)
                ));
            }
        };
        found.push(what);
    }
    let Some(issuer) = issuer else {
        return Err("issuer is missing; write the name of one, as in the config".to_owned());
    };
    match <[What; 1]>::try_from(found) {
        Ok([what]) => Ok(Revocation { issuer, what }),
        Err(found) if found.is_empty() => {
            Err("says no tokens; write one of jti, user_id and issued_before".to_owned())
        }
        Err(_) => {
            Err("write one of jti, user_id and issued_before, and an entry for each".to_owned())
        }
    }
}

fn given(node: &Node) -> Given<'_> {
    Given::new(node, false, None)
}

fn text_or_number(node: &Node) -> Result<Json, String> {
    match scalar(&given(node))? {
        Json::Bool(_) => Err("expected a string or a number; write one".to_owned()),
        value => Ok(value),
    }
}

fn second(node: &Node) -> Result<i64, String> {
    let value = text_or_number(node)?;
    let second = value.as_i64().filter(|second| (0..=LAST).contains(second));
    second.ok_or("is no whole number of seconds since the epoch; write one".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn fault(entry: &Json) -> String {
        let document = json!({ "revoked": [entry] }).to_string();
        let read = read(document.as_bytes()).expect("a list").remove(0);
        read.err()
            .map(|fault| fault.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn each_entry_takes_back_one_kind_of_tokens() {
        let document = br#"{"revoked": [
            {"issuer": "home", "jti": "9c"}, {"issuer": "home", "user_id": 7},
            {"issuer": "west", "user_id": "7"}, {"issuer": "west", "issued_before": 1760000000}
        ]}"#;
        let toml = b"[[revoked]]\nissuer = 'home'\njti = '9c'\n[[revoked]]\nissuer = 'home'\nuser_id = 7\n\
            [[revoked]]\nissuer = 'west'\nuser_id = '7'\n[[revoked]]\nissuer = 'west'\nissued_before = 1_760_000_000\n";
        let of = |issuer: &str, what| Revocation {
            issuer: issuer.to_owned(),
            what,
        };
        let expected = [
            of("home", What::Jti(json!("9c"))),
            of("home", What::UserId(json!(7))),
            of("west", What::UserId(json!("7"))),
            of("west", What::IssuedBefore(1_760_000_000)),
        ];
        for document in [&document[..], toml] {
            let read = read(document).expect("a list");
            let read: Vec<Revocation> = read.into_iter().map(|one| one.expect("good")).collect();
            assert_eq!(read, expected);
        }
        assert_eq!(read(b"{\"revoked\":[]}"), Ok(Vec::new()));
        assert!(read(b"{\"issuers\":[]}").is_err());
    }

    #[test]
    fn what_is_wrong_with_an_entry_is_told() {
        for (entry, why) in [
            (
                json!("9c"),
                "expected a table; write issuer and one of jti, user_id and issued_before",
            ),
            (
                json!({"jti": "9c"}),
                "issuer is missing; write the name of one, as in the config",
            ),
            (
                json!({"issuer": "home"}),
                "says no tokens; write one of jti, user_id and issued_before",
            ),
            (
                json!({"issuer": "home", "jti": "a", "user_id": 1}),
                "write one of jti, user_id and issued_before, and an entry for each",
            ),
            (
                json!({"issuer": "home", "userid": 1}),
                "no key \"userid\" in an entry; there are issuer, jti, user_id, issued_before",
            ),
            (
                json!({"issuer": "", "jti": "a"}),
                "issuer: is empty; write a value or remove it",
            ),
            (
                json!({"issuer": "home", "jti": true}),
                "jti: expected a string or a number; write one",
            ),
            (
                json!({"issuer": "home", "issued_before": 1_760_000_000_000_i64}),
                "issued_before: is no whole number of seconds since the epoch; write one",
            ),
            (
                json!({"issuer": "home", "issued_before": "now"}),
                "issued_before: is no whole number of seconds since the epoch; write one",
            ),
            (
                json!({"issuer": "home", "issued_before": -1}),
                "issued_before: is no whole number of seconds since the epoch; write one",
            ),
        ] {
            assert_eq!(fault(&entry), format!("revoked[0]: {why}"), "{entry}");
        }
    }

    proptest! {
        #[test]
        fn no_entry_breaks_it(key in "[a-z_]{0,14}", text in "[ -~]{0,20}", number: f64) {
            let _ = fault(&json!({ "issuer": "home", key.clone(): text }));
            let _ = fault(&json!({ "issuer": "home", key: number }));
        }
    }
}
