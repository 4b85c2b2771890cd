//! A second reader of JSON (RFC 8259), to compare with. It keeps every member, as often as it stands,
//! and the text of every value.

use serde_json::Value;

/// Levels beyond which the program reads nothing: serde_json's.
const DEEPEST: usize = 127;
/// Levels beyond which this reader reads nothing.
const MOST_LEVELS: usize = 250;

/// A value.
#[derive(Debug)]
pub(crate) struct Json<'a> {
    pub(crate) text: &'a str,
    pub(crate) kind: Kind<'a>,
}

/// What a value is.
#[derive(Debug)]
pub(crate) enum Kind<'a> {
    Word,
    Number,
    /// `None`: half of a surrogate pair.
    Text(Option<String>),
    List(Vec<Json<'a>>),
    Object(Vec<(Option<String>, Json<'a>)>),
}

/// Why there is no value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    NoJson,
    TooDeep,
}

/// Reads one value and nothing after it.
pub(crate) fn read(text: &[u8]) -> Result<Json<'_>, Fault> {
    let text = std::str::from_utf8(text).map_err(|_| Fault::NoJson)?;
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(0)?;
    reader.blank();
    match reader.at == text.len() {
        true => Ok(value),
        false => Err(Fault::NoJson),
    }
}

impl Json<'_> {
    /// Whether it can be held: whole characters, finite numbers, not too many levels.
    pub(crate) fn is_holdable(&self) -> bool {
        self.levels() <= DEEPEST && self.is_finite()
    }

    fn levels(&self) -> usize {
        match &self.kind {
            Kind::List(items) => 1 + items.iter().map(Json::levels).max().unwrap_or(0),
            Kind::Object(members) => {
                let levels = members.iter().map(|(_, value)| value.levels());
                1 + levels.max().unwrap_or(0)
            }
            _ => 0,
        }
    }

    fn is_finite(&self) -> bool {
        match &self.kind {
            Kind::Word => true,
            Kind::Number => self.text.parse::<f64>().is_ok_and(f64::is_finite),
            Kind::Text(text) => text.is_some(),
            Kind::List(items) => items.iter().all(Json::is_finite),
            Kind::Object(members) => members
                .iter()
                .all(|(name, value)| name.is_some() && value.is_finite()),
        }
    }

    /// Whether a member stands twice, at any level.
    pub(crate) fn has_duplicate(&self) -> bool {
        match &self.kind {
            Kind::List(items) => items.iter().any(Json::has_duplicate),
            Kind::Object(members) => {
                let mut names: Vec<_> = members.iter().map(|(name, _)| name).collect();
                names.sort_unstable();
                names.windows(2).any(|two| two[0] == two[1])
                    || members.iter().any(|(_, value)| value.has_duplicate())
            }
            _ => false,
        }
    }

    /// The first member of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        let Kind::Object(members) = &self.kind else {
            return None;
        };
        let mut members = members.iter();
        let found = members.find(|(other, _)| other.as_deref() == Some(name));
        found.map(|(_, value)| value)
    }

    /// The text that it is.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => text.as_deref(),
            _ => None,
        }
    }

    /// Whether the other reader made the same of it.
    pub(crate) fn is(&self, other: &Value) -> bool {
        match (&self.kind, other) {
            (Kind::Word, Value::Null) => self.text == "null",
            (Kind::Word, Value::Bool(flag)) => self.text.parse() == Ok(*flag),
            (Kind::Number, Value::Number(other)) => is_number(self.text, other),
            (Kind::Text(Some(text)), Value::String(other)) => text == other,
            (Kind::List(items), Value::Array(others)) => {
                items.len() == others.len()
                    && items.iter().zip(others).all(|(item, other)| item.is(other))
            }
            (Kind::Object(members), Value::Object(others)) => {
                let is_same = |(name, value): &(Option<String>, Json<'_>)| {
                    let other = name.as_ref().and_then(|name| others.get(name));
                    other.is_some_and(|other| value.is(other))
                };
                members.len() == others.len() && members.iter().all(is_same)
            }
            _ => false,
        }
    }
}

