//! Every answer that a region, or what stands before it, can give.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::fetch::Response;
use crate::fetch::fake::{Fake, response};

const NOW: i64 = 1_700_000_000;
/// `NOW`, as a server writes it.
const DATE: &str = "Tue, 14 Nov 2023 22:13:20 GMT";
const CANARY: &str = "canary-4711";

fn region() -> (Arc<Fake>, Region) {
    region_at("https://region.example")
}

fn region_at(url: &str) -> (Arc<Fake>, Region) {
    let (fake, service) = Fake::new();
    let url = url.parse().expect("a URL");
    (fake, Region::new(url, service, Clock::manual(NOW)))
}

/// A token with these claims; its signature is a canary.
fn token(claims: &str) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!(
        "{}.{}.{}",
        part(r#"{"alg":"RS256"}"#),
        part(claims),
        part(CANARY)
    )
}

fn good_token() -> String {
    token(&format!(
        r#"{{"token_type":"access","exp":{},"iat":{NOW},"user_id":7,"username":"alice"}}"#,
        NOW + 300
    ))
}

fn sent() -> Secret {
    Secret::from(CANARY)
}

fn assert_no_canary(shown: &str) {
    assert!(!shown.contains(CANARY), "{shown}");
    assert!(!shown.contains(&URL_SAFE_NO_PAD.encode(CANARY)), "{shown}");
    assert!(!shown.contains('\n'), "{shown}");
}

/// What becomes of a refresh that is answered so.
async fn refreshed(answer: Response) -> Result<Tokens, Error> {
    let (fake, region) = region();
    fake.answer(Ok(answer));
    let outcome = region.refresh(&sent()).await;
    assert_eq!(fake.calls().len(), 1, "nothing is sent twice");
    match &outcome {
        Ok(tokens) => assert_no_canary(&format!("{tokens:?}")),
        Err(error) => assert_no_canary(&format!("{error} {error:?}")),
    }
    outcome
}

async fn transient(answer: Response) -> (String, Option<Duration>) {
    match refreshed(answer).await {
        Err(Error::Transient { what, retry_after }) => (what, retry_after),
        other => panic!("not transient: {other:?}"),
    }
}

