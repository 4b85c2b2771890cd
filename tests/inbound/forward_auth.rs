//! Another proxy asks whether its caller may pass: in the ways of nginx, Traefik and Envoy, and in
//! ways that say too little, too much, or two things at once.

use std::sync::atomic::Ordering::Relaxed;

use proptest::collection::vec;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use regent::reason::Reason;
use regent::telemetry::counters::Side;
use serde_json::json;

use crate::forge::Forge;
use crate::gate::*;

struct Case {
    gate: Gate,
    home: Forge,
}

fn case(world: &World, change: impl FnOnce(Setup) -> Setup) -> Case {
    let workload = Upstream::bind(world);
    let setup = change(Setup::new(world, workload.at).forward_auth());
    Case {
        gate: setup.start(workload.serve(say_identity)),
        home: Forge::home(world.clock.unix()),
    }
}

fn with_rules(setup: Setup) -> Setup {
    setup
        .rule("path = '/public', anonymous = true")
        .rule("path = '/healthz', methods = ['GET'], anonymous = true")
        .rule("path = '/admin', claims = { role = ['admin'] }")
        .rule("path = '/things', methods = ['DELETE'], claims = { role = ['admin'] }")
}

/// How a proxy says what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Nginx,
    Ingress,
    Traefik,
    Envoy,
}

const WAYS: [Way; 4] = [Way::Nginx, Way::Ingress, Way::Traefik, Way::Envoy];

impl Way {
    fn asks(self, method: &str, target: &str, fields: &[(&str, &str)]) -> String {
        let url = format!("https://svc.example:8443{target}");
        let (own, path, told) = match self {
            Way::Nginx => (
                "GET",
                "/verify".to_owned(),
                [("X-Original-URI", target), ("X-Original-Method", method)],
            ),
            Way::Ingress => (
                "GET",
                "/verify?x=/public".to_owned(),
                [("x-original-url", &*url), ("x-original-method", method)],
            ),
            Way::Traefik => (
                "GET",
                "/verify".to_owned(),
                [("X-Forwarded-Uri", target), ("X-Forwarded-Method", method)],
            ),
            Way::Envoy => return request(method, &format!("/verify{target}"), fields),
        };
        request(own, &path, &[&told, fields].concat())
    }
}

/// Whether a caller may pass, and as whom, or why not.
type Decision = Result<Vec<(String, String)>, (u16, String, Option<String>)>;

fn refused(status: u16, answer: &Answer) -> Decision {
    let challenge = answer.head.get("www-authenticate").map(str::to_owned);
    Err((status, answer.reason().to_owned(), challenge))
}

impl Case {
    /// The answer to one that asks; nothing of it is behind us, and one request is counted.
    async fn answers(&self, request: &str) -> Answer {
        let count = || {
            let classes = 0..6;
            let each = classes.map(|class| self.gate.counted(|side| &side.requests[class]));
            (self.gate.workload.count(), each.sum::<u64>())
        };
        let (workload, requests) = count();
        let mut asker = self.gate.asker().await;
        asker.send(request).await;
        let answer = asker.answer().await;
        drop(asker);
        settle().await;
        assert_eq!(count(), (workload, requests + 1), "{request}");
        answer
    }

    /// The decision, told to the proxy that asks.
    async fn verify(&self, request: &str) -> Decision {
        let answer = self.answers(request).await;
        if answer.status == 200 {
            let names = answer.head.fields.iter().map(|(name, _)| &**name);
            let others: Vec<&str> = names
                .filter(|name| !name.starts_with("x-regent-"))
                .collect();
            assert_eq!(
                others,
                ["cache-control", "content-length", "date"],
                "{request}"
            );
            assert_eq!(answer.head.get("cache-control"), Some("no-store"));
            assert!(answer.body.is_empty(), "{request}");
            return Ok(identity(&answer.head));
        }
        refused(answer.status, &answer)
    }

