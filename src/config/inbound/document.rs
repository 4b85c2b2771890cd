//! A document that is a list of tables under one key, in JSON or TOML.
//!
//! - Its entries are handed on one by one, so that a broken one costs no other.
//! - No TOML document begins with `{`, and every JSON object does: that tells them apart.
//! - What stands beside the list is refused: it may be meant to take something back.

use std::cell::Cell;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::Value as Json;

use crate::compact::strict::Tree;
use crate::config::from_toml;
use crate::config::tree::{Entry, Node, Value};
use crate::config::value::quoted;

/// An entry that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fault {
    /// The key that its list stands under.
    pub list: &'static str,
    /// Its place in the list, from 0.
    pub place: usize,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// What is wrong with it: one line.
    pub why: String,
}

impl Fault {
    /// The same for one fault of one entry, wherever a named one stands by now.
    #[must_use]
    pub fn key(&self) -> (Option<&str>, Option<usize>, &str) {
        let place = self.name.is_none().then_some(self.place);
        (self.name.as_deref(), place, &self.why)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.list, self.place)?;
        if let Some(name) = &self.name {
            write!(f, " {name:?}")?;
        }
        write!(f, ": {}", self.why)
    }
}

/// One entry.
pub(super) struct Item {
    pub(super) node: Node,
    /// A member stands twice in it, at any level.
    pub(super) is_twice: bool,
}

/// The entries of the list under this key.
pub(super) fn items(document: &[u8], key: &'static str, most: usize) -> Result<Vec<Item>, String> {
    let text = std::str::from_utf8(document).map_err(|_| "it is not UTF-8".to_owned())?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let items = match text.trim_start().starts_with('{') {
        true => from_json(text, key)?,
        false => from_toml(text, key)?,
    };
    let Some(items) = items else {
        return Err(format!("it has no list {key:?}"));
    };
    match items.len() {
        many if many > most => Err(format!("it has {many} entries, and {most} is the most")),
        _ => Ok(items),
    }
}

fn from_toml(text: &str, key: &str) -> Result<Option<Vec<Item>>, String> {
    let root = from_toml::parse_foreign(text)
        .map_err(|(at, wrong)| format!("line {}, column {}: {wrong}", at.line, at.column))?;
    let Value::Table(entries) = root.value else {
        return Ok(None);
    };
    let mut found = None;
    for entry in entries {
        if entry.key != key {
            return Err(beside(&entry.key, key));
        }
        let Value::List(items) = entry.node.value else {
            return Ok(None);
        };
        let items = items.into_iter().map(|node| Item {
            node,
            is_twice: false,
        });
        found = Some(items.collect());
    }
    Ok(found)
}

fn beside(other: &str, key: &str) -> String {
    format!(
        "{} stands beside {key:?}, and has no meaning",
        quoted(other)
    )
}

fn from_json(text: &str, key: &'static str) -> Result<Option<Vec<Item>>, String> {
    let said = Cell::new(None);
    let mut reader = serde_json::Deserializer::from_str(text);
    let root = Root { key, said: &said };
    let read = reader.deserialize_map(root);
    let items = read.and_then(|items| reader.end().map(|()| items));
    items.or_else(|error| match said.take() {
        Some(said) => Err(said),
        // Something else stands in its place.
        None if error.is_data() => Ok(None),
        // Of serde_json's words only the place is taken: they may quote the document.
        None => Err(format!(
            "not JSON: line {}, column {}",
            error.line(),
            error.column()
        )),
    })
}

/// The whole document.
struct Root<'a> {
    key: &'static str,
    said: &'a Cell<Option<String>>,
}

impl<'de> Visitor<'de> for Root<'_> {
    type Value = Option<Vec<Item>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let say = |text: String| {
            self.said.set(Some(text));
            A::Error::custom("no list")
        };
        let mut found = None;
        while let Some(name) = members.next_key::<String>()? {
            if name != self.key {
                members.next_value::<IgnoredAny>()?;
                return Err(say(beside(&name, self.key)));
            }
            if found.is_some() {
                return Err(say(format!("{name:?} stands twice")));
            }
            found = members.next_value_seed(Items)?;
        }
        Ok(found)
    }
}

/// The list; `None` where something else stands there.
struct Items;

