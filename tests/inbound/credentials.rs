//! What a caller brings before any token is looked into (cases.md, A01 to A07).

use regent::reason::Reason;

use crate::forge::Forge;
use crate::gate::*;
use crate::issuer::{Issuer, fetched};

struct Case {
    gate: Gate,
    good: String,
    bad: String,
}

fn case() -> Case {
    let world = World::pipes();
    let workload = Upstream::bind(&world);
    let setup = Setup::new(&world, workload.at);
    let gate = setup.start(workload.serve(say_identity));
    let forge = Forge::home(world.clock.unix());
    Case {
        gate,
        good: forge.token(),
        bad: forge.with_signature([0; 256]),
    }
}

#[test]
fn without_a_token_a_caller_is_told_the_realm_and_no_error() {
    paused(async {
        let Case { gate, .. } = case();
        for method in ["GET", "OPTIONS", "DELETE", "PROPFIND"] {
            let answer = gate
                .refuses(request(method, "/", &[]), Reason::MissingToken)
                .await;
            let challenge = answer.head.get("www-authenticate");
            assert_eq!(challenge, Some("Bearer realm=\"regent\""));
            assert_eq!(answer.head.get("cache-control"), Some("no-store"));
        }
    });
}

#[test]
fn another_scheme_is_no_token() {
    paused(async {
        let Case { gate, good, .. } = case();
        for value in [
            "Basic dTpw",
            "Digest username=\"u\"",
            "Negotiate x",
            "DPoP x",
            "Token x",
            &good,
            &format!("Bearerx {good}"),
            &format!("Basic {good}"),
        ] {
            let attack = get("/", &[("Authorization", value)]);
            gate.refuses(attack, Reason::UnsupportedScheme).await;
        }
    });
}

#[test]
fn the_scheme_is_read_in_any_case_and_with_more_than_one_space() {
    paused(async {
        let Case { gate, good, .. } = case();
        for scheme in ["Bearer ", "bearer ", "BEARER ", "bEaReR ", "Bearer   "] {
            let request = get("/", &[("AUTHORIZATION", &format!("{scheme}{good}"))]);
            let seen = gate.passes(request).await;
            assert_eq!(identity(&seen.head), alice(), "{scheme}");
        }
    });
}

#[test]
fn what_follows_the_scheme_is_one_token() {
    paused(async {
        let Case { gate, good, .. } = case();
        for (value, reason) in [
            ("Bearer".to_owned(), Reason::MalformedToken),
            (format!("Bearer\t{good}"), Reason::MalformedToken),
            (format!("Bearer {good} x"), Reason::MalformedToken),
            (format!("Bearer {good}\tx"), Reason::MalformedToken),
            (format!("Bearer \"{good}\""), Reason::MalformedToken),
            (format!("Bearer={good}"), Reason::MalformedToken),
            (format!("Bearer Bearer {good}"), Reason::MalformedToken),
            ("Bearer,".to_owned(), Reason::MultipleTokens),
            (format!("Bearer {good},"), Reason::MultipleTokens),
            (format!("Bearer {good}, Basic x"), Reason::MultipleTokens),
            (format!("Bearer {good},{good}"), Reason::MultipleTokens),
        ] {
            gate.refuses(get("/", &[("Authorization", &value)]), reason)
                .await;
        }
    });
}

/// Every pair of credentials, in both orders.
fn pairs(good: &str, bad: &str) -> Vec<[String; 2]> {
    let all = [
        bearer(good),
        bearer(bad),
        "Basic dTpw".to_owned(),
        String::new(),
        "Bearer".to_owned(),
    ];
    let firsts = all.iter();
    firsts
        .flat_map(|first| all.iter().map(|second| [first.clone(), second.clone()]))
        .collect()
}

#[test]
fn two_credentials_are_refused_whichever_they_are() {
    paused(async {
        let Case { gate, good, bad } = case();
        for [first, second] in pairs(&good, &bad) {
            for other in ["Authorization", "authorization", "AUTHORIZATION"] {
                let attack = get(
                    "/",
                    &[("Authorization", &first), ("X", "y"), (other, &second)],
                );
                gate.refuses(attack, Reason::MultipleTokens).await;
            }
        }
        gate.passes(get("/", &[("Authorization", &bearer(&good))]))
            .await;
    });
}