    /// Asked in this way, a proxy is told what its caller would be told here.
    async fn agrees(&self, way: Way, method: &str, target: &str, fields: &[(&str, &str)]) {
        let mut expected = self.forward(method, target, fields).await;
        // There the caller's bytes are the proxy's own.
        let is_own = method.contains(char::is_lowercase) || target.contains('#');
        if let (Way::Envoy, true, Err((status, ..))) = (way, is_own, &mut expected) {
            *status = 400;
        }
        let told = self.verify(&way.asks(method, target, fields)).await;
        assert_eq!(told, expected, "{way:?} {method} {target} {fields:?}");
    }

    /// The decision of the proxy's own way, in the statuses that an asking proxy understands.
    async fn forward(&self, method: &str, target: &str, fields: &[(&str, &str)]) -> Decision {
        let before = self.gate.workload.count();
        let answer = self.gate.ask(request(method, target, fields)).await;
        if answer.status == 200 {
            assert_eq!(self.gate.workload.count(), before + 1);
            return Ok(identity(&self.gate.workload.last().head));
        }
        match answer.status {
            400 | 405 => refused(403, &answer),
            status => refused(status, &answer),
        }
    }
}

#[test]
fn a_caller_gets_the_decision_of_the_proxys_own_way() {
    paused(async {
        let case = case(&World::pipes(), with_rules);
        let good = bearer(&case.home.token());
        let admin = bearer(&case.home.clone().claim("role", "admin").token());
        let now = case.gate.world.clock.unix();
        let expired = case.home.clone().claim("iat", now - 400);
        let expired = bearer(&expired.claim("exp", now - 100).token());
        let refresh = case.home.clone().claim("token_type", "refresh");
        let refresh = bearer(&refresh.token());
        let stranger = bearer(&case.home.clone().claim("iss", "other").token());
        let forged = bearer(&case.home.with_signature([0; 256]));
        let unsafe_name = bearer(&case.home.clone().claim("username", "a\nb").token());
        let basic = "Basic dTpw".to_owned();
        let mut passed = 0;
        let mut seen = Vec::new();
        for token in [
            vec![],
            vec![&good],
            vec![&admin],
            vec![&expired],
            vec![&refresh],
            vec![&stranger],
            vec![&forged],
            vec![&unsafe_name],
            vec![&basic],
            vec![&good, &good],
            vec![&good, &forged],
        ] {
            for (method, target) in [
                ("GET", "/"),
                ("POST", "/orders?x=/public"),
                ("GET", "/public/x"),
                ("POST", "/public"),
                ("GET", "/healthz"),
                ("POST", "/healthz"),
                ("GET", "/admin/x?y"),
                ("GET", "/%61dmin"),
                ("GET", "/administrator"),
                ("DELETE", "/things/7"),
                ("PATCH", "/things/7"),
                ("PROPFIND", "/things"),
                ("get", "/healthz"),
                ("TRACE", "/public"),
                ("GET", "//evil.example/public"),
                ("GET", "/public/../admin"),
                ("GET", "/public/%2e%2e/admin"),
                ("GET", "/public/..;/admin"),
                ("GET", "/healthz;x"),
                ("GET", "/public%2f..%2fadmin"),
                ("GET", "/public\\..\\admin"),
                ("GET", "/a//b"),
                ("GET", "/verify"),
                ("GET", "/verify/x"),
                ("GET", "/%E4%B8%9C"),
            ] {
                let spoof = [
                    ("X-Regent-User", "mallory"),
                    ("x_regent_user", "mallory"),
                    ("X-Regent-Issuer", "home"),
                ];
                let tokens = token.iter().map(|value| ("Authorization", value.as_str()));
                let fields: Vec<_> = tokens.chain(spoof).collect();
                for way in WAYS {
                    case.agrees(way, method, target, &fields).await;
                }
                match case.forward(method, target, &fields).await {
                    Ok(_) => passed += 1,
                    Err((_, reason, _)) => seen.push(reason),
                }
            }
        }
        seen.sort();
        seen.dedup();
        assert!(passed > 30 && seen.len() >= 11, "{passed} {seen:?}");
    });
}

