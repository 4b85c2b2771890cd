//! Tokens that are taken back before their end, though they are known as good.

use std::time::Duration;

use regent::reason::Reason;
use serde_json::{Value, json};

use crate::forge::Forge;
use crate::gate::*;
use crate::issuer::{Issuer, new_key};
use crate::world::{WEST, entries};

/// Longer than a change of a file goes unseen.
const SEEN: Duration = Duration::from_secs(6);
const SECOND: Duration = Duration::from_secs(1);

struct Case {
    world: World,
    setup: Setup,
    gate: Gate,
}

fn document(entries: &[Value]) -> String {
    json!({ "revoked": entries }).to_string()
}

fn started(change: impl FnOnce(Setup) -> Setup) -> Case {
    let world = World::pipes();
    let workload = Upstream::bind(&world);
    let west = entries().into_iter().find(|entry| entry.issuer == WEST);
    let setup = Setup::new(&world, workload.at).entry(&west.expect("it is there"));
    let setup = change(setup);
    let gate = setup.start(workload.serve(say_identity));
    Case { world, setup, gate }
}

/// `home` and `west`, and a file that revokes this.
fn case(list: &str) -> Case {
    started(|setup| {
        let file = setup.file("revoked", list);
        setup.set(&format!("inbound.revocations.file={}", file.display()))
    })
}

/// The same list at a URL, as this server has it.
fn at_url(lists: &Issuer) -> Case {
    let service = lists.service();
    started(|setup| {
        setup
            .set("inbound.revocations.url=https://lists.example/revoked")
            .set("inbound.revocations.refresh=60s")
            .fetch(service)
    })
}

fn with(forge: &Forge) -> String {
    get("/", &[("Authorization", &bearer(&forge.token()))])
}

impl Case {
    fn home(&self) -> Forge {
        Forge::home(self.world.clock.unix())
    }

    async fn list(&self, entries: &[Value]) {
        self.setup.file("revoked", &document(entries));
        tokio::time::sleep(SEEN).await;
    }

    async fn degraded(&self) -> Vec<String> {
        let (status, said) = self.gate.probe("/readyz").await;
        assert_eq!(status, 200, "{said}");
        let lines = said["degraded"].as_array().expect("a list").iter();
        lines
            .map(|line| line.as_str().expect("a line").to_owned())
            .collect()
    }
}

#[test]
fn a_revoked_jti_is_refused_within_the_poll_interval_though_it_is_known_as_good() {
    paused(async {
        let case = case(&document(&[]));
        let (token, other) = (case.home(), case.home().claim("jti", "other"));
        let mut caller = case.gate.caller().await;
        for forge in [&token, &other, &token] {
            assert_eq!(caller.ask(&with(forge)).await.status, 200);
        }
        case.list(&[json!({ "issuer": "home", "jti": "9c" })]).await;
        assert_eq!(caller.ask(&with(&token)).await.reason(), "revoked");
        case.gate.refuses(with(&token), Reason::Revoked).await;
        case.gate.passes(with(&other)).await;
        // One that nobody has seen before.
        case.gate
            .refuses(with(&case.home().claim("username", "bob")), Reason::Revoked)
            .await;
        // Taken from the list again, it is as good as before.
        case.list(&[]).await;
        case.gate.passes(with(&token)).await;
    });
}

