//! How servers read a path, each in its own way, and what a table says of each reading: the program
//! must have refused the path, or have said the same of all of them.
//!
//! `tests/fuzz` runs this with bytes of its own making.

use http::Method;
use regent::proxy::paths::{Entry, Match, Paths, ambiguous, unmatchable};

/// A name between slashes: characters, and bytes that are none above all of them.
pub(crate) type Name = Vec<u32>;

const SLASH: u32 = '/' as u32;
const BACKSLASH: u32 = '\\' as u32;
const SEMICOLON: u32 = ';' as u32;

/// Every reading of a path whose escapes are undone: with backslashes for slashes, without
/// `;parameters`, without what is empty then, with dots resolved, and cut at a NUL; in all mixtures.
pub(crate) fn readings(path: &[u32]) -> Vec<Vec<Name>> {
    let slash = |char: &u32| if *char == BACKSLASH { SLASH } else { *char };
    let slashed: Vec<_> = path.iter().map(slash).collect();
    let names = |path: &[u32]| -> Vec<Name> {
        let names = path.split(|char| *char == SLASH).skip(1);
        names.map(<[u32]>::to_vec).collect()
    };
    let cut = |path: &[u32]| names(path.split(|char| *char == 0).next().unwrap_or_default());
    let mut all = vec![names(path), names(&slashed), cut(path), cut(&slashed)];
    for step in [bare, merged, resolved] {
        let more: Vec<_> = all.iter().map(|names| step(names)).collect();
        all.extend(more);
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// Without parameters (RFC 3986 section 3.3).
fn bare(names: &[Name]) -> Vec<Name> {
    let name = |name: &Name| {
        name.split(|char| *char == SEMICOLON)
            .next()
            .map(<[u32]>::to_vec)
    };
    names.iter().filter_map(name).collect()
}

/// Without empty names, but for the last one.
fn merged(names: &[Name]) -> Vec<Name> {
    let last = names.len().saturating_sub(1);
    let stays = |(at, name): &(usize, &Name)| *at == last || !name.is_empty();
    names
        .iter()
        .enumerate()
        .filter(stays)
        .map(|(_, name)| name.clone())
        .collect()
}

/// RFC 3986 section 5.2.4.
fn resolved(names: &[Name]) -> Vec<Name> {
    let mut resolved = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let dots = name
            .iter()
            .all(|char| *char == u32::from(b'.'))
            .then_some(name.len());
        match dots {
            Some(1) => {}
            Some(2) => drop(resolved.pop()),
            _ => {
                resolved.push(name.clone());
                continue;
            }
        }
        if at + 1 == names.len() {
            resolved.push(Name::new());
        }
    }
    resolved
}

/// The path with its escapes undone, but for those of bytes that `which` leaves, and its UTF-8 read as
/// a careless server reads it.
pub(crate) fn decoded(path: &str, which: fn(u8) -> bool) -> Vec<u32> {
    let (mut bytes, mut rest) = (Vec::new(), path.as_bytes());
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) if which(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    characters(&bytes)
}

/// UTF-8 as RFC 2279 had it, up to six bytes, without a look at whether fewer would do.
fn characters(mut bytes: &[u8]) -> Vec<u32> {
    let mut characters = Vec::new();
    while let [first, rest @ ..] = bytes {
        let ones = first.leading_ones() as usize;
        let is_more = |more: &&[u8]| more.iter().all(|byte| byte & 0xc0 == 0x80);
        let more = rest.get(..ones.saturating_sub(1)).filter(is_more);
        let start = u32::from(*first) & (0x7f >> ones.min(7));
        let (character, length) = match more {
            Some(more) if (2..=6).contains(&ones) => {
                let add = |char: u32, byte: &u8| char << 6 | u32::from(byte & 0x3f);
                (more.iter().fold(start, add), more.len())
            }
            _ if ones == 0 => (start, 0),
            _ => (0x8000_0000 | u32::from(*first), 0),
        };
        characters.push(character);
        bytes = &rest[length..];
    }
    characters
}

/// A rule: for GET, for POST, or for both.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) path: String,
    pub(crate) exact: bool,
    pub(crate) method: Option<Method>,
}