#[test]
fn no_spelling_of_a_path_is_judged_in_another_way() {
    let runtime = regent::app::local_runtime().expect("a runtime");
    let case = runtime.block_on(async { case(&World::pipes(), with_rules) });
    let good = bearer(&case.home.token());
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(600)
    });
    let piece = select(vec![
        "/",
        "/",
        "public",
        "admin",
        "healthz",
        "verify",
        "..",
        ".",
        "%2e",
        "%2f",
        "\\",
        "%5c",
        ";",
        ";x=1",
        "%3b",
        "?",
        "#",
        "%23",
        "%3f",
        "%00",
        "%25",
        "x",
        "%70ublic",
        "%c0%ae",
        "%",
        "*",
        "http://a/",
        ",",
        "é",
    ]);
    let outcome = runner.run(
        &(vec(piece, 0..9), select(WAYS.to_vec())),
        |(pieces, way)| {
            let target = format!("/{}", pieces.concat());
            runtime.block_on(async {
                for fields in [&[][..], &[("Authorization", &*good)]] {
                    case.agrees(way, "GET", &target, fields).await;
                }
            });
            Ok(())
        },
    );
    outcome.expect("the same decision");
}

#[test]
fn what_was_asked_for_is_told_once_and_whole() {
    paused(async {
        let case = case(&World::pipes(), with_rules);
        let uri = ("X-Original-URI", "/public");
        let url = ("X-Original-URL", "/public");
        let method = ("X-Original-Method", "GET");
        let their_uri = ("X-Forwarded-Uri", "/public");
        let their_method = ("X-Forwarded-Method", "GET");
        let ours = [uri, method, their_uri, their_method];
        assert_eq!(case.verify(&get("/verify", &ours)).await, Ok(vec![]));
        for (path, fields) in [
            // Nothing, or half of it.
            ("/verify", vec![]),
            ("/verify?/public", vec![]),
            ("/verify", vec![uri]),
            ("/verify", vec![method]),
            ("/verify", vec![their_uri]),
            ("/verify", vec![their_method]),
            ("/verify", vec![uri, their_method]),
            ("/verify", vec![their_uri, method]),
            ("/verify", vec![uri, method, their_uri]),
            ("/verify", vec![their_uri, their_method, method]),
            // Other names.
            ("/verify", vec![("X_Original_URI", "/public"), method]),
            ("/verify", vec![("X-Rewrite-Url", "/public"), method]),
            (
                "/verify",
                vec![("X-Forwarded-Path", "/public"), their_method],
            ),
            // Twice.
            ("/verify", vec![uri, uri, method]),
            ("/verify", vec![uri, url, method]),
            ("/verify", vec![uri, method, method]),
            ("/verify", vec![their_uri, their_uri, their_method]),
            // Two things.
            (
                "/verify",
                vec![uri, method, ("X-Forwarded-Uri", "/admin"), their_method],
            ),
            (
                "/verify",
                vec![uri, method, their_uri, ("X-Forwarded-Method", "POST")],
            ),
            (
                "/verify",
                vec![
                    ("X-Original-URI", "/admin"),
                    method,
                    their_uri,
                    their_method,
                ],
            ),
            // In two places: the slash may be one too many.
            ("/verify/", vec![uri, method]),
            ("/verify/public", vec![uri, method]),
            ("/verify/public", vec![their_uri, their_method]),
            ("/verify/public", ours.to_vec()),
        ] {
            let told = case.verify(&get(path, &fields)).await;
            let told = told.map_err(|(status, reason, _)| (status, reason));
            let expected = Err((400, "bad_request".to_owned()));
            assert_eq!(told, expected, "{path} {fields:?}");
        }
        let answer = case.answers(&get("/verify", &[])).await;
        for name in ["X-Original-URI", "X-Original-Method", "X-Forwarded-Uri"] {
            assert!(answer.text().contains(name), "{}", answer.text());
        }
    });
}