/// Whole numbers of 64 bits exactly, others nearly: serde_json may be off in the last place.
fn is_number(text: &str, other: &serde_json::Number) -> bool {
    let is_whole = text != "-0" && (text.parse::<u64>().is_ok() || text.parse::<i64>().is_ok());
    if is_whole || !other.is_f64() {
        return is_whole && other.to_string() == text;
    }
    let (Ok(number), Some(other)) = (text.parse::<f64>(), other.as_f64()) else {
        return false;
    };
    (number - other).abs() <= number.abs() * 1e-12 + 1e-300
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn takes(&mut self, text: &str) -> bool {
        let is_there = self.text.as_bytes()[self.at..].starts_with(text.as_bytes());
        self.at += if is_there { text.len() } else { 0 };
        is_there
    }

    fn must(&mut self, text: &str) -> Result<(), Fault> {
        self.takes(text).then_some(()).ok_or(Fault::NoJson)
    }

    fn blank(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn value(&mut self, level: usize) -> Result<Json<'a>, Fault> {
        if level > MOST_LEVELS {
            return Err(Fault::TooDeep);
        }
        self.blank();
        let from = self.at;
        let kind = match self.peek().ok_or(Fault::NoJson)? {
            b'{' => Kind::Object(self.items("{", "}", |reader| {
                reader.blank();
                let name = reader.string()?;
                reader.blank();
                reader.must(":")?;
                Ok((name, reader.value(level + 1)?))
            })?),
            b'[' => Kind::List(self.items("[", "]", |reader| reader.value(level + 1))?),
            b'"' => Kind::Text(self.string()?),
            b'-' | b'0'..=b'9' => {
                self.number()?;
                Kind::Number
            }
            _ if self.takes("null") || self.takes("true") || self.takes("false") => Kind::Word,
            _ => return Err(Fault::NoJson),
        };
        let text = &self.text[from..self.at];
        Ok(Json { text, kind })
    }

    fn items<T>(
        &mut self,
        begin: &str,
        end: &str,
        item: impl Fn(&mut Self) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        self.must(begin)?;
        self.blank();
        let mut items = Vec::new();
        if self.takes(end) {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            self.blank();
            if self.takes(end) {
                return Ok(items);
            }
            self.must(",")?;
        }
    }

    fn string(&mut self) -> Result<Option<String>, Fault> {
        self.must("\"")?;
        let mut units = Vec::new();
        loop {
            let char = self.text[self.at..].chars().next().ok_or(Fault::NoJson)?;
            self.at += char.len_utf8();
            match char {
                '"' => return Ok(String::from_utf16(&units).ok()),
                '\\' => units.push(self.escape()?),
                '\0'..='\x1f' => return Err(Fault::NoJson),
                _ => units.extend_from_slice(char.encode_utf16(&mut [0; 2])),
            }
        }
    }

    fn escape(&mut self) -> Result<u16, Fault> {
        let escape = self.peek().ok_or(Fault::NoJson)?;
        self.at += 1;
        Ok(match escape {
            b'"' | b'\\' | b'/' => escape.into(),
            b'b' => 8,
            b'f' => 12,
            b'n' => 10,
            b'r' => 13,
            b't' => 9,
            b'u' => {
                let digits = self.text.get(self.at..self.at + 4).ok_or(Fault::NoJson)?;
                self.at += 4;
                if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return Err(Fault::NoJson);
                }
                u16::from_str_radix(digits, 16).map_err(|_| Fault::NoJson)?
            }
            _ => return Err(Fault::NoJson),
        })
    }

    fn number(&mut self) -> Result<(), Fault> {
        self.takes("-");
        if !self.takes("0") {
            self.digits()?;
        }
        if self.takes(".") {
            self.digits()?;
        }
        if self.takes("e") || self.takes("E") {
            let _ = self.takes("+") || self.takes("-");
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let from = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > from).then_some(()).ok_or(Fault::NoJson)
    }
}
