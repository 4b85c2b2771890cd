//! Reads fields one by one, so that every mistake is found, and keeps what `check` prints.

use std::collections::BTreeSet;

use super::fold::{Folded, Found};
use super::problem::{Origin, Problem};
use super::schema::{self, Key, Kind, Otherwise};
use super::tree::{Entry, Node, Value};
use super::value::{Given, Wrong, bare_or_quoted, quoted};

/// One line of what `check` prints.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Dotted, with indexes where a table stands in a list.
    pub path: String,
    /// As in a file; `None`: nothing holds.
    pub value: Option<String>,
    /// What a value, or its absence, leads to.
    pub note: Option<String>,
    /// Where the value comes from.
    pub origin: Origin,
}

/// How a field is read. Not generic, so that there is one reader for each type and not for each field.
type Parse<'a, T> = &'a dyn Fn(&Given<'_>) -> Result<T, Wrong>;

pub(super) struct Reader<'a> {
    folded: &'a Folded,
    home: Option<&'a str>,
    pub(super) rows: Vec<Row>,
    pub(super) problems: Vec<Problem>,
    faulty: BTreeSet<String>,
    /// All sources could be read: what several fields together tell can be trusted.
    is_whole: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(folded: &'a Folded, home: Option<&'a str>, is_whole: bool) -> Reader<'a> {
        Reader {
            is_whole,
            folded,
            home,
            rows: Vec::new(),
            problems: Vec::new(),
            faulty: BTreeSet::new(),
        }
    }

    /// A field that may be absent.
    pub(super) fn optional<T>(
        &mut self,
        path: &str,
        parse: impl Fn(&Given<'_>) -> Result<T, Wrong>,
    ) -> Option<T> {
        self.field(path, &parse)
    }

    /// A field that has no default and must be there; `example` is what to write.
    pub(super) fn must<T>(
        &mut self,
        path: &str,
        example: &str,
        parse: impl Fn(&Given<'_>) -> Result<T, Wrong>,
    ) -> Option<T> {
        let value = self.optional(path, parse);
        if value.is_none() && self.is_sound(&[path]) {
            self.conflict(path, &format!("is missing; write one, such as {example}"));
        }
        value
    }

    /// A field that has a default; a mistake in it counts as the default for the rest of the way.
    pub(super) fn required<T>(
        &mut self,
        path: &str,
        parse: impl Fn(&Given<'_>) -> Result<T, Wrong>,
    ) -> T {
        let value = self.field(path, &parse);
        value.unwrap_or_else(|| default(path, &parse))
    }

    /// A list with a default. Each item is read by itself, and its mistakes stand at its place.
    pub(super) fn list<T>(
        &mut self,
        path: &str,
        parse: impl Fn(&Given<'_>) -> Result<T, Wrong>,
    ) -> Vec<T> {
        let items = self.items(path, &parse);
        items.unwrap_or_else(|| default(path, &|given| given.each(&parse)))
    }

    /// A table with free keys, in the order in which they were written. Each key and each value is
    /// read by itself, and its mistakes stand at its place.
    pub(super) fn map<K, V>(
        &mut self,
        path: &str,
        parse_key: impl Fn(&str) -> Result<K, Wrong>,
        parse: impl Fn(&Given<'_>) -> Result<V, Wrong>,
    ) -> Option<Vec<(K, V)>> {
        let entries = self.field(path, &|given: &Given<'_>| {
            let read = |(entry, value): (&Entry, Given<'_>)| {
                let place = format!("{path}.{}", bare_or_quoted(&entry.key));
                let wrong_key = |wrong| (path.to_owned(), entry.at, wrong);
                let wrong_value = |wrong| (place, entry.node.at, wrong);
                (
                    parse_key(&entry.key).map_err(wrong_key),
                    parse(&value).map_err(wrong_value),
                )
            };
            Ok(given.entries()?.into_iter().map(read).collect::<Vec<_>>())
        });
        let Some(entries) = entries else {
            let read =
                |(entry, value): (&Entry, Given<'_>)| Ok((parse_key(&entry.key)?, parse(&value)?));
            let has_default = matches!(key(path).default, Otherwise::Value(_));
            return has_default.then(|| {
                default(path, &|given| {
                    given.entries()?.into_iter().map(read).collect()
                })
            });
        };
        let source = self.folded.find(path).map(|found| found.source);
        let mut values = Vec::new();
        for entry in entries {
            match entry {
                (Ok(key), Ok(value)) => values.push((key, value)),
                (key, value) => {
                    for (place, at, wrong) in [key.err(), value.err()].into_iter().flatten() {
                        let origin = source.map_or(Origin::Default, |source| source.origin(at));
                        self.wrong_part(path, &place, origin, &wrong);
                    }
                }
            }
        }
        Some(values)
    }

    /// Where a repeated table stands: `outbound.routes[0]`, `inbound.issuers.home`.
    pub(super) fn tables(&mut self, path: &str) -> Vec<String> {
        match key(path).kind {
            Kind::Named => (self.folded.names(path).into_iter())
                .map(|name| format!("{path}.{name}"))
                .collect(),
            _ => self.listed(path),
        }
    }

    /// Whether anything stands at a table's path, good or bad.
    pub(super) fn is_filled(&self, path: &str) -> bool {
        self.folded.is_filled(path)
    }

    fn listed(&mut self, path: &str) -> Vec<String> {
        let found = self.folded.find(path);
        let Some(found) = found else {
            return Vec::new();
        };
        let items = match &found.node.value {
            Value::List(items) => items,
            _ => {
                let wrong =
                    format!("expected a list of tables; write [[{path}]] before each of them");
                self.wrong(path, found.origin(), &wrong);
                return Vec::new();
            }
        };
        if items.is_empty() {
            self.rows.push(Row {
                path: path.to_owned(),
                value: Some("[]".to_owned()),
                note: None,
                origin: found.origin(),
            });
        }
        let mut places = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let place = format!("{path}[{index}]");
            match &item.value {
                Value::Table(_) => places.push(place),
                _ => {
                    let origin = found.source.origin(item.at);
                    let wrong = "expected a table; write one, as in { path = \"/models\" }";
                    self.wrong(&place, origin, wrong);
                }
            }
        }
        places
    }

    fn items<T>(&mut self, path: &str, parse: Parse<'_, T>) -> Option<Vec<T>> {
        let results: Vec<Result<T, Wrong>> = self.field(path, &|given: &Given<'_>| {
            Ok(given.items()?.iter().map(parse).collect())
        })?;
        let mut values = Vec::new();
        for (index, result) in results.into_iter().enumerate() {
            match result {
                Ok(value) => values.push(value),
                Err(wrong) => self.wrong_item(path, index, &wrong),
            }
        }
        Some(values)
    }

    fn wrong_item(&mut self, path: &str, index: usize, wrong: &str) {
        let found = self.folded.find(path);
        let origin = found.and_then(|found| match &found.node.value {
            Value::List(items) => Some(found.source.origin(items.get(index)?.at)),
            _ => None,
        });
        let origin = origin.unwrap_or(Origin::Default);
        self.wrong_part(path, &format!("{path}[{index}]"), origin, wrong);
    }

    /// A mistake in a part of a field, which is faulty with it.
    fn wrong_part(&mut self, path: &str, place: &str, origin: Origin, wrong: &str) {
        self.faulty.insert(path.to_owned());
        self.wrong(place, origin, wrong);
    }

    fn field<T>(&mut self, path: &str, parse: Parse<'_, T>) -> Option<T> {
        let found = self.folded.find(path);
        let hidden = schema::is_hidden(path);
        let read = found
            .as_ref()
            .map(|found| parse(&Given::new(found.node, hidden, self.home)));
        let wrong = read.as_ref().and_then(|read| read.as_ref().err());
        self.note_field(path, found.as_ref(), wrong);
        read?.ok()
    }

    /// What `check` prints of a field, or what is wrong with it.
    fn note_field(&mut self, path: &str, found: Option<&Found<'_>>, wrong: Option<&Wrong>) {
        if let (Some(found), Some(wrong)) = (found, wrong) {
            return self.wrong(path, found.origin(), wrong);
        }
        let key = key(path);
        let (value, note) = match (found, key.default) {
            (Some(found), _) => (Some(shown(found.node, key)), None),
            (None, Otherwise::Value(text)) => (Some(shown_default(key, text)), None),
            (None, Otherwise::Absent(note)) => (None, Some(note.to_owned())),
        };
        self.rows.push(Row {
            path: path.to_owned(),
            value,
            note,
            origin: found.map_or(Origin::Default, Found::origin),
        });
    }

    /// A mistake that is found by looking at several fields; `path` is the one to change.
    pub(super) fn conflict(&mut self, path: &str, text: &str) {
        let origin = self.origin(path);
        self.wrong(path, origin, text);
    }

    fn wrong(&mut self, path: &str, origin: Origin, text: &str) {
        self.faulty.insert(path.to_owned());
        self.problems
            .push(Problem::new(origin, format!("{path}: {text}")));
    }

    /// Whether none of these fields has a mistake, so that they can be held against each other.
    pub(super) fn is_sound(&self, paths: &[&str]) -> bool {
        self.is_whole && paths.iter().all(|path| !self.faulty.contains(*path))
    }

    /// Whether somebody wrote this field.
    pub(super) fn is_given(&self, path: &str) -> bool {
        (self.folded.find(path)).is_some_and(|found| found.is_given())
    }

    /// Where what holds at this path comes from.
    pub(super) fn origin(&self, path: &str) -> Origin {
        self.folded.origin(path)
    }

    /// Whether somebody wrote this table, be it an empty one.
    pub(super) fn is_table(&self, path: &str) -> bool {
        self.folded.is_given(path)
    }

    /// Says more about the field that was read last under this path.
    pub(super) fn note(&mut self, path: &str, note: impl Into<String>) {
        if let Some(row) = self.rows.iter_mut().rev().find(|row| row.path == path) {
            row.note = Some(note.into());
        }
    }

    /// What holds where nobody wrote the field, as far as it is not the same everywhere.
    pub(super) fn derived(&mut self, path: &str, value: String, note: &str) {
        if let Some(row) = self.rows.iter_mut().rev().find(|row| row.path == path) {
            row.value = Some(value);
            row.note = Some(note.to_owned());
        }
    }
}

fn key(path: &str) -> &'static Key {
    schema::find(path).expect("every path that is read stands in the schema")
}

fn default<T>(path: &str, parse: Parse<'_, T>) -> T {
    let leaf = default_leaf(path);
    let value = parse(&Given::new(&leaf, false, None));
    value.expect("every default of the schema can be read")
}

fn default_leaf(path: &str) -> Node {
    let key = key(path);
    let Otherwise::Value(text) = key.default else {
        unreachable!("{} is read as if it had a default", key.path);
    };
    super::words::leaf(key.kind, text).expect("every default of the schema can be read")
}

fn shown_default(key: &Key, text: &str) -> String {
    let leaf = super::words::leaf(key.kind, text);
    shown(&leaf.expect("every default of the schema can be read"), key)
}

/// A value as it would stand in a TOML file.
fn shown(node: &Node, key: &Key) -> String {
    match &node.value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Integer(text) | Value::Float(text) | Value::Date(text) => text.clone(),
        Value::Word(text) if key.kind == Kind::Bool => text.clone(),
        Value::Word(text) if key.kind == Kind::Number && text.parse::<u64>().is_ok() => {
            text.clone()
        }
        Value::Text(text) | Value::Word(text) if key.kind == Kind::Pem => {
            let first = text.trim_start().lines().next().unwrap_or("");
            format!("\"{}...\"", first.trim_end().escape_debug())
        }
        Value::Text(text) | Value::Word(text) if key.kind == Kind::Proxy => {
            quoted(&super::proxy::shown(text))
        }
        Value::Text(text) | Value::Word(text) => quoted(text),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(|item| shown(item, key)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Table(entries) if entries.is_empty() => "{}".to_owned(),
        Value::Table(entries) => {
            let pair = |entry: &Entry| {
                let value = shown(&entry.node, key);
                format!("{} = {value}", bare_or_quoted(&entry.key))
            };
            let pairs: Vec<String> = entries.iter().map(pair).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
    }
}
