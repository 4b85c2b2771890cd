//! How values, times and spans are written for people.
//!
//! - What comes from a token or a key set is somebody else's text: [`escaped`] leaves no character
//!   of it that a terminal could obey or that could hide or reorder others.
//! - `hash_password` is never shown, at whatever depth.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

/// A digest of a secret that regions put into their tokens.
const NEVER_SHOWN: &str = "hash_password";
/// What stands in its place.
const HIDDEN: &str = "(never shown)";
/// The longest value in a line. Characters.
const LONGEST: usize = 200;
/// What is not limited in practice.
const UNLIMITED: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Letters and digits of any script and what ASCII prints; the rest as `\u{202e}`.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            ' '..='~' => out.push(char),
            char if char.is_alphanumeric() => out.push(char),
            char => out.extend(char.escape_unicode()),
        }
    }
    out
}

/// The same for JSON: what is not plain in it stands inside strings, and stays the same string.
pub(super) fn escaped_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for char in json.chars() {
        match char {
            '\n' | ' '..='~' => out.push(char),
            char if char.is_alphanumeric() => out.push(char),
            char => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out
}

/// In quotes, and at a length that a line can bear.
pub(super) fn quoted(text: &str) -> String {
    shortened(Value::from(text).to_string())
}

/// A claim's value as JSON, at a length that a line can bear. It was [`shown`] before.
pub(super) fn value(value: &Value) -> String {
    shortened(value.to_string())
}

fn shortened(text: String) -> String {
    match text.char_indices().nth(LONGEST) {
        None => text,
        Some((at, _)) => format!("{}... ({} bytes)", &text[..at], text.len()),
    }
}

/// Whether a claim of this name, or JSON pointer, may be shown at all.
pub(super) fn is_shown(claim: &str) -> bool {
    let unescaped = |step: &str| step.replace("~1", "/").replace("~0", "~");
    match claim.starts_with('/') {
        true => claim.split('/').all(|step| unescaped(step) != NEVER_SHOWN),
        false => claim != NEVER_SHOWN,
    }
}

/// A claim's value without what is never shown.
pub(super) fn shown(claim: &str, value: &Value) -> Value {
    match value {
        _ if !is_shown(claim) => Value::from(HIDDEN),
        Value::Object(members) => (members.iter())
            .map(|(name, value)| match name == NEVER_SHOWN {
                true => (name.clone(), Value::from(HIDDEN)),
                false => (name.clone(), shown("", value)),
            })
            .collect(),
        Value::Array(items) => items.iter().map(|item| shown("", item)).collect(),
        scalar => scalar.clone(),
    }
}

/// `"a", "b"`.
pub(super) fn list(items: impl IntoIterator<Item = String>) -> String {
    const MOST: usize = 20;
    let mut items = items.into_iter();
    let mut out: Vec<String> = items.by_ref().take(MOST).collect();
    match items.count() {
        0 => {}
        more => out.push(format!("and {more} more")),
    }
    out.join(", ")
}

/// `2026-11-25T04:00:00Z`. Milliseconds since the epoch.
pub(super) fn date(unix_ms: i64) -> String {
    const LAST: i64 = 253_402_300_799;
    let seconds = unix_ms.div_euclid(1000);
    if !(0..=LAST).contains(&seconds) {
        return "a point beyond the year 9999".to_owned();
    }
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days of the Gregorian calendar in eras of 400 years that begin with a 1 March.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = year + era * 400 + carry;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// `4 min 12 s`: the two largest units.
pub(super) fn span(span: Duration) -> String {
    if span >= UNLIMITED {
        return "more than a hundred years".to_owned();
    }
    let seconds = span.as_secs();
    let pair = match seconds {
        0 if span.is_zero() => return "0 s".to_owned(),
        0 => return format!("{} ms", span.as_millis()),
        1..60 => return format!("{seconds} s"),
        60..3600 => (seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => (seconds / 3600, "h", seconds / 60 % 60, "min"),
        _ => (seconds / 86_400, "days", seconds / 3600 % 24, "h"),
    };
    match pair {
        (1, "days", 0, _) => "1 day".to_owned(),
        (1, "days", small, unit) => format!("1 day {small} {unit}"),
        (large, unit, 0, _) => format!("{large} {unit}"),
        (large, unit, small, smaller) => format!("{large} {unit} {small} {smaller}"),
    }
}

/// How far two points are apart, whichever comes first. Milliseconds since the epoch.
pub(super) fn apart(one: i64, other: i64) -> Duration {
    Duration::from_millis(one.abs_diff(other))
}

/// `2026-11-25T04:00:00Z, in 4 min 12 s`.
pub(super) fn moment(unix_ms: i64, now: i64) -> String {
    let away = span(apart(unix_ms, now));
    let date = date(unix_ms);
    match unix_ms.cmp(&now) {
        std::cmp::Ordering::Less => format!("{date}, {away} ago"),
        std::cmp::Ordering::Equal => format!("{date}, now"),
        std::cmp::Ordering::Greater => format!("{date}, in {away}"),
    }
}

/// A NumericDate in milliseconds, for what is shown.
pub(super) fn unix_ms(value: &Value) -> Option<i64> {
    let seconds = value.as_number()?.as_f64()?;
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
    Some((seconds * 1000.0) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_300_819_380, "2011-03-22T18:43:00Z"),
            (1_795_579_200, "2026-11-25T04:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(date(seconds * 1000), text);
        }
        assert_eq!(date(i64::MAX), "a point beyond the year 9999");
    }

    #[test]
    fn spans_have_two_units() {
        for (ms, text) in [
            (0, "0 s"),
            (250, "250 ms"),
            (59_999, "59 s"),
            (60_000, "1 min"),
            (252_000, "4 min 12 s"),
            (3_600_000, "1 h"),
            (86_430_000, "1 day"),
            (90_000_000, "1 day 1 h"),
            (200_000_000, "2 days 7 h"),
            (u64::MAX, "more than a hundred years"),
        ] {
            assert_eq!(span(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn the_hash_of_a_password_is_never_shown() {
        let claims =
            json!({"hash_password": "canary", "a": [{"hash_password": ["canary"]}], "b": 1});
        let text = shown("all", &claims).to_string();
        assert!(!text.contains("canary"), "{text}");
        assert!(text.contains("\"b\":1"), "{text}");
        for claim in ["hash_password", "/hash_password", "/a/0/hash_password"] {
            assert_eq!(shown(claim, &json!("canary")), HIDDEN, "{claim}");
        }
        assert_eq!(shown("username", &json!("alice")), "alice");
    }

    proptest! {
        #[test]
        fn nothing_that_a_terminal_obeys_is_left(text in any::<String>()) {
            let plain = |char: char| matches!(char, ' '..='~') || char.is_alphanumeric();
            prop_assert!(escaped(&text).chars().all(plain));
            let json = escaped_json(&json!({ &text: &text }).to_string());
            prop_assert!(json.chars().all(plain));
            let again: Value = serde_json::from_str(&json).expect("still JSON");
            prop_assert_eq!(&again[&text], &Value::from(text.clone()));
        }
    }
}
