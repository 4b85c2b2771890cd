//! Claims of tokens whose signature is good.

use regent::reason::Reason;
use serde_json::{Value, json};

use super::Table;
use crate::forge::Forge;

const MALFORMED: Reason = Reason::MalformedClaim;
const MISSING: Reason = Reason::MissingClaim;

pub(super) fn add(table: &mut Table, now: i64) {
    exp(table, now);
    nbf_and_iat(table, now);
    lifetime(table, now);
    aud(table, now);
    token_type(table, now);
    other_kinds(table, now);
    required(table, now);
}

fn with(table: &mut Table, twin: &Forge, reason: Reason, claim: &str, values: &[Value]) {
    for value in values {
        let attack = twin.clone().claim(claim, value.clone()).token();
        table.add(format!("{claim} is {value}"), reason, twin, attack);
    }
}

/// What is no time.
fn no_times() -> Vec<Value> {
    vec![
        json!("1800000000"),
        json!(""),
        json!(-1),
        json!(-0.5),
        json!(i64::MIN),
        json!(-1e30),
        json!(true),
        json!(null),
        json!([]),
        json!([1_800_000_000]),
        json!({}),
    ]
}

fn exp(table: &mut Table, now: i64) {
    let twin = Forge::home(now);
    table.add(
        "no exp",
        MISSING,
        &twin,
        twin.clone().without("exp").token(),
    );
    with(table, &twin, MALFORMED, "exp", &no_times());
    // Leeway is 30 s. The twin is a second from its end; without iat, so that exp may be anything.
    let twin = twin.without("iat").claim("exp", now - 29);
    let past = [
        json!(now - 30),
        json!(now - 31),
        json!(now - 30 * 86_400),
        json!(1),
        json!(0),
    ];
    with(table, &twin, Reason::Expired, "exp", &past);
    let twin = twin.claim(
        "exp",
        json!(f64::from(i32::try_from(now - 30).expect("before 2038")) + 0.5),
    );
    with(table, &twin, Reason::Expired, "exp", &[json!(now - 30)]);
}

fn nbf_and_iat(table: &mut Table, now: i64) {
    let far = [
        json!(now + 31),
        json!(now + 3_600),
        json!(now * 1_000),
        json!(u64::MAX),
        json!(1e30),
    ];
    let twin = Forge::home(now).claim("nbf", now + 30);
    with(table, &twin, Reason::NotYetValid, "nbf", &far);
    with(table, &twin, MALFORMED, "nbf", &no_times());
    let twin = Forge::home(now).claim("iat", now + 30);
    with(table, &twin, Reason::IssuedInFuture, "iat", &far[..1]);
    with(table, &twin, MALFORMED, "iat", &far[1..]);
    with(table, &twin, MALFORMED, "iat", &no_times());
    let twin = Forge::home(now)
        .claim("iat", now - 20)
        .claim("exp", now - 20);
    with(table, &twin, MALFORMED, "iat", &[json!(now - 19)]);
    let twin = Forge::home(now).claim("exp", now + 9_000);
    with(
        table,
        &twin,
        Reason::IssuedInFuture,
        "iat",
        &[json!(now + 8_999)],
    );
}

fn lifetime(table: &mut Table, now: i64) {
    let day = 24 * 3_600;
    let twin = Forge::home(now).without("iat").claim("exp", now + day + 30);
    let long = [
        json!(now + day + 31),
        json!(now + 50 * 365 * day),
        json!(now * 1_000),
        json!((now + 300) * 1_000),
        json!(i64::MAX),
        json!(1_u64 << 63),
        json!(u64::MAX),
        json!(1e18),
        json!(1e30),
        json!(1e308),
    ];
    with(table, &twin, Reason::LifetimeTooLong, "exp", &long);
    let twin = Forge::home(now).claim("iat", now - day + 300);
    with(
        table,
        &twin,
        Reason::LifetimeTooLong,
        "iat",
        &[json!(now - day + 299), json!(0)],
    );
    let twin = Forge::home(now);
    with(
        table,
        &twin,
        Reason::LifetimeTooLong,
        "exp",
        &[json!(u64::MAX)],
    );
}

fn aud(table: &mut Table, now: i64) {
    for twin in ["me", "me-too"] {
        let twin = Forge::oidc(now, "k2").claim("aud", twin);
        let others = [
            "",
            "m",
            "ME",
            "me ",
            " me",
            "menu",
            "me-",
            "https://me",
            "me,me-too",
            "me me-too",
        ];
        with(
            table,
            &twin,
            Reason::WrongAudience,
            "aud",
            &others.map(Value::from),
        );
    }
    let twin = Forge::oidc(now, "k2").claim("aud", json!(["x", "me"]));
    let others = [
        json!([]),
        json!([""]),
        json!(["menu", "ME"]),
        json!(["me "]),
    ];
    with(table, &twin, Reason::WrongAudience, "aud", &others);
    let malformed = [
        json!(1),
        json!(null),
        json!(true),
        json!({"me": 1}),
        json!({}),
        json!([1, "me"]),
        json!(["me", null]),
        json!([["me"]]),
        json!([{"me": "me"}]),
    ];
    with(table, &twin, MALFORMED, "aud", &malformed);
    table.add(
        "no aud",
        MISSING,
        &twin,
        twin.clone().without("aud").token(),
    );
}

