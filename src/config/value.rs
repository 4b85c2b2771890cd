//! One value to one type: words, numbers, durations, sizes. What fails says what to write.
//!
//! A field takes from a file only its own type; a [`Value::Word`] (variable, flag, default) is
//! parsed as the field needs it.

use std::path::PathBuf;
use std::time::Duration;

use super::known::nearest;
use super::tree::{Entry, Node, Value};

/// What a field is read from.
pub(super) struct Given<'a> {
    node: &'a Node,
    /// The value must not be shown.
    hidden: bool,
    /// For `~/`.
    home: Option<&'a str>,
}

/// What is wrong, and what to write.
pub(super) type Wrong = String;

impl<'a> Given<'a> {
    pub(super) fn new(node: &'a Node, hidden: bool, home: Option<&'a str>) -> Given<'a> {
        Given { node, hidden, home }
    }

    /// With all that is in it.
    pub(super) fn node(&self) -> &'a Node {
        self.node
    }

    /// As it stands there.
    pub(super) fn value(&self) -> &'a Value {
        &self.node.value
    }

    /// A text in quotes, or what stands for it where it might be a secret.
    pub(super) fn quoted(&self, text: &str) -> String {
        match self.hidden {
            true => "the value (not shown, it may be a secret)".to_owned(),
            false => quoted(text),
        }
    }

    /// A string that is not empty.
    pub(super) fn text(&self) -> Result<&'a str, Wrong> {
        match &self.node.value {
            Value::Text(text) | Value::Word(text) if text.is_empty() => {
                Err("is empty; write a value or remove it".to_owned())
            }
            Value::Text(text) | Value::Word(text) => Ok(text),
            _ => Err(self.mistyped("a string")),
        }
    }

    pub(super) fn bool(&self) -> Result<bool, Wrong> {
        match &self.node.value {
            Value::Bool(value) => Ok(*value),
            Value::Word(word) if word == "true" => Ok(true),
            Value::Word(word) if word == "false" => Ok(false),
            Value::Text(text) | Value::Word(text) => Err(format!(
                "{} is not true or false; write {} without quotes",
                self.quoted(text),
                match text.to_ascii_lowercase().as_str() {
                    "yes" | "on" | "1" | "true" | "y" => "true",
                    "no" | "off" | "0" | "false" | "n" => "false",
                    _ => "one of them",
                }
            )),
            _ => Err(self.mistyped("true or false")),
        }
    }

    /// A whole number within bounds.
    pub(super) fn number(&self, least: u64, most: u64) -> Result<u64, Wrong> {
        let text = match &self.node.value {
            Value::Integer(text) | Value::Word(text) => text,
            _ => return Err(self.mistyped("a whole number")),
        };
        let parsed = text.parse::<u64>();
        parsed
            .ok()
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| {
                format!(
                    "{} is no whole number from {least} to {most}; write one",
                    self.quoted(text)
                )
            })
    }

    /// Whether this is exactly that word.
    pub(super) fn is(&self, word: &str) -> bool {
        matches!(&self.node.value, Value::Text(text) | Value::Word(text) if text == word)
    }

    /// One of a few words.
    pub(super) fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, Wrong> {
        let text = self.text()?;
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let names = words.iter().map(|(word, _)| *word);
            let meant = match nearest(text, names.clone()) {
                Some(name) => quoted(name),
                None => names.map(quoted).collect::<Vec<_>>().join(" or "),
            };
            format!("{} is unknown; write {meant}", self.quoted(text))
        })
    }

    /// A duration within bounds.
    pub(super) fn duration(&self, least: Duration) -> Result<Duration, Wrong> {
        let text = match &self.node.value {
            Value::Integer(number) | Value::Float(number) => number,
            Value::Text(text) | Value::Word(text) => text,
            _ => return Err(self.mistyped("a duration")),
        };
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if is_number && text != "0" {
            let unit = quoted(&format!("{text}s"));
            return Err(format!("{} has no unit; write {unit}", self.quoted(text)));
        }
        let span = duration(text).map_err(|wrong| format!("{} {wrong}", self.quoted(text)))?;
        match span {
            span if span < least && span.is_zero() => Err(format!(
                "{} would never leave time; write a duration such as \"10s\"",
                self.quoted(text)
            )),
            span if span > LONGEST => Err(format!(
                "{} is longer than a year; write a shorter one",
                self.quoted(text)
            )),
            span => Ok(span),
        }
    }

    /// A duration from `least` to `most`, both as one would write them.
    pub(super) fn duration_from(&self, least: &str, most: &str) -> Result<Duration, Wrong> {
        let bound = |text| duration(text).expect("the bounds are durations");
        let text = match &self.node.value {
            Value::Text(text) | Value::Word(text) => text,
            _ => "0",
        };
        match self.duration(bound(least))? {
            span if span < bound(least) => Err(format!(
                "{} is too short; write \"{least}\" or more",
                self.quoted(text)
            )),
            span if span > bound(most) => Err(format!(
                "{} is too long; write \"{most}\" or less",
                self.quoted(text)
            )),
            span => Ok(span),
        }
    }

    /// A duration, or `off`.
    pub(super) fn duration_or_off(&self) -> Result<Option<Duration>, Wrong> {
        if self.is("off") {
            return Ok(None);
        }
        match self.duration(Duration::ZERO)? {
            Duration::ZERO => Err("a timeout of 0; write \"off\" for none".to_owned()),
            span => Ok(Some(span)),
        }
    }

    /// Bytes, within bounds.
    pub(super) fn size(&self, least: u64, most: u64) -> Result<u64, Wrong> {
        let text = match &self.node.value {
            Value::Integer(text) | Value::Text(text) | Value::Word(text) => text,
            _ => return Err(self.mistyped("a size")),
        };
        let bytes = size(text).map_err(|wrong| format!("{} {wrong}", self.quoted(text)))?;
        match bytes {
            bytes if bytes < least => Err(format!(
                "{} is too small; write {} or more",
                self.quoted(text),
                quoted(&in_units(least))
            )),
            bytes if bytes > most => Err(format!(
                "{} is too large; write {} or less",
                self.quoted(text),
                quoted(&in_units(most))
            )),
            bytes => Ok(bytes),
        }
    }

    /// A file's name, `~/` expanded and absolute: a relative one counts from the working directory.
    pub(super) fn path(&self) -> Result<PathBuf, Wrong> {
        self.path_of(self.text()?)
    }

    /// The same for a part of the text.
    pub(super) fn path_of(&self, text: &str) -> Result<PathBuf, Wrong> {
        if text.contains('\0') {
            return Err("has a NUL character; write a file's name".to_owned());
        }
        if text.contains("-----BEGIN ") || text.trim_start().starts_with('{') {
            return Err(
                "is a key, not a file's name; write the key into a file and name that".to_owned(),
            );
        }
        if text.starts_with("eyJ") && is_token(text) {
            return Err(
                "is a token, not a file's name; write the token into a file and name that"
                    .to_owned(),
            );
        }
        let home = || {
            self.home.ok_or_else(|| {
                "begins with ~/ but HOME is not set; write the whole path".to_owned()
            })
        };
        match text.strip_prefix("~/") {
            Some(rest) => Ok(PathBuf::from(home()?).join(rest)),
            None if text == "~" => Ok(PathBuf::from(home()?)),
            None if text.starts_with('~') => Err(format!(
                "{} names somebody's home; write the whole path",
                self.quoted(text)
            )),
            // A working directory that is gone leaves it as it is.
            None => Ok(std::path::absolute(text).unwrap_or_else(|_| PathBuf::from(text))),
        }
    }

    /// The port, where somebody wrote that alone and without quotes.
    pub(super) fn bare_port(&self) -> Option<u16> {
        match &self.node.value {
            Value::Integer(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The items of a list.
    pub(super) fn items(&self) -> Result<Vec<Given<'a>>, Wrong> {
        match &self.node.value {
            Value::List(items) => Ok(items.iter().map(|node| Given { node, ..*self }).collect()),
            _ => Err(self.mistyped("a list")),
        }
    }

    /// The keys of a table, with their values.
    pub(super) fn entries(&self) -> Result<Vec<(&'a Entry, Given<'a>)>, Wrong> {
        let value = |entry: &'a Entry| Given {
            node: &entry.node,
            ..*self
        };
        match &self.node.value {
            Value::Table(entries) => {
                Ok(entries.iter().map(|entry| (entry, value(entry))).collect())
            }
            _ => Err(self.mistyped("a table")),
        }
    }

    /// The text of each item of a list, through `parse`.
    pub(super) fn each<T>(
        &self,
        parse: impl Fn(&Given<'a>) -> Result<T, Wrong>,
    ) -> Result<Vec<T>, Wrong> {
        self.items()?.iter().map(parse).collect()
    }

    /// Expected, found, and how to write it.
    pub(super) fn mistyped(&self, expected: &str) -> Wrong {
        let (found, fix) = match &self.node.value {
            Value::Null => return "has no value; write one or remove the key".to_owned(),
            Value::Table(_) => ("a table".to_owned(), None),
            Value::List(_) => ("a list".to_owned(), None),
            Value::Bool(value) => (value.to_string(), Some(value.to_string())),
            Value::Integer(text) | Value::Float(text) => {
                (format!("the number {text}"), Some(text.clone()))
            }
            Value::Date(text) => (format!("the date {text}"), Some(text.clone())),
            Value::Text(text) | Value::Word(text) => {
                (format!("the string {}", self.quoted(text)), None)
            }
        };
        let found =
            match self.hidden && !matches!(self.node.value, Value::Table(_) | Value::List(_)) {
                true => "another type (not shown, it may be a secret)".to_owned(),
                false => found,
            };
        match fix {
            Some(_) if self.hidden => {
                format!("expected {expected}, found {found}; put it in quotes")
            }
            Some(text) if expected == "a string" => {
                format!(
                    "expected {expected}, found {found}; write {}",
                    quoted(&text)
                )
            }
            _ => format!(
                "expected {expected}, found {found}; write {}",
                match expected {
                    "a duration" => r#"one such as "30s""#,
                    "a size" => r#"one such as "64KiB""#,
                    "a list" => r#"a list, as in ["a", "b"]"#,
                    "a table" => r#"one, as in { name = "value" }"#,
                    "a whole number" => "a number without quotes",
                    expected => expected,
                }
            ),
        }
    }
}

/// In quotes and on one line, cut where it is long. What must be a secret is not shown, wherever it
/// was pasted.
pub(super) fn quoted(text: &str) -> String {
    const MOST: usize = 80;
    if text.contains("PRIVATE KEY") {
        return "\"...PRIVATE KEY...\"".to_owned();
    }
    if is_token(text) {
        return "\"eyJ...\"".to_owned();
    }
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// A key as TOML has it.
pub(super) fn bare_or_quoted(key: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    match !key.is_empty() && key.len() <= 80 && key.bytes().all(is_bare) {
        true => key.to_owned(),
        false => quoted(key),
    }
}

/// Whether this ends in what looks like a compact JWS.
fn is_token(text: &str) -> bool {
    let token = text.find("eyJ").map_or("", |start| &text[start..]);
    token.matches('.').count() == 2 && !token.contains('/')
}

/// A year: nothing waits longer, and no clock overflows.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// In milliseconds.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// `"30s"`, `"1h30m"`, `"250ms"`, `"0"`: whole numbers, each with its unit, larger units first.
///
/// # Errors
/// What to write instead.
pub fn duration(text: &str) -> Result<Duration, &'static str> {
    const HOW: &str = r#"is no duration; write one such as "250ms", "30s", "5m" or "1h30m""#;
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total = 0_u64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or(HOW)?;
        let number: u64 = rest[..end].parse().map_err(|_| HOW)?;
        rest = &rest[end..];
        let end = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (_, unit) = units.find(|(name, _)| *name == &rest[..end]).ok_or(HOW)?;
        rest = &rest[end..];
        total = (number.checked_mul(*unit))
            .and_then(|millis| total.checked_add(millis))
            .ok_or("is longer than a year; write a shorter one")?;
    }
    match text {
        "" => Err(HOW),
        _ => Ok(Duration::from_millis(total)),
    }
}

