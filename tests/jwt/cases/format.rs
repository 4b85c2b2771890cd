//! What is no compact JWS with an object inside.

use regent::reason::Reason;
use serde_json::json;

use super::Table;
use crate::forge::Forge;
use crate::signer::{KEYS, b64};

const MALFORMED: Reason = Reason::MalformedToken;

pub(super) fn add(table: &mut Table, now: i64) {
    parts(table, now);
    size(table, now);
    base64url(table, now);
    payloads(table, now);
    duplicates(table, now);
    other_formats(table, now);
}

fn parts(table: &mut Table, now: i64) {
    let twin = Forge::home(now);
    let token = twin.token();
    let parts: Vec<_> = token.split('.').collect();
    let [header, payload, signature] = [parts[0], parts[1], parts[2]];
    let cases = [
        ("nothing", String::new()),
        ("a dot", ".".to_owned()),
        ("two dots", "..".to_owned()),
        ("one part", header.to_owned()),
        ("two parts", format!("{header}.{payload}")),
        ("four parts", format!("{token}.{signature}")),
        (
            "five parts",
            format!("{header}.{payload}.{signature}.{header}.{payload}"),
        ),
        ("no header", format!(".{payload}.{signature}")),
        ("no payload", format!("{header}..{signature}")),
        ("a leading dot", format!(".{token}")),
        ("a trailing dot", format!("{token}.")),
        ("a space before", format!(" {token}")),
        ("a space after", format!("{token} ")),
        ("a line break after", format!("{token}\n")),
        ("a quoted token", format!("\"{token}\"")),
        ("nothing but dots", ".".repeat(16_000)),
        ("the scheme again", format!("Bearer {token}")),
    ];
    for (name, attack) in cases {
        table.add(format!("parts: {name}"), MALFORMED, &twin, attack);
    }
}

/// A token of exactly this length.
fn of_length(now: i64, length: usize) -> String {
    (0..4)
        .flat_map(|more| (0..400).map(move |fill| (more, fill)))
        .map(|(more, fill)| {
            let twin = Forge::home(now).header("x", "x".repeat(more));
            twin.claim("fill", "f".repeat(11_500 + fill)).token()
        })
        .find(|token| token.len() == length)
        .expect("some fill gives this length")
}

fn size(table: &mut Table, now: i64) {
    let most = of_length(now, 16 * 1024);
    let longer = of_length(now, 16 * 1024 + 1);
    table.beside(
        "size: a byte too long",
        Reason::TokenTooLarge,
        most.clone(),
        longer,
    );
    let long = "é.".repeat(20_000);
    table.beside(
        "size: too long and nonsense",
        Reason::TokenTooLarge,
        most,
        long,
    );
}

/// The same bytes to a lenient decoder: a bit that means nothing is set in the last character.
fn uncanonical(part: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (start, last) = part.split_at(part.len() - 1);
    assert_ne!(part.len() % 4, 0, "this part has no bit to spare");
    let place = ALPHABET.iter().position(|byte| *byte == last.as_bytes()[0]);
    let other = ALPHABET[place.expect("base64url") + 1];
    format!("{start}{}", char::from(other))
}