#[test]
fn two_credentials_are_refused_once_while_keys_cannot_be_had() {
    paused(async {
        let world = World::pipes();
        let workload = Upstream::bind(&world);
        let issuer = Issuer::with(&[]);
        issuer.down(true);
        let setup = Setup::new(&world, workload.at)
            .issuer("home", fetched("5m", "30s", "24h"))
            .fetch(issuer.service());
        let gate = setup.start(workload.serve(say_identity));
        let forge = crate::issuer::signed(world.clock.unix(), "k", crate::issuer::stranger());
        let good = forge.token();
        for [first, second] in pairs(&good, "a.b.c") {
            let attack = get(
                "/",
                &[("Authorization", &first), ("Authorization", &second)],
            );
            gate.refuses(attack, Reason::MultipleTokens).await;
        }
        let one = get("/", &[("Authorization", &bearer(&good))]);
        gate.refuses(one, Reason::IssuerKeysUnavailable).await;
    });
}

#[test]
fn a_token_anywhere_else_is_none() {
    paused(async {
        let Case { gate, good, .. } = case();
        let query = get(&format!("/?access_token={good}&token={good}"), &[]);
        gate.refuses(query, Reason::MissingToken).await;
        let form = format!("access_token={good}");
        let length = form.len().to_string();
        let fields = [
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Content-Length", &length),
        ];
        let form = request("POST", "/", &fields) + &form;
        gate.refuses(form, Reason::MissingToken).await;
        let value = bearer(&good);
        for (name, value) in [
            (
                "Cookie",
                &format!("access_token={good}; Authorization={good}"),
            ),
            ("Proxy-Authorization", &value),
            ("X-Forwarded-Access-Token", &good),
            ("X-Authorization", &value),
            ("X-Forwarded-Authorization", &value),
            ("Authorization2", &value),
            ("X_Authorization", &value),
            ("HTTP_AUTHORIZATION", &value),
            ("Sec-WebSocket-Protocol", &format!("bearer, {good}")),
            ("Forwarded", &format!("authorization=\"{value}\"")),
        ] {
            let attack = get("/", &[(name, value)]);
            gate.refuses(attack, Reason::MissingToken).await;
        }
    });
}

#[test]
fn a_token_in_a_trailer_is_none() {
    paused(async {
        let Case { gate, good, .. } = case();
        let trailers = format!("Authorization: Bearer {good}\r\nX-Regent-User: mallory\r\n");
        let chunked = [
            ("Transfer-Encoding", "chunked"),
            ("Trailer", "Authorization"),
        ];
        let attack = request("POST", "/", &chunked) + "2\r\nhi\r\n0\r\n" + &trailers + "\r\n";
        gate.refuses(&attack, Reason::MissingToken).await;
        // Nor do trailers pass with a token.
        let value = bearer(&good);
        let fields = [chunked[0], chunked[1], ("Authorization", &value)];
        let with = request("POST", "/", &fields) + "2\r\nhi\r\n0\r\n" + &trailers + "\r\n";
        let seen = gate.passes(with).await;
        assert_eq!(identity(&seen.head), alice());
        assert_eq!(seen.body, b"hi");
        assert!(!seen.head.has("trailer"));
    });
}

#[test]
fn each_request_of_a_connection_is_judged_alone() {
    paused(async {
        let Case { gate, good, bad } = case();
        let mut caller = gate.caller().await;
        let with = |token: &str| get("/", &[("Authorization", &bearer(token))]);
        for (request, status) in [
            (with(&good), 200),
            (get("/", &[]), 401),
            (with(&bad), 401),
            (with(&good), 200),
            (get("/", &[]), 401),
        ] {
            let answer = caller.ask(&request).await;
            assert_eq!(answer.status, status);
        }
        // The same, before any answer has come.
        let all = with(&good) + &get("/", &[]) + &with(&good) + &with(&bad) + &with(&good);
        caller.send(all).await;
        for status in [200, 401, 200, 401, 200] {
            assert_eq!(caller.answer().await.status, status);
        }
        assert_eq!(gate.workload.count(), 5);
    });
}