impl<'de> DeserializeSeed<'de> for Items {
    type Value = Option<Vec<Item>>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items {
    type Value = Option<Vec<Item>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let is_twice = Cell::new(false);
            let Some(value) = list.next_element_seed(Tree::new(&is_twice))? else {
                return Ok(Some(items));
            };
            items.push(Item {
                node: node(value),
                is_twice: is_twice.get(),
            });
        }
    }
}

fn node(json: Json) -> Node {
    Node::of(match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(value),
        Json::Number(number) if number.is_f64() => Value::Float(number.to_string()),
        Json::Number(number) => Value::Integer(number.to_string()),
        Json::String(text) => Value::Text(text),
        Json::Array(items) => Value::List(items.into_iter().map(node).collect()),
        Json::Object(members) => {
            let entry = |(key, value)| Entry {
                key,
                at: None,
                node: node(value),
            };
            Value::Table(members.into_iter().map(entry).collect())
        }
    })
}

/// The same as JSON again; `None` for what JSON does not have.
pub(super) fn json(node: &Node) -> Option<Json> {
    Some(match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Integer(text) => Json::Number(text.parse().ok()?),
        Value::Float(text) => Json::Number(text.parse().ok()?),
        Value::Text(text) | Value::Word(text) => Json::String(text.clone()),
        Value::Date(_) => return None,
        Value::List(items) => Json::Array(items.iter().map(json).collect::<Option<_>>()?),
        Value::Table(entries) => {
            let member = |entry: &Entry| Some((entry.key.clone(), json(&entry.node)?));
            Json::Object(entries.iter().map(member).collect::<Option<_>>()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn count(document: &str) -> Result<usize, String> {
        items(document.as_bytes(), "issuers", 3).map(|items| items.len())
    }

    #[test]
    fn json_and_toml_are_told_apart() {
        for (document, many) in [
            (r#"{"issuers":[]}"#, 0),
            ("issuers = []", 0),
            ("\u{feff} \n{\"issuers\": [1, null]}", 2),
            ("# a list\n[[issuers]]\nname = 'a'\n[[issuers]]\n", 2),
        ] {
            assert_eq!(count(document), Ok(many), "{document}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused_whole() {
        for (document, why) in [
            ("", "it has no list \"issuers\""),
            ("{}", "it has no list \"issuers\""),
            ("issuers = 1", "it has no list \"issuers\""),
            ("{\"issuers\":[]", "not JSON: line 1, column 13"),
            ("{\"issuers\":[]} x", "not JSON: line 1, column 16"),
            ("{\"issuers\":{}}", "it has no list \"issuers\""),
            (
                "{\"issuers\":[],\"issuers\":[]}",
                "\"issuers\" stands twice",
            ),
            (
                "{\"issuers\":[],\"x\":1}",
                "\"x\" stands beside \"issuers\", and has no meaning",
            ),
            (
                "x = 1\nissuers = []",
                "\"x\" stands beside \"issuers\", and has no meaning",
            ),
            (
                "issuers = [",
                "line 1, column 12: not TOML: unclosed array; expected `]`",
            ),
            (
                "issuers = [1, 2, 3, 4]",
                "it has 4 entries, and 3 is the most",
            ),
        ] {
            assert_eq!(count(document), Err(why.to_owned()), "{document}");
        }
        assert!(items(b"issuers = ['\xff']", "issuers", 3).is_err());
    }

    #[test]
    fn a_member_that_stands_twice_is_its_own_entrys_fault() {
        let list = br#"{"issuers":[{"a":1},{"a":1,"a":2},{"a":{"b":1,"\u0062":2}}]}"#;
        let items = items(list, "issuers", 3).expect("a list");
        let twice: Vec<bool> = items.iter().map(|item| item.is_twice).collect();
        assert_eq!(twice, [false, true, true]);
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(document in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = items(&document, "issuers", 3);
        }

        #[test]
        fn json_comes_back_as_it_was(text in "[ -~]{0,20}", number: i64, flag: bool) {
            let value = serde_json::json!({ "issuers": [{ "a": text, "b": [number, flag, null], "c": 1.5 }] });
            let items = items(value.to_string().as_bytes(), "issuers", 3).expect("a list");
            prop_assert_eq!(json(&items[0].node), Some(value["issuers"][0].clone()));
        }
    }
}
