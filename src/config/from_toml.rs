//! TOML to a [`Node`] tree. The parser goes on after a mistake, so that one reading names them all.

use std::collections::HashSet;

use ::toml::Spanned;
use ::toml::de::{DeTable, DeValue};

use super::problem::Position;
use super::tree::{Entry, Node, Value};

/// The tree, and what is wrong with the syntax.
///
/// With mistakes in it the tree is the parser's best guess; it is left out where a table's header
/// is broken, because every key below it would be found in the wrong table.
pub(super) fn parse(text: &str) -> (Option<Node>, Vec<(Position, String)>) {
    let lines = Lines::of(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut usable = true;
    let mut problems: Vec<(Position, String)> = Vec::new();
    let mut wrong: HashSet<usize> = HashSet::new();
    for error in errors {
        let start = error.span().map_or(0, |span| span.start);
        let line = lines.line(start);
        usable &= !spreads(lines.text(line), error.message());
        if wrong.insert(line) {
            problems.push(problem(&error, &lines));
        }
    }
    let tree = usable.then(|| Node {
        at: None,
        value: table_of(table.into_inner(), &lines),
    });
    (tree, problems)
}

/// The tree of a document that may come from elsewhere, without the places of its nodes, or its first
/// mistake. It costs what the document is long, whatever stands in it.
pub(super) fn parse_foreign(text: &str) -> Result<Node, (Position, String)> {
    let (table, errors) = DeTable::parse_recoverable(text);
    match errors.first() {
        Some(error) => Err(problem(error, &Lines::of(text))),
        None => Ok(Node {
            at: None,
            value: table_of(table.into_inner(), &Lines::nowhere()),
        }),
    }
}

fn problem(error: &::toml::de::Error, lines: &Lines<'_>) -> (Position, String) {
    let span = error.span().unwrap_or(0..0);
    let at = lines.position(span.start);
    let rest = lines.text(at.line).chars().skip(at.column - 1);
    let rest: String = rest.collect();
    let key = lines.text.get(span).unwrap_or("");
    (at, said(error.message(), key, &rest))
}

/// Whether what follows the mistake is likely read as something else than it was meant to be.
fn spreads(line: &str, message: &str) -> bool {
    let wide = ["array", "inline table", "multi-line", "recursion"];
    line.trim_start().starts_with('[') || wide.iter().any(|word| message.contains(word))
}

/// The parser's words, with ours for the mistakes that people make most. What stands at the place
/// is not shown, unless it is a key: it may be a secret.
fn said(message: &str, key: &str, rest: &str) -> String {
    let message = message.lines().next().unwrap_or("").trim();
    let missing = rest.trim().is_empty() || rest.trim_start().starts_with('#');
    if message.starts_with("duplicate key") {
        let key = super::value::quoted(key);
        return format!("the key {key} stands twice; remove one of them");
    }
    if message.starts_with("string values must be quoted") {
        return match missing {
            true => "not TOML: a value is missing; write one or remove the key".to_owned(),
            false => "not TOML: text without quotes; write it in \"quotes\"".to_owned(),
        };
    }
    if message.starts_with("invalid basic string") && missing {
        return "not TOML: a string is not closed; write \" at its end".to_owned();
    }
    let mut chars = message.chars();
    let first = chars.next().map(|first| first.to_ascii_lowercase());
    let message: String = first.into_iter().chain(chars).collect();
    format!("not TOML: {}", message.replace(", expected", "; expected"))
}

fn table_of(table: DeTable<'_>, lines: &Lines<'_>) -> Value {
    let mut entries: Vec<Entry> = table
        .into_iter()
        .map(|(key, value)| Entry {
            at: Some(lines.position(key.span().start)),
            key: key.into_inner().into_owned(),
            node: node_of(value, lines),
        })
        .collect();
    entries.sort_by_key(|entry| entry.at);
    Value::Table(entries)
}

fn node_of(value: Spanned<DeValue<'_>>, lines: &Lines<'_>) -> Node {
    let at = Some(lines.position(value.span().start));
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => Value::Integer(number.to_string()),
        DeValue::Float(number) => Value::Float(number.as_str().to_owned()),
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Datetime(date) => Value::Date(date.to_string()),
        DeValue::Array(items) => {
            Value::List(items.into_iter().map(|item| node_of(item, lines)).collect())
        }
        DeValue::Table(table) => table_of(table, lines),
    };
    Node { at, value }
}

/// Byte offsets to lines and columns.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Lines<'a> {
        let breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        Lines {
            text,
            starts: std::iter::once(0).chain(breaks).collect(),
        }
    }

    /// Everything is at the beginning.
    fn nowhere() -> Lines<'a> {
        Lines::of("")
    }

    fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }

    fn position(&self, offset: usize) -> Position {
        let line = self.line(offset);
        let start = self.starts[line - 1];
        let before = self.text.get(start..offset).unwrap_or("");
        Position {
            line,
            column: before.chars().count() + 1,
        }
    }

    fn text(&self, line: usize) -> &'a str {
        let start = self.starts.get(line - 1).copied();
        let rest = start.and_then(|start| self.text.get(start..));
        rest.and_then(|rest| rest.lines().next()).unwrap_or("")
    }
}
