//! What paths need: the longest rule, methods, claims.

use regent::reason::Reason;
use serde_json::{Value, json};

use crate::forge::Forge;
use crate::gate::*;

struct Case {
    gate: Gate,
    home: Forge,
}

fn case(rules: &[&str]) -> Case {
    let world = World::pipes();
    let workload = Upstream::bind(&world);
    let setup = Setup::new(&world, workload.at);
    let setup = (rules.iter()).fold(setup, |setup, rule| setup.rule(rule));
    Case {
        gate: setup.start(workload.serve(say_identity)),
        home: Forge::home(world.clock.unix()),
    }
}

impl Case {
    async fn status(&self, method: &str, target: &str, claims: &[(&str, Value)]) -> u16 {
        let forge = self.home.clone();
        let forge = (claims.iter()).fold(forge, |forge, (name, value)| {
            forge.claim(name, value.clone())
        });
        let value = bearer(&forge.token());
        self.head(method, target, &[("Authorization", &value)])
            .await
    }

    async fn without(&self, method: &str, target: &str) -> u16 {
        self.head(method, target, &[]).await
    }

    async fn head(&self, method: &str, target: &str, fields: &[(&str, &str)]) -> u16 {
        let mut caller = self.gate.caller().await;
        caller.send(request(method, target, fields)).await;
        let head = caller.head().await.expect("an answer");
        let status = head.line.split(' ').nth(1);
        status.and_then(|text| text.parse().ok()).expect("a status")
    }
}

#[test]
fn the_longest_rule_wins_and_no_rule_means_a_token() {
    paused(async {
        let case = case(&[
            "path = '/open', anonymous = true",
            "path = '/open/closed'",
            "path = '/open/closed/exactly', exact = true, anonymous = true",
            "path = '/admin', claims = { role = ['admin', 'root'] }",
            "path = '/admin/any'",
        ]);
        for (path, without, user, admin) in [
            ("/", 401, 200, 200),
            ("/open", 200, 200, 200),
            ("/open/", 200, 200, 200),
            ("/open/x?y", 200, 200, 200),
            ("/opener", 401, 200, 200),
            ("/OPEN", 401, 200, 200),
            ("/open/closed", 401, 200, 200),
            ("/open/closed/x", 401, 200, 200),
            ("/open/closedx", 200, 200, 200),
            ("/open/closed/exactly", 200, 200, 200),
            ("/open/closed/exactly/", 401, 200, 200),
            ("/admin", 401, 403, 200),
            ("/admin?role=admin", 401, 403, 200),
            ("/admin/x", 401, 403, 200),
            ("/%61dmin/x", 401, 403, 200),
            ("/administrator", 401, 200, 200),
            ("/admin/any", 401, 200, 200),
        ] {
            assert_eq!(case.without("GET", path).await, without, "{path}");
            assert_eq!(case.status("GET", path, &[]).await, user, "{path}");
            let role = [("role", json!("admin"))];
            assert_eq!(case.status("GET", path, &role).await, admin, "{path}");
        }
    });
}

#[test]
fn a_method_that_no_rule_names_needs_a_token() {
    paused(async {
        let case = case(&[
            "path = '/healthz', methods = ['GET'], anonymous = true",
            "path = '/things', methods = ['GET', 'HEAD'], anonymous = true",
            "path = '/things', methods = ['DELETE'], claims = { role = ['admin'] }",
        ]);
        for (method, path, without, with) in [
            ("GET", "/healthz", 200, 200),
            ("HEAD", "/healthz", 401, 200),
            ("POST", "/healthz", 401, 200),
            ("OPTIONS", "/healthz", 401, 200),
            ("PATCH", "/healthz", 401, 200),
            ("HEAD", "/things", 200, 200),
            ("DELETE", "/things", 401, 403),
            ("PUT", "/things", 401, 200),
            ("PROPFIND", "/things", 401, 200),
        ] {
            let what = format!("{method} {path}");
            assert_eq!(case.without(method, path).await, without, "{what}");
            assert_eq!(case.status(method, path, &[]).await, with, "{what}");
        }
        let preflight = [
            ("Origin", "https://app.example"),
            ("Access-Control-Request-Method", "GET"),
            ("X-HTTP-Method-Override", "GET"),
        ];
        assert_eq!(case.head("OPTIONS", "/healthz", &preflight).await, 401);
    });
}

