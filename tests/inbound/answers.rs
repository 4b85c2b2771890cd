//! How refusals look to gRPC callers, to callers that are told nothing, to large uploads, and what
//! comes of a workload that is away.

use std::rc::Rc;
use std::time::Duration;

use regent::net::{Accept, Listener, Net as _, System};
use regent::reason::Reason;
use tokio::time::Instant;

use crate::forge::Forge;
use crate::gate::*;

struct Case {
    gate: Gate,
    home: Forge,
}

fn case(world: &World, change: impl FnOnce(Setup) -> Setup) -> Case {
    let workload = Upstream::bind(world);
    let setup = change(Setup::new(world, workload.at));
    Case {
        gate: setup.start(workload.serve(say_identity)),
        home: Forge::home(world.clock.unix()),
    }
}

#[test]
fn a_shadow_lets_everything_pass_and_says_nothing_of_who_calls() {
    paused(async {
        let case = case(&World::pipes(), |setup| {
            setup
                .line("insecure_shadow_mode = true")
                .line("authorization = 'forward'")
                .rule("path = '/admin', claims = { role = ['admin'] }")
        });
        let good = bearer(&case.home.token());
        let bad = bearer(&case.home.with_signature([0; 256]));
        let spoof = ("X-Regent-User", "mallory");
        let under = ("x_regent_user_id", "1");
        for (path, fields, reason) in [
            ("/", vec![spoof, under], Reason::MissingToken),
            (
                "/",
                vec![spoof, ("Authorization", "Basic dTpw")],
                Reason::UnsupportedScheme,
            ),
            (
                "/",
                vec![spoof, under, ("Authorization", &*bad)],
                Reason::BadSignature,
            ),
            (
                "/",
                vec![spoof, ("Authorization", &*good), ("Authorization", &*bad)],
                Reason::MultipleTokens,
            ),
            (
                "/admin",
                vec![spoof, ("Authorization", &*good)],
                Reason::ClaimsNotMet,
            ),
            (
                "/public/../admin",
                vec![spoof, ("Authorization", &*good)],
                Reason::AmbiguousPath,
            ),
        ] {
            let before = case.gate.shadowed(reason);
            let seen = case.gate.passes(get(path, &fields)).await.head;
            assert!(identity(&seen).is_empty(), "{reason:?}: {seen:?}");
            assert!(!seen.has("authorization"), "{reason:?}");
            assert_eq!(case.gate.shadowed(reason), before + 1, "{reason:?}");
        }
        let seen = case.gate.passes(get("/", &[("Authorization", &good)]));
        let seen = seen.await.head;
        assert_eq!(identity(&seen), alice());
        assert_eq!(seen.get("authorization"), Some(&*good));
        let metrics = case.gate.admin("/metrics").await.text();
        for (reason, count) in [("bad_signature", 1), ("missing_token", 1), ("expired", 0)] {
            let line = metrics.lines().find(|line| {
                line.starts_with("regent_refused_total{")
                    && line.contains("side=\"inbound\"")
                    && line.contains(&format!("reason=\"{reason}\""))
                    && line.contains("enforced=\"false\"")
            });
            let told = line.and_then(|line| line.rsplit(' ').next());
            let told = told.and_then(|text| text.parse::<u64>().ok());
            assert_eq!(told.unwrap_or(0), count, "{reason}: {line:?}");
        }
    });
}

#[test]
fn a_shadow_still_keeps_what_is_no_request_out() {
    paused(async {
        let shadow = |setup: Setup| setup.line("insecure_shadow_mode = true");
        let case = case(&World::pipes(), shadow);
        for (request, status) in [
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
            (request("TRACE", "/", &[]), 405),
            (get("//evil.example/", &[]), 400),
        ] {
            let before = case.gate.workload.count();
            assert_eq!(case.gate.ask(&request).await.status, status, "{request}");
            assert_eq!(case.gate.workload.count(), before, "{request}");
        }
    });
}

