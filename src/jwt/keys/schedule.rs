//! When an issuer's keys are fetched again. Pure: the caller brings the answer and the dice.
//!
//! `jwks_refresh` is how long a withdrawn key may live, so what the issuer says of caching can only
//! shorten it: down to [`LEAST`], so that no header makes us hammer, and never beyond
//! `jwks_refresh`, however long `max-age` is.

use std::time::Duration;

use http::{HeaderMap, header};

use crate::fetch::times;

/// An issuer that says "do not keep this" is not asked more often for it.
pub(super) const LEAST: Duration = Duration::from_secs(30);
/// An issuer that says "keep this for ever" is asked this often all the same.
pub(super) const MOST: Duration = Duration::from_secs(24 * 3600);
/// How often files are read, and the longest that one timer runs: timers stand still in a laptop's
/// sleep, the clock that deadlines are on does not.
pub(super) const POLL: Duration = Duration::from_secs(3);
/// How long the address in a discovery document is used before the document is read again.
pub(super) const REDISCOVER: Duration = Duration::from_secs(3600);

/// How long the answer may be used without asking again, as a private cache reads it (RFC 9111
/// section 4.2); `None`: it does not say. What makes no sense counts as stale, as section 4.2.1 has
/// it.
pub(super) fn freshness(headers: &HeaderMap, now_unix: i64) -> Option<Duration> {
    let lifetime = cache_control(headers).or_else(|| expires(headers, now_unix))?;
    Some(lifetime.saturating_sub(age(headers)))
}

fn cache_control(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(header::CACHE_CONTROL).iter();
    values
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|directive| {
            let text = String::from_utf8_lossy(directive).to_ascii_lowercase();
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
                None => (text.trim(), None),
            };
            match (name, value) {
                // `no-cache="field"` is about that field alone.
                ("no-store" | "no-cache", None) => Some(Duration::ZERO),
                ("max-age", value) => Some(seconds(value.unwrap_or_default())),
                _ => None,
            }
        })
        .min()
}

fn expires(headers: &HeaderMap, now_unix: i64) -> Option<Duration> {
    let value = headers.get(header::EXPIRES)?;
    let from = times::date(headers).unwrap_or(now_unix);
    let until = value.to_str().ok().and_then(times::http_date);
    let left = until.map_or(0, |until| until.saturating_sub(from));
    Some(Duration::from_secs(u64::try_from(left).unwrap_or(0)))
}

fn age(headers: &HeaderMap) -> Duration {
    let text = headers.get(header::AGE).map(|value| value.to_str());
    text.map_or(Duration::ZERO, |text| seconds(text.unwrap_or_default()))
}

/// Whole seconds; the largest number where they are too many, none where it is no number.
fn seconds(text: &str) -> Duration {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Duration::ZERO;
    }
    Duration::from_secs(text.parse().unwrap_or(u64::MAX))
}

