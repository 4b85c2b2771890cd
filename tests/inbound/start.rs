//! Key files that a sidecar does not start with (cases.md, C17 and C24).

use crate::gate::*;
use crate::signer::{KEYS, pem};
use crate::world::HOME;

#[test]
fn a_file_without_a_good_public_key_is_a_mistake_at_its_line() {
    paused(async {
        let public = KEYS.rsa.pem();
        let private = pem("PRIVATE KEY", &KEYS.rsa.pkcs8());
        let jwks = |jwk| serde_json::json!({ "keys": [jwk] }).to_string();
        let mut private_jwk = KEYS.rsa.jwk();
        private_jwk["d"] = "AQAB".into();
        let is_private = "a private key";
        for (key, contents, expected) in [
            ("public_key_file", private.clone(), is_private),
            ("public_key_file", format!("{public}{private}"), is_private),
            ("public_key_file", format!("{private}{public}"), is_private),
            ("public_key_file", public[..200].to_owned(), "never ends"),
            ("public_key_file", String::new(), "empty"),
            ("public_key_file", "garbage".to_owned(), "BEGIN PUBLIC KEY"),
            ("public_key_file", jwks(KEYS.rsa.jwk()), "jwks_file"),
            ("jwks_file", jwks(private_jwk), "a secret"),
            ("jwks_file", private.clone(), "no JWK set"),
            ("jwks_file", public.clone(), "no JWK set"),
            ("jwks_file", String::new(), "no JWK set"),
            (
                "jwks_file",
                jwks(KEYS.rsa.jwk())[..300].to_owned(),
                "no JWK set",
            ),
        ] {
            let (told, path) = problem(key, Some(&contents));
            let case = format!("{key} {contents}: {told}");
            assert!(told.contains(expected), "{expected}: {case}");
            assert!(
                told.contains(&format!("inbound.issuers.home.{key}")),
                "{case}"
            );
            assert!(told.contains(&path), "{case}");
            for line in private.lines().filter(|line| !line.starts_with('-')) {
                assert!(!told.contains(line), "{case}");
            }
        }
        for key in ["public_key_file", "jwks_file"] {
            let (told, path) = problem(key, None);
            assert!(
                told.contains("cannot read") && told.contains(&path),
                "{told}"
            );
        }
    });
}

#[test]
fn keys_for_other_algorithms_are_told_with_what_to_write() {
    paused(async {
        let keys = &*KEYS;
        let set = |jwk| serde_json::json!({ "keys": [jwk] }).to_string();
        let both = format!("{}{}", keys.p256.pem(), keys.p384.pem());
        for (key, contents, named, expected) in [
            (
                "public_key_file",
                keys.p256.pem(),
                "",
                "is for RS256, so that every token of it would be refused; write algorithms = [\"ES256\"]",
            ),
            (
                "public_key_file",
                keys.p384.pem(),
                "",
                "; write algorithms = [\"ES384\"]",
            ),
            (
                "public_key_file",
                keys.ed25519.pem(),
                "",
                "; write algorithms = [\"EdDSA\"]",
            ),
            (
                "jwks_file",
                set(keys.p256.jwk()),
                "",
                "; write algorithms = [\"ES256\"]",
            ),
            (
                "jwks_file",
                set(keys.ed25519.jwk()),
                "",
                "; write algorithms = [\"EdDSA\"]",
            ),
            (
                "public_key_file",
                both,
                "",
                "; write algorithms = [\"ES256\", \"ES384\"]",
            ),
            (
                "public_key_file",
                keys.rsa.pem(),
                "algorithms = ['ES256', 'EdDSA']",
                "is for ES256 or EdDSA, so that every token of it would be refused; write what it \
                 signs with, such as algorithms = [\"RS256\"]",
            ),
        ] {
            let world = World::pipes();
            let setup = Setup::new(&world, world.address());
            let path = setup.file("keys", &contents);
            let lines = format!("issuer = '{HOME}'\n{key} = '{}'\n{named}\n", path.display());
            let told = setup.issuer("home", lines).problem();
            assert!(told.contains("inbound.issuers.home.algorithms: "), "{told}");
            assert!(told.ends_with(expected), "{expected}: {told}");
        }
    });
}

/// Why it does not start with a file of these contents, and the file.
fn problem(key: &str, contents: Option<&str>) -> (String, String) {
    let world = World::pipes();
    let setup = Setup::new(&world, world.address());
    let path = setup.file("keys", contents.unwrap_or_default());
    if contents.is_none() {
        std::fs::remove_file(&path).expect("removed");
    }
    let path = path.display().to_string();
    let keys = format!("issuer = '{HOME}'\n{key} = '{path}'\n");
    let told = setup.issuer("home", keys).problem();
    (told, path)
}