fn base64url(table: &mut Table, now: i64) {
    // Neither part is a multiple of three bytes long.
    let fill = |twin: Forge| {
        let twin = match twin.header_bytes().len() % 3 {
            0 => twin.header("x", 10),
            _ => twin,
        };
        match twin.payload_bytes().len() % 3 {
            0 => twin.claim("x", 10),
            _ => twin,
        }
    };
    let twin = fill(Forge::home(now));
    let (header, payload) = (b64(twin.header_bytes()), b64(twin.payload_bytes()));
    let signature = b64(twin.sign(&twin.input()));
    // Signed as they stand, so that nothing but the spelling is wrong.
    for (name, attack) in [
        (
            "bits to spare in the header",
            format!("{}.{payload}", uncanonical(&header)),
        ),
        (
            "bits to spare in the payload",
            format!("{header}.{}", uncanonical(&payload)),
        ),
        ("padding after the header", format!("{header}==.{payload}")),
        ("padding after the payload", format!("{header}.{payload}=")),
        ("escaped padding", format!("{header}.{payload}%3D")),
        (
            "a space in the header",
            format!("{} {}.{payload}", &header[..4], &header[4..]),
        ),
        (
            "a line break in the payload",
            format!("{header}.{}\n{}", &payload[..8], &payload[8..]),
        ),
        (
            "CR LF in the payload",
            format!("{header}.{}\r\n{}", &payload[..8], &payload[8..]),
        ),
        ("a tab after the payload", format!("{header}.{payload}\t")),
        ("a NUL after the payload", format!("{header}.{payload}\0")),
        (
            "a letter that is none of base64's",
            format!("{header}.{payload}é"),
        ),
        (
            "one letter too many in the header",
            format!("{header}AAA.{payload}"),
        ),
    ] {
        table.add(
            format!("base64url: {name}"),
            MALFORMED,
            &twin,
            twin.seal(&attack),
        );
    }
    for (name, attack) in [
        ("bits to spare in the signature", uncanonical(&signature)),
        ("padding after the signature", format!("{signature}==")),
        (
            "a space in the signature",
            format!("{} {}", &signature[..8], &signature[8..]),
        ),
        (
            "a line break after the signature",
            format!("{signature}\r\n"),
        ),
    ] {
        let attack = format!("{header}.{payload}.{attack}");
        table.beside(
            format!("base64url: {name}"),
            MALFORMED,
            format!("{header}.{payload}.{signature}"),
            attack,
        );
    }
    // `>` and `?` give `-` and `_`, which are `+` and `/` in the other alphabet.
    let twin = Forge::home(now).claim("x", "~~~???>>>ÿÿÿ");
    let swapped = twin.input().replace('-', "+").replace('_', "/");
    assert_ne!(swapped, twin.input());
    table.add(
        "base64url: the other alphabet",
        MALFORMED,
        &twin,
        twin.seal(&swapped),
    );
}

