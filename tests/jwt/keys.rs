//! Which keys are taken, and which not.

use regent::jwt::algorithm::Algorithm;
use regent::jwt::key_set::{Key, KeySet};
use serde_json::{Value, json};

use crate::signer::{KEYS, Signer, b64, bytes, pem};

fn set(members: &[Value]) -> KeySet {
    KeySet::from_jwks(json!({ "keys": members }).to_string().as_bytes()).expect("a usable set")
}

fn with(signer: &Signer, name: &str, value: impl Into<Value>) -> Value {
    let mut jwk = signer.jwk();
    jwk[name] = value.into();
    jwk
}

fn verifies(key: &Key, algorithm: Algorithm, signer: &Signer) -> bool {
    key.verify(algorithm, b"text", &signer.sign(algorithm.name(), b"text"))
}

#[test]
fn every_algorithm_verifies_what_its_own_key_signed_and_nothing_else() {
    let keys = &*KEYS;
    let signers = [&keys.rsa, &keys.p256, &keys.p384, &keys.ed25519];
    let members: Vec<_> = signers.iter().map(|signer| signer.jwk()).collect();
    let set = set(&members);
    for algorithm in Algorithm::ALL {
        let mut owners = 0;
        for (key, signer) in set.keys().iter().zip(signers) {
            if !key.algorithms.has(algorithm) {
                assert!(!verifies(key, algorithm, signer), "{algorithm:?} {key:?}");
                continue;
            }
            owners += 1;
            assert!(verifies(key, algorithm, signer), "{algorithm:?}");
            let mut signature = signer.sign(algorithm.name(), b"text");
            assert!(!key.verify(algorithm, b"texts", &signature));
            signature[7] ^= 1;
            assert!(!key.verify(algorithm, b"text", &signature));
        }
        assert_eq!(owners, 1, "{algorithm:?}");
    }
}

#[test]
fn pem_is_taken_in_every_usual_form() {
    let keys = &*KEYS;
    let (n, e) = keys.rsa.modulus_and_exponent();
    assert_eq!((n.len(), e.as_slice()), (256, &[1, 0, 1][..]));
    let one = keys.rsa.pem();
    let forms = [
        one.clone(),
        pem("RSA PUBLIC KEY", &keys.rsa.pkcs1()),
        one.replace('\n', "\r\n"),
        format!("The region's key, from the admin:\n\n{one}\nBest regards\n"),
        format!("{one}{}", keys.p256.pem()),
        one.trim_end().to_owned(),
    ];
    for form in forms {
        let set = KeySet::from_pem(form.as_bytes()).expect(&form);
        assert!(
            verifies(&set.keys()[0], Algorithm::Rs256, &keys.rsa),
            "{form}"
        );
    }
    for signer in [&keys.p256, &keys.p384, &keys.ed25519] {
        let set = KeySet::from_pem(signer.pem().as_bytes()).expect("SPKI");
        let algorithm = Algorithm::ALL
            .into_iter()
            .find(|algorithm| set.keys()[0].algorithms.has(*algorithm))
            .expect("each key has an algorithm");
        assert!(verifies(&set.keys()[0], algorithm, signer));
    }
}

