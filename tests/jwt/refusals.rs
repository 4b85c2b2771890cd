//! The table of refusals, and tokens that are accepted.

use regent::jwt::Rejection;
use regent::jwt::verifier::{Step, Trace, Verified, verify};
use regent::reason::Reason;
use serde_json::json;

use crate::cases;
use crate::forge::Forge;
use crate::signer::KEYS;
use crate::world::{Entry, World, algorithms, entries, now};

const NOW: i64 = 1_800_000_000;

fn judge(world: &World, token: &str) -> Result<Verified, Rejection> {
    verify(
        token.as_bytes(),
        &world.issuers,
        &world.keys,
        now(NOW),
        &mut (),
    )
}

#[test]
fn every_bad_token_is_refused_for_its_reason_and_its_twin_is_accepted() {
    let world = World::new(entries());
    let cases = cases::all(NOW);
    let mut failures = Vec::new();
    for case in &cases {
        match judge(&world, &case.token) {
            Err(rejection) if rejection.reason == case.reason => {}
            Err(other) => failures.push(format!(
                "{}: {} instead of {}: {}",
                case.name,
                other.reason.word(),
                case.reason.word(),
                other.why
            )),
            Ok(_) => failures.push(format!("{}: accepted", case.name)),
        }
        if let Err(rejection) = judge(&world, &case.twin) {
            failures.push(format!("{}: the twin: {rejection:?}", case.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(cases.len() >= 150, "{}", cases.len());
}

#[test]
fn no_refusal_quotes_the_token() {
    let world = World::new(entries());
    for case in cases::all(NOW) {
        let rejection = judge(&world, &case.token).expect_err(&case.name);
        assert!(
            matches!(rejection.why, std::borrow::Cow::Borrowed(_)),
            "{}: {}",
            case.name,
            rejection.why
        );
    }
}

#[test]
fn a_refusal_names_its_issuer_as_soon_as_it_is_known() {
    let world = World::new(entries());
    let place = |token: String| judge(&world, &token).expect_err("refused").issuer;
    let home = Forge::home(NOW);
    assert_eq!(place("a.b.c".to_owned()), None);
    assert_eq!(place(home.clone().header("alg", "none").token()), None);
    assert_eq!(place(home.clone().claim("iss", "x").token()), None);
    assert_eq!(place(home.clone().header("alg", "RS512").token()), Some(0));
    assert_eq!(place(home.clone().header("crit", "x").token()), Some(0));
    assert_eq!(place(home.clone().by(&KEYS.rsa_other).token()), Some(0));
    assert_eq!(place(home.claim("exp", 1).without("iat").token()), Some(0));
    let oidc = Forge::oidc(NOW, "k1").header("kid", "k9").token();
    let rejection = judge(&world, &oidc).expect_err("no such key");
    assert_eq!(
        (rejection.reason, rejection.issuer),
        (Reason::UnknownKey, Some(1))
    );
}

#[test]
fn a_good_token_is_accepted_in_every_usual_shape() {
    let world = World::new(entries());
    let home = Forge::home(NOW);
    let oidc = |kid| Forge::oidc(NOW, kid);
    let tokens = [
        home.clone(),
        home.clone().headless("typ"),
        home.clone().header("typ", "jwt"),
        home.clone().header("kid", "whatever the region calls it"),
        home.clone().claim("exp", 1_800_000_600.9),
        home.clone().claim("nbf", NOW),
        home.clone().claim("aud", 5),
        home.clone().claim("exp", NOW).claim("iat", NOW),
        home.clone().raw_header(r#"{"alg":"\u0052S256"}"#),
        oidc("k1"),
        oidc("k2"),
        oidc("k3"),
        oidc("k4"),
        oidc("k1").header("alg", "PS256"),
        oidc("k2").headless("kid"),
        oidc("k4").headless("kid"),
        oidc("k2").header("typ", "application/at+jwt"),
        oidc("k2").header("typ", "AT+JWT"),
        oidc("k2")
            .header("typ", "JWT")
            .claim("token_type", "access"),
        Forge::west(NOW),
        Forge::narrow(NOW),
        Forge::strict(NOW),
        Forge::strict(NOW).header("alg", "RS512"),
        Forge::strict(NOW).header("alg", "PS384"),
        Forge::strict(NOW).claim("role", json!(["user", "admin"])),
        Forge::strict(NOW).claim("role", 7),
        Forge::strict(NOW).claim("scope", json!(["read"])),
    ];
    for token in tokens {
        let text = token.token();
        let verdict = judge(&world, &text);
        assert!(verdict.is_ok(), "{:?}: {text}", verdict.map(|_| ()));
    }
}

#[test]
fn what_is_verified_says_whose_it_is_and_when_it_ends() {
    let world = World::new(entries());
    let verified = judge(&world, &Forge::home(NOW).token()).expect("good");
    assert_eq!(verified.issuer, 0);
    assert_eq!(verified.ends_unix_ms, (NOW + 330) * 1_000);
    assert_eq!(verified.claims["username"], json!("alice"));
    let verified = judge(&world, &Forge::west(NOW).token()).expect("good");
    assert_eq!(verified.issuer, 2);
    assert_eq!(verified.claims["user_id"], json!(1));
    let set = world.keys.issuers[2].set.as_ref().expect("keys");
    assert_eq!(verified.set.digest(), set.digest());
}

#[test]
fn the_leeway_ends_to_the_millisecond() {
    let world = World::new(entries());
    let token = Forge::home(NOW).token();
    let at = |unix_ms| {
        let now = regent::jwt::verifier::Now {
            unix_ms,
            ..now(NOW)
        };
        verify(token.as_bytes(), &world.issuers, &world.keys, now, &mut ())
    };
    let end = (NOW + 330) * 1_000;
    assert_eq!(at(end - 1).expect("alive").ends_unix_ms, end);
    assert_eq!(at(end).expect_err("over").reason, Reason::Expired);
    assert_eq!(at(i64::MAX).expect_err("over").reason, Reason::Expired);
    assert_eq!(at((NOW - 30) * 1_000).map(|_| ()), Ok(()));
    assert_eq!(
        at((NOW - 30) * 1_000 - 1).expect_err("early").reason,
        Reason::IssuedInFuture
    );
    assert_eq!(
        at(i64::MIN).expect_err("early").reason,
        Reason::IssuedInFuture
    );
}

#[test]
fn keys_that_are_too_old_are_none() {
    let mut world = World::new(entries());
    world.keys.issuers[0].stale_at = Some(now(NOW).boot);
    let token = Forge::home(NOW).token();
    let rejection = judge(&world, &token).expect_err("stale");
    assert_eq!(rejection.reason, Reason::IssuerKeysUnavailable);
    assert_eq!(rejection.issuer, Some(0));
    world.keys.issuers.clear();
    let rejection = judge(&world, &token).expect_err("no keys yet");
    assert_eq!(rejection.reason, Reason::IssuerKeysUnavailable);
    world = World::new(entries());
    world.keys.issuers[0].stale_at = Some(regent::clock::Boot::from_nanos(2));
    assert!(judge(&world, &token).is_ok());
}

#[test]
fn tokens_without_iss_belong_to_the_issuer_without_a_name() {
    let mut all = entries();
    all.push(Entry {
        name: "nameless",
        issuer: "",
        keys: KEYS.p256.pem(),
        algorithms: &["ES256"],
        audiences: &[],
        required: Vec::new(),
    });
    let world = World::new(all);
    let nameless = Forge::home(NOW)
        .header("alg", "ES256")
        .by(&KEYS.p256)
        .without("iss");
    assert_eq!(judge(&world, &nameless.token()).expect("good").issuer, 6);
    let empty = nameless.clone().claim("iss", "");
    let reason = judge(&world, &empty.token()).expect_err("nobody's").reason;
    assert_eq!(reason, Reason::UnknownIssuer);
    let null = nameless.claim("iss", json!(null));
    let reason = judge(&world, &null.token()).expect_err("no string").reason;
    assert_eq!(reason, Reason::MalformedClaim);
    // Leaving iss out does not make a region's token anything else's.
    let home = Forge::home(NOW).without("iss").token();
    let reason = judge(&world, &home).expect_err("RS256").reason;
    assert_eq!(reason, Reason::AlgorithmNotAllowed);
}

#[test]
fn several_keys_without_a_name_are_all_tried() {
    let mut all = entries();
    all[0].keys = format!("{}{}", KEYS.rsa_other.pem(), KEYS.rsa.pem());
    let world = World::new(all);
    let token = Forge::home(NOW);
    assert!(judge(&world, &token.token()).is_ok());
    assert!(judge(&world, &token.by(&KEYS.rsa_other).token()).is_ok());
}

#[test]
fn a_set_without_a_key_of_the_kind_asks_for_new_keys() {
    let mut all = entries();
    all[0].algorithms = &["RS256", "ES256"];
    let world = World::new(all);
    let token = Forge::home(NOW)
        .header("alg", "ES256")
        .by(&KEYS.p256)
        .token();
    let reason = judge(&world, &token).expect_err("no such key").reason;
    assert_eq!(reason, Reason::UnknownKey);
    assert_eq!(
        algorithms(&["ES256"]).both(algorithms(&["RS256"])),
        algorithms(&[])
    );
}

#[test]
fn a_trace_hears_every_step_in_its_order() {
    #[derive(Default)]
    struct Words(Vec<String>);
    impl Trace for Words {
        fn step(&mut self, step: Step<'_>) {
            self.0.push(match step {
                Step::Header { header, .. } => format!("header {}", header.alg),
                Step::UnverifiedClaims(claims) => format!("claims {}", claims.len()),
                Step::Issuer { found, .. } => format!("issuer {}", found.is_some()),
                Step::Algorithm { is_allowed, .. } => format!("algorithm {is_allowed}"),
                Step::HeaderMembers(verdict) => format!("members {verdict:?}"),
                Step::Keys { found, .. } => format!("keys {found:?}"),
                Step::Key { is_good, key } => format!("key {} {is_good}", key.describe()),
                Step::Check { claim, outcome, .. } => format!("{claim} {}", outcome.is_ok()),
                Step::Done(verdict) => format!("done {}", verdict.is_ok()),
            });
        }
    }
    let mut all = entries();
    all[0].keys = format!("{}{}", KEYS.rsa_other.pem(), KEYS.rsa.pem());
    let world = World::new(all);
    let heard = |token: String| {
        let mut words = Words::default();
        let _ = verify(
            token.as_bytes(),
            &world.issuers,
            &world.keys,
            now(NOW),
            &mut words,
        );
        words.0
    };
    let start = [
        "header RS256",
        "claims 8",
        "issuer true",
        "algorithm true",
        "members Ok(())",
        "keys Some(ByAlgorithm)",
        "key RSA, 2048 bits, no kid false",
        "key RSA, 2048 bits, no kid true",
        "exp true",
        "iat true",
        "token_type true",
    ];
    let good = [
        &start[..],
        &["token_type true", "iat true", "exp true", "iat true"],
    ]
    .concat();
    let good = [&good[..], &["exp true", "exp true", "done true"]].concat();
    assert_eq!(heard(Forge::home(NOW).token()), good);
    let refresh = Forge::home(NOW).claim("token_type", "refresh").token();
    let bad = [&start[..], &["token_type false", "done false"]].concat();
    assert_eq!(heard(refresh), bad);
    assert_eq!(heard("x".to_owned()), ["done false"]);
}
