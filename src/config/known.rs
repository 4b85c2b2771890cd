//! Which keys there are: what stands in a tree and is none is a mistake that names the nearest.

use super::fold::{Layer, Source};
use super::problem::{Position, Problem};
use super::schema::{self, KEYS, NOT_YET, ROUTE, ROUTES};
use super::tree::{Entry, Node, Value};
use super::value::quoted;

/// All keys of a layer that cannot stand where they stand.
pub(super) fn check(layer: &Layer) -> Vec<Problem> {
    let mut walk = Walk {
        source: &layer.source,
        problems: Vec::new(),
    };
    walk.table("", &layer.root);
    walk.problems
}

struct Walk<'a> {
    source: &'a Source,
    problems: Vec<Problem>,
}

impl Walk<'_> {
    fn table(&mut self, path: &str, node: &Node) {
        let entries = match &node.value {
            Value::Table(entries) => entries,
            // `outbound:` with all its keys commented out.
            Value::Null => return,
            _ if path.is_empty() => {
                self.say(
                    node.at,
                    "expected keys at the top; write `key: value` lines".to_owned(),
                );
                return;
            }
            _ => {
                self.say(
                    node.at,
                    format!(
                        "{path}: expected a table, found a value; write {}",
                        self.example(path)
                    ),
                );
                return;
            }
        };
        for entry in entries {
            self.entry(path, entry);
        }
    }

    fn entry(&mut self, table: &str, entry: &Entry) {
        let path = match table {
            "" => entry.key.clone(),
            _ => format!("{table}.{}", entry.key),
        };
        if NOT_YET.contains(&path.as_str()) {
            self.say(
                entry.at,
                format!("{path} is not in this version yet; remove it"),
            );
            return;
        }
        if path == ROUTES {
            self.routes(&entry.node);
        } else if schema::find(&path).is_some() {
            // A leaf; its own reader says what is wrong with its value.
        } else if schema::is_table(&path) && !entry.key.is_empty() {
            self.table(&path, &entry.node);
        } else {
            let text = unknown(table, &entry.key, &schema::names_in(table));
            self.say(entry.at, text);
        }
    }

    fn routes(&mut self, node: &Node) {
        let Value::List(items) = &node.value else {
            return;
        };
        let names: Vec<&str> = ROUTE.iter().map(|key| key.path).collect();
        for item in items {
            let Value::Table(entries) = &item.value else {
                continue;
            };
            for entry in entries
                .iter()
                .filter(|entry| !names.contains(&entry.key.as_str()))
            {
                let text = unknown(ROUTES, &entry.key, &names);
                self.say(entry.at, text);
            }
        }
    }

    fn say(&mut self, at: Option<Position>, text: String) {
        self.problems
            .push(Problem::new(self.source.origin(at), text));
    }

    fn example(&self, path: &str) -> String {
        let name = schema::names_in(path).first().copied().unwrap_or("key");
        match self.source {
            Source::Variable(_) => format!(
                "REGENT__{}__{}",
                path.to_ascii_uppercase().replace('.', "__"),
                name.to_ascii_uppercase()
            ),
            Source::Set(_) => format!("--set {path}.{name}=..."),
            _ => format!("its keys, such as {path}.{name}"),
        }
    }
}

/// What is wrong with a key that does not exist, and which one was likely meant.
fn unknown(table: &str, key: &str, names: &[&str]) -> String {
    let shown = quoted(key);
    let place = match table {
        "" => "at the top".to_owned(),
        ROUTES => "in [[outbound.routes]]".to_owned(),
        _ => format!("in [{table}]"),
    };
    if let Some(file) = secret_file(table, key) {
        return format!("no key {shown} {place}: secrets stand in files; write {file:?}");
    }
    if let Some(name) = nearest(key, names.iter().copied()) {
        return format!("no key {shown} {place}; write {name:?}");
    }
    let elsewhere: Vec<&str> = (KEYS.iter())
        .filter(|other| other.path.rsplit('.').next() == Some(key))
        .map(|other| other.path)
        .collect();
    if !elsewhere.is_empty() {
        return format!("no key {shown} {place}; it is {}", elsewhere.join(" or "));
    }
    let last = |path: &'static str| path.rsplit('.').next().unwrap_or(path);
    if let Some(name) = nearest(key, KEYS.iter().map(|other| last(other.path))) {
        let paths = KEYS.iter().map(|other| other.path);
        let meant: Vec<&str> = paths.filter(|path| last(path) == name).collect();
        return format!(
            "no key {shown} {place}; did you mean {}?",
            meant.join(" or ")
        );
    }
    format!("no key {shown} {place}; there are {}", names.join(", "))
}

/// The key for the file that a secret belongs into, where somebody wrote the secret itself.
fn secret_file(table: &str, key: &str) -> Option<&'static str> {
    match (table, key) {
        ("region.credential", "password") => Some("password_file"),
        ("region.credential", "refresh_token" | "token") => Some("refresh_token_file"),
        ("region.credential", "access_token") => Some("access_token_file"),
        _ => None,
    }
}

/// The nearest name, where one is near: a slip in every third letter at most.
pub(super) fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    if word.len() > 64 {
        return None;
    }
    names
        .map(|name| (strsim::osa_distance(&word, name), name))
        .filter(|(distance, name)| *distance <= (name.len().min(word.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}
