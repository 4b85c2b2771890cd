//! What the workload is told of a caller, and what it is not (cases.md, I08 to I13).

use std::collections::BTreeSet;

use crate::forge::Forge;
use crate::gate::*;

struct Case {
    world: World,
    gate: Gate,
    good: String,
}

fn case(change: impl FnOnce(Setup) -> Setup) -> Case {
    let world = World::pipes();
    let workload = Upstream::bind(&world);
    let setup = Setup::new(&world, workload.at).rule("path = '/open', anonymous = true");
    let gate = change(setup).start(workload.serve(say_identity));
    let good = Forge::home(world.clock.unix()).token();
    Case { world, gate, good }
}

impl Case {
    async fn seen(&self, path: &str, fields: &[(&str, &str)]) -> Received {
        let value = bearer(&self.good);
        let mut all = vec![("Authorization", &*value)];
        all.extend(fields);
        self.gate.passes(get(path, &all)).await
    }
}

#[test]
fn a_verified_caller_arrives_by_name_and_without_its_token() {
    paused(async {
        let case = case(|setup| setup);
        let seen = case.seen("/a/b?c=%20d&e", &[("Accept", "x"), ("X-Own", "y")]);
        let seen = seen.await.head;
        assert_eq!(seen.line, "GET /a/b?c=%20d&e HTTP/1.1");
        assert_eq!(identity(&seen), alice());
        assert!(!seen.has("authorization"));
        assert_eq!(seen.get("host"), Some("svc.example"));
        assert_eq!(seen.get("accept"), Some("x"));
        assert_eq!(seen.get("x-own"), Some("y"));
        assert_eq!(seen.get("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(seen.get("x-request-id").map(str::len), Some(32));
        assert!(seen.get("x-regent-hop").is_some_and(|hop| hop.len() > 8));
        let names: BTreeSet<&str> = seen.fields.iter().map(|(name, _)| &**name).collect();
        let expected = [
            "accept",
            "host",
            "x-forwarded-for",
            "x-own",
            "x-regent-hop",
            "x-regent-issuer",
            "x-regent-user",
            "x-regent-user-id",
            "x-request-id",
        ];
        assert_eq!(names, BTreeSet::from(expected));
    });
}

#[test]
fn a_verified_header_passes_where_the_config_says_so_and_no_other() {
    paused(async {
        let case = case(|setup| setup.line("authorization = 'forward'"));
        let seen = case.seen("/", &[]).await.head;
        assert_eq!(seen.get("authorization"), Some(&*bearer(&case.good)));
        let seen = case.seen("/open", &[]).await.head;
        assert_eq!(seen.get("authorization"), Some(&*bearer(&case.good)));
        for value in ["Basic dTpw", "Negotiate x"] {
            let request = get("/open", &[("Authorization", value)]);
            let seen = case.gate.passes(request).await.head;
            assert!(!seen.has("authorization"), "{value}");
            assert!(identity(&seen).is_empty());
        }
        let seen = case.gate.passes(get("/open", &[])).await.head;
        assert!(!seen.has("authorization"));
    });
}

#[test]
fn who_called_is_appended_and_what_was_made_up_is_removed() {
    paused(async {
        let case = case(|setup| setup);
        let fields = [
            ("X-Forwarded-For", "203.0.113.9"),
            ("X-Forwarded-For", "198.51.100.1, 10.0.0.1"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "public.example"),
            ("X-Real-IP", "1.1.1.1"),
            ("Forwarded", "for=1.1.1.1"),
            ("X-Original-URL", "/open"),
            ("X-Rewrite-URL", "/open"),
            ("X-Forwarded-Uri", "/open"),
            ("X-Forwarded-Prefix", "/open"),
            ("X-Forwarded-Port", "1"),
            ("X-Forwarded-User", "mallory"),
            ("X-Forwarded-Method", "GET"),
            ("X-Forwarded-Access-Token", "x"),
        ];
        for path in ["/", "/open"] {
            let seen = case.seen(path, &fields).await.head;
            assert_eq!(
                seen.get("x-forwarded-for"),
                Some("203.0.113.9, 198.51.100.1, 10.0.0.1, 127.0.0.1")
            );
            assert_eq!(seen.get("x-forwarded-proto"), Some("https"));
            assert_eq!(seen.get("x-forwarded-host"), Some("public.example"));
            let passed: Vec<_> = (seen.fields.iter())
                .map(|(name, _)| &**name)
                .filter(|name| {
                    let is_one = name.starts_with("x-forwarded-") || name.contains("forwarded");
                    is_one || ["x-real-ip", "x-original-url", "x-rewrite-url"].contains(name)
                })
                .collect();
            assert_eq!(passed.len(), 3, "{passed:?}");
        }
    });
}

#[test]
fn a_request_id_passes_or_is_made() {
    paused(async {
        let case = case(|setup| setup);
        let seen = case.seen("/", &[("X-Request-Id", "mine")]).await.head;
        assert_eq!(seen.get("x-request-id"), Some("mine"));
        let mut made = BTreeSet::new();
        for _ in 0..20 {
            let seen = case.seen("/", &[]).await.head;
            made.insert(seen.get("x-request-id").expect("one").to_owned());
        }
        assert_eq!(made.len(), 20);
        // Nobody can have it taken away.
        let named = [("Connection", "x-request-id"), ("X-Request-Id", "mine")];
        assert!(case.seen("/", &named).await.head.has("x-request-id"));
    });
}

#[test]
fn a_request_that_has_been_here_is_a_loop() {
    paused(async {
        let case = case(|setup| setup);
        let first = case.seen("/", &[]).await.head;
        let hop = first.get("x-regent-hop").expect("a mark");
        let value = bearer(&case.good);
        let again = get("/", &[("Authorization", &value), ("X-Regent-Hop", hop)]);
        let reason = regent::reason::Reason::LoopDetected;
        case.gate.refuses(again, reason).await;
        let other = case.seen("/", &[("X-Regent-Hop", "another")]).await.head;
        assert_eq!(other.all("x-regent-hop"), ["another", hop]);
    });
}

#[test]
fn headers_are_the_claims_that_the_config_names() {
    paused(async {
        let case = case(|setup| {
            setup.line(
                "identity_headers = { X-WebAuth-User = 'username', x-roles = '/realm/roles', \
                 x-level = 'level', x-staff = 'staff' }",
            )
        });
        let forge = Forge::home(case.world.clock.unix())
            .claim("username", "Jürgen Œuvre")
            .claim("realm", serde_json::json!({ "roles": ["a", "b"] }))
            .claim("level", 7)
            .claim("hash_password", "secret-digest");
        let request = get(
            "/",
            &[
                ("Authorization", &bearer(&forge.token())),
                ("X_WEBAUTH_USER", "mallory"),
                ("x-webauth-user", "mallory"),
                ("X-Staff", "true"),
                ("X.Roles", "root"),
            ],
        );
        let seen = case.gate.passes(request).await.head;
        assert_eq!(seen.get("x-webauth-user"), Some("Jürgen Œuvre"));
        assert_eq!(seen.get("x-roles"), Some("a,b"));
        assert_eq!(seen.get("x-level"), Some("7"));
        assert_eq!(seen.get("x-regent-issuer"), Some("home"));
        for absent in ["x-staff", "x_webauth_user", "x.roles", "x-regent-user"] {
            assert!(!seen.has(absent), "{absent}");
        }
        assert!(!format!("{seen:?}").contains("secret-digest"));
        assert!(!format!("{seen:?}").contains("mallory"));
    });
}

#[test]
fn a_claim_that_is_no_header_value_is_refused_whole() {
    use regent::reason::Reason;
    paused(async {
        let case = case(|setup| setup);
        let home = Forge::home(case.world.clock.unix());
        for name in [
            "a\r\nX-Regent-User-Id: 2",
            "a\nb",
            "a\u{0}",
            "a\u{202e}b",
            " alice",
            "alice\t",
            "home:alice",
            &"x".repeat(5000),
        ] {
            let token = home.clone().claim("username", name).token();
            let attack = get("/", &[("Authorization", &bearer(&token))]);
            case.gate.refuses(attack, Reason::UnsafeClaim).await;
        }
        for name in [serde_json::json!({}), serde_json::json!([["a"]])] {
            let token = home.clone().claim("username", name).token();
            let attack = get("/open", &[("Authorization", &bearer(&token))]);
            case.gate.refuses(attack, Reason::UnsafeClaim).await;
        }
        // Nothing to say is not said.
        let token = home.without("username").token();
        let request = get("/", &[("Authorization", &bearer(&token))]);
        let seen = case.gate.passes(request).await.head;
        assert!(!seen.has("x-regent-user"));
        assert_eq!(seen.get("x-regent-user-id"), Some("1"));
    });
}
