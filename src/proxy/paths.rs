//! One path matcher, for routes and for rules.
//!
//! - A path is a prefix on segment boundaries: `/admin` matches `/admin` and `/admin/x`, not
//!   `/administrator`; `exact` is the path alone.
//! - The longest match wins, then the first whose methods match.
//! - The path that is matched is the path that is forwarded, byte for byte. What a server behind
//!   may read as another path is [`ambiguous`] and refused, never normalised.
//! - Escapes match as what they stand for, in requests and in the table alike (`%61` is `a`, `%3A` is
//!   `:`, `é` is `%C3%A9`), but for those that would change what the path is made of.
//! - Some servers drop `;parameters`. A path that would meet another entry without them can be read
//!   in two ways.

use std::borrow::Cow;

use http::Method;

/// One entry of the table.
#[derive(Clone, Debug)]
pub struct Entry<T> {
    /// Begins with `/`.
    pub path: String,
    /// The path alone.
    pub exact: bool,
    /// Empty: all.
    pub methods: Vec<Method>,
    /// What it stands for.
    pub value: T,
}

/// The table, longest path first.
#[derive(Clone, Debug)]
pub struct Paths<T>(Vec<Entry<T>>);

/// What the table says of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Match<'a, T> {
    /// This entry.
    Found(&'a T),
    /// No entry has this path.
    NoPath,
    /// With its `;parameters` it meets another entry than without.
    TwoWays,
    /// Entries have this path, but not this method; these are allowed (RFC 9110 section 15.5.6).
    NoMethod(String),
}

/// What [`Match::TwoWays`] means, for the caller.
pub const TWO_WAYS: &str = "without its ;parameters the path would mean another one here";

impl<T> Paths<T> {
    /// Orders the entries.
    #[must_use]
    pub fn new(mut entries: Vec<Entry<T>>) -> Paths<T> {
        for entry in &mut entries {
            entry.path = entry.reach().into_owned();
        }
        // Stable: among equals the order of the config stays.
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.path.len()));
        Paths(entries)
    }

    /// What the entries stand for.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|entry| &entry.value)
    }

    /// Whether there is no entry at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entry for a request. The path is [`ambiguous`]-free and without the query.
    pub fn find(&self, path: &str, method: &Method) -> Match<'_, T> {
        let path = canonical(path);
        let found = self.meet(&path, method);
        let Some(bare) = without_parameters(&path) else {
            return found;
        };
        let is_same = match (&found, &self.meet(&bare, method)) {
            (Match::Found(one), Match::Found(other)) => std::ptr::eq(*one, *other),
            (Match::NoPath, Match::NoPath) => true,
            (Match::NoMethod(one), Match::NoMethod(other)) => one == other,
            _ => false,
        };
        if is_same { found } else { Match::TwoWays }
    }

    fn meet(&self, path: &str, method: &Method) -> Match<'_, T> {
        let mut of_this_path = self.0.iter().filter(|entry| entry.covers(path)).peekable();
        let Some(length) = of_this_path.peek().map(|entry| entry.path.len()) else {
            return Match::NoPath;
        };
        let mut allowed: Vec<&str> = Vec::new();
        for entry in of_this_path.take_while(|entry| entry.path.len() == length) {
            if entry.methods.is_empty() || entry.methods.contains(method) {
                return Match::Found(&entry.value);
            }
            allowed.extend(entry.methods.iter().map(Method::as_str));
        }
        allowed.sort_unstable();
        allowed.dedup();
        Match::NoMethod(allowed.join(", "))
    }
}

/// The entries that no request meets, each with the one before it that takes all of theirs.
#[must_use]
pub fn dead<T>(entries: &[Entry<T>]) -> Vec<(usize, usize)> {
    let takes_all = |first: &Entry<T>, later: &Entry<T>| {
        let methods = first.methods.is_empty()
            || !later.methods.is_empty() && later.methods.iter().all(|m| first.methods.contains(m));
        methods && (!first.exact || later.exact) && first.reach() == later.reach()
    };
    let of = |(at, later): (usize, &Entry<T>)| {
        let first = entries[..at]
            .iter()
            .position(|first| takes_all(first, later));
        first.map(|first| (at, first))
    };
    entries.iter().enumerate().filter_map(of).collect()
}