/// How long after a good fetch began the next is due: in the second half of `refresh`, or of what
/// the issuer said where that is shorter. `die` is uniform in 0..1.
pub(super) fn refresh_after(refresh: Duration, fresh: Option<Duration>, die: f64) -> Duration {
    let told = fresh.map(|fresh| fresh.clamp(LEAST, MOST));
    let (least, most) = match told.filter(|told| *told < refresh) {
        Some(told) => (LEAST.max(told / 2), told),
        None => (refresh / 2, refresh),
    };
    least + (most - least).mul_f64(die.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Thu, 01 Jan 2026 00:00:00 GMT.
    const NOW: i64 = 1_767_225_600;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                let name = http::HeaderName::from_static(name);
                (name, value.parse().expect("a header's value"))
            })
            .collect()
    }

    #[test]
    fn what_an_answer_says_of_caching_is_read_as_the_rfc_has_it() {
        let cc = "cache-control";
        type Table<'a> = &'a [(&'a [(&'static str, &'static str)], Option<u64>)];
        let table: Table<'_> = &[
            (&[], None),
            (&[(cc, "public")], None),
            (&[(cc, "max-age=600")], Some(600)),
            (&[(cc, "public, Max-Age=600, must-revalidate")], Some(600)),
            (&[(cc, "max-age=\"600\"")], Some(600)),
            (&[(cc, "max-age = 600")], Some(600)),
            (&[(cc, "s-maxage=5")], None),
            (&[(cc, "s-maxage=5, max-age=600")], Some(600)),
            (&[(cc, "max-age=0")], Some(0)),
            (&[(cc, "max-age=1000000000")], Some(1_000_000_000)),
            (&[(cc, "max-age=99999999999999999999999")], Some(u64::MAX)),
            (&[(cc, "max-age=-1")], Some(0)),
            (&[(cc, "max-age=1.5")], Some(0)),
            (&[(cc, "max-age=")], Some(0)),
            (&[(cc, "max-age")], Some(0)),
            (&[(cc, "max-age=soon")], Some(0)),
            (&[(cc, "max-age=600, max-age=60")], Some(60)),
            (&[(cc, "max-age=600"), (cc, "max-age=60")], Some(60)),
            (&[(cc, "no-store")], Some(0)),
            (&[(cc, "no-store, max-age=600")], Some(0)),
            (&[(cc, "no-cache")], Some(0)),
            (&[(cc, "no-cache=\"set-cookie\", max-age=600")], Some(600)),
            (&[(cc, "max-age=600"), ("age", "100")], Some(500)),
            (&[(cc, "max-age=600"), ("age", "601")], Some(0)),
            (&[(cc, "max-age=600"), ("age", "-5")], Some(600)),
            (&[(cc, "max-age=600"), ("age", "x")], Some(600)),
            (&[("age", "100")], None),
            (&[("expires", "Thu, 01 Jan 2026 00:10:00 GMT")], Some(600)),
            (
                &[("expires", "Thu, 01 Jan 2026 00:10:00 GMT"), ("age", "100")],
                Some(500),
            ),
            (&[("expires", "Wed, 31 Dec 2025 23:00:00 GMT")], Some(0)),
            (&[("expires", "0")], Some(0)),
            (&[("expires", "-1")], Some(0)),
            // The server's own clock is what its Expires is by.
            (
                &[
                    ("date", "Thu, 01 Jan 2026 00:09:00 GMT"),
                    ("expires", "Thu, 01 Jan 2026 00:10:00 GMT"),
                ],
                Some(60),
            ),
            (
                &[
                    (cc, "max-age=600"),
                    ("expires", "Wed, 31 Dec 2025 23:00:00 GMT"),
                ],
                Some(600),
            ),
        ];
        for (lines, expected) in table {
            let got = freshness(&headers(lines), NOW).map(|fresh| fresh.as_secs());
            assert_eq!(got, *expected, "{lines:?}");
        }
    }

    #[test]
    fn an_issuer_may_shorten_the_refresh_within_bounds_and_never_lengthen_it() {
        let day = 24 * 3600;
        // refresh, what the issuer said; the earliest and the latest moment
        for (refresh, fresh, least, most) in [
            (300, None, 150, 300),
            (300, Some(0), 30, 30),
            (300, Some(40), 30, 40),
            (300, Some(120), 60, 120),
            (300, Some(300), 150, 300),
            (300, Some(u64::MAX), 150, 300),
            (10, None, 5, 10),
            (10, Some(0), 5, 10),
            (10 * day, Some(u64::MAX), day / 2, day),
            (10 * day, None, 5 * day, 10 * day),
        ] {
            let refresh_s = Duration::from_secs(refresh);
            let at = |die| refresh_after(refresh_s, fresh.map(Duration::from_secs), die).as_secs();
            assert_eq!((at(0.0), at(1.0)), (least, most), "{refresh} {fresh:?}");
        }
    }

    proptest! {
        #[test]
        fn no_header_leads_out_of_the_bounds(
            cache_control in "[ -~]{0,40}",
            expires in "[ -~]{0,40}",
            age in "[ -~]{0,10}",
            refresh in 1_u64..1_000_000,
            die in 0.0_f64..1.0,
        ) {
            let headers = headers(&[
                ("cache-control", &cache_control),
                ("expires", &expires),
                ("age", &age),
            ]);
            let refresh = Duration::from_secs(refresh);
            let wait = refresh_after(refresh, freshness(&headers, NOW), die);
            prop_assert!(wait <= refresh);
            prop_assert!(wait >= LEAST.min(refresh / 2));
        }
    }
}
