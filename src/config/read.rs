//! Reads fields one by one, so that every mistake is found, and keeps what `check` prints.

use std::collections::BTreeSet;

use super::fold::{Folded, Found};
use super::problem::{Origin, Problem};
use super::schema::{self, Key, Otherwise, ROUTE, ROUTES};
use super::tree::{Node, Value};
use super::value::{Given, Wrong, quoted};

/// One line of what `check` prints.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Dotted, with indexes for routes.
    pub path: String,
    /// As in a file; `None`: nothing holds.
    pub value: Option<String>,
    /// What a value, or its absence, leads to.
    pub note: Option<String>,
    /// Where the value comes from.
    pub origin: Origin,
}

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
        let key = schema::find(path).expect("every path that is read stands in the schema");
        let found = self.folded.find(path);
        self.field(path, key, found, &parse)
    }

    /// A field that has a default; a mistake in it counts as the default for the rest of the way.
    pub(super) fn required<T>(
        &mut self,
        path: &str,
        parse: impl Fn(&Given<'_>) -> Result<T, Wrong>,
    ) -> T {
        let key = schema::find(path).expect("every path that is read stands in the schema");
        let found = self.folded.find(path);
        let value = self.field(path, key, found, &parse);
        value.unwrap_or_else(|| default(key, parse))
    }

    /// A list with a default. Each item is read by itself, and its mistakes stand at its place.
    pub(super) fn list<T>(
        &mut self,
        path: &str,
        parse: impl Fn(&Given<'_>) -> Result<T, Wrong>,
    ) -> Vec<T> {
        let key = schema::find(path).expect("every path that is read stands in the schema");
        let found = self.folded.find(path);
        let items = self.items(path, key, found, &parse);
        items.unwrap_or_else(|| default(key, |given| given.each(&parse)))
    }

    /// How many routes there are to read.
    pub(super) fn routes(&mut self) -> usize {
        let found = self.folded.find(ROUTES);
        let Some(found) = found else { return 0 };
        match &found.node.value {
            Value::List(items) => {
                if items.is_empty() {
                    self.rows.push(Row {
                        path: ROUTES.to_owned(),
                        value: Some("[]".to_owned()),
                        note: None,
                        origin: found.origin(),
                    });
                }
                items.len()
            }
            Value::Null => 0,
            _ => {
                let wrong =
                    "expected a list of tables; write [[outbound.routes]] before each route";
                self.wrong(ROUTES, found.origin(), wrong);
                0
            }
        }
    }

    /// Whether this route is a table, and says so where it is none.
    pub(super) fn is_route(&mut self, index: usize) -> bool {
        let path = format!("{ROUTES}[{index}]");
        let found = self.folded.find(&path);
        if found
            .as_ref()
            .is_some_and(|found| matches!(found.node.value, Value::Table(_)))
        {
            return true;
        }
        let origin = self.folded.origin(&path);
        self.wrong(
            &path,
            origin,
            "expected a table; write one, as in { path = \"/models\" }",
        );
        false
    }

    /// A field of a route.
    pub(super) fn route<T>(
        &mut self,
        index: usize,
        name: &str,
        parse: impl Fn(&Given<'_>) -> Result<T, Wrong>,
    ) -> Option<T> {
        let key = route_key(name);
        let path = format!("{ROUTES}[{index}].{name}");
        let found = self.folded.find(&path);
        let is_there = found.is_some();
        let value = self.field(&path, key, found, &parse);
        match (is_there, key.default) {
            (false, Otherwise::Value(_)) => Some(default(key, parse)),
            _ => value,
        }
    }

    /// A list of a route.
    pub(super) fn route_list<T>(
        &mut self,
        index: usize,
        name: &str,
        parse: impl Fn(&Given<'_>) -> Result<T, Wrong>,
    ) -> Vec<T> {
        let key = route_key(name);
        let path = format!("{ROUTES}[{index}].{name}");
        let found = self.folded.find(&path);
        let items = self.items(&path, key, found, &parse);
        items.unwrap_or_else(|| default(key, |given| given.each(&parse)))
    }

    fn items<T>(
        &mut self,
        path: &str,
        key: &Key,
        found: Option<Found<'_>>,
        parse: &impl Fn(&Given<'_>) -> Result<T, Wrong>,
    ) -> Option<Vec<T>> {
        let origins = |found: &Found<'_>| match &found.node.value {
            Value::List(items) => (items.iter())
                .map(|item| found.source.origin(item.at))
                .collect(),
            _ => Vec::new(),
        };
        let origins = found.as_ref().map(origins).unwrap_or_default();
        let results: Vec<Result<T, Wrong>> =
            self.field(path, key, found, &|given: &Given<'_>| {
                Ok(given.items()?.iter().map(parse).collect())
            })?;
        let mut values = Vec::new();
        for (index, (result, origin)) in results.into_iter().zip(origins).enumerate() {
            match result {
                Ok(value) => values.push(value),
                Err(wrong) => {
                    self.faulty.insert(path.to_owned());
                    self.wrong(&format!("{path}[{index}]"), origin, &wrong);
                }
            }
        }
        Some(values)
    }

    fn field<T>(
        &mut self,
        path: &str,
        key: &Key,
        found: Option<Found<'_>>,
        parse: &impl Fn(&Given<'_>) -> Result<T, Wrong>,
    ) -> Option<T> {
        let Some(found) = found else {
            let (value, note) = match key.default {
                Otherwise::Value(text) => (Some(shown_default(key, text)), None),
                Otherwise::Absent(note) => (None, Some(note.to_owned())),
            };
            self.rows.push(Row {
                path: path.to_owned(),
                value,
                note,
                origin: Origin::Default,
            });
            return None;
        };
        match parse(&Given::new(found.node, schema::is_hidden(path), self.home)) {
            Ok(value) => {
                self.rows.push(Row {
                    path: path.to_owned(),
                    value: Some(shown(found.node, key)),
                    note: None,
                    origin: found.origin(),
                });
                Some(value)
            }
            Err(wrong) => {
                self.wrong(path, found.origin(), &wrong);
                None
            }
        }
    }

    /// A mistake that is found by looking at several fields; `path` is the one to change.
    pub(super) fn conflict(&mut self, path: &str, text: &str) {
        let origin = self.folded.origin(path);
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

fn route_key(name: &str) -> &'static Key {
    (ROUTE.iter().find(|key| key.path == name))
        .expect("every name that is read stands in the schema")
}

fn default<T>(key: &Key, parse: impl Fn(&Given<'_>) -> Result<T, Wrong>) -> T {
    let Otherwise::Value(text) = key.default else {
        unreachable!("{} is read as if it had a default", key.path);
    };
    let leaf = super::words::leaf(key.kind, text);
    let value = leaf.and_then(|leaf| parse(&Given::new(&leaf, false, None)));
    value.expect("every default of the schema can be read")
}

fn shown_default(key: &Key, text: &str) -> String {
    shown(&Node::of(Value::Word(text.to_owned())), key)
}

/// A value as it would stand in a TOML file.
fn shown(node: &Node, key: &Key) -> String {
    use schema::Kind;
    match &node.value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Integer(text) | Value::Float(text) | Value::Date(text) => text.clone(),
        Value::Word(text) if key.kind == Kind::Bool => text.clone(),
        Value::Word(text) if key.kind == Kind::Number && text.parse::<u64>().is_ok() => {
            text.clone()
        }
        Value::Word(text) if matches!(key.kind, Kind::Words | Kind::Tables) => text.clone(),
        Value::Text(text) | Value::Word(text) => quoted(text),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(|item| shown(item, key)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Table(_) => "{...}".to_owned(),
    }
}
