//! Config from single words: environment variables and `--set key=value`.
//!
//! - `REGENT__OUTBOUND__LISTEN` is `outbound.listen`. Names with single underscores are not ours:
//!   Kubernetes makes such for every Service (`REGENT_PORT=tcp://...` for one called `regent`).
//! - A word stays a word (`00123`) until a field parses it; lists and tables with free keys are JSON.

use std::ffi::OsStr;

use super::fold::{Layer, Source};
use super::problem::Problem;
use super::schema::{self, Kind};
use super::tree::{Node, Value};
use super::value::quoted;

const PREFIX: &str = "REGENT__";

/// No key has more segments; a tree as deep as a flag is long would end the stack.
const DEEPEST: usize = 8;

/// One variable: `None` where it is not ours.
pub(super) fn variable(name: &str, value: &OsStr) -> Option<Result<Layer, Problem>> {
    let path = name.strip_prefix(PREFIX)?.to_ascii_lowercase();
    let path: Vec<&str> = path.split("__").collect();
    if schema::find(&path.join(".")).is_none() && is_service_link(name) {
        return None;
    }
    let source = Source::Variable(name.to_owned());
    Some(match value.to_str() {
        Some(text) => layer(source, &path, text),
        None => Err(Problem::new(
            source.origin(None),
            "is not UTF-8; write plain text",
        )),
    })
}

/// One `--set`.
pub(super) fn set(text: &str) -> Result<Layer, Problem> {
    let Some((key, value)) = text.split_once('=') else {
        // What was meant as a value must not be shown.
        let key: String = (text.chars())
            .take_while(|c| c.is_ascii_alphanumeric() || "._-".contains(*c))
            .take(40)
            .collect();
        let origin = Source::Set(key).origin(None);
        return Err(Problem::new(
            origin,
            "has no value; write --set key=value, as in --set outbound.listen=127.0.0.1:8080",
        ));
    };
    let path: Vec<&str> = key.trim().split('.').collect();
    layer(Source::Set(key.trim().to_owned()), &path, value)
}

fn layer(source: Source, path: &[&str], text: &str) -> Result<Layer, Problem> {
    if path.len() > DEEPEST {
        let text = "no key stands that deep; remove it";
        return Err(Problem::new(source.origin(None), text));
    }
    if let Some(map) = map_above(path) {
        let text = format!(
            "{map} is one table; write it as JSON, as in {}",
            match &source {
                Source::Variable(_) => format!(
                    "REGENT__{}={MAP}",
                    map.to_ascii_uppercase().replace('.', "__")
                ),
                _ => format!("--set {map}={MAP}"),
            }
        );
        return Err(Problem::new(source.origin(None), text));
    }
    let kind = schema::find(&path.join(".")).map_or(Kind::Text, |key| key.kind);
    match leaf(kind, text) {
        Ok(leaf) => Ok(Layer {
            root: Node::nested(path, leaf),
            source,
        }),
        Err(wrong) => Err(Problem::new(
            source.origin(None),
            format!("{}: {wrong}", path.join(".")),
        )),
    }
}

/// The table with free keys that a path leads into. Such a table is replaced as a whole, so one key
/// of it can not be set alone.
fn map_above(path: &[&str]) -> Option<String> {
    let above = (1..path.len()).map(|end| path[..end].join("."));
    let is_map = |path: &str| schema::find(path).is_some_and(|key| key.kind == Kind::Map);
    above.into_iter().find(|path| is_map(path))
}

const MAP: &str = r#"{"name": "value"}"#;

/// A word as a value of this kind: lists and tables are read as JSON, all else stays a word.
pub(super) fn leaf(kind: Kind, text: &str) -> Result<Node, String> {
    let (what, example) = match kind {
        Kind::Words => ("list", r#"["a", "b"]"#),
        Kind::Tables => ("list", r#"[{"path": "/models"}]"#),
        Kind::Map => ("object", MAP),
        Kind::Named => ("object", r#"{"home": {"issuer": "iss.example.com"}}"#),
        _ => return Ok(Node::of(Value::Word(text.to_owned()))),
    };
    let fits = |node: &Node| match node.value {
        Value::List(_) => what == "list",
        Value::Table(_) => what == "object",
        _ => false,
    };
    match serde_json::from_str::<Node>(text) {
        Ok(node) if fits(&node) => Ok(node),
        Err(error) if error.is_data() => Err(format!(
            "{} is no JSON {what} that can be read ({error}); write one, as in {example}",
            quoted(text)
        )),
        _ => Err(format!(
            "{} is no JSON {what}; write one, as in {example}",
            quoted(text)
        )),
    }
}

/// Whether Kubernetes made this name, for a Service whose name holds two dashes in a row.
fn is_service_link(name: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.contains("_PORT_")
}
