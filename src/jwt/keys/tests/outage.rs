//! An issuer that is away or answers nonsense, and comes back.

use super::*;
use crate::backoff;
use fake::{Mood, one};

#[tokio::test(start_paused = true)]
async fn a_bad_answer_keeps_the_last_good_keys_up_to_the_limit_and_then_there_are_none() {
    let truncated = one("second");
    let truncated = &truncated[..truncated.len() / 2];
    let crowd: Vec<_> = (0..65).map(|at| fake::Pair::new(&at.to_string())).collect();
    let crowd = fake::jwks(&crowd.iter().collect::<Vec<_>>());
    let says = |status, headers: &[(&str, &str)], body: &str| {
        Mood::Says(fetch::fake::response(status, headers, body))
    };
    let html = [("content-type", "text/html; charset=utf-8")];
    for (mood, expected) in [
        (says(500, &[], ""), "answered 500"),
        (says(404, &[], ""), "answered 404"),
        (says(429, &[("retry-after", "7")], ""), "answered 429"),
        (says(204, &[], ""), "answered 204"),
        (says(206, &[], &one("second")), "answered 206"),
        (
            says(
                302,
                &[("location", "http://169.254.169.254/k?q=canary")],
                "",
            ),
            "redirect to http://169.254.169.254,",
        ),
        (says(200, &html, "<html>canary</html>"), "web page"),
        (says(200, &[], "{}"), "cannot be used"),
        (says(200, &[], "[]"), "cannot be used"),
        (says(200, &[], ""), "cannot be used"),
        (says(200, &[], r#"{"keys":[]}"#), "cannot be used"),
        (says(200, &[], r#"{"keys":"canary"}"#), "cannot be used"),
        (says(200, &[], truncated), "cannot be used"),
        (says(200, &[], &crowd), "cannot be used"),
        (Mood::Fails(fetch::Error::TooLarge(BODY_LIMIT)), "256 KiB"),
        (Mood::Fails(fetch::Error::Timeout), "in time"),
        (
            Mood::Fails(fetch::Error::Tls("has expired".into())),
            "has expired",
        ),
        (Mood::Hangs, "in time"),
    ] {
        let clock = clock();
        let origin = Origin::new("west", &clock);
        let mut settings = by_url("west", &origin);
        settings.source = Source::JwksUrl(url("https://west.example/jwks?key=canary"));
        settings.max_stale = Duration::from_secs(3600);
        let plane = Plane::start(vec![settings], &clock);
        let good = plane.until_attempts(0, 1).await;
        let stale_at = good.stale_at.expect("remote");
        origin.set(mood.clone());
        sleep_s(400).await;
        let keys = plane.keys(0);
        let why = keys.trouble.clone().expect("something failed");
        assert!(why.contains(expected), "{mood:?}: {why}");
        assert!(!why.contains("canary") && !why.contains('\n'), "{why}");
        assert!(Arc::ptr_eq(
            &keys.set.expect("kept"),
            &good.set.expect("there")
        ));
        assert_eq!(keys.stale_at, Some(stale_at), "{mood:?}");
        assert_eq!(plane.kids(0), ["first"], "{mood:?}");
        tokio::time::sleep(stale_at.since(clock.boot()) - Duration::from_millis(1)).await;
        assert_eq!(plane.kids(0), ["first"], "{mood:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert_eq!(plane.keys(0).usable(clock.boot()).map(|_| ()), None);
        origin.set(Mood::Up);
        sleep_s(135).await;
        assert_eq!(plane.kids(0), ["first"], "{mood:?}");
        assert_eq!(plane.keys(0).trouble, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_while_the_issuer_is_away_ends_when_it_is_back() {
    let mut returns = Vec::new();
    for seed in 0..8 {
        let clock = clock();
        let origin = Origin::new("west", &clock);
        origin.set(Mood::Fails(fetch::Error::Connect("refused".into())));
        let (handle, task) = new(
            vec![by_discovery("west", &origin)],
            deps(&clock, seed),
            None,
        );
        let plane = Plane::run(handle, task, &clock);
        let first = plane.until_attempts(0, 1).await;
        assert!(first.set.is_none() && first.stale_at.is_none());
        assert!(first.trouble.expect("why").contains("refused"));
        sleep_s(60).await;
        let calls = origin.calls();
        // Bounds of 1, 2, 4, 8, 16 and 32 s, each cut by a die: more would hammer.
        assert!((4..=40).contains(&calls.len()), "{}", calls.len());
        let floor = calls.windows(2).map(|pair| pair[1].at.since(pair[0].at));
        assert!(floor.min() >= Some(backoff::FLOOR));
        assert_eq!(plane.keys(0).attempts, calls.len() as u64);
        origin.set(Mood::Up);
        let back = clock.boot();
        let due = plane.keys(0).next_attempt_at;
        let keys = plane.until_attempts(0, calls.len() as u64 + 1).await;
        assert!(keys.set.is_some() && keys.trouble.is_none());
        let after = clock.boot().since(back);
        assert!(after <= backoff::CAP + Duration::from_secs(1), "{after:?}");
        // Readers were told when.
        assert!(clock.boot().since(due) <= Duration::from_millis(50));
        returns.push(after);
    }
    returns.sort();
    returns.dedup();
    assert!(returns.len() >= 7, "{returns:?}");
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_obeyed_within_bounds() {
    for (value, least, most) in [
        ("0", 1, 2),
        ("45", 45, 46),
        ("100000", 600, 601),
        ("nonsense", 0, 1),
    ] {
        let clock = clock();
        let origin = Origin::new("west", &clock);
        origin.says(429, &[("retry-after", value)], "");
        let plane = Plane::start(vec![by_url("west", &origin)], &clock);
        let keys = plane.until_attempts(0, 1).await;
        let due = keys.next_attempt_at.since(clock.boot());
        assert!(
            (Duration::from_secs(least)..=Duration::from_secs(most)).contains(&due),
            "{value}: {due:?}"
        );
        plane.until_attempts(0, 2).await;
        let calls = origin.calls();
        assert!(calls[1].at.since(calls[0].at) >= due, "{value}");
    }
}
