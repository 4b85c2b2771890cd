//! What an answer's headers say of time: its own, and when to come back.
//!
//! Pure, and the same for every server that is called. A word that makes no sense is no word.

use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, header};

/// The bounds of a `Retry-After` that is obeyed. Seconds.
const RETRY_AFTER: (f64, f64) = (1.0, 600.0);

/// The answer's own time, in seconds since the epoch.
#[must_use]
pub fn date(headers: &HeaderMap) -> Option<i64> {
    http_date(headers.get(header::DATE)?.to_str().ok()?)
}

/// A date as headers have it (RFC 9110 section 5.6.7), in seconds since the epoch.
#[must_use]
pub fn http_date(text: &str) -> Option<i64> {
    let time = httpdate::parse_http_date(text).ok()?;
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
}

/// When to come back (RFC 9110 section 10.2.3), held within bounds; any number is taken for one.
#[must_use]
pub fn retry_after(headers: &HeaderMap, now_unix: i64) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let number = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let seconds = if number {
        text.parse::<f64>().ok()?
    } else {
        let wait = http_date(text)?.saturating_sub(now_unix);
        #[expect(clippy::cast_precision_loss, reason = "it is clamped to minutes")]
        let wait = wait as f64;
        wait
    };
    let (least, most) = RETRY_AFTER;
    Some(Duration::from_secs_f64(seconds.clamp(least, most)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_retry_after_is_within_bounds(value in "[ -~]{0,40}", now in any::<i64>()) {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, value.parse().expect("printable"));
            if let Some(wait) = retry_after(&headers, now) {
                prop_assert!(wait >= Duration::from_secs(1) && wait <= Duration::from_secs(600));
            }
        }
    }
}
