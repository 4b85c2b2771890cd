//! What is wrong in a config, and where it stands.

use std::fmt;
use std::path::PathBuf;

/// Where a value, or a mistake, comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody wrote it.
    Default,
    /// A config file, and the place in it where one is known.
    File {
        /// As it was named.
        path: PathBuf,
        /// Of the value; of the key where the key is the mistake.
        at: Option<Position>,
    },
    /// An environment variable's name.
    Variable(String),
    /// The key of a `--set key=value`.
    Set(String),
}

/// A place in a file, both counted from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

/// One mistake: what is wrong, and what to write. One line, never a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands.
    pub origin: Origin,
    /// The key, what is wrong with it, and what to write.
    pub text: String,
}

impl Problem {
    /// A mistake at a place.
    #[must_use]
    pub fn new(origin: Origin, text: impl Into<String>) -> Problem {
        Problem {
            origin,
            text: text.into(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, at: None } => write!(f, "{}", path.display()),
            Origin::File { path, at: Some(at) } => write!(f, "{}:{at}", path.display()),
            Origin::Variable(name) => write!(f, "variable {name}"),
            // As long as it may be, a problem stays one line that can be read.
            Origin::Set(key) => {
                let shown: String = (key.chars().filter(|c| !c.is_control()).take(80)).collect();
                write!(f, "--set {shown}")
            }
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Default => f.write_str(&self.text),
            origin => write!(f, "{origin}: {}", self.text),
        }
    }
}

impl std::error::Error for Problem {}