#[test]
fn a_user_or_all_that_was_issued_before_a_moment_is_refused_for_that_issuer_alone() {
    paused(async {
        let case = case(&document(&[]));
        let (alice, bob) = (case.home(), case.home().claim("user_id", 7));
        let west = Forge::west(case.world.clock.unix());
        for forge in [&alice, &bob, &west] {
            case.gate.passes(with(forge)).await;
        }
        case.list(&[json!({ "issuer": "home", "user_id": 7 })])
            .await;
        case.gate.refuses(with(&bob), Reason::Revoked).await;
        case.gate.passes(with(&alice)).await;
        case.gate
            .passes(with(&case.home().claim("user_id", "7")))
            .await;

        let now = case.world.clock.unix();
        case.list(&[json!({ "issuer": "home", "issued_before": now })])
            .await;
        for forge in [&alice, &bob, &case.home().without("iat")] {
            case.gate.refuses(with(forge), Reason::Revoked).await;
        }
        case.gate.passes(with(&case.home())).await;
        // It says of no time, and is another issuer's.
        case.gate.passes(with(&west)).await;
        case.list(&[json!({ "issuer": "west", "issued_before": 1 })])
            .await;
        case.gate.refuses(with(&west), Reason::Revoked).await;
        case.gate.passes(with(&alice)).await;
    });
}

#[test]
fn a_forged_token_is_told_nothing_of_the_list() {
    paused(async {
        let case = case(&document(&[json!({ "issuer": "home", "jti": "9c" })]));
        let forged = case.home().by(&crate::signer::KEYS.rsa_other);
        case.gate.refuses(with(&forged), Reason::BadSignature).await;
        let now = case.world.clock.unix();
        let expired = case.home().claim("exp", now - 100).claim("iat", now - 200);
        case.gate.refuses(with(&expired), Reason::Expired).await;
    });
}

#[test]
fn a_broken_entry_costs_no_other_and_is_told() {
    paused(async {
        let case = case(&document(&[]));
        case.list(&[
            json!({ "issuer": "home", "jit": "x" }),
            json!({ "issuer": "home", "jti": "9c" }),
            json!({ "issuer": "hoem", "user_id": 1 }),
        ])
        .await;
        case.gate.refuses(with(&case.home()), Reason::Revoked).await;
        let degraded = case.degraded().await;
        let expected = [
            "inbound.revocations: not taken: revoked[0]: no key \"jit\" in an entry; there are issuer, jti, user_id, issued_before",
            "inbound.revocations: no issuer is called \"hoem\"",
        ];
        assert_eq!(degraded, expected);
        // What is no list takes nothing away.
        for broken in ["", "{", "{\"issuers\":[]}"] {
            case.setup.file("revoked", broken);
            tokio::time::sleep(SEEN).await;
            case.gate.refuses(with(&case.home()), Reason::Revoked).await;
            let degraded = case.degraded().await;
            assert!(
                degraded[0].ends_with("; the last good list stays in use"),
                "{degraded:?}"
            );
        }
    });
}

#[test]
fn until_the_list_has_been_read_once_no_token_is_taken() {
    paused(async {
        let lists = Issuer::with(&[]);
        lists.down(true);
        let case = at_url(&lists);
        let token = with(&case.home());
        tokio::time::sleep(SECOND).await;
        let answer = case
            .gate
            .refuses(&token, Reason::IssuerKeysUnavailable)
            .await;
        assert!(answer.head.has("retry-after"), "{answer:?}");
        assert!(
            answer
                .text()
                .contains("the list of revoked tokens has not been read yet"),
            "{answer:?}"
        );
        case.gate.refuses(get("/", &[]), Reason::MissingToken).await;
        let (status, said) = case.gate.probe("/startupz").await;
        assert_eq!(
            (status, &said["waiting_for"]),
            (503, &json!(["revocations"]))
        );
        assert_eq!(case.gate.probe("/readyz").await.0, 503);
        lists.say(document(&[json!({ "issuer": "home", "jti": "bad" })]));
        lists.down(false);
        tokio::time::sleep(121 * SECOND).await;
        case.gate.passes(&token).await;
        let bad = with(&case.home().claim("jti", "bad"));
        case.gate.refuses(&bad, Reason::Revoked).await;
        assert_eq!(case.gate.probe("/startupz").await.0, 200);
        // It goes away, and stays in force.
        lists.down(true);
        tokio::time::sleep(2000 * SECOND).await;
        let bad = with(&case.home().claim("jti", "bad"));
        case.gate.refuses(&bad, Reason::Revoked).await;
        case.gate.passes(with(&case.home())).await;
        assert_eq!(case.degraded().await.len(), 1);
    });
}

