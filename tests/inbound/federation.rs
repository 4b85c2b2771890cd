//! Several issuers: each with its own keys, and nobody taken for another one's user (cases.md,
//! group E).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use regent::clock::Clock;
use regent::dns;
use regent::reason::Reason;
use serde_json::json;

use crate::forge::Forge;
use crate::gate::*;
use crate::issuer::{Issuer, fetched};
use crate::signer::KEYS;
use crate::world::{HOME, WEST, entries};

struct Case {
    world: World,
    gate: Gate,
}

/// Not for paused time: `oidc` has a key whose signatures are verified on a thread of its own, which
/// that time does not wait for.
fn case(change: impl FnOnce(Setup) -> Setup) -> Case {
    let world = World::pipes();
    let workload = Upstream::bind(&world);
    let mut setup = Setup::bare(&world, &format!("http://{}", workload.at));
    for entry in entries().iter().filter(|entry| entry.name != "dark") {
        setup = setup.entry(entry);
    }
    let gate = change(setup).start(workload.serve(say_identity));
    Case { world, gate }
}

fn with(forge: &Forge) -> String {
    get("/", &[("Authorization", &bearer(&forge.token()))])
}

#[test]
fn a_federated_user_is_named_with_its_region() {
    real(async {
        let case = case(|setup| setup);
        let west = Forge::west(case.world.clock.unix()).claim("username", "alice");
        let seen = case.gate.passes(with(&west)).await.head;
        let expected = [
            ("x-regent-issuer", "west"),
            ("x-regent-user", "west:alice"),
            ("x-regent-user-id", "west:1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(identity(&seen), expected);
        let home = Forge::home(case.world.clock.unix());
        assert_eq!(identity(&case.gate.passes(with(&home)).await.head), alice());
    });
}

#[test]
fn nobody_of_home_is_called_as_if_from_elsewhere() {
    real(async {
        let case = case(|setup| setup);
        let home = Forge::home(case.world.clock.unix());
        for name in ["west:bob", "oidc:", "home:alice", "strict:x:y"] {
            let attack = home.clone().claim("username", name);
            case.gate.refuses(with(&attack), Reason::UnsafeClaim).await;
            let attack = home.clone().claim("user_id", name);
            case.gate.refuses(with(&attack), Reason::UnsafeClaim).await;
            let attack = home.clone().claim("username", json!(["x", name]));
            case.gate.refuses(with(&attack), Reason::UnsafeClaim).await;
        }
        let other = home.claim("username", "east:bob");
        let seen = case.gate.passes(with(&other)).await.head;
        assert_eq!(seen.get("x-regent-user"), Some("east:bob"));
        // What a federated region calls its own users is its affair, behind its name.
        let west = Forge::west(case.world.clock.unix()).claim("username", "home:alice");
        let seen = case.gate.passes(with(&west)).await.head;
        assert_eq!(seen.get("x-regent-user"), Some("west:home:alice"));
    });
}

#[test]
fn unqualified_names_are_the_configs_decision() {
    real(async {
        let case = case(|setup| {
            setup
                .and("west", "allow_unqualified_identity = true")
                .and("west", "identity_headers = { x-regent-user = 'user_id' }")
        });
        let west = Forge::west(case.world.clock.unix()).claim("is_staff", true);
        let seen = case.gate.passes(with(&west)).await.head;
        assert_eq!(seen.get("x-regent-user"), Some("1"));
        assert_eq!(seen.get("x-regent-issuer"), Some("west"));
        assert!(!seen.has("x-regent-user-id"));
        assert!(!format!("{seen:?}").contains("staff"));
        let poses = Forge::west(case.world.clock.unix()).claim("user_id", "home:1");
        case.gate.refuses(with(&poses), Reason::UnsafeClaim).await;
    });
}

#[test]
fn a_header_of_one_issuer_is_nobody_elses_to_send() {
    real(async {
        let map = "identity_headers = { x-west-role = 'role' }";
        let case = case(|setup| setup.and("west", map));
        let now = case.world.clock.unix();
        for (forge, expected) in [
            (Forge::home(now), None),
            (Forge::west(now), None),
            (Forge::west(now).claim("role", "model"), Some("west:model")),
        ] {
            let fields = [
                ("X-West-Role", "mallory"),
                ("x_west_role", "mallory"),
                ("Authorization", &*bearer(&forge.token())),
            ];
            let seen = case.gate.passes(get("/", &fields)).await.head;
            assert_eq!(seen.get("x-west-role"), expected);
            assert!(!seen.has("x_west_role"));
        }
    });
}

#[test]
fn keys_of_the_same_name_are_each_issuers_own() {
    real(async {
        let case = case(|setup| setup);
        let now = case.world.clock.unix();
        // Both have a `k2`.
        let (oidc, west) = (Forge::oidc(now, "k2"), Forge::west(now));
        for (attack, reason) in [
            (oidc.clone().by(&KEYS.p256_other), Reason::BadSignature),
            (west.clone().by(&KEYS.p256), Reason::BadSignature),
            (oidc.clone().claim("iss", WEST), Reason::BadSignature),
            (
                Forge::home(now).claim("iss", WEST),
                Reason::AlgorithmNotAllowed,
            ),
            (west.clone().claim("iss", HOME), Reason::AlgorithmNotAllowed),
            (Forge::strict(now).claim("iss", HOME), Reason::BadSignature),
            (
                west.clone().header("kid", "k1"),
                Reason::AlgorithmNotAllowed,
            ),
        ] {
            case.gate.refuses(with(&attack), reason).await;
        }
        for good in [&oidc, &west, &Forge::home(now), &Forge::strict(now)] {
            case.gate.passes(with(good)).await;
        }
    });
}

#[test]
fn claims_of_one_issuers_rules_do_not_hold_for_another() {
    real(async {
        let case = case(|setup| {
            setup
                .and("home", "audiences = ['here']")
                .rule("path = '/admin', claims = { role = ['admin'] }")
        });
        let now = case.world.clock.unix();
        let home = Forge::home(now);
        case.gate.refuses(with(&home), Reason::MissingClaim).await;
        let elsewhere = home.clone().claim("aud", "me");
        case.gate
            .refuses(with(&elsewhere), Reason::WrongAudience)
            .await;
        case.gate.passes(with(&home.claim("aud", "here"))).await;
        case.gate.passes(with(&Forge::west(now))).await;
        let user = Forge::strict(now).claim("role", "user");
        case.gate.refuses(with(&user), Reason::WrongClaim).await;
    });
}

/// Names that were looked up; none has an address.
#[derive(Default)]
struct Names(Mutex<Vec<String>>);

impl Names {
    fn asked(&self) -> Vec<String> {
        self.0.lock().expect("no panic").clone()
    }
}

impl dns::Lookup for Names {
    fn lookup(&self, host: &str) -> dns::Answer {
        self.0.lock().expect("no panic").push(host.to_owned());
        let host = host.to_owned();
        Box::pin(async { Err(dns::Error::NoSuchName { host }) })
    }
}

/// Real sockets and a recording name server: an address that was asked would be seen.
#[test]
fn a_token_for_one_workload_opens_no_other_ones_door() {
    paused(async {
        let world = World::pipes();
        let now = world.clock.unix();
        let start = |change: &dyn Fn(Setup) -> Setup| {
            let workload = Upstream::bind(&world);
            let setup = change(Setup::new(&world, workload.at));
            setup.start(workload.serve(say_identity))
        };
        // Two workloads of one region, and two of another region, to one of which it is federated.
        let x = start(&|setup| setup.and("home", "audiences = ['x']"));
        let y = start(&|setup| setup.and("home", "audiences = ['y']"));
        let mut entries = entries().into_iter();
        let west = entries
            .find(|entry| entry.name == "west")
            .expect("it is there");
        let federated = start(&|setup| {
            let pem = KEYS.rsa.pem();
            let text = format!("issuer = '{HOME}'\npublic_key = '''\n{pem}'''\naudiences = ['z']");
            setup.without("home").entry(&west).issuer("east", text)
        });
        let apart = start(&|setup| setup.without("home").entry(&west));
        for (aud, at) in [
            (json!("x"), [true, false, false]),
            (json!("y"), [false, true, false]),
            (json!(["z", "w"]), [false, false, true]),
            (json!(["x", "z"]), [true, false, true]),
            (json!(["w"]), [false, false, false]),
        ] {
            let token = Forge::home(now).claim("aud", aud.clone());
            for (gate, opens) in [&x, &y, &federated].into_iter().zip(at) {
                match opens {
                    true => drop(gate.passes(with(&token)).await),
                    false => drop(gate.refuses(with(&token), Reason::WrongAudience).await),
                }
            }
            apart.refuses(with(&token), Reason::UnknownIssuer).await;
        }
    });
}

#[test]
fn an_issuer_that_nobody_named_is_never_asked_for_its_keys() {
    no_address_is_asked(Reason::UnknownIssuer, |url| {
        vec![stranger().claim("iss", url)]
    });
}

#[test]
fn no_address_in_a_header_is_ever_asked() {
    no_address_is_asked(Reason::BadSignature, |url| {
        let mut jwk = KEYS.rsa_other.jwk();
        jwk["x5u"] = json!(url);
        vec![
            stranger().header("jku", url),
            stranger().header("x5u", url),
            stranger().header("kid", url),
            stranger().header("jku", url).header("kid", "theirs"),
            stranger().header("jwk", jwk),
        ]
    });
}

/// A token of home by a key that home does not have.
fn stranger() -> Forge {
    let now = Clock::system().unix();
    Forge::home(now).by(&KEYS.rsa_other)
}

fn no_address_is_asked(reason: Reason, attacks: impl Fn(&str) -> Vec<Forge>) {
    real(async {
        let world = World::sockets();
        let workload = Upstream::bind(&world);
        let evil = Upstream::bind(&world);
        let names = Arc::<Names>::default();
        let far = "issuer = 'far'\njwks_url = 'https://far.example/jwks'\n";
        let gate = Setup::new(&world, workload.at)
            .issuer("far", far)
            .lookup(names.clone())
            .start(workload.serve(say_identity));
        let at = evil.at;
        let evil = evil.serve(|_| ok("{\"keys\": []}"));
        for url in [
            format!("http://{at}"),
            format!("http://{at}/jwks"),
            format!("https://{at}/.well-known/openid-configuration"),
            format!("https://{HOME}@{at}/"),
            "https://keys.evil.example/jwks".to_owned(),
            "keys.evil.example".to_owned(),
            "file:///etc/passwd".to_owned(),
        ] {
            for attack in attacks(&url) {
                gate.refuses(with(&attack), reason).await;
            }
        }
        gate.passes(with(&Forge::home(world.clock.unix()))).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(evil.connections.get(), 0);
        // The address in the config is, which shows that it would be seen.
        until(|| !names.asked().is_empty()).await;
        let asked = names.asked();
        assert!(asked.iter().all(|name| name == "far.example"), "{asked:?}");
    });
}

#[test]
fn an_issuer_that_hangs_harms_no_other() {
    paused(async {
        let dark = Issuer::with(&[]);
        dark.slow(Duration::from_secs(3600));
        let service = dark.service();
        let case = case(|setup| {
            let keys = fetched("5m", "1s", "1h").replace(HOME, "dark");
            let setup = setup.without("oidc");
            setup.issuer("dark", keys).fetch(service)
        });
        let now = case.world.clock.unix();
        let began = tokio::time::Instant::now();
        let dark_token = Forge::west(now).claim("iss", "dark");
        for _ in 0..20 {
            let answer = case
                .gate
                .refuses(with(&dark_token), Reason::IssuerKeysUnavailable)
                .await;
            assert!(answer.head.has("retry-after"));
            case.gate.passes(with(&Forge::home(now))).await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO, "nobody waited");
        assert_eq!(case.gate.probe("/readyz").await.0, 200);
    });
}