#[test]
fn what_is_no_public_key_in_pem_is_refused_with_the_way_out() {
    let keys = &*KEYS;
    let good = keys.rsa.pem();
    let spki = keys.rsa.spki();
    let mut longer = spki.clone();
    longer.push(0);
    // The same length in two and in three bytes, where one is enough.
    let ed25519 = keys.ed25519.spki();
    let two = [&[0x30, 0x81, ed25519[1]], &ed25519[2..]].concat();
    let three = [&[0x30, 0x82, 0, ed25519[1]], &ed25519[2..]].concat();
    let endless = [&[0x30, 0x80], &ed25519[2..], &[0, 0]].concat();
    let cases: Vec<(String, &str)> = vec![
        (pem("PUBLIC KEY", &two), "damaged"),
        (pem("PUBLIC KEY", &three), "damaged"),
        (pem("PUBLIC KEY", &endless), "damaged"),
        (String::new(), "it is empty"),
        ("hello".to_owned(), "openssl pkey"),
        ("{\"keys\":[]}".to_owned(), "jwks_file"),
        ("ssh-rsa AAAAB3 x".to_owned(), "ssh-keygen"),
        ("\x30\x01".to_owned(), "-inform DER"),
        (pem("PRIVATE KEY", b"x"), "openssl pkey -in FILE -pubout"),
        (pem("RSA PRIVATE KEY", b"x"), "a private key"),
        (pem("ENCRYPTED PRIVATE KEY", b"x"), "a private key"),
        (
            format!("{good}{}", pem("EC PRIVATE KEY", b"x")),
            "a private key",
        ),
        (
            format!("{good}-----BEGIN PRIVATE KEY-----\n!"),
            "a private key",
        ),
        (pem("CERTIFICATE", b"x"), "openssl x509"),
        (pem("TRUSTED CERTIFICATE", b"x"), "openssl x509"),
        (
            format!("{good}{}", pem("CERTIFICATE", b"x")),
            "openssl x509",
        ),
        (
            pem("EC PARAMETERS", b"x"),
            "\"EC PARAMETERS\" is no public key",
        ),
        (good.replace("-----END PUBLIC KEY-----", ""), "never ends"),
        (
            good.replace("-----END PUBLIC KEY-----", "-----END RSA PUBLIC KEY-----"),
            "never ends",
        ),
        (good[..200].to_owned(), "never ends"),
        (good.replacen("MII", "M!I", 1), "not base64"),
        (pem("PUBLIC KEY", &spki[..200]), "damaged"),
        (pem("PUBLIC KEY", &longer), "damaged"),
        (pem("PUBLIC KEY", &keys.rsa.pkcs1()), "damaged"),
        (pem("RSA PUBLIC KEY", &spki), "damaged"),
        (good.repeat(5), "\"kid\""),
        (" ".repeat(256 * 1024 + 1), "256 KiB"),
    ];
    for (text, part) in cases {
        let error = KeySet::from_pem(text.as_bytes()).expect_err(part);
        assert!(error.0.contains(part), "{part}: {error}");
        assert!(!error.0.contains('\n'), "{error}");
    }
}

#[test]
fn the_error_of_a_pem_file_names_the_line() {
    let text = format!("hello\n\n{}{}", KEYS.rsa.pem(), pem("CERTIFICATE", b"x"));
    let line = text
        .lines()
        .position(|line| line.contains("CERTIFICATE"))
        .expect("there")
        + 1;
    let error = KeySet::from_pem(text.as_bytes()).expect_err("a certificate");
    assert!(error.0.starts_with(&format!("line {line}: ")), "{error}");
}

