//! A source file as tokens, and the modules that it names.
//!
//! No parser of Rust: comments, strings and characters go, what is `#[cfg(test)]` goes, and of the
//! rest only braces and paths matter.

use std::path::{Path, PathBuf};

/// A file as tokens: words, `::` and single signs.
pub(crate) struct Code {
    pub(crate) tokens: Vec<String>,
    /// Modules that are there for tests only, in files of their own.
    test_modules: Vec<String>,
}

impl Code {
    pub(crate) fn of(text: &str) -> Code {
        let mut tokens = Vec::new();
        let mut test_modules = Vec::new();
        let mut rest = tokenize(text).into_iter().peekable();
        let attribute = ["#", "[", "cfg", "(", "test", ")", "]"];
        while let Some(token) = rest.next() {
            tokens.push(token);
            if !tokens.ends_with(&attribute.map(str::to_owned)) {
                continue;
            }
            // The item that follows: up to its semicolon or the end of its block.
            let mut depth = 0;
            let mut item = Vec::new();
            for token in rest.by_ref() {
                depth += i32::from(token == "{") - i32::from(token == "}");
                let ends = depth == 0 && (token == ";" || token == "}");
                item.push(token);
                if ends {
                    break;
                }
            }
            if let [.., word, name, end] = &item[..]
                && (word.as_str(), end.as_str()) == ("mod", ";")
            {
                test_modules.push(name.clone());
            }
        }
        Code {
            tokens,
            test_modules,
        }
    }

    /// The files and folders of its modules for tests.
    pub(crate) fn for_tests(&self, path: &Path) -> Vec<PathBuf> {
        let at = |name: &String| {
            let module = path.with_extension("").join(name);
            [module.with_extension("rs"), module]
        };
        self.test_modules.iter().flat_map(at).collect()
    }

    /// The crate's modules that it names, once for each time.
    pub(crate) fn paths(&self, file: &Path) -> Vec<String> {
        let mut used = Vec::new();
        // How many braces were open where each inline module began.
        let mut inside: Vec<usize> = Vec::new();
        let mut open = 0;
        let mut at = 0;
        while at < self.tokens.len() {
            match self.tokens[at].as_str() {
                "mod" if self.is(at + 2, "{") => inside.push(open),
                "{" => open += 1,
                "}" => {
                    open -= 1;
                    if inside.last() == Some(&open) {
                        inside.pop();
                    }
                }
                "crate" if self.is(at + 1, "::") => used.extend(self.heads(at + 2)),
                "super" => {
                    let mut up = 0;
                    while self.is(at, "super") && self.is(at + 1, "::") {
                        up += 1;
                        at += 2;
                    }
                    if up == module_path(file).len() + inside.len() {
                        used.extend(self.heads(at));
                    }
                    if up > 0 {
                        continue;
                    }
                }
                _ => {}
            }
            at += 1;
        }
        used
    }

    fn is(&self, at: usize, token: &str) -> bool {
        self.tokens.get(at).is_some_and(|other| other == token)
    }

    /// What stands behind `crate::`: one name, or the first of each path in braces.
    fn heads(&self, at: usize) -> Vec<String> {
        if !self.is(at, "{") {
            return self.tokens.get(at).cloned().into_iter().collect();
        }
        let mut depth = 0;
        let mut heads = Vec::new();
        for (token, next) in self.tokens[at..].iter().zip(&self.tokens[at + 1..]) {
            depth += i32::from(token == "{") - i32::from(token == "}");
            if depth == 0 {
                break;
            }
            if depth == 1 && (token == "{" || token == ",") && next != "}" {
                heads.push(next.clone());
            }
        }
        heads
    }
}

/// Without comments, strings and characters.
fn tokenize(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let is = |at: usize, sign: char| chars.get(at) == Some(&sign);
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let from = at;
        match chars[at] {
            '/' if is(at + 1, '/') => {
                while at < chars.len() && !is(at, '\n') {
                    at += 1
                }
            }
            '/' if is(at + 1, '*') => at = past_comment(&chars, at),
            '"' => at = past_string(&chars, at),
            '\'' if is(at + 1, '\\') => {
                at += 3;
                while at < chars.len() && !is(at, '\'') {
                    at += 1
                }
                at += 1;
            }
            '\'' if is(at + 2, '\'') => at += 3,
            ':' if is(at + 1, ':') => {
                tokens.push("::".to_owned());
                at += 2;
            }
            letter if letter.is_alphanumeric() || letter == '_' => {
                let in_word = |at: usize| {
                    chars
                        .get(at)
                        .is_some_and(|c| c.is_alphanumeric() || *c == '_')
                };
                while in_word(at) {
                    at += 1
                }
                let word: String = chars[from..at].iter().collect();
                let hashes = chars[at..].iter().take_while(|sign| **sign == '#').count();
                let is_raw = ["r", "br", "cr"].contains(&&*word);
                if is_raw && is(at + hashes, '"') {
                    let end: Vec<char> = std::iter::once('"').chain(vec!['#'; hashes]).collect();
                    at += hashes + 1;
                    while at < chars.len() && !chars[at..].starts_with(&end) {
                        at += 1
                    }
                    at += end.len();
                } else {
                    tokens.push(word);
                }
            }
            sign => {
                if !sign.is_whitespace() {
                    tokens.push(sign.to_string())
                }
                at += 1;
            }
        }
    }
    tokens
}

fn past_comment(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match chars[at..] {
            ['/', '*', ..] => depth += 1,
            ['*', '/', ..] => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            break;
        }
    }
    at
}

fn past_string(chars: &[char], mut at: usize) -> usize {
    at += 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// `["token", "cache"]` for `token/cache.rs`.
pub(crate) fn module_path(file: &Path) -> Vec<String> {
    let names = file.with_extension("");
    names
        .iter()
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}
