//! Reads files, environment and `--set` into a [`super::Config`]: the only reader of either.
//!
//! Layers, weakest first: the defaults, `RUST_LOG` (for `log.level` alone), the files in their
//! order, the variables `REGENT__SECTION__KEY`, `--set`. Every mistake is found before any is told.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::Config;
use super::fold::{self, Folded, Layer, Source};
use super::problem::{Origin, Position, Problem};
use super::read::{Reader, Row};
use super::tree::Node;
use super::typed::Machine;
use super::{address, credential, from_toml, from_yaml, known, threads, typed, words};

/// Where `run` looks when no file is named.
pub const DEFAULT_FILE: &str = "/etc/regent/regent.toml";

/// More than any config needs; what is larger was named by mistake.
const LARGEST: u64 = 1 << 20;

/// All that a config is made of.
#[derive(Clone, Debug)]
pub struct Sources {
    /// TOML or YAML by their ending; later ones win.
    pub files: Vec<PathBuf>,
    /// `key=value`, each; they win over all else.
    pub sets: Vec<String>,
    /// The variables.
    pub env: Environment,
    /// Whether the log goes to a terminal.
    pub terminal: bool,
}

impl Sources {
    /// What `run` and `check` read: the files that were named, else the one that `REGENT_CONFIG`
    /// names, else [`DEFAULT_FILE`] where it is there.
    #[must_use]
    pub fn discover(
        files: Vec<PathBuf>,
        sets: Vec<String>,
        env: Environment,
        terminal: bool,
    ) -> Sources {
        Sources {
            files: discover(files, &env, Path::new(DEFAULT_FILE)),
            sets,
            env,
            terminal,
        }
    }
}

fn discover(files: Vec<PathBuf>, env: &Environment, default: &Path) -> Vec<PathBuf> {
    if !files.is_empty() {
        return files;
    }
    let named = env.0.get("REGENT_CONFIG").filter(|name| !name.is_empty());
    let default = || default.exists().then(|| default.to_owned());
    named
        .map(PathBuf::from)
        .or_else(default)
        .into_iter()
        .collect()
}

/// Environment variables. `Debug` says their number alone: their values may be secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, OsString>);

impl Environment {
    /// This process's own.
    #[must_use]
    pub fn of_process() -> Environment {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place that reads the environment"
        )]
        let variables = std::env::vars_os();
        // A name that is not UTF-8 is none of ours.
        variables
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .collect()
    }

    /// A variable's value where it is set, not empty, and UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        let value = self.0.get(name)?.to_str()?;
        (!value.is_empty()).then_some(value)
    }

    /// `$XDG_STATE_HOME/regent`, else `~/.local/state/regent`; `None` where there is no home.
    #[must_use]
    pub fn state_home(&self) -> Option<PathBuf> {
        super::typed::state_home(self.text("XDG_STATE_HOME"), self.text("HOME"))
    }

    /// Whether a variable is set and not empty.
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| !value.is_empty())
    }
}

impl<N: Into<String>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Environment {
        let pairs = variables.into_iter();
        Environment(
            pairs
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({} variables)", self.0.len())
    }
}

/// A config without mistakes, and where its values come from.
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// What `check` prints: every key in the order of the schema.
    pub rows: Vec<Row>,
    folded: Folded,
}

impl Loaded {
    /// Where the value at a path such as `outbound.routes[0].upstream` comes from.
    #[must_use]
    pub fn origin(&self, path: &str) -> Origin {
        self.folded.origin(path)
    }

    /// A mistake in what a value means, told like those in its form.
    #[must_use]
    pub fn problem_at(&self, path: &str, text: &str) -> Problem {
        Problem::new(self.origin(path), format!("{path}: {text}"))
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Loaded").field(&self.config).finish()
    }
}

