//! Another proxy asks whether its caller may pass, in the ways of nginx, Traefik and Envoy: it is told
//! what the proxy of the inbound side would do.

use std::sync::atomic::Ordering::Relaxed;

use proptest::collection::vec;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use regent::reason::Reason;
use regent::telemetry::counters::Side;

use crate::forge::Forge;
use crate::gate::*;

mod answers;
mod telling;

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
