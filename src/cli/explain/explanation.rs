//! What `regent explain` says, as text for people and as JSON for programs.
//!
//! Every line passes through [`escaped`] on its way out, so that no step has to think of it.

use serde_json::{Map, Value, json};

use super::words::{escaped, escaped_json};
use crate::reason::Reason;

/// One step of the decision.
#[derive(Clone, Debug)]
pub struct Told {
    /// Which: `token`, `claims`, `issuer`, `algorithm`, `header`, `keys`, `signature`, `claim`,
    /// `identity`, `path`, `rule`.
    pub step: &'static str,
    /// What people read at its front: the step, or the claim's name.
    pub label: String,
    /// `None`: it decides nothing.
    pub ok: Option<bool>,
    /// For people, unescaped.
    pub text: String,
    /// Good as ever: people are not told.
    pub is_usual: bool,
    /// For programs.
    pub fields: Map<String, Value>,
}

impl Told {
    pub(super) fn new(step: &'static str, ok: impl Into<Option<bool>>, text: String) -> Told {
        Told {
            step,
            label: step.to_owned(),
            ok: ok.into(),
            text,
            is_usual: false,
            fields: Map::new(),
        }
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Told {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    fn line(&self) -> String {
        let mark = match self.ok {
            Some(true) => "ok",
            Some(false) => "NO",
            None => "-",
        };
        format!("{mark:>3} {:<12} {}", self.label, self.text)
    }

    fn json(&self) -> Value {
        let mut object = Map::new();
        object.insert("step".to_owned(), self.step.into());
        object.insert("ok".to_owned(), self.ok.into());
        object.insert("text".to_owned(), self.text.as_str().into());
        object.extend(self.fields.clone());
        Value::Object(object)
    }
}

/// The rule that the request would meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its place in the config.
    pub place: usize,
    /// Its path there.
    pub path: String,
    /// No token is needed.
    pub anonymous: bool,
}

/// The whole of it.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Why not; `None`: it is accepted.
    pub refused: Option<(Reason, String)>,
    /// What a good one comes to.
    pub good: &'static str,
    /// Step by step.
    pub steps: Vec<Told>,
    /// What else there is to know.
    pub notes: Vec<String>,
    /// What to change.
    pub advice: Vec<String>,
    /// What the workload would see; `None`: nothing of it was judged.
    pub headers: Option<Vec<(String, String)>>,
    /// Where the path meets one.
    pub rule: Option<Rule>,
}

impl Explanation {
    /// Whether a request with this token would be forwarded.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.refused.is_none()
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let steps = self.steps.iter().filter(|step| !step.is_usual);
        let mut lines: Vec<String> = steps.map(Told::line).collect();
        for (name, value) in self.headers.iter().flatten() {
            lines.push(format!("    {:<12} {name}: {value}", ""));
        }
        lines.push(String::new());
        match &self.refused {
            None => lines.push(format!("accepted: {}", self.good)),
            Some((reason, why)) => lines.push(format!("rejected: {}: {why}", reason.word())),
        }
        lines.extend(self.advice.iter().map(|what| format!("  -> {what}")));
        lines.extend(self.notes.iter().map(|note| format!("note: {note}")));
        let mut text = String::new();
        for line in lines {
            text.push_str(&escaped(&line));
            text.push('\n');
        }
        text
    }

    /// For programs: one object in one line.
    #[must_use]
    pub fn json(&self) -> String {
        let headers = self.headers.as_ref().map(|headers| {
            let each = headers.iter();
            each.map(|(name, value)| (name.clone(), Value::from(value.as_str())))
                .collect::<Map<_, _>>()
        });
        let rule = self.rule.as_ref().map(
            |rule| json!({"place": rule.place, "path": rule.path, "anonymous": rule.anonymous}),
        );
        let object = json!({
            "accepted": self.is_accepted(),
            "reason": self.refused.as_ref().map(|(reason, _)| reason.word()),
            "why": self.refused.as_ref().map(|(_, why)| why),
            "steps": self.steps.iter().map(Told::json).collect::<Vec<_>>(),
            "advice": self.advice,
            "notes": self.notes,
            "headers": headers,
            "rule": rule,
        });
        escaped_json(&format!("{object}\n"))
    }
}