fn payloads(table: &mut Table, now: i64) {
    let twin = Forge::home(now);
    let good = String::from_utf8(twin.payload_bytes()).expect("text");
    let spaced = twin.clone().raw_payload(format!(" \r\n\t{good} \n"));
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let with = |member: &str| good.replacen('{', &format!("{{{member},"), 1).into_bytes();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a list", b"[]".to_vec()),
        ("null", b"null".to_vec()),
        ("a number", b"1".to_vec()),
        ("text", b"\"x\"".to_vec()),
        ("white space", b" ".to_vec()),
        ("a list of claims", format!("[{good}]").into_bytes()),
        ("a byte order mark", format!("\u{feff}{good}").into_bytes()),
        ("bytes after it", format!("{good}x").into_bytes()),
        ("a NUL after it", format!("{good}\0").into_bytes()),
        ("two objects", format!("{good}{good}").into_bytes()),
        ("cut off", good.as_bytes()[..good.len() - 1].to_vec()),
        ("a comment", format!("{good}//").into_bytes()),
        ("a comma too many", good.replace('}', ",}").into_bytes()),
        ("single quotes", good.replace('"', "'").into_bytes()),
        (
            "not UTF-8",
            [&good.as_bytes()[..good.len() - 1], b",\"x\":\"\xff\"}"].concat(),
        ),
        ("half a surrogate pair", with(r#""x":"\ud800""#)),
        ("a bare control character", with("\"x\":\"\u{1}\"")),
        ("NaN", with(r#""x":NaN"#)),
        ("a number without end", with(r#""x":1e400"#)),
        ("a number with a leading zero", with(r#""x":01"#)),
        ("5,000 levels", with(&format!("\"x\":{}", deep(5_000)))),
        (
            "5,000 levels that never end",
            format!("{{\"x\":{}", "[".repeat(5_000)).into_bytes(),
        ),
        ("200 levels", with(&format!("\"x\":{}", deep(200)))),
        (
            "UTF-16",
            good.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        ),
    ];
    for (name, payload) in cases {
        let attack = twin.clone().raw_payload(payload).token();
        table.add(format!("payload: {name}"), MALFORMED, &spaced, attack);
    }
}

fn duplicates(table: &mut Table, now: i64) {
    let twin = Forge::home(now);
    for (name, first) in [
        ("iss", r#""iss":"evil""#),
        ("iss, both the same", r#""iss":"iss.my_company.com""#),
        ("exp", r#""exp":1"#),
        ("token_type", r#""token_type":"refresh""#),
        ("user_id", r#""user_id":2"#),
        ("a claim of the admin's", r#""role":"admin""#),
        ("an escaped iss", r#""\u0069ss":"evil""#),
        ("an escaped claim of the admin's", r#""r\u006fle":"admin""#),
        (
            "a claim in a claim",
            r#""x":{"a":1,"b":{"c":1,"\u0063":2}}"#,
        ),
        ("a claim in a list", r#""x":[1,{"a":1,"a":1}]"#),
    ] {
        let attack = twin.clone().first_claim(first).token();
        let name = format!("twice: {name}");
        table.add(name, Reason::DuplicateMember, &twin, attack);
    }
    for (name, twin, first) in [
        ("alg, none first", &twin, r#""alg":"none""#),
        ("alg, both the same", &twin, r#""alg":"RS256""#),
        ("typ", &twin, r#""typ":"at+jwt""#),
        (
            "a member that nobody knows",
            &twin.clone().header("x", 1),
            r#""x":2"#,
        ),
        ("an escaped alg", &twin, r#""\u0061lg":"HS256""#),
        ("kid", &Forge::oidc(now, "k1"), r#""kid":"k2""#),
        ("a member in a member", &twin, r#""x":{"a":1,"a":2}"#),
    ] {
        let attack = twin.clone().first_header(first).token();
        let name = format!("twice in the header: {name}");
        table.add(name, Reason::DuplicateMember, twin, attack);
    }
    let header = br#"{"alg":"RS256","alg":"none"}"#;
    let attack = twin.clone().raw_header(header).token();
    let name = "twice in the header: alg, none last";
    table.add(name, Reason::DuplicateMember, &twin, attack);
}

fn other_formats(table: &mut Table, now: i64) {
    let twin = Forge::home(now);
    let token = twin.token();
    let parts: Vec<_> = token.split('.').collect();
    let flat = json!({"protected": parts[0], "payload": parts[1], "signature": parts[2]});
    let general = json!({
        "payload": parts[1],
        "signatures": [{"protected": parts[0], "signature": parts[2]}],
    });
    let jwe = b64(json!({"alg": "RSA-OAEP", "enc": "A256GCM", "cty": "JWT"}).to_string());
    let unsigned = format!("{}.{}.", b64(r#"{"alg":"none"}"#), parts[1]);
    for (name, attack) in [
        ("flattened JSON", flat.to_string()),
        ("general JSON", general.to_string()),
        (
            "JSON with a compact token in it",
            format!("{{\" {token} \":1}}"),
        ),
        ("compact, then JSON", format!("{token}{flat}")),
        (
            "JWE of five parts",
            format!("{jwe}.{}.{}.{}.AAAA", b64("key"), b64("iv"), b64(&unsigned)),
        ),
        (
            "JWE with the key left out",
            format!("{jwe}..{}.{}.AAAA", b64("iv"), b64(unsigned)),
        ),
        ("a PEM", KEYS.rsa.pem()),
    ] {
        table.add(format!("format: {name}"), MALFORMED, &twin, attack);
    }
}