#[test]
fn what_is_no_target_or_method_is_a_no() {
    paused(async {
        let case = case(&World::pipes(), with_rules);
        let good = bearer(&case.home.token());
        for (uri, method) in [
            ("", "GET"),
            ("public", "GET"),
            ("?/public", "GET"),
            ("/public /admin", "GET"),
            ("/public, /public", "GET"),
            ("svc.example/public", "GET"),
            ("ftp://svc.example/public", "GET"),
            ("http:/public", "GET"),
            ("http:///public", "GET"),
            ("https://svc.example", "GET"),
            ("https://svc.example?/public", "GET"),
            // The caller's Host, before a path that is another one.
            ("http://svc.example?/public", "GET"),
            ("http://svc.example#/public", "GET"),
            ("/public HTTP/1.1", "GET"),
            ("/public", "get"),
            ("http://svc.example\\/public", "GET"),
            ("http://u@svc.example/public", "GET"),
            ("http://svc.example:x/public", "GET"),
            ("/public", ""),
            ("/public", "GET, POST"),
            ("/public", "GET POST"),
            ("/public", "G\u{e9}T"),
            ("*", "GET"),
        ] {
            let fields = [
                ("X-Original-URI", uri),
                ("X-Original-Method", method),
                ("Authorization", &*good),
            ];
            let told = case.verify(&get("/verify", &fields)).await;
            let told = told.map_err(|(status, reason, _)| (status, reason));
            let expected = Err((403, "bad_request".to_owned()));
            assert_eq!(told, expected, "{uri:?} {method:?}");
        }
    });
}