#[test]
fn on_an_anonymous_path_a_token_is_verified_all_the_same() {
    paused(async {
        let case = case(&["path = '/open', anonymous = true"]);
        let good = bearer(&case.home.token());
        let seen = case
            .gate
            .passes(get("/open", &[("Authorization", &good)]))
            .await;
        assert_eq!(identity(&seen.head), alice());
        let seen = case.gate.passes(get("/open", &[])).await;
        assert!(identity(&seen.head).is_empty());
        let forged = bearer(&case.home.with_signature([0; 256]));
        for (value, reason) in [
            (&*forged, Reason::BadSignature),
            ("Bearer x", Reason::MalformedToken),
            ("Bearer", Reason::MalformedToken),
            ("Bearer a, Bearer b", Reason::MultipleTokens),
        ] {
            let attack = get("/open", &[("Authorization", value)]);
            case.gate.refuses(attack, reason).await;
        }
        let two = [("Authorization", &*good), ("Authorization", "Basic x")];
        case.gate
            .refuses(get("/open", &two), Reason::MultipleTokens)
            .await;
        // Another scheme may be the workload's affair elsewhere; here it proves nothing.
        let basic = get("/open", &[("Authorization", "Basic dTpw")]);
        let seen = case.gate.passes(basic).await;
        assert!(!seen.head.has("authorization"));
    });
}

#[test]
fn claims_that_do_not_suffice_are_insufficient_scope() {
    paused(async {
        let case = case(&["path = '/', claims = { role = ['admin'] }"]);
        let request = get("/", &[("Authorization", &bearer(&case.home.token()))]);
        let answer = case.gate.refuses(request, Reason::ClaimsNotMet).await;
        assert_eq!(
            answer.head.get("www-authenticate"),
            Some(
                "Bearer realm=\"regent\", error=\"insufficient_scope\", \
                 error_description=\"claims_not_met\""
            )
        );
        // Never what would suffice.
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(!text.contains("admin") && !text.contains("role"), "{text}");
    });
}

#[test]
fn claims_are_compared_exactly_and_by_type() {
    paused(async {
        let case = case(&[
            "path = '/scope', claims = { scope = ['read'] }",
            "path = '/role', claims = { role = ['admin'] }",
            "path = '/level', claims = { level = [7] }",
            "path = '/staff', claims = { staff = [true] }",
            "path = '/deep', claims = { '/realm_access/roles' = ['model'] }",
            "path = '/two', claims = { role = ['admin'], level = [7, 8] }",
            "path = '/mail', claims = { email = ['a@good.example'] }",
        ]);
        let table: [(&str, &str, Value, u16); 33] = [
            ("/scope", "scope", json!("read"), 200),
            ("/scope", "scope", json!("write read"), 200),
            ("/scope", "scope", json!("write  read "), 200),
            ("/scope", "scope", json!(["write", "read"]), 200),
            ("/scope", "scope", json!("readonly"), 403),
            ("/scope", "scope", json!("Read"), 403),
            ("/scope", "scope", json!("read,write"), 403),
            ("/scope", "scope", json!("write\tread"), 403),
            ("/scope", "scope", json!(""), 403),
            ("/role", "role", json!("admin"), 200),
            ("/role", "role", json!(["user", "admin"]), 200),
            ("/role", "role", json!("user admin"), 403),
            ("/role", "role", json!("admins"), 403),
            ("/role", "role", json!("admin "), 403),
            ("/role", "role", json!([["admin"]]), 403),
            ("/role", "role", json!({"admin": true}), 403),
            ("/role", "role", json!(null), 403),
            ("/level", "level", json!(7), 200),
            ("/level", "level", json!([1, 7]), 200),
            ("/level", "level", json!("7"), 403),
            ("/level", "level", json!(70), 403),
            ("/staff", "staff", json!(true), 200),
            ("/staff", "staff", json!("true"), 403),
            ("/staff", "staff", json!(1), 403),
            (
                "/deep",
                "realm_access",
                json!({"roles": ["x", "model"]}),
                200,
            ),
            ("/deep", "realm_access", json!({"roles": "model"}), 200),
            ("/deep", "realm_access", json!({"roles": ["models"]}), 403),
            ("/deep", "realm_access", json!(["model"]), 403),
            ("/deep", "/realm_access/roles", json!("model"), 403),
            ("/two", "level", json!(7), 403),
            ("/mail", "email", json!("a@good.example"), 200),
            ("/mail", "email", json!("a@good.example@evil.example"), 403),
            ("/mail", "email", json!("A@good.example"), 403),
        ];
        for (path, claim, value, status) in table {
            let what = format!("{path} {claim}={value}");
            let got = case.status("GET", path, &[(claim, value)]).await;
            assert_eq!(got, status, "{what}");
        }
        let both = [("role", json!("admin")), ("level", json!(8))];
        assert_eq!(case.status("GET", "/two", &both).await, 200);
        assert_eq!(case.status("GET", "/scope", &[]).await, 403);
    });
}