#[test]
fn an_odd_member_is_left_out_with_its_reason_and_costs_no_other() {
    let keys = &*KEYS;
    let (rsa, p256) = (&keys.rsa, &keys.p256);
    let number = |bits: usize| {
        let mut number = vec![0xff_u8; bits.div_ceil(8)];
        number[0] >>= number.len() * 8 - bits;
        b64(number)
    };
    let without = |signer: &Signer, name: &str| {
        let mut jwk = signer.jwk();
        jwk.as_object_mut().expect("a JWK").remove(name);
        jwk
    };
    let mut off_curve = p256.jwk();
    off_curve["y"] = off_curve["x"].clone();
    let mut short = p256.jwk();
    short["x"] = json!(b64([7; 31]));
    let odd: Vec<(Value, &str)> = vec![
        (json!("a"), "no object"),
        (json!(null), "no object"),
        (json!([]), "no object"),
        (json!({}), "kty"),
        (json!({"kty": "PQC"}), "kty"),
        (json!({"kty": 5}), "kty"),
        (json!({"kty": "oct", "k": "c2VjcmV0"}), "secret"),
        (json!({"kty": "oct"}), "symmetric"),
        (with(rsa, "d", "AQAB"), "secret"),
        (with(rsa, "p", "AQAB"), "secret"),
        (with(rsa, "q", "AQAB"), "secret"),
        (with(rsa, "dp", "AQAB"), "secret"),
        (with(rsa, "oth", json!([])), "secret"),
        (with(p256, "d", json!(null)), "secret"),
        (with(rsa, "k", "AQAB"), "secret"),
        (with(rsa, "use", "enc"), "use"),
        (with(rsa, "use", "SIG"), "use"),
        (with(rsa, "use", 5), "use"),
        (with(rsa, "use", json!(null)), "use"),
        (with(rsa, "key_ops", json!(["encrypt"])), "key_ops"),
        (with(rsa, "key_ops", json!([])), "key_ops"),
        (with(rsa, "key_ops", json!(["verify", 5])), "key_ops"),
        (with(rsa, "key_ops", "verify"), "key_ops"),
        (with(rsa, "alg", "ES256"), "alg"),
        (with(rsa, "alg", "HS256"), "alg"),
        (with(rsa, "alg", "RSA-OAEP"), "alg"),
        (with(rsa, "alg", "none"), "alg"),
        (with(rsa, "alg", 5), "alg"),
        (with(p256, "alg", "ES384"), "alg"),
        (with(rsa, "kid", 5), "kid"),
        (with(rsa, "kid", json!(null)), "kid"),
        (without(rsa, "n"), "\"n\""),
        (without(rsa, "e"), "\"e\""),
        (with(rsa, "n", 5), "\"n\""),
        (with(rsa, "n", "a+/="), "base64url"),
        (with(rsa, "n", ""), "0 bits"),
        (with(rsa, "n", number(512)), "512 bits"),
        (with(rsa, "n", number(1024)), "1024 bits"),
        (with(rsa, "n", number(2047)), "2047 bits"),
        (with(rsa, "n", number(8193)), "8193 bits"),
        (with(rsa, "n", number(16_384)), "16384 bits"),
        (with(rsa, "n", b64([0xfe; 256])), "even"),
        (with(rsa, "e", b64([1])), "exponent"),
        (with(rsa, "e", b64([0])), "exponent"),
        (with(rsa, "e", b64([4])), "exponent"),
        (with(rsa, "e", b64([1, 0, 0])), "exponent"),
        (with(rsa, "e", b64([1, 0, 0, 0, 1])), "exponent"),
        (with(p256, "crv", "P-384"), "curve"),
        (with(p256, "crv", "secp256k1"), "crv"),
        (with(p256, "crv", "P-521"), "crv"),
        (with(&keys.p384, "crv", "P-256"), "curve"),
        (without(p256, "crv"), "crv"),
        (without(p256, "y"), "\"y\""),
        (off_curve, "not on the curve"),
        (short, "\"x\""),
        (with(p256, "x", b64([0; 32])), "not on the curve"),
        (with(&keys.ed25519, "crv", "Ed448"), "Ed25519"),
        (with(&keys.ed25519, "crv", "X25519"), "Ed25519"),
        (with(&keys.ed25519, "x", b64([7; 31])), "32 bytes"),
    ];
    for (member, part) in &odd {
        let good = with(&keys.p384, "kid", "good");
        let set = set(&[member.clone(), good]);
        assert_eq!(set.keys().len(), 1, "{member}");
        assert_eq!(set.ignored.len(), 1, "{member}");
        assert!(set.ignored[0].contains(part), "{part}: {}", set.ignored[0]);
        assert!(verifies(&set.keys()[0], Algorithm::Es384, &keys.p384));
        let alone = json!({"keys": [member]}).to_string();
        let error = KeySet::from_jwks(alone.as_bytes()).expect_err(part);
        assert!(error.0.contains(part), "{error}");
    }
}

/// With such a key a signature of the identity and zero is good for a part of all messages, or for
/// every one.
#[test]
fn an_ed25519_key_for_which_anybody_can_sign_is_left_out() {
    let near_the_prime = |first: u8| {
        let mut point = [0xff; 32];
        point[0] = first;
        point[31] = 0x7f;
        point
    };
    let small = |first: u8| {
        let mut point = [0; 32];
        point[0] = first;
        point
    };
    let of_order_8 = [
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    ];
    let jwk = |point: &[u8]| json!({"kty": "OKP", "crv": "Ed25519", "x": b64(point)});
    let points = [small(0), small(1)]
        .into_iter()
        .chain([0xec, 0xed, 0xee].map(near_the_prime))
        .map(|point| point.to_vec())
        .chain(of_order_8.map(bytes));
    for mut point in points {
        for sign in [0, 0x80] {
            point[31] ^= sign;
            let alone = json!({"keys": [jwk(&point)]}).to_string();
            let error = KeySet::from_jwks(alone.as_bytes()).expect_err("of small order");
            assert!(error.0.contains("small order"), "{point:02x?}: {error}");
        }
    }
    // What the library itself makes of the worst of them: any message passes.
    let rules = &aws_lc_rs::signature::ED25519;
    let forged = [&small(1)[..], &[0; 32]].concat();
    let key = aws_lc_rs::signature::UnparsedPublicKey::new(rules, small(1));
    assert!(key.verify(b"any message", &forged).is_ok());
}

