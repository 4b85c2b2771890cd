//! What the tour shows of requests and answers, in a page's width.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header::RETRY_AFTER;
use tokio::time::Instant;

use super::Found;
use super::answers::{json, summary};
use crate::demo::call::Get;
use crate::demo::say::Say;

/// The width of a page.
const COLUMNS: usize = 80;

/// Writes what was asked and what came back.
pub(super) trait Page {
    /// A request as a person would send it, with the name that its token has in a shell, and the
    /// answer's status and text.
    fn exchange(&mut self, get: &Get<'_>, token: &str, answer: &Response<Bytes>);

    /// The identity headers that the workload of an echo saw.
    fn identity(&mut self, answer: &Response<Bytes>);
}

impl<W: Write> Page for Say<W> {
    fn exchange(&mut self, get: &Get<'_>, token: &str, answer: &Response<Bytes>) {
        let url = format!("http://localhost:{}{}", get.address.port(), get.path);
        let header = match (get.header, get.token) {
            (Some((name, value)), _) => format!(" -H '{name}: {value}'"),
            (None, Some(_)) => format!(" -H \"Authorization: Bearer ${token}\""),
            (None, None) => String::new(),
        };
        self.line(&format!("   $ curl -i {url}{header}"));
        let retry = answer.headers().get(RETRY_AFTER);
        let retry = retry.and_then(|value| value.to_str().ok());
        let retry = retry.map_or_else(String::new, |value| format!(", Retry-After: {value}"));
        self.line(&format!("   HTTP/1.1 {}{retry}", answer.status()));
        let body = json(answer);
        if body["identity"].is_object() {
            return;
        }
        let mut line = "  ".to_owned();
        for word in summary(&body).split(' ') {
            if line.chars().count() + word.chars().count() >= COLUMNS {
                self.line(&std::mem::replace(&mut line, "  ".to_owned()));
            }
            line.push(' ');
            line.push_str(word);
        }
        self.line(&line);
    }

    fn identity(&mut self, answer: &Response<Bytes>) {
        let body = json(answer);
        match body["identity"].as_object() {
            Some(headers) if !headers.is_empty() => {
                self.line("   The workload saw:");
                for (name, value) in headers {
                    let value = value.as_str().unwrap_or_default();
                    self.line(&format!("     {name}: {value}"));
                }
            }
            _ => self.line("   The workload saw no user."),
        }
    }
}

pub(super) fn conclude<W: Write>(say: &mut Say<W>, found: Found) -> bool {
    let held = found.is_ok();
    match found {
        Ok(evidence) => say.line(&format!("   ok: {evidence}")),
        Err(why) => say.line(&format!("   FAILED: {why}")),
    }
    say.line("");
    held
}

/// Says that something is still awaited, every other second, and when to give up.
pub(super) struct Progress {
    began: Instant,
    said: u64,
}

impl Progress {
    pub(super) fn new() -> Progress {
        Progress {
            began: Instant::now(),
            said: 0,
        }
    }

    pub(super) fn tick<W: Write>(
        &mut self,
        say: &mut Say<W>,
        patience: Duration,
        otherwise: &str,
    ) -> Result<(), String> {
        let seconds = self.began.elapsed().as_secs();
        if self.began.elapsed() > patience {
            return Err(format!("{otherwise} within {} s", patience.as_secs()));
        }
        if seconds >= self.said + 2 {
            self.said = seconds;
            say.line(&format!("     ... {seconds} s"));
        }
        Ok(())
    }
}
