//! Which keys there are: what stands in a tree and is none is a mistake that names the nearest.

use super::fold::{Layer, Source};
use super::problem::{Position, Problem};
use super::schema::{self, KEYS, Kind, REPEATED, Repeated};
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
        for entry in self.entries(path, node) {
            self.entry(path, entry);
        }
    }

    /// What stands in a table; says so where there is none.
    fn entries<'n>(&mut self, path: &str, node: &'n Node) -> &'n [Entry] {
        let text = match &node.value {
            // `outbound:` with all its keys commented out is null.
            Value::Table(_) | Value::Null => return node.entries(),
            _ if path.is_empty() => "expected keys at the top; write `key: value` lines".to_owned(),
            _ => format!(
                "{path}: expected a table, found a value; write {}",
                self.example(path)
            ),
        };
        self.say(node.at, text);
        &[]
    }

    fn entry(&mut self, table: &str, entry: &Entry) {
        let path = match table {
            "" => entry.key.clone(),
            _ => format!("{table}.{}", entry.key),
        };
        if let Some(repeated) = schema::repeated(&path) {
            self.repeated(repeated, &entry.node);
        } else if schema::find(&path).is_some() {
            // A leaf; its own reader says what is wrong with its value.
        } else if schema::is_table(&path) && !entry.key.is_empty() {
            self.table(&path, &entry.node);
        } else {
            let place = match table {
                "" => String::new(),
                _ => format!("[{table}]"),
            };
            let text = unknown(&place, &entry.key, &schema::names_in(table));
            self.say(entry.at, text);
        }
    }

    fn repeated(&mut self, repeated: &Repeated, node: &Node) {
        let path = repeated.path;
        if let Value::List(items) = &node.value {
            let tables = items.iter().map(Node::entries);
            tables.for_each(|entries| self.keys(repeated, &format!("[[{path}]]"), entries));
        }
        if schema::find(path).is_none_or(|key| key.kind != Kind::Named) {
            return;
        }
        for entry in self.entries(path, node) {
            if schema::is_name(&entry.key) {
                let path = format!("{path}.{}", entry.key);
                let entries = self.entries(&path, &entry.node);
                self.keys(repeated, &format!("[{path}]"), entries);
            } else {
                let text = format!(
                    "{path}: {} is no name; write up to 64 letters, digits, \"-\" and \"_\"",
                    quoted(&entry.key)
                );
                self.say(entry.at, text);
            }
        }
    }

    /// One of a repeated table's; `place` is its header.
    fn keys(&mut self, repeated: &Repeated, place: &str, entries: &[Entry]) {
        let names = repeated.names();
        for entry in entries.iter().filter(|entry| !names.contains(&&*entry.key)) {
            let text = unknown(place, &entry.key, &names);
            self.say(entry.at, text);
        }
    }

    fn say(&mut self, at: Option<Position>, text: String) {
        self.problems
            .push(Problem::new(self.source.origin(at), text));
    }

    fn example(&self, path: &str) -> String {
        let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
        let name = match (schema::repeated(path), schema::repeated(parent)) {
            (Some(repeated), _) => format!("home.{}", repeated.keys[0].path),
            (_, Some(repeated)) => repeated.keys[0].path.to_owned(),
            _ => (schema::names_in(path).first().copied().unwrap_or("key")).to_owned(),
        };
        let key = format!("{path}.{name}");
        match self.source {
            Source::Variable(_) => {
                format!("REGENT__{}", key.to_ascii_uppercase().replace('.', "__"))
            }
            Source::Set(_) => format!("--set {key}=..."),
            _ => format!("its keys, such as {key}"),
        }
    }
}

/// What is wrong with a key that does not exist, and which one was likely meant.
/// `place` is the header of its table, or nothing at the top.
fn unknown(place: &str, key: &str, names: &[&str]) -> String {
    let shown = quoted(key);
    let table = place.trim_matches(['[', ']']);
    let place = match place {
        "" => "at the top".to_owned(),
        _ => format!("in {place}"),
    };
    if let Some(file) = secret_file(table, key) {
        return format!("no key {shown} {place}: secrets stand in files; write {file:?}");
    }
    if let Some(name) = nearest(key, names.iter().copied()) {
        return format!("no key {shown} {place}; write {name:?}");
    }
    let last = |path: &str| path.rsplit('.').next().unwrap_or("").to_owned();
    let all: Vec<String> = (KEYS.iter().map(|other| other.path.to_owned()))
        .chain(REPEATED.iter().flat_map(paths))
        .collect();
    let elsewhere = |name: &str| {
        let found = all.iter().filter(|path| last(path) == name);
        found.map(String::as_str).collect::<Vec<_>>().join(" or ")
    };
    let mut meant = with_part(key, names);
    if !meant.is_empty() {
        let found = all.iter().filter(|path| last(path) == key);
        meant.extend(found.map(String::as_str));
        return format!(
            "no key {shown} {place}; did you mean {}?",
            meant.join(" or ")
        );
    }
    if all.iter().any(|path| last(path) == key) {
        return format!("no key {shown} {place}; it is {}", elsewhere(key));
    }
    let lasts: Vec<String> = all.iter().map(|path| last(path)).collect();
    if let Some(name) = nearest(key, lasts.iter().map(String::as_str)) {
        return format!("no key {shown} {place}; did you mean {}?", elsewhere(name));
    }
    format!("no key {shown} {place}; there are {}", names.join(", "))
}

/// The names that have this word as a part, or else one that is near it: `timeout` is one of
/// `idle_timeout`.
fn with_part<'a>(word: &str, names: &[&'a str]) -> Vec<&'a str> {
    // Short parts are near to everything.
    let parts = names.iter().flat_map(|name| name.split('_'));
    let part = nearest(word, parts.filter(|part| part.len() > 3 || *part == word));
    let has = |name: &&&str| part.is_some_and(|part| name.split('_').any(|one| one == part));
    names.iter().filter(has).copied().collect()
}

/// The keys of a repeated table, as one would speak of them.
fn paths(repeated: &'static Repeated) -> impl Iterator<Item = String> {
    let is_named = schema::find(repeated.path).is_some_and(|key| key.kind == Kind::Named);
    let place = if is_named { ".NAME" } else { "[]" };
    (repeated.keys.iter()).map(move |key| format!("{}{place}.{}", repeated.path, key.path))
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
        .map(|name| {
            let distance = strsim::osa_distance(&word, &name.to_ascii_lowercase());
            (distance, name)
        })
        .filter(|(distance, name)| *distance <= (name.len().min(word.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}
