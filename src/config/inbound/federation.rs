//! A list of issuers: each entry judged alone, by what judges those of the config.
//!
//! - An entry has fewer keys than the config: it names no file, and loosens no limit.
//! - An entry that is broken is a [`Fault`]; the others are as good as before.
//! - What the config has already, and whether the keys are any, is judged where both are known.

use super::document::{self, Item};
use super::issuer;
use super::{Fault, Issuer};
use crate::config::fold::{Folded, Layer, Source};
use crate::config::read::Reader;
use crate::config::schema;
use crate::config::tree::{Node, Value};
use crate::config::value::quoted;

/// The most entries.
pub const MOST: usize = 4096;

/// The key that the list stands under.
pub const KEY: &str = "issuers";

/// What an entry may have.
const KEYS: [&str; 9] = [
    "name",
    "issuer",
    "public_key",
    "jwks",
    "jwks_url",
    "discovery_url",
    "algorithms",
    "audiences",
    "required_claims",
];

/// The entries of a list, in its order.
pub type Listed = Vec<Result<Issuer, Fault>>;

/// Reads a list.
///
/// # Errors
/// It is no list of issuers.
pub fn read(document: &[u8]) -> Result<Listed, String> {
    let items = document::items(document, KEY, MOST)?;
    let (nodes, twice): (Vec<Node>, Vec<bool>) = items
        .into_iter()
        .map(|Item { node, is_twice }| (node, is_twice))
        .unzip();
    let layer = Layer {
        source: Source::File("the list".into()),
        root: Node::nested(&["issuers"], Node::of(Value::List(nodes))),
    };
    let folded = Folded::new(vec![layer]);
    let one = |(place, is_twice): (usize, &bool)| {
        let table = format!("issuers[{place}]");
        let node = folded.find(&table).map(|found| found.node);
        let name = node.and_then(name_of);
        entry(&folded, &table, node, name, *is_twice).map_err(|why| Fault {
            list: KEY,
            place,
            name: name.map(str::to_owned),
            why,
        })
    };
    Ok(twice.iter().enumerate().map(one).collect())
}

/// A name that can be one.
fn name_of(entry: &Node) -> Option<&str> {
    match &entry.child("name")?.value {
        Value::Text(name) => Some(&**name).filter(|name| schema::is_name(name)),
        _ => None,
    }
}

fn entry(
    folded: &Folded,
    table: &str,
    node: Option<&Node>,
    name: Option<&str>,
    is_twice: bool,
) -> Result<Issuer, String> {
    let Some(node) = node.filter(|node| matches!(node.value, Value::Table(_))) else {
        return Err("expected a table; write one with name, issuer and its keys".to_owned());
    };
    if is_twice {
        return Err("a key stands twice in it; remove one of them".to_owned());
    }
    if let Some(wrong) = node.entries().iter().find_map(|entry| not_here(&entry.key)) {
        return Err(wrong);
    }
    let Some(name) = name else {
        return Err(match node.child("name") {
            None => "name is missing; write one, such as name = \"west\"".to_owned(),
            Some(_) => {
                "name: is no name; write up to 64 letters, digits, \"-\" and \"_\"".to_owned()
            }
        });
    };
    let mut reader = Reader::new(folded, None, true);
    let issuer = issuer::listed(&mut reader, table, name);
    // The place is told with the fault.
    let own = format!("{table}.");
    let wrong = reader.problems.iter().map(|problem| {
        let text = &*problem.text;
        text.strip_prefix(&own)
            .or(text.strip_prefix(table))
            .unwrap_or(text)
    });
    let wrong: Vec<&str> = wrong
        .map(|text| text.trim_start_matches([':', ' ']))
        .collect();
    match issuer {
        Some(issuer) if wrong.is_empty() => Ok(issuer),
        _ => Err(wrong.join("; ")),
    }
}

/// What is wrong with a key that an entry may not have.
fn not_here(key: &str) -> Option<String> {
    let shown = quoted(key);
    match key {
        key if KEYS.contains(&key) => None,
        "public_key_file" | "jwks_file" | "ca_file" => Some(format!(
            "{shown}: a list names no file; write public_key, jwks or a URL"
        )),
        key if schema::ISSUER.iter().any(|known| known.path == key) => Some(format!(
            "{shown}: only the config may set it; remove it, or write the issuer into the config"
        )),
        _ => Some(format!(
            "no key {shown} in an entry; there are {}",
            KEYS.join(", ")
        )),
    }
}