#[test]
fn reasons_can_be_kept_from_callers() {
    paused(async {
        let case = case(&World::pipes(), |setup| {
            setup
                .line("reveal_reasons = false")
                .rule("path = '/admin', claims = { role = ['admin'] }")
        });
        let now = case.gate.world.clock.unix();
        let good = bearer(&case.home.token());
        let expired = case.home.clone().claim("exp", now - 100);
        let expired = bearer(&expired.claim("iat", now - 400).token());
        let forged = bearer(&case.home.with_signature([0; 256]));
        let stranger = bearer(&case.home.clone().claim("iss", "other").token());
        let two = [("Authorization", &*good), ("Authorization", &*good)];
        let realm = "Bearer realm=\"regent\"";
        let invalid = format!("{realm}, error=\"invalid_token\"");
        for (path, fields, reason, challenge) in [
            ("/", &[][..], Reason::MissingToken, realm.to_owned()),
            (
                "/",
                &[("Authorization", &*expired)],
                Reason::Expired,
                invalid.clone(),
            ),
            (
                "/",
                &[("Authorization", &*forged)],
                Reason::BadSignature,
                invalid.clone(),
            ),
            (
                "/",
                &[("Authorization", &*stranger)],
                Reason::UnknownIssuer,
                invalid,
            ),
            (
                "/",
                &two,
                Reason::MultipleTokens,
                format!("{realm}, error=\"invalid_request\""),
            ),
            (
                "/admin",
                &two[..1],
                Reason::ClaimsNotMet,
                format!("{realm}, error=\"insufficient_scope\""),
            ),
            ("/a//b", &two[..1], Reason::AmbiguousPath, String::new()),
        ] {
            let before = case.gate.refused(reason);
            let answer = case.gate.ask(get(path, fields)).await;
            assert_eq!(answer.status, reason.status().as_u16());
            let told = answer.head.get("www-authenticate").unwrap_or_default();
            assert_eq!(told, challenge);
            assert_eq!(case.gate.refused(reason), before + 1);
            let all = format!(
                "{:?} {}",
                answer.head,
                String::from_utf8_lossy(&answer.body)
            );
            for reason in Reason::ALL {
                assert!(!all.contains(reason.word()), "{all}");
                assert!(
                    !all.contains(reason.title()) || reason.title() == "Bad request",
                    "{all}"
                );
            }
        }
        assert_eq!(case.gate.workload.count(), 0);
    });
}

#[test]
fn a_grpc_caller_is_refused_in_its_own_words() {
    paused(async {
        let case = case(&World::pipes(), |setup| {
            setup.rule("path = '/pkg.Admin', claims = { role = ['admin'] }")
        });
        let good = bearer(&case.home.token());
        let bad = bearer(&case.home.with_signature([0; 256]));
        let kind = ("Content-Type", "application/grpc+proto");
        let length = ("Content-Length", "5");
        for (path, token, status, word) in [
            ("/pkg.Users/Get", None, "16", "missing_token"),
            ("/pkg.Users/Get", Some(&bad), "16", "bad_signature"),
            ("/pkg.Admin/Get", Some(&good), "7", "claims_not_met"),
            ("/pkg.Admin/../Get", Some(&good), "13", "ambiguous_path"),
        ] {
            let mut fields = vec![kind, length, ("TE", "trailers")];
            fields.extend(token.map(|token| ("Authorization", &**token)));
            let answer = case
                .gate
                .ask(request("POST", path, &fields) + "\0\0\0\0\0")
                .await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.head.get("grpc-status"), Some(status), "{word}");
            assert_eq!(answer.head.get("grpc-message"), Some(word));
            assert_eq!(answer.head.get("content-type"), Some("application/grpc"));
            let details = format!("regent; details=\"{word}\"");
            assert_eq!(answer.head.get("proxy-status"), Some(&*details));
            assert!(answer.body.is_empty());
        }
        assert_eq!(case.gate.workload.count(), 0);
        let fields = [kind, length, ("Authorization", &*good)];
        let seen = case
            .gate
            .passes(request("POST", "/pkg.Users/Get", &fields) + "\0\0\0\0\0");
        assert_eq!(identity(&seen.await.head), alice());
    });
}

#[test]
fn a_refused_upload_is_answered_before_it_is_sent() {
    real(async {
        let case = case(&World::sockets(), |setup| setup);
        let bad = bearer(&case.home.with_signature([0; 256]));
        let good = bearer(&case.home.token());
        for (token, reason) in [(Some(&bad), "bad_signature"), (None, "missing_token")] {
            let mut fields = vec![("Content-Length", "100000000"), ("Expect", "100-continue")];
            fields.extend(token.map(|token| ("Authorization", &**token)));
            let mut caller = case.gate.caller().await;
            let began = Instant::now();
            caller.send(request("POST", "/", &fields)).await;
            // The first words are the refusal, not a 100.
            let answer = caller.answer().await;
            assert_eq!((answer.status, answer.reason()), (401, reason));
            assert_eq!(answer.head.get("connection"), Some("close"));
            // Whoever sends all the same still gets to read it, and the connection ends.
            let _ = caller.try_send(vec![b'x'; 100_000]).await;
            caller.finish().await;
            caller.expect_end().await;
            assert!(began.elapsed() < Duration::from_secs(3));
        }
        // Without Expect, into a body that already comes.
        let fields = [("Content-Length", "1000000"), ("Authorization", &*bad)];
        let mut caller = case.gate.caller().await;
        caller.send(request("POST", "/", &fields)).await;
        let _ = caller.try_send(vec![b'x'; 50_000]).await;
        let answer = caller.answer().await;
        assert_eq!((answer.status, answer.reason()), (401, "bad_signature"));
        assert_eq!(case.gate.workload.bytes.get(), 0);
        // The positive twin is asked for its body.
        let fields = [
            ("Content-Length", "2"),
            ("Expect", "100-continue"),
            ("Authorization", &*good),
        ];
        let mut caller = case.gate.caller().await;
        caller.send(request("POST", "/", &fields)).await;
        assert_eq!(caller.answer().await.status, 100);
        caller.send("hi").await;
        assert_eq!(caller.answer().await.status, 200);
        let seen = case.gate.workload.last();
        assert_eq!(seen.body, b"hi");
        assert!(!seen.head.has("expect"));
    });
}

