//! Discovery documents, true and false.

use super::*;
use crate::fetch::fake::response;
use crate::jwt::keys::remote::document_url;

#[test]
fn the_documents_address_is_built_as_the_standard_has_it() {
    let known = ".well-known/openid-configuration";
    for (given, expected) in [
        ("https://a.example", format!("https://a.example/{known}")),
        ("https://a.example/", format!("https://a.example/{known}")),
        (
            "https://a.example:8443",
            format!("https://a.example:8443/{known}"),
        ),
        (
            "https://a.example/realms/x",
            format!("https://a.example/realms/x/{known}"),
        ),
        (
            "https://a.example/realms/x/",
            format!("https://a.example/realms/x/{known}"),
        ),
        (
            "https://a.example/realms/x/.well-known/openid-configuration",
            format!("https://a.example/realms/x/{known}"),
        ),
        (
            "https://a.example/.well-known/openid-configuration?p=policy",
            format!("https://a.example/{known}?p=policy"),
        ),
        (
            "https://a.example/.well-known/oauth-authorization-server/realms/x",
            "https://a.example/.well-known/oauth-authorization-server/realms/x".to_owned(),
        ),
        (
            "http://[::1]:9000/x",
            format!("http://[::1]:9000/x/{known}"),
        ),
    ] {
        assert_eq!(document_url(&url(given)).as_str(), expected, "{given}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_document_of_another_issuer_is_no_document_of_this_one() {
    for issuer in [
        "https://west.example/",
        "https://WEST.example",
        "https://west.example:443",
        "http://west.example",
        "https://east.example",
        " https://west.example",
        "",
    ] {
        let clock = clock();
        let origin = Origin::new("west", &clock);
        let body = format!(r#"{{"issuer":"{issuer}","jwks_uri":"https://west.example/jwks"}}"#);
        origin.with().document = response(200, &[], &body);
        let plane = Plane::start(vec![by_discovery("west", &origin)], &clock);
        let keys = plane.until_attempts(0, 3).await;
        let why = keys.trouble.expect("it is refused");
        assert!(keys.set.is_none());
        assert!(why.contains(&format!("{issuer:?}")), "{why}");
        assert!(why.contains("\"https://west.example\""), "{why}");
        assert_eq!(origin.counts().1, 0, "{issuer}: its keys are not asked for");
    }
}

#[tokio::test(start_paused = true)]
async fn a_document_that_makes_no_sense_is_an_error() {
    let issuer = r#""issuer":"https://west.example""#;
    for (body, expected) in [
        ("<html>", "no JSON object"),
        ("[]", "no JSON object"),
        ("", "no JSON object"),
        ("{}", "no \"issuer\" string"),
        (r#"{"issuer":7}"#, "no \"issuer\" string"),
        (&format!("{{{issuer}}}"), "no \"jwks_uri\" string"),
        (
            &format!(r#"{{{issuer},"jwks_uri":["https://west.example/jwks"]}}"#),
            "no \"jwks_uri\" string",
        ),
        (&format!(r#"{{{issuer},"jwks_uri":"/jwks"}}"#), "is no URL"),
        (
            &format!(r#"{{{issuer},{issuer},"jwks_uri":"https://west.example/jwks"}}"#),
            "no JSON object with one",
        ),
        (
            &format!(r#"{{{issuer},"jwks_uri":"https://u:canary@west.example/jwks"}}"#),
            "user name or password",
        ),
    ] {
        let clock = clock();
        let origin = Origin::new("west", &clock);
        origin.with().document = response(200, &[], body);
        let plane = Plane::start(vec![by_discovery("west", &origin)], &clock);
        let keys = plane.until_attempts(0, 1).await;
        let why = keys.trouble.expect("it is refused");
        assert!(why.contains(expected), "{body}: {why}");
        assert!(!why.contains("canary"), "{why}");
        assert_eq!(origin.counts().1, 0, "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_keys_address_must_be_https_or_on_this_machine() {
    let far = "https://west.example";
    let near = "http://127.0.0.1:9000";
    for (from, jwks_uri, insecure_http, is_taken) in [
        (far, "https://keys.example/jwks", false, true),
        (far, "http://keys.example/jwks", false, false),
        (far, "http://keys.example/jwks", true, true),
        (far, "HTTPS://keys.example/jwks", false, true),
        (far, "file:///etc/passwd", true, false),
        (far, "data:application/json,{}", true, false),
        // A distant issuer does not choose a port of this machine.
        (far, "http://127.0.0.1:9180/quit", false, false),
        (far, "http://localhost:9180/quit", false, false),
        (near, "http://127.0.0.1:9000/jwks", false, true),
        (near, "http://localhost:9001/jwks", false, true),
        (near, "http://[::1]:9001/jwks", false, true),
        (near, "http://169.254.169.254/latest", false, false),
    ] {
        let clock = clock();
        let origin = Origin::new("west", &clock);
        let body = format!(r#"{{"issuer":"https://west.example","jwks_uri":"{jwks_uri}"}}"#);
        origin.with().document = response(200, &[], &body);
        let mut settings = by_discovery("west", &origin);
        settings.source = Source::DiscoveryUrl(url(from));
        settings.insecure_http = insecure_http;
        let plane = Plane::start(vec![settings], &clock);
        let keys = plane.until_attempts(0, 1).await;
        assert_eq!(keys.set.is_some(), is_taken, "{from} {jwks_uri} {keys:?}");
        let asked = origin.calls().into_iter().skip(1).map(|call| call.url);
        let expected = is_taken.then(|| url(jwks_uri).to_string());
        assert_eq!(asked.collect::<Vec<_>>(), Vec::from_iter(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn a_document_sends_us_to_another_host_only_if_that_is_public() {
    let far = "https://west.example";
    let near = "http://127.0.0.1:9000";
    for (from, jwks_uri, insecure_http, public_only) in [
        // The operator named this host.
        (far, "https://west.example/jwks", false, false),
        (far, "https://west.example:8443/jwks", false, false),
        (far, "https://keys.example/jwks", false, true),
        (far, "https://10.0.0.1/jwks", false, true),
        (far, "https://localhost:9180/jwks", false, true),
        (far, "https://keys.example/jwks", true, false),
        (near, "http://localhost:9001/jwks", false, false),
        (near, "https://keys.example/jwks", false, true),
    ] {
        let clock = clock();
        let origin = Origin::new("west", &clock);
        let body = format!(r#"{{"issuer":"https://west.example","jwks_uri":"{jwks_uri}"}}"#);
        origin.with().document = response(200, &[], &body);
        let mut settings = by_discovery("west", &origin);
        settings.source = Source::DiscoveryUrl(url(from));
        settings.insecure_http = insecure_http;
        let plane = Plane::start(vec![settings], &clock);
        plane.until_attempts(0, 1).await;
        let asked: Vec<bool> = (origin.calls().iter())
            .map(|call| call.public_only)
            .collect();
        assert_eq!(asked, [false, public_only], "{from} {jwks_uri}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_document_is_read_again_each_hour_and_after_a_failure() {
    let clock = clock();
    let origin = Origin::new("west", &clock);
    let plane = Plane::start(vec![by_discovery("west", &origin)], &clock);
    sleep_s(3_599).await;
    let (documents, keys) = origin.counts();
    assert!(documents == 1 && keys >= 12, "{documents} {keys}");
    sleep_s(301).await;
    assert_eq!(origin.counts().0, 2);

    // The issuer moves its keys, and the old address says so.
    let moved = r#"{"issuer":"https://west.example","jwks_uri":"https://west.example/new"}"#;
    origin.with().document = response(200, &[], moved);
    let attempts = plane.keys(0).attempts;
    origin.says(410, &[], "");
    plane.until_attempts(0, attempts + 1).await;
    origin.set(fake::Mood::Up);
    origin.with().keys = fake::one("moved");
    plane.until_attempts(0, attempts + 2).await;
    assert_eq!(plane.kids(0), ["moved"]);
    let last = origin.calls().pop().expect("some");
    assert_eq!(last.url, "https://west.example/new");
}

#[tokio::test(start_paused = true)]
async fn an_etag_is_not_sent_to_another_address() {
    let clock = clock();
    let origin = Origin::new("west", &clock);
    origin.with().etag = Some("\"one\"".to_owned());
    let plane = Plane::start(vec![by_discovery("west", &origin)], &clock);
    plane.until_attempts(0, 1).await;
    let moved = r#"{"issuer":"https://west.example","jwks_uri":"https://west.example/new"}"#;
    origin.with().document = response(200, &[], moved);
    origin.with().keys = fake::one("moved");
    sleep_s(4_000).await;
    let calls = origin.calls();
    let mut new = calls.iter().filter(|call| call.url.ends_with("/new"));
    assert_eq!(new.next().expect("it moved").etag, None);
    assert_eq!(plane.kids(0), ["moved"]);
}
