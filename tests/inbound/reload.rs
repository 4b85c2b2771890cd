//! A new config holds for the very next request, for tokens that were verified under the old one
//! too (cases.md, E08 and O33).

use regent::reason::Reason;
use tokio::task::spawn_local;

use crate::forge::Forge;
use crate::gate::*;
use crate::signer::KEYS;
use crate::world::{HOME, WEST, entries};

struct Case {
    world: World,
    setup: Setup,
    gate: Gate,
    alice: String,
    west: String,
}

/// `home` and `west`, with one token of each that is known already.
async fn case(change: impl FnOnce(Setup) -> Setup) -> Case {
    let world = World::pipes();
    let workload = Upstream::bind(&world);
    let mut setup = Setup::new(&world, workload.at);
    let mut entries = entries().into_iter();
    let west = entries.find(|entry| entry.issuer == WEST);
    setup = change(setup.entry(&west.expect("it is there")));
    let gate = setup.start(workload.serve(say_identity));
    let now = world.clock.unix();
    let case = Case {
        alice: Forge::home(now).token(),
        west: Forge::west(now).token(),
        world,
        setup,
        gate,
    };
    for token in [&case.alice, &case.west] {
        assert_eq!(case.gate.get("/", token).await.status, 200);
    }
    case
}

fn with(token: &str) -> String {
    get("/", &[("Authorization", &bearer(token))])
}

#[test]
fn an_issuer_that_is_removed_is_unknown_to_the_next_request() {
    paused(async {
        let case = case(|setup| setup).await;
        let mut caller = case.gate.caller().await;
        assert_eq!(caller.ask(&with(&case.west)).await.status, 200);
        case.gate.reload(&case.setup.clone().without("west")).await;
        let answer = caller.ask(&with(&case.west)).await;
        assert_eq!(answer.reason(), "unknown_issuer");
        case.gate
            .refuses(with(&case.west), Reason::UnknownIssuer)
            .await;
        case.gate.passes(with(&case.alice)).await;
        case.gate.reload(&case.setup).await;
        case.gate.passes(with(&case.west)).await;
    });
}

#[test]
fn an_issuer_in_another_ones_place_does_not_get_its_verdicts() {
    paused(async {
        let case = case(|setup| setup).await;
        // `west` now stands where `home` stood, with the same keys in another order.
        let swapped = case.setup.clone().without("home");
        case.gate.reload(&swapped).await;
        case.gate
            .refuses(with(&case.alice), Reason::UnknownIssuer)
            .await;
        let seen = case.gate.passes(with(&case.west)).await;
        assert_eq!(seen.head.get("x-regent-issuer"), Some("west"));
    });
}

#[test]
fn another_key_in_the_config_ends_what_the_old_one_signed() {
    paused(async {
        let case = case(|setup| {
            let pem = KEYS.rsa.pem();
            setup.issuer(
                "home",
                format!("issuer = '{HOME}'\npublic_key = '''\n{pem}'''"),
            )
        })
        .await;
        let pem = KEYS.rsa_other.pem();
        let keys = format!("issuer = '{HOME}'\npublic_key = '''\n{pem}'''");
        let other = case.setup.clone().issuer("home", keys);
        case.gate.reload(&other).await;
        case.gate
            .refuses(with(&case.alice), Reason::BadSignature)
            .await;
        let forge = Forge::home(case.world.clock.unix()).by(&KEYS.rsa_other);
        case.gate.passes(with(&forge.token())).await;
    });
}

#[test]
fn another_key_in_the_file_ends_what_the_old_one_signed() {
    paused(async {
        let case = case(|setup| setup).await;
        let seconds = std::time::Duration::from_secs;
        let keep = [
            (String::new(), 200),
            ("no PEM".to_owned(), 200),
            (KEYS.rsa.pem(), 200),
            (KEYS.rsa_other.pem(), 401),
            (KEYS.rsa.pem(), 200),
        ];
        for (contents, status) in keep {
            case.setup.file("home.pem", &contents);
            tokio::time::sleep(seconds(5)).await;
            let answer = case.gate.get("/", &case.alice).await;
            assert_eq!(answer.status, status, "{contents}");
        }
        // A file that broke since costs a reload nothing.
        case.setup.file("home.pem", "no PEM");
        case.gate.reload(&case.setup).await;
        case.gate.passes(with(&case.alice)).await;
        case.setup.file("home.pem", &KEYS.rsa_other.pem());
        case.gate.reload(&case.setup).await;
        // Its own look at the file is part of the reload.
        case.gate
            .refuses(with(&case.alice), Reason::BadSignature)
            .await;
    });
}

