//! A config source as a tree in which every key and value knows its place.
//!
//! TOML, YAML, JSON lists and single words from the environment all become this one shape. It has
//! no `Debug`: what stands in it may be a secret that somebody wrote into the wrong field.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::problem::Position;

/// A value and its place in its file.
pub(super) struct Node {
    pub(super) at: Option<Position>,
    pub(super) value: Value,
}

/// What a source can say. Numbers keep the text they were written as.
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(String),
    Float(String),
    Date(String),
    /// A string of a file.
    Text(String),
    /// A word from a variable, a flag or the table of defaults: fields parse it as they need it.
    Word(String),
    List(Vec<Node>),
    Table(Vec<Entry>),
}

/// One key of a table, in the order of the source.
pub(super) struct Entry {
    pub(super) key: String,
    /// Of the key.
    pub(super) at: Option<Position>,
    pub(super) node: Node,
}

impl Node {
    /// A value without a place.
    pub(super) fn of(value: Value) -> Node {
        Node { at: None, value }
    }

    /// `leaf` under the tables that `path` names.
    pub(super) fn nested(path: &[&str], leaf: Node) -> Node {
        path.iter().rev().fold(leaf, |node, key| {
            Node::of(Value::Table(vec![Entry {
                key: (*key).to_owned(),
                at: None,
                node,
            }]))
        })
    }

    /// What stands in it, where this is a table.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Table(entries) => entries,
            _ => &[],
        }
    }

    /// The value under one key, where this is a table that has it.
    pub(super) fn child(&self, key: &str) -> Option<&Node> {
        self.entries()
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.node)
    }

    /// The value at a dotted path with list indexes: `outbound.routes[0].path`.
    pub(super) fn find(&self, path: &str) -> Option<&Node> {
        path.split('.').try_fold(self, |node, segment| {
            let (key, indexes) = segment.split_once('[').unwrap_or((segment, ""));
            let mut node = node.child(key)?;
            for index in indexes.split('[').filter(|index| !index.is_empty()) {
                let Value::List(items) = &node.value else {
                    return None;
                };
                node = items.get(index.trim_end_matches(']').parse::<usize>().ok()?)?;
            }
            Some(node)
        })
    }
}

/// From the JSON of a variable or a flag. serde_json's own `Value` would drop all but the last of
/// two equal keys.
impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(Json).map(Node::of)
    }
}

struct Json;

impl<'de> Visitor<'de> for Json {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Integer(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries: Vec<Entry> = Vec::new();
        while let Some((key, node)) = map.next_entry::<String, Node>()? {
            if entries.iter().any(|entry| entry.key == key) {
                return Err(A::Error::custom("a key stands twice"));
            }
            entries.push(Entry {
                key,
                at: None,
                node,
            });
        }
        Ok(Value::Table(entries))
    }
}