/// Reads it all.
///
/// # Errors
///
/// Every mistake in every source, in the order of the sources and of their lines.
pub fn load(sources: &Sources) -> Result<Loaded, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut layers = fold::defaults();
    layers.extend(rust_log(&sources.env, &mut problems));
    layers.extend((sources.files.iter()).filter_map(|path| file(path, &mut problems)));
    // With a file half read, what several fields together tell may be false.
    let is_whole = problems.is_empty();
    // And what is wrong with a value on a line that is no TOML or YAML is an echo of that.
    let broken: BTreeSet<_> = problems.iter().filter_map(line).collect();
    let is_echo = |problem: &Problem| line(problem).is_some_and(|line| broken.contains(&line));
    layers.extend(variables(&sources.env, &mut problems));
    for text in &sources.sets {
        match words::set(text) {
            Ok(layer) => layers.push(layer),
            Err(problem) => problems.push(problem),
        }
    }
    let unknown = layers.iter().flat_map(known::check);
    problems.extend(unknown.filter(|problem| !is_echo(problem)));
    let folded = Folded::new(layers);
    let mut reader = Reader::new(&folded, sources.env.text("HOME"), is_whole);
    let config = typed::config(
        &mut reader,
        &Machine {
            threads: threads::auto(Path::new("/sys/fs/cgroup"), available()),
            terminal: sources.terminal,
        },
        |reader| credential::read(reader, &sources.env),
        typed::Runs {
            outbound: folded.is_given("outbound") || !folded.is_given("inbound"),
            inbound: folded.is_given("inbound"),
        },
    );
    let wrong = std::mem::take(&mut reader.problems).into_iter();
    problems.extend(wrong.filter(|problem| !is_echo(problem)));
    let rows = reader.rows;
    if problems.is_empty() {
        return Ok(Loaded {
            config,
            rows,
            folded,
        });
    }
    problems.sort_by_key(|problem| rank(&problem.origin, &sources.files));
    Err(problems)
}

/// `admin.listen` as the variables alone have it, for commands that ask the sidecar beside them;
/// `None`: they do not.
///
/// # Errors
///
/// What is wrong with it, as [`load`] tells it.
pub fn admin_listen(env: &Environment) -> Result<Option<SocketAddr>, Vec<Problem>> {
    let is_it = |name: &String| name.eq_ignore_ascii_case("REGENT__ADMIN__LISTEN");
    let named = env.0.iter().filter(|(name, _)| is_it(name));
    let named = named.map(|(name, value)| (name.as_str(), value)).collect();
    let mut problems = Vec::new();
    let folded = Folded::new(variables(&named, &mut problems));
    let mut reader = Reader::new(&folded, None, true);
    let listen = reader.optional("admin.listen", |given| {
        address::socket_address(given, "127.0.0.1")
    });
    problems.append(&mut reader.problems);
    match problems.is_empty() {
        true => Ok(listen),
        false => Err(problems),
    }
}

/// The file and line of a mistake that has them.
fn line(problem: &Problem) -> Option<(PathBuf, usize)> {
    match &problem.origin {
        Origin::File { path, at: Some(at) } => Some((path.clone(), at.line)),
        _ => None,
    }
}

/// The order in which people look: files as they were named, then variables, then flags.
fn rank(origin: &Origin, files: &[PathBuf]) -> (usize, usize, Option<Position>) {
    match origin {
        Origin::File { path, at } => {
            let index = files.iter().position(|file| file == path);
            (0, index.unwrap_or(files.len()), *at)
        }
        Origin::Variable(_) => (1, 0, None),
        Origin::Set(_) => (2, 0, None),
        Origin::Default => (3, 0, None),
    }
}

fn available() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// `RUST_LOG` sets the level where no source of ours does. It is written for every program at once:
/// a bare target means all of it, and Regent's own lines stay where it names other targets alone.
fn rust_log(env: &Environment, problems: &mut Vec<Problem>) -> Option<Layer> {
    use tracing_subscriber::filter::{LevelFilter, Targets};
    let source = Source::Variable("RUST_LOG".to_owned());
    let text = env.text("RUST_LOG")?;
    if text.parse::<Targets>().is_err() {
        problems.push(Problem::new(
            source.origin(None),
            "is no log level; write one such as \"info\" or \"info,hyper=warn\", or unset it",
        ));
        return None;
    }
    let is_level = |part: &&str| part.parse::<LevelFilter>().is_ok();
    let parts: Vec<&str> = (text.split(',').map(str::trim))
        .filter(|part| !part.is_empty())
        .collect();
    let mut level: Vec<String> = Vec::new();
    if !parts.iter().any(is_level) {
        level.push("info".to_owned());
    }
    level.extend(
        parts
            .iter()
            .map(|part| match part.contains('=') || is_level(part) {
                true => (*part).to_owned(),
                false => format!("{part}=trace"),
            }),
    );
    Some(Layer {
        root: Node::nested(
            &["log", "level"],
            Node::of(super::tree::Value::Word(level.join(","))),
        ),
        source,
    })
}