#[test]
fn nothing_else_is_served_there() {
    paused(async {
        let case = case(&World::pipes(), with_rules);
        let good = bearer(&case.home.token());
        let fields = [
            ("Authorization", &*good),
            ("X-Original-URI", "/public"),
            ("X-Original-Method", "GET"),
        ];
        for path in [
            "/",
            "/verifyx",
            "/Verify",
            "/x/verify",
            "/%76erify",
            "//verify",
            "/public",
        ] {
            let told = case.verify(&get(path, &fields)).await;
            let expected = Err((404, "no_route".to_owned(), None));
            assert_eq!(told, expected, "{path}");
        }
        let no_host = "GET /verify/public HTTP/1.1\r\n\r\n";
        let told = case.verify(no_host).await;
        assert_eq!(told, Err((400, "bad_request".to_owned(), None)));
    });
}

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
fn a_connection_asks_again_and_again() {
    paused(async {
        let case = case(&World::pipes(), with_rules);
        let good = bearer(&case.home.token());
        let mut asker = case.gate.asker().await;
        for _ in 0..3 {
            for way in WAYS {
                assert_eq!(asker.ask(&way.asks("GET", "/", &[])).await.status, 401);
                let fields = [("Authorization", &*good)];
                let answer = asker.ask(&way.asks("GET", "/", &fields)).await;
                assert_eq!((answer.status, identity(&answer.head)), (200, alice()));
            }
        }
        let open = || case.gate.counted(|side| &side.connections);
        assert_eq!(open(), 1);
        let _caller = case.gate.caller().await;
        settle().await;
        assert_eq!(open(), 2, "both listeners are of one side");
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

#[test]
fn the_mark_of_a_loop_plays_no_part() {
    paused(async {
        let case = case(&World::pipes(), with_rules);
        let good = bearer(&case.home.token());
        let authorization = ("Authorization", &*good);
        let seen = case.gate.passes(get("/", &[authorization])).await;
        let hop = seen.head.get("x-regent-hop").expect("a mark").to_owned();
        let fields = [authorization, ("X-Regent-Hop", &*hop)];
        case.gate
            .refuses(get("/", &fields), Reason::LoopDetected)
            .await;
        for way in WAYS {
            let told = case.verify(&way.asks("GET", "/", &fields)).await;
            assert_eq!(told, Ok(alice()), "{way:?}");
        }
    });
}

#[test]
fn what_a_proxy_tells_there_is_not_believed_where_callers_come() {
    paused(async {
        let case = case(&World::pipes(), with_rules);
        let good = bearer(&case.home.token());
        let names = [
            "X-Original-URI",
            "X-Original-URL",
            "X-Original-Method",
            "X-Forwarded-Uri",
            "X-Forwarded-Method",
            "x_original_uri",
            "X-Rewrite-URL",
        ];
        let spoof: Vec<(&str, &str)> = (names.iter())
            .map(|name| {
                (
                    *name,
                    if name.ends_with("ethod") {
                        "GET"
                    } else {
                        "/public"
                    },
                )
            })
            .collect();
        for (method, target, token, reason) in [
            ("GET", "/", None, Reason::MissingToken),
            ("POST", "/healthz", None, Reason::MissingToken),
            ("GET", "/admin", Some(&good), Reason::ClaimsNotMet),
            ("DELETE", "/things", Some(&good), Reason::ClaimsNotMet),
            ("GET", "/verify", None, Reason::MissingToken),
            ("GET", "/verify/public", None, Reason::MissingToken),
        ] {
            let token = token.map(|token| ("Authorization", &**token));
            let fields: Vec<_> = spoof.iter().copied().chain(token).collect();
            case.gate
                .refuses(request(method, target, &fields), reason)
                .await;
        }
        let fields = [&spoof[..], &[("Authorization", &*good)]].concat();
        let seen = case.gate.passes(get("/orders", &fields)).await;
        assert_eq!(
            (seen.head.target(), identity(&seen.head)),
            ("/orders", alice())
        );
        for name in names {
            assert!(!seen.head.has(&name.to_lowercase()), "{name}");
        }
    });
}

#[test]
fn it_needs_no_proxy_beside_it() {
    paused(async {
        let world = World::pipes();
        let setup = Setup::bare(&world, "http://127.0.0.1:1").forward_auth_alone();
        let file = setup.file("home.pem", &crate::signer::KEYS.rsa.pem());
        let keys = format!(
            "issuer = '{}'\npublic_key_file = '{}'",
            crate::world::HOME,
            file.display()
        );
        let setup = setup.issuer("home", keys);
        let case = Case {
            gate: setup.start(std::rc::Rc::default()),
            home: Forge::home(world.clock.unix()),
        };
        let good = bearer(&case.home.token());
        for way in WAYS {
            let asks = way.asks("GET", "/x", &[("Authorization", &good)]);
            assert_eq!(case.verify(&asks).await, Ok(alice()));
        }
        assert_eq!(case.gate.probe("/readyz").await.0, 200);
        assert_eq!(case.gate.probe("/startupz").await.0, 200);

        let admins = setup
            .clone()
            .rule("path = '/x', claims = { role = ['admin'] }");
        case.gate.reload(&admins).await;
        let asks = Way::Nginx.asks("GET", "/x", &[("Authorization", &good)]);
        let told = case.verify(&asks).await;
        assert!(told.is_err_and(|(_, reason, _)| reason == "claims_not_met"));
        // It is bound for good.
        let moved = setup.forward_auth_alone();
        let problems = case.gate.remote.reload(moved.loaded()).await;
        let problems = problems.expect_err("a listener cannot move");
        assert!(
            problems[0]
                .to_string()
                .contains("inbound.forward_auth.listen"),
            "{problems:?}"
        );
    });
}

#[test]
fn every_data_thread_is_asked() {
    real(async {
        let world = World::sockets();
        let workload = Upstream::bind(&world);
        let setup = Setup::new(&world, workload.at).forward_auth();
        let threads = setup
            .set("threads=2")
            .start_threads(workload.serve(say_identity));
        let gate = &threads.gate;
        let good = bearer(&Forge::home(world.clock.unix()).token());
        let busy = || {
            let threads = gate.remote.counters.iter();
            let side = threads.map(|counters| counters.of(Side::Inbound));
            side.filter(|side| side.requests[2].load(Relaxed) > 0)
                .count()
        };
        let mut askers = Vec::new();
        while busy() < 2 {
            assert!(askers.len() < 1000, "one thread has them all");
            let mut asker = gate.asker().await;
            for way in WAYS {
                let asks = way.asks("GET", "/", &[("Authorization", &good)]);
                assert_eq!(identity(&asker.ask(&asks).await.head), alice());
                assert_eq!(asker.ask(&way.asks("GET", "/", &[])).await.status, 401);
            }
            askers.push(asker);
        }
    });
}