#[test]
fn a_refusal_keeps_the_connection_where_nothing_is_left_unread() {
    paused(async {
        let case = case(&World::pipes(), |setup| setup);
        let good = bearer(&case.home.token());
        let mut caller = case.gate.caller().await;
        for _ in 0..3 {
            assert_eq!(caller.ask(&get("/", &[])).await.status, 401);
            let answer = caller.ask(&get("/", &[("Authorization", &good)])).await;
            assert_eq!(answer.status, 200);
        }
    });
}

#[test]
fn a_refusal_of_a_head_request_has_no_body() {
    paused(async {
        let case = case(&World::pipes(), |setup| setup);
        let good = bearer(&case.home.token());
        let mut caller = case.gate.caller().await;
        caller.send(request("HEAD", "/", &[])).await;
        let head = caller.head().await.expect("an answer");
        assert!(head.line.contains(" 401 "), "{head:?}");
        assert_eq!(
            head.get("www-authenticate"),
            Some("Bearer realm=\"regent\"")
        );
        assert_eq!(
            head.get("proxy-status"),
            Some("regent; details=\"missing_token\"")
        );
        let answer = caller.ask(&get("/", &[("Authorization", &good)])).await;
        assert_eq!(answer.status, 200, "nothing stood between");
    });
}

#[test]
fn a_workload_that_is_away_is_unreachable() {
    real(async {
        let world = World::sockets();
        let workload = Upstream::bind(&world);
        let setup = Setup::new(&world, workload.at);
        drop(workload);
        let gate = setup.start(Rc::default());
        let good = bearer(&Forge::home(world.clock.unix()).token());
        let request = get("/", &[("Authorization", &good)]);
        let told = gate.refuses(&request, Reason::UpstreamUnreachable).await;
        assert!(!told.text().contains("127.0.0.1"), "{}", told.text());
        // It says nothing to those who may not know.
        gate.refuses(get("/", &[]), Reason::MissingToken).await;
        let failed = |reason: Reason| gate.counted(|side| &side.upstream_failures[reason as usize]);
        assert_eq!(failed(Reason::UpstreamUnreachable), 1);
    });
}

#[test]
fn a_workload_may_listen_on_a_unix_socket() {
    real(async {
        let world = World::sockets();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("workload.sock");
        let listen = regent::config::Listen::Unix {
            path: path.clone(),
            mode: 0o600,
        };
        let upstream = format!("unix:{}", path.display());
        let with_home = Setup::new(&world, "127.0.0.1:1".parse().expect("an address"));
        let gate = with_home.upstream(&upstream).start(Rc::default());
        let good = bearer(&Forge::home(world.clock.unix()).token());
        let request = get("/x?y", &[("Authorization", &good)]);
        gate.refuses(&request, Reason::UpstreamUnreachable).await;
        let mut accept: Accept = System
            .bind(&listen)
            .and_then(Listener::start)
            .expect("a socket");
        let mut caller = gate.caller().await;
        caller.send(&request).await;
        let mut behind = Peer::new(accept.accept().await.expect("a connection"));
        let seen = behind.request().await.expect("a request").head;
        assert_eq!(seen.line, "GET /x?y HTTP/1.1");
        assert_eq!(seen.get("host"), Some("svc.example"));
        assert_eq!(identity(&seen), alice());
        behind.send(ok("over a file")).await;
        assert_eq!(caller.answer().await.text(), "over a file");
        // The caller's next request takes the same connection.
        caller.send(&request).await;
        behind.request().await.expect("a request");
        behind.send(ok("again")).await;
        assert_eq!(caller.answer().await.text(), "again");
    });
}

#[test]
fn answers_of_the_workload_pass_as_they_are() {
    paused(async {
        let world = World::pipes();
        let workload = Upstream::bind(&world);
        let setup = Setup::new(&world, workload.at);
        let gate = setup.start(workload.serve(|_| {
            let fields = [
                ("www-authenticate", "Basic realm=\"mine\""),
                ("set-cookie", "a=b"),
                ("proxy-authenticate", "Basic"),
            ];
            answer(401, &fields, "its own")
        }));
        let good = bearer(&Forge::home(world.clock.unix()).token());
        let answer = gate.ask(get("/", &[("Authorization", &good)])).await;
        assert_eq!((answer.status, answer.text().as_str()), (401, "its own"));
        let challenge = answer.head.get("www-authenticate");
        assert_eq!(challenge, Some("Basic realm=\"mine\""));
        assert!(answer.head.has("set-cookie"));
        assert!(!answer.head.has("proxy-status"));
        assert_eq!(gate.refused_in_all(), 0);
    });
}
