//! Whose token it is, and whose key signed it.

use regent::reason::Reason;
use serde_json::json;

use super::Table;
use crate::forge::Forge;
use crate::signer::KEYS;
use crate::world::{DARK, HOME, OIDC, STRICT, WEST};

pub(super) fn add(table: &mut Table, now: i64) {
    names(table, now);
    confusion(table, now);
}

fn names(table: &mut Table, now: i64) {
    let twin = Forge::oidc(now, "k2");
    for iss in [
        "https://issuer.example/realms/x/",
        "https://issuer.example/realms/X",
        "https://ISSUER.example/realms/x",
        "HTTPS://issuer.example/realms/x",
        "http://issuer.example/realms/x",
        "https://issuer.example:443/realms/x",
        "https://issuer.example/realms%2Fx",
        "https://issuer.example/realms/./x",
        "https://issuer.example/realms/x?",
        "https://issuer.example/realms/x#",
        "https://\u{456}ssuer.example/realms/x",
        "https://issuer.example",
        " https://issuer.example/realms/x",
        "https://issuer.example/realms/x ",
        "https://issuer.example/realms/x\0",
        "https://evil@issuer.example/realms/x",
        "",
        "oidc",
        "*",
        "https://evil.example",
    ] {
        let attack = twin.clone().claim("iss", iss).token();
        table.add(
            format!("iss is {iss:?}"),
            Reason::UnknownIssuer,
            &twin,
            attack,
        );
    }
    for iss in [
        json!(1),
        json!(null),
        json!(true),
        json!([OIDC]),
        json!(["https://evil.example", OIDC]),
        json!({"iss": OIDC}),
    ] {
        let attack = twin.clone().claim("iss", iss.clone()).token();
        table.add(
            format!("iss is {iss}"),
            Reason::MalformedClaim,
            &twin,
            attack,
        );
    }
    let attack = twin.clone().without("iss").token();
    table.add("no iss", Reason::MissingClaim, &twin, attack);
}

fn confusion(table: &mut Table, now: i64) {
    let bad = Reason::BadSignature;
    let refused = Reason::AlgorithmNotAllowed;
    let [home, oidc, west] = [Forge::home(now), Forge::oidc(now, "k2"), Forge::west(now)];
    // Both have a key of this name, and each only its own.
    let attack = oidc.clone().by(&KEYS.p256_other).token();
    table.add("the key k2 of another issuer", bad, &oidc, attack);
    let attack = west.clone().by(&KEYS.p256).token();
    table.add("the other issuer's token by our k2", bad, &west, attack);
    let attack = oidc.clone().claim("iss", WEST).token();
    table.add("our token that calls itself another's", bad, &oidc, attack);
    let attack = west
        .clone()
        .claim("iss", OIDC)
        .header("typ", "at+jwt")
        .claim("aud", "me")
        .token();
    table.add("another's token that calls itself ours", bad, &west, attack);
    // The key is in the set, the algorithm is not the issuer's.
    let attack = west
        .clone()
        .header("alg", "RS256")
        .header("kid", "k1")
        .by(&KEYS.rsa_other);
    table.add(
        "RS256 by the RSA key of an ES256 issuer",
        refused,
        &west,
        attack.token(),
    );
    let strict = Forge::strict(now);
    let attack = home.clone().claim("iss", STRICT).token();
    table.add(
        "a region's token under the name of another",
        bad,
        &home,
        attack,
    );
    let attack = strict.claim("iss", HOME).token();
    table.add(
        "a federated token under the region's name",
        bad,
        &home,
        attack,
    );
    let attack = home.clone().claim("iss", DARK).token();
    let name = "an issuer whose keys cannot be had";
    table.add(name, Reason::IssuerKeysUnavailable, &home, attack);
    let attack = home.clone().claim("iss", OIDC).header("kid", "k1").token();
    table.add(
        "a token of the region at an issuer with audiences",
        Reason::MissingClaim,
        &home,
        attack,
    );
}
