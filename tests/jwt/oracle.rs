//! Another implementation beside ours: whatever we accept, it accepts too.

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use proptest::prelude::*;
use regent::jwt::verifier::{Verified, verify};
use serde_json::{Map, Value, json};

use crate::cases;
use crate::forge::Forge;
use crate::signer::{KEYS, Signer};
use crate::world::{World, entries, now};

const NOW: i64 = 1_800_000_000;

/// The signature and the shape; the claims are not its business.
fn theirs(token: &str, signer: &Signer) -> Option<Map<String, Value>> {
    let jwk: Jwk = serde_json::from_value(signer.jwk()).expect("a JWK");
    let key = DecodingKey::from_jwk(&jwk).expect("a key");
    let algorithms: &[Algorithm] = match signer {
        Signer::Rsa(_) => &[
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ],
        Signer::P256(_) => &[Algorithm::ES256],
        Signer::P384(_) => &[Algorithm::ES384],
        Signer::Ed25519(_) => &[Algorithm::EdDSA],
    };
    let mut rules = Validation::new(algorithms[0]);
    rules.algorithms = algorithms.to_vec();
    rules.required_spec_claims.clear();
    rules.validate_exp = false;
    rules.validate_aud = false;
    decode(token, &key, &rules).ok().map(|data| data.claims)
}

fn ours(world: &World, token: &str) -> Option<Verified> {
    verify(
        token.as_bytes(),
        &world.issuers,
        &world.keys,
        now(NOW),
        &mut (),
    )
    .ok()
}

fn signers() -> [&'static Signer; 6] {
    let keys = &*KEYS;
    [
        &keys.rsa,
        &keys.rsa_other,
        &keys.p256,
        &keys.p256_other,
        &keys.p384,
        &keys.ed25519,
    ]
}

#[test]
fn every_twin_of_the_table_is_accepted_by_the_other_implementation() {
    let world = World::new(entries());
    for case in cases::all(NOW) {
        let verified = ours(&world, &case.twin).expect(&case.name);
        let claims = signers()
            .iter()
            .find_map(|signer| theirs(&case.twin, signer));
        assert_eq!(claims, Some(verified.claims), "{}", case.name);
    }
}

fn header_members() -> impl Strategy<Value = Vec<(&'static str, Value)>> {
    let member = prop_oneof![
        prop::sample::select(vec!["JWT", "at+jwt", "AT+JWT", "dpop+jwt"])
            .prop_map(|typ| ("typ", json!(typ))),
        prop::sample::select(vec!["k1", "k2", "k3", "k4", "n"]).prop_map(|kid| ("kid", json!(kid))),
        prop::sample::select(vec![
            "RS256", "RS512", "PS256", "ES256", "EdDSA", "HS256", "none"
        ])
        .prop_map(|alg| ("alg", json!(alg))),
        Just(("x", json!({"a": 1}))),
        Just(("crit", json!(["x"]))),
        Just(("cty", json!("JWT"))),
    ];
    prop::collection::vec(member, 0..3)
}

fn claims() -> impl Strategy<Value = Vec<(&'static str, Value)>> {
    let time = prop_oneof![
        (NOW - 90..NOW + 900).prop_map(Value::from),
        (0.0..2e9_f64).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        Just(json!("x")),
    ];
    let member = prop_oneof![
        (prop::sample::select(vec!["exp", "nbf", "iat"]), time),
        prop::sample::select(vec![json!("me"), json!(["me"]), json!("x"), json!(5)])
            .prop_map(|aud| ("aud", aud)),
        prop::sample::select(vec!["access", "refresh"])
            .prop_map(|kind| ("token_type", json!(kind))),
        ".{0,9}".prop_map(|text| ("username", json!(text))),
        any::<f64>().prop_map(|number| ("x", json!(number))),
    ];
    prop::collection::vec(member, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn what_we_accept_the_other_implementation_accepts(
        which in 0..6_usize,
        signer in prop::option::of(0..6_usize),
        header in header_members(),
        claims in claims(),
    ) {
        let world = World::new(entries());
        let mut forge = match which {
            0 => Forge::home(NOW),
            1 => Forge::strict(NOW),
            2 => Forge::west(NOW),
            3 => Forge::narrow(NOW),
            4 => Forge::oidc(NOW, "k1"),
            _ => Forge::oidc(NOW, "k4"),
        };
        for (name, value) in header {
            forge = forge.header(name, value);
        }
        for (name, value) in claims {
            forge = forge.claim(name, value);
        }
        if let Some(signer) = signer {
            forge = forge.by(signers()[signer]);
        }
        let token = forge.token();
        if let Some(verified) = ours(&world, &token) {
            let claims = signers().iter().find_map(|signer| theirs(&token, signer));
            prop_assert_eq!(claims, Some(verified.claims), "{}", token);
        }
    }
}