#[test]
fn rules_audiences_and_claims_hold_for_tokens_that_are_known() {
    paused(async {
        let case = case(|setup| setup).await;
        let admins = case
            .setup
            .clone()
            .rule("path = '/', claims = { role = ['admin'] }");
        let open = case.setup.clone().rule("path = '/', anonymous = true");
        let mine = case.setup.clone().and("home", "audiences = ['me']");
        let strict = case.setup.clone();
        let strict = strict.and("home", "required_claims = { role = ['admin'] }");
        let brief = case.setup.clone().and("home", "max_lifetime = '10s'");
        for (setup, reason) in [
            (&admins, Reason::ClaimsNotMet),
            (&mine, Reason::MissingClaim),
            (&strict, Reason::WrongClaim),
            (&brief, Reason::LifetimeTooLong),
        ] {
            case.gate.reload(setup).await;
            case.gate.refuses(with(&case.alice), reason).await;
            case.gate.reload(&case.setup).await;
            case.gate.passes(with(&case.alice)).await;
        }
        case.gate.refuses(get("/", &[]), Reason::MissingToken).await;
        case.gate.reload(&open).await;
        let seen = case.gate.passes(get("/", &[])).await;
        assert!(identity(&seen.head).is_empty());
    });
}

#[test]
fn identity_headers_of_the_new_config_are_told() {
    paused(async {
        let case = case(|setup| setup).await;
        let other = case.setup.clone();
        let other = other.line("identity_headers = { x-who = 'username' }");
        case.gate.reload(&other).await;
        let spoofed = get(
            "/",
            &[
                ("Authorization", &bearer(&case.alice)),
                ("X-Regent-User", "mallory"),
                ("X-Who", "mallory"),
            ],
        );
        let seen = case.gate.passes(spoofed).await.head;
        assert_eq!(seen.get("x-who"), Some("alice"));
        assert_eq!(
            seen.get("x-regent-user"),
            None,
            "a name of ours, whoever reads it"
        );
        case.gate.reload(&case.setup).await;
        let seen = case.gate.passes(with(&case.alice)).await.head;
        assert_eq!(identity(&seen), alice());
    });
}

/// Tokens that are being verified while the config changes.
#[test]
fn no_verdict_of_the_old_config_outlives_a_reload() {
    paused(async {
        let case = case(|setup| setup).await;
        let users = case.setup.clone();
        let users = users.rule("path = '/', claims = { role = ['user'] }");
        case.gate.reload(&users).await;
        let now = case.world.clock.unix();
        let token = |at: usize| Forge::home(now).claim("jti", at).token();
        let tokens: Vec<String> = (0..100).map(token).collect();
        let mut asked = Vec::new();
        for token in &tokens {
            let mut caller = case.gate.caller().await;
            let request = with(token);
            asked.push(spawn_local(async move { caller.ask(&request).await }));
        }
        let admins = case.setup.clone().without_rules();
        let admins = admins.rule("path = '/', claims = { role = ['admin'] }");
        case.gate.reload(&admins).await;
        let (mut passed, mut refused) = (0, 0);
        for answer in asked {
            match answer.await.expect("no panic").status {
                200 => passed += 1,
                403 => refused += 1,
                status => panic!("{status}"),
            }
        }
        assert!(passed > 0, "some were under way: {passed} and {refused}");
        for token in &tokens {
            case.gate.refuses(with(token), Reason::ClaimsNotMet).await;
        }
    });
}

#[test]
fn a_hundred_reloads_under_load_refuse_nobody() {
    paused(async {
        let case = case(|setup| setup).await;
        let stop = std::rc::Rc::new(std::cell::Cell::new(false));
        let mut load = Vec::new();
        for at in 0..4_u64 {
            let mut caller = case.gate.caller().await;
            let stop = std::rc::Rc::clone(&stop);
            let request = with(&case.alice);
            load.push(spawn_local(async move {
                let mut count = 0;
                while !stop.get() {
                    assert_eq!(caller.ask(&request).await.status, 200);
                    count += 1;
                    tokio::time::sleep(std::time::Duration::from_millis(3 + at)).await;
                }
                count
            }));
        }
        for round in 0..100 {
            let setup = match round % 2 {
                0 => case.setup.clone().without("west"),
                _ => case.setup.clone(),
            };
            case.gate.reload(&setup).await;
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        stop.set(true);
        for load in load {
            assert!(load.await.expect("no refusal") > 50);
        }
        assert_eq!(case.gate.refused_in_all(), 0);
    });
}
