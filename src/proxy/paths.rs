//! One path matcher, for routes and for rules.
//!
//! - A path is a prefix on segment boundaries: `/admin` matches `/admin` and `/admin/x`, not
//!   `/administrator`; `exact` is the path alone.
//! - The longest match wins, then the first whose methods match.
//! - The path that is matched is the path that is forwarded, byte for byte. What a server behind
//!   may read as another path is [`ambiguous`] and refused, never normalised.
//! - Escapes of characters that need none (`%61` for `a`, RFC 3986 section 2.3) match as what they
//!   stand for.

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
    /// Entries have this path, but not this method; these are allowed (RFC 9110 section 15.5.6).
    NoMethod(String),
}

impl<T> Paths<T> {
    /// Orders the entries.
    #[must_use]
    pub fn new(mut entries: Vec<Entry<T>>) -> Paths<T> {
        for entry in &mut entries {
            while entry.path.len() > 1 && entry.path.ends_with('/') && !entry.exact {
                entry.path.pop();
            }
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
        let path = plain(path);
        let mut of_this_path = self.0.iter().filter(|entry| entry.covers(&path)).peekable();
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

impl<T> Entry<T> {
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
                    0xc0 | 0xc1 => return Some("the path holds an overlong UTF-8 sequence"),
                    _ => {}
                }
            }
            0x00..=0x20 | 0x7f => return Some("the path holds a control character"),
            _ => {}
        }
    }
    let plain = plain(path);
    let mut segments = plain[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        if matches!(without_parameters(segment), "." | "..") {
            return Some("the path holds a . or .. segment");
        }
        if segment.is_empty() && segments.peek().is_some() {
            return Some("the path holds //");
        }
    }
    None
}

/// A segment before its first `;`. Some servers decode first and cut then: an escaped one counts too.
fn without_parameters(segment: &str) -> &str {
    let ends = [";", "%3b", "%3B"].map(|sign| segment.find(sign));
    let end = ends.into_iter().flatten().min();
    segment
        .get(..end.unwrap_or(segment.len()))
        .unwrap_or(segment)
}

/// The path with the escapes of unreserved characters undone.
fn plain(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let escape = rest.get(at + 1..at + 3);
        match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                out.push(byte as char);
                rest = &rest[at + 3..];
            }
            _ => {
                out.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
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
        ] {
            assert_eq!(ambiguous(path), None, "{path}");
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