/// What an answer is told as that is a 200 without tokens, and with no refresh token to keep.
async fn useless(answer: Response) -> String {
    match refreshed(answer).await {
        Err(Error::Useless {
            what,
            refresh: None,
        }) => what,
        other => panic!("not useless: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn calls_go_to_the_regions_paths_as_forms() {
    for (url, prefix) in [
        (
            "https://region.example",
            "https://region.example/console/api/",
        ),
        (
            "https://region.example/",
            "https://region.example/console/api/",
        ),
        (
            "https://region.example:8443/a%20b",
            "https://region.example:8443/a%20b/console/api/",
        ),
        (
            "http://localhost/x/y/?q=1#f",
            "http://localhost/x/y/console/api/",
        ),
    ] {
        let (fake, region) = region_at(url);
        for _ in 0..3 {
            fake.answer(Ok(response(200, &[], "{}")));
        }
        let secret = sent();
        let _ = region.log_in("alice@example.com", &secret).await;
        let _ = region.refresh(&secret).await;
        let _ = region.verify(&secret).await;
        let calls = fake.calls();
        let expected: [(&str, &[(&str, &str)]); 3] = [
            (
                "auth/",
                &[("email", "alice@example.com"), ("password", CANARY)],
            ),
            ("auth/refresh/", &[("refresh", CANARY)]),
            ("auth/verify/", &[("token", CANARY)]),
        ];
        for (call, (path, form)) in calls.iter().zip(expected) {
            assert_eq!(call.url.as_str(), format!("{prefix}{path}"));
            assert_eq!(call.method, Method::POST);
            let sent: Vec<(&str, &str)> = call
                .form
                .iter()
                .map(|(name, value)| (*name, value.expose()))
                .collect();
            assert_eq!(sent, form);
            assert!(!format!("{call:?}").contains(CANARY));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_tokens_time_is_counted_from_when_the_call_was_sent() {
    let (fake, region) = region();
    let clock = region.clock.clone();
    let body = format!(r#"{{"access":"{}"}}"#, good_token());
    fake.answer_after(Duration::from_secs(3), Ok(response(200, &[], &body)));
    let sent_at = clock.boot();
    let tokens = region.refresh(&sent()).await.expect("tokens");
    assert_eq!(clock.boot().since(sent_at), Duration::from_secs(3));
    assert_eq!(tokens.access.expires_at, sent_at + Duration::from_secs(299));
    assert_eq!(tokens.access.lifetime, Duration::from_secs(299));
    assert_eq!(tokens.access.user(), Some("alice"));
    assert_eq!(tokens.access.secret.expose(), good_token());
    assert!(tokens.refresh.is_none());
    assert_eq!(tokens.clock_skew_s, None);
}

/// Ours is wrong by hours: neither the lifetime nor anything else depends on it.
#[tokio::test(start_paused = true)]
async fn a_wrong_clock_of_ours_changes_nothing_and_is_measured() {
    for by in [-7200, 7200] {
        let (fake, region) = region();
        region.clock.shift_wall(by);
        let body = format!(r#"{{"access":"{}"}}"#, good_token());
        fake.answer(Ok(response(200, &[("date", DATE)], &body)));
        let tokens = region.refresh(&sent()).await.expect("tokens");
        assert_eq!(tokens.access.lifetime, Duration::from_secs(299));
        assert_eq!(tokens.clock_skew_s, Some(-by));
    }
}

#[tokio::test(start_paused = true)]
async fn lifetimes_are_judged_by_the_regions_own_times() {
    let headers: &[(&str, &str)] = &[("date", DATE)];
    // Claims, with the answer's Date at NOW or without; the usable seconds, or what is said.
    for (claims, date, expected) in [
        (
            format!(r#"{{"exp":{},"iat":{NOW}}}"#, NOW + 300),
            true,
            Ok(299),
        ),
        (format!(r#"{{"exp":{},"iat":{NOW}}}"#, NOW + 2), true, Ok(1)),
        (
            format!(r#"{{"exp":{},"iat":{NOW}}}"#, NOW + 5),
            false,
            Ok(4),
        ),
        // Made a while ago, and kept by something in between.
        (
            format!(r#"{{"exp":{},"iat":{}}}"#, NOW + 100, NOW - 200),
            true,
            Ok(99),
        ),
        // A region whose Date runs behind its tokens.
        (
            format!(r#"{{"exp":{},"iat":{}}}"#, NOW + 400, NOW + 100),
            true,
            Ok(299),
        ),
        (format!(r#"{{"exp":{}}}"#, NOW + 60), true, Ok(59)),
        (format!(r#"{{"exp":{}}}"#, NOW + 60), false, Ok(59)),
        (format!(r#"{{"iat":{NOW}}}"#), true, Err("no \"exp\"")),
        (
            format!(r#"{{"exp":{NOW},"iat":{NOW}}}"#),
            false,
            Err("before it was issued"),
        ),
        (
            format!(r#"{{"exp":{},"iat":{NOW}}}"#, NOW - 1),
            false,
            Err("before it was issued"),
        ),
        (
            format!(r#"{{"exp":{},"iat":{NOW}}}"#, NOW + 1),
            false,
            Err("1 s"),
        ),
        (
            format!(r#"{{"exp":{},"iat":{NOW}}}"#, NOW + 401 * 86_400),
            false,
            Err("of no use"),
        ),
        (
            format!(r#"{{"exp":{},"iat":{}}}"#, NOW, NOW - 300),
            true,
            Err("has expired"),
        ),
        (
            format!(r#"{{"exp":{}000,"iat":{NOW}000}}"#, NOW + 300),
            true,
            Err("not in seconds"),
        ),
        (
            format!(
                r#"{{"token_type":"refresh","exp":{},"iat":{NOW}}}"#,
                NOW + 300
            ),
            true,
            Err("another type"),
        ),
        (
            format!(r#"{{"exp":"{}"}}"#, NOW + 300),
            true,
            Err("no JSON object of a token"),
        ),
    ] {
        let body = format!(r#"{{"access":"{}"}}"#, token(&claims));
        let answer = response(200, if date { headers } else { &[] }, &body);
        match expected {
            Ok(usable) => {
                let tokens = refreshed(answer).await.expect(&claims);
                assert_eq!(
                    tokens.access.lifetime,
                    Duration::from_secs(usable),
                    "{claims}"
                );
            }
            Err(expected) => {
                let what = useless(answer).await;
                assert!(what.contains(expected), "{claims}: {what}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_200_without_tokens_passes() {
    let good = good_token();
    let html = &[("content-type", "text/html; charset=utf-8")][..];
    let json = &[][..];
    for (headers, body) in [
        (html, format!("<html>{CANARY}</html>")),
        (html, format!(r#"{{"access":"{good}"}}"#)),
        (
            &[("content-type", "text/plain")],
            format!(r#"{{"access":"{good}"}}"#),
        ),
        (json, String::new()),
        (json, format!(r#"{{"access":"{good}"#)),
        (json, format!(r#"{{"access":"{good}"}} {CANARY}"#)),
        (json, r#"{"access":null}"#.into()),
        (json, r#"{"access":1}"#.into()),
        (json, r#"{"access":""}"#.into()),
        (json, format!(r#"{{"access":["{good}"]}}"#)),
        (json, format!(r#"{{"access":"{CANARY}"}}"#)),
        (json, format!(r#"{{"access":"{good}\r\nx: y"}}"#)),
        (json, format!(r#"{{"access":"{good}","access":"{good}"}}"#)),
        (
            json,
            format!(r#"{{"access":"{good}","\u0061ccess":"{good}"}}"#),
        ),
        (
            json,
            format!(r#"{{"access":"{good}","refresh":"{good}","refresh":"{good}"}}"#),
        ),
        (json, format!(r#"["{good}"]"#)),
        (json, format!(r#""{good}""#)),
        (json, "{}".into()),
        (json, format!(r#"{{"refresh":"{CANARY}"}}"#)),
        (json, "null".into()),
        (json, "\u{feff}{}".into()),
    ] {
        let what = useless(response(200, headers, &body)).await;
        assert!(
            what.contains("https://region.example answered 200"),
            "{body}: {what}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_beside_a_useless_access_token_is_kept() {
    let next = token(r#"{"token_type":"refresh","exp":1900000000}"#);
    for access in ["null", "1", r#""canary""#, r#""""#] {
        let body = format!(r#"{{"access":{access},"refresh":"{next}"}}"#);
        let error = refreshed(response(200, &[], &body))
            .await
            .expect_err(access);
        assert!(error.is_transient(), "{access}");
        let Error::Useless { refresh, what } = error else {
            panic!("{access}: {error}");
        };
        assert_eq!(refresh.expect("kept").expose(), next);
        assert!(!what.contains("canary"), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn json_by_another_name_is_json() {
    for kind in [
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/x+json",
    ] {
        let body = format!(r#"{{"access":"{}","extra":{{"a":1}}}}"#, good_token());
        refreshed(response(200, &[("content-type", kind)], &body))
            .await
            .expect(kind);
    }
    let mut untyped = response(200, &[], &format!(r#"{{"access":"{}"}}"#, good_token()));
    untyped.headers.clear();
    refreshed(untyped).await.expect("no content type at all");
}

/// A refresh token that makes no sense does not cost the access token beside it.
#[tokio::test(start_paused = true)]
async fn a_new_refresh_token_is_kept_if_it_is_one() {
    let long = format!("\"{}\"", "x".repeat(16 * 1024 + 1));
    for (refresh, expected) in [
        ("\"new.refresh.token\"", Some("new.refresh.token")),
        // The same one: no rotation.
        ("\"canary-4711\"", None),
        ("null", None),
        ("\"\"", None),
        ("7", None),
        ("{\"a\":1}", None),
        ("\"a b\"", None),
        ("\"a\\nb\"", None),
        (&long, None),
    ] {
        let body = format!(r#"{{"access":"{}","refresh":{refresh}}}"#, good_token());
        let tokens = refreshed(response(200, &[], &body)).await.expect(refresh);
        assert_eq!(
            tokens.refresh.as_ref().map(Secret::expose),
            expected,
            "{refresh}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_brings_both_tokens() {
    let (fake, region) = region();
    let body = format!(r#"{{"refresh":"r.r.r","access":"{}"}}"#, good_token());
    fake.answer(Ok(response(200, &[("date", DATE)], &body)));
    let tokens = region
        .log_in("alice@example.com", &sent())
        .await
        .expect("tokens");
    assert_eq!(tokens.refresh, Some(Secret::from("r.r.r")));
    assert_eq!(tokens.clock_skew_s, Some(0));
}

#[tokio::test(start_paused = true)]
async fn the_regions_own_no_is_final() {
    for (status, body, code, said) in [
        (
            401,
            r#"{"detail":"Token is blacklisted","code":"token_not_valid"}"#,
            "token_not_valid",
            "(Token is blacklisted)",
        ),
        (
            401,
            r#"{"detail":"Token is expired","code":"token_not_valid"}"#,
            "token_not_valid",
            "(Token is expired)",
        ),
        (
            401,
            r#"{"detail":"No active account found with the given credentials"}"#,
            "refused",
            "No active account",
        ),
        (
            401,
            r#"{"code":"password_changed"}"#,
            "password_changed",
            "(password_changed)",
        ),
        (
            401,
            r#"{"detail":"x","code":"bad code\r\n"}"#,
            "refused",
            "(x)",
        ),
        (
            401,
            r#"{"detail":"canary-4711 is dead","code":"canary-4711"}"#,
            "refused",
            "(refused)",
        ),
        (
            401,
            r#"{"detail":"two\nlines\u0007 and aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#,
            "refused",
            "(two lines and ...)",
        ),
        (
            400,
            r#"{"detail":"Token is invalid","code":"token_not_valid"}"#,
            "token_not_valid",
            "(Token is invalid)",
        ),
    ] {
        match refreshed(response(status, &[], body)).await {
            Err(Error::Refused { code: got, what }) => {
                assert_eq!(got, code, "{body}");
                assert!(
                    what.contains(said) && what.contains("log in again"),
                    "{what}"
                );
            }
            other => panic!("{body}: {other:?}"),
        }
    }
    let (fake, region) = region();
    let no = r#"{"detail":"No active account found with the given credentials","code":"no_active_account"}"#;
    fake.answer(Ok(response(401, &[], no)));
    let error = region
        .log_in("alice@example.com", &sent())
        .await
        .expect_err("refused");
    assert!(!error.is_transient());
    assert!(
        error.to_string().contains("the email or the password"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_401_that_is_not_the_regions_passes() {
    let html = ("content-type", "text/html");
    for (headers, body) in [
        (&[html][..], "<h1>Unauthorized</h1>".to_owned()),
        (&[html], r#"{"detail":"x","code":"token_not_valid"}"#.into()),
        (&[], String::new()),
        (&[], "{}".into()),
        (&[], r#"{"message":"Unauthorized"}"#.into()),
        (&[], r#"{"detail":7,"code":["token_not_valid"]}"#.into()),
        (&[], r#"{"detail":"","code":" "}"#.into()),
        (&[], r#"["token_not_valid"]"#.into()),
        (&[], r#"{"code":"token_not_valid""#.into()),
        (&[], format!(r#"{{"detail":"{}"}}"#, "x ".repeat(8 * 1024))),
    ] {
        let (what, _) = transient(response(401, headers, &body)).await;
        assert!(what.contains("answered 401"), "{what}");
        assert!(what.contains("firewall"), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_other_status_passes_with_a_hint() {
    for (status, expected) in [
        (201, "region.url"),
        (204, "region.url"),
        (400, "did not accept the form"),
        (403, "firewall"),
        (404, "to /console/api/auth/refresh/: is region.url right?"),
        (405, "is region.url right?"),
        (407, "proxy"),
        (415, "is region.url right?"),
        (418, "is region.url right?"),
        (429, "too many calls"),
        (500, "Internal Server Error"),
        (502, "Bad Gateway"),
        (503, "Service Unavailable"),
        (504, "Gateway Timeout"),
        (599, "a server error"),
    ] {
        // The region's words count with its status only.
        let body = r#"{"detail":"canary-4711","code":"canary-4711"}"#;
        let (what, retry_after) = transient(response(status, &[], body)).await;
        assert!(what.contains(&format!("answered {status}")), "{what}");
        assert!(what.contains(expected), "{what}");
        assert_eq!(retry_after, None);
    }
    let (what, _) = transient(response(400, &[], r#"{"email":["canary-4711"],"x":1}"#)).await;
    assert!(what.contains("(it complains about email)"), "{what}");
}

#[tokio::test(start_paused = true)]
async fn a_redirect_is_named_by_its_host_alone() {
    for (location, expected) in [
        (
            "https://other.example:8443/login?next=canary-4711#canary-4711",
            " to https://other.example:8443,",
        ),
        (
            "https://u:canary-4711@other.example/",
            " to https://other.example,",
        ),
        ("/login?canary-4711", " to https://region.example,"),
        ("mailto:canary-4711", "a redirect,"),
        ("https://", "a redirect,"),
    ] {
        for status in [301, 302, 303, 307, 308] {
            let (what, _) = transient(response(status, &[("location", location)], "")).await;
            assert!(what.contains(expected), "{what}");
        }
    }
    let (what, _) = transient(response(307, &[], "")).await;
    assert!(what.contains("a redirect, which is not followed"), "{what}");
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_obeyed_within_bounds() {
    let seconds = |seconds: u64| Some(Duration::from_secs(seconds));
    for (value, expected) in [
        ("30", seconds(30)),
        (" 30 ", seconds(30)),
        ("1.5", Some(Duration::from_millis(1500))),
        ("0", seconds(1)),
        ("-1", seconds(1)),
        ("1e9", seconds(600)),
        ("99999999999999999999999", seconds(600)),
        ("1e999", seconds(600)),
        ("Tue, 14 Nov 2023 22:14:20 GMT", seconds(60)),
        ("Tue, 14 Nov 2023 22:13:00 GMT", seconds(1)),
        ("Fri, 14 Nov 2053 22:13:00 GMT", seconds(600)),
        ("abc", None),
        ("", None),
        ("inf", None),
        ("NaN", None),
        ("e", None),
        ("30 s", None),
    ] {
        for status in [429, 503] {
            // Our clock is an hour off; the answer's own is what its date is held against.
            let (fake, region) = region();
            region.clock.shift_wall(3600);
            let headers = [("retry-after", value), ("date", DATE)];
            fake.answer(Ok(response(status, &headers, "")));
            match region.refresh(&sent()).await {
                Err(Error::Transient { retry_after, .. }) => {
                    assert_eq!(retry_after, expected, "{value:?}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_answer_at_all_passes() {
    for (error, expected) in [
        (fetch::Error::Timeout, "in time"),
        (fetch::Error::TooLarge(fetch::BODY_LIMIT), "64 KiB"),
        (
            fetch::Error::Dns("the name does not exist".into()),
            "does not exist",
        ),
        (fetch::Error::Connect("refused".into()), "refused"),
        (fetch::Error::Tls("unknown issuer".into()), "unknown issuer"),
        (fetch::Error::Protocol("broke off".into()), "broke off"),
    ] {
        let (fake, region) = region_at("https://u:canary-4711@region.example/a/?canary-4711");
        fake.answer(Err(error));
        let error = region.refresh(&sent()).await.expect_err("no answer");
        assert!(error.is_transient());
        let said = error.to_string();
        assert!(said.contains(expected), "{said}");
        assert!(
            said.contains("region at https://region.example/a:"),
            "{said}"
        );
        assert_no_canary(&format!("{error} {error:?} {region:?}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_verdict_is_the_regions_or_none() {
    let (fake, region) = region();
    let html = [("content-type", "text/html")];
    fake.answer(Ok(response(200, &[], "{}")));
    fake.answer(Ok(response(200, &html, "<html>")));
    fake.answer(Ok(response(200, &[], "")));
    fake.answer(Ok(response(503, &[("retry-after", "5")], "")));
    fake.answer(Ok(response(
        401,
        &[],
        r#"{"detail":"Token is invalid","code":"token_not_valid"}"#,
    )));
    let token = sent();
    assert_eq!(region.verify(&token).await, Ok(()));
    for _ in 0..3 {
        let error = region.verify(&token).await.expect_err("no verdict");
        assert!(error.is_transient(), "{error}");
    }
    let error = region.verify(&token).await.expect_err("a bad token");
    assert!(!error.is_transient());
    assert!(error.to_string().contains("Token is invalid"), "{error}");

    // What simplejwt answers for a token on its blacklist, here and here only.
    let blacklisted = r#"{"non_field_errors":["Token is blacklisted"]}"#;
    fake.answer(Ok(response(400, &[], blacklisted)));
    fake.answer(Ok(response(400, &[], blacklisted)));
    fake.answer(Ok(response(
        400,
        &[],
        r#"{"token":["This field is required."]}"#,
    )));
    let error = region.verify(&token).await.expect_err("a dead token");
    assert!(!error.is_transient());
    assert!(
        error.to_string().contains("Token is blacklisted"),
        "{error}"
    );
    assert!(
        region
            .refresh(&token)
            .await
            .expect_err("an odd answer")
            .is_transient()
    );
    assert!(
        region
            .verify(&token)
            .await
            .expect_err("a lost body")
            .is_transient()
    );
}