fn token_type(table: &mut Table, now: i64) {
    let twin = Forge::home(now);
    let others = [
        "refresh",
        "sliding",
        "ACCESS",
        "Access",
        "access ",
        "",
        "id",
        "Bearer",
        "accessrefresh",
    ];
    with(
        table,
        &twin,
        Reason::WrongTokenType,
        "token_type",
        &others.map(Value::from),
    );
    let malformed = [
        json!(["access"]),
        json!(null),
        json!(1),
        json!(true),
        json!({"access": 1}),
    ];
    with(table, &twin, MALFORMED, "token_type", &malformed);
    let attack = twin.clone().without("token_type").token();
    table.add("no token_type", MISSING, &twin, attack);
    // A header that says so needs no claim, and never overrules one.
    let typed = twin.clone().header("typ", "at+jwt").without("token_type");
    let attack = typed.clone().headless("typ").token();
    table.add("neither token_type nor typ", MISSING, &typed, attack);
    let attack = typed.clone().header("typ", "JWT").token();
    table.add("no token_type, and typ is JWT", MISSING, &typed, attack);
    let twin = typed.clone().claim("token_type", "access");
    with(
        table,
        &twin,
        Reason::WrongTokenType,
        "token_type",
        &[json!("refresh")],
    );
    with(table, &typed, MALFORMED, "token_type", &[json!(null)]);
    // A refresh token lives for days, and is called what it is all the same.
    let twin = Forge::home(now).without("iat");
    let attack = twin
        .clone()
        .claim("token_type", "refresh")
        .claim("exp", now + 30 * 86_400);
    table.add(
        "a refresh token of a month",
        Reason::WrongTokenType,
        &twin,
        attack.token(),
    );
}

fn other_kinds(table: &mut Table, now: i64) {
    let twin = Forge::oidc(now, "k2").claim("nonce", "n");
    let id_token = twin.clone().header("typ", "JWT");
    table.add("an ID token", MISSING, &twin, id_token.token());
    let wrong = Reason::WrongTokenType;
    let twin = id_token.claim("token_type", "access");
    for (name, claim, value) in [
        (
            "an ID token that calls itself an access token",
            "at_hash",
            json!("x"),
        ),
        ("an ID token with c_hash", "c_hash", json!("x")),
        (
            "a logout token that calls itself an access token",
            "events",
            json!({"http://schemas.openid.net/event/backchannel-logout": {}}),
        ),
    ] {
        let attack = twin.clone().claim(claim, value.clone()).token();
        table.add(name, wrong, &twin, attack);
        let typed = Forge::oidc(now, "k2");
        let attack = typed.clone().claim(claim, value).token();
        table.add(format!("{name}, by its typ"), wrong, &typed, attack);
    }
    let bound = [
        json!({"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}),
        json!({"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"}),
        json!({}),
        json!(null),
        json!(false),
        json!("x"),
    ];
    with(table, &Forge::home(now), Reason::BoundToken, "cnf", &bound);
}

fn required(table: &mut Table, now: i64) {
    let twin = Forge::strict(now);
    let wrong = Reason::WrongClaim;
    let others = [
        json!("Admin"),
        json!("administrator"),
        json!("user admin"),
        json!(""),
        json!("7"),
        json!(8),
        json!(true),
        json!(null),
        json!([]),
        json!(["user"]),
        json!([["admin"]]),
        json!({"admin": true}),
    ];
    with(table, &twin, wrong, "role", &others);
    table.add(
        "no role",
        MISSING,
        &twin,
        twin.clone().without("role").token(),
    );
    let others = [
        json!({"roles": ["x"]}),
        json!({"roles": "models"}),
        json!({"roles": {"0": "x"}}),
    ];
    with(table, &twin, wrong, "realm_access", &others);
    let absent = [
        json!({}),
        json!([]),
        json!("roles"),
        json!({"Roles": ["model"]}),
        json!(null),
    ];
    with(table, &twin, MISSING, "realm_access", &absent);
    let others = [
        "readonly",
        "READ",
        "write",
        "read,write",
        "write\tread",
        "",
        "reread",
    ];
    with(table, &twin, wrong, "scope", &others.map(Value::from));
    with(table, &twin, wrong, "scope", &[json!(["write read"])]);
    table.add(
        "no scope",
        MISSING,
        &twin,
        twin.clone().without("scope").token(),
    );
}