#[test]
fn a_list_at_a_url_is_in_force_within_its_refresh() {
    paused(async {
        let lists = Issuer::with(&[]);
        lists.say(document(&[]));
        let case = at_url(&lists);
        tokio::time::sleep(SECOND).await;
        let token = with(&case.home());
        case.gate.passes(&token).await;
        lists.say(document(&[json!({ "issuer": "home", "user_id": 1 })]));
        tokio::time::sleep(61 * SECOND).await;
        case.gate.refuses(&token, Reason::Revoked).await;
    });
}

#[test]
fn a_reload_keeps_what_is_revoked_and_a_config_without_a_list_asks_none() {
    paused(async {
        let lists = Issuer::with(&[]);
        lists.say(document(&[json!({ "issuer": "home", "jti": "9c" })]));
        let case = at_url(&lists);
        tokio::time::sleep(SECOND).await;
        let token = with(&case.home());
        case.gate.refuses(&token, Reason::Revoked).await;
        lists.down(true);
        // The next list cannot be had: the one before holds.
        let moved = case
            .setup
            .clone()
            .set("inbound.revocations.url=https://other.example/");
        case.gate.reload(&moved).await;
        tokio::time::sleep(SECOND).await;
        case.gate.refuses(&token, Reason::Revoked).await;
        case.gate
            .passes(with(&case.home().claim("jti", "other")))
            .await;
        assert_eq!(case.degraded().await.len(), 1);
        let plain = case.setup.clone().unset("inbound.revocations.");
        case.gate.reload(&plain).await;
        case.gate.passes(&token).await;
    });
}

#[test]
fn a_token_of_a_listed_issuer_is_revoked_by_its_name_there() {
    paused(async {
        let key = new_key();
        let case = started(|setup| {
            let entry = json!({
                "name": "east", "issuer": "https://east", "algorithms": ["ES256"],
                "jwks": { "keys": [key.jwk()] },
            });
            let issuers = setup.file("issuers", &json!({ "issuers": [entry] }).to_string());
            let revoked = setup.file("revoked", &document(&[]));
            setup
                .set(&format!("inbound.federation.file={}", issuers.display()))
                .set(&format!("inbound.revocations.file={}", revoked.display()))
        });
        let forge = case
            .home()
            .header("alg", "ES256")
            .claim("iss", "https://east");
        let token = with(&forge.by(key));
        case.gate.passes(&token).await;
        case.list(&[json!({ "issuer": "east", "jti": "9c" })]).await;
        case.gate.refuses(&token, Reason::Revoked).await;
        case.gate.passes(with(&case.home())).await;
        assert!(case.degraded().await.is_empty());
        // The list of issuers changes, and the one of revoked tokens goes on.
        case.setup.file("issuers", "{\"issuers\":[]}");
        tokio::time::sleep(SEEN).await;
        case.gate.refuses(&token, Reason::UnknownIssuer).await;
        assert_eq!(
            case.degraded().await,
            ["inbound.revocations: no issuer is called \"east\""]
        );
        case.list(&[json!({ "issuer": "home", "jti": "9c" })]).await;
        case.gate.refuses(with(&case.home()), Reason::Revoked).await;
    });
}

#[test]
fn a_list_that_is_not_there_at_the_start_is_a_mistake() {
    let world = World::pipes();
    let setup = Setup::new(&world, world.address());
    let file = setup.file("revoked", "{}");
    let set = |path: &std::path::Path| format!("inbound.revocations.file={}", path.display());
    let problem = setup.clone().set(&set(&file)).problem();
    assert!(
        problem.contains("inbound.revocations.file: ") && problem.contains("no list \"revoked\""),
        "{problem}"
    );
    let problem = setup
        .clone()
        .set(&set(&file.with_file_name("none")))
        .problem();
    assert!(
        problem.contains("inbound.revocations.file: cannot read"),
        "{problem}"
    );
}
