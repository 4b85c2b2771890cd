//! Imports go downwards only: every `crate::` path in `src/` is held to the table in `src/lib.rs`.
//!
//! It reads the text, without comments, literals and what is `#[cfg(test)]`, tests' own files among
//! it: those may look upwards. Modules of one layer may use each other, but for those that are
//! apart. Two crates have owners: `fetch` alone talks HTTP to others, and only `jwt` and the region
//! of `demo` know jsonwebtoken.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use code::{Code, module_path};

#[path = "layers/code.rs"]
mod code;

/// Neighbours on a layer that never use each other.
const APART: [&str; 2] = ["token", "jwt"];
/// Crates that only these modules name.
const OWNED: [(&str, &[&str]); 2] = [("reqwest", &["fetch"]), ("jsonwebtoken", &["jwt", "demo"])];

type Layers = BTreeMap<String, u32>;

#[test]
fn imports_go_downwards_only() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let layers = table(&read(&src.join("lib.rs")));
    let sources = sources(&src);
    let for_tests: BTreeSet<PathBuf> = sources
        .iter()
        .flat_map(|(path, code)| code.for_tests(path))
        .collect();
    let mut paths = 0;
    let mut wrong = Vec::new();
    for (path, code) in &sources {
        let file = path.strip_prefix(&src).expect("it is in there");
        let is_root = ["lib.rs", "main.rs"]
            .iter()
            .any(|root| file == Path::new(root));
        if is_root || path.ancestors().any(|part| for_tests.contains(part)) {
            continue;
        }
        paths += code.paths(file).len();
        wrong.extend(violations(&layers, file, code));
    }
    assert!(paths > 150, "it has read next to nothing: {paths}");
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn the_table_names_every_module_and_no_other() {
    let lib = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"));
    let code = Code::of(&lib);
    let named: Vec<_> = table(&lib).into_keys().collect();
    let mut declared: Vec<_> = code
        .tokens
        .windows(2)
        .filter(|pair| pair[0] == "mod")
        .map(|pair| pair[1].clone())
        .collect();
    declared.sort();
    assert_eq!(named, declared);
}

#[test]
fn every_way_up_is_found_and_no_other() {
    let table = "//! | 0 | [`clock`] |\n//! | 1 | [`dns`], [`net`] |\n//! | 4 | [`token`], [`jwt`] |\n\
                 //! | 5 | [`proxy`] |\n//! | 8 | `demo` |\n";
    let layers = self::table(table);
    for (file, text, found) in [
        ("token.rs", "use crate::clock::Clock;", 0),
        ("token.rs", "use crate::proxy::Policy;", 1),
        (
            "token/deep/er.rs",
            "use crate::{clock, proxy::{self, Policy}};",
            1,
        ),
        ("token.rs", "pub(crate) fn f() { crate :: proxy::go() }", 1),
        (
            "token.rs",
            "macro_rules! m { () => { $crate::proxy::go() } }",
            1,
        ),
        ("token.rs", "use super::proxy;", 1),
        ("token/cache.rs", "use super::proxy;", 0),
        ("token/cache.rs", "use super::super::proxy;", 1),
        (
            "token.rs",
            "mod m { use super::proxy; use super::super::proxy; }",
            1,
        ),
        ("token.rs", "use crate::*;", 1),
        ("token.rs", "use crate::unheard_of::X;", 1),
        ("token.rs", "use crate::jwt::Keys;", 1),
        ("jwt/keys.rs", "use crate::token::State;", 1),
        ("net.rs", "use crate::dns::Lookup;", 0),
        (
            "token.rs",
            "// crate::proxy\n/* crate::proxy /* */ crate::proxy */",
            0,
        ),
        (
            "token.rs",
            "const A: &str = \"crate::proxy \\\" crate::proxy\";",
            0,
        ),
        (
            "token.rs",
            "const A: &str = r#\"crate::proxy \" crate::proxy\"#; use crate::proxy;",
            1,
        ),
        (
            "token.rs",
            "const A: char = '\"'; fn f<'a>(_: &'a ()) { crate::proxy::go() } // \"",
            1,
        ),
        (
            "token.rs",
            "#[cfg(test)]\nmod tests { use crate::proxy; fn f() {} }",
            0,
        ),
        (
            "token.rs",
            "#[cfg(test)]\nuse crate::proxy;\nuse crate::demo;",
            1,
        ),
        (
            "token.rs",
            "#[cfg(test)]\nmod tests {}\nuse crate::proxy;",
            1,
        ),
        ("token.rs", "#[cfg(not(test))]\nuse crate::proxy;", 1),
        ("token.rs", "use jsonwebtoken::Algorithm;", 1),
        ("demo/sign.rs", "use jsonwebtoken::Algorithm;", 0),
        ("demo/sign.rs", "use reqwest::Client;", 1),
    ] {
        let wrong = violations(&layers, Path::new(file), &Code::of(text));
        assert_eq!(wrong.len(), found, "{file}: {text}: {wrong:?}");
    }
}

/// The layer of each module, as the docs of `src/lib.rs` have it.
fn table(lib: &str) -> Layers {
    let mut layers = Layers::new();
    for line in lib.lines() {
        let Some(row) = line.strip_prefix("//! | ") else {
            continue;
        };
        let mut cells = row.split('|');
        let Some(Ok(layer)) = cells.next().map(|cell| cell.trim().parse()) else {
            continue;
        };
        let modules = cells.next().expect("a second column").split('`');
        for module in modules.skip(1).step_by(2) {
            let before = layers.insert(module.to_owned(), layer);
            assert_eq!(before, None, "{module} stands twice");
        }
    }
    layers
}

fn violations(layers: &Layers, file: &Path, code: &Code) -> Vec<String> {
    let module = module_path(file).remove(0);
    let shown = file.display();
    let Some(own) = layers.get(&module) else {
        return vec![format!("src/{shown}: {module} has no layer")];
    };
    let of_ours = code.paths(file).into_iter().filter_map(|used| {
        let why = match layers.get(&used) {
            _ if used == module => return None,
            None => "which has no layer".to_owned(),
            Some(layer) if layer > own => format!("{own} looks up to {layer}"),
            Some(_)
                if [&module, &used]
                    .iter()
                    .all(|name| APART.contains(&name.as_str())) =>
            {
                "the two never use each other".to_owned()
            }
            Some(_) => return None,
        };
        Some(format!("src/{shown}: {module} uses {used}: {why}"))
    });
    let of_others = OWNED.iter().filter_map(|(name, owners)| {
        let used = code
            .tokens
            .windows(2)
            .any(|pair| pair[0] == *name && pair[1] == "::");
        let theirs = owners.contains(&module.as_str());
        (used && !theirs).then(|| format!("src/{shown}: {module} uses {name}: only {owners:?} may"))
    });
    of_ours.chain(of_others).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sources(folder: &Path) -> Vec<(PathBuf, Code)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("a name").path();
        if path.is_dir() {
            all.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let code = Code::of(&read(&path));
            all.push((path, code));
        }
    }
    all
}
