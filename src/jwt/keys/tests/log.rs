//! What is written to the log, and how often.

use super::*;
use crate::telemetry::kept::Kept;
use fake::{Mood, Pair, jwks};

#[tokio::test(start_paused = true)]
async fn a_change_a_failure_and_a_recovery_are_one_line_each() {
    let (log, _guard) = Kept::new();
    let clock = clock();
    let origin = Origin::new("west", &clock);
    origin.with().keys = jwks(&[&Pair::new("a"), &Pair::new("b")]);
    let plane = Plane::start(vec![by_url("west", &origin)], &clock);
    plane.until_attempts(0, 10).await;
    assert_eq!(log.text().lines().count(), 1, "{}", log.text());
    assert_eq!(log.lines_with("keys.count=2"), 1);
    assert_eq!(log.lines_with(r#"issuer "west" are now "a", "b""#), 1);

    origin.set(Mood::Hangs);
    plane.until_attempts(0, 15).await;
    assert_eq!(log.lines_with("cannot be fetched: no answer"), 5);
    assert_eq!(log.lines_with("stay in use"), 5);
    origin.set(Mood::Up);
    plane.until_attempts(0, 20).await;
    assert_eq!(log.lines_with("can be fetched again"), 1);
    assert_eq!(log.text().lines().count(), 7, "{}", log.text());
}

#[tokio::test(start_paused = true)]
async fn a_failure_says_whether_keys_are_left() {
    let (log, _guard) = Kept::new();
    let clock = clock();
    let origin = Origin::new("west", &clock);
    origin.says(500, &[], "");
    let mut settings = by_url("west", &origin);
    settings.max_stale = Duration::from_secs(60);
    let plane = Plane::start(vec![settings], &clock);
    plane.until_attempts(0, 1).await;
    assert_eq!(
        log.lines_with("until then its tokens are answered with 503"),
        1
    );
    origin.set(Mood::Up);
    plane.until_attempts(0, 2).await;
    origin.says(500, &[], "");
    sleep_s(600).await;
    assert!(
        log.lines_with("older than jwks_max_stale") >= 1,
        "{}",
        log.text()
    );
}

#[tokio::test(start_paused = true)]
async fn an_issuers_words_cannot_forge_a_line() {
    let (log, _guard) = Kept::new();
    let clock = clock();
    let origin = Origin::new("west", &clock);
    let long = "k".repeat(1000);
    let pairs: Vec<_> = (0..20)
        .map(|at| Pair::new(&format!(r"{at}\n\u001b[31m{long}")))
        .collect();
    origin.with().keys = jwks(&pairs.iter().collect::<Vec<_>>());
    let plane = Plane::start(vec![by_url("west", &origin)], &clock);
    plane.until_attempts(0, 1).await;
    assert_eq!(plane.keys(0).set.expect("there").keys().len(), 20);
    let text = log.text();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.len() < 2000 && !text.contains('\u{1b}'), "{text}");
    assert!(text.contains("and 12 more"), "{text}");
}