impl Rule {
    /// From a line: `=` for the path alone, `G` or `P` for one method, and the path. `None`: the config
    /// would not take it.
    fn of(line: &str) -> Option<Rule> {
        let (flags, path) = line.split_at(line.find('/')?);
        let method = match flags.trim_start_matches('=') {
            "G" => Some(Method::GET),
            "P" => Some(Method::POST),
            _ => None,
        };
        let is_plain = path
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"?#*".contains(&byte));
        (is_plain && unmatchable(path).is_none()).then(|| Rule {
            path: path.to_owned(),
            exact: flags.starts_with('='),
            method,
        })
    }

    /// What its path must begin with, or be.
    fn names(&self) -> Vec<Name> {
        let path = match self.exact {
            true => &self.path,
            false => self.path.trim_end_matches('/'),
        };
        let path = decoded(path, |_| true);
        path.split(|char| *char == SLASH)
            .skip(1)
            .map(<[u32]>::to_vec)
            .collect()
    }

    fn covers(&self, names: &[Name]) -> bool {
        let own = self.names();
        names.starts_with(&own) && (!self.exact || names.len() == own.len())
    }

    /// Of two that cover one path the longer one.
    fn length(&self) -> usize {
        let names = self.names();
        names
            .iter()
            .map(|name| name.len() + 1)
            .sum::<usize>()
            .max(1)
    }
}

/// Judges an input: the rules, each in its line, and then the path of a GET.
///
/// # Panics
/// The program finds another rule than a server's reading meets.
pub(crate) fn judge(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let (rules, path) = text.rsplit_once('\n').unwrap_or(("", text));
    let rules: Vec<_> = rules.lines().filter_map(Rule::of).take(8).collect();
    // The query is gone before paths are looked at.
    compare(&rules, path.split('?').next().unwrap_or_default());
}

/// Asks for the path of a GET.
///
/// # Panics
/// The program finds another rule than a server's reading meets.
pub(crate) fn compare(rules: &[Rule], path: &str) {
    let entry = |(value, rule): (usize, &Rule)| Entry {
        path: rule.path.clone(),
        exact: rule.exact,
        methods: rule.method.iter().cloned().collect(),
        value,
    };
    let table = Paths::new(rules.iter().enumerate().map(entry).collect());
    let found = table.find(path, &Method::GET);
    let found = match found {
        _ if ambiguous(path).is_some() => None,
        Match::TwoWays => None,
        Match::NoPath => Some(Met::NoPath),
        Match::NoMethod(_) => Some(Met::NoMethod),
        Match::Found(place) => Some(Met::Rule(*place)),
    };
    let Some(found) = found else {
        assert!(!is_plain(path), "{path:?} is refused");
        return;
    };
    // Parameters may be cut off before the escapes are undone.
    let cut = path
        .split('/')
        .map(|name| name.split(';').next().unwrap_or_default());
    let cut = cut.collect::<Vec<_>>().join("/");
    for path_read in [path, &cut] {
        for names in readings(&decoded(path_read, |_| true)) {
            assert_eq!(found, meet(rules, &names), "{path:?} as {names:?}");
        }
    }
}

/// What a table says of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Met {
    NoPath,
    NoMethod,
    Rule(usize),
}

/// What the rules say of a GET, as the documentation has it: the longest, then the first that fits.
fn meet(rules: &[Rule], names: &[Name]) -> Met {
    let covers = rules
        .iter()
        .enumerate()
        .filter(|(_, rule)| rule.covers(names));
    let covers: Vec<_> = covers.collect();
    let Some(longest) = covers.iter().map(|(_, rule)| rule.length()).max() else {
        return Met::NoPath;
    };
    let fits = |rule: &Rule| {
        rule.method
            .as_ref()
            .is_none_or(|method| method == Method::GET)
    };
    let mut longest = covers.iter().filter(|(_, rule)| rule.length() == longest);
    let first = longest.find(|(_, rule)| fits(rule));
    first.map_or(Met::NoMethod, |(place, _)| Met::Rule(*place))
}

/// Whether there is nothing in it that anybody could read otherwise.
fn is_plain(path: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@/".contains(&byte);
    path.starts_with('/')
        && path.bytes().all(is_plain)
        && !path.contains("//")
        && !path.split('/').any(|name| name == "." || name == "..")
}
