//! What is printed, and what never is.

use proptest::prelude::*;
use regent::cli::explain::Explanation;
use serde_json::{Value, json};

use crate::world::World;

fn parsed(told: &Explanation) -> Value {
    let json = told.json();
    assert_eq!(json.matches('\n').count(), 1, "one line");
    serde_json::from_str(&json).expect("JSON")
}

#[test]
fn json_has_one_shape_for_accepted_and_rejected() {
    let world = World::new();
    let good = parsed(&world.at(&world.west(json!({"role": ["admin"]})), "/admin"));
    assert_eq!(good["accepted"], true);
    assert_eq!(good["reason"], Value::Null);
    assert_eq!(good["headers"]["x-regent-user"], "west:alice");
    assert_eq!(
        good["rule"],
        json!({"place": 1, "path": "/admin", "anonymous": false})
    );
    let bad = parsed(&world.at(&world.west(json!({"aud": "x"})), "/"));
    assert_eq!(bad["accepted"], false);
    assert_eq!(bad["reason"], "wrong_audience");
    assert_eq!(
        (&bad["headers"], &bad["rule"]),
        (&Value::Null, &Value::Null)
    );
    let members = |object: &Value| -> Vec<String> {
        object
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect()
    };
    assert_eq!(members(&good), members(&bad));

    let steps = bad["steps"].as_array().expect("steps");
    for step in steps {
        assert!(
            step["step"].is_string() && step["text"].is_string(),
            "{step}"
        );
        assert!(step["ok"].is_boolean() || step["ok"].is_null(), "{step}");
    }
    let last = steps.last().expect("a step");
    assert_eq!(
        (
            &last["step"],
            &last["ok"],
            &last["claim"],
            &last["value"],
            &last["accepted"]
        ),
        (
            &json!("claim"),
            &json!(false),
            &json!("aud"),
            &json!("x"),
            &json!(["here", "there"])
        )
    );
    let exp = steps
        .iter()
        .find(|step| step["must"] == "be_after")
        .expect("exp");
    assert_eq!(exp["time"], "2026-11-25T04:04:12Z");
    assert_eq!(exp["limit"], "2026-11-25T03:59:30Z");
}

#[test]
fn neither_the_token_nor_its_signature_nor_the_hash_of_a_password_is_printed() {
    let world = World::new();
    let secret = json!({"hash_password": "canary", "role": {"hash_password": "canary"}});
    let mut expired = secret.clone();
    expired["exp"] = json!(crate::world::NOW - 1000);
    expired["iat"] = json!(crate::world::NOW - 2000);
    for token in [
        world.home(secret.clone()),
        world.home(expired),
        world.west(secret),
    ] {
        for told in [
            world.explain(&token),
            world.at(&token, "/admin"),
            world.explain(&token[1..]),
        ] {
            for printed in [told.text(), told.json()] {
                assert!(!printed.contains("canary"), "{printed}");
                for part in token.split('.') {
                    assert!(!printed.contains(&part[1..]), "{printed}");
                }
            }
        }
    }
    // The same claim is shown where it is harmless: the check above could fail.
    let told = world.at(&world.home(json!({"role": {"other": "canary"}})), "/admin");
    assert!(told.text().contains("canary") && told.json().contains("canary"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_claim_drives_a_terminal(text in "\\PC*|[\\x00-\\x1f\\x7f-\\u{9f}\\u{202e}\\u{200b}]{1,9}", which in 0..5_usize) {
        let world = world();
        let token = match which {
            0 => world.home(json!({"iss": text})),
            1 => world.home(json!({"role": text})),
            2 => world.home(json!({"username": text})),
            3 => world.home(json!({ &text: 1 })),
            _ => world.home.sign(&json!({"alg": "EdDSA", "kid": text}), crate::world::claims(json!({}))),
        };
        let told = world.at(&token, "/admin");
        for printed in [told.text(), told.json()] {
            let is_plain = |char: char| matches!(char, '\n' | ' '..='~') || char.is_alphanumeric();
            prop_assert!(printed.chars().all(is_plain), "{:?}", printed);
        }
        // A line break in a claim makes no line of its own.
        let lines = told.text().lines().filter(|line| line.starts_with(" ok ") || line.starts_with(" NO ")).count();
        let steps = told.steps.iter().filter(|step| step.ok.is_some() && !step.is_usual).count();
        prop_assert_eq!(lines, steps);
        prop_assert!(serde_json::from_str::<Value>(&told.json()).is_ok());
    }
}

fn world() -> &'static World {
    static WORLD: std::sync::LazyLock<World> = std::sync::LazyLock::new(World::new);
    &WORLD
}
