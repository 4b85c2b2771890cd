//! Whatever comes in, nothing panics, and what is accepted means one thing alone.

use std::collections::HashSet;

use proptest::prelude::*;
use regent::compact::strict;
use regent::jwt::key_set::KeySet;
use regent::jwt::verifier::verify;
use serde_json::{Value, json};

use crate::forge::Forge;
use crate::models;
use crate::seeds;
use crate::signer::{KEYS, b64};
use crate::world::{World, entries, now};

const NOW: i64 = 1_800_000_000;

/// Bytes that look like tokens more often than chance would have it.
fn tokens() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just(b64(r#"{"alg":"RS256"}"#)),
        Just(b64(r#"{"alg":"ES256","kid":"k2"}"#)),
        Just(b64(r#"{"iss":"x","exp":1}"#)),
        "[A-Za-z0-9_=+/-]{0,12}",
        prop::collection::vec(any::<u8>(), 0..9).prop_map(b64),
    ];
    let parts = prop::collection::vec(part, 0..5).prop_map(|parts| parts.join(".").into_bytes());
    let good = (0_usize..500, any::<u8>()).prop_map(|(place, byte)| {
        let mut token = Forge::oidc(NOW, "k4").token().into_bytes();
        let place = place % token.len();
        token[place] = byte;
        token
    });
    prop_oneof![parts, good, prop::collection::vec(any::<u8>(), 0..80)]
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[a-c]{0,2}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_token_is_read_as_the_second_reader_reads_it(token in tokens()) {
        models::token::compare(&token);
    }

    #[test]
    fn parts_of_a_token_are_read_as_the_second_reader_reads_them(
        header in values(),
        claims in values(),
        alg in prop::option::of("[A-Z0-9]{0,5}"),
    ) {
        let mut members = serde_json::Map::new();
        members.extend(alg.map(|alg| ("alg".to_owned(), json!(alg))));
        members.extend([("kid".to_owned(), header)]);
        let input = format!("{}\n{claims}\nx", Value::Object(members));
        models::token::judge(input.as_bytes());
    }

    #[test]
    fn nothing_that_looks_like_a_token_is_accepted_or_panics(token in tokens()) {
        let world = World::new(entries());
        let good = Forge::oidc(NOW, "k4").token().into_bytes();
        let verdict = verify(&token, &world.issuers, &world.keys, now(NOW), &mut ());
        prop_assert_eq!(verdict.is_ok(), token == good);
    }

    #[test]
    fn strict_json_is_json_without_a_member_twice(value in values(), twice in any::<bool>()) {
        let text = json!({ "a": value }).to_string();
        let plain: Value = serde_json::from_str(&text).expect("JSON");
        prop_assert_eq!(strict::object(text.as_bytes()).map(Value::Object), Ok(plain));
        if twice {
            let text = text.replacen('{', "{\"\\u0061\":0,", 1);
            prop_assert_eq!(strict::object(text.as_bytes()), Err(strict::Trouble::Duplicate));
        }
    }

    #[test]
    fn strict_json_never_panics(text in r#"[{}\[\]",:a0-9.eE+\\u-]{0,40}"#) {
        let is_object = serde_json::from_str::<serde_json::Map<String, Value>>(&text).is_ok();
        match strict::object(text.as_bytes()) {
            Ok(_) | Err(strict::Trouble::Duplicate) => prop_assert!(is_object, "{}", text),
            Err(strict::Trouble::NoObject) => prop_assert!(!is_object, "{}", text),
        }
    }

    #[test]
    fn keys_that_were_damaged_never_panic(place in 0_usize..2_000, byte in any::<u8>()) {
        for text in [KEYS.rsa.pem(), KEYS.p384.pem(), json!({"keys": [KEYS.rsa.jwk()]}).to_string()] {
            let mut bytes = text.into_bytes();
            let place = place % bytes.len();
            bytes[place] = byte;
            if let Ok(set) = KeySet::from_any(&bytes) {
                prop_assert_eq!(set.keys().len(), 1);
            }
        }
    }

    #[test]
    fn claims_of_any_type_are_judged_without_a_panic(
        name in prop::sample::select(vec!["exp", "nbf", "iat", "aud", "token_type", "iss", "cnf", "scope"]),
        value in values(),
        now_ms in any::<i64>(),
    ) {
        let world = World::new(entries());
        let token = Forge::oidc(NOW, "k4").claim(name, value).token();
        let now = regent::jwt::verifier::Now { unix_ms: now_ms, ..now(NOW) };
        let _ = verify(token.as_bytes(), &world.issuers, &world.keys, now, &mut ());
    }
}

#[test]
fn every_bit_of_a_token_counts() {
    let world = World::new(entries());
    let good = Forge::oidc(NOW, "k4").token().into_bytes();
    let mut seen = HashSet::new();
    for place in 0..good.len() {
        for bit in 0..8 {
            let mut token = good.clone();
            token[place] ^= 1 << bit;
            let verdict = verify(&token, &world.issuers, &world.keys, now(NOW), &mut ());
            let rejection = verdict.expect_err("one bit differs");
            seen.insert(rejection.reason);
        }
    }
    assert!(seen.len() >= 4, "{seen:?}");
}

#[test]
fn the_second_reader_takes_what_is_a_token() {
    let good = Forge::oidc(NOW, "k4").token();
    for token in [good.as_str(), models::token::GENUINE] {
        assert!(models::token::compare(token.as_bytes()));
    }
    for token in ["", "a.b.c", &good[1..], &format!("{good}=")] {
        assert!(!models::token::compare(token.as_bytes()), "{token}");
    }
}

#[test]
fn the_second_judge_takes_every_kind_of_key() {
    let keys = &*KEYS;
    let signers = [&keys.rsa, &keys.p256, &keys.p384, &keys.ed25519];
    let mut members: Vec<_> = signers.iter().map(|signer| signer.jwk()).collect();
    members.extend([json!(null), json!({"kty": "oct", "k": "AQAB"})]);
    let set = json!({ "keys": members }).to_string();
    assert_eq!(models::jwks::compare(set.as_bytes()), signers.len());
}

#[test]
fn the_seeds_of_the_fuzz_targets_hold() {
    seeds::each("token", models::token::judge);
    seeds::each("jwks", models::jwks::judge);
}
