//! How the answers look to the proxy that asks.

use regent::reason::Reason;
use serde_json::json;

use super::{WAYS, Way, case, refused, with_rules};
use crate::gate::*;

#[test]
fn a_grpc_caller_is_never_let_pass_by_the_form_of_its_refusal() {
    paused(async {
        let case = case(&World::pipes(), with_rules);
        let good = bearer(&case.home.token());
        let kind = ("Content-Type", "application/grpc+proto");
        for way in WAYS {
            for (target, fields, status, reason) in [
                ("/pkg.Users/Get", vec![kind], 401, "missing_token"),
                (
                    "/admin",
                    vec![kind, ("Authorization", &*good)],
                    403,
                    "claims_not_met",
                ),
                ("/a//b", vec![kind], 403, "ambiguous_path"),
            ] {
                let answer = case.answers(&way.asks("POST", target, &fields)).await;
                assert_eq!(
                    (answer.status, answer.reason()),
                    (status, reason),
                    "{way:?}"
                );
                assert!(!answer.head.has("grpc-status"), "{way:?}");
                let document: serde_json::Value =
                    serde_json::from_slice(&answer.body).expect("JSON");
                assert_eq!(document["status"], status);
            }
        }
        let answer = case.answers(&get("/verify", &[kind])).await;
        assert_eq!(answer.status, 400);
    });
}

#[test]
fn the_identity_is_that_of_the_token_and_of_nothing_else() {
    paused(async {
        let headers = "identity_headers = { x-who = 'username', x-mail = 'email' }";
        let case = case(&World::pipes(), |setup| with_rules(setup).line(headers));
        let token = bearer(&case.home.clone().claim("email", json!(null)).token());
        let fields = [("Authorization", &*token), ("X-Mail", "root@example.com")];
        for way in WAYS {
            let answer = case.answers(&way.asks("GET", "/", &fields)).await;
            let names = answer.head.fields.iter().map(|(name, _)| &**name);
            let mut names: Vec<&str> = names.collect();
            names.sort_unstable();
            let expected = [
                "cache-control",
                "content-length",
                "date",
                "x-regent-issuer",
                "x-who",
            ];
            assert_eq!(names, expected, "{way:?}");
            assert_eq!(answer.head.get("x-who"), Some("alice"));
            let answer = case
                .answers(&way.asks("GET", "/public", &fields[1..]))
                .await;
            assert_eq!(answer.status, 200);
            assert!(!answer.head.has("x-mail") && !answer.head.has("x-regent-issuer"));
        }
    });
}

#[test]
fn a_shadow_lets_everybody_pass_and_says_nothing_of_who_calls() {
    paused(async {
        let case = case(&World::pipes(), |setup| {
            with_rules(setup).line("insecure_shadow_mode = true")
        });
        let good = bearer(&case.home.token());
        let authorization = ("Authorization", &*good);
        for way in WAYS {
            for (target, fields, reason) in [
                ("/", vec![], Reason::MissingToken),
                ("/admin", vec![authorization], Reason::ClaimsNotMet),
                (
                    "/",
                    vec![authorization, authorization],
                    Reason::MultipleTokens,
                ),
                (
                    "/public/../admin",
                    vec![authorization],
                    Reason::AmbiguousPath,
                ),
            ] {
                let before = (case.gate.shadowed(reason), case.gate.refused_in_all());
                let told = case.verify(&way.asks("GET", target, &fields)).await;
                assert_eq!(told, Ok(vec![]), "{way:?} {target}");
                let after = (case.gate.shadowed(reason), case.gate.refused_in_all());
                assert_eq!(after, (before.0 + 1, before.1), "{way:?} {target}");
            }
            let told = case.verify(&way.asks("GET", "/", &[authorization])).await;
            assert_eq!(told, Ok(alice()));
            // What is no request is none in a shadow either.
            let told = case.verify(&way.asks("TRACE", "/", &[])).await;
            assert!(told.is_err_and(|(status, ..)| status == 403), "{way:?}");
        }
        assert!(case.verify(&get("/verify", &[])).await.is_err());
    });
}

#[test]
fn keys_that_cannot_be_had_are_no_answer_to_the_question() {
    paused(async {
        let keys = "issuer = 'far'\njwks_url = 'http://127.0.0.1:1/'";
        let case = case(&World::pipes(), |setup| setup.issuer("far", keys));
        let token = bearer(&case.home.clone().claim("iss", "far").token());
        let fields = [("Authorization", &*token)];
        let expected = case.forward("GET", "/", &fields).await;
        for way in WAYS {
            let answer = case.answers(&way.asks("GET", "/", &fields)).await;
            assert_eq!(refused(answer.status, &answer), expected);
            assert_eq!(
                (answer.status, answer.reason()),
                (503, "issuer_keys_unavailable")
            );
            assert!(answer.head.has("retry-after"));
        }
    });
}

#[test]
fn reasons_can_be_kept_from_callers_here_too() {
    paused(async {
        let case = case(&World::pipes(), |setup| {
            with_rules(setup).line("reveal_reasons = false")
        });
        let before = case.gate.refused(Reason::AmbiguousPath);
        let answer = case.answers(&Way::Nginx.asks("GET", "/a//b", &[])).await;
        assert_eq!(answer.status, 403);
        let all = format!("{:?} {}", answer.head, answer.text());
        assert!(!all.to_lowercase().contains("ambiguous"), "{all}");
        assert_eq!(case.gate.refused(Reason::AmbiguousPath), before + 1);
    });
}

#[test]
fn a_head_request_is_answered_without_a_body() {
    paused(async {
        let case = case(&World::pipes(), with_rules);
        let good = bearer(&case.home.token());
        let mut asker = case.gate.asker().await;
        let told = [("X-Original-URI", "/"), ("X-Original-Method", "HEAD")];
        asker.send(request("HEAD", "/verify", &told)).await;
        let head = asker.head().await.expect("an answer");
        assert!(head.line.contains(" 401 "), "{head:?}");
        assert_eq!(
            head.get("www-authenticate"),
            Some("Bearer realm=\"regent\"")
        );
        let fields = [("Authorization", &*good)];
        asker.send(request("HEAD", "/verify/", &fields)).await;
        let head = asker.head().await.expect("an answer");
        assert!(head.line.contains(" 200 "), "{head:?}");
        assert_eq!(identity(&head), alice());
    });
}

#[test]
fn a_body_that_is_announced_is_not_waited_for() {
    paused(async {
        let case = case(&World::pipes(), with_rules);
        let good = bearer(&case.home.token());
        let began = tokio::time::Instant::now();
        for way in WAYS {
            for (framing, sent) in [
                (("Content-Length", "100000"), ""),
                (("Content-Length", "100000"), "some of it"),
                (("Transfer-Encoding", "chunked"), ""),
                (("Transfer-Encoding", "chunked"), "3\r\nabc\r\n"),
            ] {
                for (fields, status) in [
                    (vec![framing], 401),
                    (vec![framing, ("Authorization", &*good)], 200),
                ] {
                    let mut asker = case.gate.asker().await;
                    asker.send(way.asks("POST", "/", &fields) + sent).await;
                    let answer = asker.answer().await;
                    assert_eq!(answer.status, status, "{way:?} {framing:?}");
                    assert_eq!(answer.head.get("connection"), Some("close"));
                    asker.finish().await;
                    asker.expect_end().await;
                }
            }
        }
        assert!(
            began.elapsed() < std::time::Duration::from_secs(1),
            "{:?}",
            began.elapsed()
        );
    });
}