/// The largest unit that divides it.
pub(super) fn in_time_units(span: Duration) -> String {
    let millis = span.as_millis();
    let whole = |(_, unit): &&(&str, u64)| millis.is_multiple_of(u128::from(*unit));
    match UNITS.iter().find(whole) {
        Some((name, unit)) if millis > 0 => format!("{}{name}", millis / u128::from(*unit)),
        _ => "0s".to_owned(),
    }
}

const SIZES: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// `"64KiB"`, `"1MiB"`, `"512B"`, `"512"`.
fn size(text: &str) -> Result<u64, &'static str> {
    const HOW: &str = r#"is no size; write one such as "512B", "64KiB" or "1MiB""#;
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..end].parse().map_err(|_| HOW)?;
    let unit = match &text[end..] {
        "" => 1,
        unit => {
            let known = SIZES.iter().find(|(name, _)| *name == unit);
            known.map(|(_, bytes)| *bytes).ok_or(HOW)?
        }
    };
    number.checked_mul(unit).ok_or(HOW)
}

/// The largest unit that divides it.
fn in_units(bytes: u64) -> String {
    let whole = |(_, unit): &&(&str, u64)| bytes >= *unit && bytes.is_multiple_of(*unit);
    match SIZES.iter().find(whole) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_need_a_unit() {
        let table = [
            ("30s", Some(30_000)),
            ("5m", Some(300_000)),
            ("1h30m", Some(5_400_000)),
            ("250ms", Some(250)),
            ("1s500ms", Some(1500)),
            ("1d", Some(86_400_000)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("10", None),
            ("", None),
            ("s", None),
            ("1.5s", None),
            ("-1s", None),
            ("1 s", None),
            (" 1s", None),
            ("1S", None),
            ("30m1h", None),
            ("1s1s", None),
            ("1s2", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
        ];
        for (text, millis) in table {
            let expected = millis.map(Duration::from_millis);
            assert_eq!(duration(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn sizes_are_binary() {
        let table = [
            ("512", Some(512)),
            ("512B", Some(512)),
            ("64KiB", Some(65_536)),
            ("1MiB", Some(1_048_576)),
            ("2GiB", Some(2_147_483_648)),
            ("64KB", None),
            ("64kib", None),
            ("64k", None),
            ("KiB", None),
            ("", None),
            ("-1", None),
            ("1.5MiB", None),
            ("64 KiB", None),
            ("18446744073709551615GiB", None),
        ];
        for (text, bytes) in table {
            assert_eq!(size(text).ok(), bytes, "{text:?}");
        }
        assert_eq!(in_units(65_536), "64KiB");
        assert_eq!(in_units(1000), "1000B");
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_scalar_parsers(text in "\\PC*") {
            let _ = duration(&text);
            let _ = size(&text);
            prop_assert!(!quoted(&text).contains('\n'));
        }
    }
}
