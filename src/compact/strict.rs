//! JSON in which no member stands twice, at any level.
//!
//! - RFC 7515 section 4 and RFC 7519 section 4 allow a reader to refuse duplicate members or to take
//!   the last one. Two readers that choose differently see two tokens, so they are refused here.
//!   Names are compared after their escapes are resolved: `"\u0069ss"` is `"iss"`.
//! - Depth is bounded by serde_json: 128 levels, beyond which it refuses.
//! - Nothing may follow the value.

use std::cell::Cell;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Why some bytes are no object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Not JSON, not an object, too deep, or something follows it.
    NoObject,
    /// A member stands twice.
    Duplicate,
}

/// Reads one object.
///
/// # Errors
/// [`Trouble`].
pub fn object(json: &[u8]) -> Result<Map<String, Value>, Trouble> {
    let is_duplicate = Cell::new(false);
    let mut reader = serde_json::Deserializer::from_slice(json);
    let value = Tree::new(&is_duplicate)
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value));
    match value {
        Ok(Value::Object(_)) if is_duplicate.get() => Err(Trouble::Duplicate),
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(Trouble::NoObject),
    }
}

/// Reads a value and notes whether a member of it stands twice. The value is read to its end all
/// the same, so that one bad member of a list need not cost the others.
#[derive(Clone, Copy, Debug)]
pub struct Tree<'a>(&'a Cell<bool>);

impl<'a> Tree<'a> {
    /// `is_duplicate` becomes true where a member stands twice.
    #[must_use]
    pub fn new(is_duplicate: &'a Cell<bool>) -> Tree<'a> {
        Tree(is_duplicate)
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        serde_json::Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number that is none"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(self)?;
            if object.insert(name, value).is_some() {
                self.0.set(true);
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_read_as_serde_json_reads_it() {
        let json = br#" {"a":[1,-2,1.5,1e3,true,null,{"b":"\u00e9"}],"c":{"a":{"a":1}}} "#;
        let plain: Map<String, Value> = serde_json::from_slice(json).expect("JSON");
        assert_eq!(object(json), Ok(plain));
    }

    #[test]
    fn a_member_that_stands_twice_is_found_at_any_level_and_in_any_spelling() {
        for json in [
            r#"{"a":1,"a":1}"#,
            r#"{"iss":"a","\u0069ss":"b"}"#,
            r#"{"x":{"a":1,"b":2,"a":3}}"#,
            r#"{"x":[[{"a":1,"\u0061":1}]]}"#,
            r#"{"":1,"":1}"#,
        ] {
            assert_eq!(object(json.as_bytes()), Err(Trouble::Duplicate), "{json}");
        }
        assert!(object(br#"{"a":{"a":{"a":1}},"A":1}"#).is_ok());
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for json in [
            "",
            "[]",
            "null",
            "1",
            "\"x\"",
            "{} {}",
            "{}x",
            "{",
            "\u{feff}{}",
            "{\"a\":1,}",
            "{\"a\":1e400}",
            "{\"a\":NaN}",
            "{a:1}",
            "{\"a\":\"\\ud800\"}",
            "{\"a\":01}",
        ] {
            assert_eq!(object(json.as_bytes()), Err(Trouble::NoObject), "{json}");
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}"), Err(Trouble::NoObject));
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |levels: usize| {
            let mut json = "{\"a\":".repeat(levels);
            json.push('1');
            json.push_str(&"}".repeat(levels));
            object(json.as_bytes())
        };
        assert!(nested(100).is_ok());
        assert_eq!(nested(129), Err(Trouble::NoObject));
        assert_eq!(nested(5_000), Err(Trouble::NoObject));
    }
}
