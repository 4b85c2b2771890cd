//! The layers, weakest first, and which of them holds at each path.
//!
//! figment folds them: tables merge key by key, anything else is replaced as a whole. It says which
//! layer wins; the value itself is read from that layer's tree, where it has its place and has not
//! been typed by its looks (figment would turn `00123` into a number).

use std::path::PathBuf;

use figment::value::{Dict, Empty, Map};
use figment::{Error, Figment, Metadata, Profile, Provider};

use super::problem::{Origin, Position};
use super::schema::{self, KEYS, Kind, Otherwise};
use super::tree::{Node, Value};

/// One source.
pub(super) struct Layer {
    pub(super) source: Source,
    pub(super) root: Node,
}

/// Where a layer comes from.
#[derive(Clone)]
pub(super) enum Source {
    Defaults,
    File(PathBuf),
    Variable(String),
    Set(String),
}

impl Source {
    pub(super) fn origin(&self, at: Option<Position>) -> Origin {
        match self {
            Source::Defaults => Origin::Default,
            Source::File(path) => Origin::File {
                path: path.clone(),
                at,
            },
            Source::Variable(name) => Origin::Variable(name.clone()),
            Source::Set(key) => Origin::Set(key.clone()),
        }
    }
}

/// All layers as one config.
pub(super) struct Folded {
    layers: Vec<Layer>,
    figment: Figment,
}

/// A value that holds.
pub(super) struct Found<'a> {
    pub(super) source: &'a Source,
    pub(super) node: &'a Node,
}

impl Found<'_> {
    pub(super) fn origin(&self) -> Origin {
        self.source.origin(self.node.at)
    }

    /// Whether somebody wrote it.
    pub(super) fn is_given(&self) -> bool {
        !matches!(self.source, Source::Defaults)
    }
}

impl Folded {
    /// `layers`: weakest first.
    pub(super) fn new(layers: Vec<Layer>) -> Folded {
        let figment = (layers.iter().enumerate())
            .fold(Figment::new(), |figment, (index, layer)| {
                figment.merge(Marked { index, layer })
            });
        Folded { layers, figment }
    }

    /// What holds at a path such as `outbound.routes[0].path`.
    pub(super) fn find(&self, path: &str) -> Option<Found<'_>> {
        // Lists are replaced as a whole, so the layer of the list is the layer of its items.
        let list = path.split('[').next().unwrap_or(path);
        let value = self.figment.find_value(list).ok()?;
        let metadata = self.figment.get_metadata(value.tag())?;
        let layer = self.layers.get(metadata.name.parse::<usize>().ok()?)?;
        Some(Found {
            source: &layer.source,
            node: layer.root.find(path)?,
        })
    }

    /// The origin of a path, or of the nearest that stands above it.
    pub(super) fn origin(&self, path: &str) -> Origin {
        let mut path = path;
        loop {
            if let Some(found) = self.find(path) {
                return found.origin();
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return Origin::Default,
            }
        }
    }

    /// The names in a table of named ones, of all layers, in the order in which they first stand.
    /// What is wrong with a name, or stands there in place of a table, `known` says.
    pub(super) fn names(&self, table: &str) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for entry in self.tables(table).flat_map(Node::entries) {
            if schema::is_name(&entry.key) && !names.contains(&&*entry.key) {
                names.push(&entry.key);
            }
        }
        let is_sound = |name: &&str| {
            let mut found = self.tables(table).filter_map(|node| node.child(name));
            found.all(|node| matches!(node.value, Value::Table(_) | Value::Null))
        };
        names.retain(is_sound);
        names
    }

    /// Whether a layer has something here that is no table, or anything in it.
    pub(super) fn is_filled(&self, table: &str) -> bool {
        self.tables(table).any(|node| match &node.value {
            Value::Table(entries) => !entries.is_empty(),
            Value::Null => false,
            _ => true,
        })
    }

    /// What the layers have at a path without indexes.
    fn tables(&self, path: &str) -> impl Iterator<Item = &Node> {
        (self.layers.iter()).filter_map(move |layer| layer.root.find(path))
    }

    /// Whether somebody wrote this table, or a key in it.
    pub(super) fn is_given(&self, table: &str) -> bool {
        self.layers.iter().any(|layer| {
            !matches!(layer.source, Source::Defaults) && layer.root.find(table).is_some()
        })
    }
}

/// The weakest layer: what the schema says.
pub(super) fn defaults() -> Vec<Layer> {
    let values = KEYS.iter().filter_map(|key| match key.default {
        Otherwise::Value(text) => Some((key, text)),
        Otherwise::Absent(_) => None,
    });
    values
        .map(|(key, text)| {
            let path: Vec<&str> = key.path.split('.').collect();
            Layer {
                source: Source::Defaults,
                root: Node::nested(
                    &path,
                    super::words::leaf(key.kind, text).unwrap_or(Node::of(Value::Null)),
                ),
            }
        })
        .collect()
}

/// A layer as figment sees it: its tables, and a mark where a value stands.
struct Marked<'a> {
    index: usize,
    layer: &'a Layer,
}

impl Provider for Marked<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.index.to_string())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        let dict = match &self.layer.root.value {
            Value::Table(_) => marks("", &self.layer.root),
            _ => Dict::new(),
        };
        Ok(Profile::Default.collect(dict))
    }
}

/// `path` is the table's, with a dot at its end.
fn marks(path: &str, table: &Node) -> Dict {
    (table.entries().iter())
        // figment takes a dot in a key for a path; such keys are mistakes, and reported as such.
        .filter(|entry| !entry.key.contains('.'))
        .filter_map(|entry| {
            let path = format!("{path}{}", entry.key);
            let kind = schema::find(&path).map(|key| key.kind);
            let value = match &entry.node.value {
                Value::Table(_) if kind != Some(Kind::Map) => {
                    marks(&format!("{path}."), &entry.node).into()
                }
                // Tables with all their keys commented out take nothing from the layers below.
                Value::Null if matches!(kind, None | Some(Kind::Named | Kind::Tables)) => {
                    return None;
                }
                _ => figment::value::Value::from(Empty::Unit),
            };
            Some((entry.key.clone(), value))
        })
        .collect()
}