fn variables(env: &Environment, problems: &mut Vec<Problem>) -> Vec<Layer> {
    let mut layers = Vec::new();
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for (name, value) in &env.0 {
        let Some(layer) = words::variable(name, OsStr::new(value)) else {
            continue;
        };
        let origin = Origin::Variable(name.clone());
        if let Some(other) = seen.insert(name.to_ascii_uppercase(), name) {
            let text = format!("is {other} in other letters; unset one of them");
            problems.push(Problem::new(origin, text));
        }
        match layer {
            Ok(layer) => layers.push(layer),
            Err(problem) => problems.push(problem),
        }
    }
    layers
}

fn file(path: &Path, problems: &mut Vec<Problem>) -> Option<Layer> {
    let source = Source::File(path.to_owned());
    let parse = match path.extension().and_then(OsStr::to_str) {
        Some("toml") => from_toml::parse,
        Some("yaml" | "yml") => from_yaml::parse,
        _ => {
            problems.push(Problem::new(
                source.origin(None),
                "cannot tell TOML from YAML; name it .toml, .yaml or .yml",
            ));
            return None;
        }
    };
    let text = match contents(path) {
        Ok(text) => text,
        Err((at, wrong)) => {
            problems.push(Problem::new(source.origin(at), wrong));
            return None;
        }
    };
    let (root, mistakes) = parse(&text);
    let mistakes = mistakes.into_iter();
    problems.extend(mistakes.map(|(at, wrong)| Problem::new(source.origin(Some(at)), wrong)));
    Some(Layer {
        root: root?,
        source,
    })
}

fn contents(path: &Path) -> Result<String, (Option<Position>, String)> {
    let unreadable = |error: std::io::Error| {
        let whole = std::path::absolute(path).ok();
        let tried = whole.filter(|whole| whole != path);
        let tried = tried.map_or_else(String::new, |whole| format!("; tried {whole:?}"));
        (None, format!("cannot be read: {error}{tried}"))
    };
    // Asked before it is opened: opening a pipe would wait for its writer.
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err((None, "is no regular file; name one".to_owned()));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    (file.take(LARGEST + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err((None, "is larger than 1 MiB; name a config file".to_owned()));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let start = good
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let at = Position {
            line: good.iter().filter(|byte| **byte == b'\n').count() + 1,
            column: String::from_utf8_lossy(&good[start..]).chars().count() + 1,
        };
        (Some(at), "not UTF-8; save the file as UTF-8".to_owned())
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_the_one_named_then_the_variable_then_the_usual_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let usual = folder.path().join("regent.toml");
        let env: Environment = [("REGENT_CONFIG", "/e.yaml")].into_iter().collect();
        let empty: Environment = [("REGENT_CONFIG", "")].into_iter().collect();
        let named = || vec![PathBuf::from("/a.toml"), PathBuf::from("/b.toml")];
        assert_eq!(discover(named(), &env, &usual), named());
        assert_eq!(discover(vec![], &env, &usual), [Path::new("/e.yaml")]);
        assert_eq!(discover(vec![], &empty, &usual), [""; 0].map(PathBuf::from));
        std::fs::write(&usual, "").expect("a file");
        assert_eq!(discover(vec![], &empty, &usual), [usual]);
    }

    #[test]
    fn the_environment_of_this_process_can_be_read() {
        assert!(Environment::of_process().is_set("PATH"));
    }
}
