//! Signatures that are none, and keys that the token brings along.

use regent::reason::Reason;
use serde_json::{Value, json};

use super::Table;
use crate::forge::Forge;
use crate::signer::{KEYS, Signer, b64, bytes};

const BAD: Reason = Reason::BadSignature;

pub(super) fn add(table: &mut Table, now: i64) {
    damaged(table, now);
    ecdsa(table, now);
    ed25519(table, now);
    foreign(table, now);
    of_no_use(table, now);
    brought_along(table, now);
    kids(table, now);
}

fn damaged(table: &mut Table, now: i64) {
    let refused = [
        ("RS256", Forge::home(now)),
        ("PS256", Forge::oidc(now, "k1").header("alg", "PS256")),
        ("ES256", Forge::oidc(now, "k2")),
        ("ES384", Forge::oidc(now, "k3")),
        ("EdDSA", Forge::oidc(now, "k4")),
    ];
    for (alg, twin) in refused {
        let good = twin.sign(&twin.input());
        let twin_token = twin.with_signature(&good);
        let other = twin.clone().claim("user_id", 2);
        let flipped = |place: usize| {
            let mut signature = good.clone();
            signature[place] ^= 1;
            signature
        };
        for (name, attack) in [
            ("zeros", vec![0; good.len()]),
            ("ones", vec![0xff; good.len()]),
            ("one byte less at the end", good[..good.len() - 1].to_vec()),
            ("one byte less at the start", good[1..].to_vec()),
            ("a zero more at the end", [&good[..], &[0]].concat()),
            ("a zero more at the start", [&[0], &good[..]].concat()),
            ("twice", good.repeat(2)),
            ("one byte", vec![1]),
            ("the first bit flipped", flipped(0)),
            ("the last bit flipped", flipped(good.len() - 1)),
            ("that of another token", other.sign(&other.input())),
        ] {
            let attack = twin.with_signature(attack);
            let name = format!("{alg} signature: {name}");
            table.beside(name, BAD, twin_token.clone(), attack);
        }
        let attack = twin.with_signature("");
        let name = format!("{alg} signature: none");
        table.beside(name, Reason::MalformedToken, twin_token.clone(), attack);
        let attack = format!("{}.{}", other.input(), b64(&good));
        table.beside(
            format!("{alg}: another claim under it"),
            BAD,
            twin_token.clone(),
            attack,
        );
        let attack = twin.clone().header("x", 1).with_signature(&good);
        table.beside(
            format!("{alg}: another header over it"),
            BAD,
            twin_token,
            attack,
        );
    }
}

/// The orders of the two curves' groups (FIPS 186-4 appendix D.1.2).
const N256: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
const N384: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf\
                    581a0db248b0a77aecec196accc52973";

fn minus_one(mut number: Vec<u8>) -> Vec<u8> {
    *number.last_mut().expect("digits") -= 1;
    number
}

/// CVE-2022-21449 and its relatives.
fn ecdsa(table: &mut Table, now: i64) {
    for (twin, order) in [
        (Forge::oidc(now, "k2"), N256),
        (Forge::oidc(now, "k3"), N384),
    ] {
        let order = bytes(order);
        let size = order.len();
        let small = |value: u8| {
            let mut number = vec![0; size];
            number[size - 1] = value;
            number
        };
        let good = twin.sign(&twin.input());
        let (r, s) = good.split_at(size);
        let values = [
            ("0", small(0)),
            ("1", small(1)),
            ("n - 1", minus_one(order.clone())),
            ("n", order.clone()),
        ];
        let token = twin.with_signature(&good);
        for (r_name, first) in &values {
            for (s_name, second) in &values {
                let attack = twin.with_signature([&first[..], second].concat());
                let name = format!("ECDSA of {size} bytes: r is {r_name}, s is {s_name}");
                table.beside(name, BAD, token.clone(), attack);
            }
        }
        for (name, attack) in [
            ("r is 0", [&small(0)[..], s].concat()),
            ("s is 0", [r, &small(0)[..]].concat()),
            ("r is n", [&order[..], s].concat()),
            ("s is n", [r, &order[..]].concat()),
            ("r and s swapped", [s, r].concat()),
            ("r alone", r.to_vec()),
            ("zeros before both", [&[0], r, &[0], s].concat()),
            ("zeros after both", [r, &[0], s, &[0]].concat()),
            ("DER", der(r, s)),
            (
                "hexadecimal",
                good.iter()
                    .flat_map(|byte| format!("{byte:02x}").into_bytes())
                    .collect(),
            ),
        ] {
            let name = format!("ECDSA of {size} bytes: {name}");
            table.beside(name, BAD, token.clone(), twin.with_signature(attack));
        }
    }
}

fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let mut number = number[zeros..].to_vec();
        if number[0] >= 0x80 {
            number.insert(0, 0);
        }
        let length = u8::try_from(number.len()).expect("short");
        [&[2, length], &number[..]].concat()
    };
    let both = [integer(r), integer(s)].concat();
    let length = u8::try_from(both.len()).expect("short");
    [&[0x30, length], &both[..]].concat()
}

