//! YAML 1.2 to a [`Node`] tree, from the parser's events, since only they have positions.
//!
//! - Plain words are typed by the core schema of YAML 1.2: `no` and `off` are strings.
//! - A key that stands twice, a second document, and tags other than `!!str` are mistakes.
//! - Aliases are refused, so that a small file cannot grow into a large tree.

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, Span};

use super::problem::Position;
use super::tree::{Entry, Node, Value};
use super::value::quoted;

/// Deeper than any config, and far from the end of the stack.
const DEPTH: usize = 32;

type Mistake = (Position, String);

/// The tree, and what is wrong; a mistake in the syntax ends the reading.
pub(super) fn parse(text: &str) -> (Option<Node>, Vec<Mistake>) {
    let options = granit_parser::options! { emit_comments: false, emit_unresolved_aliases: true };
    let mut reader = Reader {
        events: Parser::new_from_str_with_options(text, options),
        mistakes: Vec::new(),
        text,
    };
    match reader.document() {
        Ok(tree) => (Some(tree), reader.mistakes),
        Err(end) => {
            reader.mistakes.push(end);
            (None, reader.mistakes)
        }
    }
}

struct Reader<'a> {
    events: Parser<'a, granit_parser::StrInput<'a>>,
    /// Those after which reading goes on.
    mistakes: Vec<Mistake>,
    text: &'a str,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<Node, Mistake> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if root.is_some() => {
                    return Err((
                        position(&span),
                        "a second document; keep one, and give `-c` twice for two files".into(),
                    ));
                }
                Event::DocumentStart(..) => {}
                event => root = Some(self.node(event, &span, 0)?),
            }
        }
        Ok(root.unwrap_or(Node::of(Value::Null)))
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Mistake> {
        match self.events.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => {
                let at = Position {
                    line: error.marker().line().max(1),
                    column: error.marker().col() + 1,
                };
                let hint = hint(error.kind(), self.text.lines().nth(at.line - 1));
                Err((at, format!("not YAML: {}; {hint}", error.kind())))
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'a>, span: &Span, depth: usize) -> Result<Node, Mistake> {
        let at = position(span);
        if depth > DEPTH {
            return Err((at, format!("more than {DEPTH} levels deep")));
        }
        if let Some(tag) = event.tag()
            && !matches!(tag.core_suffix(), Some("str" | "map" | "seq"))
        {
            self.mistakes
                .push((at, "a tag that means nothing here; remove it".to_owned()));
        }
        let value = match event {
            Event::Scalar(text, style, _, tag) if style == ScalarStyle::Plain && tag.is_none() => {
                plain(&text)
            }
            Event::Scalar(text, ..) => Value::Text(text.into_owned()),
            Event::SequenceStart(..) => self.list(depth)?,
            Event::MappingStart(..) => self.table(depth)?,
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                self.mistakes.push((
                    at,
                    "an alias (`*name`); write the value out, or in quotes where it is text"
                        .to_owned(),
                ));
                Value::Null
            }
            _ => return Err((at, "not YAML: a value was expected".to_owned())),
        };
        Ok(Node {
            at: Some(at),
            value,
        })
    }

    fn list(&mut self, depth: usize) -> Result<Value, Mistake> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::SequenceEnd | Event::StreamEnd => return Ok(Value::List(items)),
                event => items.push(self.node(event, &span, depth + 1)?),
            }
        }
    }

    fn table(&mut self, depth: usize) -> Result<Value, Mistake> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            let at = position(&span);
            let key = match event {
                Event::MappingEnd | Event::StreamEnd => return Ok(Value::Table(entries)),
                Event::Scalar(key, ..) => key.into_owned(),
                event => {
                    self.node(event, &span, depth + 1)?;
                    self.mistakes
                        .push((at, "a key that is not a word; write one".to_owned()));
                    String::new()
                }
            };
            let (event, span) = self.next()?;
            let node = self.node(event, &span, depth + 1)?;
            if key.is_empty() {
                continue;
            }
            if entries.iter().any(|entry| entry.key == key) {
                let text = format!("the key {} stands twice; remove one of them", quoted(&key));
                self.mistakes.push((at, text));
                continue;
            }
            entries.push(Entry {
                key,
                at: Some(at),
                node,
            });
        }
    }
}

/// What to write, as far as the kind of mistake and the line with it tell.
fn hint(kind: &ErrorKind, line: Option<&str>) -> &'static str {
    let value = line.and_then(|line| line.split_once(": "));
    let special = |(_, value): (&str, &str)| {
        value
            .trim_start()
            .starts_with(['[', '{', '%', '@', '`', '&', '*', '!', '|', '>'])
    };
    match kind {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation => "indent with spaces",
        ErrorKind::UnclosedQuotedScalar => "write the quote at its end",
        ErrorKind::UnclosedFlowCollection { .. } => "close it",
        _ if value.is_some_and(special) => "put the value in quotes",
        _ => "write `key: value`, one a line, the keys of a table under each other",
    }
}

fn position(span: &Span) -> Position {
    Position {
        line: span.start.line().max(1),
        column: span.start.col() + 1,
    }
}

/// The core schema of YAML 1.2.2, section 10.3.2.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return Value::Integer(text.to_owned());
    }
    let digits = |prefix, radix| {
        text.strip_prefix(prefix)
            .is_some_and(|rest: &str| !rest.is_empty() && rest.chars().all(|c| c.is_digit(radix)))
    };
    if digits("0x", 16) || digits("0o", 8) {
        return Value::Integer(text.to_owned());
    }
    let first = unsigned.bytes().next();
    let number_like = first.is_some_and(|byte| byte.is_ascii_digit() || byte == b'.');
    if number_like && unsigned.parse::<f64>().is_ok() {
        return Value::Float(text.to_owned());
    }
    match unsigned {
        ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN" => Value::Float(text.to_owned()),
        _ => Value::Text(text.to_owned()),
    }
}
