//! The page at `/status`: the same as `/status.json`, for people. It needs nothing but itself, and
//! loads itself again.

use std::fmt::Write as _;

use axum::http::{HeaderName, header};
use serde_json::Value;

/// Nothing runs in it, nothing is loaded by it, and no other page may show it.
pub(super) const HEADERS: [(HeaderName, &str); 4] = [
    (header::CONTENT_TYPE, "text/html; charset=utf-8"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
];

const HEAD: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width\"><meta http-equiv=\"refresh\" content=\"5\">\
<title>Regent</title><style>\
body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;\
color-scheme:light dark}\
table{border-collapse:collapse}\
th,td{text-align:left;vertical-align:top;padding:.1em 1.5em .1em 0;font-weight:400}\
th{opacity:.7}ul{margin:0;padding-left:1em}\
</style>";

const FOOT: &str = "<p>The same as <a href=\"/status.json\">JSON</a>; \
<a href=\"/config\">the config in force</a>; <a href=\"/metrics\">metrics</a>.</p></html>\n";

/// The page of what [`super::Board::status`] says.
pub(super) fn render(status: &Value) -> String {
    let mut page = HEAD.to_owned();
    let state = status["state"].as_str().unwrap_or_default();
    page.push_str("<h1>Regent is ");
    escape(&mut page, state);
    page.push_str("</h1>");
    let members = status.as_object().into_iter().flatten();
    let (parts, facts): (Vec<_>, Vec<_>) = members
        .filter(|(name, _)| *name != "state")
        .partition(|(_, value)| value.is_object());
    // What is wrong is read first.
    let (troubles, facts): (Vec<_>, Vec<_>) =
        facts.into_iter().partition(|(_, value)| value.is_array());
    rows(&mut page, troubles.into_iter().chain(facts));
    for (name, part) in parts {
        page.push_str("<h2>");
        words(&mut page, name);
        page.push_str("</h2>");
        rows(&mut page, part.as_object().into_iter().flatten());
    }
    page.push_str(FOOT);
    page
}

fn rows<'a>(page: &mut String, members: impl Iterator<Item = (&'a String, &'a Value)>) {
    page.push_str("<table>");
    for (name, value) in members.filter(|(_, value)| !is_empty(value)) {
        page.push_str("<tr><th>");
        words(page, name);
        page.push_str("<td>");
        cell(page, value);
    }
    page.push_str("</table>");
}

fn cell(page: &mut String, value: &Value) {
    match value {
        Value::String(text) => escape(page, text),
        Value::Bool(true) => page.push_str("yes"),
        Value::Bool(false) => page.push_str("no"),
        Value::Object(members) => rows(page, members.iter()),
        Value::Array(list) => {
            page.push_str("<ul>");
            for one in list {
                page.push_str("<li>");
                cell(page, one);
            }
            page.push_str("</ul>");
        }
        other => {
            // Writing to a string cannot fail.
            let _ = write!(page, "{other}");
        }
    }
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

/// A member's name as words: `token_expires_in_s` is "token expires in (s)".
fn words(page: &mut String, name: &str) {
    match name.strip_suffix("_s") {
        Some(rest) => {
            escape(page, &rest.replace('_', " "));
            page.push_str(" (s)");
        }
        None => escape(page, &name.replace('_', " ")),
    }
}

fn escape(page: &mut String, text: &str) {
    for char in text.chars() {
        match char {
            '&' => page.push_str("&amp;"),
            '<' => page.push_str("&lt;"),
            '>' => page.push_str("&gt;"),
            '"' => page.push_str("&quot;"),
            '\'' => page.push_str("&#39;"),
            _ => page.push(char),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_shown_is_text_and_never_markup() {
        let page = render(&json!({
            "state": "<b>",
            "why": ["a & b", "<script>alert(1)</script>"],
            "uptime_s": 7,
            "outbound": { "login": { "user": "\"><img src=x>" }, "upstream": null },
        }));
        for text in [
            "<h1>Regent is &lt;b&gt;</h1>",
            "<li>a &amp; b<li>&lt;script&gt;alert(1)&lt;/script&gt;",
            "<th>uptime (s)<td>7",
            "<h2>outbound</h2>",
            "<th>user<td>&quot;&gt;&lt;img src=x&gt;",
        ] {
            assert!(page.contains(text), "{text}\n{page}");
        }
        assert!(
            !page.contains("upstream"),
            "nothing is said of what is not there"
        );
        let (why, uptime) = (page.find("why"), page.find("uptime"));
        assert!(why < uptime, "what is wrong is read first");
    }
}