fn ed25519(table: &mut Table, now: i64) {
    let twin = Forge::oidc(now, "k4");
    let good = twin.sign(&twin.input());
    let token = twin.with_signature(&good);
    // RFC 8032 section 5.1.7: S must be below L, or a signature has a second form.
    let order = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";
    let mut carry = 0;
    let mut beyond = good.clone();
    for (byte, more) in beyond[32..].iter_mut().zip(bytes(order)) {
        let sum = u16::from(*byte) + u16::from(more) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    let (point, scalar) = good.split_at(32);
    let mut identity = [0; 64];
    identity[0] = 1;
    for (name, attack) in [
        ("S beyond L", beyond),
        ("R and S swapped", [scalar, point].concat()),
        ("R is the identity, S is 0", identity.to_vec()),
        ("R and 0", [point, &[0; 32]].concat()),
    ] {
        let attack = twin.with_signature(attack);
        table.beside(format!("EdDSA: {name}"), BAD, token.clone(), attack);
    }
}

fn foreign(table: &mut Table, now: i64) {
    let home = Forge::home(now);
    table.add(
        "RS256 by a stranger",
        BAD,
        &home,
        home.clone().by(&KEYS.rsa_other).token(),
    );
    let oidc = Forge::oidc(now, "k2");
    table.add(
        "ES256 by a stranger",
        BAD,
        &oidc,
        oidc.clone().by(&KEYS.p256_other).token(),
    );
    let attack = home.clone().claim("iss", "nobody").with_signature("");
    table.add("unsigned, of nobody", Reason::MalformedToken, &home, attack);
    let attack = home.clone().claim("exp", now - 1_000).by(&KEYS.rsa_other);
    table.add("forged and expired", BAD, &home, attack.token());
    let attack = home
        .clone()
        .claim("token_type", "refresh")
        .by(&KEYS.rsa_other);
    table.add("forged and a refresh token", BAD, &home, attack.token());
    let attack = home.clone().claim("exp", "soon").by(&KEYS.rsa_other);
    table.add("forged and malformed inside", BAD, &home, attack.token());
    // What the header says is not what signed it.
    let signed_as = |alg: &str| {
        let input = home.clone().input();
        let signature = KEYS.rsa.sign(alg, input.as_bytes());
        home.with_signature(signature)
    };
    for alg in ["RS384", "RS512", "PS256"] {
        table.add(
            format!("RS256 that was signed as {alg}"),
            BAD,
            &home,
            signed_as(alg),
        );
    }
}

/// Keys that stand in the issuer's own set, and say there that they do not verify.
fn of_no_use(table: &mut Table, now: i64) {
    let twin = Forge::oidc(now, "k1");
    for alg in ["RS256", "PS256"] {
        let twin = twin.clone().header("alg", alg);
        for kid in ["encrypts", "wraps", "for-oaep", "private"] {
            let attack = twin.clone().header("kid", kid).by(&KEYS.rsa_other);
            let name = format!("{alg} by the set's key {kid}");
            table.add(name, Reason::UnknownKey, &twin, attack.token());
        }
        let attack = twin.clone().headless("kid").by(&KEYS.rsa_other);
        let name = format!("{alg} by a key of no use, without kid");
        table.add(name, BAD, &twin, attack.token());
    }
}

/// Keys in the header are nobody's (CVE-2018-0114), and no address in it is ever asked.
fn brought_along(table: &mut Table, now: i64) {
    let attacker: &Signer = &KEYS.rsa_other;
    let mut jwk = attacker.jwk();
    jwk["kid"] = json!("k1");
    let members: [(&str, Value); 7] = [
        ("jwk", jwk.clone()),
        ("jku", json!("http://127.0.0.1:9/jwks")),
        ("jku", json!("file:///etc/passwd")),
        ("x5u", json!("https://issuer.example@127.0.0.1:9/x")),
        ("x5c", attacker.x5c()),
        ("x5c", json!(["MIIB"])),
        ("x5t#S256", json!("abc")),
    ];
    for (member, value) in members {
        let twin = Forge::oidc(now, "k1").header(member, value);
        let attack = twin.clone().by(&KEYS.rsa_other).token();
        table.add(format!("a stranger's {member}"), BAD, &twin, attack);
        let attack = twin
            .clone()
            .header("kid", "theirs")
            .by(&KEYS.rsa_other)
            .token();
        let name = format!("a stranger's {member} and kid");
        table.add(name, Reason::UnknownKey, &twin, attack);
        let attack = twin.clone().headless("kid").by(&KEYS.rsa_other).token();
        table.add(
            format!("a stranger's {member} without kid"),
            BAD,
            &twin,
            attack,
        );
    }
}

fn kids(table: &mut Table, now: i64) {
    let twin = Forge::oidc(now, "k1");
    let long = "k".repeat(8_000);
    for (name, kid) in [
        ("of no key", "k5"),
        ("in capitals", "K1"),
        ("with a space after it", "k1 "),
        ("with a NUL after it", "k1\0"),
        ("that is empty", ""),
        ("that is a path", "../../../../etc/passwd"),
        ("that is /dev/null", "/dev/null"),
        ("that is SQL", "k1' OR '1'='1"),
        ("that is a command", "|/bin/sleep 5"),
        ("that is an address", "https://issuer.example/k1"),
        ("with a line break", "k1\r\nx: y"),
        ("that is a picture", "🔑"),
        ("of 8,000 letters", &long),
    ] {
        let attack = twin.clone().header("kid", kid).token();
        table.add(format!("a kid {name}"), Reason::UnknownKey, &twin, attack);
    }
}