impl<T> Entry<T> {
    /// Its path as requests are held against it.
    fn reach(&self) -> Cow<'_, str> {
        let mut path = canonical(&self.path);
        while path.len() > 1 && path.ends_with('/') && !self.exact {
            path.to_mut().pop();
        }
        path
    }

    fn covers(&self, path: &str) -> bool {
        match path.strip_prefix(self.path.as_str()) {
            Some("") => true,
            Some(rest) => !self.exact && (self.path == "/" || rest.starts_with('/')),
            None => false,
        }
    }
}

/// Why a server behind may read this path as another one; `None` where it cannot.
#[must_use]
pub fn ambiguous(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') {
        return Some("the path does not begin with /");
    }
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => return Some("the path holds a backslash"),
            b'#' => return Some("the path holds a #"),
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| (byte as char).to_digit(16));
                let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
                    return Some("the path holds a % without two hexadecimal digits");
                };
                match high * 16 + low {
                    0x00..=0x1f | 0x7f => {
                        return Some("the path holds an encoded control character");
                    }
                    0x2f => return Some("the path holds an encoded slash"),
                    0x5c => return Some("the path holds an encoded backslash"),
                    _ => {}
                }
            }
            0x00..=0x20 | 0x7f => return Some("the path holds a control character"),
            _ => {}
        }
    }
    let path = canonical(path);
    if path.contains("%C0") || path.contains("%C1") || has_overlong(&path) {
        return Some("the path holds an overlong UTF-8 sequence");
    }
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        let name = segment.split(';').next().unwrap_or(segment);
        if name == "." || name == ".." {
            return Some("the path holds a . or .. segment");
        }
        if segment.is_empty() && segments.peek().is_some() {
            return Some("the path holds //");
        }
    }
    None
}

/// Why no request can match an entry with this path; `None` where one can.
#[must_use]
pub fn unmatchable(path: &str) -> Option<&'static str> {
    let has_parameters = canonical(path).contains(';');
    let why = "the path holds ;parameters, and without them it would be another one";
    ambiguous(path).or(has_parameters.then_some(why))
}

/// A sequence of three bytes or more that stands for less than it needs (RFC 3629 section 3). Those of
/// five and six are of RFC 2279, which some servers still read.
fn has_overlong(canonical: &str) -> bool {
    ["%E0%8", "%E0%9", "%F0%8", "%F8%8", "%FC%8"]
        .iter()
        .any(|begin| canonical.contains(begin))
}

/// The path with every escape undone that can be undone without changing what the path is made of,
/// an escaped `;` among them, since some servers cut parameters off after decoding. What stays escaped
/// has capital digits, and so has every byte beyond ASCII.
fn canonical(path: &str) -> Cow<'_, str> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    if path.bytes().all(|byte| byte != b'%' && byte.is_ascii()) {
        return Cow::Borrowed(path);
    }
    let mut out = String::with_capacity(path.len() + 8);
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let escape = match (first, after) {
            (b'%', [high, low, ..]) => digit(*high).zip(digit(*low)),
            _ => None,
        };
        let (byte, was_escaped) = match escape {
            Some((high, low)) => (high * 16 + low, true),
            None => (*first, false),
        };
        rest = &after[if was_escaped { 2 } else { 0 }..];
        let stays = !byte.is_ascii_graphic() || b"/%?#\\".contains(&byte);
        if stays && (was_escaped || !byte.is_ascii()) {
            out.push('%');
            out.push(DIGITS[usize::from(byte >> 4)] as char);
            out.push(DIGITS[usize::from(byte & 15)] as char);
        } else {
            out.push(byte as char);
        }
    }
    Cow::Owned(out)
}

fn digit(byte: u8) -> Option<u8> {
    let digit = (byte as char).to_digit(16)?;
    u8::try_from(digit).ok()
}