#[test]
fn what_a_key_says_of_itself_narrows_it() {
    let keys = &*KEYS;
    let narrow = set(&[with(&keys.rsa, "alg", "RS256")]);
    let key = &narrow.keys()[0];
    assert!(verifies(key, Algorithm::Rs256, &keys.rsa));
    assert!(!verifies(key, Algorithm::Rs512, &keys.rsa));
    assert!(!verifies(key, Algorithm::Ps256, &keys.rsa));
    let mut jwk = with(&keys.rsa, "use", "sig");
    jwk["key_ops"] = json!(["verify", "sign"]);
    jwk["x5c"] = json!(["what others know"]);
    assert!(verifies(
        &set(&[jwk]).keys()[0],
        Algorithm::Ps512,
        &keys.rsa
    ));
}

#[test]
fn a_zero_before_the_modulus_makes_no_difference() {
    let (n, _) = KEYS.rsa.modulus_and_exponent();
    let longer = with(&KEYS.rsa, "n", b64([&[0][..], &n].concat()));
    assert_eq!(set(&[longer]).digest(), set(&[KEYS.rsa.jwk()]).digest());
}

#[test]
fn a_member_that_stands_twice_costs_its_key_alone() {
    let twice = KEYS
        .rsa
        .jwk()
        .to_string()
        .replacen('{', r#"{"kty":"RSA","#, 1);
    let text = format!(r#"{{"keys":[{twice},{}]}}"#, KEYS.p256.jwk());
    let set = KeySet::from_jwks(text.as_bytes()).expect("one is good");
    assert_eq!(set.keys().len(), 1);
    assert!(set.ignored[0].contains("twice"), "{}", set.ignored[0]);
}

#[test]
fn a_member_that_cannot_be_read_costs_its_key_alone() {
    let good = KEYS.p256.jwk();
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for odd in ["1e400", r#""\ud800""#, &deep] {
        for text in [
            format!(r#"{{"keys":[{{"kty":"RSA","x":{odd}}},{good}]}}"#),
            format!(r#"{{"keys" : [ {good} , {odd} ] }}"#),
        ] {
            let set = KeySet::from_jwks(text.as_bytes()).expect("one is good");
            assert_eq!(set.keys().len(), 1);
            assert!(
                set.ignored[0].contains("cannot be read"),
                "{:?}",
                set.ignored
            );
        }
        let beside = format!(r#"{{"x":{odd},"keys":[{good}],"y":{odd}}}"#);
        let set = KeySet::from_jwks(beside.as_bytes()).expect("what is beside is not looked at");
        assert_eq!((set.keys().len(), set.ignored.len()), (1, 0));
    }
}

#[test]
fn a_document_that_is_no_set_is_refused_whole() {
    let key = KEYS.p256.jwk();
    let many = |count: usize| json!({"keys": vec![key.clone(); count]}).to_string();
    assert_eq!(set(&vec![key.clone(); 64]).keys().len(), 64);
    let cases = [
        (String::new(), "no JWK set"),
        ("<html>".to_owned(), "no JWK set"),
        ("[]".to_owned(), "no list \"keys\""),
        ("7".to_owned(), "no list \"keys\""),
        (format!(r#"{{"keys":[{key} {key}]}}"#), "line 1, column"),
        (format!(r#"{{"keys":[{key},]}}"#), "line 1, column"),
        ("{}".to_owned(), "no list \"keys\""),
        (key.to_string(), "no list \"keys\""),
        (r#"{"keys":{}}"#.to_owned(), "no JWK set"),
        (r#"{"keys":[]}"#.to_owned(), "no key in"),
        (
            format!(r#"{{"keys":[{key}],"\u006beys":[{key}]}}"#),
            "two lists",
        ),
        (format!(r#"{{"keys":[{key}]"#), "no JWK set"),
        (format!(r#"{{"keys":[{key}]}} x"#), "no JWK set"),
        (many(65), "more than 64"),
        (many(900), "more than 64"),
        (many(3_000), "256 KiB"),
    ];
    for (text, part) in cases {
        let error = KeySet::from_jwks(text.as_bytes()).expect_err(part);
        assert!(error.0.contains(part), "{part}: {error}");
    }
}

#[test]
fn a_name_from_outside_cannot_write_lines_into_the_log() {
    let jwk = json!({"kty": "RSA", "kid": format!("\r\n\u{1b}[0m{}", "é".repeat(500))});
    let text = json!({"keys": [jwk, KEYS.p256.jwk()]}).to_string();
    let set = KeySet::from_jwks(text.as_bytes()).expect("one is good");
    let line = &set.ignored[0];
    assert!(
        line.len() < 250 && !line.contains(char::is_control),
        "{line:?}"
    );
}

#[test]
fn the_digest_is_of_the_keys_and_not_of_their_order() {
    let keys = &*KEYS;
    let [a, b] = [with(&keys.rsa, "kid", "a"), with(&keys.p256, "kid", "b")];
    let digest = |members: &[Value]| set(members).digest();
    let there = digest(&[a.clone(), b.clone()]);
    assert_eq!(there, digest(&[b.clone(), json!({"kty": "?"}), a.clone()]));
    let others = [
        vec![a.clone()],
        vec![a.clone(), b.clone(), b.clone()],
        vec![with(&keys.rsa_other, "kid", "a"), b.clone()],
        vec![with(&keys.rsa, "kid", "c"), b.clone()],
        vec![keys.rsa.jwk(), b.clone()],
        vec![
            {
                let mut a = a.clone();
                a["alg"] = json!("RS256");
                a
            },
            b.clone(),
        ],
    ];
    for other in others {
        assert_ne!(there, digest(&other));
    }
    let pem = KeySet::from_pem(keys.rsa.pem().as_bytes()).expect("PEM");
    assert_eq!(pem.digest(), digest(&[keys.rsa.jwk()]));
}

#[test]
fn candidates_are_those_of_the_kid_else_those_without_one() {
    let keys = &*KEYS;
    let names = |set: &KeySet, kid: Option<&str>, algorithm| -> Vec<String> {
        set.candidates(kid, algorithm).map(Key::describe).collect()
    };
    let named = set(&[
        with(&keys.rsa, "kid", "a"),
        with(&keys.rsa_other, "kid", "b"),
        with(&keys.p256, "kid", "a"),
    ]);
    assert_eq!(
        names(&named, Some("a"), Algorithm::Rs256),
        ["RSA, 2048 bits, kid \"a\""]
    );
    assert_eq!(
        names(&named, Some("a"), Algorithm::Es256),
        ["EC, P-256, kid \"a\""]
    );
    assert_eq!(names(&named, None, Algorithm::Rs256).len(), 2);
    assert!(names(&named, Some("b"), Algorithm::Es256).is_empty());
    assert!(names(&named, Some("A"), Algorithm::Rs256).is_empty());
    let mixed = set(&[
        with(&keys.rsa, "kid", "a"),
        keys.rsa_other.jwk(),
        keys.ed25519.jwk(),
    ]);
    assert_eq!(
        names(&mixed, Some("z"), Algorithm::Rs256),
        ["RSA, 2048 bits, no kid"]
    );
    assert_eq!(
        names(&mixed, Some("a"), Algorithm::Rs256),
        ["RSA, 2048 bits, kid \"a\""]
    );
    assert_eq!(names(&mixed, None, Algorithm::EdDsa), ["Ed25519, no kid"]);
    let many = set(&vec![keys.rsa.jwk(); 9]);
    assert_eq!(names(&many, None, Algorithm::Rs256).len(), 4);
    assert_eq!(names(&many, Some("x"), Algorithm::Rs256).len(), 4);
}

#[test]
fn explain_takes_keys_in_any_form() {
    let keys = &*KEYS;
    let jwk = keys.p256.jwk();
    let forms = [
        keys.p256.pem(),
        jwk.to_string(),
        format!("\n {}", json!({ "keys": [jwk] })),
    ];
    let [pem, one, set] =
        forms.map(|form| KeySet::from_any(form.as_bytes()).expect(&form).digest());
    assert_eq!((pem, pem), (one, set));
    for nothing in ["", "{}", "[]", "{\"kty\":\"oct\",\"k\":\"AA\"}"] {
        assert!(KeySet::from_any(nothing.as_bytes()).is_err(), "{nothing}");
    }
}
