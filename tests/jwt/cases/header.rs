//! Headers: their shape, the algorithm, what they say that the token is.

use aws_lc_rs::hmac;
use regent::reason::Reason;
use serde_json::{Value, json};

use super::Table;
use crate::forge::Forge;
use crate::signer::{KEYS, b64};
use crate::world::SHARED;

pub(super) fn add(table: &mut Table, now: i64) {
    shape(table, now);
    none(table, now);
    hmac_with_the_public_key(table, now);
    hmac_with_a_secret_of_the_set(table, now);
    algorithms(table, now);
    kinds(table, now);
    critical(table, now);
}

fn shape(table: &mut Table, now: i64) {
    let home = Forge::home(now);
    let good = String::from_utf8(home.header_bytes()).expect("text");
    for (name, header) in [
        ("a list", "[]".to_owned()),
        ("null", "null".to_owned()),
        ("text", "\"RS256\"".to_owned()),
        ("a byte order mark", format!("\u{feff}{good}")),
        ("two objects", format!("{good}{good}")),
        ("cut off", good[..good.len() - 1].to_owned()),
        ("no alg", r#"{"typ":"JWT"}"#.to_owned()),
        ("alg in capitals", r#"{"ALG":"RS256"}"#.to_owned()),
    ] {
        let attack = home.clone().raw_header(header).token();
        table.add(
            format!("header: {name}"),
            Reason::MalformedToken,
            &home,
            attack,
        );
    }
    let oidc = Forge::oidc(now, "k1");
    for (name, member, value) in [
        ("alg is a number", "alg", json!(256)),
        ("alg is a list", "alg", json!(["RS256"])),
        ("alg is null", "alg", json!(null)),
        ("kid is null", "kid", json!(null)),
        ("kid is a number", "kid", json!(1)),
        ("kid is a list", "kid", json!(["k1"])),
        ("kid is an object", "kid", json!({"k1": 1})),
        ("typ is a number", "typ", json!(1)),
        ("typ is null", "typ", json!(null)),
        ("typ is a list", "typ", json!(["at+jwt"])),
    ] {
        let attack = oidc.clone().header(member, value).token();
        table.add(
            format!("header: {name}"),
            Reason::MalformedToken,
            &oidc,
            attack,
        );
    }
}

fn none(table: &mut Table, now: i64) {
    let twin = Forge::home(now);
    let signature = twin.sign(&twin.input());
    for alg in ["none", "None", "NONE", "nOnE", "none ", "", "n\u{f8}ne"] {
        let attack = twin.clone().header("alg", alg);
        for (how, signature) in [
            ("no signature", &b""[..]),
            ("the signature of before", &signature),
            ("garbage", b"garbage"),
        ] {
            let name = format!("alg {alg:?} with {how}");
            let attack = attack.with_signature(signature);
            table.add(name, Reason::AlgorithmNotAllowed, &twin, attack);
        }
    }
}

fn hmac_with_the_public_key(table: &mut Table, now: i64) {
    let twin = Forge::home(now);
    let pem = KEYS.rsa.pem();
    let secrets: [(&str, Vec<u8>); 9] = [
        ("PEM", pem.clone().into_bytes()),
        (
            "PEM without its last line break",
            pem.trim_end().as_bytes().to_vec(),
        ),
        ("PEM with CRLF", pem.replace('\n', "\r\n").into_bytes()),
        ("PEM after a space", format!(" {pem}").into_bytes()),
        ("SPKI", KEYS.rsa.spki()),
        ("PKCS#1", KEYS.rsa.pkcs1()),
        ("modulus", KEYS.rsa.modulus_and_exponent().0),
        ("JWK", KEYS.rsa.jwk().to_string().into_bytes()),
        ("nothing", Vec::new()),
    ];
    for (alg, mac) in [
        ("HS256", hmac::HMAC_SHA256),
        ("HS384", hmac::HMAC_SHA384),
        ("HS512", hmac::HMAC_SHA512),
    ] {
        for (name, secret) in &secrets {
            let attack = twin.clone().header("alg", alg);
            let key = hmac::Key::new(mac, secret);
            let tag = hmac::sign(&key, attack.input().as_bytes());
            let attack = attack.with_signature(tag);
            let name = format!("{alg} with {name} as its secret");
            table.add(name, Reason::AlgorithmNotAllowed, &twin, attack);
        }
    }
}

/// A symmetric key in a set is nobody's: whoever reads the set could sign with it.
fn hmac_with_a_secret_of_the_set(table: &mut Table, now: i64) {
    let twin = Forge::oidc(now, "k1");
    for (alg, mac) in [
        ("HS256", hmac::HMAC_SHA256),
        ("HS384", hmac::HMAC_SHA384),
        ("HS512", hmac::HMAC_SHA512),
    ] {
        for kid in ["shared", "shared-hs256"] {
            let attack = twin.clone().header("alg", alg).header("kid", kid);
            let key = hmac::Key::new(mac, SHARED);
            let tag = hmac::sign(&key, attack.input().as_bytes());
            let attack = attack.with_signature(tag);
            let name = format!("{alg} with the set's secret {kid}");
            table.add(name, Reason::AlgorithmNotAllowed, &twin, attack);
        }
    }
}

fn algorithms(table: &mut Table, now: i64) {
    let refused = Reason::AlgorithmNotAllowed;
    let home = Forge::home(now);
    for alg in ["PS256", "RS384", "RS512"] {
        let attack = home.clone().header("alg", alg).token();
        table.add(
            format!("{alg} where RS256 is allowed"),
            refused,
            &home,
            attack,
        );
    }
    for (alg, signer) in [
        ("ES256", &KEYS.p256),
        ("ES384", &KEYS.p384),
        ("EdDSA", &KEYS.ed25519),
    ] {
        let attack = home.clone().header("alg", alg).by(signer).token();
        table.add(
            format!("{alg} where RS256 is allowed"),
            refused,
            &home,
            attack,
        );
    }
    for alg in [
        "rs256",
        "Rs256",
        "RS256 ",
        " RS256",
        "RS256\0",
        "RS-256",
        "RS1",
        "ES512",
        "ES256K",
        "Ed25519",
        "Ed448",
        "dir",
        "A256GCM",
        "RSA-OAEP",
        "PBES2-HS256+A128KW",
        "RS256,none",
    ] {
        let attack = home.clone().header("alg", alg).token();
        table.add(format!("alg {alg:?}"), refused, &home, attack);
    }
    let narrow = Forge::narrow(now);
    let attack = narrow.clone().header("alg", "RS512").token();
    table.add("RS512 by a key for RS256", refused, &narrow, attack);
    let oidc = Forge::oidc(now, "k1");
    for (alg, kid) in [
        ("ES256", "k1"),
        ("ES256", "k3"),
        ("ES384", "k2"),
        ("EdDSA", "k2"),
        ("RS256", "k4"),
    ] {
        let attack = Forge::oidc(now, kid).header("alg", alg).token();
        table.add(
            format!("{alg} by the key {kid} of another kind"),
            refused,
            &oidc,
            attack,
        );
    }
    let attack = oidc.clone().header("alg", "RS384").token();
    table.add(
        "RS384 where four others are allowed",
        refused,
        &oidc,
        attack,
    );
}

fn kinds(table: &mut Table, now: i64) {
    let wrong = Reason::WrongTokenType;
    let home = Forge::home(now);
    for typ in [
        "",
        "JWT ",
        "at+jwt ",
        "dpop+jwt",
        "logout+jwt",
        "secevent+jwt",
        "refresh+jwt",
        "JOSE",
        "JWE",
        "application/jwt",
        "application/logout+jwt",
        "text/at+jwt",
        "oauth-authz-req+jwt",
        "token-introspection+jwt",
        "JWT,at+jwt",
        "\u{212a}WT",
    ] {
        let attack = home.clone().header("typ", typ).token();
        table.add(format!("typ {typ:?}"), wrong, &home, attack);
    }
    let oidc = Forge::oidc(now, "k2");
    let attack = oidc.clone().header("typ", "logout+jwt").token();
    table.add("a logout token by its typ", wrong, &oidc, attack);
    let members: [(&str, Value); 8] = [
        ("cty", json!("JWT")),
        ("cty", json!("json")),
        ("cty", json!("")),
        ("cty", json!(null)),
        ("zip", json!("DEF")),
        ("zip", json!(null)),
        ("enc", json!("A256GCM")),
        ("enc", json!(false)),
    ];
    for (member, value) in members {
        let attack = home.clone().header(member, value.clone()).token();
        table.add(format!("{member} is {value}"), wrong, &home, attack);
    }
    let inner = home.token();
    let attack = home.clone().header("cty", "JWT").raw_payload(inner);
    table.add(
        "a token in a token",
        Reason::MalformedToken,
        &home,
        attack.token(),
    );
}

fn critical(table: &mut Table, now: i64) {
    let home = Forge::home(now);
    let twin = home.clone().header("x", 1);
    for crit in [
        json!(["x"]),
        json!(["b64"]),
        json!([]),
        json!(["exp"]),
        json!(["alg"]),
        json!(["absent"]),
        json!(["crit"]),
        json!("b64"),
        json!(null),
        json!(false),
        json!({"x": 1}),
    ] {
        let attack = twin.clone().header("crit", crit.clone()).token();
        let name = format!("crit is {crit}");
        table.add(name, Reason::UnsupportedCriticalHeader, &twin, attack);
    }
    // The payload is encoded all the same: who reads past crit finds a good token.
    for b64 in [json!(false), json!(true)] {
        let attack = home.clone().header("crit", json!(["b64"]));
        let attack = attack.header("b64", b64.clone()).token();
        let name = format!("crit names b64, which is {b64}");
        table.add(name, Reason::UnsupportedCriticalHeader, &twin, attack);
    }
    // RFC 7797: the payload is not encoded, and the signature is over it as it is. It cannot hold
    // a dot, so the issuer's name is spelt with an escape.
    let attack = home.header("crit", json!(["b64"])).header("b64", false);
    let header = b64(attack.header_bytes());
    let payload = String::from_utf8(attack.payload_bytes()).expect("text");
    let attack = attack.seal(&format!("{header}.{}", payload.replace('.', "\\u002e")));
    table.add(
        "an unencoded payload",
        Reason::MalformedToken,
        &twin,
        attack,
    );
}