/// The path as a server reads it that drops `;parameters`, and with them a segment that is nothing
/// else, but for the last: `/a/;x` is `/a/`. `None`: it has none.
fn without_parameters(canonical: &str) -> Option<String> {
    if !canonical.contains(';') {
        return None;
    }
    let mut bare = String::with_capacity(canonical.len());
    let mut segments = canonical.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let name = segment.split(';').next().unwrap_or(segment);
        if !name.is_empty() || segments.peek().is_none() {
            bare.push('/');
            bare.push_str(name);
        }
    }
    Some(bare)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(path: &str, exact: bool, methods: &[Method], value: u8) -> Entry<u8> {
        Entry {
            path: path.to_owned(),
            exact,
            methods: methods.to_vec(),
            value,
        }
    }

    #[test]
    fn prefixes_end_at_segments_and_the_longest_wins() {
        let table = Paths::new(vec![
            entry("/", false, &[], 0),
            entry("/admin", false, &[], 1),
            entry("/admin/open", true, &[], 2),
            entry("/trailing/", false, &[], 3),
        ]);
        for (path, value) in [
            ("/", 0),
            ("/administrator", 0),
            ("/admin", 1),
            ("/admin/", 1),
            ("/admin/x", 1),
            ("/%61dmin/x", 1),
            ("/admin/open", 2),
            ("/admin/open/", 1),
            ("/ADMIN", 0),
            ("/trailing", 3),
            ("/trailing/x", 3),
        ] {
            assert_eq!(
                table.find(path, &Method::GET),
                Match::Found(&value),
                "{path}"
            );
        }
    }

    #[test]
    fn escapes_match_as_what_they_stand_for_on_both_sides() {
        let table = Paths::new(vec![
            entry("/", false, &[], 0),
            entry("/m:predict", false, &[], 1),
            entry("/caf%C3%A9", false, &[], 2),
            entry("/%7Ealice", false, &[], 3),
            entry("/a%20b", false, &[], 4),
        ]);
        for (path, value) in [
            ("/m:predict", 1),
            ("/m%3Apredict", 1),
            ("/m%3apredict/x", 1),
            ("/caf\u{e9}", 2),
            ("/caf%c3%a9", 2),
            ("/caf%C3%A9/x", 2),
            ("/~alice", 3),
            ("/%7ealice", 3),
            ("/a%20b", 4),
            ("/a%2Fb", 0),
            ("/m%253Apredict", 0),
        ] {
            let found = table.find(path, &Method::GET);
            assert_eq!(found, Match::Found(&value), "{path}");
        }
    }

    #[test]
    fn a_path_that_meets_another_entry_without_its_parameters_is_refused() {
        let table = Paths::new(vec![
            entry("/", false, &[], 0),
            entry("/admin", false, &[], 1),
            entry("/admin/open", false, &[Method::GET], 2),
        ]);
        for path in [
            "/admin;x=1",
            "/admin%3bx=1/y",
            "/;/admin",
            "/;x/admin",
            "/%3B/admin",
            "/admin/open;x",
            "/;/;/admin/open",
        ] {
            assert_eq!(table.find(path, &Method::GET), Match::TwoWays, "{path}");
        }
        for (path, value) in [
            ("/a;x=1/b", 0),
            ("/admin/x;y=1", 1),
            ("/;x", 0),
            ("/admin/open/x;y", 2),
            ("/administrator;x", 0),
        ] {
            let found = table.find(path, &Method::GET);
            assert_eq!(found, Match::Found(&value), "{path}");
        }
    }

    #[test]
    fn methods_choose_among_equal_paths_and_are_named_where_none_fits() {
        let table = Paths::new(vec![
            entry("/a", false, &[Method::GET], 1),
            entry("/a", false, &[Method::POST, Method::PUT], 2),
        ]);
        assert_eq!(table.find("/a/b", &Method::PUT), Match::Found(&2));
        assert_eq!(
            table.find("/a", &Method::DELETE),
            Match::NoMethod("GET, POST, PUT".to_owned())
        );
        assert_eq!(table.find("/b", &Method::GET), Match::NoPath);
    }

    #[test]
    fn paths_that_a_server_may_read_otherwise_are_ambiguous() {
        for path in [
            "/public/../admin",
            "/public/./admin",
            "/public/%2e%2e/admin",
            "/public/.%2E/admin",
            "/public%2F..%2fadmin",
            "/public/..;/admin",
            "/public/..;x=1/admin",
            "/public/..%3b/admin",
            "/public/%2e%2e%3Bx=1/admin",
            "/public/.%3b/admin",
            "/public\\..\\admin",
            "/public/%5c../admin",
            "/healthz%00/admin",
            "/healthz%0a",
            "/%c0%ae%c0%ae/",
            "/%e0%80%af/admin",
            "/%f0%80%80%af/admin",
            "/%f8%80%80%80%af/admin",
            "/%fc%80%80%80%80%af/admin",
            "/public/%u002e",
            "/public/%zz",
            "/public/%",
            "//other/x",
            "/a//b",
            "/a#b",
            "*",
            "",
        ] {
            assert!(ambiguous(path).is_some(), "{path}");
        }
        for path in [
            "/",
            "/a/",
            "/a/b.c/..d",
            "/a%20b",
            "/%252e%252e/x",
            "/a;x=1/b",
            "/a%3bx=1/b",
            "/..a%3b/b",
            "/%7Euser",
            "/sm%f8rrebr%f8d",
        ] {
            assert_eq!(ambiguous(path), None, "{path}");
        }
    }

    #[test]
    fn an_entry_that_no_request_can_match_is_told() {
        for path in ["/a;x=1", "/a%3bx=1/b", "/;", "/a/../b", "/a%2Fb", "/a//b"] {
            assert!(unmatchable(path).is_some(), "{path}");
            let table = Paths::new(vec![entry(path, false, &[], 0)]);
            let found = table.find(path, &Method::GET);
            assert!(
                ambiguous(path).is_some() || found == Match::TwoWays,
                "{path}"
            );
        }
        for path in ["/", "/a/", "/a%20b", "/a=1,b"] {
            assert_eq!(unmatchable(path), None, "{path}");
        }
    }

    #[test]
    fn an_entry_that_another_one_before_it_hides_is_told() {
        for (entries, expected) in [
            (
                vec![entry("/a", false, &[], 1), entry("/a/", false, &[], 2)],
                vec![(1, 0)],
            ),
            (
                vec![entry("/a", false, &[], 1), entry("/%61", true, &[], 2)],
                vec![(1, 0)],
            ),
            (
                vec![
                    entry("/a", false, &[Method::GET, Method::PUT], 1),
                    entry("/a", false, &[Method::PUT], 2),
                ],
                vec![(1, 0)],
            ),
            (
                vec![
                    entry("/a", false, &[Method::GET], 1),
                    entry("/a", false, &[], 2),
                ],
                vec![],
            ),
            (
                vec![
                    entry("/a", false, &[Method::GET], 1),
                    entry("/a", false, &[Method::PUT], 2),
                ],
                vec![],
            ),
            (
                vec![entry("/a", true, &[], 1), entry("/a", false, &[], 2)],
                vec![],
            ),
            (
                vec![entry("/a", true, &[], 1), entry("/a/", true, &[], 2)],
                vec![],
            ),
            (
                vec![entry("/a", false, &[], 1), entry("/a/b", false, &[], 2)],
                vec![],
            ),
        ] {
            assert_eq!(dead(&entries), expected, "{entries:?}");
        }
    }

    #[test]
    fn what_is_left_of_a_last_segment_without_its_parameters_is_a_slash() {
        let table = Paths::new(vec![
            entry("/a", false, &[], 1),
            entry("/a/", true, &[], 2),
            entry("/b/", false, &[], 3),
        ]);
        for path in ["/a/;x", "/a/%3Bx", "/a/;", "/;/a/;x"] {
            assert_eq!(table.find(path, &Method::GET), Match::TwoWays, "{path}");
        }
        for (path, value) in [("/a/", 2), ("/a/b/;x", 1), ("/b/;x", 3)] {
            let found = table.find(path, &Method::GET);
            assert_eq!(found, Match::Found(&value), "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_judged_without_a_panic(path in "\\PC*") {
            let table = Paths::new(vec![entry("/", false, &[], 0)]);
            let found = matches!(table.find(&path, &Method::GET), Match::Found(_));
            prop_assert!(!path.starts_with('/') || found);
            let _ = ambiguous(&path);
        }
    }
}