#[test]
fn nothing_but_the_path_decides() {
    paused(async {
        let case = case(&[
            "path = '/open', anonymous = true",
            "path = '/healthz', anonymous = true",
        ]);
        for (name, value) in [
            ("User-Agent", "kube-probe/1.29"),
            ("User-Agent", "GoogleHC/1.0"),
            ("X-Health", "1"),
            ("X-Original-URL", "/open"),
            ("X-Rewrite-URL", "/open"),
            ("X-Forwarded-Uri", "/open"),
            ("X-Forwarded-Prefix", "/open"),
            ("X-Forwarded-For", "127.0.0.1"),
            ("X-Forwarded-Host", "localhost"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Port", "443"),
            ("X-Forwarded-Method", "OPTIONS"),
            ("X-Forwarded-User", "alice"),
            ("X-Original-Method", "OPTIONS"),
            ("Forwarded", "for=127.0.0.1;host=localhost;proto=https"),
            ("X-Real-IP", "127.0.0.1"),
            ("Referer", "http://svc.example/open"),
            ("X-HTTP-Method-Override", "OPTIONS"),
        ] {
            let attack = get("/admin", &[(name, value)]);
            case.gate.refuses(attack, Reason::MissingToken).await;
        }
    });
}

#[test]
fn a_rule_that_another_one_hides_is_a_mistake() {
    paused(async {
        let world = World::pipes();
        let setup = Setup::new(&world, world.address())
            .rule("path = '/admin', anonymous = true")
            .rule("path = '/admin/', claims = { role = ['admin'] }");
        let told = setup.problem();
        assert!(told.contains("inbound.rules[1].path"), "{told}");
        assert!(
            told.contains("inbound.rules[0] has the same path"),
            "{told}"
        );
    });
}

#[test]
fn algorithms_that_no_key_is_for_are_a_mistake() {
    paused(async {
        let world = World::pipes();
        let setup = Setup::new(&world, world.address()).and("home", "algorithms = ['ES256']");
        let told = setup.problem();
        assert!(told.contains("inbound.issuers.home.algorithms"), "{told}");
    });
}

#[test]
fn a_rule_that_no_request_can_match_is_a_mistake() {
    paused(async {
        let world = World::pipes();
        for path in ["/a%2fb", "/a%00", "/a%zz", "/a;x=1", "/a%3bx=1"] {
            let rule = format!("path = '{path}', anonymous = true");
            let told = Setup::new(&world, world.address()).rule(&rule).problem();
            assert!(told.contains("inbound.rules["), "{told}");
            assert!(told.contains("can match no request"), "{told}");
        }
    });
}
